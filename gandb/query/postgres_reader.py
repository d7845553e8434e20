"""Read-only statements on PostgreSQL: a server-side cursor in a READ ONLY transaction.

What the server enforces: DECLARE CURSOR takes one SELECT or VALUES, without writing WITH parts; the
transaction writes nothing; a superuser reads as ``pg_read_all_data``. What is checked before,
because a READ ONLY transaction still lets a SELECT signal other sessions, write large objects,
read settings or change the role back: which functions and system tables the text names.

Remaining risk, with an account that may do more than read: operators, casts and views of this
database that call harmful functions in their definitions. Give readers a role with SELECT only.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import psycopg
import pyarrow as pa
from psycopg.types.string import TextLoader

from gandb.core.errors import QueryError
from gandb.query import calls
from gandb.query.catalog import relations
from gandb.query.diagnosis import Complaint, explain
from gandb.query.result import Column, Limits, unique_names

_CURSOR = "gandb_query"
_GRACE_MS = 5_000  # the server's own limit, if this process dies without cancelling
_DECLARE = f'DECLARE "{_CURSOR}" NO SCROLL CURSOR FOR '

_VOLATILE_FUNCTIONS = (
    "bernoulli clock_timestamp gen_random_uuid random random_normal setseed system timeofday "
    "uuidv4 uuidv7"
).split()
_SYSTEM_FUNCTIONS = (
    "pg_collation_for pg_column_compression pg_column_size pg_describe_object pg_get_constraintdef "
    "pg_get_expr pg_get_indexdef pg_get_keywords pg_get_serial_sequence pg_get_userbyid "
    "pg_get_viewdef pg_has_role pg_input_error_info pg_input_is_valid pg_size_bytes pg_size_pretty "
    "pg_table_is_visible pg_timezone_abbrevs pg_timezone_names pg_type_is_visible pg_typeof"
).split()
# Stable, but they run SQL given as text or tell about the server.
_REFUSED_FUNCTIONS = (
    "current_setting inet_client_addr inet_client_port inet_server_addr inet_server_port "
    "database_to_xml database_to_xml_and_xmlschema database_to_xmlschema "
    "schema_to_xml schema_to_xml_and_xmlschema schema_to_xmlschema "
    "table_to_xml table_to_xml_and_xmlschema table_to_xmlschema"
).split()
_SYSTEM_TABLES = (
    "pg_aggregate pg_am pg_attrdef pg_attribute pg_cast pg_class pg_collation pg_constraint "
    "pg_depend pg_description pg_enum pg_index pg_indexes pg_inherits pg_language pg_matviews "
    "pg_namespace pg_operator pg_proc pg_range pg_sequence pg_sequences pg_tables pg_type pg_views"
).split()

# Of functions outside pg_catalog, immutable ones that an extension brings in C cannot reach beyond
# their arguments; many of them overload common names, as pgvector does with avg.
_FUNCTIONS = r"""
SELECT DISTINCT lower(p.proname)
FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_language l ON l.oid = p.prolang
WHERE lower(p.proname) = ANY(%(called)s) AND NOT CASE
    WHEN p.proname = ANY(%(refused)s) THEN false
    WHEN p.pronamespace <> 'pg_catalog'::regnamespace THEN
        p.provolatile = 'i' AND l.lanname IN ('c', 'internal') AND EXISTS (
            SELECT 1 FROM pg_catalog.pg_depend d
            WHERE d.classid = 'pg_catalog.pg_proc'::regclass AND d.objid = p.oid
              AND d.deptype = 'e')
    WHEN p.proname LIKE 'pg\_%%' THEN p.proname = ANY(%(system)s)
    ELSE p.provolatile <> 'v' OR p.proname = ANY(%(volatile)s) END
"""
_TABLES = """
SELECT DISTINCT lower(c.relname) FROM pg_catalog.pg_class c
WHERE lower(c.relname) = ANY(%(words)s) AND (
    c.relkind = 'f'
    OR (c.relnamespace = 'pg_catalog'::regnamespace AND c.relname <> ALL(%(allowed)s))
    OR c.relname IN ('user_mapping_options', '_pg_user_mappings'))
"""
_NAME = r'(?:"(?:[^"]|"")*"|[\w$]+)'
_IDENTIFIERS = re.compile(rf"{_NAME}(?:\s*\.\s*{_NAME})*")

_ARROW = {
    "bool": pa.bool_(),
    "int2": pa.int16(),
    "int4": pa.int32(),
    "int8": pa.int64(),
    "oid": pa.uint32(),
    "float4": pa.float32(),
    "float8": pa.float64(),
    "numeric": pa.float64(),
    "date": pa.date32(),
    "time": pa.time64("us"),
    "timestamp": pa.timestamp("us"),
    "timestamptz": pa.timestamp("us", "UTC"),
    "bytea": pa.binary(),
}


class PostgresReader:
    """One statement in a transaction that only reads."""

    failures = (psycopg.Error, pa.ArrowInvalid, pa.ArrowTypeError, OverflowError)

    def __init__(self, connection: psycopg.Connection[Any], limits: Limits) -> None:
        """Restrict the transaction."""
        self._connection = connection
        self._limits = limits
        self._cursor: psycopg.ServerCursor[Any] | psycopg.Cursor[Any] | None = None
        self._schema: pa.Schema | None = None
        self._offset = 0
        self._restrict()

    def _restrict(self) -> None:
        run = self._connection.execute
        run("SET TRANSACTION READ ONLY")
        run("SET LOCAL TimeZone = 'UTC'")
        run("SET LOCAL cursor_tuple_fraction = 1.0")  # plan for all rows, not for the first
        if self._limits.timeout is not None:
            run(f"SET LOCAL statement_timeout = {int(self._limits.timeout * 1000) + _GRACE_MS}")
        role = run("SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user")
        if role.fetchone() != (False,):
            try:
                run("SET LOCAL ROLE pg_read_all_data")
            except psycopg.Error as error:
                raise QueryError(
                    "a superuser's queries need PostgreSQL 14 or later, which can run them as a "
                    "reader: connect as a role with SELECT only"
                ) from error

    def cancel(self) -> None:
        """Ask the running query to stop."""
        self._connection.cancel_safe(timeout=5.0)

    def start(self, statement: str) -> tuple[tuple[Column, ...], pa.Schema, bool]:
        """Check and execute the statement; return columns, schema and whether it is a plan.

        Raises:
            QueryError: it is refused.
            psycopg.Error: it fails.
        """
        self._check_names(statement)
        prefix = calls.EXPLAIN.match(statement)
        inner = statement[prefix.end() :] if prefix else statement
        self._offset = len(_DECLARE) - (prefix.end() if prefix else 0)
        cursor = self._connection.cursor(name=_CURSOR, scrollable=False)
        _read_as_text(cursor)
        self._cursor = cursor
        cursor.execute(inner.encode())
        if prefix:  # the cursor has shown that the rest is one SELECT
            cursor.close()
            options = (prefix["options"] or "").strip()
            self._offset = 0
            self._cursor = self._connection.cursor()
            _read_as_text(self._cursor)
            self._cursor.execute(f"EXPLAIN {options} {inner}".encode(), (), binary=False)
        description = self._cursor.description or []
        if not description:
            raise QueryError("the query has no columns")
        names = unique_names(column.name for column in description)
        columns = tuple(
            Column(name, column.type_display)
            for name, column in zip(names, description, strict=True)
        )
        types = _arrow_types(self._connection)
        self._schema = pa.schema(
            [
                (name, _decimal(column) or types.get(column.type_code, pa.string()))
                for name, column in zip(names, description, strict=True)
            ]
        )
        return columns, self._schema, prefix is not None

    def next_batch(self) -> pa.RecordBatch | None:
        """Return the next rows, or None after the last."""
        if self._cursor is None or self._schema is None:
            return None
        rows = self._cursor.fetchmany(self._limits.batch_rows)
        if not rows:
            return None
        columns = zip(zip(*rows, strict=True), self._schema, strict=True)
        arrays = [_array(values, field) for values, field in columns]
        return pa.RecordBatch.from_arrays(arrays, schema=self._schema)

    def explain(self, error: Exception, statement: str) -> QueryError:
        """Turn a failure into the error for the user."""
        return explain(self._complaint(error, statement), statement, self._relations)

    def close(self) -> None:
        """Let go of the result and the transaction."""
        if self._connection.closed:
            return
        if self._cursor is not None:
            self._cursor.close()
        self._connection.rollback()

    def _relations(self) -> list[Any]:
        self._connection.rollback()
        return relations(self._connection, "postgres")

    def _check_names(self, statement: str) -> None:
        functions = self._connection.execute(
            _FUNCTIONS,
            {
                "called": sorted(calls.called(statement)),
                "refused": _REFUSED_FUNCTIONS,
                "system": _SYSTEM_FUNCTIONS,
                "volatile": _VOLATILE_FUNCTIONS,
            },
        ).fetchall()
        refused = [row[0] for row in functions]
        calls.refuse(refused, "function" if len(refused) == 1 else "functions")
        tables = self._connection.execute(
            _TABLES, {"words": sorted(calls.words(statement)), "allowed": _SYSTEM_TABLES}
        ).fetchall()
        refused = [row[0] for row in tables]
        calls.refuse(refused, "system or foreign table")

    def _complaint(self, error: Exception, statement: str) -> Complaint:
        if not isinstance(error, psycopg.Error) or error.diag.message_primary is None:
            return Complaint(str(error))
        message, state = error.diag.message_primary, error.sqlstate
        if state == "42601" and "multiple commands" in message:
            return Complaint("several statements in one query: give one")
        if "DECLARE CURSOR" in message:
            return Complaint("a WITH part that writes is refused, because queries only read")
        position = None
        if error.diag.statement_position is not None:
            position = int(error.diag.statement_position) - 1 - self._offset
            found = _IDENTIFIERS.match(statement, max(position, 0))
            word = found.group(0) if found else ""
            if state == "42601" and word.lower() in _STATEMENTS:
                message = (
                    f"{word.upper()} is refused, because queries only read: "
                    "use SELECT, WITH, VALUES or EXPLAIN"
                )
            if state == "42P01" and "FROM-clause" not in message:
                return Complaint(message, position, "relation", _last_part(word))
            if state == "42703":
                return Complaint(message, position, "column", _last_part(word))
        return Complaint(message, position)


_STATEMENTS = frozenset(
    """
    alter analyze begin call checkpoint close cluster comment commit copy create deallocate declare
    delete discard do drop end execute explain fetch grant import insert listen load lock merge move
    notify prepare reassign refresh reindex release reset revoke rollback savepoint security set
    show start truncate unlisten update vacuum
    """.split()
)


def _last_part(identifier: str) -> str:
    """Return ``c`` of ``a.b.c``, unquoted."""
    return re.split(r"\s*\.\s*", identifier)[-1].strip('"').replace('""', '"')


def _read_as_text(cursor: psycopg.Cursor[Any]) -> None:
    """Let types that Arrow takes as text arrive as text."""
    for info in cursor.adapters.types:
        if info.name not in _ARROW:
            cursor.adapters.register_loader(info.oid, TextLoader)


def _arrow_types(connection: psycopg.Connection[Any]) -> dict[int, pa.DataType]:
    """Map type OIDs to Arrow types; a type that is absent arrives as text."""
    types: dict[int, pa.DataType] = {}
    for info in connection.adapters.types:
        base = _ARROW.get(info.name, pa.string())
        types[info.oid] = base
        if info.array_oid:
            types[info.array_oid] = pa.list_(base)
    return types


def _decimal(column: psycopg.Column) -> pa.DataType | None:
    """Return the exact type of ``numeric(p, s)``; a bare ``numeric`` becomes a double."""
    precision, scale = column.precision, column.scale
    if precision is None or scale is None or column.type_code != _NUMERIC_OID:
        return None
    return pa.decimal128(precision, scale) if 0 <= scale <= precision <= 38 else None


_NUMERIC_OID = 1700


def _array(values: tuple[Any, ...], field: pa.Field) -> pa.Array:
    """Convert one column; numbers of unbounded precision are rounded to doubles."""
    convert: Callable[[Any], Any] | None = None
    if field.type == pa.float64():
        convert = _double
    elif field.type == pa.list_(pa.float64()):
        convert = _doubles
    try:
        return pa.array(values if convert is None else [convert(v) for v in values], field.type)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError) as error:
        raise QueryError(
            f"column {field.name!r} does not fit {field.type}: {error}; cast it to text"
        ) from error


def _double(value: Any) -> Any:
    return float(value) if isinstance(value, Decimal) else value


def _doubles(value: Any) -> Any:
    return None if value is None else [_double(item) for item in value]
