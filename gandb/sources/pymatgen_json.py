"""JSON of pymatgen structures: one, a list, ``{id: structure}``, or JSON Lines.

A structure by its id may also be in a record, under ``structure``; what else the record says is
kept as extra. (Lists of such records are tables, see `gandb.sources.structure_tables`.) Structures
are ``Structure.as_dict`` of any version of pymatgen
(doi:10.1016/j.commatsci.2012.10.028).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from gandb.core.errors import InputError
from gandb.sources.base import Reject
from gandb.sources.documents import Document, documents, kept
from gandb.sources.json_items import MAX_ITEM, READ_ERRORS, pairs
from gandb.sources.own_records import KEY, restored
from gandb.sources.records import Format, Member, Record, reject
from gandb.sources.structures import is_structure, sites_of_structure

_IDS = ("material_id", "mp_id", "mpid", "id", "_id", "name", "identifier")
"""Where a record has its id, the first that is there."""
_STRUCTURE = ("lattice", "sites", "charge")
_IN_LINES = re.compile(rb"\s*\{[^\n]*\}\s*\n\s*\{")
_LATTICE = re.compile(
    rb'"lattice"\s*:\s*(\{\s*"(@module|@class|matrix|pbc|a|b|c|alpha|beta|gamma|volume)"|\[)'
)
_SITES = re.compile(rb'"sites"\s*:\s*\[\s*\{\s*"(@module|@class|species|abc|xyz|label|properties)"')
_RECORD = re.compile(rb'"structure"\s*:')
_BY_ID = re.compile(rb'\s*\{\s*"(?!structure"|lattice")[^"]*"\s*:\s*\{')
_OTHERS = (b'"ComputedStructureEntry"', b'"ComputedEntry"', b'"Trajectory"', b'"Molecule"')
_BEFORE = b"\xef\xbb\xbf \t\r\n"


def _fits(name: str, head: bytes) -> bool:
    text = head.lstrip(_BEFORE)
    if text[:1] not in (b"{", b"[") or any(other in head for other in _OTHERS):
        return False
    if not (_LATTICE.search(text) or _SITES.search(text)):
        return False
    return not _RECORD.search(text) or (bool(_BY_ID.match(text)) and not _in_lines(name, text))


def _read(member: Member) -> Iterator[Record | Reject]:
    try:
        with member.open() as handle:
            first = handle.readline(MAX_ITEM)
            head = first + handle.read(2**10)
        if head.lstrip(_BEFORE)[:1] == b"{" and not _in_lines(member.name.lower(), head):
            yield from _read_object(member)
            return
        for found in documents(member):
            yield _record(member, found) if isinstance(found, Document) else found
    except READ_ERRORS as error:
        yield reject(member, 1, f"cannot be read: {error}")


PYMATGEN_JSON = Format("pymatgen-json", "pymatgen structures as JSON", _fits, _read)
"""``Structure.as_dict``, one or many."""


def _in_lines(name: str, head: bytes) -> bool:
    return bool(re.search(r"\.(jsonl|ndjson)\b", name) or _IN_LINES.match(head.lstrip(_BEFORE)))


def _read_object(member: Member) -> Iterator[Record | Reject]:
    """Read a file of one object: a structure, a record, or structures by id."""
    whole: dict[str, Any] = {}
    size = 0
    count = 0
    try:
        with member.open() as stream:
            for name, value in pairs(stream):
                if _holds_structure(value) and name != "structure":
                    count += 1
                    yield _record(member, Document(count, value), external_id=name)
                    continue
                if count:  # among structures by id
                    if not name.startswith("@"):
                        count += 1
                        yield reject(member, count, f"{name[:100]!r} is no structure", _raw(value))
                    continue
                whole[name] = value
                size += len(name) + _weight(value)
                if size > MAX_ITEM:
                    yield reject(member, 1, "is one object of too many values; split it")
                    return
    except READ_ERRORS as error:
        yield reject(member, count + 1, f"cannot be read on: {error}")
        return
    if not count:
        yield _record(member, Document(1, whole))
    elif whole.keys() - {"@module", "@class", "@version"}:
        for name in whole:
            if not name.startswith("@"):
                count += 1
                yield reject(member, count, f"{name[:100]!r} is no structure", _raw(whole[name]))


def _holds_structure(value: Any) -> bool:
    return is_structure(value) or (
        isinstance(value, Mapping) and is_structure(value.get("structure"))
    )


def _weight(value: Any) -> int:
    return 8 if not isinstance(value, str | list | dict) else 8 * len(value)


def _raw(value: Any) -> str:
    return json.dumps(value, default=str)[:2_000]


def _record(member: Member, found: Document, external_id: str | None = None) -> Record | Reject:
    data = found.value
    try:
        if is_structure(data):
            beside = {k: v for k, v in data.items() if k not in _STRUCTURE and k[:1] != "@"}
            structure = data
        elif isinstance(data.get("structure"), Mapping):
            structure = data["structure"]
            beside = {k: v for k, v in data.items() if k != "structure" and k[:1] != "@"}
        else:
            raise InputError("holds no structure: neither lattice and sites, nor a 'structure'")
        for name in _IDS:
            value = beside.get(name)
            if external_id is None and isinstance(value, str | int) and str(value).strip():
                external_id = str(beside.pop(name)).strip()
        record = Record(
            file=member.name,
            line=found.line,
            external_id=external_id,
            structure=sites_of_structure(structure),
            extra=kept(beside),
        )
        own = structure.get("properties")
        return restored(record, own.get(KEY) if isinstance(own, Mapping) else None)
    except InputError as error:
        return reject(member, found.line, str(error), _raw(data))
