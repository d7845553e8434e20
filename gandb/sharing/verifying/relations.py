"""Do the tables of a bundle fit each other? References, copies, and sums, by joins over its files.

DuckDB is a tool here: it reads the Parquet files that have been checked, in memory, and knows
nothing of any store.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from uuid import UUID

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import sqlalchemy as sa

from gandb.core.errors import InputError
from gandb.query.values import printable
from gandb.sharing.bundles.bundle import TABLES, Bundle, BundleTable
from gandb.sharing.verifying.keys import verify_some_keys
from gandb.sharing.verifying.records import element_batches
from gandb.sharing.verifying.values import FlawError, ids_of, shown
from gandb.tasks.identity import STANDARD, match_recipe
from gandb.tasks.identity_checks import components
from gandb.tasks.known_compositions import novelty_recipe
from gandb.tasks.preparing import symmetry_recipe
from gandb.tasks.rows import cnen_recipes
from gandb.validation.charge import CNEN
from gandb.validation.symmetry import SYMPREC

MEMORY = 600
"""MB that the joins may take; the rest goes to disk."""
_SHOWN = 3
_TARGETS = {"dataset_change": "dataset_member"}
_COPIES = ("reduced_formula", "chemical_system", "anonymous_formula", "elements", "n_elements",
           "n_atoms")  # fmt: skip


@contextmanager
def joins(bundle: Bundle) -> Iterator[duckdb.DuckDBPyConnection]:
    """Yield a database in memory whose views are the tables of a bundle."""
    with tempfile.TemporaryDirectory(prefix="gandb-joins-") as folder:
        settings: dict[str, str | bool | int | float | list[str]] = {
            "memory_limit": f"{MEMORY}MB",
            "temp_directory": folder,
            "preserve_insertion_order": "false",
        }
        with duckdb.connect(":memory:", config=settings) as connection:
            connection.execute("SET enable_progress_bar = false")
            for table in TABLES:
                path = str(bundle.tables[table.name].resolve()).replace("'", "''")
                connection.execute(
                    f"CREATE VIEW {table.name} AS SELECT * FROM "
                    f"read_parquet('{_escaped(path)}', hive_partitioning = false)"
                )
            yield connection


def _escaped(path: str) -> str:
    return "".join(f"[{c}]" if c in "*?[" else c for c in path)


def verify_relations(bundle: Bundle) -> None:
    """Check references between tables, copies of facts, and sums.

    Raises:
        InputError: one does not hold; names the table and some of the rows.
    """
    _verify_elements(bundle)
    with joins(bundle) as connection:
        for table in TABLES:
            if bundle.rows(table.name):
                for what, query in (*_references(table), *_facts(table.name)):
                    _require_none(connection, bundle, table, what, query)
        _verify_novel(connection, bundle)
        _verify_materials(connection, bundle)
        verify_some_keys(connection, bundle)


def _verify_novel(connection: duckdb.DuckDBPyConnection, bundle: Bundle) -> None:
    """Check that candidates say of themselves what the check of their composition said."""
    query = (
        "SELECT id, dataset_version_id FROM checkpoint WHERE dataset_version_id IS NOT NULL "
        "ORDER BY id"
    )
    for checkpoint, version in connection.execute(query).fetchall():
        recipe = novelty_recipe(UUID(version))["id"]
        _require_none(
            connection,
            bundle,
            next(t for t in TABLES if t.name == "candidate"),
            "novel is not the verdict in check_result",
            "SELECT x.id FROM candidate AS x LEFT JOIN check_result AS r "
            f"ON r.subject_id = x.composition_id AND r.recipe_id = '{recipe}' "
            f"WHERE x.checkpoint_id = '{checkpoint}' AND r.passed IS DISTINCT FROM x.novel",
        )


def _require_none(
    connection: duckdb.DuckDBPyConnection,
    bundle: Bundle,
    table: BundleTable,
    what: str,
    query: str,
) -> None:
    try:
        found = connection.execute(f"{query} LIMIT {_SHOWN}").fetchall()
    except duckdb.Error as error:
        reason = printable(str(error).strip())
        raise InputError(f"{bundle.path}: {table.path} cannot be read: {reason}") from error
    if found:
        rows = "; ".join(", ".join(shown(v) for v in row) for row in found)
        raise InputError(f"{bundle.path}: {table.path}: {what} ({rows})")


# --- references --------------------------------------------------------------------------


def _references(table: BundleTable) -> Iterator[tuple[str, str]]:
    """Yield what each reference must not be, and the query for those that are."""
    for column in table.columns:
        for key in column.foreign_keys:
            yield _reference(table.name, column.name, key.column)
    if table.name == "check_result":
        yield _reference(table.name, "subject_id", sa.column("id"), "composition")


def _reference(
    table: str, column: str, target: sa.Column[object] | sa.ColumnClause[object], to: str = ""
) -> tuple[str, str]:
    to = to or str(target.table.name)  # type: ignore[union-attr]
    to = _TARGETS.get(to, to)
    return (
        f"{column} leads to no row of {to}",
        f"SELECT x.{column} FROM {table} AS x WHERE x.{column} IS NOT NULL AND NOT EXISTS "
        f"(SELECT 1 FROM {to} AS t WHERE t.{target.name} = x.{column})",
    )


# --- facts that follow from other tables -------------------------------------------------


def _facts(name: str) -> Sequence[tuple[str, str]]:
    """Return what must not be in a table, and the queries for rows that are so."""
    return _FACTS.get(name, ())


def _differ(copy: str, name: str) -> str:
    return f"x.{name} IS DISTINCT FROM {copy}.{name}"


def _standard(table: str, alias: str, name: str) -> str:
    recipe = cnen_recipes()[name]["id"]
    return (
        f"LEFT JOIN {table} AS {alias} ON {alias}.subject_id = x.id "
        f"AND {alias}.recipe_id = '{recipe}'"
    )


def _of_structure(table: str) -> list[tuple[str, str]]:
    """A row that has a structure says of it what it is."""
    wrong = " OR ".join(_differ("s", n) for n in ("n_sites", "space_group_number"))
    return [
        (
            "composition, n_sites or space group are not those of its structure",
            f"SELECT x.id FROM {table} AS x LEFT JOIN structure AS s ON s.id = x.structure_id "
            f"WHERE {wrong} OR (s.id IS NOT NULL AND s.composition_id <> x.composition_id)",
        )
    ]


_SYMMETRY = str(symmetry_recipe(SYMPREC)["id"])

_FACTS: dict[str, Sequence[tuple[str, str]]] = {
    "composition": [
        (
            f"{name} is not the verdict in check_result",
            f"SELECT x.reduced_formula FROM composition AS x {_standard('check_result', 'r', name)}"
            f" WHERE r.passed IS DISTINCT FROM x.{name} OR x.{name} IS NULL",
        )
        for name in CNEN
    ],
    "structure": [
        (
            "its space group is not that of structure_symmetry",
            "SELECT x.id FROM structure AS x JOIN structure_symmetry AS s "
            f"ON s.structure_id = x.id AND s.recipe_id = '{_SYMMETRY}' "
            f"WHERE {_differ('s', 'space_group_number')} OR {_differ('s', 'space_group_symbol')}",
        )
    ],
    "structure_symmetry": [
        (
            "it has not one letter and one symmetry for each site",
            "SELECT x.structure_id FROM structure_symmetry AS x JOIN structure AS s "
            "ON s.id = x.structure_id WHERE len(x.wyckoff_letters) <> s.n_sites "
            "OR len(x.site_symmetries) <> s.n_sites",
        )
    ],
    "structure_key": [
        (
            "its composition is not that of its structure",
            "SELECT x.structure_id FROM structure_key AS x JOIN structure AS s "
            "ON s.id = x.structure_id WHERE s.composition_id <> x.composition_id "
            "OR x.n_reduced > s.n_sites",
        ),
        (
            "its reduced cell has another volume per site than its structure",
            "SELECT x.structure_id FROM structure_key AS x JOIN structure AS s "
            "ON s.id = x.structure_id "
            "WHERE abs(x.volume_per_site * s.n_sites - s.volume) > 0.01 * s.volume",
        ),
    ],
    "relaxation": [
        (
            "the relaxed structure is of another composition",
            "SELECT x.structure_id FROM relaxation AS x JOIN structure AS s "
            "ON s.id = x.structure_id JOIN structure AS t ON t.id = x.relaxed_id "
            "WHERE s.composition_id <> t.composition_id OR len(x.forces) <> 3 * t.n_sites",
        )
    ],
    "comparison": [
        (
            "two structures of different composition are compared",
            "SELECT x.structure_a, x.structure_b FROM comparison AS x JOIN structure AS a "
            "ON a.id = x.structure_a JOIN structure AS b ON b.id = x.structure_b "
            "WHERE a.composition_id <> b.composition_id",
        )
    ],
    "entry": _of_structure("entry"),
    "source_snapshot": [
        (
            "it has more entries than it counts",
            "SELECT x.id, s.n FROM source_snapshot AS x JOIN (SELECT snapshot_id, count(*) AS n "
            "FROM snapshot_entry GROUP BY snapshot_id) AS s ON s.snapshot_id = x.id "
            "WHERE s.n > x.n_entries",
        )
    ],
    "snapshot_entry": [
        (
            "an entry is of another source than its snapshot",
            "SELECT x.entry_id FROM snapshot_entry AS x JOIN entry AS e ON e.id = x.entry_id "
            "JOIN source_snapshot AS s ON s.id = x.snapshot_id WHERE e.source <> s.source",
        )
    ],
    "candidate": [
        *_of_structure("candidate"),
        (
            "its facts are not those of its composition",
            "SELECT x.id FROM candidate AS x JOIN composition AS c ON c.id = x.composition_id "
            f"WHERE {' OR '.join(_differ('c', name) for name in _COPIES)}",
        ),
        (
            "times_generated or cnen_matgan do not follow from its events",
            "SELECT x.id, x.times_generated, e.n FROM candidate AS x LEFT JOIN (SELECT "
            "candidate_id, sum(times) AS n, min(formula_units) AS units FROM generation_event "
            "GROUP BY candidate_id) AS e ON e.candidate_id = x.id "
            "JOIN composition AS c ON c.id = x.composition_id "
            "WHERE e.n IS DISTINCT FROM x.times_generated "
            "OR x.cnen_matgan IS DISTINCT FROM (c.cnen_matgan AND e.units = 1)",
        ),
        (
            "cnen_strict or cnen_default are not its composition's",
            "SELECT x.id FROM candidate AS x JOIN composition AS c ON c.id = x.composition_id "
            f"WHERE {' OR '.join(_differ('c', name) for name in ('cnen_strict', 'cnen_default'))}",
        ),
    ],
    "generation_event": [
        (
            "an event is of a job that does not sample from the candidate's checkpoint",
            "SELECT x.candidate_id, x.job_id FROM generation_event AS x JOIN candidate AS c "
            "ON c.id = x.candidate_id JOIN job AS j ON j.id = x.job_id "
            "WHERE j.checkpoint_id IS DISTINCT FROM c.checkpoint_id OR x.chunk >= j.n_chunks",
        )
    ],
    "candidate_novelty": [
        (
            "it is of a candidate without a structure",
            "SELECT x.candidate_id FROM candidate_novelty AS x JOIN candidate AS c "
            "ON c.id = x.candidate_id WHERE c.structure_id IS NULL "
            "OR x.representative_id > c.structure_id",
        )
    ],
    "material_member": [
        (
            "standard does not say whether its recipe is the standard one",
            "SELECT x.structure_id FROM material_member AS x WHERE x.standard <> "
            f"(x.recipe_id = '{match_recipe(STANDARD)['id']}')",
        ),
        (
            "material_id is not the smallest of its structures",
            "SELECT x.material_id FROM material_member AS x GROUP BY x.recipe_id, x.material_id "
            "HAVING min(x.structure_id) <> x.material_id",
        ),
    ],
    "dataset_tag": [
        (
            "it is for a version of another dataset",
            "SELECT x.tag FROM dataset_tag AS x WHERE NOT EXISTS (SELECT 1 FROM dataset_version "
            "AS v WHERE v.id = x.version_id)",
        )
    ],
}


# --- elements ----------------------------------------------------------------------------


def _verify_elements(bundle: Bundle) -> None:
    """Check that the elements of each composition, and no others, make up its id."""
    where = f"{bundle.path}: tables/composition_element.parquet"
    count = begin = 0
    held: pa.Table | None = None
    with pq.ParquetFile(bundle.tables["composition_element"]) as file:
        groups = file.num_row_groups
        for group in range(groups):
            rows = file.read_row_group(group)
            rows = rows if held is None else pa.concat_tables([held, rows])
            ids = rows.column("composition_id")
            cut = len(rows)
            if group < groups - 1:  # the elements of the last composition may go on
                cut = pc.index(ids, ids[-1]).as_py()
            held, rows = rows.slice(cut), rows.slice(0, cut)
            if not cut:
                continue
            try:
                own = ids_of(rows.column("composition_id"))
                batch, begins = element_batches(own, rows)
                wrong = np.flatnonzero((batch.ids() != own[begins]).any(axis=1))
                if len(wrong):
                    raise FlawError(
                        int(begins[wrong[0]]), "these elements are not those of their composition"
                    )
            except FlawError as flaw:
                raise InputError(flaw.told(where, begin)) from flaw
            begin += cut
            count += len(begins)
    if count != bundle.rows("composition"):
        raise InputError(
            f"{where}: it has the elements of {count:,} compositions, and there are "
            f"{bundle.rows('composition'):,}"
        )


# --- materials ---------------------------------------------------------------------------


def _verify_materials(connection: duckdb.DuckDBPyConnection, bundle: Bundle) -> None:
    """Check that materials are the components of the matches among their members."""
    query = "SELECT DISTINCT recipe_id FROM material_member ORDER BY recipe_id"
    for (recipe,) in connection.execute(query).fetchall():
        members = connection.execute(
            "SELECT structure_id, material_id FROM material_member WHERE recipe_id = ? "
            "ORDER BY structure_id",
            [recipe],
        ).to_arrow_table()
        pairs = connection.execute(
            "SELECT structure_a, structure_b FROM comparison WHERE recipe_id = ? AND matched",
            [recipe],
        ).to_arrow_table()
        ids = members.column("structure_id").combine_chunks()
        ends = [pc.index_in(pairs.column(i), value_set=ids) for i in range(2)]
        both = pc.and_(pc.is_valid(ends[0]), pc.is_valid(ends[1]))
        found = np.stack([e.filter(both).to_numpy() for e in ends], axis=1).astype(np.int64)
        label = components(len(ids), found)
        stated = pc.index_in(members.column("material_id"), value_set=ids)
        wrong = np.flatnonzero(stated.fill_null(-1).to_numpy() != label)
        if len(wrong):
            raise InputError(
                f"{bundle.path}: tables/material_member.parquet: the material of "
                f"{ids[int(wrong[0])]} is not what the matches in comparison.parquet make of it"
            )
