"""What networks are told of the elements: numbers by atomic number, each scaled to [0, 1].

Places in the periodic table follow from the order in which shells fill; groups are those of IUPAC
(https://iupac.org/what-we-do/periodic-table-of-elements), with all of the f block in group 3, as
in pymatgen. Masses, radii and electronegativities are those of `gandb.core`. An element without a
radius or an electronegativity has the mean of the others. Oxidation states are left out: networks
learn a vector per element beside these numbers, and what a check judges by is not for a generator.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from gandb.core.elements import ELECTRONEGATIVITY, MAX_Z
from gandb.core.masses import ATOMIC_MASS
from gandb.core.radii import ATOMIC_RADIUS, COVALENT_RADIUS

_NOBLE = (0, 2, 10, 18, 36, 54, 86, 118)


def _places() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return period, group and block (0 to 3 for s, p, d, f) of every element, int64 (119,)."""
    period, group, block = (np.zeros(MAX_Z + 1, np.int64) for _ in range(3))
    for row, (before, last) in enumerate(pairwise(_NOBLE), 1):
        for z in range(before + 1, last + 1):
            from_end = last - z
            period[z] = row
            if z - before <= 2:
                group[z], block[z] = z - before, 0
            elif from_end <= 5:
                group[z], block[z] = 18 - from_end, 1
            elif from_end <= 15:
                group[z], block[z] = 18 - from_end, 2
            else:
                group[z], block[z] = 3, 3
    group[2] = 18
    return period, group, block


PERIOD, GROUP, BLOCK = _places()
"""Period, group and block (0 to 3 for s, p, d, f) by atomic number, int64 (119,); 0 at 0."""

F_BLOCK: np.ndarray = np.zeros(MAX_Z + 1, bool)
"""Lanthanoids and actinoids, lanthanum to lutetium and actinium to lawrencium, bool (119,)."""
F_BLOCK[57:72] = True
F_BLOCK[89:104] = True


def _scaled(values: np.ndarray) -> np.ndarray:
    known = values[1:][np.isfinite(values[1:])]
    filled = np.where(np.isfinite(values), values, known.mean())
    found: np.ndarray = np.clip((filled - known.min()) / (known.max() - known.min()), 0.0, 1.0)
    return found


def _table() -> tuple[tuple[str, ...], np.ndarray]:
    columns: dict[str, np.ndarray] = {
        "atomic_number": np.arange(MAX_Z + 1),
        "mass": ATOMIC_MASS,
        "period": PERIOD,
        "group": GROUP,
        "electronegativity": ELECTRONEGATIVITY,
        "covalent_radius": COVALENT_RADIUS,
        "atomic_radius": ATOMIC_RADIUS,
        "covalent_volume": COVALENT_RADIUS**3,
    }
    found = {name: _scaled(values.astype(np.float64)) for name, values in columns.items()}
    classes = {
        "alkali_metal": (GROUP == 1) & (PERIOD > 1),
        "alkaline_earth_metal": (GROUP == 2),
        "transition_metal": (BLOCK == 2),
        "f_block": F_BLOCK,
        "p_block": (BLOCK == 1),
        "chalcogen": (GROUP == 16),
        "halogen": (GROUP == 17),
        "noble_gas": (GROUP == 18),
    }
    found |= {name: values.astype(np.float64) for name, values in classes.items()}
    table = np.stack(list(found.values()), axis=1).astype(np.float32)
    table[0] = 0.0
    table.setflags(write=False)
    return tuple(found), table


NAMES, FEATURES = _table()
"""Names of the features, and their values, float32 (119, n_features); zeros at 0."""
