"""Files that list ids, and files that say which split an id belongs to."""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gandb.core.errors import InputError
from gandb.datasets.splits import SPLITS

_SPELLINGS = {"val": "validation", "valid": "validation", "dev": "validation"}
_SUFFIXES = (".csv", ".csv.gz", ".txt", ".txt.gz")
_ID_COLUMNS = ("entry_id", "material_id", "external_id", "id")
_MOST_BYTES = 2**31
csv.field_size_limit(2**24)


@dataclass(frozen=True)
class Lines:
    """Texts from files, each once, and where they stand.

    Attributes:
        name: the file or folder.
        texts: the ids.
        places: for each where it stands first, as a person finds it.
    """

    name: str
    texts: Sequence[str]
    places: Sequence[str]

    def where(self, i: int) -> str:
        """Say where a text stands."""
        return self.places[i]


@dataclass(frozen=True)
class Given:
    """Splits that files state.

    Attributes:
        lines: the ids.
        splits: for each the index into `SPLITS`.
        origin: what was read, as plain data.
    """

    lines: Lines
    splits: Sequence[int]
    origin: Mapping[str, Any]


def read_lines(path: Path) -> Lines:
    """Read a file of ids, one to a line; blank lines and lines that begin with ``#`` do not count.

    Raises:
        InputError: it cannot be read.
    """
    places: dict[str, str] = {}
    for number, text in _texts(path):
        places.setdefault(text, f"line {number}")
    return Lines(str(path), list(places), list(places.values()))


def read_splits(path: Path) -> Given:
    """Read which split ids belong to.

    Args:
        path: a file whose lines are an id and a split, with blanks, a tab or a comma between; or a
            folder of files called train, val and test, with a table of CSV each that has a column
            entry_id, material_id, external_id or id, or an id on each line of a ``.txt``; both may
            be packed by gzip.

    Raises:
        InputError: it cannot be read, or an id is put into two splits.
    """
    if path.is_dir():
        stated = list(_folder(path))
    else:
        stated = [_id_and_split(path, number, line) for number, line in _texts(path)]
    splits: dict[str, int] = {}
    places: dict[str, str] = {}
    for text, split, place in stated:
        if splits.setdefault(text, split) != split:
            raise InputError(
                f"{path}: {text} is in {SPLITS[splits[text]]} ({places[text]}) and in "
                f"{SPLITS[split]} ({place})"
            )
        places.setdefault(text, place)
    if not splits:
        raise InputError(f"{path} names no id")
    lines = Lines(str(path), list(splits), list(places.values()))
    return Given(lines, list(splits.values()), {"split_file": path.name, "ids": len(splits)})


def _id_and_split(path: Path, number: int, line: str) -> tuple[str, int, str]:
    parts = line.replace(",", " ").rsplit(None, 1)
    split = _split_index(parts[-1]) if len(parts) > 1 else None
    if split is None:
        raise InputError(
            f"{path}, line {number}: {line[:80]!r} is not an id and one of {', '.join(SPLITS)}"
        )
    return parts[0].strip(), split, f"line {number}"


def _split_index(text: str) -> int | None:
    name = _SPELLINGS.get(text.lower(), text.lower())
    return SPLITS.index(name) if name in SPLITS else None


def _folder(path: Path) -> Iterator[tuple[str, int, str]]:
    found: dict[int, Path] = {}
    for file in sorted(path.iterdir()):
        suffix = next((s for s in _SUFFIXES if file.name.lower().endswith(s)), None)
        split = _split_index(file.name[: -len(suffix)]) if suffix else None
        if split is None:
            continue
        if split in found:
            both = f"{found[split].name} and {file.name}"
            raise InputError(f"{path}: both {both} are {SPLITS[split]}")
        found[split] = file
    if not found:
        raise InputError(f"{path} has no files train, val, test, such as train.csv")
    for split, file in sorted(found.items()):
        if ".csv" in file.name.lower():
            for number, text in _column(file):
                yield text, split, f"{file.name}, row {number}"
        else:
            for number, text in _texts(file):
                yield text, split, f"{file.name}, line {number}"


def _texts(path: Path) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(_content(path).splitlines(), 1):
        text = line.strip()
        if text and not text.startswith("#"):
            yield number, text


def _column(path: Path) -> Iterator[tuple[int, str]]:
    rows = csv.DictReader(io.StringIO(_content(path), newline=""), strict=True)
    try:
        names = [(n or "").strip() for n in rows.fieldnames or ()]
        wanted = next((n for n in _ID_COLUMNS if n in names), None)
        if wanted is None:
            raise InputError(f"{path} has no column {', '.join(_ID_COLUMNS[:-1])} or id")
        place = names.index(wanted)
        key = (rows.fieldnames or ())[place]
        for number, row in enumerate(rows, 1):
            text = (row.get(key) or "").strip()
            if not text:
                raise InputError(f"{path}, row {number}: {wanted} is empty")
            yield number, text
    except csv.Error as error:
        raise InputError(f"{path} is not a table of CSV: {error}") from error


def _content(path: Path) -> str:
    try:
        if path.name.lower().endswith(".gz"):
            with gzip.open(path) as packed:
                raw = packed.read(_MOST_BYTES + 1)
        else:
            with path.open("rb") as plain:
                raw = plain.read(_MOST_BYTES + 1)
        if len(raw) > _MOST_BYTES:
            raise InputError(f"{path} is larger than {_MOST_BYTES:,} bytes")
        return raw.decode("utf-8-sig")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {path}: {error}") from error
