"""The nursery with the kernels of identity at hand, and chunks so small that jobs have several."""

from __future__ import annotations

import numpy as np

from gandb.cli import identity as commands  # noqa: F401 - loads what commands load
from gandb.identity.cells import Cells
from gandb.identity.keys import structure_key
from gandb.identity.matching import fit_pairs, measure_pairs
from gandb.tasks import identity, keys
from tests.crowds import BASES
from tests.tasks import nursery


def main() -> None:
    """Load what is compiled, and serve."""
    found = [structure_key(base.crystal()) for base in BASES[:3]]
    cells = Cells.from_bytes([key.cell for key in found], "element")
    pairs = np.array([[0, 1], [0, 0]])
    fit_pairs(cells, pairs, identity.STANDARD)
    measure_pairs(cells, pairs, identity.STANDARD)
    keys.CHUNK = 40
    identity.CHUNK = 30
    nursery.main()


if __name__ == "__main__":
    main()
