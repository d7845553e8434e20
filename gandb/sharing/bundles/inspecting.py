"""What a bundle is, told without taking it in; of a broken one, as far as it can be read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from gandb.core.errors import GandbError, InputError
from gandb.sharing.bundles.bundle import (
    LARGEST_DOCUMENT,
    MANIFEST,
    TABLES,
    Bundle,
    bundle_files,
    open_bundle,
)

_SHOWN = 80


@dataclass(frozen=True)
class Inspection:
    """What could be read of a bundle.

    Attributes:
        facts: what it is: origin, versions of gandb and of the schema, size, number of blobs.
        rows: of every table that has any.
        datasets: ``ORIGIN/NAME@3`` with entries, and whether the members are there.
        licences: terms and attributions, as the manifest has them.
        selection: what was asked to be packed.
        problem: why it could not be opened; None if it is sound in form.
    """

    facts: Mapping[str, Any]
    rows: Mapping[str, int] = field(default_factory=dict)
    datasets: list[dict[str, Any]] = field(default_factory=list)
    licences: list[dict[str, Any]] = field(default_factory=list)
    selection: Mapping[str, Any] = field(default_factory=dict)
    problem: GandbError | None = None

    def as_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            **self.facts,
            "rows": dict(self.rows),
            "datasets": self.datasets,
            "licences": self.licences,
            "selection": dict(self.selection),
            "problem": None if self.problem is None else str(self.problem),
        }


def inspect(path: Path) -> Inspection:
    """Look into a bundle.

    Raises:
        InputError: there is nothing at the path.
    """
    if not path.exists():
        raise InputError(f"there is no bundle at {path}")
    problem: GandbError | None = None
    datasets: list[dict[str, Any]] = []
    try:
        with open_bundle(path) as bundle:
            datasets = _datasets(bundle)
    except GandbError as error:
        problem = error
    manifest, sha256 = _manifest(path)
    files = _objects(manifest.get("files"))
    sizes = [f["size"] for f in files.values() if isinstance(f.get("size"), int)]
    facts = {
        "bundle": str(path),
        "origin": _text(manifest.get("origin")),
        "gandb": _text(manifest.get("gandb")),
        "revision": _text(manifest.get("revision")),
        "published": _text(manifest.get("published")),
        "licence": _text(manifest.get("licence")),
        "size": sum(sizes),
        "blobs": sum(1 for name in files if name.startswith("blobs/")),
        "sha256": sha256,
    }
    rows = {t.name: files.get(t.path, {}).get("rows") for t in TABLES}
    selection = manifest.get("selection")
    licences = manifest.get("licences")
    return Inspection(
        facts=facts,
        rows={name: n for name, n in rows.items() if isinstance(n, int) and n},
        datasets=datasets,
        licences=[x for x in licences if isinstance(x, dict)] if isinstance(licences, list) else [],
        selection=selection if isinstance(selection, dict) else {},
        problem=problem,
    )


def _manifest(path: Path) -> tuple[dict[str, Any], str | None]:
    """Return what there is of a manifest, and its hash."""
    try:
        with bundle_files(path) as files, files.open(MANIFEST) as handle:
            data = handle.read(LARGEST_DOCUMENT)
        found = json.loads(data)
    except (GandbError, OSError, KeyError, ValueError, RecursionError):
        return {}, None
    sha256 = hashlib.sha256(data).hexdigest()
    return (found if isinstance(found, dict) else {}), sha256


def _objects(value: Any) -> dict[str, dict[str, Any]]:
    if not isinstance(value, dict):
        return {}
    return {k: v for k, v in value.items() if isinstance(v, dict)}


def _text(value: Any) -> str | None:
    return value[:_SHOWN] if isinstance(value, str) else None


def _datasets(bundle: Bundle) -> list[dict[str, Any]]:
    def rows(name: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = pq.read_table(bundle.tables[name]).to_pylist()
        return found

    names = {row["id"]: row["name"] for row in rows("dataset")}
    versions = {row["id"]: row for row in rows("dataset_version")}
    shared = {row["version_id"] for row in rows("dataset_base")}
    tags: dict[str, list[str]] = {}
    for row in rows("dataset_tag"):
        tags.setdefault(row["version_id"], []).append(row["tag"])
    found = [
        {
            "dataset": f"{names.get(row['dataset_id'])}@{row['number']}",
            "entries": versions.get(row["version_id"], {}).get("n_entries"),
            "members": "here" if row["version_id"] in shared else "not shared",
            "tags": ", ".join(sorted(tags.get(row["version_id"], []))),
            "message": row["message"],
            "version_id": row["version_id"],
        }
        for row in rows("dataset_number")
    ]
    return sorted(found, key=lambda row: str(row["dataset"]))
