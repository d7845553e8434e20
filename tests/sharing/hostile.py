"""Hostile bundles by hand: manifests, zips, and content that contradicts its own ids."""

from __future__ import annotations

import json
import os
import stat
import zipfile
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from gandb.core.ids import Domain, json_id
from gandb.datasets.storing import version_id
from gandb.tasks.rows import recipe_row
from tests.sharing.breaking import TABLE, Break, Broken, safetensors

OTHER = "0badc0de-0000-0000-0000-0123456789ab"


# --- manifests ---------------------------------------------------------------------------


def manifest_breaks() -> Iterator[tuple[str, Break]]:
    """Yield manifests that are none."""
    whole: dict[str, Any] = {
        "is a list": [1, 2],
        "is a number": 7,
        "is null": None,
        "is empty": {},
        "is deep": None,
    }
    for what, value in whole.items():
        yield f"manifest {what}", _manifest_text("[" * 200_000 if "deep" in what else value)
    values: dict[str, list[Any]] = {
        "format": [0, 2, 99, "1", None, 1.5, True, [1], 10**400, {"a": 1}],
        "revision": ["0003", "9999", "", None, 4, ["0004"], "../0004", "'; DROP TABLE job; --"],
        "gandb": [None, 7, ["x"]],
        "origin": ["", "..", "a/b", "A", "x" * 33, None, 7, "ä", "a\x1b[31m", "-a", "a b", " a"],
        "selection": [None, [], "all", 1],
        "files": [None, [], "x", {}, 1],
        "licences": [None, {}, "CC"],
    }
    for key, wrong in values.items():
        for value in wrong:
            yield f"manifest {key} {str(value)[:20]!r}", _manifest_key(key, value)
        yield f"manifest lacks {key}", _manifest_key(key, ...)
    facts: dict[str, list[Any]] = {
        "sha256": ["", "0" * 12, "0" * 64, "G" * 64, None, 7, "A" * 64],
        "size": [-1, 0, 10**30, "12", None, True, 1.5],
        "rows": [-1, 10**30, "3", None, 2.5, True],
    }
    for key, wrong in facts.items():
        for value in wrong:
            yield (
                f"manifest entry.{key} {str(value)[:20]!r}",
                _fact("tables/entry.parquet", key, value),
            )
    for name in (
        "../evil", "/etc/passwd", "tables/../../evil.parquet", "tables/evil.parquet", "CON",
        "blobs/../x", f"blobs/{'0' * 64}", "blobs/00", "tables/entry.parquet\x00", "",
        "tables\\entry.parquet", "Tables/entry.parquet", "tables/entry.parquet/", "./LICENCES.md",
        "C:\\evil", "~/evil", "tables/" + "x" * 5_000 + ".parquet", "manifest.json",
    ):  # fmt: skip
        yield f"manifest names {name[:30]!r}", _named(name)


def _manifest_text(value: Any) -> Break:
    text = value if isinstance(value, str) else json.dumps(value)
    return lambda broken: (broken.folder / "manifest.json").write_text(text) and None


def _manifest_key(key: str, value: Any) -> Break:
    def change(broken: Broken) -> None:
        manifest = broken.manifest
        if value is ...:
            del manifest[key]
        else:
            manifest[key] = value
        broken.write_manifest(manifest)

    return change


def _fact(name: str, key: str, value: Any) -> Break:
    def change(broken: Broken) -> None:
        manifest = broken.manifest
        manifest["files"][name][key] = value
        broken.write_manifest(manifest)

    return change


def _named(name: str) -> Break:
    def change(broken: Broken) -> None:
        manifest = broken.manifest
        manifest["files"][name] = {"sha256": "0" * 64, "size": 1}
        broken.write_manifest(manifest)

    return change


# --- folders and zips --------------------------------------------------------------------


def place_breaks() -> Iterator[tuple[str, Break]]:
    """Yield folders and zips that hold what no bundle does."""
    for name in ("extra.txt", "tables/extra.parquet", "blobs/extra", ".hidden", "tables/.x"):
        yield f"folder has {name}", _extra(name)
    yield "folder in a folder", lambda b: (b.folder / "tables" / "more").mkdir()
    yield "tables is a link", _linked_folder
    yield "a pipe", lambda b: os.mkfifo(b.folder / "pipe")
    yield "manifest is a folder", _manifest_folder
    yield "there is nothing", lambda b: setattr(b, "path", b.folder / "nowhere")
    yield "an empty folder", _empty
    yield "an empty file", lambda b: _file(b, b"")
    yield "a text", lambda b: _file(b, b"hello, world")
    yield "a cut zip", _cut_zip
    yield "a zip bomb", lambda b: b.zip(compression=zipfile.ZIP_DEFLATED)
    yield "a nested zip", lambda b: b.zip(lambda z: z.writestr("inner.zip", b"PK\x03\x04"))
    for name in (
        "../evil", "/etc/evil", "tables/../../evil", "..\\evil", "C:/evil", "CON", "aux.txt",
        "tables/", "blobs/" + "f" * 64, "a\x1b[2Jb", "tables/entry.parquet/x", "x" * 4_000,
    ):  # fmt: skip
        yield f"zip has {name[:20]!r}", _zip_with(name)
    yield "zip has a file twice", _twice
    for kind, mode in (
        ("link", stat.S_IFLNK), ("folder", stat.S_IFDIR), ("device", stat.S_IFCHR),
        ("pipe", stat.S_IFIFO), ("disk", stat.S_IFBLK), ("socket", stat.S_IFSOCK),
    ):  # fmt: skip
        yield f"zip has a {kind}", _zip_mode(mode)
    yield "zip is encrypted", _zip_flag
    yield "zip lies on sizes", _zip_sizes


def _extra(name: str) -> Break:
    return lambda broken: (broken.folder / name).write_text("x") and None


def _linked_folder(broken: Broken) -> None:
    elsewhere = broken.folder.with_name(f"{broken.folder.name}-tables")
    (broken.folder / "tables").rename(elsewhere)
    (broken.folder / "tables").symlink_to(elsewhere)


def _manifest_folder(broken: Broken) -> None:
    (broken.folder / "manifest.json").unlink()
    (broken.folder / "manifest.json").mkdir()


def _empty(broken: Broken) -> None:
    broken.path = broken.folder.with_name(f"{broken.folder.name}-empty")
    broken.path.mkdir()


def _file(broken: Broken, data: bytes) -> None:
    broken.path = broken.folder.with_suffix(".bin")
    broken.path.write_bytes(data)


def _cut_zip(broken: Broken) -> None:
    broken.zip()
    data = broken.path.read_bytes()
    broken.path.write_bytes(data[: len(data) // 2])


def _zip_with(name: str) -> Break:
    return lambda broken: broken.zip(lambda archive: archive.writestr(zipfile.ZipInfo(name), b"x"))


def _twice(broken: Broken) -> None:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        broken.zip(lambda archive: archive.writestr("LICENCES.md", b"x"))


def _zip_mode(mode: int) -> Break:
    def change(archive: zipfile.ZipFile) -> None:
        info = zipfile.ZipInfo("tables/odd.parquet")
        info.external_attr = (mode | 0o644) << 16
        archive.writestr(info, b"/etc/passwd")

    return lambda broken: broken.zip(change)


def _zip_flag(broken: Broken) -> None:
    broken.zip()
    data = bytearray(broken.path.read_bytes())
    central = data.index(b"PK\x01\x02")
    data[central + 8] |= 1
    broken.path.write_bytes(bytes(data))


def _zip_sizes(broken: Broken) -> None:
    broken.zip()
    data = bytearray(broken.path.read_bytes())
    central = data.index(b"PK\x01\x02")
    data[central + 20 : central + 28] = (1 << 31).to_bytes(4, "little") * 2
    broken.path.write_bytes(bytes(data))


# --- content -----------------------------------------------------------------------------


def content_breaks() -> Iterator[tuple[str, Break]]:
    """Yield bundles whose hashes are true and whose content is not."""
    yield from _row_changes()
    yield from _row_losses()
    yield from _forged()
    yield from _parquet()


def _row_changes() -> Iterator[tuple[str, Break]]:
    """Change one cell to what it could be, but is not."""
    changes: dict[str, dict[str, list[Any]]] = {
        "recipe": {"version": ["99"], "parameters": ['{"a":1}'], "check_name": ["trust me"]},
        "composition": {
            "reduced_formula": ["Xx2O3", "NaCl9", "", "=cmd()", "H1" * 300],
            "chemical_system": ["Ac-Zr"], "anonymous_formula": ["AB9"], "elements": [["Ac", "Zr"]],
            "n_elements": [7], "n_atoms": [9_999], "cnen_strict": [None],
        },
        "composition_element": {
            "element": ["Xx"], "atomic_number": [118], "n_atoms": [60_000, 0], "fraction": [0.987],
        },
        "check_result": {"passed": [None]},
        "structure": {
            "a": [0.0, -3.0, 1e9, 3.123456789123], "alpha": [0.0, 180.0, 200.0], "volume": [1.0],
            "n_sites": [77], "ordered": [False], "charge": [0.0, 1.5], "frac_coords": [[]],
            "species": [["Xx"], [], ["Fe:0.5"]], "space_group_number": [77],
            "site_properties": ['{"magmom":[1]}', "[]", "{}", '{"a":[1,2,3,4,5,6,7]}'],
        },
        "structure_symmetry": {"wyckoff_letters": [["a"] * 99], "space_group_number": [99]},
        "structure_key": {"n_reduced": [99], "cell": [b"", b"\xff" * 64], "error": ["both"]},
        "comparison": {"method": ["guess"], "rms": [-1.0]},
        "material_member": {"standard": [False]},
        "source_snapshot": {
            "source": ["oqmd2"], "release": ["other"], "options": ['{"a":1}'], "n_entries": [1],
            "files": ['[{"name":"../x"}]', "7"], "parser": ["99"],
        },
        "entry": {
            "source": ["", "a b", "a\x1b]0;x", "oqmd"], "external_id": ["other-1"],
            "formula": ["Fe2O3", "Xx", "' OR 1=1 --"], "formation_energy_per_atom": [9.0],
            "ordinal": [5], "extra": ['{"x":1}'], "n_sites": [1], "space_group_number": [3],
        },
        "dataset": {
            "name": ["mine", "ada/../x", "ada/a@1", "ada/", "ada/x y", "ada/a\x1b[31m", "ADA/x"],
        },
        "dataset_version": {
            "members_hash": ["0" * 64], "n_entries": [1, 0], "n_compositions": [1, 10**9],
            "split_recipe": ["[]", '{"seed":9}'],
        },
        "dataset_member": {"split": ["valid", "holdout", ""], "change": [-1, 0]},
        "dataset_number": {"number": [0], "selection": ["[]", "7"]},
        "blob": {"size": [1], "media_type": ["application/x-pickle", "text/html"]},
        "model": {
            "name": ["evil", "a\x1b[0m"], "version": ["99"], "role": ["root"],
            "config": ['{"a":1}'],
        },
        "job": {
            "kind": ["shell", "rm -rf"], "spec": ["{}", "[]"], "state": ["running", "won"],
            "seed": [12345], "n_chunks": [9, 0, 2_000_000_000], "error": ["but it failed"],
        },
        "job_chunk": {"state": ["running", "pending"], "chunk": [77]},
        "checkpoint": {"seed": [99]},
        "candidate": {
            "reduced_formula": ["Fe2O3"], "elements": [["Fe"]], "n_atoms": [1], "novel": [None],
            "times_generated": [10**9], "n_elements": [9], "n_sites": [9_999],
            "anonymous_formula": ["A"], "chemical_system": ["A"], "space_group_number": [200],
        },
        "generation_event": {"times": [10**6, 0], "chunk": [10**6]},
        "candidate_novelty": {"level": [None], "error": ["and yet"]},
    }  # fmt: skip
    for name, columns in changes.items():
        for column, values in columns.items():
            for value in values:
                yield f"{name}.{column} is {str(value)[:20]!r}", _cell(name, column, value)
    for name, column in (
        ("composition", "cnen_strict"), ("composition", "cnen_matgan"), ("structure", "ordered"),
        ("comparison", "matched"), ("material_member", "standard"), ("candidate", "novel"),
        ("candidate", "cnen_strict"), ("candidate", "cnen_matgan"), ("candidate", "cnen_default"),
        ("check_result", "passed"),
    ):  # fmt: skip
        yield f"{name}.{column} is turned", _turned(name, column)


def _cell(name: str, column: str, value: Any) -> Break:
    def change(broken: Broken) -> None:
        rows = broken.rows(name)
        # The first row in which it makes a difference.
        place = next(
            i
            for i, row in enumerate(rows)
            if row[column] != value and (row[column] is not None or value is not None)
        )
        rows[place][column] = value
        broken.write(name, rows, sort=column not in TABLE[name].key)

    return change


def _turned(name: str, column: str) -> Break:
    def change(broken: Broken) -> None:
        rows = broken.rows(name)
        place = next(i for i, row in enumerate(rows) if row[column] is not None)
        rows[place][column] = not rows[place][column]
        broken.write(name, rows)

    return change


def _row_losses() -> Iterator[tuple[str, Break]]:
    """Leave out a row that others need, or all rows."""
    for name in (
        "recipe", "composition", "composition_element", "structure", "source_snapshot", "entry",
        "dataset", "dataset_version", "dataset_parent", "dataset_member", "dataset_base", "blob",
        "model", "job", "job_chunk", "checkpoint", "candidate", "generation_event",
    ):  # fmt: skip
        for what, place in (("first", 0), ("last", -1)):
            yield f"{name} lacks its {what} row", _without(name, place)
        yield f"{name} has no rows", lambda broken, name=name: broken.write(name, [])


def _without(name: str, place: int) -> Break:
    def change(broken: Broken) -> None:
        rows = broken.rows(name)
        del rows[place]
        broken.write(name, rows)

    return change


# --- forged: the id fits, the content is nonsense ----------------------------------------


def _forged() -> Iterator[tuple[str, Break]]:
    yield "a recipe that gandb does not know", _unknown_recipe
    yield "a version that is its own parent", _own_parent
    yield "two versions that are each other's parents", _circle
    yield "a version with members of no split", _wrong_hash
    yield "a chain of bases that is none", _wrong_bases
    yield "a tag with SQL", _tag("best'; DROP TABLE dataset; --")
    yield "a tag of nobody", _tag("best", "No One")
    yield "a tag with control characters", _tag("a\x1b[31m")
    yield "weights that are a pickle", _weights(b"\x80\x04\x95" + b"x" * 64)
    yield "weights without a header", _weights(b"")
    yield "weights with a huge header", _weights((1 << 62).to_bytes(8, "little") + b"{}")
    yield (
        "weights of another model",
        _weights(
            safetensors({"__metadata__": {"gandb": '{"model":"matgan","format":1,"config":{}}'}})
        ),
    )
    yield "weights whose tensors overlap", _weights(_overlapping())
    yield "a statement on nothing", _statement("passwd", "{}", "a", "ada", "1")
    yield "a statement on no column", _statement("entry", '{"id":"x"}', "b", "ada", "1")
    yield "a statement of nobody", _statement("entry", f'{{"id":"{OTHER}"}}', "formula", "", "1")
    yield "a statement without a key", _statement("entry", "{}", "formula", "ada", "1")
    yield "a statement of no JSON", _statement("entry", f'{{"id":"{OTHER}"}}', "formula", "a", "{")
    yield "materials that no match makes", _joined_materials
    yield "keys that are another structure's", _swapped_keys
    yield "a structure with two sites at one place", _one_place
    yield "a blob that nobody names", _loose_blob


def _unknown_recipe(broken: Broken) -> None:
    row = recipe_row("oracle", "1", {})
    row |= {"id": str(row["id"]), "parameters": "{}"}
    broken.write("recipe", [*broken.rows("recipe"), row])


def _own_parent(broken: Broken) -> None:
    rows = broken.rows("dataset_version")
    rows[0]["parent_id"] = rows[0]["id"]
    parents = [r for r in broken.rows("dataset_parent") if r["version_id"] != rows[0]["id"]]
    own = {"version_id": rows[0]["id"], "position": 0, "parent_id": rows[0]["id"]}
    broken.write("dataset_version", rows)
    broken.write("dataset_parent", [*parents, own])


def _circle(broken: Broken) -> None:
    rows = broken.rows("dataset_version")
    rows[0]["parent_id"], rows[1]["parent_id"] = rows[1]["id"], rows[0]["id"]
    rest = {rows[0]["id"], rows[1]["id"]}
    parents = [r for r in broken.rows("dataset_parent") if r["version_id"] not in rest]
    parents += [
        {"version_id": rows[i]["id"], "position": 0, "parent_id": rows[1 - i]["id"]} for i in (0, 1)
    ]
    broken.write("dataset_version", rows)
    broken.write("dataset_parent", parents)


def _wrong_hash(broken: Broken) -> None:
    """State a hash of members, and the id that follows from it, which the members do not have."""
    rows = broken.rows("dataset_version")
    place = next(i for i, r in enumerate(rows) if r["parent_id"] is None)
    old = rows[place]["id"]
    rows[place]["members_hash"] = "1" * 64
    own = version_id("1" * 64, json.loads(rows[place]["split_recipe"]), ())
    _renamed(broken, old, str(own), rows)


def _renamed(broken: Broken, old: str, new: str, versions: list[dict[str, Any]]) -> None:
    text = json.dumps(versions).replace(old, new)
    broken.write("dataset_version", json.loads(text))
    for name in ("dataset_member", "dataset_base", "dataset_number", "dataset_parent"):
        broken.write(name, json.loads(json.dumps(broken.rows(name)).replace(old, new)))


def _wrong_bases(broken: Broken) -> None:
    rows = broken.rows("dataset_base")
    own = sorted({r["version_id"] for r in rows})
    extra = [{"version_id": a, "base_id": b} for a in own for b in own]
    broken.write("dataset_base", extra)


def _tag(tag: str, origin: str = "ada") -> Break:
    def change(broken: Broken) -> None:
        number = broken.rows("dataset_number")[0]
        row = {
            "dataset_id": number["dataset_id"],
            "tag": tag,
            "origin": origin,
            "version_id": number["version_id"],
            "message": "",
        }
        broken.write("dataset_tag", [row])

    return change


def _weights(data: bytes) -> Break:
    """Put other bytes in place of weights, with all hashes and ids as they should be."""

    def change(broken: Broken) -> None:
        import hashlib

        roles = {m["id"]: m["role"] for m in broken.rows("model")}
        rows = broken.rows("checkpoint")
        row = next(r for r in rows if roles[r["model_id"]] != "external")
        old, sha256 = row["sha256"], hashlib.sha256(data).hexdigest()
        content = {
            "model": row["model_id"],
            "dataset_version": row["dataset_version_id"],
            "seed": row["seed"],
            "weights": sha256,
        }
        row |= {"sha256": sha256, "id": str(json_id(Domain.CHECKPOINT, content))}
        (broken.folder / "blobs" / old).unlink()
        (broken.folder / "blobs" / sha256).write_bytes(data)
        manifest = broken.manifest
        del manifest["files"][f"blobs/{old}"]
        broken.write_manifest(manifest)
        broken.describe(f"blobs/{sha256}")
        blobs = [r for r in broken.rows("blob") if r["sha256"] != old]
        kind = "application/safetensors"
        blobs.append({"sha256": sha256, "size": len(data), "media_type": kind})
        broken.write("blob", blobs)
        broken.write("checkpoint", rows)

    return change


def _overlapping() -> bytes:
    tensor = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
    description = json.dumps({"model": "count_given_element", "format": 1, "config": {}})
    head = {"__metadata__": {"gandb": description}, "a": tensor, "b": tensor}
    return safetensors(head, b"\x00" * 8)


def _statement(*values: str) -> Break:
    names = ("relation", "subject", "attribute", "origin", "value")
    return lambda broken: broken.write("statement", [dict(zip(names, values, strict=True))])


def _joined_materials(broken: Broken) -> None:
    rows = broken.rows("material_member")
    least = min(r["material_id"] for r in rows)
    for row in rows:
        row["material_id"] = least
    broken.write("material_member", rows)


def _swapped_keys(broken: Broken) -> None:
    """Give a structure the cell of another, so that it would match what that one matches."""
    rows = broken.rows("structure_key")
    one = rows[0]
    other = next(r for r in rows[1:] if r["n_reduced"] == one["n_reduced"])
    for name in ("cell", "amd"):
        one[name], other[name] = other[name], one[name]
    broken.write("structure_key", rows)


def _one_place(broken: Broken) -> None:
    """Move one site onto another; the id is that of the new record."""
    rows = broken.rows("structure")
    place = next(i for i, r in enumerate(rows) if r["n_sites"] > 1)
    rows[place]["frac_coords"] = rows[place]["frac_coords"][:3] * rows[place]["n_sites"]
    broken.write("structure", rows)


def _loose_blob(broken: Broken) -> None:
    import hashlib

    data = b"#!/bin/sh\nrm -rf /\n"
    name = f"blobs/{hashlib.sha256(data).hexdigest()}"
    (broken.folder / name).write_bytes(data)
    broken.describe(name)


# --- Parquet -----------------------------------------------------------------------------


def _parquet() -> Iterator[tuple[str, Break]]:
    yield "entry is encrypted", lambda b: b.put(TABLE["entry"].path, _magic(b, b"PARE"), 1)
    yield "recipe has texts that are no Unicode", _not_unicode
    yield "entry has a footer of nonsense", _footer
    yield "entry is an Arrow file", _arrow
    for seed in range(40):
        yield f"entry has noise {seed}", _noise(seed)


def _magic(broken: Broken, magic: bytes) -> bytes:
    data = (broken.folder / TABLE["entry"].path).read_bytes()
    return magic + data[4:-4] + magic


def _not_unicode(broken: Broken) -> None:
    rows = pq.ParquetFile(broken.folder / TABLE["recipe"].path).read()
    column = rows.column("version").combine_chunks()
    raw = pa.array([b"\xff\xfe"] * len(column), pa.binary())
    texts = pa.StringArray.from_buffers(len(raw), raw.buffers()[1], raw.buffers()[2])
    broken.write_table("recipe", rows.set_column(2, rows.schema.field(2), texts))


def _footer(broken: Broken) -> None:
    path = TABLE["entry"].path
    data = bytearray((broken.folder / path).read_bytes())
    length = int.from_bytes(data[-8:-4], "little")
    data[-8 - length : -8] = bytes(length)
    broken.put(path, bytes(data))


def _arrow(broken: Broken) -> None:
    rows = pq.ParquetFile(broken.folder / TABLE["entry"].path).read()
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, rows.schema) as writer:
        writer.write_table(rows)
    broken.put(TABLE["entry"].path, bytes(sink.getvalue()))


def _noise(seed: int) -> Break:
    """Overwrite pages of the entries, or the footer, with noise."""

    def change(broken: Broken) -> None:
        path = TABLE["entry"].path
        data = bytearray((broken.folder / path).read_bytes())
        rng = np.random.default_rng(seed)
        if seed % 2:
            length = int.from_bytes(data[-8:-4], "little")
            begin = len(data) - 8 - length + int(rng.integers(length // 2))
        else:
            begin = 4 + int(rng.integers(len(data) // 4))
        size = int(rng.integers(16, 200))
        data[begin : begin + size] = rng.bytes(min(size, len(data) - 8 - begin))
        broken.put(path, bytes(data))

    return change
