"""What is looked at before a bundle is read: names, sizes, hashes, footers, pages, dictionaries."""

from __future__ import annotations

import json
import os
import shutil
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gandb.core.errors import GandbError, InputError, RevisionError
from gandb.sharing.bundles.bundle import TABLES, open_bundle
from gandb.sharing.bundles.checks import check_parquet
from gandb.sharing.bundles.page_headers import DATA_PAGE, DICTIONARY_PAGE, PageError, page_headers
from gandb.sharing.portable import GROUP_ROWS, write_parquet
from tests.sharing.conftest import Group

RECIPE = next(t for t in TABLES if t.name == "recipe")
PLAIN = pa.schema([pa.field("id", pa.string(), nullable=False), pa.field("n", pa.int64())])


def rows(n: int, text: Callable[[int], str] = str) -> pa.Table:
    return pa.table([[text(i) for i in range(n)], list(range(n))], schema=PLAIN)


def refused(path: Path, why: str, n: int, schema: pa.Schema = PLAIN) -> None:
    with pytest.raises(InputError, match=why):
        check_parquet(path, "the table", schema, n)


# --- Parquet -----------------------------------------------------------------------------


@given(
    n=st.integers(1, 6_000),
    size=st.integers(1_000, 50_000),
    dictionary=st.booleans(),
    codec=st.sampled_from(["zstd", "none", "snappy"]),
    version=st.sampled_from(["1.0", "2.0"]),
)
@settings(max_examples=40)
def test_headers_of_pages_agree_with_the_footer(
    tmp_path_factory: pytest.TempPathFactory,
    n: int,
    size: int,
    dictionary: bool,
    codec: str,
    version: str,
) -> None:
    """Arrow's own account of sizes and counts, whatever it was told to write."""
    path = tmp_path_factory.mktemp("pages") / "t.parquet"
    rng = np.random.default_rng(n)
    lists = [list(map(str, range(k))) for k in rng.integers(0, 4, n)]
    table = pa.table({"x": rng.integers(0, 9, n), "t": lists, "b": rng.random(n) < 0.5})
    pq.write_table(
        table, path, use_dictionary=dictionary, compression=codec, data_page_version=version,
        data_page_size=size, write_page_checksum=bool(n % 2),
    )  # fmt: skip
    metadata = pq.read_metadata(path)
    with path.open("rb") as handle:
        for i in range(metadata.num_row_groups):
            for j in range(metadata.num_columns):
                chunk = metadata.row_group(i).column(j)
                begin = chunk.data_page_offset
                if chunk.has_dictionary_page:
                    begin = min(begin, chunk.dictionary_page_offset)
                pages = list(page_headers(handle, begin, chunk.total_compressed_size))
                total = sum(p.header_size + p.uncompressed_size for p in pages)
                assert total == chunk.total_uncompressed_size
                if version == "1.0":
                    values = sum(p.n_values for p in pages if p.kind == DATA_PAGE)
                    assert values == chunk.num_values
                kinds = [p.kind for p in pages]
                assert kinds.count(DICTIONARY_PAGE) == int(chunk.has_dictionary_page)


@given(data=st.binary(max_size=200))
def test_any_bytes_are_a_header_or_none(tmp_path_factory: Any, data: bytes) -> None:
    path = tmp_path_factory.mktemp("bytes") / "b"
    path.write_bytes(data)
    with path.open("rb") as handle:
        try:
            found = list(page_headers(handle, 0, len(data)))
        except PageError:
            return
    assert sum(p.header_size + p.compressed_size for p in found) == len(data)


def test_what_is_written_passes(tmp_path: Path) -> None:
    for n in (0, 1, 5_000, GROUP_ROWS + 7, 2 * GROUP_ROWS):
        write_parquet(tmp_path / f"{n}", PLAIN, [rows(n)])
        check_parquet(tmp_path / f"{n}", "the table", PLAIN, n)


def test_row_groups_do_not_show_how_rows_came(tmp_path: Path) -> None:
    whole = rows(GROUP_ROWS + 20_000, lambda i: f"{i:07}")
    write_parquet(tmp_path / "one", PLAIN, [whole])
    pieces = [whole.slice(i, 777) for i in range(0, len(whole), 777)]
    write_parquet(tmp_path / "many", PLAIN, pieces)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "many").read_bytes()


def test_large_rows_make_small_row_groups(tmp_path: Path) -> None:
    n = 300
    write_parquet(tmp_path / "large", PLAIN, [rows(n, lambda i: f"{i:03}" * 100_000)])
    found = pq.read_metadata(tmp_path / "large")
    assert [found.row_group(i).num_rows for i in range(found.num_row_groups)] == [128, 128, 44]
    check_parquet(tmp_path / "large", "the table", PLAIN, n)


def test_other_columns_are_refused(tmp_path: Path) -> None:
    others = {
        "another name": pa.schema([("i", pa.string()), ("n", pa.int64())]),
        "another type": pa.schema([pa.field("id", pa.string(), nullable=False), ("n", pa.int32())]),
        "may be null": pa.schema([("id", pa.string()), ("n", pa.int64())]),
        "one more": pa.schema([*PLAIN, pa.field("more", pa.int64())]),
        "one less": pa.schema([PLAIN.field("id")]),
    }
    for name, schema in others.items():
        columns = [pa.array([], f.type) for f in schema]
        pq.write_table(pa.table(columns, schema=schema), tmp_path / name, store_schema=False)
        refused(tmp_path / name, "other columns", 0)


def test_counts_must_agree(tmp_path: Path) -> None:
    write_parquet(tmp_path / "t", PLAIN, [rows(10)])
    refused(tmp_path / "t", "10 rows, the manifest says 11", 11)
    pq.write_table(rows(500), tmp_path / "small", row_group_size=10, store_schema=False)
    refused(tmp_path / "small", "row groups", 500)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"compression": "gzip"}, "GZIP"),
        ({"compression": "snappy"}, "SNAPPY"),
        ({"use_dictionary": False, "column_encoding": {"id": "DELTA_BYTE_ARRAY"}}, "DELTA"),
        ({"use_dictionary": False, "column_encoding": {"n": "BYTE_STREAM_SPLIT"}}, "BYTE_STREAM"),
        ({"data_page_version": "2.0", "compression": "zstd"}, "page of kind 3"),
        ({"store_schema": True}, "metadata of its own"),
    ],
)
def test_only_what_gandb_writes_is_read(tmp_path: Path, options: Any, why: str) -> None:
    kept = {"store_schema": False, "compression": "zstd", **options}
    pq.write_table(rows(100), tmp_path / "t", **kept)
    refused(tmp_path / "t", why, 100)


def test_a_dictionary_that_grows_is_refused(tmp_path: Path) -> None:
    """One long text, 49,152 times: 150 kB of Parquet, 49 GB in memory."""
    values = pa.DictionaryArray.from_arrays(
        pa.array(np.zeros(GROUP_ROWS, np.int32)), pa.array(["x" * 1_000_000])
    )
    schema = pa.schema([pa.field("id", pa.string(), nullable=False), pa.field("n", pa.int64())])
    table = pa.table({"id": values, "n": pa.nulls(GROUP_ROWS, pa.int64())})
    target = pa.schema([pa.field("id", values.type, nullable=False), schema.field("n")])
    path = tmp_path / "bomb"
    pq.write_table(
        table.cast(target), path, store_schema=False, compression="zstd",
        dictionary_pagesize_limit=10_000_000, row_group_size=GROUP_ROWS,
    )  # fmt: skip
    assert path.stat().st_size < 200_000
    before = pa.total_allocated_bytes()
    tracemalloc.start()
    refused(path, "texts come to", GROUP_ROWS, schema)
    assert tracemalloc.get_traced_memory()[1] < 50e6
    tracemalloc.stop()
    assert pa.total_allocated_bytes() - before < 50e6


def test_a_list_bomb_is_refused(tmp_path: Path) -> None:
    element = pa.field("element", pa.string(), nullable=False)
    schema = pa.schema([pa.field("id", pa.list_(element), nullable=False)])
    words = pa.DictionaryArray.from_arrays(
        pa.array(np.zeros(2_000_000, np.int32)), pa.array(["y" * 10_000])
    )
    inner = pa.field("element", words.type, nullable=False)
    offsets = pa.array(np.linspace(0, 2_000_000, 101).astype(np.int32))
    lists = pa.ListArray.from_arrays(offsets, words, type=pa.list_(inner))
    own = pa.schema([pa.field("id", lists.type, nullable=False)])
    path = tmp_path / "bomb"
    pq.write_table(
        pa.table([lists], schema=own), path, store_schema=False, compression="zstd",
    )  # fmt: skip
    assert path.stat().st_size < 200_000
    refused(path, "texts come to", 100, schema)


def test_a_page_that_grows_beyond_the_footer_is_refused(tmp_path: Path) -> None:
    """The header of a page is changed to say that more comes out of it."""
    path = tmp_path / "t"
    write_parquet(path, PLAIN, [rows(3_000)])
    chunk = pq.read_metadata(path).row_group(0).column(0)
    with path.open("rb") as handle:
        (page, *_) = page_headers(handle, chunk.data_page_offset, chunk.total_compressed_size)
    data = bytearray(path.read_bytes())
    place = data.index(_zigzag(page.uncompressed_size), chunk.data_page_offset)
    changed = _zigzag(page.uncompressed_size + 100_000)
    assert len(changed) == len(_zigzag(page.uncompressed_size))
    data[place : place + len(changed)] = changed
    path.write_bytes(data)
    refused(path, "the footer says", 3_000)


def _zigzag(value: int) -> bytes:
    value <<= 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


# --- the bundle --------------------------------------------------------------------------


@pytest.fixture
def folder(two_groups: dict[str, Group], tmp_path: Path) -> Path:
    shutil.copytree(two_groups["ada"].bundle, tmp_path / "bundle")
    return tmp_path / "bundle"


def zipped(folder: Path, **options: Any) -> Path:
    target = folder.with_suffix(".zip")
    with zipfile.ZipFile(target, "w", **options) as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                archive.write(path, path.relative_to(folder).as_posix())
    return target


def not_opened(path: Path, why: str, kind: type[GandbError] = InputError) -> None:
    with pytest.raises(kind, match=why), open_bundle(path):
        pytest.fail("it was opened")


def test_an_error_of_the_user_of_a_bundle_stays_what_it_is(folder: Path) -> None:
    for path in (folder, zipped(folder)):
        with pytest.raises(FileNotFoundError), open_bundle(path):
            Path("/nowhere/at/all").read_bytes()


def test_links_are_refused(folder: Path) -> None:
    table = folder / "tables/recipe.parquet"
    table.rename(folder.parent / "outside")
    table.symlink_to(folder.parent / "outside")
    not_opened(folder, "link")
    table.unlink()
    os.mkfifo(table)
    not_opened(folder, "no plain file")


def test_a_linked_folder_is_refused(folder: Path) -> None:
    (folder / "tables").rename(folder.parent / "outside")
    (folder / "tables").symlink_to(folder.parent / "outside")
    not_opened(folder, "link")


def test_files_are_those_of_the_manifest(folder: Path) -> None:
    (folder / "more.txt").write_text("x")
    not_opened(folder, "does not belong there: 'more.txt'")
    (folder / "more.txt").unlink()
    (folder / "tables/recipe.parquet").rename(folder.parent / "away")
    not_opened(folder, "missing")


def test_a_compressed_zip_is_refused(folder: Path) -> None:
    not_opened(zipped(folder, compression=zipfile.ZIP_DEFLATED), "compressed")


def test_names_that_lead_out_are_refused(folder: Path) -> None:
    for name in ("../evil", "/etc/evil", "tables/../../evil", "tables\\evil", "blobs/" + "0" * 63):
        target = zipped(folder)
        with zipfile.ZipFile(target, "a") as archive:
            archive.writestr(name, "x")
        not_opened(target, "does not belong there")
        assert not (folder.parent.parent / "evil").exists()


def test_a_name_twice_is_refused(folder: Path) -> None:
    target = zipped(folder)
    with zipfile.ZipFile(target, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("manifest.json", (folder / "manifest.json").read_bytes())
    not_opened(target, "twice")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda m: m.pop("files"), "has no files"),
        (lambda m: m.update(origin="../x"), "origin"),
        (lambda m: m.update(origin=7), "has no origin"),
        (lambda m: m["files"].update({"tables/evil.parquet": {}}), "does not say"),
        (lambda m: m["files"]["tables/recipe.parquet"].update(rows=-1), "cannot be"),
        (lambda m: m["files"]["tables/recipe.parquet"].update(size=True), "cannot be"),
        (lambda m: m["files"]["tables/recipe.parquet"].update(sha256="0" * 64), "damaged"),
        (lambda m: m["files"]["tables/recipe.parquet"].update(size=1), "bytes"),
        (lambda m: m["files"]["tables/recipe.parquet"].update(rows=10**12), "rows"),
        (lambda m: m["files"].pop("tables/recipe.parquet"), "missing"),
    ],
)
def test_a_manifest_that_lies_is_refused(
    folder: Path, change: Callable[[dict[str, Any]], Any], why: str
) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    change(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    not_opened(folder, why)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "[" * 100_000, "\xff"])
def test_a_manifest_that_is_none_is_refused(folder: Path, text: str) -> None:
    (folder / "manifest.json").write_text(text, encoding="latin-1")
    not_opened(folder, "is no bundle of gandb")


def test_another_revision_is_told(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["revision"] = "9999"
    (folder / "manifest.json").write_text(json.dumps(manifest))
    not_opened(folder, "9999", RevisionError)


def test_what_is_no_bundle(tmp_path: Path) -> None:
    (tmp_path / "text.zip").write_text("hello")
    not_opened(tmp_path / "text.zip", "cannot read")
    (tmp_path / "empty").mkdir()
    not_opened(tmp_path / "empty", "no manifest.json")
    not_opened(tmp_path / "nothing", "there is no bundle")
