"""The small tables of a bundle: recipes, snapshots, versions, models, jobs, and what names them."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any
from uuid import UUID

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import sqlalchemy as sa

from gandb.core.errors import InputError, UsageError
from gandb.core.ids import Domain, content_id, json_id
from gandb.datasets.members import as_keys
from gandb.datasets.names import parse_reference, require_tag
from gandb.datasets.storing import version_id
from gandb.generators import MODELS
from gandb.generators.base import read_description
from gandb.jobs.records import JobSpec
from gandb.schema.tables import metadata
from gandb.sharing.bundles.bundle import ORIGIN, TABLES, Bundle
from gandb.sharing.bundles.versions import BundleVersions
from gandb.sharing.verifying.values import ids_of, shown
from gandb.tasks import TASKS, candidates
from gandb.tasks.data import EXTERNAL
from gandb.validation.charge import CNEN
from gandb.validation.standard_checks import STANDARD

RECIPES = frozenset(
    {
        *CNEN, *STANDARD, "coverage", "fingerprint", "holdout_recovery", "identity", "novelty",
        "relaxation", "space_group_found", "stability", "statistics", "structure_key",
        "structure_novelty", "symmetry", "uniqueness", "wasserstein",
    }
)  # fmt: skip
"""Checks that gandb knows; a recipe of another name cannot be told from nonsense."""
MOST_ROWS = 1_000_000
"""Rows of a table of recipes, versions, jobs ...: more are no work of a group."""
SUBJECTS = {"dataset_number": {"dataset", "number"}}
"""Keys of statements that are not the table's: names of datasets differ from store to store."""
_ROLES = ("model", "baseline", EXTERNAL)
_MEDIA = ("application/safetensors", "application/json")
_LARGEST_HEAD = 100_000_008


class _Rows:
    """The rows of a small table, told apart in messages by their number."""

    def __init__(self, bundle: Bundle, name: str) -> None:
        self.where = f"{bundle.path}: tables/{name}.parquet"
        table = next(t for t in TABLES if t.name == name)
        documents = {c.name for c in table.columns if isinstance(c.type, sa.JSON)}
        self._documents = documents
        if bundle.rows(name) > MOST_ROWS:
            raise InputError(f"{self.where} has {bundle.rows(name):,} rows; that cannot be")
        with pq.ParquetFile(bundle.tables[name]) as file:
            self._rows: list[dict[str, Any]] = file.read().to_pylist()
        self.at = 0

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for place, row in enumerate(self._rows):
            self.at = place
            yield {
                k: json.loads(v) if k in self._documents and v is not None else v
                for k, v in row.items()
            }

    def error(self, reason: str) -> InputError:
        """Return what is wrong with the present row."""
        return InputError(f"{self.where}: row {self.at + 1}: {reason}")


def verify_graph(bundle: Bundle) -> None:
    """Check the tables that are small, whole.

    Raises:
        InputError: something in them is not what it says.
    """
    _verify_recipes(bundle)
    _verify_snapshots(bundle)
    _verify_versions(bundle)
    names = _verify_datasets(bundle)
    _verify_tags(bundle, names)
    _verify_blobs(bundle)
    models = _verify_models(bundle)
    jobs = _verify_jobs(bundle)
    _verify_checkpoints(bundle, models, jobs)
    _verify_statements(bundle)


def _verify_recipes(bundle: Bundle) -> None:
    rows = _Rows(bundle, "recipe")
    for row in rows:
        if row["check_name"] not in RECIPES:
            raise rows.error(f"this gandb knows no check named {shown(row['check_name'])}")
        content = {
            "check": row["check_name"],
            "version": row["version"],
            "parameters": row["parameters"],
        }
        _require_id(rows, row, json_id(Domain.RECIPE, content))


def _require_id(rows: _Rows, row: Mapping[str, Any], expected: UUID) -> None:
    if row["id"] != str(expected):
        raise rows.error(f"the id {row['id']} is not that of its content, which is {expected}")


# --- snapshots ---------------------------------------------------------------------------


def _verify_snapshots(bundle: Bundle) -> None:
    """Check snapshots; of a live one that is not whole, the id cannot be worked out again."""
    rows = _Rows(bundle, "source_snapshot")
    members: dict[str, np.ndarray] | None = None
    for row in rows:
        if not isinstance(row["files"], list) or not isinstance(row["options"], dict):
            raise rows.error("files are no list, or options no object")
        try:
            files = [{"name": f["name"], "sha256": f["sha256"]} for f in row["files"]]
        except (TypeError, KeyError) as error:
            raise rows.error("a file has no name or no SHA-256") from error
        content: dict[str, Any] = {
            "source": row["source"],
            "release": row["release"],
            "filter": row["filter"],
            "files": files,
            "options": row["options"],
        }
        if row["parser"] is not None:
            content |= {"parser": row["parser"], "content": None}
        if row["endpoint"] is not None:
            members = _snapshot_members(bundle) if members is None else members
            own = members.get(row["id"], np.zeros(0, "S16"))
            if len(own) != row["n_entries"]:
                continue
            content["content"] = hashlib.sha256(np.sort(own).tobytes()).hexdigest()
        _require_id(rows, row, json_id(Domain.SNAPSHOT, content))


def _snapshot_members(bundle: Bundle) -> dict[str, np.ndarray]:
    with pq.ParquetFile(bundle.tables["snapshot_entry"]) as file:
        table = file.read()
    found = {}
    for snapshot in pc.unique(table.column("snapshot_id")).to_pylist():
        own = table.filter(pc.equal(table.column("snapshot_id"), snapshot))
        found[snapshot] = as_keys(ids_of(own.column("entry_id")))
    return found


# --- datasets ----------------------------------------------------------------------------


def _verify_versions(bundle: Bundle) -> None:
    where = f"{bundle.path}: tables/dataset_version.parquet"
    versions = BundleVersions(bundle)
    compositions: _Compositions | None = None
    for version in versions:
        if not isinstance(version.split_recipe, dict):
            raise InputError(f"{where}: the split recipe of version {version.id} is no object")
        own = version_id(version.members_hash, version.split_recipe, version.parents)
        if own != version.id:
            raise InputError(
                f"{where}: version {version.id} does not hold what its id says: hash, splits and "
                f"parents make {own}"
            )
        if not 0 < version.n_compositions <= version.n_entries:
            raise InputError(f"{where}: version {version.id} counts what cannot be")
        if not version.shared:
            continue
        members = versions.members(version)
        if members.hash() != version.members_hash or len(members) != version.n_entries:
            raise InputError(
                f"{where}: version {version.id} has other members than its hash says: "
                f"{len(members):,} of {version.n_entries:,}"
            )
        compositions = compositions or _Compositions(bundle)
        if (n := compositions.count(members.keys)) is None:
            continue  # the reference that is missing is told by `verify_relations`
        if n != version.n_compositions:
            raise InputError(
                f"{where}: version {version.id} has {n:,} compositions, not "
                f"{version.n_compositions:,}"
            )
    if strangers := versions.strangers():
        raise InputError(
            f"{bundle.path}: tables/dataset_member.parquet: version {strangers[0]} has members, "
            "but is not there, or has no row in dataset_base"
        )


class _Compositions:
    """Which composition each entry has."""

    def __init__(self, bundle: Bundle) -> None:
        keys, owners = [np.zeros(0, "S16")], [np.zeros(0, "S16")]
        with pq.ParquetFile(bundle.tables["entry"]) as file:
            for group in range(file.num_row_groups):
                rows = file.read_row_group(group, columns=["id", "composition_id"])
                keys.append(as_keys(ids_of(rows.column("id"))))
                owners.append(as_keys(ids_of(rows.column("composition_id"))))
        self._keys = np.concatenate(keys)
        _, self._of = np.unique(np.concatenate(owners), return_inverse=True)

    def count(self, members: np.ndarray) -> int | None:
        """Return how many compositions entries have; None if one is not there."""
        if not len(self._keys):
            return None
        place = np.minimum(np.searchsorted(self._keys, members), len(self._keys) - 1)
        if (self._keys[place] != members).any():
            return None
        return len(np.unique(self._of[place]))


def _verify_datasets(bundle: Bundle) -> dict[str, str]:
    rows = _Rows(bundle, "dataset")
    names = {}
    for row in rows:
        name = row["name"]
        try:
            plain = parse_reference(name)
        except UsageError:
            raise rows.error(f"{shown(name)} is no name of a dataset") from None
        if plain.name != name or "/" not in name:
            raise rows.error(f"{shown(name)} is not ORIGIN/NAME, as names in a bundle are")
        _require_id(rows, row, content_id(Domain.DATASET, name.encode()))
        names[row["id"]] = name
    return names


def _verify_tags(bundle: Bundle, names: Mapping[str, str]) -> None:
    rows = _Rows(bundle, "dataset_tag")
    for row in rows:
        try:
            require_tag(row["tag"])
        except UsageError:
            raise rows.error(f"{shown(row['tag'])} cannot be a tag") from None
        if not ORIGIN.fullmatch(row["origin"]):
            raise rows.error(f"{shown(row['origin'])} cannot name a group")
    rows = _Rows(bundle, "dataset_number")
    for row in rows:
        if row["dataset_id"] not in names:
            raise rows.error(f"it is of a dataset {row['dataset_id']} that is not there")
        if not isinstance(row["selection"], dict):
            raise rows.error("its selection is no object")


# --- models and jobs ---------------------------------------------------------------------


def _verify_blobs(bundle: Bundle) -> None:
    rows = _Rows(bundle, "blob")
    named = set()
    for row in rows:
        path = bundle.blobs.get(row["sha256"])
        if path is None:
            raise rows.error(f"the bundle has no file blobs/{shown(row['sha256'])}")
        if path.stat().st_size != row["size"]:
            raise rows.error(f"blob {row['sha256']} has {path.stat().st_size} bytes, not so many")
        if row["media_type"] not in _MEDIA:
            raise rows.error(f"a blob of type {shown(row['media_type'])} is nothing gandb keeps")
        named.add(row["sha256"])
    if strange := sorted(set(bundle.blobs) - named):
        raise InputError(f"{bundle.path}: blobs/{strange[0]} is named by no row of blob.parquet")


def _verify_models(bundle: Bundle) -> dict[str, dict[str, Any]]:
    rows = _Rows(bundle, "model")
    found = {}
    for row in rows:
        if row["role"] not in _ROLES:
            raise rows.error(f"{shown(row['role'])} is no role of a model")
        if row["role"] != EXTERNAL and row["name"] not in MODELS:
            raise rows.error(f"this gandb has no model {shown(row['name'])}")
        if not row["name"].isprintable() or not row["version"].isprintable():
            raise rows.error(f"{shown(row['name'])} cannot name a model")
        content = {k: row[k] for k in ("name", "version", "config")}
        _require_id(rows, row, json_id(Domain.MODEL, content))
        found[row["id"]] = row
    return found


def _verify_jobs(bundle: Bundle) -> dict[str, dict[str, Any]]:
    rows = _Rows(bundle, "job")
    found = {}
    for row in rows:
        if row["kind"] not in TASKS:
            raise rows.error(f"this gandb knows no job of kind {shown(row['kind'])}")
        if row["state"] != "done" or row["error"] is not None:
            raise rows.error(f"the job is {shown(row['state'])}; only what is done is shared")
        if not isinstance(row["spec"], dict):
            raise rows.error("its specification is no object")
        if row["n_chunks"] > MOST_ROWS:
            raise rows.error(f"a job of {row['n_chunks']:,} chunks cannot be")
        # What an import of candidates samples from is known only when it is done.
        made = row["kind"] == candidates.KIND
        spec = JobSpec(
            kind=row["kind"],
            spec=row["spec"],
            totals=(0,) * row["n_chunks"],
            dataset_version_id=_uuid(row["dataset_version_id"]),
            checkpoint_id=None if made else _uuid(row["checkpoint_id"]),
            seed=row["seed"],
        )
        _require_id(rows, row, spec.id)
        found[row["id"]] = row
    chunks: Counter[str] = Counter()
    rows = _Rows(bundle, "job_chunk")
    for row in rows:
        job = found.get(row["job_id"])
        if job is None:
            raise rows.error(f"it is of a job {row['job_id']} that is not there")
        if row["state"] != "done" or row["chunk"] != chunks[row["job_id"]]:
            raise rows.error("the chunk is not done, or not numbered from 0")
        chunks[row["job_id"]] += 1
    for own, row in found.items():
        if chunks[own] != row["n_chunks"]:
            raise InputError(
                f"{rows.where}: job {own} has {chunks[own]} chunks, not {row['n_chunks']}"
            )
    return found


def _uuid(text: str | None) -> UUID | None:
    return None if text is None else UUID(text)


def _verify_checkpoints(bundle: Bundle, models: Mapping[str, Any], jobs: Mapping[str, Any]) -> None:
    rows = _Rows(bundle, "checkpoint")
    for row in rows:
        model, job = models.get(row["model_id"]), jobs.get(row["job_id"])
        path = bundle.blobs.get(row["sha256"])
        if model is None or job is None or path is None:
            raise rows.error("its model, its job or its blob is not there")
        content: dict[str, Any] = {"model": row["model_id"]}
        if model["role"] == EXTERNAL:
            content |= {"dataset_version": "", "sha256": row["sha256"]}
            _require_card(rows, path.read_bytes(), model)
        else:
            content |= {
                "dataset_version": row["dataset_version_id"],
                "seed": row["seed"],
                "weights": row["sha256"],
            }
            with path.open("rb") as handle:
                _require_weights(rows, handle.read(_LARGEST_HEAD), path.stat().st_size, model)
        _require_id(rows, row, json_id(Domain.CHECKPOINT, content))


def _require_card(rows: _Rows, data: bytes, model: Mapping[str, Any]) -> None:
    try:
        card = json.loads(data)
        same = [card["model"], card["version"], card["origin"]] == [
            model["name"], model["version"], model["config"]["origin"],
        ]  # fmt: skip
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise rows.error(f"the document on its origin cannot be read: {error}") from error
    if not same:
        raise rows.error("the document on its origin is of another model")


def _require_weights(rows: _Rows, data: bytes, size: int, model: Mapping[str, Any]) -> None:
    """Check the header of safetensors: the model that it describes, and where tensors lie."""
    try:
        description = read_description(data)
        length = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + length])
        spans = sorted(
            tuple(int(end) for end in tensor["data_offsets"])
            for name, tensor in header.items()
            if name != "__metadata__"
        )
    except (InputError, ValueError, KeyError, TypeError, RecursionError, AttributeError) as error:
        raise rows.error(f"its weights cannot be read: {error}") from error
    at = 0
    for begin, end in spans:
        if begin != at or end < begin:
            raise rows.error("its weights cannot be read: tensors overlap or leave gaps")
        at = end
    if 8 + length + at != size:
        raise rows.error("its weights cannot be read: the file is longer or shorter than it says")
    stated = (description.get("model"), str(description.get("format")), description.get("config"))
    if stated != (model["name"], model["version"], model["config"]):
        raise rows.error("its weights are of another model, or of other settings")


# --- statements --------------------------------------------------------------------------


def _verify_statements(bundle: Bundle) -> None:
    rows = _Rows(bundle, "statement")
    tables = {t.name: t for t in metadata.sorted_tables}
    for row in rows:
        table = tables.get(row["relation"])
        if table is None or row["attribute"] not in table.c:
            raise rows.error(
                f"there is no {shown(row['relation'])} with {shown(row['attribute'])} to speak of"
            )
        if not ORIGIN.fullmatch(row["origin"]):
            raise rows.error(f"{shown(row['origin'])} cannot name a group")
        try:
            key = json.loads(row["subject"])
            json.loads(row["value"])
        except (ValueError, RecursionError) as error:
            raise rows.error("its subject or value is not JSON") from error
        names = SUBJECTS.get(table.name) or {c.name for c in table.primary_key.columns}
        if not isinstance(key, dict) or set(key) != names:
            raise rows.error("its subject is no key of the table that it names")
