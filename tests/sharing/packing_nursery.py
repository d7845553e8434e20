"""As `tests.tasks.nursery`, with what packing loads at hand."""

from __future__ import annotations

from gandb.cli import share  # noqa: F401
from gandb.sharing.bundles import packing, selection  # noqa: F401
from tests.tasks import nursery

if __name__ == "__main__":
    nursery.main()
