"""Extract the Wyckoff positions of the 230 space groups from moyo, which does not list them.

    python tests/tools/extract_wyckoff.py gandb/representations/wyckoff_positions.csv

moyo names the position of every site that it is shown, and of all sites that the normaliser of the
group puts in its place. So it is shown a crystal of each group for every special position, with two
sites in general position that let the group be no other. Where to look is derived from the
operations: points that several of them fix, as many kinds as there are. It takes two minutes.
"""

from __future__ import annotations

import csv
import io
import itertools
import sys
from collections.abc import Iterator
from pathlib import Path

import moyopy
import numpy as np

from gandb.core.crystals import lattice_matrix
from gandb.representations.space_groups import cell_constraints

GENERAL = ((0.1234, 0.0871, 0.2139), (0.0517, 0.1911, 0.1173))
LENGTHS, ANGLES = (20.4, 25.48, 31.72), (81.0, 97.0, 103.0)
PAIRS = 1_500
SHIFTS = tuple(itertools.product((-1, 0, 1), repeat=3))
FIELDS = ("space_group_number", "letter", "multiplicity", "site_symmetry", "coordinates")


def operations(number: int) -> tuple[np.ndarray, np.ndarray]:
    """Return rotations (m, 3, 3) and translations (m, 3), as moyo states them."""
    found = moyopy.operations_from_number(number, setting=moyopy.Setting.spglib())
    return np.array(found.rotations, float), np.array(found.translations)


def fixing(
    rotations: np.ndarray, translations: np.ndarray, point: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the operations that leave a point where it is, with their translations for that."""
    moved = rotations @ point + translations - point
    kept = np.abs(moved - np.rint(moved)).max(axis=1) < 1e-7
    return rotations[kept], (translations - np.rint(moved))[kept]


def special(
    rotations: np.ndarray, translations: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield each kind of point once: projection (3, 3) and offset (3,) of what is fixed with it."""
    one, rng = np.eye(3), np.random.default_rng(0)
    found: dict[tuple[int, ...], tuple[np.ndarray, np.ndarray]] = {}

    def add(equations: np.ndarray, right: np.ndarray) -> None:
        point = np.linalg.lstsq(equations, right, rcond=None)[0]
        if np.abs(equations @ point - right).max() > 1e-9:
            return
        sizes, vectors = np.linalg.svd(equations)[1:]
        free = vectors[int((sizes > 1e-9).sum()) :]
        point = point + np.array([0.1377, 0.2719, 0.0913])[: len(free)] @ free
        turns, shifts = fixing(rotations, translations, point)
        projection, offset = turns.mean(axis=0), shifts.mean(axis=0)
        offset = offset - (one - projection) @ np.floor(offset + 1e-6)
        key = (*np.rint(projection * 24).astype(int).ravel(), *np.rint(offset * 48).astype(int))
        found.setdefault(tuple(map(int, key)), (projection, offset))

    for turn, shift in zip(rotations, translations, strict=True):
        for step in SHIFTS:
            add(turn - one, -(shift + np.array(step)))
    single = list(found.values())
    pairs = list(itertools.combinations(range(len(single)), 2))
    if len(pairs) > PAIRS:
        pairs = [pairs[k] for k in rng.choice(len(pairs), PAIRS, replace=False)]
    for i, j in pairs:
        (p, s), (q, t) = single[i], single[j]
        add(np.vstack([one - p, one - q]), np.concatenate([s, t]))
    kept: list[tuple[int, np.ndarray, np.ndarray]] = []
    for projection, offset in sorted(found.values(), key=lambda item: float(np.trace(item[0]))):
        point = projection @ np.array([0.1377, 0.2719, 0.3313]) + offset
        size = len(fixing(rotations, translations, point)[0])
        images = rotations @ point + translations
        if not any(size == n and lies_on(images, p, t) for n, p, t in kept):
            kept.append((size, projection, offset))
            yield projection, offset


def lies_on(points: np.ndarray, projection: np.ndarray, offset: np.ndarray) -> bool:
    """Say whether one of some points, or of what repeats them, is left by a projection as it is."""
    across = np.eye(3) - projection
    gaps = points @ across.T - offset
    steps = np.array(SHIFTS) @ across.T
    return bool((np.abs(gaps[:, None] + steps).max(axis=2) < 1e-6).any())


def positions(number: int) -> dict[str, tuple[int, str, str]]:
    """Return multiplicity, site symmetry and coordinates of every position, by letter.

    Raises:
        ValueError: moyo finds another group in a crystal made for this one.
    """
    rotations, translations = operations(number)
    average, angles = cell_constraints(number)
    lattice = lattice_matrix(average @ LENGTHS, np.where(np.isnan(angles), ANGLES, angles))
    found = {}
    for projection, offset in special(rotations, translations):
        sites, kinds = [], []
        probe = projection @ np.array([0.1377, 0.2719, 0.3313]) + offset
        for kind, point in enumerate((*GENERAL, probe), 1):
            images = np.mod(rotations @ np.array(point) + translations, 1.0)
            steps = images[:, None] - images[None]
            near = np.abs(steps - np.rint(steps)).max(axis=2) < 1e-6
            first = near.argmax(axis=1) == np.arange(len(images))
            sites += images[first].tolist()
            kinds += [kind] * int(first.sum())
        data = moyopy.MoyoDataset(
            moyopy.Cell(lattice.tolist(), sites, kinds),
            symprec=1e-4,
            setting=moyopy.Setting.spglib(),
        )
        if data.number != number:
            raise ValueError(f"a crystal made for group {number} has group {data.number}")
        named = data.normalizer_wyckoff_positions()
        for _, listed in [(None, named.wyckoffs), *named.coset_representatives]:
            for position in listed:
                found[position.letter] = (
                    position.multiplicity,
                    position.site_symmetry,
                    position.coordinates,
                )
    return found


def table(numbers: range) -> str:
    """Return the table of some groups, letters from ``a`` on."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(FIELDS)
    for number in numbers:
        found = positions(number)
        for letter in sorted(found, key=lambda x: (x == "A", x)):
            writer.writerow((number, letter, *found[letter]))
    return out.getvalue()


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(table(range(1, 231)))
