"""The real files of the sources' own formats, and comparison of what was read with pymatgen."""

from __future__ import annotations

import gzip
import io
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pymatgen.core import Structure

from gandb.sources.base import Reject
from gandb.sources.records import Format, Member, Record, Sites

SHARED = Path(
    os.environ.get("GANDB_SHARED_DATA", Path(__file__).parents[3] / "shared" / "data")
).resolve()
NATIVE = SHARED / "native"
WITHIN = 1e-6
"""Å within which lattices agree."""

real = pytest.mark.skipif(not NATIVE.is_dir(), reason="the real native files are not here")


def member_of(path: Path) -> Member:
    """A file on disk, unpacked as it is read."""
    opener: Callable[..., Any] = gzip.open if path.suffix == ".gz" else Path.open
    return Member(path.name.removesuffix(".gz"), None, partial(opener, path, "rb"))


def text_member(text: str | bytes, name: str = "a.json") -> Member:
    """A file that holds a text."""
    data = text.encode() if isinstance(text, str) else text
    return Member(name, len(data), lambda: io.BytesIO(data))


def json_member(value: Any, name: str = "a.json", **options: Any) -> Member:
    """A file that holds a value as JSON."""
    return text_member(json.dumps(value, **options), name)


def load(path: Path) -> Any:
    """What a JSON file holds; a list for JSON Lines."""
    text = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    if ".jsonl" in path.name:
        return [json.loads(line) for line in text.splitlines() if line.strip()]
    return json.loads(text)


def fits(form: Format, member: Member) -> bool:
    with member.open() as handle:
        return form.fits(member.name.lower(), handle.read(65_536))


def read(form: Format, member: Member) -> list[Record | Reject]:
    """What a format reads of a member that fits it."""
    assert fits(form, member)
    return list(form.read(member))


def records(found: Iterable[Record | Reject]) -> list[Record]:
    """All of what was read, none of it rejected."""
    listed = list(found)
    rejects = [r for r in listed if isinstance(r, Reject)]
    assert not rejects, rejects[:3]
    return [r for r in listed if isinstance(r, Record)]


def one_record(found: Iterable[Record | Reject]) -> Record:
    (record,) = records(found)
    return record


def one_reject(found: Iterable[Record | Reject]) -> Reject:
    (reject,) = list(found)
    assert isinstance(reject, Reject), reject
    return reject


def check_structure(record: Record, expected: Structure) -> None:
    """Hold the crystal that a record becomes against pymatgen's structure."""
    assert isinstance(record.structure, Sites)
    crystal = record.structure.crystal()
    lattice = expected.lattice
    assert np.abs(crystal.lengths - lattice.abc).max() < WITHIN
    turns = np.radians(crystal.angles - lattice.angles) * max(lattice.abc)
    assert np.abs(turns).max() < WITHIN
    assert len(crystal) == len(expected)
    sign = 1.0 if np.linalg.det(lattice.matrix) > 0 else -1.0
    wanted = np.mod(sign * expected.frac_coords, 1.0)
    species = np.array([str(site.specie) for site in expected])
    found = np.array(crystal.species)
    assert sorted(found) == sorted(species)
    apart = crystal.frac_coords[:, None, :] - wanted[None, :, :]
    apart -= np.rint(apart)
    distances = np.linalg.norm(apart @ lattice.matrix, axis=-1)
    distances[found[:, None] != species[None, :]] = np.inf
    assert distances.min(axis=1).max() < WITHIN
    assert len(set(distances.argmin(axis=1).tolist())) == len(expected)


_SCALAR = re.compile(r'"[^"]*"|-?\d+(?:\.\d+)?(?:e-?\d+)?|true|false|null')
_JUNK = ("null", "[]", "{}", '"x"', "-1", "1e999", "NaN", "[[[]]]", '{"a": 1}', '"\\ud800"', "")


def mutants(text: str, seeds: Sequence[int]) -> Iterator[str]:
    """Texts with one scalar in another's place, one cut, or one bracket lost."""
    for seed in seeds:
        chance = np.random.default_rng(seed)
        spans = [m.span() for m in _SCALAR.finditer(text)]
        begin, end = spans[chance.integers(len(spans))]
        yield text[:begin] + _JUNK[chance.integers(len(_JUNK))] + text[end:]
        yield text[: chance.integers(len(text))]
        brackets = [i for i, c in enumerate(text) if c in "[]{}:,"]
        at = brackets[chance.integers(len(brackets))]
        yield text[:at] + text[at + 1 :]


def check_survives(form: Format, text: str, seeds: Sequence[int], name: str = "a.json") -> None:
    """A reader makes of any mutant records and rejects, and never anything else."""
    for mutant in mutants(text, seeds):
        for found in form.read(text_member(mutant, name)):
            assert isinstance(found, Record | Reject)
            if isinstance(found, Record):
                json.dumps(found.extra, allow_nan=False)
                assert all(np.isfinite(v) for v in found.properties.values())
            else:
                assert found.reason
                assert found.line >= 0
                assert len(found.raw) <= 1_000
