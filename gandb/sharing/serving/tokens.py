"""Bearer tokens (RFC 6750) for what is not public, kept as SHA-256 alone.

A token has 256 random bits, so that its plain SHA-256 can neither be guessed nor turned back. They
are compared in constant time.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from gandb.core.errors import NotFoundError, UsageError
from gandb.core.ids import sha256_hex
from gandb.jobs.queue import now
from gandb.schema.tables import access_token, publication
from gandb.store import Store

_PREFIX = "gandb_"
_BYTES = 32
_SHOWN = 8


@dataclass(frozen=True)
class Token:
    """A token as the store has it.

    Attributes:
        sha256: of the token.
        label: whom it was given to.
        publications: what it opens; None for everything.
        created_at: when it was made, UTC.
        revoked_at: when it ceased to be valid, UTC; None while it is.
    """

    sha256: str
    label: str
    publications: tuple[str, ...] | None
    created_at: datetime
    revoked_at: datetime | None

    @property
    def short(self) -> str:
        """The first digits of its hash: what people type."""
        return self.sha256[:_SHOWN]

    def opens(self, name: str) -> bool:
        """Say whether it opens a publication."""
        return self.publications is None or name in self.publications


def create_token(
    store: Store, label: str, publications: Sequence[str] | None = None
) -> tuple[str, Token]:
    """Make a token; the first of what is returned is shown once and kept nowhere.

    Args:
        store: where.
        label: whom it is for.
        publications: names of what it opens; None for everything, also what comes later.

    Raises:
        UsageError: the label is empty, or has a valid token already.
        NotFoundError: a publication does not exist.
    """
    if not label.strip():
        raise UsageError("say whom the token is for")
    text = _PREFIX + secrets.token_urlsafe(_BYTES)
    with store.write(alone=False) as tx:
        if any(t.label == label and not t.revoked_at for t in list_tokens(tx.connection)):
            raise UsageError(
                f"{label!r} has a token: revoke it first (gandb token revoke), or take another "
                "label"
            )
        names = sorted(set(publications)) if publications else None
        known = list(tx.connection.scalars(sa.select(publication.c.name)))
        for name in names or ():
            if name not in known:
                raise NotFoundError.naming("publication", name, known)
        row = {
            "sha256": sha256_hex(text.encode()),
            "label": label,
            "publications": names,
            "created_at": now(),
            "revoked_at": None,
        }
        tx.execute(access_token.insert(), row)
    return text, _token(row)


def list_tokens(connection: sa.Connection) -> list[Token]:
    """Return all tokens, revoked ones too, by label."""
    query = sa.select(access_token).order_by(access_token.c.label, access_token.c.created_at)
    return [_token(row) for row in connection.execute(query).mappings()]


def revoke_token(store: Store, label: str) -> Token:
    """Take a token back, by its label or the beginning of its hash.

    Raises:
        NotFoundError: there is no valid token of that name.
        UsageError: several begin so.
    """
    with store.write(alone=False) as tx:
        valid = [t for t in list_tokens(tx.connection) if not t.revoked_at]
        found = [t for t in valid if t.label == label] or [
            t for t in valid if len(label) >= 4 and t.sha256.startswith(label)
        ]
        if not found:
            raise NotFoundError.naming("valid token", label, [t.label for t in valid])
        if len(found) > 1:
            raise UsageError(f"{label!r} fits {len(found)} tokens: give more of the hash")
        moment = now()
        tx.execute(
            access_token.update()
            .where(access_token.c.sha256 == found[0].sha256)
            .values(revoked_at=moment)
        )
        return found[0]


def find_token(connection: sa.Connection, text: str) -> Token | None:
    """Return the valid token of this text; how long it takes tells nothing of those kept."""
    wanted = sha256_hex(text.encode("utf-8", "surrogateescape"))
    found = None
    for token in list_tokens(connection):
        same = hmac.compare_digest(token.sha256, wanted)
        if same and token.revoked_at is None:
            found = token
    return found


def _token(row: Mapping[Any, Any]) -> Token:
    names = row["publications"]
    return Token(
        sha256=row["sha256"],
        label=row["label"],
        publications=None if names is None else tuple(names),
        created_at=row["created_at"],
        revoked_at=row["revoked_at"],
    )
