"""Hostile bundles: each is refused with what is wrong and where, and the store stays as it is."""

from __future__ import annotations

import hashlib
import itertools
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gandb.core.errors import InputError, RevisionError
from gandb.sharing.bundles.bundle import TABLES
from gandb.sharing.merging.merging import merge
from gandb.store import Store
from tests.content import digest, dump
from tests.sharing.breaking import (
    Break,
    Broken,
    file_breaks,
    row_breaks,
    shape_breaks,
    value_breaks,
)
from tests.sharing.conftest import Group
from tests.sharing.hostile import content_breaks, manifest_breaks, place_breaks


def every_break(filled: set[str]) -> Iterator[tuple[str, Break]]:
    """Yield all ways by hand, and every fifth of those by type; of rows for tables with some."""
    yield from manifest_breaks()
    yield from place_breaks()
    for name in ("tables/entry.parquet", "tables/job.parquet", "LICENCES.md", "manifest.json",
                 "croissant.json", "tables/statement.parquet"):  # fmt: skip
        for what, change in file_breaks(name):
            if what != "manifest.json is damaged" and what != "manifest.json is longer":
                yield what, change
    yield from content_breaks()
    yield from itertools.islice(_by_type(filled), 0, None, 5)


def _by_type(filled: set[str]) -> Iterator[tuple[str, Break]]:
    for table in TABLES:
        yield from shape_breaks(table.name)
        if table.name in filled:
            yield from value_breaks(table.name)
            yield from row_breaks(table.name)


def refused(store: Store, good: Path, folder: Path, what: str, change: Break) -> str:
    """Take a broken bundle in; return what is said of it."""
    broken = Broken.of(good, folder / "broken")
    change(broken)
    try:
        with pytest.raises((InputError, RevisionError)) as told:
            merge(store, broken.path)
    finally:
        for left in folder.iterdir():
            shutil.rmtree(left) if left.is_dir() and not left.is_symlink() else left.unlink()
    return str(told.value)


@pytest.fixture
def target(copy_of: Callable[[str], Store]) -> Store:
    return copy_of("ada")


def filled_tables(good: Path) -> set[str]:
    import json

    files = json.loads((good / "manifest.json").read_text())["files"]
    return {t.name for t in TABLES if files[t.path]["rows"] > 1}


def _run(store: Store, good: Path, folder: Path, breaks: list[tuple[str, Break]]) -> None:
    """Break a bundle in all these ways."""
    before, blobs = digest(store), sorted(store.files.blobs())
    file = Path(store.location) / "gandb.duckdb"
    bytes_before = hashlib.sha256(file.read_bytes()).hexdigest()
    wrong = []
    for what, change in breaks:
        try:
            told = refused(store, good, folder, what, change)
        except BaseException as error:  # noqa: BLE001 - told with all others
            wrong.append(f"{what}: {type(error).__name__}: {str(error)[:200]}")
            continue
        if not told.isprintable() or len(told) < 20 or len(told) > 2_000:
            wrong.append(f"{what}: told as {told[:200]!r}")
        table = what.split(".")[0].split(" ")[0]
        if table in {t.name for t in TABLES} and ".parquet" not in told:
            wrong.append(f"{what}: it is not said where: {told[:200]}")
        if hashlib.sha256(file.read_bytes()).hexdigest() != bytes_before:
            wrong.append(f"{what}: the store was written to")
    assert wrong == []
    assert digest(store) == before
    assert sorted(store.files.blobs()) == blobs


def test_some_hostile_bundles_are_refused(
    two_groups: dict[str, Group], target: Store, tmp_path: Path
) -> None:
    good = two_groups["bose"].bundle
    breaks = list(every_break(filled_tables(good)))[::29]
    folder = tmp_path / "breaking"
    folder.mkdir()
    _run(target, good, folder, breaks)


@pytest.mark.slow
def test_all_hostile_bundles_are_refused(
    two_groups: dict[str, Group], target: Store, tmp_path: Path
) -> None:
    good = two_groups["bose"].bundle
    breaks = list(every_break(filled_tables(good)))
    assert len(breaks) >= 500
    assert max(Counter(what for what, _ in breaks).values()) == 1
    folder = tmp_path / "breaking"
    folder.mkdir()
    _run(target, good, folder, breaks)


def test_the_good_bundle_is_taken_in(two_groups: dict[str, Group], target: Store) -> None:
    held = dump(target)
    merge(target, two_groups["bose"].bundle)
    assert dump(target) != held
