"""What a comparison finds of what is the same by construction, and makes of what is not.

Agreement with pymatgen's ``StructureMatcher`` is one thing, recall another: pairs of a real crystal
and a variant of it are the same, or different, or neither, by the way they were made, whatever any
program says. ``python -m tests.benchmarks.recall [BASES]`` prints the table of docs/matching.md.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gandb.core.crystals import Crystal
from gandb.identity.cells import Cells
from gandb.identity.matching import fit_pairs
from gandb.identity.recipes import MatchRecipe
from gandb.identity.reduction import reduce_crystal
from tests.variants import DIFFERENT, SAME, VARIANTS, VARIED, Cell, variants

SEED = 20_261_122
MOST_SITES = 100
REACH = 6.0
"""Å, up to which distances tell crystals apart."""
APART = 0.25
"""Å, by which every site may move, and two crystals that are told apart still differ."""


@dataclass
class Recall:
    """Pairs of one kind of variant.

    Attributes:
        kind: of variant.
        truth: ``same``, ``different``, or empty where the way of making does not say.
        pairs: how many.
        agree: on how many both verdicts, of either direction, are pymatgen's.
        order: of the others, those on which pymatgen says the same as gandb once it is given the
            sites in the order of gandb's record.
        found: pairs that match here, in one direction or the other.
        theirs: pairs that match in pymatgen, in one direction or the other.
    """

    kind: str
    truth: str
    pairs: int = 0
    agree: int = 0
    order: int = 0
    found: int = 0
    theirs: int = 0


def measure(bases: Sequence[Crystal], seed: int = SEED) -> list[Recall]:
    """Compare every crystal with its variants, here and in pymatgen, both from the records.

    Of swaps of sites only those count that provably made another crystal, see `told_apart`.
    """
    from pymatgen.analysis.structure_matcher import StructureMatcher

    recipe, matcher = MatchRecipe(), StructureMatcher()
    rows = {kind: Recall(kind, _truth(kind)) for kind in VARIANTS}
    rng = np.random.default_rng(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for base in bases:
            own = Cell.of(base)
            made = [
                (kind, cell)
                for kind, cell in variants(base, rng, max_sites=MOST_SITES)
                if kind not in DIFFERENT or told_apart(own, cell)
            ]
            cells = Cells.of([reduce_crystal(c.crystal()) for c in (own, *(v for _, v in made))])
            pairs = np.array([(0, place) for place in range(1, len(made) + 1)]).reshape(-1, 2)
            forward = fit_pairs(cells, pairs, recipe)
            backward = fit_pairs(cells, pairs[:, ::-1], recipe)
            for (kind, cell), *verdicts in zip(made, forward, backward, strict=True):
                ours = tuple(map(bool, verdicts))
                theirs = _fits(matcher, own, cell)
                row = rows[kind]
                row.pairs += 1
                row.agree += ours == theirs
                if ours != theirs:
                    row.order += ours == _fits(matcher, own.crystal(), cell.crystal())
                row.found += any(ours)
                row.theirs += any(theirs)
    return [row for row in rows.values() if row.pairs]


def told_apart(one: Cell, other: Cell) -> bool:
    """Prove that two crystals differ, and still do however far sites move, up to `APART` each.

    Per site, how many pairs of two species lie closer than a radius is the same for every way to
    write a crystal down. If sites move, no distance changes by more than twice as much; so pairs
    that are closer than a radius in the one are closer than that and this much in the other.
    Crystals that are not told apart may differ all the same.
    """
    first, second = _neighbours(one), _neighbours(other)
    radii = np.arange(1.0, REACH, 0.125)
    for kinds in first.keys() | second.keys():
        mine, others = (np.sort(found.get(kinds, [])) for found in (first, second))
        for few, many in (((mine, one), (others, other)), ((others, other), (mine, one))):
            inner = np.searchsorted(few[0], radii) / len(few[1])
            outer = np.searchsorted(many[0], radii + 2 * APART) / len(many[1])
            if (inner > outer + 1e-9).any():
                return True
    return False


def table(rows: Iterable[Recall]) -> str:
    """Write the rows as Markdown."""
    lines = [
        "| variant | pairs | other verdict than pymatgen's | match | in pymatgen |",
        "|---|---:|---:|---:|---:|",
    ]
    headings = {"same": "the same by construction (match = recall)",
                "different": "different by construction (match = false positive)",
                "": "neither by construction"}  # fmt: skip
    rows = list(rows)
    for truth, heading in headings.items():
        lines.append(f"| *{heading}* | | | | |")
        for row in rows:
            if row.truth == truth:
                shares = (f"{100 * part / row.pairs:.2f} %" for part in (row.found, row.theirs))
                unlike = f"{row.pairs - row.agree:,}"
                lines.append(f"| {row.kind} | {row.pairs:,} | {unlike} | {' | '.join(shares)} |")
    total, equal, order = (
        sum(getattr(row, name) for row in rows) for name in ("pairs", "agree", "order")
    )
    return "\n".join(
        [
            *lines,
            f"| all | {total:,} | {total - equal:,} | | |",
            "",
            f"Of these {total - equal:,} pairs, {order:,} get gandb's verdict from pymatgen once "
            "their sites come in the order of gandb's records.",
        ]
    )


def _truth(kind: str) -> str:
    if kind in SAME | VARIED:
        return "same"
    return "different" if kind in DIFFERENT else ""


def _neighbours(cell: Cell) -> dict[tuple[str, str], list[float]]:
    """Return the distances between sites by what sits on them, Å."""
    centres, others, _, distances = _structure(cell).get_neighbor_list(REACH + 2 * APART)
    found: dict[tuple[str, str], list[float]] = {}
    for one, other, distance in zip(
        centres.tolist(), others.tolist(), distances.tolist(), strict=True
    ):
        found.setdefault((cell.species[one], cell.species[other]), []).append(distance)
    return found


def _fits(matcher: Any, one: Cell | Crystal, other: Cell | Crystal) -> tuple[bool, bool]:
    """Return pymatgen's verdicts in both directions."""
    first, second = _structure(one), _structure(other)
    return matcher.fit(first, second), matcher.fit(second, first)


def _structure(cell: Cell | Crystal) -> Any:
    from pymatgen.core import Structure

    return Structure(cell.lattice, list(cell.species), cell.frac_coords)


def main(arguments: list[str]) -> None:
    """Print the table for so many crystals of the shared data."""
    from tests.benchmarks.bench_identity import real

    wanted = int(arguments[0]) if arguments else 600
    small = [c for c in real() if c.ordered and len(c) <= 30]
    bases = small[:: max(1, len(small) // wanted)][:wanted]
    print(f"{len(bases)} crystals of up to 30 sites, variants of up to {MOST_SITES}; seed {SEED}\n")
    print(table(measure(bases)))


if __name__ == "__main__":
    main(sys.argv[1:])
