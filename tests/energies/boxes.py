"""Small crystals away from rest: known structure types with their atoms and cells shaken."""

from __future__ import annotations

import numpy as np

from gandb.core.crystals import Crystal, crystal

_TYPES = (
    (("Na", "Cl"), ((0, 0, 0), (0.5, 0.5, 0.5)), 3.6),
    (("Cs", "I"), ((0, 0, 0), (0.5, 0.5, 0.5)), 4.4),
    (("Sr", "Ti", "O", "O", "O"),
     ((0, 0, 0), (0.5, 0.5, 0.5), (0.5, 0.5, 0), (0.5, 0, 0.5), (0, 0.5, 0.5)), 4.1),
    (("Zn", "S", "Zn", "S"),
     ((0, 0, 0), (0.25, 0.25, 0.25), (0.5, 0.5, 0), (0.75, 0.75, 0.25)), 4.9),
    (("Fe", "Fe", "O", "O", "O"),
     ((0, 0, 0), (0.5, 0.5, 0.4), (0.5, 0, 0), (0, 0.5, 0.1), (0.6, 0.4, 0.8)), 4.3),
)  # fmt: skip


def shaken(n: int, seed: int = 0) -> list[Crystal]:
    """Return n different crystals of 2 to 5 atoms."""
    rng = np.random.default_rng(seed)
    found = []
    for i in range(n):
        species, places, edge = _TYPES[i % len(_TYPES)]
        lengths = edge * (1 + rng.uniform(-0.08, 0.08, 3))
        angles = 90 + rng.uniform(-6, 6, 3)
        coords = np.array(places) + rng.normal(0, 0.02, (len(species), 3))
        found.append(crystal(lengths, angles, species, coords))
    return found


def poscar(record: Crystal) -> str:
    """Write a crystal as POSCAR with all its digits."""
    rows = ["shaken", "1.0"]
    rows += [" ".join(f"{x:.12f}" for x in row) for row in record.lattice]
    names = sorted(set(record.species))
    rows += [" ".join(names), " ".join(str(record.species.count(n)) for n in names), "Direct"]
    for name in names:
        for species, place in zip(record.species, record.frac_coords, strict=True):
            if species == name:
                rows.append(" ".join(f"{x:.8f}" for x in place))
    return "\n".join(rows) + "\n"
