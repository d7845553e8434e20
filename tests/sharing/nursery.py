"""As `tests.tasks.nursery`, for merges: where they may die."""

from __future__ import annotations

from gandb.cli import share_merge  # noqa: F401 - loads what the command loads
from gandb.identity import kernel_comparison  # noqa: F401
from gandb.sharing.merging import merging, names, report
from gandb.store.files import Files
from gandb.store.transaction import Transaction
from gandb.tasks import identity  # noqa: F401
from tests.tasks import nursery

nursery.TRAPS |= {
    "verified": (merging, "verify_content", True),  # before anything is written
    "blob": (Files, "put_blob", True),  # blobs are there, and no row names them
    "compared": (Transaction, "absent", True),
    "appended": (Transaction, "append_all", True),
    "version": (names, "store_version", True),
    "stated": (report, "merge_statements", False),
    "recorded": (Transaction, "insert_new", True),  # at last the bundle itself
    "merged": (merging, "_merge", True),  # right after the commit
}

if __name__ == "__main__":
    nursery.main()
