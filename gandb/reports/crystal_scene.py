"""What is seen of a crystal: the atoms of one cell, their bonds, and the edges, in projection.

The cell is shown whole: a site on a face, an edge or a corner stands at all its places there,
within `ON_FACE`. Of a cell that is thin in some directions a few are shown beside each other. Two
atoms that are shown are bonded if they are no farther apart than `BOND_REACH` times the sum of
their covalent radii; where there are metals and others, not between two metals, as these have room
for many neighbours. Atoms of other cells are not shown, so neither are bonds to them.

The projection is along parallel lines, so that parallel edges stay parallel. The axis c points up;
a points at the viewer, turned a little aside and seen a little from above, so that rows of atoms do
not hide behind each other.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np

from gandb.core.crystals import Crystal, CrystalError
from gandb.core.elements import ATOMIC_NUMBERS
from gandb.core.radii import COVALENT_RADIUS
from gandb.representations.standard_cells import SymmetryError, standard_cell

ON_FACE = 0.1
"""How near to a face of the cell, Å, an atom lies on it."""
BOND_REACH = 1.13
"""Longest bond, over the sum of the covalent radii of its atoms."""
SPHERE = 0.42
"""Radius of a sphere over the covalent radius of its element."""
MOST_ATOMS = 2_000
"""Atoms that a picture can show."""
AZIMUTH, ELEVATION = 18.0, 10.0
"""Where the viewer stands, degrees: aside of the axis a, and above the plane of a and b."""

NON_METALS = frozenset("H He B C N O F Ne Si P S Cl Ar Ge As Se Br Kr Te I Xe At Rn".split())
_UNKNOWN_RADIUS = 1.6  # Å, where there is no covalent radius
_LEAST_SHARE, _MOST_CELLS, _MOST_REPEATED = 0.4, 4, 120  # of the longest edge; cells; atoms
_LEAST_DISTANCE = 0.05  # Å; nearer atoms are at one place


@dataclass(frozen=True, eq=False)
class CrystalPicture:
    """What to draw, and what to write beside it.

    Attributes:
        crystal: as it is recorded.
        title: its formula, as a rule.
        lines: more text under the title.
    """

    crystal: Crystal
    title: str
    lines: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Atoms:
    """The m atoms that are shown; those on outer faces at all their places.

    Attributes:
        places: float64 (m, 3), Å: to the right, up, and towards the viewer.
        radii: float64 (m,), of the spheres, Å.
        sites: int64 (m,), which site of the crystal each is.
        shares: of each, symbols of elements with their shares of the site.
    """

    places: np.ndarray
    radii: np.ndarray
    sites: np.ndarray
    shares: tuple[tuple[tuple[str, float], ...], ...]


@dataclass(frozen=True, eq=False)
class Scene:
    """One cell, or a few of them, as they are seen.

    Attributes:
        repeats: cells along a, b and c.
        atoms: what stands in them.
        bonds: int64 (b, 2), pairs of atoms.
        edges: float64 (12, 2, 3), ends of the edges of one cell; the first three run along a, b
            and c.
        outline: float64 (12, 2, 3), likewise of all that is shown.
        hidden: bool (12,), edges behind the others.
        elements: symbols of what is shown, in the order of sites.
    """

    repeats: tuple[int, int, int]
    atoms: Atoms
    bonds: np.ndarray
    edges: np.ndarray
    outline: np.ndarray
    hidden: np.ndarray
    elements: tuple[str, ...]


def conventional(crystal: Crystal) -> Crystal | None:
    """Return a crystal in the conventional cell of its space group; None if none was found.

    Raises:
        MissingExtraError: moyopy is not installed.
    """
    try:
        return standard_cell(crystal).crystal()
    except (SymmetryError, CrystalError):
        return None


def enough_cells(crystal: Crystal) -> tuple[int, int, int]:
    """Return how many cells beside each other make a picture that is not too thin."""
    wanted = np.ceil(_LEAST_SHARE * crystal.lengths.max() / crystal.lengths - 1e-9)
    a, b, c = np.minimum(wanted, _MOST_CELLS).astype(int).tolist()
    return (a, b, c) if a * b * c * len(crystal) <= _MOST_REPEATED else (1, 1, 1)


def scene(
    crystal: Crystal,
    repeats: tuple[int, int, int] = (1, 1, 1),
    azimuth: float = AZIMUTH,
    elevation: float = ELEVATION,
) -> Scene:
    """Place a cell before the viewer.

    Args:
        crystal: the cell that is shown, as it is.
        repeats: how many of it beside each other, along a, b and c.
        azimuth: degrees that the viewer stands aside of the axis a.
        elevation: degrees above the plane that c stands upright on.

    Raises:
        CrystalError: it has too many atoms for a picture.
    """
    frac, sites = whole_cell(crystal, repeats)
    if len(sites) > MOST_ATOMS:
        raise CrystalError(f"{len(sites):,} atoms in a cell; a picture shows {MOST_ATOMS:,}")
    turn = view(crystal.lattice, azimuth, elevation)
    block = np.diag(repeats) @ crystal.lattice
    middle = np.full(3, 0.5) @ block
    placed = (frac @ crystal.lattice - middle) @ turn.T
    shares = [_shares(crystal, site) for site in range(len(crystal))]
    covalent = np.array([sum(_radius(e) * s for e, s in own) for own in shares])
    metallic = np.array([not any(e in NON_METALS for e, _ in own) for own in shares])
    atoms = Atoms(
        placed,
        SPHERE * covalent[sites],
        sites,
        tuple(_with_vacancy(shares[site], crystal, site) for site in sites.tolist()),
    )
    bonds = find_bonds(placed, covalent[sites], metallic[sites])
    unit = _cell_edges()
    edges = (unit @ crystal.lattice - middle) @ turn.T
    outline = (unit @ block - middle) @ turn.T
    farthest = edges[:, :, 2].min()
    hidden = (np.abs(edges[:, :, 2] - farthest) < 1e-9).any(axis=1)
    elements = dict.fromkeys(e for own in shares for e, _ in own)
    return Scene(repeats, atoms, bonds, edges, outline, hidden, tuple(elements))


def whole_cell(
    crystal: Crystal, repeats: tuple[int, int, int] = (1, 1, 1)
) -> tuple[np.ndarray, np.ndarray]:
    """Return the atoms of cells with those on outer faces at every equivalent place.

    Returns:
        Fractional coordinates, float64 (m, 3), from about 0 to about the number of cells, and the
        site of each, int64 (m,).
    """
    heights = 1.0 / np.sqrt((np.linalg.inv(crystal.lattice) ** 2).sum(axis=0))
    near = np.minimum(ON_FACE / heights, 0.25)
    frac = np.mod(crystal.frac_coords, 1.0)
    frac = np.where(frac > 1.0 - near, frac - 1.0, frac)
    shown, sites = [], []
    for step in itertools.product(*(range(n + 1) for n in repeats)):
        outside = np.array(step) == repeats
        rows = np.flatnonzero((frac[:, outside] < near[outside]).all(axis=1))
        shown.append(frac[rows] + step)
        sites.append(rows)
    return np.concatenate(shown), np.concatenate(sites)


def view(lattice: np.ndarray, azimuth: float, elevation: float) -> np.ndarray:
    """Return the rotation whose rows point to the right, up and towards the viewer."""
    upright = lattice[2] / np.linalg.norm(lattice[2])
    ahead = lattice[0] - (lattice[0] @ upright) * upright
    ahead /= np.linalg.norm(ahead)
    right = np.cross(upright, ahead)
    aside, above = math.radians(azimuth), math.radians(elevation)
    level = math.cos(aside) * ahead + math.sin(aside) * right
    toward = math.cos(above) * level + math.sin(above) * upright
    rightward = np.cross(upright, level)
    return np.stack([rightward, np.cross(toward, rightward), toward])


def find_bonds(places: np.ndarray, covalent: np.ndarray, metallic: np.ndarray) -> np.ndarray:
    """Return the pairs of atoms that are bonded, int64 (b, 2), the smaller number first.

    Args:
        places: float64 (m, 3), Å.
        covalent: float64 (m,), covalent radii, Å.
        metallic: bool (m,), no atom there but of metals.
    """
    gaps = np.sqrt(((places[:, None] - places[None]) ** 2).sum(axis=2))
    reach = BOND_REACH * (covalent[:, None] + covalent[None])
    bonded = (gaps <= reach) & (gaps > _LEAST_DISTANCE)
    if not metallic.all():
        bonded &= ~(metallic[:, None] & metallic[None])
    first, second = np.nonzero(np.triu(bonded, 1))
    return np.stack([first, second], axis=1)


def _shares(crystal: Crystal, site: int) -> tuple[tuple[str, float], ...]:
    """Return elements and their shares of what there is on a site; they add up to 1."""
    found: dict[str, float] = {}
    for occupant in crystal.occupants[site]:
        found[occupant.element] = found.get(occupant.element, 0.0) + occupant.occupancy
    total = sum(found.values())
    return tuple((element, share / total) for element, share in found.items())


def _with_vacancy(
    shares: tuple[tuple[str, float], ...], crystal: Crystal, site: int
) -> tuple[tuple[str, float], ...]:
    """Return shares of a site; what is missing from 1 is empty."""
    filled = min(1.0, sum(occupant.occupancy for occupant in crystal.occupants[site]))
    return tuple((element, share * filled) for element, share in shares)


def _radius(element: str) -> float:
    radius = float(COVALENT_RADIUS[ATOMIC_NUMBERS[element]])
    return radius if math.isfinite(radius) else _UNKNOWN_RADIUS


def _cell_edges() -> np.ndarray:
    """Return the ends of a cell's edges in fractional coordinates, (12, 2, 3); from 0 first."""
    corners = np.array(list(itertools.product((0.0, 1.0), repeat=3)))
    found = [
        (start, start + step) for start in corners for step in np.eye(3) if start @ step == 0.0
    ]
    found.sort(key=lambda pair: float(pair[0].sum()))  # stable: along a, b, c
    return np.array(found)
