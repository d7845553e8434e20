"""Writing versions as a bundle brings them: verified ids, stubs, what fills them."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gandb.core.errors import InputError, NotFoundError
from gandb.datasets import diffs, history, leaks
from gandb.datasets.changing import Change, change
from gandb.datasets.describing import describe
from gandb.datasets.members import Changes, Members, as_keys, read_members, require_members
from gandb.datasets.names import find, versions_of
from gandb.datasets.numbers import remove, restore, tag
from gandb.datasets.splits import SPLITS, SplitRecipe
from gandb.datasets.storing import fill_stub, store_version, version_id, write_stub
from gandb.datasets.versions import Version, add_number, create, resolve, split_sizes
from gandb.store import Store
from tests.content import differences, dump
from tests.datasets import labs

N = 40
RECIPE = SplitRecipe((0.5, 0.25, 0.25))

STATES = st.dictionaries(st.integers(0, 30), st.integers(0, 2))


def _members(state: dict[int, int]) -> Members:
    numbers = sorted(state)
    ids = labs.entry_ids(N)[numbers]
    return Members.of(ids, np.array([state[n] for n in numbers], np.uint8))


def _plain(members: Members) -> dict[bytes, int]:
    return dict(zip(members.keys.tolist(), members.splits.tolist(), strict=True))


@given(before=STATES, after=STATES)
def test_changes_lead_from_one_version_to_another(
    before: dict[int, int], after: dict[int, int]
) -> None:
    one, other = _members(before), _members(after)
    changes = other.changes_from(one)
    assert _plain(one.with_changes(changes)) == _plain(other)
    assert one.with_changes(changes).hash() == other.hash()
    differing = {n for n in {*before, *after} if before.get(n) != after.get(n)}
    assert len(changes) == len(differing)
    assert _plain(other.with_changes(one.changes_from(other))) == _plain(one)


@pytest.mark.parametrize(("change_", "rows"), [(1, [0]), (-1, [9]), (0, [9]), (1, [9, 9])])
def test_changes_that_do_not_fit_are_refused(change_: int, rows: list[int]) -> None:
    members = _members({0: 0, 1: 2})
    keys = as_keys(labs.entry_ids(N)[rows])
    wrong = Changes(
        keys, np.full(len(rows), change_, np.int16), np.zeros(len(rows), np.uint8)
    )  # fmt: skip
    with pytest.raises(InputError, match=r"do not fit|occurs twice"):
        members.with_changes(wrong)


def _history(store: Store) -> list[Version]:
    """Three versions, the last made of both others."""
    first, _ = create(store, "mp", labs.selection(range(30), N), "first", RECIPE)
    other, _ = create(store, "o", labs.selection(range(25, 50), N), "other", RECIPE)
    both, _ = change(store, first, Change(unite=(other,)), "both")
    return [first, other, both]


def _copy(store: Store, version: Version, members: Members | None) -> UUID:
    """Write a version into another store, as a bundle would bring it."""
    with store.write() as tx:
        if members is None:
            own, _ = write_stub(
                tx,
                HASHES[version.id],
                version.split_recipe,
                version.parents,
                n_entries=version.n_entries,
                n_compositions=version.n_compositions,
                expected=version.id,
            )
        else:
            own, _ = store_version(
                tx, members, version.split_recipe, version.parents, expected=version.id
            )
        if not any(v.id == own for v in versions_of(tx.connection, version.name)):
            add_number(tx, version.name, own, version.message, version.selection)
    return own


HASHES: dict[UUID, str] = {}


def _origin(store: Store) -> list[tuple[Version, Members]]:
    found = []
    for version in _history(store):
        with store.read() as connection:
            members = read_members(connection, version.id)
        HASHES[version.id] = members.hash()
        found.append((version, members))
    return found


def test_versions_come_into_another_store_as_they_were(store_url: str, tmp_path: Path) -> None:
    told = _origin(labs.make_store(str(tmp_path / "from"), N))
    store = labs.make_store(store_url, N, shuffle=4)
    for version, members in told:
        assert _copy(store, version, members) == version.id
        assert resolve(store, version.reference) == version
        assert labs.members(store, version.reference) == {
            labs.text(i): SPLITS[s] for i, s in zip(members.ids, members.splits, strict=True)
        }
    before = dump(store)
    for version, members in told:  # the same again changes nothing
        _copy(store, version, members)
        _copy(store, version, None)
    assert differences(before, dump(store)) == []


def test_a_stub_is_known_and_refuses_to_be_read(store_url: str, tmp_path: Path) -> None:
    told = _origin(labs.make_store(str(tmp_path / "from"), N))
    store = labs.make_store(store_url, N)
    for version, _ in told:
        _copy(store, version, None)
    (first, _), _, (both, members) = told
    stub = find(store, "mp@2")
    assert not stub.members_shared
    assert (stub.id, stub.parents, stub.n_entries) == (both.id, both.parents, both.n_entries)
    told_of = describe(store, stub)
    assert (told_of["entries"], told_of["splits"], told_of["leak"]) == (50, [], [])
    commits = {c.references: c for c in history.log(store)}
    assert commits[("mp@2",)].added is None
    assert not commits[("mp@2",)].members_shared
    reading = [
        lambda: resolve(store, "mp@2"),
        lambda: split_sizes(store, stub.id),
        lambda: leaks.leaks(store, stub),
        lambda: diffs.diff(store, find(store, "mp@1"), stub),
        lambda: diffs.changed_entries(store, find(store, "mp@1"), stub),
        lambda: change(store, stub, Change(drop="band_gap = 1"), ""),
        lambda: restore(store, "mp@1"),
    ]
    for read in reading:
        with pytest.raises(NotFoundError, match=r"members of .* were not shared with this store"):
            read()
    assert labs.members(store, "mp@2") == {}
    # It can be tagged, removed and brought back, and something can be made beside it.
    tag(store, "mp@2", "theirs")
    assert find(store, "mp@theirs") == stub
    remove(store, "mp@1")
    assert restore(store, "mp@1", number_only=True)[0].id == first.id
    made, _ = create(store, "mp", labs.selection(range(5), N), "own", RECIPE)
    assert made.parents == (both.id,)
    assert len(labs.members(store, made.reference)) == 5
    # Members fill it, once, and only its own.
    with store.write() as tx:
        with pytest.raises(InputError, match="are not the members of"):
            fill_stub(tx, stub.id, _members({1: 0}))
        assert fill_stub(tx, stub.id, members)
        assert not fill_stub(tx, stub.id, members)
    assert resolve(store, "mp@2") == both
    assert len(labs.members(store, "mp@2")) == 50
    _copy(store, first, told[0][1])  # storing fills as well
    assert resolve(store, "mp@1") == first
    assert len(labs.members(store, made.reference)) == 5


def test_what_a_version_says_must_be_true(store_url: str) -> None:
    store = labs.make_store(store_url, N)
    first = _history(store)[0]
    with store.read() as connection:
        members = read_members(connection, first.id)
    other = UUID(int=7)
    recipe = first.split_recipe
    with store.write() as tx:
        for text, call in [
            ("members, splits and parents make", lambda: store_version(
                tx, members, recipe, [first.id], expected=first.id)),
            ("members, splits and parents make", lambda: write_stub(
                tx, "0" * 64, recipe, n_entries=1, n_compositions=1, expected=first.id)),
            ("this store lacks: " + str(other), lambda: store_version(
                tx, members, recipe, [first.id, other])),
            ("at least one member", lambda: store_version(tx, _members({}), recipe)),
            ("has no dataset version", lambda: fill_stub(tx, other, members)),
        ]:  # fmt: skip
            with pytest.raises(InputError, match=text):
                call()
    with store.read() as connection:
        with pytest.raises(NotFoundError, match=f"no dataset version {other}"):
            require_members(connection, other)
        assert version_id(members.hash(), recipe, ()) == first.id
