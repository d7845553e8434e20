"""Records of a source made into rows: structures, symmetry, entries, aliases, rejects.

It is all computation, so it runs in processes of its own (`gandb.core.pool`): what goes in are the
records as read, what comes out are Arrow tables that only need to be merged.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import numpy as np
import pyarrow as pa

from gandb.core.compositions import CompositionBatch, uuid_array
from gandb.core.crystals import Crystal
from gandb.core.errors import InputError
from gandb.core.formula import parse_formulas
from gandb.core.ids import canonical_json
from gandb.core.units import PROPERTIES
from gandb.sources.base import Reject
from gandb.sources.formats import crystal_of
from gandb.sources.records import MAX_RAW, Record, reject_of
from gandb.tasks.rows import entry_ids, recipe_row, repeat_id
from gandb.validation.symmetry import (
    SYMPREC,
    Symmetry,
    SymmetryError,
    find_symmetry,
    symmetry_recipe_parameters,
)

_SYMMETRY_FIELDS = (
    "space_group_number",
    "space_group_symbol",
    "hall_number",
    "point_group",
    "crystal_system",
    "pearson_symbol",
)

Part = dict[str, pa.Table]
"""What became of a few hundred records: a table of rows by name."""


@dataclass(frozen=True)
class Preparation:
    """How records become rows.

    Attributes:
        source: name of the source, part of every entry's id.
        symprecs: tolerances of the symmetry searches, Å; the standard one comes first.
    """

    source: str
    symprecs: tuple[float, ...] = (SYMPREC,)

    def __call__(self, items: Sequence[Record | Reject]) -> Part:
        """Work out all rows; what cannot become one is a reject."""
        read: list[Checked] = []
        rejects: list[Reject] = []
        for item in items:
            found = item if isinstance(item, Reject) else _read(item, self.symprecs)
            if isinstance(found, Reject):
                rejects.append(found)
            else:
                read.append(found)
        read, refused = _with_compositions(read)
        return part_of(self.source, read, self.symprecs) | {
            "rejects": _reject_table(rejects + refused)
        }


def symmetry_recipe(symprec: float) -> dict[str, Any]:
    """Return the recipe row of a symmetry search."""
    return recipe_row("symmetry", "1", symmetry_recipe_parameters(symprec))


@dataclass
class Checked:
    """A record whose structure has been checked.

    Attributes:
        counts: atoms by symbol; None while the formula has not been read.
        found: one symmetry search per tolerance.
    """

    record: Record
    crystal: Crystal | None
    counts: dict[str, int] | None
    found: list[Symmetry | SymmetryError]


def _read(record: Record, symprecs: Sequence[float]) -> Checked | Reject:
    """Decode and check a record's structure; a failed symmetry search is kept as what it is."""
    structure = record.structure
    if structure is None:
        if record.formula is None:
            return reject_of(record, "it has neither a structure nor a formula")
        return Checked(record, None, None, [])
    try:
        crystal = crystal_of(structure)
        counts = crystal.counts()
    except InputError as error:
        return reject_of(record, str(error))
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        return reject_of(record, f"its structure cannot be read: {type(error).__name__}: {error}")
    return Checked(record, crystal, counts, _searched(crystal, symprecs))


def _searched(crystal: Crystal, symprecs: Sequence[float]) -> list[Symmetry | SymmetryError]:
    found: list[Symmetry | SymmetryError] = []
    for symprec in symprecs:
        try:
            found.append(find_symmetry(crystal, symprec))
        except SymmetryError as error:
            found.append(error)
    return found


def _with_compositions(read: list[Checked]) -> tuple[list[Checked], list[Reject]]:
    """Read the formulas of records without a structure; those that cannot be read are rejects."""
    bare = [r for r in read if r.counts is None]
    parsed = parse_formulas(pa.array([r.record.formula for r in bare], pa.string()))
    for place, row in enumerate(parsed.rows.tolist()):
        bare[row].counts = parsed.batch[place]
    refused = [reject_of(bare[row].record, reason) for row, reason in parsed.rejects]
    return [r for r in read if r.counts is not None], refused


# --- tables ------------------------------------------------------------------------------


def part_of(source: str, read: Sequence[Checked], symprecs: Sequence[float]) -> Part:
    """Return the rows of checked records; all tables but that of rejects.

    Args:
        source: name of the source.
        read: records, none without composition.
        symprecs: tolerances of the symmetry searches that each record has, Å.
    """
    batch, _ = CompositionBatch.from_dicts([r.counts or {} for r in read]).reduced()
    unique = batch.unique()
    composition_ids = unique.ids[unique.inverse]
    formulas, units = _formulas(read, batch, composition_ids)
    structure_ids = [r.crystal.id if r.crystal else None for r in read]
    extra = [_extra_text(r.record, shown) for r, shown in zip(read, formulas, strict=True)]
    properties = {
        name: np.array([_number(r.record.properties.get(name)) for r in read], np.float64)
        for name in PROPERTIES
        if any(name in r.record.properties for r in read)
    }
    external = [_text(r.record.external_id) for r in read]
    n = len(read)
    ids = entry_ids(
        source,
        composition_ids,
        np.zeros(n, np.int32),
        properties,
        external_ids=external,
        extra=extra,
        structure_ids=structure_ids,
    )
    entries = {
        "id": uuid_array(ids),
        "external_id": pa.array(external, pa.string()),
        "composition_id": uuid_array(composition_ids),
        "formula": pa.array(formulas, pa.string()),
        "formula_units": pa.array(units, pa.int32()),
        "structure_id": _uuids(structure_ids),
        "n_sites": pa.array([len(r.crystal) if r.crystal else None for r in read], pa.int32()),
        "space_group_number": pa.array([_group(r) for r in read], pa.int16()),
        "extra": pa.array(extra, pa.string()),
        "file": pa.array([_text(r.record.file) for r in read], pa.string()),
        "line": pa.array([r.record.line for r in read], pa.int64()),
    }
    for name in PROPERTIES:
        values = properties.get(name, np.full(n, np.nan))
        entries[name] = pa.array(values + 0.0, from_pandas=True)
    places: dict[UUID, int] = {}
    for place, structure_id in enumerate(structure_ids):
        if structure_id is not None:
            places.setdefault(structure_id, place)
    listed = [r for r in map(read.__getitem__, places.values()) if r.crystal]
    crystals, found = [r.crystal for r in listed if r.crystal], [r.found for r in listed]
    own = composition_ids[np.array(list(places.values()), np.int64)]
    return {
        "compositions": _composition_table(batch.take(unique.first), unique.ids),
        "entries": pa.table(entries),
        "aliases": _alias_table(ids, read),
        "structures": _structure_table(crystals, found, own),
        "symmetry": _symmetry_table(crystals, found, symprecs),
    }


def part_of_crystals(crystals: Sequence[Crystal], symprecs: Sequence[float]) -> Part:
    """Return compositions, structures and symmetry of n distinct crystals, which no source states.

    Args:
        crystals: n records; the rows of ``structures`` are in their order.
        symprecs: tolerances of the symmetry searches, Å; the standard one comes first.
    """
    batch, _ = CompositionBatch.from_dicts([c.counts() for c in crystals]).reduced()
    unique = batch.unique()
    found = [_searched(c, symprecs) for c in crystals]
    return {
        "compositions": _composition_table(batch.take(unique.first), unique.ids),
        "structures": _structure_table(crystals, found, unique.ids[unique.inverse]),
        "symmetry": _symmetry_table(crystals, found, symprecs),
    }


def _formulas(
    read: Sequence[Checked], batch: CompositionBatch, composition_ids: np.ndarray
) -> tuple[list[str], np.ndarray]:
    """Choose what each row shows as its formula, and its formula units.

    A stated formula that means the structure's composition is shown as stated. One that does not,
    as where a source left hydrogen out of its atoms, gives way to the structure's.
    """
    reduced = batch.reduced_formulas().to_pylist()
    stated = [r.record.formula for r in read]
    rows = [i for i, text in enumerate(stated) if text is not None]
    parsed = parse_formulas(pa.array([stated[i] for i in rows], pa.string()))
    own, own_units = parsed.batch.reduced()
    own_ids = own.ids()
    shown, shown_units = list(reduced), np.ones(len(read), np.int32)
    for place, row in enumerate(parsed.rows.tolist()):
        target = rows[row]
        if bytes(own_ids[place]) == bytes(composition_ids[target]):
            shown[target] = str(stated[target]).strip()
            shown_units[target] = own_units[place]
    return shown, shown_units


def _composition_table(batch: CompositionBatch, ids: np.ndarray) -> pa.Table:
    offsets = pa.array(batch.offsets.astype(np.int32))
    return pa.table(
        {
            "id": uuid_array(ids),
            "atomic_numbers": pa.ListArray.from_arrays(offsets, pa.array(batch.atomic_numbers)),
            "counts": pa.ListArray.from_arrays(offsets, pa.array(batch.counts)),
        }
    )


def composition_batch(table: pa.Table) -> CompositionBatch:
    """Return the compositions of a part's table of them."""
    numbers = table.column("atomic_numbers").combine_chunks()
    counts = table.column("counts").combine_chunks()
    sizes = numbers.value_lengths().to_numpy(zero_copy_only=False)
    offsets = np.zeros(len(table) + 1, np.int64)
    np.cumsum(sizes, out=offsets[1:])
    flat_numbers, flat_counts = numbers.flatten().to_numpy(), counts.flatten().to_numpy()
    return CompositionBatch(offsets, flat_numbers.astype(np.uint8), flat_counts.astype(np.uint16))


def _alias_table(ids: np.ndarray, read: Sequence[Checked]) -> pa.Table:
    rows = [
        (i, _text(kind), _text(alias))
        for i, r in enumerate(read)
        for kind, alias in dict.fromkeys(r.record.aliases)
    ]
    places = np.array([i for i, _, _ in rows], np.int64)
    return pa.table(
        {
            "entry_id": uuid_array(ids[places]),
            "kind": pa.array([kind for _, kind, _ in rows], pa.string()),
            "alias": pa.array([alias for _, _, alias in rows], pa.string()),
        }
    )


def _structure_table(
    crystals: Sequence[Crystal],
    found: Sequence[Sequence[Symmetry | SymmetryError]],
    composition_ids: np.ndarray,
) -> pa.Table:
    cells = np.array([[*c.lengths, *c.angles, c.volume] for c in crystals]).reshape(-1, 7)
    names = ("a", "b", "c", "alpha", "beta", "gamma", "volume")
    standard = [searches[0] for searches in found]
    return pa.table(
        {
            "id": _uuids([c.id for c in crystals]),
            "composition_id": uuid_array(composition_ids),
            "n_sites": pa.array([len(c) for c in crystals], pa.int32()),
            "ordered": pa.array([c.ordered for c in crystals], pa.bool_()),
            **{name: pa.array(cells[:, i]) for i, name in enumerate(names)},
            "charge": pa.array([c.charge for c in crystals], pa.float64()),
            "space_group_number": _field(standard, "space_group_number", pa.int16()),
            "space_group_symbol": _field(standard, "space_group_symbol", pa.string()),
            "species": pa.array([list(c.species) for c in crystals], pa.list_(pa.string())),
            "frac_coords": pa.array(
                [c.frac_coords.ravel() for c in crystals], pa.list_(pa.float64())
            ),
            "site_properties": pa.array(
                [_json({k: list(v) for k, v in c.properties.items()}) for c in crystals],
                pa.string(),
            ),
        }
    )


def _symmetry_table(
    crystals: Sequence[Crystal],
    searches: Sequence[Sequence[Symmetry | SymmetryError]],
    symprecs: Sequence[float],
) -> pa.Table:
    parts = []
    ids = _uuids([c.id for c in crystals])
    for place, symprec in enumerate(symprecs):
        found = [own[place] for own in searches]
        errors = [str(f) if isinstance(f, SymmetryError) else None for f in found]
        recipe: UUID = symmetry_recipe(symprec)["id"]
        kinds = {"space_group_number": pa.int16(), "hall_number": pa.int16()}
        parts.append(
            pa.table(
                {
                    "structure_id": ids,
                    "recipe_id": repeat_id(recipe, len(crystals)),
                    **{f: _field(found, f, kinds.get(f, pa.string())) for f in _SYMMETRY_FIELDS},
                    "wyckoff_letters": _field(found, "wyckoff_letters", pa.list_(pa.string())),
                    "site_symmetries": _field(found, "site_symmetries", pa.list_(pa.string())),
                    "symprec": _field(found, "symprec", pa.float64()),
                    "error": pa.array(errors, pa.string()),
                }
            )
        )
    return pa.concat_tables(parts)


def _field(found: Sequence[Symmetry | SymmetryError], name: str, kind: pa.DataType) -> pa.Array:
    values = [None if isinstance(f, SymmetryError) else getattr(f, name) for f in found]
    return pa.array([list(v) if isinstance(v, tuple) else v for v in values], kind)


def _reject_table(rejects: list[Reject]) -> pa.Table:
    return pa.table(
        {
            "file": pa.array([_text(r.file) for r in rejects], pa.string()),
            "line": pa.array([r.line for r in rejects], pa.int64()),
            "reason": pa.array([_text(r.reason) for r in rejects], pa.string()),
            "raw": pa.array([(_text(r.raw) or "")[:MAX_RAW] for r in rejects], pa.string()),
        }
    )


# --- values ------------------------------------------------------------------------------


def _group(read: Checked) -> int | None:
    standard = read.found[0] if read.found else None
    return standard.space_group_number if isinstance(standard, Symmetry) else None


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return math.nan
    return float(value) if math.isfinite(value) else math.nan


def _text(text: str | None) -> str | None:
    """Return a text that every engine keeps: valid Unicode without NUL."""
    if text is None:
        return None
    plain = text.replace("\x00", "\ufffd")
    return plain.encode(errors="replace").decode() if not plain.isascii() else plain


def _extra_text(record: Record, shown: str) -> str | None:
    """Write what else the source says, a formula that the structure has not included."""
    extra = dict(record.extra)
    if record.formula is not None and record.formula.strip() != shown:
        extra.setdefault("stated_formula", record.formula)
    return _json(extra) if extra else None


def _json(value: Mapping[str, Any]) -> str | None:
    if not value:
        return None
    try:
        data = canonical_json(value)
    except (TypeError, ValueError):
        data = canonical_json(_plain(value))
    return str(_text(data.decode(errors="replace"))).replace("\\u0000", "\ufffd")


def _plain(value: Any) -> Any:
    """Return JSON data: what is no finite number becomes null, unknown types their text."""
    if value is None or isinstance(value, bool | int | str):
        return _text(value) if isinstance(value, str) else value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    return str(value)


def _uuids(ids: Sequence[UUID | None]) -> pa.ExtensionArray:
    storage = pa.array([i.bytes if i else None for i in ids], pa.binary(16))
    return pa.ExtensionArray.from_storage(pa.uuid(), storage)
