"""Structures out of a store as files that other programs read: CIF and POSCAR.

Both hold eight decimals and more, so that what is read back has the same id.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from uuid import UUID

from gandb.core.crystals import Crystal
from gandb.core.errors import QueryError, StoreError, UsageError
from gandb.query.readonly import run
from gandb.query.result import ReadableStore
from gandb.schema.tables import structure
from gandb.store import Store
from gandb.tasks.structures import crystals

_COLUMN = "structure_id"
_STAMP = (1980, 1, 1, 0, 0, 0)  # equal content is an equal archive
_AT_A_TIME = 500


def cif_text(crystal: Crystal, name: str) -> str:
    """Write a structure as a CIF in P1, disorder and oxidation states included."""
    a, b, c = crystal.lengths
    alpha, beta, gamma = crystal.angles
    kinds: dict[str, float | None] = {}
    rows = []
    for place, (site, (x, y, z)) in enumerate(
        zip(crystal.occupants, crystal.frac_coords, strict=True), 1
    ):
        for occupant in site:
            kind = str(occupant)
            kinds[kind] = occupant.oxidation_state
            label = f"{occupant.symbol}{place}"
            share = f"{occupant.occupancy:.8f}".rstrip("0").rstrip(".")
            rows.append(f"  {kind} {label} {x:.8f} {y:.8f} {z:.8f} {share}")
    amounts = " ".join(f"{s}{n:.8g}" for s, n in sorted(crystal.amounts.items()))
    states = ""
    if any(state is not None for state in kinds.values()):
        shown = ((k, "?" if s is None else f"{s:.8g}") for k, s in sorted(kinds.items()))
        states = "".join(f"  {kind} {state}\n" for kind, state in shown)
    return (
        f"data_{name}\n"
        "_symmetry_space_group_name_H-M   'P 1'\n_symmetry_Int_Tables_number   1\n"
        f"_cell_length_a   {a:.8f}\n_cell_length_b   {b:.8f}\n_cell_length_c   {c:.8f}\n"
        f"_cell_angle_alpha   {alpha:.8f}\n_cell_angle_beta   {beta:.8f}\n"
        f"_cell_angle_gamma   {gamma:.8f}\n_cell_volume   {crystal.volume:.8f}\n"
        f"_chemical_formula_sum   '{amounts}'\n"
        "loop_\n  _symmetry_equiv_pos_site_id\n  _symmetry_equiv_pos_as_xyz\n  1 'x, y, z'\n"
        + (f"loop_\n  _atom_type_symbol\n  _atom_type_oxidation_number\n{states}" if states else "")
        + "loop_\n  _atom_site_type_symbol\n  _atom_site_label\n  _atom_site_fract_x\n"
        "  _atom_site_fract_y\n  _atom_site_fract_z\n  _atom_site_occupancy\n"
        + "\n".join(rows)
        + "\n"
    )


def poscar_text(crystal: Crystal, name: str) -> str:
    """Write a structure as a VASP 5 POSCAR.

    Raises:
        UsageError: it is disordered, which a POSCAR cannot say.
    """
    if not crystal.ordered:
        raise UsageError(f"structure {name} is disordered: a POSCAR has no occupancies; use cif")
    symbols = [site[0].element for site in crystal.occupants]
    kinds = list(dict.fromkeys(symbols))
    order = sorted(range(len(symbols)), key=lambda i: kinds.index(symbols[i]))
    lattice = "\n".join(" ".join(f"{v:.16f}" for v in row) for row in crystal.lattice)
    coords = "\n".join(" ".join(f"{v:.16f}" for v in crystal.frac_coords[i]) for i in order)
    counts = " ".join(str(symbols.count(kind)) for kind in kinds)
    return f"{name}\n1.0\n{lattice}\n{' '.join(kinds)}\n{counts}\nDirect\n{coords}\n"


def json_text(crystal: Crystal, name: str) -> str:
    """Write a structure as pymatgen's JSON."""
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
        "properties": {"gandb_structure_id": name, **given},
    }
    return json.dumps(document) + "\n"


WRITERS: Mapping[str, tuple[str, Callable[[Crystal, str], str]]] = {
    "cif": (".cif", cif_text),
    "poscar": (".vasp", poscar_text),
    "json": (".json", json_text),
}
"""Formats: the ending of file names, and what writes the text."""


def export_structures(
    store: Store, reader: ReadableStore, statement: str, target: Path, form: str
) -> int:
    """Write the structures that a query selects, one file each, named by their ids.

    Args:
        store: where they are.
        reader: the same store, for the query.
        statement: SQL with a column ``structure_id``; rows without one are passed over.
        target: a new folder, or a zip file by its ending.
        form: key of `WRITERS`.

    Returns:
        how many were written.

    Raises:
        QueryError: it has no such column.
        StoreError: the target exists or cannot be written.
        UsageError: a structure cannot be written in this format.
    """
    if target.exists():
        raise StoreError(f"{target} exists; name a new folder or zip file")
    with run(reader, statement) as result:
        if _COLUMN not in result.schema.names:
            raise QueryError(
                f"the query has no column {_COLUMN}: select it from entries, generated or "
                "structures"
            )
        ids = [i for b in result.batches for i in b.column(_COLUMN).to_pylist() if i is not None]
    wanted = sorted({UUID(i) for i in ids})
    ending, write = WRITERS[form]
    files = ((f"{own}{ending}", write(found, str(own))) for own, found in _load(store, wanted))
    part = target.with_name(f".{target.name}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.suffix.lower() == ".zip":
            with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as archive:
                for name, text in files:
                    archive.writestr(zipfile.ZipInfo(name, _STAMP), text)
        else:
            part.mkdir()
            for name, text in files:
                (part / name).write_text(text, "utf-8")
        part.rename(target)
    except OSError as error:
        raise StoreError(f"cannot write {target}: {error.strerror}") from error
    finally:
        _remove(part)
    return len(wanted)


def _load(store: Store, ids: list[UUID]) -> Iterator[tuple[UUID, Crystal]]:
    with store.read() as connection:
        for start in range(0, len(ids), _AT_A_TIME):
            chosen = ids[start : start + _AT_A_TIME]
            yield from crystals(connection, structure.c.id.in_(chosen))


def _remove(part: Path) -> None:
    if part.is_dir():
        for path in part.iterdir():
            path.unlink()
        part.rmdir()
    else:
        part.unlink(missing_ok=True)
