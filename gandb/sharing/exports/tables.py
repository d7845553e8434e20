"""Structures as tables and resources: Parquet in LeMat-Bulk's columns, JSON Lines of OPTIMADE.

LeMat-Bulk: https://huggingface.co/datasets/LeMaterial/LeMat-Bulk (CC BY 4.0), whose columns are
OPTIMADE's fields and results of calculations. OPTIMADE: https://specification.optimade.org, with
the header of its appendix on JSON Lines, as optimade-python-tools reads them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import reduce
from math import gcd
from typing import Any

import pyarrow as pa

from gandb.core.crystals import Crystal
from gandb.core.species import Occupant
from gandb.core.units import PROPERTIES
from gandb.representations.ase_atoms import ISOTOPE_MASSES
from gandb.sharing.exports.rows import Item
from gandb.sharing.exports.texts import own_record, says_more
from gandb.sources.own_records import KEY

_DOUBLES, _TEXTS = pa.list_(pa.float64()), pa.list_(pa.string())
LEMAT = pa.schema(
    [
        ("elements", _TEXTS),
        ("nsites", pa.int32()),
        ("chemical_formula_anonymous", pa.string()),
        ("chemical_formula_reduced", pa.string()),
        ("chemical_formula_descriptive", pa.string()),
        ("nelements", pa.int8()),
        ("dimension_types", pa.list_(pa.int8())),
        ("nperiodic_dimensions", pa.int8()),
        ("lattice_vectors", pa.list_(_DOUBLES)),
        ("immutable_id", pa.string()),
        ("cartesian_site_positions", pa.list_(_DOUBLES)),
        ("species", pa.string()),
        ("species_at_sites", _TEXTS),
        ("last_modified", pa.string()),
        ("elements_ratios", _DOUBLES),
        ("stress_tensor", pa.list_(_DOUBLES)),
        ("energy", pa.float64()),
        ("magnetic_moments", _DOUBLES),
        ("forces", pa.list_(_DOUBLES)),
        ("total_magnetization", pa.float64()),
        ("dos_ef", pa.float64()),
        ("functional", pa.string()),
        ("cross_compatibility", pa.bool_()),
        ("entalpic_fingerprint", pa.string()),
    ]
)
"""LeMat-Bulk's columns and types."""
_SAID = {"functional": str, "dos_ef": float, "cross_compatibility": bool, "last_modified": str,
         "entalpic_fingerprint": str}  # fmt: skip
_NOT_BESIDE = frozenset({"structure_id", "total_magnetization", KEY, *LEMAT.names})

HEADER = {
    "x-optimade": {
        "meta": {
            "api_version": "1.2.0",
            "provider": {
                "name": "gandb",
                "description": "Structures exported from a gandb store.",
                "prefix": "gandb",
            },
        }
    }
}
"""First line of OPTIMADE's JSON Lines."""


# --- what both say -----------------------------------------------------------------------


def optimade_fields(crystal: Crystal) -> dict[str, Any]:
    """Return OPTIMADE's fields of a structure; formulas of a disordered one are null."""
    amounts = crystal.amounts
    elements = sorted(amounts)
    whole = sum(amounts.values())
    names = [_species_name(site) for site in crystal.occupants]
    formula, anonymous, described = None, None, None
    if crystal.ordered:
        counts = {symbol: round(amounts[symbol]) for symbol in elements}
        divisor = reduce(gcd, counts.values())
        reduced = {symbol: n // divisor for symbol, n in counts.items()}
        formula = "".join(f"{s}{'' if n == 1 else n}" for s, n in reduced.items())
        described = "".join(f"{s}{'' if n == 1 else n}" for s, n in counts.items())
        ranked = sorted(reduced.values(), reverse=True)
        anonymous = "".join(f"{_letter(i)}{'' if n == 1 else n}" for i, n in enumerate(ranked))
    kinds = dict(zip(names, crystal.occupants, strict=True))
    return {
        "elements": elements,
        "nelements": len(elements),
        "elements_ratios": [amounts[symbol] / whole for symbol in elements],
        "chemical_formula_reduced": formula,
        "chemical_formula_descriptive": described,
        "chemical_formula_anonymous": anonymous,
        "dimension_types": [1, 1, 1],
        "nperiodic_dimensions": 3,
        "lattice_vectors": crystal.lattice.tolist(),
        "cartesian_site_positions": crystal.cart_coords.tolist(),
        "nsites": len(crystal),
        "species": [_species(name, kinds[name]) for name in sorted(kinds)],
        "species_at_sites": names,
    }


def _letter(place: int) -> str:
    """Return A ... Z, Aa, Ba ..., as OPTIMADE counts."""
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    turns, rest = divmod(place, len(letters))
    return letters[rest] + (letters[turns - 1].lower() if turns else "")


def _species_name(site: Sequence[Occupant]) -> str:
    """Return a name for what sits on a site: the element where that says all."""
    if len(site) == 1 and site[0].occupancy == 1.0:
        return str(site[0])
    return " ".join(f"{o}:{o.occupancy:.8f}".rstrip("0").rstrip(".") for o in site)


def _species(name: str, site: Sequence[Occupant]) -> dict[str, Any]:
    symbols = [o.element for o in site]
    shares = [o.occupancy for o in site]
    masses = [ISOTOPE_MASSES.get(o.symbol) for o in site]
    left = round(1.0 - sum(shares), 8)
    if left > 0:
        symbols, shares, masses = [*symbols, "vacancy"], [*shares, left], [*masses, 0.0]
    found: dict[str, Any] = {"name": name, "chemical_symbols": symbols, "concentration": shares}
    if any(masses) and all(m is not None for m in masses):
        found["mass"] = masses
    return found


# --- LeMat-Bulk --------------------------------------------------------------------------


def lemat_schema(query: pa.Schema) -> pa.Schema:
    """Return the columns of an export: LeMat-Bulk's, properties, what the query selects, the rest.

    Args:
        query: columns of the query.
    """
    more = {name: pa.float64() for name in PROPERTIES if name not in _NOT_BESIDE}
    for field in query:
        if field.name not in _NOT_BESIDE and field.name not in more:  # properties are numbers
            more[field.name] = _column_type(field.type)
    more |= {"structure_id": pa.string(), KEY: pa.string()}
    return pa.schema([*LEMAT, *more.items()])


def _column_type(type_: pa.DataType) -> pa.DataType:
    plain = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean)
    return type_ if any(test(type_) for test in plain) else pa.string()


def lemat_row(item: Item, schema: pa.Schema) -> dict[str, Any]:
    """Return a row of an export, by column."""
    crystal, fields = item.crystal, optimade_fields(item.crystal)
    about: Mapping[str, Any] = item.entry or {}
    extra = about.get("extra", {})
    energy = item.value("energy_per_atom")
    row: dict[str, Any] = {name: fields.get(name) for name in LEMAT.names}
    row |= {name: extra[name] for name, kind in _SAID.items() if isinstance(extra.get(name), kind)}
    row |= {
        "species": json.dumps(fields["species"]),
        "immutable_id": about.get("external_id") or item.value("external_id") or item.name,
        "energy": None if energy is None else energy * len(crystal),
        "total_magnetization": item.value("total_magnetization"),
        "forces": _vectors(crystal.properties.get("forces")),
        "magnetic_moments": _scalars(crystal.properties.get("magmom")),
        "structure_id": item.structure_id,
    }
    for name in schema.names:
        if name not in row and name != KEY:
            value = item.value(name)
            nested = value is not None and pa.types.is_string(schema.field(name).type)
            row[name] = json.dumps(value) if nested and not isinstance(value, str) else value
    own = own_record(item)
    row[KEY] = json.dumps(own) if says_more(own) else None
    return row


def _scalars(values: Sequence[Any] | None) -> list[float] | None:
    return list(values) if values and all(type(v) is float for v in values) else None


def _vectors(values: Sequence[Any] | None) -> list[list[float]] | None:
    fit = values and all(
        isinstance(v, list) and len(v) == 3 and all(type(x) is float for x in v) for v in values
    )
    return [list(v) for v in values] if values and fit else None


# --- OPTIMADE ----------------------------------------------------------------------------


def optimade_resource(item: Item) -> dict[str, Any]:
    """Return an item as a resource of OPTIMADE, with what else is said under ``_gandb_``."""
    crystal = item.crystal
    attributes = optimade_fields(crystal)
    about: Mapping[str, Any] = item.entry or {}
    attributes |= {
        "immutable_id": item.name,
        "last_modified": None,
        "structure_features": [] if crystal.ordered else ["disorder"],
        "_gandb_structure_id": item.structure_id,
    }
    for name in ("source", "external_id"):
        if about.get(name):
            attributes[f"_gandb_{name}"] = about[name]
    for name, value in {**about.get("properties", {}), **item.values}.items():
        key = "".join(c if c.isascii() and (c.isalnum() or c == "_") else "_" for c in name.lower())
        attributes[f"_gandb_{key}"] = value
    own = own_record(item)
    if says_more(own):
        attributes[f"_{KEY}"] = own
    return {"id": item.name, "type": "structures", "attributes": attributes}
