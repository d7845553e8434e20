"""Versions made of others, against plain dictionaries: members, splits, parents and differences."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from gandb.core.errors import NotFoundError, UsageError
from gandb.datasets import diffs, history
from gandb.datasets.changing import Change, change
from gandb.datasets.members import read_members
from gandb.datasets.splits import SPLITS, UNSPLIT, GivenSplit, SplitRecipe, text_ids
from gandb.datasets.versions import Selection, Version, create, resolve
from gandb.schema import tables
from gandb.store import Store
from tests.datasets import labs

N = 24
ENTRIES = N * labs.POLYMORPHS
COUNTER = itertools.count()
RECIPES = [
    SplitRecipe((0.5, 0.25, 0.25)),
    SplitRecipe((0.5, 0.25, 0.25), 3, "chemical_system"),
    SplitRecipe((0.4, 0.3, 0.3), 0, "anonymous_formula"),
]

Splits = Mapping[int, str]
Step = dict[str, Any]


@dataclass(frozen=True)
class Plain:
    """A version as a dictionary: the split of every entry, by number."""

    splits: dict[int, str]
    recipe: SplitRecipe
    given: bool = False


def _group(number: int, by: str) -> bytes:
    batch = labs.compositions(N)
    owner = number // labs.POLYMORPHS
    if by == "composition":
        return batch.ids()[owner].tobytes()
    names = batch.chemical_systems() if by == "chemical_system" else batch.anonymous_formulas()
    return text_ids([names[owner].as_py()])[0].tobytes()


GROUPS = {
    (number, by): _group(number, by)
    for number in range(ENTRIES)
    for by in ("composition", "chemical_system", "anonymous_formula")
}


def _by_hash(number: int, recipe: SplitRecipe) -> str:
    raw = np.frombuffer(GROUPS[number, recipe.by], np.uint8).reshape(1, 16)
    return SPLITS[int(recipe.assign(raw)[0])]


def _complete(members: set[int], known: Splits, recipe: SplitRecipe) -> dict[int, str]:
    """Split as the rules say: as given, else with the group, train before others, else by hash."""
    splits = {}
    for number in members:
        group = GROUPS[number, recipe.by]
        near = [s for n, s in known.items() if n in members and GROUPS[n, recipe.by] == group]
        if number in known:
            splits[number] = known[number]
        elif near:
            splits[number] = min(near, key=SPLITS.index)
        else:
            splits[number] = _by_hash(number, recipe)
    return splits


def _where(rows: set[int] | None) -> str | None:
    if rows is None:
        return None
    return f"band_gap IN ({', '.join(map(str, sorted(rows) or [-1]))})"


def _stored(store: Store, version: Version) -> dict[int, str]:
    everything = {labs.text(i): n for n, i in enumerate(labs.entry_ids(ENTRIES))}
    return {everything[i]: s for i, s in labs.members(store, version.reference).items()}


ROWS = st.sets(st.integers(0, ENTRIES - 1), max_size=25)
STEP = st.fixed_dictionaries(
    {
        "base": st.integers(0, 9),
        "unite": st.lists(st.integers(0, 9), max_size=2),
        "add": st.none() | ROWS,
        "keep": st.none() | ROWS.map(lambda rows: set(range(ENTRIES)) - rows),
        "drop": st.none() | ROWS,
        "split": st.none() | st.sampled_from(RECIPES),
    }
)
GIVEN = st.dictionaries(st.integers(0, ENTRIES - 1), st.sampled_from(SPLITS), min_size=1)


def _model(wanted: Step, base: Plain, united: list[Plain]) -> Plain:
    """Do with dictionaries what `change` does."""
    split: SplitRecipe | None = wanted["split"]
    given_stays = base.given and split is None
    known: dict[int, str] = {}
    for part in reversed([base, *united]):
        if given_stays and part.given:
            known |= part.splits
    members = set(base.splits).union(*(p.splits for p in united))
    members |= wanted["add"] or set()
    members &= members if wanted["keep"] is None else wanted["keep"]
    members -= wanted["drop"] or set()
    recipe = split or base.recipe
    known = {n: s for n, s in known.items() if n in members}
    if not given_stays:
        return Plain({n: _by_hash(n, recipe) for n in members}, recipe)
    return Plain(_complete(members, known, recipe), recipe, True)


@pytest.mark.parametrize("engine", ["duckdb", pytest.param("postgres", marks=pytest.mark.postgres)])
def test_any_history_of_changes_is_what_dictionaries_say(
    engine: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    url = (
        str(tmp_path / "s") if engine == "duckdb" else request.getfixturevalue("postgres_database")
    )
    store = labs.make_store(url, N)

    @settings(
        max_examples=6,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
        phases=[Phase.generate],
    )
    @given(
        rows=st.sets(st.integers(0, ENTRIES - 1), min_size=1),
        stated=st.none() | GIVEN,
        steps=st.lists(STEP, min_size=1, max_size=4),
    )
    def check(rows: set[int], stated: dict[int, str] | None, steps: list[Step]) -> None:
        name = f"d{next(COUNTER)}"
        first = Plain({n: _by_hash(n, RECIPES[0]) for n in rows}, RECIPES[0])
        version, _ = create(store, name, labs.selection(sorted(rows), N), "", RECIPES[0])
        made, plain = [version], [first]
        if stated is not None:
            codes = [SPLITS.index(stated[n]) for n in sorted(stated)]
            chosen = labs.selection(sorted(stated), N)
            chosen = Selection(
                chosen.entry_ids, chosen.composition_ids, {}, np.array(codes, np.uint8)
            )
            version, _ = create(store, name, chosen, "given")
            made.append(version)
            plain.append(Plain(dict(stated), RECIPES[0], True))
        for step in steps:
            base = step["base"] % len(made)
            others = [i % len(made) for i in step["unite"]]
            wanted = Change(
                unite=tuple(made[i] for i in others),
                add=_where(step["add"]),
                keep=_where(step["keep"]),
                drop=_where(step["drop"]),
                split=step["split"],
            )
            expected = _model(step, plain[base], [plain[i] for i in others])
            if not wanted or not expected.splits:
                with pytest.raises(UsageError, match=r"say what to change|no member would be left"):
                    change(store, made[base], wanted, "")
                continue
            version, new = change(store, made[base], wanted, "changed")
            if new:
                parents = [made[base].id, *(made[i].id for i in others)]
                assert version.parents == tuple(dict.fromkeys(parents))
                assert version.number == max(v.number for v in made) + 1
                assert version.n_compositions == len({n // 2 for n in expected.splits})
            assert _stored(store, version) == expected.splits
            made.append(version)
            plain.append(expected)
        for own, content in zip(made, plain, strict=True):
            assert _stored(store, own) == content.splits
        for one, other in ((0, -1), (-1, -min(2, len(made))), (-1, 0)):
            _compare(store, made[one], made[other], plain[one].splits, plain[other].splits)
        _follow(store, name, dict(zip([v.id for v in made], plain, strict=True)))

    check()


def _compare(store: Store, one: Version, other: Version, before: Splits, after: Splits) -> None:
    """The difference of two versions is that of two dictionaries."""
    found = diffs.diff(store, one, other)
    added, dropped = set(after) - set(before), set(before) - set(after)
    moved = {n for n in set(before) & set(after) if before[n] != after[n]}
    assert (found.n_added, found.n_dropped) == (len(added), len(dropped))
    assert found.n_moved == len(moved)
    owners = [{n // 2 for n in side} for side in (before, after)]
    groups = {row["of"]: row for row in found.groups}
    assert groups["compositions"]["gained"] == len(owners[1] - owners[0])
    assert groups["compositions"]["lost"] == len(owners[0] - owners[1])
    pairs = {(r["from"], r["to"]): r["entries"] for r in found.moves}
    assert sum(pairs.values()) == len(moved)
    assert all(pairs[before[n], after[n]] for n in moved)
    rows = diffs.changed_entries(store, one, other).to_pylist()
    told = {(r["change"], int(r["external_id"][3:])) for r in rows}
    assert told == (
        {("added", n) for n in added}
        | {("dropped", n) for n in dropped}
        | {("moved", n) for n in moved}
    )


def _follow(store: Store, name: str, plain: Mapping[object, Plain]) -> None:
    """The log names every version once, before its parents, with what it changed."""
    commits = history.log(store, name)
    assert {c.id for c in commits} == set(plain)
    seen: set[object] = set()
    for commit in commits:
        assert not seen & set(commit.parents)
        seen.add(commit.id)
        own = plain[commit.id].splits
        before = plain[commit.parents[0]].splits if commit.parents else {}
        assert commit.added == len(set(own) - set(before))
        assert commit.dropped == len(set(before) - set(own))
        assert commit.moved == sum(before[n] != own[n] for n in set(own) & set(before))


# --- what is stored ------------------------------------------------------------------------


def test_what_moves_to_another_split_is_stored_as_one_change(store_url: str) -> None:
    store = labs.make_store(store_url, 300)
    chosen = labs.selection(range(500), 300)
    first, _ = create(store, "mp", chosen, "first", SplitRecipe((0.9, 0.05, 0.05)))
    second, _ = change(store, first, Change(split=SplitRecipe((0.8, 0.1, 0.1))), "more to test")
    with store.read() as connection:
        one, other = (read_members(connection, v.id) for v in (first, second))
    moved = int((one.splits != other.splits).sum())
    assert 0 < moved < 250
    assert labs.stored_changes(store) == 500 + moved
    third, _ = change(store, second, Change(split=SplitRecipe((0.9, 0.05, 0.05))), "as before")
    assert labs.stored_changes(store) == 500 + 2 * moved
    assert labs.members(store, third.reference) == labs.members(store, first.reference)
    assert third.id != first.id


def test_a_version_is_built_upon_the_parent_it_least_differs_from(store_url: str) -> None:
    store = labs.make_store(store_url, 300)
    large, _ = create(store, "large", labs.selection(range(500), 300), "")
    small, _ = create(store, "small", labs.selection(range(490, 510), 300), "")
    before = labs.stored_changes(store)
    both, _ = change(store, small, Change(unite=(large,)), "all")
    assert both.parents == (small.id, large.id)
    assert both.parent_id == small.id
    assert labs.stored_changes(store) == before + 10
    assert len(labs.members(store, both.reference)) == 510


def test_a_chain_ends_after_so_many_versions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gandb.datasets.storing._MOST_BASES", 5)
    store = labs.make_store(str(tmp_path / "s"), 300)
    version, _ = create(store, "mp", labs.selection(range(100), 300), "")
    for n in range(100, 112):
        version, _ = change(store, version, Change(add=f"band_gap = {n}"), "one more")
    with store.read() as connection:
        base = tables.dataset_base
        counts = connection.execute(
            sa.select(sa.func.count()).select_from(base).group_by(base.c.version_id)
        )
        assert sorted(r[0] for r in counts) == [1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 5, 5]
    assert len(labs.members(store, "mp@13")) == 112


# --- names -------------------------------------------------------------------------------


def test_a_change_may_begin_another_dataset(store_url: str) -> None:
    store = labs.make_store(store_url, N)
    first, _ = create(store, "mp", labs.selection(range(20), N), "first")
    other, new = change(store, first, Change(), "by another name", "copy")
    assert new
    assert (other.reference, other.id) == ("copy@1", first.id)
    assert change(store, first, Change(), "again", "copy") == (other, False)
    less, _ = change(store, resolve(store, "copy"), Change(drop="band_gap < 5"), "", "mp")
    assert less.reference == "mp@2"
    assert less.parents == (first.id,)
    same, new = change(store, less, Change(drop="band_gap < 3"), "nothing goes")
    assert (same, new) == (less, False)
    # On an older version, what changes nothing names that version again, as nothing else would.
    assert change(store, first, Change(drop="band_gap > 90"), "") == (first, False)
    assert change(store, less, Change(add="band_gap < 5"), "back")[0].reference == "mp@3"


def test_how_a_version_was_made_is_recorded(store_url: str, tmp_path: Path) -> None:
    store = labs.make_store(store_url, N)
    first, _ = create(store, "mp", labs.selection(range(20), N), "first")
    other, _ = create(store, "o", labs.selection(range(30, 34), N), "other")
    ids = labs.write_lines(tmp_path / "ids.txt", ["mp:mp-40", "mp:mp-41"])
    gone = labs.write_lines(tmp_path / "gone.txt", ["mp:mp-40", "mp:mp-1"])
    wanted = Change((other,), "band_gap = 25", ids, "band_gap < 42", "band_gap = 0", gone)
    made, _ = change(store, first, wanted, "all at once")
    assert made.selection == {
        "base": "mp@1",
        "unite": ["o@1"],
        "add": "band_gap = 25",
        "add_from": "ids.txt",
        "filter": "band_gap < 42",
        "drop": "band_gap = 0",
        "drop_from": "gone.txt",
    }
    assert set(_stored(store, made)) == {*range(2, 20), 25, 30, 31, 32, 33, 41}


def test_what_cannot_be_changed(store_url: str) -> None:
    store = labs.make_store(store_url, N)
    first, _ = create(store, "mp", labs.selection(range(20), N), "first")
    with pytest.raises(UsageError, match="say what to change in mp@1"):
        change(store, first, Change(), "")
    with pytest.raises(UsageError, match="no member would be left of mp@1"):
        change(store, first, Change(drop="true"), "")
    with pytest.raises(UsageError, match="gandb dataset change delta/mp --as mp"):
        change(store, first, Change(drop="band_gap = 1"), "", "delta/mp")
    with pytest.raises(NotFoundError, match="no dataset named 'pm'"):
        change(store, resolve(store, "pm"), Change(drop="band_gap = 1"), "")


# --- given splits --------------------------------------------------------------------------


def test_given_splits_stay_as_they_are_and_others_follow_their_composition() -> None:
    recipe = GivenSplit(SplitRecipe((0.0, 0.0, 1.0)))
    groups = np.repeat(np.arange(4, dtype=np.uint8), 3)[:, None] * np.ones(16, np.uint8)
    none = UNSPLIT
    stated = np.array([0, 2, none, 2, 1, none, none, none, none, 1, 1, 1], np.uint8)
    assert recipe.complete(stated, groups).tolist() == [0, 2, 0, 2, 1, 1, 2, 2, 2, 1, 1, 1]
