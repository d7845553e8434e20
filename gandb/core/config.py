"""Settings, built once by the command line and passed on."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Settings:
    """What a run of gandb was told.

    Attributes:
        store: path of a store directory, or a PostgreSQL URL; None if neither was given.
        lock_timeout: seconds to wait for another process to finish its transaction.
        lease_seconds: a worker that has been silent for longer has lost its chunk.
    """

    store: str | None = None
    lock_timeout: float = 600.0
    lease_seconds: float = 60.0

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Settings:
        """Read ``GANDB_STORE``, ``GANDB_LOCK_TIMEOUT`` and ``GANDB_LEASE_SECONDS``."""
        return cls(
            store=environment.get("GANDB_STORE") or None,
            lock_timeout=float(environment.get("GANDB_LOCK_TIMEOUT", cls.lock_timeout)),
            lease_seconds=float(environment.get("GANDB_LEASE_SECONDS", cls.lease_seconds)),
        )


def state_home(environment: Mapping[str, str] = os.environ) -> Path:
    """Return the folder for what a user's shell keeps between runs (prompt history)."""
    base = environment.get("XDG_STATE_HOME")
    return (Path(base) if base else Path.home() / ".local" / "state") / "gandb"
