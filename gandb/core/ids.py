"""Content ids: 128-bit BLAKE2b of canonical bytes, kept apart by domain, written as UUIDs.

The same content has the same id in every store, so imports are idempotent and stores merge
without renumbering. All 128 bits are hash: no UUID version is stamped in.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from enum import StrEnum
from typing import Any
from uuid import UUID


class Domain(StrEnum):
    """What an id names. At most 16 bytes: it becomes BLAKE2b's ``person`` field."""

    COMPOSITION = "gandb.compos"
    STRUCTURE = "gandb.structure"
    ENTRY = "gandb.entry"
    SNAPSHOT = "gandb.snapshot"
    DATASET = "gandb.dataset"
    DATASET_VERSION = "gandb.version"
    MODEL = "gandb.model"
    CHECKPOINT = "gandb.checkpoint"
    JOB = "gandb.job"
    CANDIDATE = "gandb.candidate"
    RECIPE = "gandb.recipe"


def content_id(domain: Domain, data: bytes) -> UUID:
    """Return the id of canonical bytes ``data`` in ``domain``."""
    return UUID(bytes=hashlib.blake2b(data, digest_size=16, person=domain.encode()).digest())


def canonical_json(value: Any) -> bytes:
    """Serialise plain JSON data to one byte string: sorted keys, no spaces, UTF-8, no NaN."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()


def json_id(domain: Domain, value: Mapping[str, Any]) -> UUID:
    """Return the id of a JSON object."""
    return content_id(domain, canonical_json(value))


def sha256_hex(data: bytes) -> str:
    """Return the SHA-256 of ``data`` in hexadecimal: the name of a blob."""
    return hashlib.sha256(data).hexdigest()
