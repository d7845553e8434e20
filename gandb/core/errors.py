"""Every failure gandb reports on purpose, grouped by the stage that raises it.

A message says what is wrong, where, and what to do. The command line prints it without a
traceback and exits with ``exit_code``; anything that is not a `GandbError` is a defect.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class GandbError(Exception):
    """Base of all expected failures."""

    exit_code = 1


# --- what the user typed -----------------------------------------------------------------


class UsageError(GandbError):
    """An option or argument that cannot be used as given."""

    exit_code = 2


class NotFoundError(GandbError):
    """A named thing (dataset, job, checkpoint, column, unit ...) does not exist."""

    exit_code = 3

    @classmethod
    def naming(cls, kind: str, name: str, known: Iterable[str]) -> NotFoundError:
        """Build the error that names what does exist, nearest first.

        Example: ``NotFoundError.naming("dataset", "oqdm", ["oqmd", "mp"])``.
        """
        return cls(f"no {kind} named {name!r}; {known_names(kind, name, known)}")


def known_names(kind: str, name: str, known: Iterable[str], limit: int = 12) -> str:
    """Say which names exist, those nearest to ``name`` first."""
    names = sorted(set(known))
    if not names:
        return f"there is no {kind} yet"
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    ordered = near + [n for n in names if n not in near]
    shown = ", ".join(ordered[:limit])
    more = len(ordered) - limit
    return f"known: {shown}" + (f" and {more} more" if more > 0 else "")


# --- input data --------------------------------------------------------------------------


class InputError(GandbError):
    """A file or record that cannot be read as what it claims to be."""

    exit_code = 4


class FormulaError(InputError):
    """A chemical formula that is refused, with the reason."""


class UnitError(InputError):
    """A unit that is unknown or does not measure the property."""


# --- the store ---------------------------------------------------------------------------


class StoreError(GandbError):
    """The store cannot be opened, is not one, or lost its database."""

    exit_code = 5


class MemoryLimitError(StoreError):
    """The database needs more memory for a transaction than it may have."""


class RevisionError(StoreError):
    """The store's schema revision does not fit this version of gandb."""


class IntegrityError(StoreError):
    """What the store holds contradicts itself (a hash, a reference, a copy)."""


class QueryError(GandbError):
    """A SQL query that is refused or fails."""

    exit_code = 6


# --- jobs --------------------------------------------------------------------------------


class JobError(GandbError):
    """A job that failed, was cancelled, or cannot be resumed."""

    exit_code = 7


class MissingExtraError(GandbError):
    """An optional dependency is not installed."""

    exit_code = 8

    @classmethod
    def for_package(cls, package: str, extra: str) -> MissingExtraError:
        """Name the missing package and the extra that brings it."""
        return cls(
            f"this needs the package {package!r}: install it with pip install 'gandb[{extra}]'"
        )
