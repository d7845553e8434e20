"""What an import has worked out so far: tables of rows, staged part by part."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from gandb.core.pool import Pool, default_processes
from gandb.jobs.records import Context
from gandb.sources.base import Reject
from gandb.sources.records import Record, reject_of
from gandb.tasks.preparing import Part

PART = 500
"""Records that are worked out and staged at a time."""
SPAN = 2_000
"""Parts whose keys are compared at once."""
PIECE = 4
"""Parts whose rows enter the store at once."""
FEW = 2_000
"""Up to so many records, other processes are not worth their start."""
LIMIT = 300.0
"""Seconds that a part may take in another process before it is looked into record by record."""
_WIDTH = 16
NAMES = ("compositions", "entries", "aliases", "structures", "symmetry", "rejects")


@dataclass
class Parts:
    """The rows that a job has worked out so far, staged.

    Attributes:
        counts: records and rejects so far.
        n: number of parts.
        finished: whether everything has been read.
    """

    context: Context
    counts: dict[str, int]
    n: int = 0
    finished: bool = False

    @classmethod
    def of(cls, context: Context) -> Parts:
        """Return what an earlier attempt left, or nothing."""
        staged = context.staged("parts.json")
        if staged is None:
            return cls(context, {"items": 0, "records": 0, "rejects": 0})
        return cls(context, **json.loads(staged))

    def extend(
        self, items: Iterator[Record | Reject], work: Callable[[Sequence[Any]], Part]
    ) -> None:
        """Work out the items that come after those done, and stage them part by part."""
        rest = itertools.islice(items, self.counts["items"], None)
        few = list(itertools.islice(rest, FEW))
        processes = default_processes() if len(few) == FEW else 0
        with Pool(work, processes, LIMIT, partial(_late, work)) as pool:
            sizes: list[int] = []

            def pieces() -> Iterator[list[Record | Reject]]:
                everything = itertools.chain(few, rest)
                while piece := list(itertools.islice(everything, PART)):
                    sizes.append(len(piece))
                    yield piece

            for place, part in enumerate(pool.map(pieces())):
                self._add(part, sizes[place])
                self.context.progress(self.counts["items"])
        self.finished = True
        self._save()

    def _add(self, part: Part, items: int) -> None:
        for name in NAMES:
            if part[name].num_rows:
                self.context.stage(f"{self.n:06d}.{name}", _packed(part[name]))
        self.n += 1
        self.counts["items"] += items
        self.counts["records"] += part["entries"].num_rows
        self.counts["rejects"] += part["rejects"].num_rows
        self._save()

    def _save(self) -> None:
        state = {"counts": self.counts, "n": self.n, "finished": self.finished}
        self.context.stage("parts.json", json.dumps(state).encode())

    def read(self, names: Iterable[str], columns: Sequence[str] | None = None) -> Part:
        """Return tables of all parts in one; without rows, a table is empty."""
        found = {name: list(self._tables(name, range(self.n), columns)) for name in names}
        return {
            name: pa.concat_tables(these) if these else pa.table({})
            for name, these in found.items()
        }

    def spans(self) -> Iterator[Span]:
        """Yield all parts, a million records at a time."""
        for begin in range(0, self.n, SPAN):
            yield Span(self, range(begin, min(begin + SPAN, self.n)))

    def _tables(
        self, name: str, numbers: Iterable[int], columns: Sequence[str] | None = None
    ) -> Iterator[pa.Table]:
        for number in numbers:
            data = self.context.staged(f"{number:06d}.{name}")
            if data is not None:
                table = pa.ipc.open_stream(pa.py_buffer(data)).read_all()
                yield table.select(columns) if columns else table


@dataclass(frozen=True)
class Span:
    """Consecutive parts, to be read as often as needed."""

    parts: Parts
    numbers: range

    def pieces(self, name: str) -> Iterator[pa.Table]:
        """Yield the rows of one table, of about two thousand records at a time."""
        tables = self.parts._tables(name, self.numbers)
        while some := list(itertools.islice(tables, PIECE)):
            yield pa.concat_tables(some)


def _late(
    work: Callable[[Sequence[Any]], Part], items: Sequence[Any], ask: Callable[[Any], Part]
) -> Part:
    """Find the record that keeps a process busy without end, and turn it away."""
    if len(items) == 1:
        (item,) = items
        if isinstance(item, Reject):
            return work(items)
        return work([reject_of(item, f"it takes longer than {LIMIT:g} s to work out")])
    half = len(items) // 2
    parts = [ask(items[:half]), ask(items[half:])]
    return {name: pa.concat_tables([part[name] for part in parts]) for name in NAMES}


def _packed(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with pa.ipc.new_stream(sink, table.schema, options=options) as writer:
        writer.write_table(table.combine_chunks())
    return bytes(sink.getvalue())


def distinct(table: pa.Table, *keys: str) -> pa.Table:
    """Return the rows with a key for the first time."""
    if not table.num_rows:
        return table
    texts = [
        np.array([bytes(v) for v in _storage(table.column(k)).to_pylist()], "S16")
        if isinstance(table.column(k).type, pa.UuidType)
        else np.array([str(v).encode() for v in table.column(k).to_pylist()], object)
        for k in keys
    ]
    if len(texts) == 1:
        first = np.unique(texts[0], return_index=True)[1]
    else:
        seen: dict[Any, int] = {}
        for row, key in enumerate(zip(*texts, strict=True)):
            seen.setdefault(key, row)
        first = np.array(list(seen.values()), np.int64)
    return table.take(pa.array(np.sort(first)))


def _storage(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return pa.chunked_array([chunk.storage for chunk in column.chunks], pa.binary(16))


def raw_ids(column: pa.ChunkedArray) -> np.ndarray:
    """Return a column of ids as uint8 (n, 16)."""
    found = [np.zeros((0, _WIDTH), np.uint8)]
    for chunk in _storage(column).chunks:
        data = np.frombuffer(chunk.buffers()[1] or b"", np.uint8).reshape(-1, _WIDTH)
        found.append(data[chunk.offset : chunk.offset + len(chunk)])
    return np.concatenate(found)
