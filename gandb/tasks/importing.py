"""Importing formula tables of a source as entries of a recorded snapshot.

The whole import is one chunk and one transaction: it goes in with all its rows, or not at all.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gandb.core.compositions import uuid_array
from gandb.core.errors import InputError, NotFoundError, UsageError
from gandb.core.ids import Domain, json_id
from gandb.jobs.queue import now
from gandb.jobs.records import Context, JobSpec, Outcome
from gandb.schema import tables
from gandb.sources import SOURCES
from gandb.sources.base import ParsedTable
from gandb.sources.entries import Join
from gandb.sources.tables import read_tables
from gandb.store import Transaction
from gandb.tasks.rows import Compositions, entry_ids, merge_compositions, repeat_id

KIND = "import"
_STEPS = 3
_SHOWN = 5


def import_job(
    source: str,
    files: Sequence[Path],
    *,
    mapping: Mapping[str, str] | None = None,
    join: str = "formula",
    release: str | None = None,
    query: str | None = None,
    strict: bool = False,
) -> JobSpec:
    """Describe the job of importing files of a source.

    Args:
        source: oqmd, mp or aflow.
        files: tables that together state the entries.
        mapping: column to ``formula``, ``external_id``, ``ignore`` or ``PROPERTY[:UNIT]``.
        join: ``formula`` or ``none``, see `gandb.sources.entries.Join`.
        release: release of the database, as the user states it.
        query: what was asked of the database, as the user states it.
        strict: refuse everything if a single row is malformed.

    Raises:
        NotFoundError: the source is unknown.
        UsageError: two files have one name.
        InputError: a file cannot be read.
    """
    if source not in SOURCES:
        raise NotFoundError.naming("source", source, SOURCES)
    names = Counter(path.name for path in files)
    if double := [name for name, times in names.items() if times > 1]:
        raise UsageError(
            f"{len(files)} files were given, and several are named {', '.join(double)}: rejected "
            "rows are told by the name of their file, so each needs a name of its own"
        )
    return JobSpec(
        kind=KIND,
        spec={
            "source": source,
            "files": [_describe(path) for path in files],
            "mapping": dict(sorted((mapping or {}).items())),
            "join": join,
            "release": release,
            "filter": query,
            "strict": strict,
        },
        totals=(_STEPS,),
    )


def _describe(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as handle:
            digest = hashlib.file_digest(handle, "sha256").hexdigest()
        return {
            "path": str(path.resolve()),
            "name": path.name,
            "sha256": digest,
            "size": path.stat().st_size,
        }
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error


def snapshot_id(spec: Mapping[str, Any]) -> UUID:
    """Return the id of the snapshot that an import makes."""
    return json_id(
        Domain.SNAPSHOT,
        {
            "source": spec["source"],
            "release": spec["release"],
            "filter": spec["filter"],
            "files": [{"name": f["name"], "sha256": f["sha256"]} for f in spec["files"]],
            "options": _options(spec),
        },
    )


def _options(spec: Mapping[str, Any]) -> dict[str, Any]:
    return {"mapping": dict(spec["mapping"]), "join": spec["join"]}


def import_tables(context: Context) -> Outcome:
    """Read the files, work out ids and verdicts, and hand over the merge."""
    spec = context.job.spec
    for file in spec["files"]:
        if _describe(Path(file["path"]))["sha256"] != file["sha256"]:
            raise InputError(
                f"{file['path']} has changed since the import was asked for; import it again"
            )
    paths = [Path(f["path"]) for f in spec["files"]]
    parsed = read_tables(paths, SOURCES[spec["source"]], spec["mapping"], Join(spec["join"]))
    context.progress(1)
    if spec["strict"] and parsed.rejects:
        shown = "; ".join(
            f"{Path(r.file).name} line {r.line}: {r.reason}" for r in parsed.rejects[:_SHOWN]
        )
        raise InputError(
            f"{len(parsed.rejects)} rows are malformed and --strict was asked for, so nothing was "
            f"imported ({shown}{'; ...' if len(parsed.rejects) > _SHOWN else ''})"
        )
    prepared = _Prepared.of(spec, parsed)
    context.progress(2)
    return Outcome(prepared.merge, prepared.result())


@dataclass(frozen=True)
class _Prepared:
    """An import with its rows worked out, so that the transaction is short."""

    snapshot: dict[str, Any]
    compositions: Compositions
    entries: pa.Table
    members: pa.Table
    rejects: pa.Table
    parsed: ParsedTable

    @classmethod
    def of(cls, spec: Mapping[str, Any], parsed: ParsedTable) -> _Prepared:
        own_id = snapshot_id(spec)
        reduced, units = parsed.compositions.reduced()
        unique = reduced.unique()
        compositions = Compositions.of(unique.ids, reduced.take(unique.first))
        composition_ids = unique.ids[unique.inverse]
        ids = entry_ids(
            parsed.source,
            composition_ids,
            parsed.ordinals,
            {k: v.to_numpy(zero_copy_only=False) for k, v in parsed.properties.items()},
            external_ids=_listed(parsed.external_ids),
            extra=_listed(parsed.extra),
        )
        return cls(
            _snapshot_row(own_id, spec, parsed),
            compositions,
            _entry_rows(ids, composition_ids, units, parsed),
            pa.table({"snapshot_id": repeat_id(own_id, len(ids)), "entry_id": uuid_array(ids)}),
            _reject_rows(own_id, parsed),
            parsed,
        )

    def merge(self, tx: Transaction) -> None:
        """Write everything in the caller's transaction."""
        merge_compositions(tx, self.compositions)
        tx.insert_new(tables.source_snapshot, self.snapshot)
        tx.merge(tables.entry, self.entries)
        tx.merge(tables.snapshot_entry, self.members)
        tx.merge(tables.snapshot_reject, self.rejects)

    def result(self) -> dict[str, Any]:
        """Return the counts of the import; equal whenever the same files are read."""
        counts = self.parsed.counts
        return {
            "snapshot_id": str(self.snapshot["id"]),
            "rows_read": counts.rows_read,
            "rows_rejected": counts.rows_rejected,
            "entries": counts.entries,
            "entries_joined": counts.entries_joined,
            "rows_kept_apart": counts.rows_kept_apart,
            "compositions": len(self.compositions.ids),
        }


def _entry_rows(
    ids: np.ndarray, composition_ids: np.ndarray, units: np.ndarray, parsed: ParsedTable
) -> pa.Table:
    n = len(parsed)
    columns = {
        "id": uuid_array(ids),
        "source": pa.repeat(pa.scalar(parsed.source), n),
        "external_id": _or_nulls(parsed.external_ids, n),
        "composition_id": uuid_array(composition_ids),
        "formula": parsed.formulas,
        "formula_units": pa.array(units.astype(np.int32)),
        "ordinal": pa.array(parsed.ordinals),
        "extra": _or_nulls(parsed.extra, n),
    }
    for name, values in parsed.properties.items():
        numbers = values.to_numpy(zero_copy_only=False)
        columns[name] = pa.array(numbers + 0.0, from_pandas=True)  # NaN becomes null
    return pa.table(columns)


def _listed(texts: pa.StringArray | None) -> list[str | None] | None:
    return None if texts is None else texts.to_pylist()


def _or_nulls(texts: pa.StringArray | None, n: int) -> pa.Array:
    return pa.nulls(n, pa.string()) if texts is None else texts


def _reject_rows(own_id: UUID, parsed: ParsedTable) -> pa.Table:
    rejects = parsed.rejects
    table = pa.table(
        {
            "snapshot_id": repeat_id(own_id, len(rejects)),
            "file": pa.array([Path(r.file).name for r in rejects], pa.string()),
            "line": pa.array([r.line for r in rejects], pa.int64()),
            "reason": pa.array([r.reason for r in rejects], pa.string()),
            "raw": pa.array([r.raw.replace("\x00", "\ufffd") for r in rejects], pa.string()),
        }
    )
    key = pc.binary_join_element_wise(
        table["file"], table["line"].cast(pa.string()), table["reason"], "\x1f"
    )
    first = np.unique(np.array(key.to_pylist(), dtype=object).astype(str), return_index=True)[1]
    return table.take(pa.array(np.sort(first))) if len(rejects) else table


def _snapshot_row(own_id: UUID, spec: Mapping[str, Any], parsed: ParsedTable) -> dict[str, Any]:
    source = SOURCES[spec["source"]]
    return {
        "id": own_id,
        "source": source.name,
        "release": spec["release"],
        "filter": spec["filter"],
        "files": [{k: f[k] for k in ("name", "sha256", "size")} for f in spec["files"]],
        "options": _options(spec),
        "licence": source.licence,
        "attribution": source.attribution,
        "n_rows": parsed.counts.rows_read,
        "n_entries": parsed.counts.entries,
        "n_rejects": parsed.counts.rows_rejected,
        "imported_at": now(),
    }
