"""Records as OPTIMADE resources: what is in the answer, worked out from rows.

The structure of an answer makes the very record again: `gandb.sources.optimade` reads lattice,
sites and species back, with oxidation states, charge and site properties from gandb's own fields.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from gandb.core.crystals import Crystal
from gandb.core.formula import parse_formula
from gandb.core.species import parse_species
from gandb.schema.tables import published
from gandb.sharing.serving.packed import COLUMNS, unpack, unpack_row
from gandb.sharing.serving.properties import PREFIX, STRUCTURES, Origin, Property
from gandb.sharing.serving.publishing import Publication
from gandb.sharing.serving.queries import (
    NOVELTY,
    Rows,
    material_of,
    novelty_of,
    structure_records,
    times_of,
)
from gandb.sharing.serving.sessions import Session
from gandb.sharing.serving.timestamps import timestamp_text
from gandb.tasks.structures import crystal_of_row

_HYDROGEN = {"H": 1.008, "D": 2.014, "T": 3.016}
"""Masses of isotopes, u."""
_FULL = 1.0
_RECORD = frozenset(
    {
        "lattice_vectors",
        "cartesian_site_positions",
        "species_at_sites",
        "species",
        f"{PREFIX}charge",
        f"{PREFIX}site_properties",
    }
)
"""Properties for which the structure itself is read."""
_DERIVED = frozenset({"elements", "elements_ratios"})
"""Lists that the reduced formula says too, and sooner."""


def crystal_attributes(crystal: Crystal) -> dict[str, Any]:
    """Return the attributes that make up a structure, from which its record can be made again."""
    names = list(dict.fromkeys(crystal.species))
    return {
        "lattice_vectors": crystal.lattice.tolist(),
        "cartesian_site_positions": crystal.cart_coords.tolist(),
        "species_at_sites": list(crystal.species),
        "species": [_species(name) for name in names],
        f"{PREFIX}charge": crystal.charge,
        f"{PREFIX}site_properties": {k: list(v) for k, v in crystal.properties.items()} or None,
    }


def _species(name: str) -> dict[str, Any]:
    """Return what sits on a site; what is left of it is a vacancy."""
    occupants = parse_species(name)
    symbols = [o.element for o in occupants]
    shares = [o.occupancy for o in occupants]
    rest = round(_FULL - sum(shares), 8)
    empty = ["vacancy"] if rest > 0 else []
    found: dict[str, Any] = {
        "name": name,
        "chemical_symbols": symbols + empty,
        "concentration": shares + [rest for _ in empty],
    }
    if any(o.symbol != o.element for o in occupants):
        found[f"{PREFIX}symbols"] = [o.symbol for o in occupants] + empty
        if set(symbols) == {"H"}:
            found["mass"] = [_HYDROGEN[o.symbol] for o in occupants] + [0.0 for _ in empty]
    if any(o.oxidation_state is not None for o in occupants):
        states = [o.oxidation_state for o in occupants]
        found[f"{PREFIX}oxidation_states"] = states + [None for _ in empty]
    return found


@dataclass(frozen=True)
class _Gathered:
    """What is known of the entries of a page.

    Attributes:
        row: a published row.
        publications: names of all that it may be seen in.
        crystal: attributes of its structure.
        novelty: level, by id.
        material: by structure id.
        times: by id.
    """

    row: Mapping[Any, Any]
    publications: list[str]
    crystal: Mapping[str, Any]
    novelty: Mapping[UUID, int | None]
    material: Mapping[UUID, UUID]
    times: Mapping[UUID, int]
    sources: Mapping[str, Mapping[str, str]]
    kinds: Mapping[str, str]


def resources(
    session: Session,
    rows: Rows,
    publications: Sequence[Publication],
    ids: Sequence[UUID],
    wanted: Sequence[Property],
    base: str,
) -> list[dict[str, Any]]:
    """Return the resource objects of entries, in the order of their ids given.

    Args:
        session: where to read.
        rows: what may be seen.
        publications: those that may be.
        ids: of the entries; those that are not there are left out.
        wanted: which properties.
        base: URL under which the entry is found.
    """
    if not ids:
        return []
    names = {p.name for p in wanted}
    packed = session.kind == "duckdb"
    columns = [published.c.record] if packed else [published.c[name] for name in COLUMNS]
    found: dict[UUID, list[dict[str, Any]]] = {}
    for row in session.rows(rows.details(ids, columns)):
        more = unpack_row(row["record"]) if packed else {}
        found.setdefault(row["id"], []).append({**row, **more})
    structures = list({r[0]["structure_id"] for r in found.values()})
    crystals: dict[str, dict[str, Any]] = {}
    if packed and names & _RECORD:
        for several in found.values():
            own = several[0]
            crystals[str(own["structure_id"])] = crystal_attributes(unpack(own["record"]))
    elif names & _RECORD and structures:
        for record in session.rows(structure_records(structures)):
            crystals[str(record["id"])] = crystal_attributes(crystal_of_row(dict(record)))
    kinds = {p.name: p.kind for p in publications}
    made = list(found)

    def looked_up(name: str, query: Callable[[Any], Any], keys: Any) -> dict[Any, Any]:
        if PREFIX + name not in names or not keys:
            return {}
        return {r["id"]: r["value"] for r in session.rows(query(keys))}

    shared: dict[str, Any] = {
        "novelty": looked_up("novelty", novelty_of, made),
        "material": looked_up("material_id", material_of, structures),
        "times": looked_up("times_generated", times_of, made),
        "sources": {k: v for p in publications for k, v in p.sources.items()},
        "kinds": kinds,
    }
    answer = []
    for own_id in ids:
        if own_id not in found:
            continue
        several = found[own_id]
        seen = sorted(r["publication"] for r in several)
        one = min(several, key=lambda r: r["publication"])
        crystal = crystals.get(str(one["structure_id"]), {})
        answer.append(_resource(_Gathered(one, seen, crystal, **shared), wanted, base))
    return answer


def _resource(of: _Gathered, wanted: Sequence[Property], base: str) -> dict[str, Any]:
    own_id = str(of.row["id"])
    references = sorted(of.row["reference_ids"])
    found: dict[str, Any] = {
        "id": own_id,
        "type": STRUCTURES.name,
        "links": {"self": f"{base}/structures/{own_id}"},
        "attributes": {p.name: _value(of, p) for p in wanted if p.name not in ("id", "type")},
    }
    if references:
        data = [{"type": "references", "id": name} for name in references]
        found["relationships"] = {"references": {"data": data}}
    return found


def _value(of: _Gathered, wanted: Property) -> Any:
    if wanted.origin is Origin.NEVER:
        return None
    if wanted.origin is Origin.FIXED:
        return wanted.column
    if wanted.name in _DERIVED:
        counts = parse_formula(of.row["formula_reduced"])
        if wanted.name == "elements":
            return list(counts)
        return [n / sum(counts.values()) for n in counts.values()]
    if wanted.origin is Origin.ROW:
        value = of.row[wanted.column.name]
        if wanted.name == "last_modified":
            return timestamp_text(value)
        if isinstance(value, UUID):
            return str(value)
        return list(value) if isinstance(value, tuple) else value
    if wanted.name in _RECORD:
        return of.crystal.get(wanted.name)
    return _OTHER[wanted.name](of)


def _novelty(of: _Gathered) -> str | None:
    level = of.novelty.get(of.row["id"])
    return None if level is None else NOVELTY[level]


def _material(of: _Gathered) -> str | None:
    found = of.material.get(of.row["structure_id"])
    return None if found is None else str(found)


def _said(of: _Gathered, what: str) -> list[str]:
    ids = of.row["reference_ids"]
    return sorted({of.sources[i][what] for i in ids if i in of.sources})


_OTHER: dict[str, Callable[[_Gathered], Any]] = {
    "structure_features": lambda of: [] if of.row["ordered"] else ["disorder"],
    f"{PREFIX}kind": lambda of: of.kinds[of.publications[0]],
    f"{PREFIX}publications": lambda of: of.publications,
    f"{PREFIX}novelty": _novelty,
    f"{PREFIX}material_id": _material,
    f"{PREFIX}times_generated": lambda of: of.times.get(of.row["id"]),
    f"{PREFIX}licence": lambda of: _said(of, "licence"),
    f"{PREFIX}attribution": lambda of: _said(of, "note"),
}


def reference_resources(publications: Sequence[Publication], base: str) -> list[dict[str, Any]]:
    """Return the references of publications by id, with all that is known of them."""
    found: dict[str, dict[str, Any]] = {}
    for publication in sorted(publications, key=lambda p: p.created_at):
        for own_id, said in publication.sources.items():
            if own_id in found:
                continue
            own = {f"{PREFIX}{k}" if k in ("source", "licence") else k: v for k, v in said.items()}
            attributes = {
                "immutable_id": own_id,
                "last_modified": timestamp_text(publication.created_at),
                **own,
            }
            found[own_id] = {
                "id": own_id,
                "type": "references",
                "links": {"self": f"{base}/references/{own_id}"},
                "attributes": attributes,
            }
    return [found[k] for k in sorted(found)]
