"""An engine's complaint as one clear message: what, where in the query, what exists instead."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gandb.core.errors import QueryError, known_names
from gandb.query.calls import words
from gandb.query.catalog import Relation

_EXCERPT = 100  # characters of the query shown around the position


@dataclass(frozen=True)
class Complaint:
    """What an engine said.

    Attributes:
        message: in its words.
        position: offset into the query in characters, if it gave one.
        missing: ``"relation"`` or ``"column"`` if such a name does not exist, else None.
        name: that name.
    """

    message: str
    position: int | None = None
    missing: str | None = None
    name: str = ""


def explain(
    complaint: Complaint, statement: str, relations: Callable[[], list[Relation]]
) -> QueryError:
    """Build the error for the user.

    Args:
        complaint: what the engine said.
        statement: the query as typed.
        relations: lists the tables and views; called only for a missing name.
    """
    message = _one_line(complaint.message)
    if complaint.missing == "relation":
        names = [relation.name for relation in relations()]
        hint = known_names("table or view", complaint.name, names)
        message = f"no table or view named {complaint.name!r}; {hint}"
    elif complaint.missing == "column":
        hint = known_names("column", complaint.name, _columns(statement, relations()))
        message = f"no column named {complaint.name!r}; {hint}"
    return QueryError(message + _marked(statement, complaint.position))


def _columns(statement: str, relations: list[Relation]) -> list[str]:
    """Return the columns of the relations that the query names, or of all if it names none."""
    named = words(statement)
    used = [relation for relation in relations if relation.name.lower() in named]
    return [column.name for relation in used or relations for column in relation.columns]


def _one_line(message: str) -> str:
    """Join the lines that belong to the message; drop an engine's own list of candidates."""
    lines = [line.strip() for line in message.strip().splitlines()]
    kept: list[str] = []
    for line in lines:
        if line.startswith(("LINE ", "Candidate ", "Did you mean")):
            break
        if line:
            kept.append(line)
    return " ".join(kept)


def _marked(statement: str, position: int | None) -> str:
    """Show the line of the query with a caret under the position."""
    if position is None or not 0 <= position <= len(statement):
        return ""
    start = statement.rfind("\n", 0, position) + 1
    number = statement.count("\n", 0, position) + 1
    line = statement[start:].split("\n", 1)[0].replace("\t", " ")
    column = position - start
    first = max(0, column - _EXCERPT // 2)
    excerpt = line[first : first + _EXCERPT]
    left = "..." if first else ""
    right = "..." if first + _EXCERPT < len(line) else ""
    caret = " " * (len(left) + column - first) + "^"
    return f" (line {number}, column {column + 1})\n  {left}{excerpt}{right}\n  {caret}"
