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


def join_rows(
    source: Source, paths: tuple[Path, ...], files: Sequence[Rows], join: Join
) -> ParsedTable:
    """Join the rows of all files, N of them, into n entries."""
    sizes = np.array([len(f.lines) for f in files], np.int64)
    total = int(sizes.sum())
    file_of = np.repeat(np.arange(len(files)), sizes)
    lines = np.concatenate([f.lines for f in files])
    written = CompositionBatch.concatenate([f.compositions for f in files])
    material = written.reduced()[0].unique().inverse
    formulas = pa.concat_arrays([f.formulas for f in files])
    external_ids = None
    if any(f.external_ids is not None for f in files):
        external_ids = pa.concat_arrays(
            [pa.nulls(len(f.lines), pa.string()) if f.external_ids is None else f.external_ids
             for f in files]
        )  # fmt: skip
    by_id = all(f.external_ids is not None for f in files)
    extra = None
    if any(f.extra is not None for f in files):
        extra = [e for f in files for e in (f.extra or [None] * len(f.lines))]

    joined = np.zeros(total, np.bool_)
    shared = np.zeros(total, np.bool_)
    group = material
    if join is Join.FORMULA and len(files) > 1:
        group = _codes(external_ids, own_if_null=True) if by_id else material
        joined, shared = _joinable(files, file_of, group, material, external_ids, extra)

    # Number the entries by the first row of each: a joined group is one, any other row is one.
    key = np.where(joined, group, group.max(initial=-1) + 1 + np.arange(total))
    _, first, entry_of = np.unique(key, return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int64)
    order = np.argsort(first, kind="stable")
    rank[order] = np.arange(len(first))
    entry_of = rank[entry_of]
    n = len(first)

    spelled = _ranks(formulas)
    chosen = _shortest(entry_of, n, written.n_atoms, spelled)
    columns: dict[str, np.ndarray] = {}
    for name in PROPERTIES:
        if any(name in f.properties for f in files):
            columns[name] = np.full(n, np.nan)
    origin = np.zeros((n, len(files)), np.int64)
    origin[entry_of, file_of] = lines
    begin = 0
    for f, size in zip(files, sizes.tolist(), strict=True):
        for name, values in f.properties.items():
            has = ~np.isnan(values)
            columns[name][entry_of[begin : begin + size][has]] = values[has]
        begin += size
    ids = None if external_ids is None else _first_text(external_ids, entry_of, n)
    objects = None if extra is None else _merged(extra, entry_of, n)
    rejects = [reject for f in files for reject in f.rejects]
    n_joined = len(np.unique(entry_of[joined]))
    return ParsedTable(
        source=source.name,
        files=paths,
        compositions=written.take(chosen),
        formulas=formulas.take(pa.array(chosen)),
        external_ids=ids,
        properties={name: pa.array(v, from_pandas=True) for name, v in columns.items()},
        extra=objects,
        ordinals=_ordinals(material[chosen], spelled[chosen], columns, [ids, objects]),
        lines=origin,
        rejects=rejects,
        counts=Counts(
            rows_read=total + len(rejects),
            rows_rejected=len(rejects),
            rows_used=total,
            entries=n,
            entries_joined=n_joined,
            rows_joined=int(joined.sum()),
            rows_kept_apart=int((shared & ~joined).sum()),
        ),
    )


def _joinable(
    files: Sequence[Rows],
    file_of: np.ndarray,
    group: np.ndarray,
    material: np.ndarray,
    external_ids: pa.StringArray | None,
    extra: list[str | None] | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Decide which of N rows are joined with rows of other files.

    Args:
        files: the files.
        file_of: (N,), file of each row.
        group: (N,), rows that might belong together have one number.
        material: (N,), rows of one reduced formula have one number.
        external_ids: (N,) or None.
        extra: (N,) or None.

    Returns:
        bool (N,), rows that are joined; bool (N,), rows whose group is in more than one file.
    """
    groups = int(group.max(initial=-1)) + 1
    apart = np.zeros(groups, np.bool_)
    in_files = np.zeros(groups, np.int64)
    given: dict[str, np.ndarray] = {}
    for k, f in enumerate(files):
        mine = group[file_of == k]
        times = np.bincount(mine, minlength=groups)
        in_files += times > 0
        apart |= times > 1
        for name, values in f.properties.items():
            has = np.bincount(mine[~np.isnan(values)], minlength=groups)
            given[name] = given.get(name, 0) + has
    for times in given.values():
        apart |= times > 1
    apart |= _differs(group, groups, material)
    if external_ids is not None:
        codes = _codes(external_ids, own_if_null=False)
        named = codes >= 0
        apart |= _differs(group[named], groups, codes[named])
    shared = (in_files > 1)[group]
    if extra is not None:
        apart |= _conflicting(extra, group, groups, shared)
    return shared & ~apart[group], shared


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
    codes = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
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


def _shortest(entry_of: np.ndarray, n: int, atoms: np.ndarray, spelled: np.ndarray) -> np.ndarray:
    """Return the row of each entry whose formula has fewest atoms, then comes first, int64 (n,)."""
    if n == len(entry_of):
        return np.argsort(entry_of)
    order = np.lexsort((spelled, atoms))[::-1]
    chosen = np.empty(n, np.int64)
    chosen[entry_of[order]] = order  # the last written, which is the least, stays
    return chosen


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
    spelled: np.ndarray,
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
    order = np.lexsort((spelled[rows], *keys))
    same = np.ones(len(rows), np.bool_)
    same[0] = False
    for key in keys:
        same[1:] &= key[order][1:] == key[order][:-1]
    starts = np.flatnonzero(~same)
    place = np.arange(len(rows)) - np.repeat(starts, np.diff(np.append(starts, len(rows))))
    ordinals[rows[order]] = place
    return ordinals
