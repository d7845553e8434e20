"""Rows of several files joined into entries, and only where that is certain."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gandb.core.compositions import CompositionBatch
from gandb.core.ids import canonical_json
from gandb.core.units import PROPERTIES
from gandb.sources.base import Counts, ParsedTable, Reject, Source


class Join(StrEnum):
    """How rows of several files become entries.

    FORMULA: rows of one reduced formula are one entry if no file has that formula twice and no
    two of them give the same property; otherwise each row of that formula is an entry of its own,
    since which polymorph is which would be a guess. If every file has external ids, these take
    the place of the formula, and rows of one id must have one reduced formula.

    NONE: every row is an entry.
    """

    FORMULA = "formula"
    NONE = "none"


@dataclass(frozen=True)
class Rows:
    """The good rows of one file, k of them; properties are float64 (k,) with NaN for missing."""

    compositions: CompositionBatch
    formulas: pa.StringArray
    external_ids: pa.StringArray | None
    properties: dict[str, np.ndarray]
    extra: list[str | None] | None
    lines: np.ndarray
    rejects: list[Reject]


@dataclass(frozen=True)
class _Pool:
    """The rows of all files together, N of them.

    Attributes:
        files: the files.
        file_of: int64 (N,), file of each row.
        compositions: N compositions as written.
        formulas: (N,) strings.
        spelling: int64 (N,), rows of one text have one number.
        material: int64 (N,), rows of one reduced formula have one number.
        external_ids: (N,) strings or None.
        extra: N JSON objects or None.
    """

    files: Sequence[Rows]
    file_of: np.ndarray
    compositions: CompositionBatch
    formulas: pa.StringArray
    spelling: np.ndarray
    material: np.ndarray
    external_ids: pa.StringArray | None
    extra: list[str | None] | None

    def __len__(self) -> int:
        return len(self.file_of)

    @classmethod
    def of(cls, files: Sequence[Rows]) -> _Pool:
        """Put the rows of files one after the other."""
        sizes = [len(f.lines) for f in files]
        compositions = CompositionBatch.concatenate([f.compositions for f in files])
        formulas = pa.concat_arrays([f.formulas for f in files])
        spelling = _codes(formulas, own_if_null=True)
        rows = _first_rows(spelling)  # equal texts are one formula: identify each only once
        material = compositions.take(rows).reduced()[0].unique().inverse[spelling]
        external_ids = None
        if any(f.external_ids is not None for f in files):
            external_ids = pa.concat_arrays(
                [pa.nulls(n, pa.string()) if f.external_ids is None else f.external_ids
                 for f, n in zip(files, sizes, strict=True)]
            )  # fmt: skip
        extra = None
        if any(f.extra is not None for f in files):
            extra = [e for f in files for e in (f.extra or [None] * len(f.lines))]
        file_of = np.repeat(np.arange(len(files)), sizes)
        return cls(files, file_of, compositions, formulas, spelling, material, external_ids, extra)


def join_rows(
    source: Source, paths: tuple[Path, ...], files: Sequence[Rows], join: Join
) -> ParsedTable:
    """Join the rows of all files into entries, in the order of each entry's first row."""
    pool = _Pool.of(files)
    group = pool.material
    if all(f.external_ids is not None for f in files):
        group = _codes(pool.external_ids, own_if_null=True)
    joined = shared = np.zeros(len(pool), np.bool_)
    if join is Join.FORMULA and len(files) > 1:
        joined, shared = _joinable(pool, group)
    first_row = np.arange(len(pool))
    if joined.any():
        first_row = np.where(joined, _first_rows(group)[group], first_row)
    head = first_row == np.arange(len(pool))
    entry_of = (np.cumsum(head) - 1)[first_row]
    n = int(head.sum())

    chosen = _shortest(pool, first_row, entry_of)
    properties = _properties(pool, entry_of, n)
    ids = None if pool.external_ids is None else _first_text(pool.external_ids, entry_of, n)
    extra = None if pool.extra is None else _merged(pool.extra, entry_of, n)
    formulas = pool.formulas.take(pa.array(chosen))
    lines = np.zeros((n, len(files)), np.int64)
    lines[entry_of, pool.file_of] = np.concatenate([f.lines for f in files])
    rejects = [reject for f in files for reject in f.rejects]
    return ParsedTable(
        source=source.name,
        files=paths,
        compositions=pool.compositions.take(chosen),
        formulas=formulas,
        external_ids=ids,
        properties={name: pa.array(v, from_pandas=True) for name, v in properties.items()},
        extra=extra,
        ordinals=_ordinals(pool.material[chosen], formulas, properties, [ids, extra]),
        lines=lines,
        rejects=rejects,
        counts=Counts(
            rows_read=len(pool) + len(rejects),
            rows_rejected=len(rejects),
            rows_used=len(pool),
            entries=n,
            entries_joined=int((head & joined).sum()),
            rows_joined=int(joined.sum()),
            rows_kept_apart=int((shared & ~joined).sum()),
        ),
    )


def _joinable(pool: _Pool, group: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Decide which rows are joined with rows of other files.

    Args:
        pool: N rows.
        group: int64 (N,), rows that might belong together have one number.

    Returns:
        bool (N,), rows that are joined; bool (N,), rows whose group is in more than one file.
    """
    groups = int(group.max(initial=-1)) + 1
    apart = _differs(group, groups, pool.material)
    in_files = np.zeros(groups, np.int64)
    given = {name: np.zeros(groups, np.int64) for name in PROPERTIES}
    for k, f in enumerate(pool.files):
        mine = group[pool.file_of == k]
        times = np.bincount(mine, minlength=groups)
        in_files += times > 0
        apart |= times > 1
        for name, values in f.properties.items():
            given[name] += np.bincount(mine[~np.isnan(values)], minlength=groups)
    for times in given.values():
        apart |= times > 1
    if pool.external_ids is not None:
        codes = _codes(pool.external_ids, own_if_null=False)
        named = codes >= 0
        apart |= _differs(group[named], groups, codes[named])
    shared = (in_files > 1)[group]
    if pool.extra is not None:
        apart |= _conflicting(pool.extra, group, groups, shared)
    return shared & ~apart[group], shared


def _first_rows(codes: np.ndarray) -> np.ndarray:
    """Return the first row of every code, int64 (largest code + 1,)."""
    rows = np.full(int(codes.max(initial=-1)) + 1, -1, np.int64)
    rows[codes[::-1]] = np.arange(len(codes))[::-1]  # the last written, which is the first, stays
    return rows


def _differs(group: np.ndarray, groups: int, codes: np.ndarray) -> np.ndarray:
    """Return which groups, bool (groups,), hold more than one code."""
    one = np.zeros(groups, np.int64)
    one[group] = codes
    different = np.zeros(groups, np.bool_)
    different[group[one[group] != codes]] = True
    return different


def _conflicting(
    extra: list[str | None], group: np.ndarray, groups: int, shared: np.ndarray
) -> np.ndarray:
    """Return which groups, bool (groups,), have rows whose extra columns contradict each other."""
    conflicts = np.zeros(groups, np.bool_)
    seen: dict[int, dict[str, Any]] = {}
    for row in np.flatnonzero(shared).tolist():
        text = extra[row]
        if text is not None:
            values = json.loads(text)
            before = seen.setdefault(int(group[row]), {})
            if any(before.get(key, value) != value for key, value in values.items()):
                conflicts[group[row]] = True
            before.update(values)
    return conflicts


def _codes(texts: pa.StringArray, *, own_if_null: bool) -> np.ndarray:
    """Number equal texts alike, int64 (n,); a null is -1, or a number of its own."""
    encoded = texts.dictionary_encode()
    indices = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    codes: np.ndarray = indices.astype(np.int64)
    if own_if_null:
        null = codes < 0
        codes[null] = len(encoded.dictionary) + np.arange(np.count_nonzero(null))
    return codes


def _ranks(texts: pa.StringArray) -> np.ndarray:
    """Return the place of each text in the sorted list of different texts, int64 (n,); null -1."""
    encoded = texts.dictionary_encode()
    place = np.empty(len(encoded.dictionary) + 1, np.int64)
    place[pc.sort_indices(encoded.dictionary).to_numpy()] = np.arange(len(encoded.dictionary))
    place[-1] = -1
    ranks: np.ndarray = place[encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)]
    return ranks


def _shortest(pool: _Pool, first_row: np.ndarray, entry_of: np.ndarray) -> np.ndarray:
    """Return the row whose formula stands for each entry, int64 (n,).

    It has the fewest atoms, and of those it comes first in the alphabet, whatever the order of
    the files.
    """
    chosen = np.flatnonzero(first_row == np.arange(len(pool)))
    several = np.zeros(len(chosen), np.bool_)
    several[entry_of[pool.spelling != pool.spelling[first_row]]] = True
    rows = np.flatnonzero(several[entry_of])
    if len(rows):
        atoms = pool.compositions.take(rows).n_atoms
        spelled = _ranks(pool.formulas.take(pa.array(rows)))
        rows = rows[np.lexsort((spelled, atoms))[::-1]]
        chosen[entry_of[rows]] = rows  # the last written, which is the least, stays
    return chosen


def _properties(pool: _Pool, entry_of: np.ndarray, n: int) -> dict[str, np.ndarray]:
    """Return the properties that any file has, float64 (n,) with NaN for missing."""
    columns: dict[str, np.ndarray] = {}
    for name in PROPERTIES:
        for k, f in enumerate(pool.files):
            if name in f.properties:
                column = columns.setdefault(name, np.full(n, np.nan))
                has = ~np.isnan(f.properties[name])
                column[entry_of[pool.file_of == k][has]] = f.properties[name][has]
    return columns


def _first_text(texts: pa.StringArray, entry_of: np.ndarray, n: int) -> pa.StringArray:
    """Return the text that an entry's rows agree on, (n,), null if none has one."""
    rows = np.full(n, -1, np.int64)
    given = np.flatnonzero(texts.is_valid().to_numpy(zero_copy_only=False))
    rows[entry_of[given]] = given
    return texts.take(pa.array(rows, mask=rows < 0))


def _merged(extra: list[str | None], entry_of: np.ndarray, n: int) -> pa.StringArray:
    """Join the JSON objects of an entry's rows, (n,)."""
    out: list[str | None] = [None] * n
    for entry, text in zip(entry_of.tolist(), extra, strict=True):
        before = out[entry]
        if before is None or text is None:
            out[entry] = before or text
        else:
            out[entry] = canonical_json(json.loads(before) | json.loads(text)).decode()
    return pa.array(out, pa.string())


def _ordinals(
    material: np.ndarray,
    formulas: pa.StringArray,
    properties: Mapping[str, np.ndarray],
    texts: Sequence[pa.StringArray | None],
) -> np.ndarray:
    """Number equal entries 0, 1, 2 ..., int32 (n,); see `ParsedTable.ordinals`."""
    n = len(material)
    ordinals = np.zeros(n, np.int32)
    rows = np.flatnonzero(np.bincount(material, minlength=1)[material] > 1)
    if len(rows) == 0:
        return ordinals
    keys = [material[rows]]
    keys += [values[rows].view(np.int64) for values in properties.values()]
    keys += [_ranks(t)[rows] for t in texts if t is not None]
    order = np.lexsort((_ranks(formulas.take(pa.array(rows))), *keys))
    same = np.ones(len(rows), np.bool_)
    same[0] = False
    for key in keys:
        same[1:] &= key[order][1:] == key[order][:-1]
    starts = np.flatnonzero(~same)
    place = np.arange(len(rows)) - np.repeat(starts, np.diff(np.append(starts, len(rows))))
    ordinals[rows[order]] = place
    return ordinals
