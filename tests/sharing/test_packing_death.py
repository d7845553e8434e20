"""Who packs is killed at any moment: there is no bundle or a whole one, and the next is made."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from gandb.sharing.bundles.bundle import open_bundle
from tests.sharing.bundles import files_of
from tests.sharing.conftest import Group
from tests.tasks.test_death import Nursery

MOMENTS = 50


@pytest.fixture(scope="module")
def nursery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    nursery = Nursery(tmp_path_factory.mktemp("nursery"), "tests.sharing.packing_nursery")
    yield nursery
    nursery.close()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bundle", "bundle.zip"])
def test_death_leaves_no_half_bundle(
    two_groups: dict[str, Group], tmp_path: Path, nursery: Nursery, name: str
) -> None:
    store = str(two_groups["ada"].store.location)
    whole = tmp_path / "whole" / name
    command = ("--store", store, "share", "pack", "--all")
    took = max(nursery.run(*command, str(whole.with_stem(f"{k}")))["seconds"] for k in range(2))
    nursery.run(*command, str(whole))
    wanted = _content(whole)
    place = tmp_path / "place"
    place.mkdir()
    (place / "other.txt").write_text("not ours")
    target = place / name
    deaths = 0
    for moment in np.random.default_rng(7).uniform(0, took, MOMENTS // 2):
        reply = nursery.run(*command, str(target), kill_after=float(moment))
        if reply["code"] == 0 or target.exists():  # it had just been done
            assert _content(target) == wanted
            _remove(target)
            continue
        deaths += 1
        assert all(p.name.startswith(f".{name}.packing-") for p in place.iterdir() if p.is_dir())
    assert deaths > MOMENTS // 10
    nursery.run(*command, str(target))
    assert _content(target) == wanted
    assert {p.name for p in place.iterdir()} == {name, "other.txt"}
    with open_bundle(target) as bundle:
        assert bundle.origin == "ada"


def _content(path: Path) -> dict[str, bytes] | bytes:
    return path.read_bytes() if path.is_file() else files_of(path)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


def test_two_may_pack_at_once(two_groups: dict[str, Group], tmp_path: Path) -> None:
    """The folder of one who still works is not taken for what a dead one left."""
    from gandb.sharing.bundles.packing_files import making

    target = tmp_path / "bundle"
    with making(target) as first:
        (first / "work").write_text("going on")
        with making(target) as second:
            assert first != second
            assert (first / "work").exists()
        assert not second.exists()
    left = tmp_path / ".bundle.packing-0123"
    (left / "bundle").mkdir(parents=True)
    (left / "lock").touch()
    with making(target):
        assert not left.exists()
    assert list(tmp_path.iterdir()) == []
