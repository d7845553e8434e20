"""Working out the keys of structures: what finds those that may be the same.

Structures are cut into chunks by ranges of their ids, which are hashes, so that chunks are alike in
size. A structure that has its keys is not worked out again.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any
from uuid import UUID

import numpy as np
import pyarrow as pa
import sqlalchemy as sa

from gandb import __version__
from gandb.core.errors import GandbError
from gandb.core.pool import Pool, default_processes
from gandb.identity.keys import StructureKey, key_parameters, structure_key
from gandb.jobs import queue
from gandb.jobs.records import OPEN, Context, JobSpec, Outcome
from gandb.schema import tables
from gandb.store import Store, Transaction
from gandb.store.bulk import fetch
from gandb.tasks.rows import recipe_row, repeat_id
from gandb.tasks.structures import RECORD, crystal_of_row
from gandb.validation.symmetry import SYMPREC

KIND = "keys"
CHUNK = 25_000
"""Structures to a chunk, about."""
PIECE = 250
FEW = 1_000
"""Up to so many structures, other processes are not worth their start."""

_SYMMETRY = ("space_group_number", "site_symmetries")


@cache
def key_recipe() -> dict[str, Any]:
    """Return the recipe row of keys."""
    return recipe_row("structure_key", "1", key_parameters())


def keys_job(store: Store) -> JobSpec | None:
    """Describe the job of working out the keys that are missing; None if there are all.

    A job that was begun and is not done comes first; it need not bring all that are missing now.
    """
    if (begun := begun_job(store, KIND, str(key_recipe()["id"]))) is not None:
        return begun
    with store.read() as connection:
        n = connection.scalar(sa.select(sa.func.count()).select_from(tables.structure)) or 0
        done = connection.scalar(
            sa.select(sa.func.count())
            .select_from(tables.structure_key)
            .where(tables.structure_key.c.recipe_id == key_recipe()["id"])
        )
    missing = n - (done or 0)
    if not missing:
        return None
    n_chunks = -(-missing // CHUNK)
    return JobSpec(
        kind=KIND,
        spec={"recipe": str(key_recipe()["id"]), "structures": n, "missing": missing},
        totals=tuple(
            missing * (k + 1) // n_chunks - missing * k // n_chunks for k in range(n_chunks)
        ),
    )


def begun_job(store: Store, kind: str, recipe: Any) -> JobSpec | None:
    """Describe the job of a kind and recipe that this version was asked for and has not done."""
    for job in queue.unfinished(store, kind):
        own = job.code_version == __version__ and job.spec["recipe"] == recipe
        if own and job.state.value in OPEN:
            return JobSpec(kind=kind, spec=job.spec, totals=(0,) * job.n_chunks)
    return None


def work_out_keys(context: Context) -> Outcome:
    """Do one chunk."""
    own = tables.structure.c.id
    low, high = id_range(context.chunk, context.job.n_chunks)
    key = tables.structure_key
    known = sa.exists().where(key.c.structure_id == own, key.c.recipe_id == key_recipe()["id"])
    conditions = [own >= low, ~known] if high is None else [own >= low, own < high, ~known]
    with context.store.read() as connection:
        rows = _rows(connection, *conditions)
    found: list[pa.Table] = []
    done = 0
    processes = default_processes() if len(rows) > FEW else 0
    with Pool(_work, processes) as pool:
        for part in pool.map(_pieces(rows)):
            found.append(part)
            done += part.num_rows
            context.progress(done)
    table = pa.concat_tables(found) if found else None

    def merge(tx: Transaction) -> None:
        tx.insert_new(tables.recipe, key_recipe())
        if table is not None:
            tx.merge(tables.structure_key, table)

    errors = sum(part.column("error").length() - part.column("error").null_count for part in found)
    return Outcome(merge, {"structures": done, "errors": errors})


def id_range(chunk: int, n_chunks: int) -> tuple[UUID, UUID | None]:
    """Return where the ids of a chunk begin, and where those of the next; None after the last."""
    step = (1 << 128) / n_chunks
    low = UUID(int=int(step * chunk))
    return low, None if chunk == n_chunks - 1 else UUID(int=int(step * (chunk + 1)))


def _rows(connection: sa.Connection, *conditions: Any) -> pa.Table:
    """Return records with composition and symmetry, each once."""
    structure, symmetry, recipe = tables.structure, tables.structure_symmetry, tables.recipe
    standard = sorted(
        (row.version, row.id)
        for row in connection.execute(
            sa.select(recipe.c.id, recipe.c.version, recipe.c.parameters).where(
                recipe.c.check_name == "symmetry"
            )
        )
        if row.parameters.get("symprec_angstrom") == SYMPREC
        and row.parameters.get("angle_tolerance_degrees") is None
    )
    joined = sa.and_(
        symmetry.c.structure_id == structure.c.id,
        symmetry.c.recipe_id.in_([i for _, i in standard]),
    )
    ranks = [(symmetry.c.recipe_id == i, rank) for rank, (_, i) in enumerate(standard)]
    query = (
        sa.select(*RECORD, structure.c.composition_id, *(symmetry.c[name] for name in _SYMMETRY))
        .select_from(structure.outerjoin(symmetry, joined))
        .where(*conditions)
        .order_by(structure.c.id, *([sa.case(*ranks)] if len(ranks) > 1 else []))
    )
    rows = fetch(connection, query)
    if len(standard) > 1:  # several versions of the program: the first that there is will do
        ids = rows.column("id").to_numpy(zero_copy_only=False)
        rows = rows.filter(pa.array(np.append(True, ids[1:] != ids[:-1])))
    return rows


def _pieces(rows: pa.Table) -> Iterator[pa.Table]:
    for start in range(0, len(rows), PIECE):
        yield rows.slice(start, PIECE).combine_chunks()


def _work(rows: pa.Table) -> pa.Table:
    listed = rows.to_pylist()
    found: list[StructureKey | None] = []
    errors: list[str | None] = []
    for row in listed:
        try:
            crystal = crystal_of_row({**row, "site_properties": None})
            key = structure_key(crystal, row["space_group_number"], row["site_symmetries"])
            found.append(key)
            errors.append(None)
        except GandbError as error:
            found.append(None)
            errors.append(str(error))

    def column(name: str, type_: pa.DataType) -> pa.Array:
        return pa.array([None if key is None else getattr(key, name) for key in found], type_)

    return pa.table(
        {
            "structure_id": _uuids(rows.column("id")),
            "recipe_id": repeat_id(key_recipe()["id"], len(listed)),
            "composition_id": _uuids(rows.column("composition_id")),
            "n_reduced": column("n_reduced", pa.int32()),
            "volume_per_site": column("volume_per_site", pa.float64()),
            "symmetry_label": column("symmetry_label", pa.string()),
            "prototype_label": column("prototype_label", pa.string()),
            "amd": column("amd", pa.list_(pa.float64())),
            "cell": column("cell", pa.binary()),
            "error": pa.array(errors, pa.string()),
        }
    )


def _uuids(texts: pa.ChunkedArray) -> pa.ExtensionArray:
    storage = pa.array([UUID(text).bytes for text in texts.to_pylist()], pa.binary(16))
    return pa.ExtensionArray.from_storage(pa.uuid(), storage)
