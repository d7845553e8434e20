"""Variants of a crystal that a comparison has to see through, or must not: for tests and benches.

A `Cell` is a crystal as someone might write it down, with an orientation and an order of sites,
which `Crystal` drops. Each variant takes a cell, a random generator and a size, and returns a new
cell; `NotPossibleError` says that a crystal has no such variant. `VARIANTS` names ready-made ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from gandb.core.crystals import Crystal, CrystalError, crystal_of_matrix
from gandb.core.elements import SYMBOLS
from gandb.core.species import parse_species, species_text

_COMMON = "Li Na K Mg Ca Sr Ba Al Si Ti V Cr Mn Fe Co Ni Cu Zn Y Zr O F S Cl N P".split()


class NotPossibleError(ValueError):
    """A crystal has no variant of this kind."""


@dataclass(frozen=True, eq=False)
class Cell:
    """A crystal with an orientation and an order of sites.

    Attributes:
        lattice: float64 (3, 3), rows a, b, c, Å.
        frac_coords: float64 (n, 3).
        species: (n,) canonical texts.
    """

    lattice: np.ndarray
    frac_coords: np.ndarray
    species: tuple[str, ...]

    @staticmethod
    def of(record: Crystal) -> Cell:
        return Cell(record.lattice.copy(), np.array(record.frac_coords), record.species)

    def crystal(self) -> Crystal:
        return crystal_of_matrix(self.lattice, self.species, self.frac_coords)

    def __len__(self) -> int:
        return len(self.species)


# --- the same crystal, written otherwise ---------------------------------------------------


def hermite_matrices(det: int) -> list[np.ndarray]:
    """Return the matrices of all supercells of so many cells, upper triangles (3, 3)."""
    return [
        np.array([[a, b, c], [0, e, f], [0, 0, det // (a * e)]])
        for a in range(1, det + 1)
        if det % a == 0
        for e in range(1, det // a + 1)
        if det // a % e == 0
        for b in range(e)
        for c in range(det // (a * e))
        for f in range(det // (a * e))
    ]


def supercell_of(cell: Cell, matrix: np.ndarray) -> Cell:
    """Return the supercell whose rows are whole multiples of a, b and c; upper triangle (3, 3)."""
    a, e, g = np.diag(matrix)
    shifts = np.array([(i, j, k) for i in range(a) for j in range(e) for k in range(g)], float)
    inside = cell.frac_coords[:, None, :] + shifts[None, :, :]
    return Cell(
        matrix @ cell.lattice,
        np.mod(inside.reshape(-1, 3) @ np.linalg.inv(matrix), 1.0),
        tuple(text for text in cell.species for _ in shifts),
    )


def diagonal_supercell(cell: Cell, rng: np.random.Generator, det: int = 2) -> Cell:
    """Return a supercell of so many cells along the axes."""
    straight = [m for m in hermite_matrices(det) if np.count_nonzero(m) == 3]
    return supercell_of(cell, straight[rng.integers(len(straight))])


def random_supercell(cell: Cell, rng: np.random.Generator, largest: int = 4) -> Cell:
    """Return a supercell of two to ``largest`` cells, of any shape."""
    shapes = hermite_matrices(int(rng.integers(2, largest + 1)))
    return supercell_of(cell, shapes[rng.integers(len(shapes))])


def reset(cell: Cell, rng: np.random.Generator, shears: int = 3) -> Cell:
    """Choose other vectors for the same lattice: a unimodular matrix of so many shears.

    The determinant stays +1, so a right-handed cell stays right-handed.
    """
    matrix = np.eye(3)[rng.permutation(3)]
    matrix[0] *= np.linalg.det(matrix)
    for _ in range(shears):
        i, j = rng.choice(3, 2, replace=False)
        matrix[i] += rng.choice([-2, -1, 1, 2]) * matrix[j]
    return Cell(matrix @ cell.lattice, cell.frac_coords @ np.linalg.inv(matrix), cell.species)


def rotated(cell: Cell, rng: np.random.Generator) -> Cell:
    """Turn the lattice by a random rotation."""
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    return replace(cell, lattice=cell.lattice @ turn * np.linalg.det(turn))


def shifted(cell: Cell, rng: np.random.Generator) -> Cell:
    """Move the origin."""
    return replace(cell, frac_coords=np.mod(cell.frac_coords + rng.random(3), 1.0))


def permuted(cell: Cell, rng: np.random.Generator) -> Cell:
    """List the sites in another order."""
    order = rng.permutation(len(cell))
    return Cell(cell.lattice, cell.frac_coords[order], tuple(cell.species[i] for i in order))


def moved(cell: Cell, rng: np.random.Generator) -> Cell:
    """Rotate, shift the origin, permute the sites."""
    return permuted(shifted(rotated(cell, rng), rng), rng)


def enantiomorph(cell: Cell, rng: np.random.Generator) -> Cell:
    """Return the mirror image (by inversion; the generator is not used)."""
    return replace(cell, frac_coords=np.mod(-cell.frac_coords, 1.0))


# --- another crystal, near or far ----------------------------------------------------------


def noisy(cell: Cell, rng: np.random.Generator, size: float = 0.05) -> Cell:
    """Move every Cartesian coordinate by a normal deviate of ``size`` Å."""
    steps = rng.normal(scale=size, size=(len(cell), 3))
    coords = cell.frac_coords + steps @ np.linalg.inv(cell.lattice)
    return replace(cell, frac_coords=np.mod(coords, 1.0))


def scaled(cell: Cell, rng: np.random.Generator, size: float = 0.03) -> Cell:
    """Change the volume by this fraction, up or down, in the same shape."""
    factor = 1.0 + rng.choice([-size, size])
    return replace(cell, lattice=cell.lattice * factor ** (1 / 3))


def strained(cell: Cell, rng: np.random.Generator, size: float = 0.02) -> Cell:
    """Strain the lattice: each component a normal deviate of this size."""
    return replace(cell, lattice=cell.lattice @ (np.eye(3) + rng.normal(scale=size, size=(3, 3))))


def one_moved(cell: Cell, rng: np.random.Generator, size: float = 0.2) -> Cell:
    """Move one site by ``size`` Å in a random direction."""
    step = rng.normal(size=3)
    step *= size / np.linalg.norm(step)
    coords = cell.frac_coords.copy()
    coords[rng.integers(len(cell))] += step @ np.linalg.inv(cell.lattice)
    return replace(cell, frac_coords=np.mod(coords, 1.0))


def wyckoff_moved(cell: Cell, rng: np.random.Generator, size: float = 0.2) -> Cell:
    """Change the free parameters of sites at random: the symmetry stays, one site moves ``size`` Å.

    A random field of displacements is averaged over the operations of the space group.
    """
    import moyopy

    kinds = {text: kind for kind, text in enumerate(dict.fromkeys(cell.species))}
    numbers = np.array([kinds[text] for text in cell.species])
    data = moyopy.Cell(cell.lattice.tolist(), cell.frac_coords.tolist(), numbers.tolist())
    operations = moyopy.MoyoDataset(data, symprec=1e-2).operations
    steps = rng.normal(size=(len(cell), 3)) @ np.linalg.inv(cell.lattice)
    total = np.zeros_like(steps)
    for rotation, translation in zip(operations.rotations, operations.translations, strict=True):
        turn = np.array(rotation)
        images = cell.frac_coords @ turn.T + np.array(translation)
        gaps = images[:, None] - cell.frac_coords[None]
        gaps = np.linalg.norm((gaps - np.rint(gaps)) @ cell.lattice, axis=2)
        gaps[numbers[:, None] != numbers[None]] = np.inf
        total[gaps.argmin(axis=1)] += steps @ turn.T
    total -= total.mean(axis=0)  # the origin of polar groups is free
    longest = np.linalg.norm(total @ cell.lattice, axis=1).max() / len(operations.rotations)
    if longest < 1e-3:
        raise NotPossibleError("its sites have no free parameters")
    steps = total * size / longest / len(operations.rotations)
    return replace(cell, frac_coords=np.mod(cell.frac_coords + steps, 1.0))


def antisite(cell: Cell, rng: np.random.Generator) -> Cell:
    """Exchange what sits on two sites of different species."""
    texts = list(cell.species)
    i = int(rng.integers(len(texts)))
    others = [j for j, text in enumerate(texts) if text != texts[i]]
    if not others:
        raise NotPossibleError("all sites hold the same")
    j = int(rng.choice(others))
    texts[i], texts[j] = texts[j], texts[i]
    return replace(cell, species=tuple(texts))


def element_swapped(cell: Cell, rng: np.random.Generator) -> Cell:
    """Replace one element everywhere by one that is not there; oxidation states stay."""
    present = sorted({o.symbol for text in cell.species for o in parse_species(text)})
    absent = [symbol for symbol in _COMMON if symbol not in present]
    old, new = str(rng.choice(present)), str(rng.choice(absent or sorted({*SYMBOLS} - {*present})))
    return replace(cell, species=tuple(_with(text, old, new) for text in cell.species))


def _with(text: str, old: str, new: str) -> str:
    return species_text(
        replace(o, symbol=new) if o.symbol == old else o for o in parse_species(text)
    )


# --- all of them ---------------------------------------------------------------------------

Variant = Callable[[Cell, np.random.Generator], Cell]

VARIANTS: dict[str, Variant] = {
    "diagonal supercell": diagonal_supercell,
    "random supercell": random_supercell,
    "unimodular": reset,
    "moved": moved,
    "unimodular, moved": lambda cell, rng: moved(reset(cell, rng), rng),
    "supercell, unimodular, moved": lambda cell, rng: moved(
        reset(random_supercell(cell, rng), rng), rng
    ),
    "enantiomorph": enantiomorph,
    "enantiomorph, moved": lambda cell, rng: moved(enantiomorph(cell, rng), rng),
    "noise 0.01": lambda cell, rng: noisy(cell, rng, 0.01),
    "noise 0.05": lambda cell, rng: noisy(cell, rng, 0.05),
    "noise 0.1": lambda cell, rng: noisy(cell, rng, 0.1),
    "volume 3 %": scaled,
    "strain 1 %": lambda cell, rng: strained(cell, rng, 0.01),
    "one site 0.2": lambda cell, rng: one_moved(cell, rng, 0.2),
    "one site 1.0": lambda cell, rng: one_moved(cell, rng, 1.0),
    "antisite": antisite,
    "element": element_swapped,
    "supercell, noise 0.01": lambda cell, rng: moved(
        noisy(random_supercell(cell, rng), rng, 0.01), rng
    ),
    "supercell, noise 0.05": lambda cell, rng: moved(
        noisy(random_supercell(cell, rng), rng, 0.05), rng
    ),
    "supercell, noise 0.1": lambda cell, rng: moved(
        noisy(random_supercell(cell, rng), rng, 0.1), rng
    ),
    "supercell, antisite": lambda cell, rng: moved(antisite(random_supercell(cell, rng), rng), rng),
    "Wyckoff parameters 0.2": wyckoff_moved,
}
"""Variants by name, of the sizes that the measurements use."""

SAME = frozenset(
    {
        "diagonal supercell",
        "random supercell",
        "unimodular",
        "moved",
        "unimodular, moved",
        "supercell, unimodular, moved",
    }
)
"""Those that are the same crystal exactly."""

VARIED = frozenset(
    {"enantiomorph", "enantiomorph, moved", "volume 3 %", "strain 1 %"}
    | {f"{first}noise {size}" for first in ("", "supercell, ") for size in (0.01, 0.05, 0.1)}
)
"""Those that everyone would call the same: mirrored, or slightly moved."""

DIFFERENT = frozenset({"antisite", "supercell, antisite", "element"})
"""Those that are other crystals, unless a swap of sites happens to be one of their symmetries."""


def variants(
    record: Crystal,
    rng: np.random.Generator,
    names: Iterable[str] = tuple(VARIANTS),
    *,
    max_sites: int = 100,
) -> Iterator[tuple[str, Cell]]:
    """Yield the named variants of a crystal that it has and that are valid crystals."""
    cell = Cell.of(record)
    for name in names:
        try:
            found = VARIANTS[name](cell, rng)
            if len(found) > max_sites or len(found.crystal()) != len(found):
                continue
        except (NotPossibleError, CrystalError):
            continue
        yield name, found
