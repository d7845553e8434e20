"""Every column is explained, and the explanation is of what the database has."""

from __future__ import annotations

import re

import pytest
import sqlalchemy as sa

from gandb.core.config import Settings
from gandb.core.errors import NotFoundError
from gandb.schema import dictionary
from gandb.schema.columns import LABEL, column
from gandb.schema.tables import metadata
from gandb.schema.views import VIEWS, load_view
from gandb.store import Store

NUMBERS = {"bigint", "integer", "smallint", "double"}
DUCKDB_TYPES = {"VARCHAR": "text", "VARCHAR[]": "text[]", "DOUBLE[]": "double[]"}
POSTGRES_TYPES = {
    "bytea": "blob",
    "double precision": "double",
    "double precision[]": "double[]",
    "jsonb": "json",
    "timestamp without time zone": "timestamp",
}
UNITS = {
    "", LABEL, "1", "rows", "atoms", "elements", "formula units", "samples", "steps", "bytes",
    "chunks", "attempts", "iterations", "iterations or samples", "atoms/atoms", "UTC",
    "sites", "structures", "pairs", "cell edges", "degrees", "Å", "Å³", "e",
    "eV", "eV/atom", "eV/Å", "of the check", "Å³/atom", "GPa", "K", "W/(m K)", "1/K", "μB",
}  # fmt: skip


@pytest.mark.parametrize("name", [r["name"] for r in dictionary.relations()])
def test_every_column_has_meaning_unit_and_provenance(name: str) -> None:
    rows = dictionary.describe(name)
    assert rows
    for row in rows:
        assert re.fullmatch(r"\S.*[.]", row["meaning"]), row
        assert row["provenance"].split(":")[0] in {"gandb", "user", "source", "worker"}, row
        assert row["type"], row
        assert row["unit"] in UNITS, row
        if row["type"] in NUMBERS:
            assert row["unit"], row
        if row["type"] == "timestamp":
            assert row["unit"] == "UTC", row


def test_every_relation_says_what_a_row_is() -> None:
    listed = dictionary.relations()
    assert [r["name"] for r in listed[: len(VIEWS)]] == list(VIEWS)
    assert {r["name"] for r in listed[len(VIEWS) :]} == set(metadata.tables)
    assert all(r["meaning"].endswith(".") for r in listed)


@pytest.mark.parametrize(
    ("meaning", "provenance", "type_", "unit"),
    [
        ("", "gandb", sa.Text(), ""),
        ("What.", "", sa.Text(), ""),
        ("What.", "gandb", sa.Double(), ""),
        ("What.", "gandb", sa.SmallInteger(), ""),
    ],
)
def test_an_unexplained_column_cannot_be_declared(
    meaning: str, provenance: str, type_: sa.types.TypeEngine[object], unit: str
) -> None:
    with pytest.raises(ValueError, match="needs"):
        column("x", type_, meaning, unit=unit, provenance=provenance)


def test_an_unknown_relation_names_those_that_exist() -> None:
    with pytest.raises(NotFoundError, match="entries"):
        dictionary.describe("entrys")


def test_the_dictionary_is_of_what_the_database_has(store_url: str) -> None:
    store = Store.create(Settings(store=store_url))
    with store.read() as connection:
        if store.kind == "duckdb":
            query = (
                "SELECT table_name, column_name, data_type FROM duckdb_columns() "
                "WHERE NOT internal ORDER BY table_name, column_index"
            )
            names = DUCKDB_TYPES
        else:
            query = (
                "SELECT c.relname, a.attname, format_type(a.atttypid, NULL) "
                "FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid "
                "WHERE c.relnamespace = current_schema()::regnamespace "
                "AND c.relkind IN ('r', 'v') AND a.attnum > 0 ORDER BY c.relname, a.attnum"
            )
            names = POSTGRES_TYPES
        found: dict[str, list[tuple[str, str]]] = {}
        for relation, name, type_ in connection.exec_driver_sql(query):
            found.setdefault(relation, []).append((name, names.get(type_, type_.lower())))
    del found["alembic_version"]
    assert set(found) == {r["name"] for r in dictionary.relations()}
    for relation, columns in found.items():
        told = [(row["column"], row["type"]) for row in dictionary.describe(relation)]
        assert told == columns, relation


@pytest.mark.parametrize("name", VIEWS)
def test_every_line_of_a_view_is_noted(name: str) -> None:
    view = load_view(name)
    body = view.sql.split("SELECT", 1)[1].split("\nFROM", 1)[0]
    lines = [line for line in body.splitlines() if line.strip()]
    assert len(lines) == len(view.notes)
    assert all(" -- " in line for line in lines)
