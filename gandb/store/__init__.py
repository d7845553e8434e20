"""The database and the files of a store, on either engine."""

from gandb.store.reader import StoreReader
from gandb.store.store import Store
from gandb.store.transaction import Transaction

__all__ = ["Store", "StoreReader", "Transaction"]
