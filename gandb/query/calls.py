"""Which words a statement contains and which of them it could call as functions.

This is the second guard of `gandb.query.readonly`, behind what the engines enforce. It does not
parse SQL: it errs towards seeing a call where there is none, in a string or a comment, so that no
trick of quoting hides one.
"""

from __future__ import annotations

import re

from gandb.core.errors import QueryError

MAX_STATEMENT = 1_000_000  # characters

_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# A word, perhaps the end of a quoted name, then what may stand before a parenthesis. Engines take
# several non-ASCII characters for blanks, so all of them count as such; so does a comment.
_CALL = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)\"?(?:[\s\x00-\x20]|[^\x00-\x7f])*(?=\(|--|/\*)")
_ESCAPED_NAME = re.compile(r"[uU]&\"")
_LONGEST_NAME = 63  # PostgreSQL cuts names to this many bytes

EXPLAIN = re.compile(
    r"\A\s*explain\b(?P<options>\s*\((?=\s*(?:analyze|verbose|costs|buffers|timing|summary|format)\b)"
    r"[a-z0-9_,\s]*\)|(?:\s+(?:analyze|verbose)\b)*)\s*",
    re.IGNORECASE,
)


def checked(statement: str) -> str:
    """Return the statement, or refuse one that no honest query looks like.

    Raises:
        QueryError: it is empty, too long, or hides names behind escapes.
    """
    if not statement.strip().strip(";").strip():
        raise QueryError("the query is empty: give one SELECT statement")
    if len(statement) > MAX_STATEMENT:
        raise QueryError(
            f"the query has {len(statement):,} characters, more than {MAX_STATEMENT:,}: "
            "put long lists of values into a dataset"
        )
    if "\0" in statement:
        raise QueryError("the query contains a NUL character")
    if _ESCAPED_NAME.search(statement):
        raise QueryError('names written as U&"..." are refused: write the characters themselves')
    return statement


def words(statement: str) -> set[str]:
    """Return every word anywhere in the statement, in lower case, as PostgreSQL cuts them."""
    return {word.lower()[:_LONGEST_NAME] for word in _WORD.findall(statement)}


def called(statement: str) -> set[str]:
    """Return every word that a parenthesis or a comment follows, in lower case."""
    return {word.lower()[:_LONGEST_NAME] for word in _CALL.findall(statement)}


def refuse(names: list[str], what: str) -> None:
    """Raise if there is anything to refuse.

    Raises:
        QueryError: naming them.
    """
    if names:
        listed = ", ".join(sorted(names))
        raise QueryError(f"{what} {listed}: refused, because queries only read the store's data")
