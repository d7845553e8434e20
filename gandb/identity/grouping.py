"""Materials of one block: the connected components of its matches, with the evidence."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from gandb.core.errors import UsageError
from gandb.identity.balls import Balls, collapse
from gandb.identity.comparing import Asked, Comparison
from gandb.identity.evidence import (
    KINDS,
    METHODS,
    NOT_MADE,
    Components,
    Evidence,
    Grouped,
    Rows,
    among,
    distance,
    distinct,
)
from gandb.identity.sweeps import across, leading_columns, neighbours, products, within

__all__ = [
    "KINDS",
    "METHODS",
    "NOT_MADE",
    "Components",
    "Effort",
    "Evidence",
    "Grouped",
    "group_block",
    "group_small_blocks",
]

_CLIQUE, _CHAIN, _UNKNOWN = range(3)
_COMPARED, _BOUND, _BOTH = range(3)
_ROUNDS = 32
_EXPANDED = 1 << 18
_FIRST_STEP = 64


@dataclass(frozen=True)
class Effort:
    """How much is compared; the components never depend on it.

    Attributes:
        full: blocks, and components, of this many members are compared completely.
        tries: how many rounds of offering members to balls, and of comparing neighbours, may
            bring little.
        neighbours: members of a neighbourhood, whose pairs are compared first.
        worth: pairs of balls with fewer pairs of members are not bounded but compared.
        probes: pairs of unlike members compared in a component larger than ``full``.
        refuted: most rows kept of balls and members of large blocks that were found apart, those
            met first, which are alike; the rest are counted. Neighbours and what is in one
            component of up to ``full`` members are kept in any case.
        batch: most pairs in one question to the comparison.
    """

    full: int = 50
    tries: int = 100
    neighbours: int = 12
    worth: int = 16
    probes: int = 32
    refuted: int = 2_000_000
    batch: int = 4096


def group_block(
    comparison: Comparison,
    amd: np.ndarray,
    known: np.ndarray,
    effort: Effort = Effort(),
    progress: Callable[[int], None] | None = None,
) -> Grouped:
    """Find the connected components of a block, where an edge is a match in either direction.

    Small blocks are compared completely, in both directions. In large ones tight duplicates are
    collapsed into balls, neighbours are compared where they are not linked yet, and then each pair
    of balls in different components is settled: by a bound on both, else by comparing their
    centres, else by going through the smaller balls inside and in the end their members.

    No match is lost by that. Components are only ever merged on a match that was found. Let x and y
    be in different ones at the end, not both known. They were never linked, so the pair of their
    widest balls was not passed over. It was settled by `Comparison.apart`, which promises that x
    and y do not match; or the next smaller balls around x and y were taken up in the same way; or,
    at the last level, x and y were compared in both directions. So x and y do not match. Guesses
    (AMD, order, batches, tries) change only what is asked first and what is in a ball.

    Args:
        comparison: what answers on pairs of members.
        amd: float64 (n, k), the AMD of each, for a common volume per site.
        known: int64 (n,), a number for the component each was in before, -1 for new members. All
            pairs of known members must have been dealt with: no match joins two numbers.
        effort: how much is compared.
        progress: told the number of questions so far, after every batch; raising ends the work.

    Raises:
        UsageError: the arrays do not fit together.
    """
    amd = np.ascontiguousarray(amd, np.float64)
    known = np.asarray(known, np.int64)
    if amd.ndim != 2 or known.shape != (len(amd),):
        raise UsageError(f"AMD of shape {amd.shape} for members of shape {known.shape}")
    if not np.isfinite(amd).all():
        raise UsageError("some AMD are not finite")
    block = _Block(Asked(comparison, effort.batch, progress), amd, known, effort)
    total = block.new_pairs(np.array([len(amd)]), np.array([(known < 0).sum()]))[0]
    if total <= effort.full * (effort.full - 1) // 2:
        block.complete([np.arange(len(amd))])
    else:
        block.collapse()
        block.link_neighbours()
        block.settle_balls()
        members = block.members()
        block.complete([m for m in members if 1 < len(m) <= effort.full])
        block.probe([m for m in members if len(m) > effort.full])
    return block.result()


def group_small_blocks(
    comparison: Comparison,
    amd: np.ndarray,
    known: np.ndarray,
    blocks: Sequence[np.ndarray],
    effort: Effort = Effort(),
    progress: Callable[[int], None] | None = None,
) -> Grouped:
    """Compare many blocks completely, all at once; else as `group_block`.

    Args:
        comparison: what answers on pairs of all members.
        amd: float64 (n, k), of the members of all blocks.
        known: int64 (n,), of all; numbers differ between blocks.
        blocks: int64, the members of each block, ascending; together all, each once.
        effort: how much is compared at a time.
        progress: as in `group_block`.
    """
    together = _Block(Asked(comparison, effort.batch, progress), amd, known, effort)
    together.complete([block for block in blocks if len(block) > 1])
    return together.result()


class _Block:
    """A block while it is grouped."""

    def __init__(self, ask: Asked, amd: np.ndarray, known: np.ndarray, effort: Effort) -> None:
        self.ask, self.amd, self.known, self.effort = ask, amd, known, effort
        self.n = len(amd)
        self.new = known < 0
        self.label = np.arange(self.n)
        _, first, place = np.unique(known, return_index=True, return_inverse=True)
        self.label[~self.new] = first[place[~self.new]]
        self.components = len(distinct(self.label))
        self.earlier = self.label.copy()
        self.columns = leading_columns(amd)
        self.matched: list[np.ndarray] = []  # (m, 3) of code, forward, backward
        self.refuted: list[np.ndarray] = []  # codes, neither direction matches
        self.bounds: list[np.ndarray] = []  # codes
        self.room: int | None = None  # rows left for pairs that do not match; any number
        self.dropped = 0
        self.failed = np.empty(0, np.int64)
        self.failed_centres: set[int] = set()
        self.balls = Balls(np.arange(self.n)[None])

    # --- components ----------------------------------------------------------------------

    def apart_yet(self, pairs: np.ndarray) -> np.ndarray:
        """Keep the pairs whose members are in different components."""
        found: np.ndarray = pairs[self.label[pairs[:, 0]] != self.label[pairs[:, 1]]]
        return found

    def compare(self, pairs: np.ndarray) -> np.ndarray:
        """Compare pairs not compared before until a direction matches, and link; bool (k,)."""
        pairs = np.sort(pairs, axis=1)
        rows = np.empty((len(pairs), 3), np.int64)
        rows[:, 0] = self.codes(pairs)
        rows[:, 1] = self.ask.fit(pairs)
        rows[:, 2] = NOT_MADE
        other = rows[:, 1] == 0
        rows[other, 2] = self.ask.fit(pairs[other, ::-1])
        matches: np.ndarray = (rows[:, 1:] == 1).any(axis=1)
        self.matched.append(rows[matches])
        self._keep(self.refuted, rows[~matches, 0])
        self._merge(pairs[matches])
        return matches

    def _keep(self, those: list[np.ndarray], codes: np.ndarray) -> None:
        """Keep what is refuted as far as there is room."""
        if self.room is not None:
            self.dropped += max(len(codes) - self.room, 0)
            codes = codes[: self.room]
            self.room -= len(codes)
        those.append(codes)

    def rows(self) -> np.ndarray:
        """Return all compared pairs, (m, 3) of code, forward and backward, by code."""
        matched = np.concatenate([np.empty((0, 3), np.int64), *self.matched])
        refuted = np.concatenate([np.empty(0, np.int64), *self.refuted])
        rows = np.zeros((len(matched) + len(refuted), 3), np.int64)
        rows[: len(matched)], rows[len(matched) :, 0] = matched, refuted
        return rows[np.argsort(rows[:, 0])]

    def _merge(self, pairs: np.ndarray) -> None:
        """Give the members of each pair's components the smaller label."""
        labels = self.label[self.apart_yet(pairs)]
        if not len(labels):
            return
        parent: dict[int, int] = {}

        def find(label: int) -> int:
            while (up := parent.get(label, label)) != label:
                parent[label] = label = parent.get(up, up)
            return label

        for one, other in labels.tolist():
            low, high = sorted((find(one), find(other)))
            if low != high:
                parent[high] = low
                self.components -= 1
        table = np.arange(self.n)
        for label in parent:
            table[label] = find(label)
        self.label = table[self.label]

    def codes(self, pairs: np.ndarray) -> np.ndarray:
        """Number pairs (k, 2), by the smaller member, then the larger."""
        return np.asarray(pairs.min(axis=1) * self.n + pairs.max(axis=1))

    def members(self) -> list[np.ndarray]:
        """Return the members of each component, by its smallest."""
        order = np.argsort(self.label, kind="stable")
        return np.split(order, np.flatnonzero(np.diff(self.label[order])) + 1)

    def new_pairs(self, sizes: np.ndarray, new: np.ndarray) -> np.ndarray:
        """Count pairs with a new member, from the numbers of members and of new ones."""
        old = sizes - new
        return np.asarray((sizes * (sizes - 1) - old * (old - 1)) // 2)

    # --- large blocks --------------------------------------------------------------------

    def collapse(self) -> None:
        """Find the balls, new members and known ones apart, and link each to its centre.

        A ball of known members serves only to settle new ones against all of it; that is not worth
        it for few new ones.
        """
        ask, tries = self.ask, self.effort.tries
        rows = np.concatenate([self.columns, self.amd], axis=1).astype(np.float32)
        groups = [np.flatnonzero(self.new)]
        if len(groups[0]) > 2 * len(ask.reaches):
            old = np.flatnonzero(~self.new)
            old = old[np.argsort(self.label[old], kind="stable")]
            groups += np.split(old, np.flatnonzero(np.diff(self.label[old])) + 1)
        levels = []
        for level, reach in enumerate(ask.reaches):

            def join(pairs: np.ndarray, level: int = level) -> np.ndarray:
                near = ask.near(pairs, level)
                if level == 0:
                    fresh = near & self.new[pairs].all(axis=1)
                    near[fresh] = self.compare(pairs[fresh])
                return near

            centres = collapse(groups, rows, reach, join, tries)
            levels.append(centres)
            order = np.argsort(centres, kind="stable")
            groups = np.split(order, np.flatnonzero(np.diff(centres[order])) + 1)
        self.balls = Balls(np.stack([*levels, np.arange(self.n)]))

    def link_neighbours(self) -> None:
        """Compare what lies closest by AMD and is not linked, the nearest of each component."""
        found = [np.empty(0, np.int64)]
        for items in (np.arange(self.n), distinct(self.balls.centres[0])):
            for pairs in neighbours(items, self.columns, self.effort.neighbours):
                pairs = self.apart_yet(pairs[self.new[pairs].any(axis=1)])
                found.append(self.codes(pairs))
        codes = distinct(np.concatenate(found))
        codes = codes[~among(codes, self.rows()[:, 0])]
        pairs = np.stack(np.divmod(codes, self.n), axis=1)
        pairs = pairs[np.argsort(distance(self.amd, pairs), kind="stable")]
        idle = 0
        for _ in range(_ROUNDS):
            pairs = self.apart_yet(pairs)
            if not len(pairs) or idle == self.effort.tries:
                break
            chosen = np.zeros(len(pairs), bool)
            chosen[self._nearest(pairs)] = True
            matches = self.compare(pairs[chosen])
            idle += int(matches.sum() < 0.05 * len(matches))
            pairs = pairs[~chosen]
        self.failed = self.rows()[:, 0]

    def _nearest(self, pairs: np.ndarray) -> np.ndarray:
        """Return the places of the first pair of each component."""
        sides = self.label[pairs].ravel()
        return np.unique(np.unique(sides, return_index=True)[1] // 2)

    def settle_balls(self) -> None:
        """Link or bound each pair of balls in different components, unless both are known."""
        self.room = self.effort.refuted
        score = self.columns[:, 0]
        centres = distinct(self.balls.centres[0])
        new, old = centres[self.new[centres]], centres[~self.new[centres]]
        batch = self.effort.batch
        for pairs in within(new, score, batch, self._wanted):
            self._settle(pairs, 0, batch)
        for pairs in across(new, old, score, batch, self._wanted):
            self._settle(pairs, 0, batch)

    def _wanted(self, pairs: np.ndarray) -> np.ndarray | None:
        return None if self.components == 1 else self.apart_yet(pairs)

    def _settle(self, pairs: np.ndarray, level: int, step: int) -> None:
        """Settle pairs of balls of a level, given by their centres, the nearest first."""
        last = len(self.balls.centres) - 1
        at = 0
        while at < len(pairs):
            part = self.apart_yet(pairs[at : at + step])
            at, step = at + step, min(2 * step, self.effort.batch)
            held = self.balls.sizes[level][part].prod(axis=1)
            if level == last:
                self._compare_unless_failed(part)
                continue
            self._compare_unless_failed(part[held == 1])
            few = part[(held > 1) & (held < self.effort.worth)]
            for inner in self._inside(few, level, last):
                self._settle(inner, last, _FIRST_STEP)
            self._settle_large(part[held >= max(self.effort.worth, 2)], level)

    def _settle_large(self, pairs: np.ndarray, level: int) -> None:
        pairs = self.apart_yet(pairs)
        settled = self.ask.apart(pairs, level)
        self._keep(self.bounds, self.codes(pairs[settled]))
        pairs = pairs[~settled]
        self.failed_centres.update(self._compare_unless_failed(pairs).tolist())
        for inner in self._inside(self.apart_yet(pairs), level, level + 1):
            self._settle(inner, level + 1, _FIRST_STEP)

    def _compare_unless_failed(self, pairs: np.ndarray) -> np.ndarray:
        """Compare pairs but those that were compared in vain; return the codes of new failures."""
        codes = self.codes(pairs)
        seen = among(codes, self.failed)
        if self.failed_centres:
            seen |= np.array([code in self.failed_centres for code in codes.tolist()], bool)
        matches = self.compare(pairs[~seen])
        failures: np.ndarray = codes[~seen][~matches]
        return failures

    def _inside(self, pairs: np.ndarray, level: int, below: int) -> Iterator[np.ndarray]:
        """Yield the pairs of balls of a tighter level, the nearest first within each array."""
        inner, starts = self.balls.inside(level, below)
        count = (starts[pairs + 1] - starts[pairs]).prod(axis=1)
        for found in products(pairs[count <= _EXPANDED], inner, starts, _EXPANDED):
            near = self.apart_yet(found)
            yield near[np.argsort(distance(self.amd, near), kind="stable")]
        for one, other in pairs[count > _EXPANDED]:
            left, right = (inner[starts[i] : starts[i + 1]] for i in (one, other))
            yield from across(left, right, self.columns[:, 0], _EXPANDED, self._wanted)

    # --- completing ----------------------------------------------------------------------

    def complete(self, groups: list[np.ndarray]) -> None:
        """Compare all pairs of each group in both directions, unless both are known or bounded."""
        found = [np.empty(0, np.int64)]
        for group in groups:
            new, old = group[self.new[group]], group[~self.new[group]]
            i, j = np.triu_indices(len(new), 1)
            found.append(self.codes(np.stack([new[i], new[j]], axis=1)))
            found.append(self.codes(np.stack(np.meshgrid(new, old), axis=-1).reshape(-1, 2)))
        self._both_directions(np.concatenate(found))

    def probe(self, groups: list[np.ndarray]) -> None:
        """Compare pairs of each group that are far apart by AMD, to find chains."""
        found = [np.empty(0, np.int64)]
        for group in groups:
            pairs = []
            for column in self.columns.T:
                order = group[np.argsort(column[group], kind="stable")]
                ends = min(self.effort.probes, len(order) // 2)
                pairs.append(np.stack([order[:ends], order[::-1][:ends]], axis=1))
            some = np.concatenate(pairs)
            some = some[self.new[some].any(axis=1)]
            some = some[np.argsort(-distance(self.amd, some), kind="stable")]
            codes = self.codes(some)
            _, first = np.unique(codes, return_index=True)
            found.append(codes[np.sort(first)][: self.effort.probes])
        self._both_directions(np.concatenate(found))

    def _both_directions(self, codes: np.ndarray) -> None:
        rows, codes = self.rows(), distinct(codes)
        bounds = distinct(np.concatenate([np.empty(0, np.int64), *self.bounds]))
        begun = rows[among(rows[:, 0], codes) & (rows[:, 2] == NOT_MADE), 0]
        fresh = codes[~among(codes, rows[:, 0]) & ~among(codes, bounds)]
        pairs = np.stack(np.divmod(fresh, self.n), axis=1)
        order = np.argsort(distance(self.amd, pairs), kind="stable")
        added = np.full((len(fresh), 3), NOT_MADE, np.int64)
        added[:, 0] = fresh[order]
        added[:, 1] = self.ask.fit(pairs[order])
        rows = np.concatenate([rows, added])
        rows = rows[np.argsort(rows[:, 0])]
        todo = among(rows[:, 0], begun) | among(rows[:, 0], fresh)
        pairs = np.stack(np.divmod(rows[todo, 0], self.n), axis=1)
        rows[todo, 2] = self.ask.fit(pairs[:, ::-1])
        matches = (rows[:, 1:] == 1).any(axis=1)
        self.matched, self.refuted = [rows[matches]], [rows[~matches, 0]]
        self._merge(np.stack(np.divmod(rows[matches, 0], self.n), axis=1))

    # --- the result ----------------------------------------------------------------------

    def result(self) -> Grouped:
        """Measure the matches and put everything together."""
        rows = self._rows()
        return Grouped(
            component=self.label,
            components=self._components(rows),
            centre=np.where(self.new, self.balls.centres[0], np.arange(self.n)),
            made=self.ask.made,
            dropped=self.dropped,
            _amd=self.amd,
            _rows=rows,
        )

    def _rows(self) -> Rows:
        rows = self.rows()
        bounds = distinct(np.concatenate([np.empty(0, np.int64), *self.bounds]))
        both = among(rows[:, 0], bounds)
        bounds = bounds[~among(bounds, rows[:, 0])]
        code = np.concatenate([rows[:, 0], bounds])
        order = np.argsort(code)
        none = np.zeros(len(bounds), np.int8)
        match = (rows[:, 1:] == 1).any(axis=1)
        pairs = np.stack(np.divmod(rows[match, 0], max(self.n, 1)), axis=1)
        turned = rows[match, 1] != 1
        pairs[turned] = pairs[turned, ::-1]
        rms, largest = self.ask.measure(pairs)
        return Rows(
            code=code[order],
            forward=np.concatenate([rows[:, 1].astype(np.int8), none])[order],
            backward=np.concatenate([rows[:, 2].astype(np.int8), none])[order],
            method=np.concatenate(
                [np.where(both, _BOTH, _COMPARED).astype(np.int8), none + np.int8(_BOUND)]
            )[order],
            matched=rows[match, 0],
            rms=rms,
            max_distance=largest,
        )

    def _components(self, rows: Rows) -> Components:
        first, place, size = np.unique(self.label, return_inverse=True, return_counts=True)
        count = len(first)
        fresh = np.bincount(place[self.new], minlength=count)
        earlier = np.unique(np.stack([place, self.earlier], axis=1)[~self.new], axis=0)
        merged = np.bincount(earlier[:, 0], minlength=count)
        a, b = np.divmod(rows.code, max(self.n, 1))
        inside = self.label[a] == self.label[b]
        match = among(rows.code, rows.matched)
        compared = np.bincount(place[a[inside]], minlength=count)
        confirmed = np.bincount(place[a[match]], minlength=count)
        pairs = self.new_pairs(size, fresh)
        kind = np.full(count, _UNKNOWN, np.int8)
        kind[confirmed == pairs] = _CLIQUE
        kind[(compared > confirmed) | (merged > 1)] = _CHAIN
        return Components(first, size, pairs, compared, confirmed, merged, kind)
