"""Read-only statements on DuckDB, in a sandbox of its own settings.

What the engine enforces: the file is open read-only; no files, network, extensions or Python
objects; the configuration is locked. What is checked before: one statement that reads, and no
table function beyond those listed here. The list matters: with the sandbox on, DuckDB 1.5 still
runs ``enable_logging(storage = 'file')`` from a SELECT, and ``pandas_scan(NULL)`` ends the process.
"""

from __future__ import annotations

import json
import re
import secrets
import tempfile
import threading
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from gandb.core.errors import QueryError
from gandb.query import calls
from gandb.query.catalog import relations
from gandb.query.diagnosis import Complaint, explain
from gandb.query.result import Column, Limits, unique_names

_TABLE_FUNCTIONS = frozenset(
    """
    duckdb_columns duckdb_constraints duckdb_functions duckdb_indexes duckdb_keywords
    duckdb_schemas duckdb_tables duckdb_types duckdb_views generate_series histogram
    histogram_values json_each json_tree pragma_show pragma_storage_info pragma_table_info
    pragma_version range repeat repeat_row summary unnest
    """.split()
)
_VOLATILE_FUNCTIONS = frozenset(
    "error gen_random_uuid random setseed stats uuid uuidv4 uuidv7".split()
)

# Names in most queries, known to be harmless: looking functions up costs 20 ms.
_COMMON = frozenset(
    """
    abs all and any any_value approx_count_distinct arg_max arg_min array_agg array_contains
    array_length as avg between bool_and bool_or by case cast cbrt ceil ceiling coalesce concat
    concat_ws contains corr count count_if covar_pop covar_samp cume_dist date_diff date_part
    date_trunc dense_rank distinct else ends_with exists exp extract filter first first_value
    floor format from greatest group having if ifnull ilike in instr intersect isfinite isnan join
    json_extract json_extract_string lag last last_value lead least left len length like limit
    list list_aggregate list_contains list_distinct list_filter list_has_all list_has_any
    list_sort list_sum list_transform list_unique list_value ln log log10 log2 lower ltrim mad max
    max_by md5 median min min_by mod mode not now nth_value ntile nullif on or order over
    partition percent_rank pi position pow power printf product quantile quantile_cont
    quantile_disc rank regexp_extract regexp_extract_all regexp_full_match regexp_matches
    regexp_replace replace reverse right round row_number rtrim select set sign split_part sqrt
    starts_with stddev stddev_pop stddev_samp strftime string_agg string_split strlen strptime
    struct_pack substr substring sum then to_json trim trunc try_cast typeof union upper using
    values var_pop var_samp variance when where with
    """.split()
)

_SETTINGS = (  # for every connection of this process to the same file, in this order
    ("python_enable_replacements", "false"),
    ("python_scan_all_frames", "false"),
    ("TimeZone", "'UTC'"),
    ("allowed_configs", "['errors_as_json', 'enable_progress_bar']"),  # of one connection
    ("allow_community_extensions", "false"),
    ("autoinstall_known_extensions", "false"),
    ("autoload_known_extensions", "false"),
    ("allow_persistent_secrets", "false"),
    ("enable_external_access", "false"),
    ("lock_configuration", "true"),
)

_SANDBOXING = threading.Lock()
_NO_SUCH_COLUMN = re.compile(r'does not have a column named "([^"]*)"')


def sandbox(connection: duckdb.DuckDBPyConnection, limits: Limits) -> None:
    """Take from a fresh connection everything but reading its own file.

    The connections of one process to one file share a configuration. Where another query of this
    process has already locked it, there is nothing left to set.
    """
    with _SANDBOXING:
        _sandbox(connection, limits)


def _sandbox(connection: duckdb.DuckDBPyConnection, limits: Limits) -> None:
    row = connection.execute(
        "SELECT current_setting('lock_configuration'), current_setting('enable_external_access')"
    ).fetchone()
    if row == (True, False):
        return
    spill = Path(tempfile.gettempdir()) / f"gandb-sql-{secrets.token_hex(8)}"
    quoted = str(spill).replace("'", "''")
    connection.execute(f"SET memory_limit = '{_size(limits.memory)}'")
    connection.execute(f"SET temp_directory = '{quoted}'")
    connection.execute(f"SET max_temp_directory_size = '{_size(limits.spill)}'")
    if limits.threads is not None:
        connection.execute(f"SET threads = {int(limits.threads)}")
    for name, value in _SETTINGS:
        connection.execute(f"SET GLOBAL {name} = {value}")


def _size(text: str) -> str:
    if not re.fullmatch(r"\d+(\.\d+)?\s?[KMGT]?i?B", text):
        raise QueryError(f"{text!r} is not a size: write it like 2GB or 512MiB")
    return text


class DuckDBReader:
    """One statement on a sandboxed connection."""

    failures = (duckdb.Error, OSError, pa.ArrowInvalid, pa.ArrowNotImplementedError)

    def __init__(self, connection: duckdb.DuckDBPyConnection, limits: Limits) -> None:
        """Sandbox the connection."""
        self._limits = limits
        self._reader: Any = None
        self._schema: pa.Schema | None = None
        sandbox(connection, limits)
        # A connection of one's own takes over those settings and keeps the store's as it was.
        self._connection = connection.cursor()
        self._connection.execute("SET errors_as_json = true")
        self._connection.execute("SET enable_progress_bar = false")  # it would print on stdout

    def cancel(self) -> None:
        """Ask the running query to stop."""
        self._connection.interrupt()

    def start(self, statement: str) -> tuple[tuple[Column, ...], pa.Schema, bool]:
        """Check and execute the statement; return columns, schema and whether it is a plan.

        Raises:
            QueryError: it is refused.
            duckdb.Error: it fails.
        """
        plan = self._check(statement)
        cursor = self._connection.execute(statement)
        description = cursor.description or []
        self._reader = cursor.to_arrow_reader(self._limits.batch_rows)
        names = unique_names(str(column[0]) for column in description)
        columns = tuple(
            Column(name, str(column[1])) for name, column in zip(names, description, strict=True)
        )
        arrow = self._reader.schema
        fields = [field.with_name(name) for name, field in zip(names, arrow, strict=True)]
        self._schema = pa.schema(fields)
        return columns, self._schema, plan

    def next_batch(self) -> pa.RecordBatch | None:
        """Return the next rows, or None after the last."""
        try:
            batch = self._reader.read_next_batch()
        except StopIteration:
            return None
        return pa.RecordBatch.from_arrays(batch.columns, schema=self._schema)

    def explain(self, error: Exception, statement: str) -> QueryError:
        """Turn a failure into the error for the user."""
        return explain(
            _complaint(error, statement),
            statement,
            lambda: relations(self._connection, "duckdb"),
        )

    def close(self) -> None:
        """Let go of the result."""
        self._reader = None
        self._connection.close()

    def _check(self, statement: str) -> bool:
        """Refuse what is not one reading statement; return whether it is an EXPLAIN."""
        statements = self._connection.extract_statements(statement)
        kinds = [parsed.type.name for parsed in statements]
        if len(kinds) != 1:
            pivots = "CREATE" in kinds and "pivot" in calls.words(statement)
            advice = "PIVOT needs its values listed: ON column IN (...)" if pivots else "give one"
            raise QueryError(f"{len(kinds)} statements ({', '.join(kinds)}) in one query: {advice}")
        plan = kinds[0] == "EXPLAIN"
        if plan:
            inner = calls.EXPLAIN.sub("", statement, count=1)
            kinds = [parsed.type.name for parsed in self._connection.extract_statements(inner)]
        if kinds != ["SELECT"]:
            raise QueryError(
                f"{', '.join(kinds) or 'this statement'} is refused, because queries only read: "
                "use SELECT, WITH, VALUES, EXPLAIN, DESCRIBE, SHOW or SUMMARIZE"
            )
        rewritten = statements[0].query.strip() not in statement
        if rewritten and "pragma" in calls.words(statement):
            raise QueryError("PRAGMA is refused: use DESCRIBE, SHOW or SUMMARIZE")
        if statements[0].named_parameters:
            raise QueryError("the query has parameters ($1, ?): write the values into it")
        self._check_functions(statement + " " + statements[0].query)
        return plan

    def _check_functions(self, statement: str) -> None:
        """Refuse table functions that are not listed and functions with side effects."""
        names = sorted(calls.called(statement) - _COMMON - _TABLE_FUNCTIONS - _VOLATILE_FUNCTIONS)
        if not names:
            return
        rows = self._connection.execute(
            "SELECT DISTINCT lower(function_name) FROM duckdb_functions() "
            "WHERE list_contains(?, lower(function_name)) AND (NOT internal "
            "OR function_type NOT IN ('scalar', 'aggregate', 'macro') "
            "OR (function_type = 'scalar' AND stability = 'VOLATILE'))",
            [names],
        ).fetchall()
        refused = [row[0] for row in rows]
        calls.refuse(refused, "function" if len(refused) == 1 else "functions")


def _complaint(error: Exception, statement: str) -> Complaint:
    """Read an error that DuckDB wrote as JSON (setting ``errors_as_json``)."""
    text = str(error)
    start = text.find("{")
    try:
        details = json.loads(text[start:]) if start >= 0 else {}
    except json.JSONDecodeError:
        details = {}
    message = details.get("exception_message")
    if not isinstance(message, str):
        return Complaint(text)
    if message.startswith(("Cannot access", "Loading external")):
        message = "files, network and extensions are out of reach of a query: " + message
    position = None
    if str(details.get("position", "")).isdigit():  # in bytes of UTF-8
        before = statement.encode()[: int(details["position"])]
        position = len(before.decode(errors="replace"))
    subtype, name = details.get("error_subtype"), str(details.get("name", ""))
    missing = None
    if subtype == "MISSING_ENTRY" and details.get("type") in ("Table", "View"):
        missing = "relation"
    elif subtype == "COLUMN_NOT_FOUND":
        missing = "column"
    elif found := _NO_SUCH_COLUMN.search(message):
        missing, name = "column", found.group(1)
    return Complaint(message, position, missing, name)
