"""Where the real data lie that some tests read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

SHARED = Path(
    os.environ.get("GANDB_SHARED_DATA", Path(__file__).parents[2] / "shared" / "data")
).resolve()

real = pytest.mark.skipif(
    not (SHARED / "structures").is_dir(), reason="the real structures are not here"
)
