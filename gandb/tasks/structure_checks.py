"""Judging structures: those that jobs generated, or those of a dataset version.

Which structures a job judges is fixed when it is asked for. They are cut into chunks by ranges of
their ids, which are hashes, so that chunks are alike in size. A structure is judged once under each
recipe, whichever job asks. The last chunk counts what is in the store, and writes the metrics.

The symmetry at 0.1 Å, the tolerance at which papers look for the space group that was asked for, is
worked out along with the checks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any
from uuid import UUID

import numpy as np
import pyarrow as pa
import sqlalchemy as sa

from gandb.core.compositions import uuid_array
from gandb.core.errors import UsageError
from gandb.core.pool import Pool, default_processes
from gandb.jobs.records import Context, JobSpec, Outcome
from gandb.schema import tables
from gandb.store import Transaction
from gandb.store.bulk import fetch, ids_from_text
from gandb.tasks.judged_sets import JudgedSet, structures_query
from gandb.tasks.keyed import id_keys, uuids
from gandb.tasks.keys import id_range
from gandb.tasks.preparing import part_of_crystals, symmetry_recipe
from gandb.tasks.rows import recipe_row, repeat_id
from gandb.tasks.structure_metrics import measure
from gandb.tasks.structures import RECORD, crystal_of_row
from gandb.validation.outcomes import REASONS
from gandb.validation.sites import Sites
from gandb.validation.standard_checks import STANDARD, standard_checks

KIND = "check_structures"
CHUNK = 10_000
"""Structures to a chunk, about."""
SYMPREC = 0.1
"""Tolerance, Å, at which a space group that was asked for counts as found."""
SYMMETRY = "symmetry"
_PIECE = 200
_FEW = 2_000  # up to so many, other processes are not worth their start
_WORDS = pa.array(REASONS)


@cache
def check_recipes() -> dict[str, dict[str, Any]]:
    """Return the recipe rows of the standard checks, by name.

    Raises:
        MissingExtraError: moyopy is not installed.
    """
    return {
        name: recipe_row(check.name, check.version, {**check.parameters, "unit": check.unit})
        for name, check in standard_checks().items()
    }


def structure_checks_job(judged: JudgedSet) -> JobSpec:
    """Describe the job of judging structures.

    Raises:
        UsageError: there are no structures.
        MissingExtraError: moyopy is not installed.
    """
    if not judged.n_structures:
        raise UsageError(
            f"{judged.name} has no structures to check; compositions are judged as they come in, "
            "see cnen_strict and its like in the view generated"
        )
    n, n_chunks = judged.n_structures, -(-judged.n_structures // CHUNK)
    recipes = {name: str(row["id"]) for name, row in check_recipes().items()}
    return JobSpec(
        kind=KIND,
        spec={
            "of": judged.spec,
            "structures": n,
            "recipes": {**recipes, SYMMETRY: str(symmetry_recipe(SYMPREC)["id"])},
        },
        totals=(*(n * (k + 1) // n_chunks - n * k // n_chunks for k in range(n_chunks)), 1),
        checkpoint_id=judged.checkpoint_id,
        dataset_version_id=judged.version_id,
    )


def check_structures(context: Context) -> Outcome:
    """Do one chunk."""
    if context.chunk == context.job.n_chunks - 1:
        return measure(context, check_recipes(), symmetry_recipe(SYMPREC))
    ids, missing = _missing(context)
    new = [row for row, names in enumerate(missing) if names]
    context.progress(len(ids) - len(new))
    found: dict[str, list[pa.Table]] = {}
    done = len(ids) - len(new)
    processes = default_processes() if len(new) > _FEW else 0
    with Pool(judge_records, processes) as pool:
        for part in pool.map(_pieces(context, ids, missing)):
            for name, table in part.items():
                found.setdefault(name, []).append(table)
            done += part["structures"].num_rows
            context.progress(done)

    def merge(tx: Transaction) -> None:
        for row in (*check_recipes().values(), symmetry_recipe(SYMPREC)):
            tx.insert_new(tables.recipe, row)
        for name, table in (
            ("verdicts", tables.structure_check),
            ("symmetry", tables.structure_symmetry),
        ):
            if name in found:
                tx.merge(table, pa.concat_tables(found[name]))

    return Outcome(merge, {"structures": len(ids)})


# --- what is missing ---------------------------------------------------------------------


def _missing(context: Context) -> tuple[np.ndarray, list[frozenset[str]]]:
    """Return a chunk's structures, S16 (n,), ascending, and which checks each lacks."""
    structure, check, symmetry = tables.structure, tables.structure_check, tables.structure_symmetry
    low, high = id_range(context.chunk, context.job.n_chunks - 1)
    recipes = {row["id"]: name for name, row in check_recipes().items()}

    def within(own: sa.ColumnElement[Any]) -> list[sa.ColumnElement[bool]]:
        bounds = [own >= low] if high is None else [own >= low, own < high]
        return [*bounds, own.in_(structures_query(context.job.spec["of"]))]

    with context.store.read() as connection:
        rows = fetch(connection, sa.select(structure.c.id).where(*within(structure.c.id)))
        ids = np.sort(id_keys(ids_from_text(rows.column("id"))))
        judged = fetch(
            connection,
            sa.select(check.c.structure_id, check.c.recipe_id).where(
                check.c.recipe_id.in_(recipes), *within(check.c.structure_id)
            ),
        )
        searched = fetch(
            connection,
            sa.select(symmetry.c.structure_id).where(
                symmetry.c.recipe_id == symmetry_recipe(SYMPREC)["id"],
                *within(symmetry.c.structure_id),
            ),
        )
    has: list[set[str]] = [set() for _ in range(len(ids))]
    names = [recipes[UUID(text)] for text in judged.column("recipe_id").to_pylist()]
    names += [SYMMETRY] * len(searched)
    owners = [*judged.column("structure_id").to_pylist(), *searched.column(0).to_pylist()]
    if owners:
        keys = id_keys(ids_from_text(pa.chunked_array([owners])))
        for place, name in zip(np.searchsorted(ids, keys).tolist(), names, strict=True):
            has[place].add(name)
    every = frozenset((*STANDARD, SYMMETRY))
    return ids, [every - own for own in has]


def _pieces(
    context: Context, ids: np.ndarray, missing: Sequence[frozenset[str]]
) -> Iterator[tuple[pa.Table, tuple[str, ...]]]:
    """Yield records with what is to be judged of them."""
    alike: dict[tuple[str, ...], list[int]] = {}
    for row, lacking in enumerate(missing):
        if lacking:
            alike.setdefault(tuple(sorted(lacking)), []).append(row)
    own = tables.structure.c.id
    for names, places in alike.items():
        for start in range(0, len(places), _PIECE):
            wanted = uuids(ids[places[start : start + _PIECE]])
            with context.store.read() as connection:
                records = fetch(connection, sa.select(*RECORD).where(own.in_(wanted)).order_by(own))
            yield records.combine_chunks(), names


# --- judging -----------------------------------------------------------------------------


def judge_records(piece: tuple[pa.Table, tuple[str, ...]]) -> Mapping[str, pa.Table]:
    """Judge some structures.

    Args:
        piece: records, with the columns `gandb.tasks.structures.RECORD`, and names of checks.

    Returns:
        ``structures``, their ids; ``verdicts``, rows of ``structure_check``; and ``symmetry``, rows
        of ``structure_symmetry``. The latter two only if such a check is named.
    """
    rows, names = piece
    crystals = [crystal_of_row(row) for row in rows.to_pylist()]
    ids = ids_from_text(rows.column("id"))
    sites = Sites.of(crystals)
    found = {"structures": pa.table({"id": uuid_array(ids)})}
    verdicts = []
    for name in (n for n in STANDARD if n in names):
        outcome = STANDARD[name](crystals, sites)
        usable = np.isfinite(outcome.value)
        verdicts.append(
            pa.table(
                {
                    "recipe_id": repeat_id(check_recipes()[name]["id"], len(crystals)),
                    "structure_id": uuid_array(ids),
                    "passed": pa.array(outcome.passed, mask=outcome.errors),
                    "value": pa.array(outcome.value, mask=~usable),
                    "reason": _WORDS.take(pa.array(outcome.reason)),
                }
            )
        )
    if verdicts:
        found["verdicts"] = pa.concat_tables(verdicts)
    if SYMMETRY in names:
        found["symmetry"] = part_of_crystals(crystals, (SYMPREC,))["symmetry"]
    return found
