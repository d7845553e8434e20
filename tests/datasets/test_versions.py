"""Dataset versions against plain sets: members, ids, numbers, splits and what is stored."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gandb.core.errors import NotFoundError, UsageError
from gandb.datasets import versions
from gandb.datasets.splits import SPLITS, SplitRecipe
from gandb.datasets.versions import Reference, create, parse_reference, resolve, split_sizes
from gandb.store import Store
from tests.datasets import labs

N = 300
ENTRIES = N * labs.POLYMORPHS


def _expected(rows: list[int], recipe: SplitRecipe) -> dict[str, str]:
    chosen = labs.selection(sorted(set(rows)), N)
    names = [SPLITS[s] for s in recipe.assign(chosen.composition_ids)]
    return dict(zip(map(labs.text, chosen.entry_ids), names, strict=True))


def test_a_version_is_made_found_and_read(store_url: str) -> None:
    store = labs.make_store(store_url, N)
    rows = list(range(200))
    made, new = create(store, "mp", labs.selection(rows, N), "first")
    assert new
    assert (made.reference, made.number, made.parent_id) == ("mp@1", 1, None)
    assert (made.n_entries, made.n_compositions) == (200, 100)
    assert resolve(store, "mp") == resolve(store, "mp@1") == made
    assert labs.members(store, "mp@1") == _expected(rows, SplitRecipe())
    sizes = split_sizes(store, made.id)
    assert list(sizes) == list(SPLITS)
    assert sum(s["entries"] for s in sizes.values()) == 200
    assert sum(s["compositions"] for s in sizes.values()) == 100  # none is in two splits


def test_the_same_selection_makes_no_second_version(store_url: str) -> None:
    store = labs.make_store(store_url, N)
    first, _ = create(store, "mp", labs.selection(range(50), N), "first")
    doubled = [*reversed(range(50)), 3, 3]
    again, new = create(store, "mp", labs.selection(doubled, N), "again")
    assert not new
    assert again == first
    before = labs.stored_changes(store)
    other, new = create(store, "copy", labs.selection(range(50), N), "under another name")
    assert new
    assert other.id == first.id
    assert other.reference == "copy@1"
    assert labs.stored_changes(store) == before
    assert labs.members(store, "copy@1") == labs.members(store, "mp@1")


def test_another_split_is_another_version(store_url: str) -> None:
    store = labs.make_store(store_url, N)
    chosen = labs.selection(range(4), N)
    first, _ = create(store, "mp", chosen, "first", SplitRecipe((1.0, 0.0, 0.0)))
    same, new = create(store, "mp", chosen, "as before")
    assert (same, new) == (first, False)
    # The assignment is the same, but who asks for another recipe gets it.
    second, new = create(store, "mp", chosen, "seed", SplitRecipe((1.0, 0.0, 0.0), 1))
    assert new
    assert second.number == 2
    assert second.split_recipe["seed"] == 1
    third, new = create(store, "mp", labs.selection(range(5), N), "inherits")
    assert new
    assert third.split_recipe == second.split_recipe


def test_ids_do_not_depend_on_engine_or_order(tmp_path: Path, postgres_database: str) -> None:
    rng = np.random.default_rng(1)
    found = []
    for url, shuffle in ((str(tmp_path / "a"), None), (str(tmp_path / "b"), 5),
                         (postgres_database, 6)):  # fmt: skip
        store = labs.make_store(url, N, shuffle)
        history = []
        for rows in (np.arange(400), np.arange(100, 420), np.arange(400)):
            version, _ = create(store, "mp", labs.selection(rng.permutation(rows), N), "m")
            history.append((version, labs.members(store, version.reference)))
        found.append(history)
    assert found[0] == found[1] == found[2]
    ids = [version.id for version, _ in found[0]]
    assert len(set(ids)) == 3  # the third has the members of the first, but another parent
    assert found[0][0][1] == found[0][2][1]


def test_a_small_change_is_stored_as_one(store_url: str) -> None:
    store = labs.make_store(store_url, N)
    create(store, "mp", labs.selection(range(500), N), "first")
    assert labs.stored_changes(store) == 500
    create(store, "mp", labs.selection(range(3, 502), N), "three less, two more")
    assert labs.stored_changes(store) == 505
    assert labs.members(store, "mp@2") == _expected(list(range(3, 502)), SplitRecipe())
    create(store, "mp", labs.selection(range(3), N), "something else")
    assert labs.stored_changes(store) == 508
    assert labs.members(store, "mp@3") == _expected([0, 1, 2], SplitRecipe())


def test_a_long_history_stays_readable(tmp_path: Path) -> None:
    store = labs.make_store(str(tmp_path / "store"), N)
    for k in range(12):
        rows = [i for i in range(400) if (i + k) % 4]
        create(store, "mp", labs.selection(rows, N), f"version {k}")
        with store.read() as connection:
            query = sa.text(
                "SELECT count(*) FROM datasets d JOIN dataset_base b ON b.version_id = d.version_id"
                " JOIN dataset_change c ON c.version_id = b.base_id WHERE d.dataset = :name"
            )
            read = connection.execute(query, {"name": f"mp@{k + 1}"}).scalar_one()
        assert read <= 2 * len(rows)
        assert labs.members(store, f"mp@{k + 1}") == _expected(rows, SplitRecipe())


SETS = st.lists(st.integers(0, 39), min_size=1, max_size=40)
COUNTER = itertools.count()


@pytest.mark.parametrize("engine", ["duckdb", pytest.param("postgres", marks=pytest.mark.postgres)])
def test_any_history_is_what_plain_sets_say(
    engine: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    url = (
        str(tmp_path / "s") if engine == "duckdb" else request.getfixturevalue("postgres_database")
    )
    store = labs.make_store(url, N)
    recipes = [SplitRecipe((0.5, 0.25, 0.25), seed) for seed in (0, 1)]

    @settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(history=st.lists(st.tuples(SETS, st.sampled_from([None, *recipes])), max_size=5))
    def check(history: list[tuple[list[int], SplitRecipe | None]]) -> None:
        name = f"d{next(COUNTER)}"
        current: tuple[dict[str, str], SplitRecipe] | None = None
        model: list[dict[str, str]] = []
        for rows, asked in history:
            recipe = asked or (current[1] if current else SplitRecipe())
            content = _expected(rows, recipe)
            version, new = create(store, name, labs.selection(rows, N), "m", asked)
            assert new == (current != (content, recipe))
            if new:
                model.append(content)
            current = (content, recipe)
            assert version.number == len(model)
            assert version.n_entries == len(content)
        for number, content in enumerate(model, 1):
            assert labs.members(store, f"{name}@{number}") == content

    check()


def test_two_at_once_make_two_numbers(store_url: str) -> None:
    store = labs.make_store(store_url, N)

    def one(k: int) -> int:
        return create(store, "mp", labs.selection(range(10 + k), N), f"{k}")[0].number

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(one, range(6))) == [1, 2, 3, 4, 5, 6]


def test_a_version_that_fails_leaves_nothing(
    store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = labs.make_store(store_url, N)

    def fail(*_: object) -> None:
        raise KeyError("half way")

    with monkeypatch.context() as patch:
        patch.setattr(versions, "add_number", fail)
        with pytest.raises(KeyError):
            create(store, "mp", labs.selection(range(10), N), "m")
    with pytest.raises(NotFoundError, match="there is no dataset yet"):
        resolve(store, "mp")
    assert create(store, "mp", labs.selection(range(10), N), "m")[1]


# --- names -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("mp", ("mp", None, None)),
        ("mp@3", ("mp", 3, None)),
        ("a.b-c_9@12", ("a.b-c_9", 12, None)),
        ("x@003", ("x", 3, None)),
        ("mp@best", ("mp", None, "best")),
        ("mp@v1.0", ("mp", None, "v1.0")),
        ("delta/mp@3", ("delta/mp", 3, None)),
        ("3d-group/mp@best", ("3d-group/mp", None, "best")),
    ],
)
def test_references(text: str, expected: tuple[str, int | None, str | None]) -> None:
    assert parse_reference(text) == Reference(*expected)


@pytest.mark.parametrize(
    "text",
    ["", "@3", "mp@", "mp@x y", "mp@-1", "mp@1@2", "3mp", "a b", "A/b", "a/b/c", "/b", "a/", "é",
     "a" * 65, "a" * 33 + "/b", "mp@1.0", "mp@" + "a" * 65, "mp@\u0663", "-a/b", "mp@1\n"],
)  # fmt: skip
def test_texts_that_are_no_reference(text: str) -> None:
    with pytest.raises(UsageError, match=r"write NAME@NUMBER, such as mp@3"):
        parse_reference(text)


@pytest.fixture(scope="module")
def named(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = labs.make_store(str(tmp_path_factory.mktemp("named") / "store"), N)
    create(store, "oqmd", labs.selection(range(10), N), "m")
    create(store, "oqmd", labs.selection(range(11), N), "m")
    return store


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("oqdm", "no dataset named 'oqdm'; known: oqmd"),
        ("oqmd@7", "no dataset version named 'oqmd@7'; known: oqmd@2, oqmd@1"),
        ("oqmd@0", "known: oqmd@2, oqmd@1"),
    ],
)
def test_what_is_not_there_names_what_is(named: Store, reference: str, words: str) -> None:
    with pytest.raises(NotFoundError, match=words):
        resolve(named, reference)


def test_bad_requests_are_refused(named: Store) -> None:
    with pytest.raises(UsageError, match="at least one"):
        create(named, "empty", labs.selection([], N), "m")
    with pytest.raises(UsageError, match="give the name alone"):
        create(named, "oqmd@3", labs.selection([1], N), "m")
    with pytest.raises(UsageError, match="letters, digits"):
        create(named, "no good", labs.selection([1], N), "m")
