"""Space groups, Wyckoff letters and site symmetries of crystals, by moyo.

moyo (K. Shinohara, https://github.com/spglib/moyo) follows the algorithm of A. Togo, K. Shinohara
and I. Tanaka, Sci. Technol. Adv. Mater. Meth. 4, 2384822 (2024), doi:10.1080/27660400.2024.2384822.
Settings are the first of each space group in the list of S. R. Hall's symbols, as in spglib: origin
choice 1, hexagonal axes for rhombohedral groups.

Two sites are alike if the whole text of their species is: elements, isotopes, oxidation states and
occupancies. So Fe2+ and Fe3+ differ, as do ``Fe:0.5 Ni:0.5`` and ``Fe:0.4 Ni:0.6``. Magnetic
moments and other site properties do not count.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gandb.core.crystals import Crystal
from gandb.representations.standard_cells import (
    SYMPREC,
    THINNEST,
    SymmetryError,
    find_dataset,
    load_moyopy,
)

if TYPE_CHECKING:
    from moyopy import MoyoDataset

__all__ = [
    "SYMPREC",
    "THINNEST",
    "Symmetry",
    "SymmetryError",
    "find_symmetry",
    "symmetry_recipe_parameters",
]


@dataclass(frozen=True)
class Symmetry:
    """Symmetry of a crystal of n sites.

    Attributes:
        space_group_number: 1 to 230, as in the International Tables for Crystallography, Vol. A.
        space_group_symbol: short Hermann-Mauguin symbol, such as ``Fm-3m`` or ``P2_1/c``.
        hall_number: 1 to 530, of the setting that Wyckoff letters and site symmetries refer to.
        crystal_system: ``triclinic`` ... ``cubic``.
        point_group: such as ``m-3m``.
        pearson_symbol: such as ``cF8``; sites count, however they are occupied.
        wyckoff_letters: (n,) of each site; ``A`` follows ``z``. Equal crystals in other cells may
            get others, up to the group's normaliser (a and b of rock salt); site symmetries stay.
        site_symmetries: (n,) oriented symbols, such as ``m-3m`` or ``.m.``.
        orbits: (n,) index of the first site that is equivalent to each.
        n_primitive: sites in a primitive cell.
        symprec: the tolerance, Å, at which this was found. Where that asked for leads to no
            group, the search takes smaller ones; so this may be a part of the symmetry only.
    """

    space_group_number: int
    space_group_symbol: str
    hall_number: int
    crystal_system: str
    point_group: str
    pearson_symbol: str
    wyckoff_letters: tuple[str, ...]
    site_symmetries: tuple[str, ...]
    orbits: tuple[int, ...]
    n_primitive: int
    symprec: float


def find_symmetry(
    crystal: Crystal, symprec: float = SYMPREC, angle_tolerance: float | None = None
) -> Symmetry:
    """Find the symmetry of a crystal.

    The search holds the interpreter's lock; several at once take several processes.

    Args:
        crystal: the record.
        symprec: how far, Å, an operation may miss a site or lattice vector; at most a
            twentieth of the height of the cell, or of a primitive one.
        angle_tolerance: how far, degrees, it may turn angles of the lattice; None judges them by
            ``symprec``.

    Raises:
        SymmetryError: no space group fits within these tolerances, or only P1 within smaller ones.
        MissingExtraError: moyopy is not installed.
    """
    found = find_dataset(crystal, symprec, angle_tolerance)
    return _symmetry(load_moyopy(), found)


def symmetry_recipe_parameters(
    symprec: float = SYMPREC, angle_tolerance: float | None = None
) -> dict[str, Any]:
    """Return what decides the result, for the recipe of a check: program, version, tolerances.

    Raises:
        MissingExtraError: moyopy is not installed.
    """
    return {
        "program": "moyopy",
        "version": load_moyopy().__version__,
        "setting": "spglib",
        "symprec_angstrom": symprec,
        "angle_tolerance_degrees": angle_tolerance,
        "sites_alike": "species with oxidation state and occupancy",
    }


def _symmetry(moyopy: Any, found: MoyoDataset) -> Symmetry:
    group = moyopy.SpaceGroupType(found.number)
    return Symmetry(
        space_group_number=found.number,
        space_group_symbol=group.hm_short.replace(" ", ""),
        hall_number=found.hall_number,
        crystal_system=group.crystal_system.lower(),
        point_group=group.geometric_crystal_class,
        pearson_symbol=found.pearson_symbol,
        wyckoff_letters=tuple(found.wyckoffs),
        site_symmetries=tuple(found.site_symmetry_symbols),
        orbits=tuple(found.orbits),
        n_primitive=found.prim_std_cell.num_atoms,
        symprec=found.symprec,
    )
