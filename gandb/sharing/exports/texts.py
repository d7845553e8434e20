"""Structures as text that other programs read: CIF, POSCAR, pymatgen's JSON, extended XYZ.

Where a format has no place for all that a record says, it keeps the rest as one object that gandb
reads back, see `gandb.sources.own_records`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from gandb.core.crystals import Crystal
from gandb.core.errors import UsageError
from gandb.sharing.exports.rows import Item
from gandb.sources.own_records import FORMAT, KEY, MAX_OWN

_PLAIN = re.compile(r"[A-Za-z0-9_.+-]+\Z")
_COMMENT_KEYS = frozenset({"lattice", "properties", "pbc", "species", "pos", "forces", "magmoms"})
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


class CannotHoldError(UsageError):
    """A format has no place for what a structure has."""


def own_record(item: Item, *, sites: bool = True, species: bool = True) -> dict[str, Any]:
    """Return what an export says beyond its format.

    Args:
        item: what is written.
        sites: the format has no place for site properties and the charge.
        species: nor for oxidation states and isotopes.

    Raises:
        CannotHoldError: it would be too much.
    """
    crystal = item.crystal
    own: dict[str, Any] = {"format": FORMAT, "structure_id": item.structure_id}
    plain = all(
        o.symbol == o.element and o.oxidation_state is None
        for site in crystal.occupants
        for o in site
    )
    if species and not plain:
        own["species"] = list(crystal.species)
    if sites and crystal.properties:
        own["properties"] = {k: list(v) for k, v in crystal.properties.items()}
    if sites and crystal.charge is not None:
        own["charge"] = crystal.charge
    if item.entry is not None:
        names = ("external_id", "formula", "properties", "extra", "aliases")
        own["entry"] = {k: item.entry[k] for k in names if item.entry[k]}
    if len(json.dumps(own)) > MAX_OWN:
        raise CannotHoldError(
            f"what is said of its sites and its entry has over {MAX_OWN:,} letters"
        )
    return own


def says_more(own: Mapping[str, Any]) -> bool:
    """Whether it says anything that a format and a name do not."""
    return bool(own.keys() - {"format", "structure_id"})


# --- CIF ---------------------------------------------------------------------------------


def cif_text(crystal: Crystal, name: str, own: Mapping[str, Any] | None = None) -> str:
    """Write a structure as a CIF in P1, disorder and oxidation states included.

    Args:
        crystal: the structure.
        name: of the block.
        own: further, of `own_record`; values per site are given again for each that shares one.
    """
    a, b, c = crystal.lengths
    alpha, beta, gamma = crystal.angles
    kinds: dict[str, float | None] = {}
    rows = []
    shared = []
    for place, (site, (x, y, z)) in enumerate(
        zip(crystal.occupants, crystal.frac_coords, strict=True), 1
    ):
        for occupant in site:
            kind = str(occupant)
            kinds[kind] = occupant.oxidation_state
            label = f"{occupant.symbol}{place}"
            share = f"{occupant.occupancy:.8f}".rstrip("0").rstrip(".")
            rows.append(f"  {kind} {label} {x:.8f} {y:.8f} {z:.8f} {share}")
            shared.append(place - 1)
    amounts = " ".join(f"{s}{n:.8g}" for s, n in sorted(crystal.amounts.items()))
    states = ""
    if any(state is not None for state in kinds.values()):
        shown = ((k, "?" if s is None else f"{s:.8g}") for k, s in sorted(kinds.items()))
        states = "".join(f"  {kind} {state}\n" for kind, state in shown)
    said = ""
    if own is not None and says_more(own):
        own = dict(own)
        if "properties" in own:
            own["properties"] = {
                k: [values[i] for i in shared] for k, values in own["properties"].items()
            }
        said = f"_{KEY}\n;\n{_lines(own)}\n;\n"
    return (
        f"data_{name}\n"
        "_symmetry_space_group_name_H-M   'P 1'\n_symmetry_Int_Tables_number   1\n"
        f"_cell_length_a   {a:.8f}\n_cell_length_b   {b:.8f}\n_cell_length_c   {c:.8f}\n"
        f"_cell_angle_alpha   {alpha:.8f}\n_cell_angle_beta   {beta:.8f}\n"
        f"_cell_angle_gamma   {gamma:.8f}\n_cell_volume   {crystal.volume:.8f}\n"
        f"_chemical_formula_sum   '{amounts}'\n{said}"
        "loop_\n  _symmetry_equiv_pos_site_id\n  _symmetry_equiv_pos_as_xyz\n  1 'x, y, z'\n"
        + (f"loop_\n  _atom_type_symbol\n  _atom_type_oxidation_number\n{states}" if states else "")
        + "loop_\n  _atom_site_type_symbol\n  _atom_site_label\n  _atom_site_fract_x\n"
        "  _atom_site_fract_y\n  _atom_site_fract_z\n  _atom_site_occupancy\n"
        + "\n".join(rows)
        + "\n"
    )


def _lines(own: Mapping[str, Any]) -> str:
    """Write JSON on short lines, without what simple readers take for a comment or a quote."""
    text = json.dumps(own, indent=0, separators=(",", ":"), sort_keys=True)
    return text.replace("#", "\\u0023").replace("'", "\\u0027")


# --- POSCAR ------------------------------------------------------------------------------


def poscar_text(crystal: Crystal, name: str) -> str:
    """Write a structure as a VASP 5 POSCAR.

    Raises:
        CannotHoldError: it is disordered, which a POSCAR cannot say.
    """
    if not crystal.ordered:
        raise CannotHoldError(
            f"structure {name} is disordered: a POSCAR has no occupancies; use cif"
        )
    symbols = [site[0].element for site in crystal.occupants]
    kinds = list(dict.fromkeys(symbols))
    order = sorted(range(len(symbols)), key=lambda i: kinds.index(symbols[i]))
    lattice = "\n".join(" ".join(f"{v:.16f}" for v in row) for row in crystal.lattice)
    coords = "\n".join(" ".join(f"{v:.16f}" for v in crystal.frac_coords[i]) for i in order)
    counts = " ".join(str(symbols.count(kind)) for kind in kinds)
    return f"{name}\n1.0\n{lattice}\n{' '.join(kinds)}\n{counts}\nDirect\n{coords}\n"


def poscar_lacks(crystal: Crystal) -> str | None:
    """Return what of a structure a POSCAR has no place for, None if it holds all."""
    if not crystal.ordered:
        return "it is disordered"
    if any(site[0].oxidation_state is not None for site in crystal.occupants):
        return "it has oxidation states"
    if any(site[0].symbol != site[0].element for site in crystal.occupants):
        return "it has isotopes"
    if crystal.properties:
        return "it has site properties"
    return "it has a charge" if crystal.charge is not None else None


# --- pymatgen ----------------------------------------------------------------------------


def json_text(crystal: Crystal, name: str, more: Mapping[str, Any] | None = None) -> str:
    """Write a structure as pymatgen's JSON, on one line.

    Args:
        crystal: the structure.
        name: its id.
        more: further properties of the structure as a whole.
    """
    sites = []
    for place, (site, coords) in enumerate(
        zip(crystal.occupants, crystal.frac_coords, strict=True)
    ):
        species: list[dict[str, Any]] = []
        for occupant in site:
            one: dict[str, Any] = {"element": occupant.symbol, "occu": occupant.occupancy}
            if occupant.oxidation_state is not None:
                one["oxidation_state"] = occupant.oxidation_state
            species.append(one)
        own = {key: values[place] for key, values in crystal.properties.items()}
        sites.append({"species": species, "abc": coords.tolist(), "properties": own})
    a, b, c = crystal.lengths.tolist()
    alpha, beta, gamma = crystal.angles.tolist()
    cell = {"a": a, "b": b, "c": c, "alpha": alpha, "beta": beta, "gamma": gamma}
    given = {} if crystal.charge is None else {"charge": crystal.charge}
    document = {
        "@module": "pymatgen.core.structure",
        "@class": "Structure",
        "charge": crystal.charge or 0,
        "lattice": {"matrix": crystal.lattice.tolist(), **cell, "volume": crystal.volume},
        "sites": sites,
        "properties": {"gandb_structure_id": name, **(more or {}), **given},
    }
    return json.dumps(document) + "\n"


def json_of(item: Item) -> str:
    """Write an item as pymatgen's JSON: what the query selects are properties of the structure."""
    own = own_record(item, sites=False, species=False)
    more = {k: v for k, v in item.values.items() if k != "charge"}
    return json_text(
        item.crystal, item.structure_id, {**more, KEY: own} if says_more(own) else more
    )


# --- extended XYZ ------------------------------------------------------------------------


def xyz_lacks(crystal: Crystal) -> str | None:
    """Return what of a structure neither ASE's atoms nor gandb's object can say, None if all."""
    return None if crystal.ordered else "it is disordered"


def xyz_text(item: Item) -> str:
    """Write a frame of extended XYZ: what the query selects is in the comment.

    Raises:
        CannotHoldError: it is disordered, or says too much of its sites.
    """
    crystal = item.crystal
    if (lacks := xyz_lacks(crystal)) is not None:
        raise CannotHoldError(lacks)
    columns, described = _columns(crystal)
    lattice = " ".join(_real(v) for v in crystal.lattice.ravel().tolist())
    comment = [f'Lattice="{lattice}"', f"Properties={described}"]
    comment += [f"structure_id={item.structure_id}"]
    for name, value in item.values.items():
        key = name if name.lower() not in _COMMENT_KEYS else f"gandb_{name}"
        comment.append(f"{_quoted(key)}={_value(value)}")
    own = own_record(item)
    if says_more(own):
        text = _quoted("_JSON " + json.dumps(own))
        if len(text) > MAX_OWN:
            raise CannotHoldError("what is said of it is too long for a comment line")
        comment.append(f"{KEY}={text}")
    comment.append('pbc="T T T"')
    rows = "\n".join(" ".join(row) for row in columns)
    return f"{len(crystal)}\n{' '.join(comment)}\n{rows}\n"


def _columns(crystal: Crystal) -> tuple[list[list[str]], str]:
    """Return the words of every line, and what they are; forces and moments where all have them."""
    symbols = [site[0].element for site in crystal.occupants]
    rows = [
        [symbol, *(_real(v) for v in place)]
        for symbol, place in zip(symbols, crystal.cart_coords.tolist(), strict=True)
    ]
    described = "species:S:1:pos:R:3"
    for name, called in (("forces", "forces"), ("magmom", "magmoms")):
        numbers = _numbers(crystal.properties.get(name))
        if numbers is None or (name == "forces" and numbers.shape[1] != 3):
            continue
        described += f":{called}:R:{numbers.shape[1]}"
        for row, values in zip(rows, numbers.tolist(), strict=True):
            row += [_real(v) for v in values]
    return rows, described


def _numbers(values: Any) -> np.ndarray | None:
    """Return values per site as (n, k), None where they are not all numbers, or not alike."""
    if not values:
        return None
    try:
        found = np.array(values, np.float64).reshape(len(values), -1)
    except (TypeError, ValueError):
        return None
    return found if np.isfinite(found).all() and found.shape[1] in (1, 3) else None


def _real(value: float) -> str:
    return repr(float(value))


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "T" if value else "F"
    if isinstance(value, int | float):
        return repr(value) if math.isfinite(value) else '"nan"'
    if isinstance(value, str):
        return _quoted(value)
    return _quoted("_JSON " + json.dumps(value))


def _quoted(text: str) -> str:
    if _PLAIN.match(text):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(c if c.isprintable() else f"\\\\u{ord(c):04x}" for c in escaped) + '"'
