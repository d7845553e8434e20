"""Finding which structures are one material: all those of the store that have keys.

Structures are cut into chunks by ranges of composition ids, so that no block is cut. A chunk reads
the blocks that have new members, compares these with all others, and writes the evidence and who
belongs to which material. What was found before is not compared again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import numpy as np
import pyarrow as pa
import sqlalchemy as sa

from gandb.core.compositions import uuid_array
from gandb.core.errors import StoreError, UsageError
from gandb.core.pool import default_processes
from gandb.identity.blocks import USUAL, group_blocks
from gandb.identity.cells import Cells
from gandb.identity.grouping import METHODS, NOT_MADE, Evidence, Grouped
from gandb.identity.kernel_comparison import KernelComparison
from gandb.identity.recipes import MatchRecipe
from gandb.jobs.records import Context, JobSpec, Outcome
from gandb.schema import tables
from gandb.store import Store, Transaction
from gandb.store.bulk import fetch, ids_from_text
from gandb.tasks.keyed import Keyed, Places, id_keys, keyed_of, places, raw
from gandb.tasks.keys import begun_job, id_range, key_recipe
from gandb.tasks.rows import recipe_row, repeat_id

KIND = "identify"
CHUNK = 100_000
"""Structures to a chunk, about."""
STANDARD = MatchRecipe(comparator="element")
"""pymatgen's tolerances; oxidation states, which few sources state, do not count."""
_TOGETHER = 200_000  # pairs of small blocks that are compared at once


def match_recipe(recipe: MatchRecipe) -> dict[str, Any]:
    """Return the recipe row of comparisons, and of the materials that they make."""
    return recipe_row("identity", "1", {**recipe.parameters(), "keys": str(key_recipe()["id"])})


def identify_job(store: Store, recipe: MatchRecipe = STANDARD) -> JobSpec | None:
    """Describe the job of taking new structures into materials; None if there are none.

    Structures without keys are left out: `gandb.tasks.keys` comes first. A job that was begun and
    is not done comes first; it need not take in all that are new by now.

    Raises:
        UsageError: the recipe compares cells that are not primitive, which have no keys.
    """
    if not recipe.primitive_cell:
        raise UsageError("keys are of primitive cells: compare cells as given with gandb match")
    if (begun := begun_job(store, KIND, recipe.parameters())) is not None:
        return begun
    key, member = tables.structure_key, tables.material_member
    with store.read() as connection:
        n = connection.scalar(
            sa.select(sa.func.count()).where(
                key.c.recipe_id == key_recipe()["id"], key.c.n_reduced.is_not(None)
            )
        )
        done = connection.scalar(
            sa.select(sa.func.count()).where(member.c.recipe_id == match_recipe(recipe)["id"])
        )
    n, new = n or 0, (n or 0) - (done or 0)
    if not new:
        return None
    n_chunks = -(-n // CHUNK)
    return JobSpec(
        kind=KIND,
        spec={"recipe": recipe.parameters(), "structures": n, "new": new},
        totals=(0,) * n_chunks,
    )


def identify(context: Context) -> Outcome:
    """Do one chunk."""
    recipe = MatchRecipe(**context.job.spec["recipe"])
    low, high = id_range(context.chunk, context.job.n_chunks)
    found = _Chunk.of(context, recipe, low, high)
    return Outcome(found.merge, found.result)


@dataclass(frozen=True, eq=False)
class _Chunk:
    """What a chunk found: for each place its material before (nothing for new ones) and now.

    Of a dense block's millions of failed comparisons some are only counted, as ``dropped``.
    """

    recipe: MatchRecipe
    range: tuple[UUID, UUID | None]
    places: Places
    before: np.ndarray
    now: np.ndarray
    evidence: list[pa.Table]
    dropped: int

    @classmethod
    def of(cls, context: Context, recipe: MatchRecipe, low: UUID, high: UUID | None) -> _Chunk:
        with context.store.read() as connection:
            found, before = _members(connection, recipe, low, high)
        blocks = [
            rows for rows in found.by_block() if len(rows) > 1 and (before[rows] == b"").any()
        ]
        now = np.where(before == b"", found.ids, before)
        evidence: list[pa.Table] = []
        dropped = 0
        for rows, result in _grouped(context, recipe, found, before, blocks):
            now[rows] = found.ids[rows[result.component]]
            ids = found.ids[rows]
            evidence += [evidence_rows(recipe, ids, part) for part in result.parts()]
            dropped += result.dropped
        return cls(recipe, (low, high), found, before, now, evidence, dropped)

    @property
    def result(self) -> dict[str, Any]:
        """Counts of the chunk."""
        return {
            "structures": len(self.places),
            "new": int((self.before == b"").sum()),
            "materials": len(np.unique(self.now)),
            "comparisons": sum(part.num_rows for part in self.evidence),
            "matches": sum(int(np.count_nonzero(part.column("matched"))) for part in self.evidence),
            "not_kept": self.dropped,
        }

    def merge(self, tx: Transaction) -> None:
        """Write the evidence and the memberships that are new or changed."""
        recipe = match_recipe(self.recipe)
        low, high = self.range
        found, before = _members(tx.connection, self.recipe, low, high)
        same = np.isin(found.ids, self.places.ids)
        if not np.array_equal(before[same], self.before):
            raise StoreError("another job has changed the same materials; give the command again")
        tx.insert_new(tables.recipe, recipe)
        for part in self.evidence:
            tx.merge(tables.comparison, part)
        changed = (self.before != self.now) & (self.before != b"")
        if changed.any():
            move_members(tx, recipe["id"], self.places.ids[changed], self.now[changed])
        new = self.before == b""
        n = int(new.sum())
        tx.append(
            tables.material_member,
            pa.table(
                {
                    "recipe_id": repeat_id(recipe["id"], n),
                    "structure_id": uuid_array(raw(self.places.ids[new])),
                    "material_id": uuid_array(raw(self.now[new])),
                    "standard": pa.array(np.full(n, self.recipe == STANDARD)),
                }
            ),
        )


def _grouped(
    context: Context,
    recipe: MatchRecipe,
    found: Places,
    before: np.ndarray,
    blocks: Sequence[np.ndarray],
) -> Iterator[tuple[np.ndarray, Grouped]]:
    """Group blocks, small ones together; yield the rows of each parcel, and the result."""
    done = 0

    def told(asked: int) -> None:
        context.progress(done + asked)

    for together in _parcels(blocks):
        rows = np.sort(np.concatenate(together))
        with context.store.read() as connection:
            keys = keyed_of(connection, found.ids[rows])
        for own, result in group_keyed(keys, recipe, before[rows], told):
            done += result.made.total
            yield rows[own], result


def group_keyed(
    keys: Keyed,
    recipe: MatchRecipe,
    before: np.ndarray | None = None,
    progress: Callable[[int], None] | None = None,
    blocks: Sequence[np.ndarray] | None = None,
) -> Iterator[tuple[np.ndarray, Grouped]]:
    """Group structures of any blocks, see `gandb.identity.blocks.group_blocks`.

    Args:
        keys: the structures.
        recipe: what counts as the same.
        before: S16, the material that each was in before, empty for new ones; None if all are new.
        progress: as in `gandb.identity.grouping.group_block`.
        blocks: rows of those that can match each other, ascending; None for all, by their blocks.
    """
    cells = Cells.from_bytes(keys.cells, recipe.comparator)
    comparison = KernelComparison(cells, recipe, default_processes())
    known = np.full(len(keys), -1, np.int64)
    if before is not None:
        old = before != b""
        known[old] = np.unique(before[old], return_inverse=True)[1]
    wanted = list(keys.places.by_block()) if blocks is None else blocks
    yield from group_blocks(comparison, keys.amd, known, wanted, USUAL, progress)


def _parcels(blocks: Sequence[np.ndarray]) -> Iterator[list[np.ndarray]]:
    """Put small blocks together, so that they are compared at once; leave large ones alone."""
    held: list[np.ndarray] = []
    pairs = 0
    for block in blocks:
        if len(block) > USUAL.full:
            yield [block]
            continue
        held.append(block)
        pairs += len(block) * (len(block) - 1) // 2
        if pairs > _TOGETHER:
            yield held
            held, pairs = [], 0
    if held:
        yield held


def _members(
    connection: sa.Connection, recipe: MatchRecipe, low: UUID, high: UUID | None
) -> tuple[Places, np.ndarray]:
    """Return the structures of a range of compositions, and the material of each, or nothing."""
    key, member = tables.structure_key.c, tables.material_member.c
    conditions = [key.composition_id >= low]
    if high is not None:
        conditions.append(key.composition_id < high)
    found = places(connection, *conditions)
    query = (
        sa.select(member.structure_id, member.material_id)
        .join(tables.structure_key, key.structure_id == member.structure_id)
        .where(
            member.recipe_id == match_recipe(recipe)["id"],
            key.recipe_id == key_recipe()["id"],
            *conditions,
        )
    )
    rows = fetch(connection, query)
    before = np.full(len(found), b"", "S16")
    if len(rows):
        own = id_keys(ids_from_text(rows.column("structure_id")))
        before[np.searchsorted(found.ids, own)] = id_keys(ids_from_text(rows.column("material_id")))
    return found, before


# --- rows --------------------------------------------------------------------------------


def evidence_rows(recipe: MatchRecipe, ids: np.ndarray, evidence: Evidence) -> pa.Table:
    """Return evidence as rows of the table ``comparison``.

    Args:
        recipe: what was compared by.
        ids: S16, structure ids of the members that the evidence numbers, ascending.
        evidence: a < b in it.
    """
    n = len(evidence)
    matched = (evidence.forward == 1) | (evidence.backward == 1)
    return pa.table(
        {
            "recipe_id": repeat_id(match_recipe(recipe)["id"], n),
            "structure_a": uuid_array(raw(ids[evidence.a])),
            "structure_b": uuid_array(raw(ids[evidence.b])),
            "matched": pa.array(matched),
            "forward": _verdicts(evidence.forward),
            "backward": _verdicts(evidence.backward),
            "rms": pa.array(evidence.rms, from_pandas=True),
            "max_distance": pa.array(evidence.max_distance, from_pandas=True),
            "amd_distance": pa.array(evidence.amd_distance),
            "method": pa.array(METHODS).take(pa.array(evidence.method)),
        }
    )


def _verdicts(values: np.ndarray) -> pa.Array:
    return pa.array(values == 1, mask=values == NOT_MADE)


def move_members(tx: Transaction, recipe_id: UUID, ids: np.ndarray, materials: np.ndarray) -> None:
    """Change the material of structures, both given as S16."""
    rows = pa.table(
        {
            "recipe_id": repeat_id(recipe_id, len(ids)),
            "structure_id": uuid_array(raw(ids)),
            "material_id": uuid_array(raw(materials)),
        }
    )
    stage = tx.stage(tables.material_member, rows)
    tx.connection.exec_driver_sql(
        f"UPDATE material_member SET material_id = s.material_id FROM {stage} AS s "
        "WHERE material_member.recipe_id = s.recipe_id "
        "AND material_member.structure_id = s.structure_id"
    )
    tx.unstage(stage)
