r"""The prompt of ``gandb sql``: history, highlighting, completion and a few commands."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from prompt_toolkit import PromptSession
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.filters import Condition
from prompt_toolkit.history import FileHistory
from prompt_toolkit.input import Input
from prompt_toolkit.lexers import PygmentsLexer
from prompt_toolkit.output import Output
from pygments.lexers.sql import PostgresLexer  # type: ignore[import-untyped]

from gandb.cli import results
from gandb.cli.output import emit, message
from gandb.core.config import state_home
from gandb.core.errors import GandbError, NotFoundError, UsageError
from gandb.query import catalog
from gandb.query.formats import FileFormat
from gandb.query.readonly import run
from gandb.query.result import Limits, ReadableStore

HELP = r"""Type a SELECT that ends in ; and press Enter. Nothing you type can change the store.

  \d, .schema           tables and views
  \d NAME               columns of a table or view
  .format NAME          how results are written: table, csv, json, jsonl, md
  .limit N              rows a table shows; 0 shows all
  help, \?              this
  \q, exit, Ctrl-D      leave

Tab completes names; Ctrl-C cancels a query or clears the line; arrows walk the history."""

_KEYWORDS = """
    ALL AND AS ASC AVG BETWEEN BY CASE CAST COUNT DESC DISTINCT ELSE END EXCEPT EXISTS EXPLAIN FALSE
    FILTER FROM FULL GROUP HAVING ILIKE IN INNER INTERSECT IS JOIN LEFT LIKE LIMIT MAX MEDIAN MIN
    NOT NULL NULLS OFFSET ON OR ORDER OUTER OVER PARTITION RIGHT ROUND SELECT STRING_AGG SUM THEN
    TRUE UNION USING VALUES WHEN WHERE WITH
""".split()
_FORMATS = (results.TABLE, *(f.value for f in FileFormat if f is not FileFormat.PARQUET))
_WORD = re.compile(r"[\w\\.]+$")
_AFTER_RELATION_WORD = re.compile(r"(?:\b(?:from|join)|\\d)\s+\w*$", re.IGNORECASE)


def finished(text: str) -> bool:
    """Say whether Enter should run the text rather than start another line."""
    stripped = text.strip()
    return not stripped or stripped.endswith(";") or _is_command(stripped)


def _is_command(text: str) -> bool:
    return text.startswith(("\\", ".")) or text.lower() in ("help", "exit", "quit")


class NameCompleter(Completer):
    """Complete keywords and the names of one store's tables, views and columns."""

    def __init__(self, relations: Iterable[catalog.Relation] = ()) -> None:
        self.relations = list(relations)

    def get_completions(self, document: Document, event: CompleteEvent) -> Iterator[Completion]:
        """Yield what the word before the cursor may become."""
        before = document.text_before_cursor
        found = _WORD.search(before)
        word = found.group(0) if found else ""
        owner, dot, start = word.rpartition(".")
        if not dot:
            start = word
        for name, kind in self._candidates(before, owner if dot else None):
            if name.lower().startswith(start.lower()) and name != start:
                yield Completion(name, start_position=-len(start), display_meta=kind)

    def _candidates(self, before: str, owner: str | None) -> Iterator[tuple[str, str]]:
        names = [(relation.name, relation.kind) for relation in self.relations]
        if _AFTER_RELATION_WORD.search(before):
            yield from names
            return
        owners = [relation for relation in self.relations if relation.name == owner]
        columns: dict[str, str] = {}
        for relation in owners or self.relations:
            for column in relation.columns:
                columns.setdefault(column.name, column.type)
        yield from columns.items()
        if owner is None:
            yield from names
            yield from ((keyword, "") for keyword in _KEYWORDS)


class Prompt:
    """Read queries and commands and answer them, each on a connection of its own.

    Between queries no connection is open, so a prompt left alone keeps nobody waiting.
    """

    def __init__(
        self,
        store: ReadableStore,
        *,
        limits: Limits,
        rows: int = 40,
        output_format: str | None = None,
        history: Path | None = None,
        terminal: tuple[Input, Output] | None = None,
    ) -> None:
        """Prepare the prompt and read the store's names.

        Args:
            store: where to ask.
            limits: of each query.
            rows: how many rows a table shows; 0 shows all.
            output_format: how results are written; a table by default.
            history: file of earlier lines, ``sql_history`` in the user's state folder by default.
            terminal: input and output other than this process's terminal.
        """
        self._store = store
        self._limits = limits
        self._rows = rows
        self._format = results.TABLE
        if output_format is not None:
            self._set_format(output_format)
        self._completer = NameCompleter()
        if history is None:
            history = state_home() / "sql_history"
        history.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        source, sink = terminal or (None, None)
        self._session: PromptSession[str] = PromptSession(
            history=FileHistory(str(history)),
            lexer=PygmentsLexer(PostgresLexer),
            completer=self._completer,
            complete_while_typing=False,
            multiline=Condition(lambda: not finished(self._session.default_buffer.text)),
            prompt_continuation="   ...> ",
            enable_open_in_editor=False,
            input=source,
            output=sink,
        )

    def loop(self) -> None:
        """Answer until the user leaves."""
        self._refresh()
        message(r"Read-only SQL; end a query with ; (help explains, \d lists views, \q leaves)")
        while True:
            try:
                text = self._session.prompt("gandb> ").strip()
            except KeyboardInterrupt:
                continue
            except EOFError:
                return
            if text.rstrip(";").strip().lower() in ("\\q", "exit", "quit", ".quit", ".exit"):
                return
            if text:
                self._answer(text)

    def _answer(self, text: str) -> None:
        try:
            if _is_command(text.rstrip(";").strip()):
                self._command(text.rstrip(";").split())
            else:
                self._query(text)
        except GandbError as error:
            message(f"error: {error}")
        except KeyboardInterrupt:
            message("cancelled")

    def _query(self, statement: str) -> None:
        start = time.perf_counter()
        with run(self._store, statement, self._limits) as result:
            shown = results.show(result, self._format, self._rows)
        message(f"({shown}, {time.perf_counter() - start:.3f} s)")

    def _command(self, words: list[str]) -> None:
        name, arguments = words[0].lower(), words[1:]
        if name in ("help", "\\?", "\\h", ".help"):
            message(HELP)
        elif name in ("\\d", "\\dt", "\\dv", ".schema", ".tables"):
            self._refresh()
            self._describe(arguments[0] if arguments else None)
        elif name == ".format" and len(arguments) == 1:
            self._set_format(arguments[0])
        elif name == ".limit" and len(arguments) == 1 and arguments[0].isdecimal():
            self._rows = int(arguments[0])
        else:
            raise UsageError(f"{' '.join(words)!r} is no command: help lists them")

    def _describe(self, name: str | None) -> None:
        listed = self._completer.relations
        if name is None:
            rows: list[dict[str, Any]] = [
                {
                    "name": relation.name,
                    "kind": relation.kind,
                    "columns": ", ".join(column.name for column in relation.columns),
                }
                for relation in sorted(
                    listed, key=lambda relation: (relation.kind != "view", relation.name)
                )
            ]
            emit(rows, as_json=False)
            return
        for relation in listed:
            if relation.name == name:
                emit(
                    [{"column": column.name, "type": column.type} for column in relation.columns],
                    as_json=False,
                )
                return
        raise NotFoundError.naming("table or view", name, [relation.name for relation in listed])

    def _set_format(self, name: str) -> None:
        if name not in _FORMATS:
            raise UsageError(f"no format {name!r} at a prompt; known: {', '.join(_FORMATS)}")
        self._format = name

    def _refresh(self) -> None:
        self._completer.relations = catalog.load(self._store)
