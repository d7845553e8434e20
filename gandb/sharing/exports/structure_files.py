"""Structures out of a store as files that other programs read, and gandb reads back.

What is read back has the same structure id, whatever the format; with ``entry_id`` in the query,
and imported under the name of the entry's source, the same entry id too, except from POSCAR. What
a format cannot hold is refused by name, or left out and counted; it is never changed.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from gandb.core.crystals import Crystal
from gandb.core.errors import StoreError, UsageError
from gandb.query.result import ReadableStore
from gandb.sharing.exports.rows import keep_rows
from gandb.sharing.exports.sinks import sink_for
from gandb.sharing.exports.texts import CannotHoldError, cif_text, json_text, poscar_text
from gandb.store import Store

WRITERS: Mapping[str, Callable[[Crystal, str], str]] = {
    "cif": cif_text,
    "poscar": poscar_text,
    "json": json_text,
}
"""What writes the text of one structure, for people to look at."""

FORMATS: Mapping[str, str] = {
    "cif": "CIF, one file each in a folder or zip",
    "poscar": "POSCAR, one file each in a folder or zip",
    "json": "pymatgen's JSON: a list, JSON Lines, or one file each",
    "extxyz": "extended XYZ, all frames in one file",
    "ase": "database of ASE: SQLite, or JSON by the ending .json",
    "lemat": "Parquet in LeMat-Bulk's columns",
    "optimade": "OPTIMADE's JSON Lines",
    "mattergen": "folder that MatterGen's evaluation reads",
}
"""Formats of an export, and what they are."""

_BY_ENDING = (
    (".optimade.jsonl", "optimade"),
    (".jsonl", "json"),
    (".ndjson", "json"),
    (".ase.json", "ase"),
    (".json", "json"),
    (".extxyz", "extxyz"),
    (".xyz", "extxyz"),
    (".db", "ase"),
    (".sqlite", "ase"),
    (".parquet", "lemat"),
    (".zip", "cif"),
)
_NEEDED = {
    "ase": (".db", ".sqlite", ".json"),
    "lemat": (".parquet",),
    "optimade": (".jsonl", ".ndjson"),
}
_PACKED = frozenset({"json", "extxyz", "optimade"})
_NAMED = 3  # structures that a refusal names
_SAY_EVERY = 500


@dataclass(frozen=True)
class Exported:
    """What an export wrote.

    Attributes:
        written: structures.
        skipped: why others were left out, and how many.
        sources: of the entries; imported again under their names, they have the same ids.
    """

    written: int
    skipped: Mapping[str, int] = field(default_factory=dict)
    sources: tuple[str, ...] = ()


def format_of(target: Path) -> str:
    """Return the format that a name ends in; of a folder it is CIF.

    Raises:
        UsageError: it ends in something else.
    """
    name = target.name.lower().removesuffix(".gz")
    for ending, form in _BY_ENDING:
        if name.endswith(ending):
            return form
    if not target.suffix:
        return "cif"
    raise UsageError(
        f"{target}: say which format (--format {', '.join(FORMATS)}), or end the name in "
        ".zip, .extxyz, .db, .json, .jsonl, .optimade.jsonl or .parquet"
    )


def export_structures(
    store: Store,
    reader: ReadableStore,
    statement: str,
    target: Path,
    form: str | None = None,
    *,
    skip: bool = False,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Exported:
    """Write the structures that a query selects, in the order of their ids.

    Args:
        store: where they are.
        reader: the same store, for the query.
        statement: SQL with a column ``structure_id``; rows without one are passed over. With
            ``entry_id``, all that the entry says goes along; other columns go along where the
            format has a place for them.
        target: a new file or folder.
        form: key of `FORMATS`; None tells it from the name.
        skip: leave out what the format cannot hold, instead of refusing all.
        on_progress: called with how many rows are done, of how many.

    Returns:
        how many were written, and left out why.

    Raises:
        QueryError: it has no such column.
        StoreError: the target exists or cannot be written.
        UsageError: a structure cannot be written in this format, or the name does not suit it.
    """
    form = form or format_of(target)
    _check_name(target, form)
    if os.path.lexists(target):
        raise StoreError(f"{target} exists; name a new file, folder or zip")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        room = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    except OSError as error:
        raise StoreError(f"cannot write {target}: {error.strerror}") from error
    try:
        part = room / "part"
        done = _write(store, reader, statement, (room, part, target, form), skip, on_progress)
        if os.path.lexists(target):
            raise StoreError(f"{target} exists by now; name a new file, folder or zip")
        part.rename(target)
    except OSError as error:
        raise StoreError(f"cannot write {target}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(room, ignore_errors=True)
    return done


def _check_name(target: Path, form: str) -> None:
    """Refuse a name that says another thing than the format.

    Raises:
        UsageError: with what it should end in.
    """
    if form not in FORMATS:
        raise UsageError(f"no format {form!r}; known: {', '.join(FORMATS)}")
    name = target.name.lower()
    plain = name.removesuffix(".gz")
    if plain != name and (form not in _PACKED or plain.endswith(".zip")):
        raise UsageError(f"{target}: {form} is not packed with gzip; leave out .gz")
    if form == "mattergen" and target.suffix:
        raise UsageError(f"{target}: mattergen is a folder; give a name without an ending")
    needed = _NEEDED.get(form)
    if needed and not plain.endswith(needed):
        raise UsageError(f"{target}: {form} is a file that ends in {' or '.join(needed)}")


def _write(
    store: Store,
    reader: ReadableStore,
    statement: str,
    places: tuple[Path, Path, Path, str],
    skip: bool,
    on_progress: Callable[[int, int], None],
) -> Exported:
    room, part, target, form = places
    rows = keep_rows(reader, statement, room / "rows.arrow")
    skipped: Counter[str] = Counter()
    refused: list[str] = []
    sources: set[str] = set()
    written = 0
    sink = sink_for(part, target.name, form, rows.table.schema)
    with contextlib.closing(sink):
        for done, item in enumerate(rows.items(store), 1):
            try:
                sink.write(item)
            except CannotHoldError as error:
                skipped[str(error)] += 1
                if len(refused) < _NAMED:
                    refused.append(f"{item.name}: {error}")
            else:
                written += 1
                if item.entry is not None:
                    sources.add(item.entry["source"])
            if done % _SAY_EVERY == 0:
                on_progress(done, len(rows))
        if skipped and not skip:
            n = sum(skipped.values())
            raise UsageError(
                f"{form} cannot hold {n:,} of {n + written:,} structures ({'; '.join(refused)}"
                f"{'; ...' if n > len(refused) else ''}): take another format, such as cif or "
                "json, or leave them out with --skip"
            )
        on_progress(len(rows), len(rows))
        sink.finish()
    return Exported(written, dict(sorted(skipped.items())), tuple(sorted(sources)))
