"""CIF texts that tests write, and how what is read of them is held against pymatgen."""

from __future__ import annotations

import io
import math
import warnings
from typing import Any

import numpy as np
from pymatgen.core import Structure
from pymatgen.io.cif import CifParser

from gandb.core.crystals import Crystal
from gandb.core.species import parse_species
from gandb.sources.base import Reject
from gandb.sources.cif import CIF, decode_cif
from gandb.sources.records import Member, Record

CUBIC = "{0} {0} {0} 90 90 90"
CELL_TAGS = [f"_cell_length_{x}" for x in "abc"] + [
    f"_cell_angle_{x}" for x in ("alpha", "beta", "gamma")
]
PLAIN = "label type_symbol fract_x fract_y fract_z occupancy"
MAGNETIC = """loop_
_space_group_symop_magn_operation.id
_space_group_symop_magn_operation.xyz
1 x,y,z,+1
2 -x,-y,-z,+1
loop_
_space_group_symop_magn_centering.id
_space_group_symop_magn_centering.xyz
1 x,y,z,+1
2 x+1/2,y+1/2,z,-1
loop_
_atom_site_moment.label
_atom_site_moment.crystalaxis_x
_atom_site_moment.crystalaxis_y
_atom_site_moment.crystalaxis_z
Mn1 1.0(1) 2.0 3.0
"""


def cif(
    cell: str,
    atoms: str,
    stated: str = "",
    columns: str = "label fract_x fract_y fract_z",
    name: str = "test",
) -> str:
    """Write a CIF: cell parameters, other items, and one loop of atoms."""
    lines = [f"data_{name}"]
    lines += [f"{tag} {value}" for tag, value in zip(CELL_TAGS, cell.split(), strict=True)]
    lines += [stated, "loop_", *(f"_atom_site_{column}" for column in columns.split()), atoms]
    return "\n".join(lines) + "\n"


def decoded(text: str) -> Crystal:
    return decode_cif(text).crystal()


def records(text: str | bytes, name: str = "dir/x.cif") -> list[Record | Reject]:
    data = text.encode() if isinstance(text, str) else text
    return list(CIF.read(Member(name, len(data), lambda: io.BytesIO(data))))


def by_pymatgen(text: str) -> Structure:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        parser = CifParser.from_str(text, frac_tolerance=0)
        [structure] = parser.parse_structures(primitive=False)
    return structure


def shares(text: str) -> dict[str, float]:
    """What sits on a site, as pymatgen's dictionary says it."""
    return {str(o): round(o.occupancy, 6) for o in parse_species(text)}


def assert_same_sites(
    found: Crystal, species: list[Any], coords: np.ndarray, *, within: float = 2e-5
) -> None:
    """Hold sites against others in any order; ``within`` is in Å."""
    assert len(found) == len(species)
    apart = found.frac_coords[:, None] - coords[None]
    apart -= np.rint(apart)
    distances = np.linalg.norm(apart @ found.lattice, axis=2)
    nearest = distances.argmin(axis=1)
    assert sorted(nearest) == list(range(len(species)))
    assert distances.min(axis=1).max() < within
    for mine, other in enumerate(nearest):
        if isinstance(species[other], str):
            assert found.species[mine] == species[other]
        else:
            theirs = {str(s): round(n, 6) for s, n in species[other].items()}
            assert shares(found.species[mine]) == theirs


def assert_as_pymatgen(text: str, *, within: float = 2e-5) -> None:
    found, structure = decoded(text), by_pymatgen(text)
    assert np.abs(found.lengths - structure.lattice.abc).max() < 1e-6
    assert np.abs(found.angles - structure.lattice.angles).max() < 1e-6
    assert math.isclose(found.volume, structure.volume, rel_tol=1e-7)
    species = [site.species.as_dict() for site in structure]
    assert_same_sites(found, species, structure.frac_coords, within=within)
