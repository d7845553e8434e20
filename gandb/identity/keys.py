"""Keys: what is worked out once per structure, to find those that may be the same.

Two structures can match under `gandb.identity.recipes.MatchRecipe` only if their compositions agree
and their reduced cells have equally many sites: comparisons stay within such a block. Average
minimum distances order them there, nearest first. Labels name symmetry and prototype for questions
and grades; no comparison hangs on them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gandb.core.crystals import Crystal
from gandb.identity.amd import AMD_K, normalised_amd
from gandb.identity.labels import prototype_label, symmetry_label
from gandb.identity.reduction import reduce_crystal

AMD_DECIMALS = 4
_VERSION = "1"


@dataclass(frozen=True, eq=False)
class StructureKey:
    """The keys of a structure.

    Attributes:
        n_reduced: sites in the reduced cell.
        volume_per_site: of the reduced cell, Å³.
        symmetry_label: space group and site symmetries by element; None if there is no space group.
        prototype_label: the same with elements as A, B ...
        amd: float64 (AMD_K,), average minimum distances for 1 Å³ per site, rounded to 1e-4.
        cell: the reduced cell, as `gandb.identity.cells.Reduced.to_bytes` writes it.
    """

    n_reduced: int
    volume_per_site: float
    symmetry_label: str | None
    prototype_label: str | None
    amd: np.ndarray
    cell: bytes


def structure_key(
    crystal: Crystal,
    space_group_number: int | None = None,
    site_symmetries: Sequence[str] | None = None,
) -> StructureKey:
    """Work out the keys of a crystal.

    Args:
        crystal: the record.
        space_group_number: 1 to 230, if it is known.
        site_symmetries: (n,) symbol of each site, as in `gandb.validation.symmetry.Symmetry`.

    Raises:
        InputError: the cell cannot be reduced.
    """
    reduced = reduce_crystal(crystal)
    labels: tuple[str | None, str | None] = (None, None)
    if space_group_number and site_symmetries:
        facts = (space_group_number, crystal.species, site_symmetries)
        labels = (symmetry_label(*facts), prototype_label(*facts))
    return StructureKey(
        n_reduced=len(reduced),
        volume_per_site=reduced.volume / len(reduced),
        symmetry_label=labels[0],
        prototype_label=labels[1],
        amd=np.round(normalised_amd(reduced.lattice, reduced.frac_coords), AMD_DECIMALS),
        cell=reduced.to_bytes(),
    )


def key_parameters() -> dict[str, Any]:
    """Return what decides the keys, for their recipe."""
    return {
        "version": _VERSION,
        "reduced_cell": "primitive, Niggli, as pymatgen's StructureMatcher",
        "primitive_tolerance_angstrom": 0.25,
        "amd_k": AMD_K,
        "amd_decimals": AMD_DECIMALS,
        "labels": "site symmetries under the standard symmetry recipe",
    }
