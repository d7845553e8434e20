"""What pymatgen's StructureMatcher says of reduced cells, to compare with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from pymatgen.core import Composition, Element, Species, Structure
from pymatgen.core.structure_matcher import ElementComparator, StructureMatcher

from gandb.core.species import Occupant, parse_species, species_text
from gandb.identity.cells import Reduced
from gandb.identity.recipes import MatchRecipe


class Matcher(StructureMatcher):
    """A StructureMatcher that takes what it is given as reduced."""

    @classmethod
    def _get_reduced_structure(cls, struct: Any, *_: Any, **__: Any) -> Structure:
        return Structure.from_sites(struct)

    def rms(self, one: Structure, two: Structure) -> tuple[float, float]:
        found = self.get_rms_dist(one, two)
        return (np.nan, np.nan) if found is None else found


def matcher(recipe: MatchRecipe) -> Matcher:
    return Matcher(
        ltol=recipe.ltol,
        stol=recipe.stol,
        angle_tol=recipe.angle_tol,
        primitive_cell=recipe.primitive_cell,
        scale=recipe.scale,
        comparator=ElementComparator() if recipe.comparator == "element" else None,
    )


def structure_of(cell: Reduced) -> Structure:
    found = []
    for text in cell.species:
        parts: dict[Element | Species, float] = {}
        for occupant in parse_species(text):
            state = occupant.oxidation_state
            what = Element(occupant.symbol) if state is None else Species(occupant.symbol, state)
            parts[what] = occupant.occupancy
        found.append(Composition(parts))
    return Structure(cell.lattice, found, cell.frac_coords)


def reduced_of(structure: Structure) -> Reduced:
    species = [
        species_text(
            Occupant(what.symbol, share, getattr(what, "oxi_state", None))
            for what, share in site.species.items()
        )
        for site in structure
    ]
    return Reduced(structure.lattice.matrix.copy(), structure.frac_coords.copy(), tuple(species))


def reduced_there(structure: Structure, primitive: bool = True) -> Reduced:
    """Reduce by pymatgen's own steps."""
    return reduced_of(StructureMatcher._get_reduced_structure(structure, primitive))


def fits(
    cells: Sequence[Reduced], pairs: np.ndarray, recipe: MatchRecipe, anonymous: bool = False
) -> np.ndarray:
    """Return pymatgen's verdicts on pairs."""
    found, ask = [structure_of(cell) for cell in cells], matcher(recipe)
    fit = ask.fit_anonymous if anonymous else ask.fit
    return np.array([fit(found[i], found[j]) for i, j in pairs.tolist()], bool)


def measures(cells: Sequence[Reduced], pairs: np.ndarray, recipe: MatchRecipe) -> np.ndarray:
    """Return pymatgen's root mean squares and largest distances, (k, 2)."""
    found, ask = [structure_of(cell) for cell in cells], matcher(recipe)
    return np.array([ask.rms(found[i], found[j]) for i, j in pairs.tolist()]).reshape(-1, 2)
