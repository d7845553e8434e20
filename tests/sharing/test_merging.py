"""Two stores made apart end in the same content whichever takes the other in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa

from gandb.core.errors import JobError
from gandb.datasets import selection, versions
from gandb.datasets.names import parse_reference
from gandb.jobs.queue import now
from gandb.schema import tables
from gandb.sharing.merging.merging import bundles, merge
from gandb.sharing.merging.report import MergeReport
from gandb.sharing.merging.statements import conflicts
from gandb.sharing.origin import set_origin
from gandb.store import Store
from gandb.tasks.verification import verify_store
from tests.content import differences, dump
from tests.sharing import groups
from tests.sharing.conftest import Group
from tests.sharing.shared_content import shared_content

Groups = dict[str, Group]
CopyOf = Callable[[str], Store]


def problems(store: Store) -> list[object]:
    return [found for found in verify_store(store) if found["problems"]]


def whole(report: MergeReport) -> dict[str, tuple[int, int, int]]:
    return {t.table: (t.rows, t.new, t.differing) for t in report.tables}


def test_both_ways_end_in_the_same_content(two_groups: Groups, copy_of: CopyOf) -> None:
    stores = []
    for here, there in (("ada", "bose"), ("bose", "ada")):
        store = copy_of(here)
        assert shared_content(store) != shared_content(two_groups[there].store)
        report = merge(store, two_groups[there].bundle)
        assert report.new > 100
        groups.identify(store)
        assert problems(store) == []
        stores.append(store)
    one, other = (shared_content(s) for s in stores)
    assert differences(one, other) == []
    assert len(one["candidate"]) > 100
    assert len(one["statement"]) == 1  # which of two imports brought the external model first
    assert one["statement"][0][:3:2] == ("checkpoint", "job_id")


def test_a_merge_brings_nothing_twice(two_groups: Groups, copy_of: CopyOf, tmp_path: Path) -> None:
    store = copy_of("ada")
    first = merge(store, two_groups["bose"].bundle)
    held = dump(store)
    again = merge(store, two_groups["bose"].bundle)
    assert differences(held, dump(store)) == []
    assert again.new == 0
    assert (first.before, again.before is None) == (None, False)
    assert [row["origin"] for row in bundles(store)] == ["bose"]
    # What comes home is called by its own name again, and nothing of it is new.
    home = copy_of("bose")
    held = dump(home)
    report = merge(home, groups.bundle(store, tmp_path / "back"), dry_run=True)
    names = {d["dataset"]: d["state"] for d in report.datasets}
    assert names["own@1"] == names["own@2"] == names["common@1"] == "known"
    assert names["ada/own@1"] == "new"
    assert differences(held, dump(home)) == []
    assert bundles(home) == []


def test_a_dry_run_tells_what_a_merge_does(two_groups: Groups, copy_of: CopyOf) -> None:
    store = copy_of("ada")
    held = dump(store)
    blobs = sorted(store.files.blobs())
    told = merge(store, two_groups["bose"].bundle, dry_run=True)
    assert differences(held, dump(store)) == []
    assert sorted(store.files.blobs()) == blobs
    done = merge(store, two_groups["bose"].bundle)
    assert whole(told) == whole(done)
    assert (told.datasets, told.tags, told.conflicts) == (done.datasets, done.tags, done.conflicts)
    assert (told.n_other_records, told.other_records) == (20, done.other_records)
    assert told.unidentified == done.unidentified > 0
    assert "mine:structures#1 (formula GaAs there, NaCl here" in done.other_records[0]


def test_orders_and_engines_end_in_the_same_content(
    two_groups: Groups, store_url: str, tmp_path: Path
) -> None:
    there = groups.make(store_url, tmp_path / "there", "cora")
    here = groups.make(str(tmp_path / "here" / "store"), tmp_path / "here", "cora")
    for store, order in ((there, ("ada", "bose")), (here, ("bose", "ada"))):
        for origin in order:
            merge(store, two_groups[origin].bundle)
        groups.identify(store)
        assert problems(store) == []
    one, other = (shared_content(s, attributed=False) for s in (there, here))
    assert differences(one, other) == []
    # And what they pack together is the same for whoever takes it in.
    both = groups.bundle(there, tmp_path / "both")
    again = groups.make(str(tmp_path / "again" / "store"), tmp_path / "again", "cora")
    merge(again, both)
    groups.identify(again)
    assert differences(one, shared_content(again, attributed=False)) == []


# --- what differs ------------------------------------------------------------------------


def alter(store: Store, sql: str) -> None:
    with store.write() as tx:
        tx.connection.exec_driver_sql(sql)


def test_what_differs_is_kept_as_two_statements(
    two_groups: Groups, copy_of: CopyOf, tmp_path: Path
) -> None:
    ada, bose = copy_of("ada"), copy_of("bose")
    recipe = "(SELECT id FROM recipe WHERE check_name = 'cnen_strict')"
    subject = "(SELECT id FROM composition WHERE reduced_formula = 'SrTiO3')"
    for table, key in (("composition", "id"), ("candidate", "composition_id")):
        alter(ada, f"UPDATE {table} SET cnen_strict = FALSE WHERE {key} = {subject}")
    alter(
        ada,
        f"UPDATE check_result SET passed = FALSE WHERE recipe_id = {recipe} "
        f"AND subject_id = {subject}",
    )
    alter(ada, "UPDATE entry SET formula = 'Ag1Ac1' WHERE formula = 'Ac1Ag1'")
    alter(bose, "UPDATE structure_symmetry SET point_group = 'odd' WHERE point_group = 'm-3m'")
    alter(bose, "UPDATE metric SET value = value + 0.25 WHERE name = 'uniqueness' AND step = 90")
    alter(bose, "UPDATE metric SET value = value * (1 + 1e-9) WHERE name = 'rejected'")
    packed = {o: groups.bundle(s, tmp_path / o) for o, s in (("ada", ada), ("bose", bose))}
    merge(ada, packed["bose"])
    merge(bose, packed["ada"])
    found = {(row["relation"], row["attribute"]): row for row in conflicts(bose)}
    # Verdicts that gandb can work out are worked out: who says otherwise is told so.
    verdict = found["check_result", "passed"]
    assert verdict["what"] == "SrTiO3 cnen_strict"
    assert verdict["statements"] == [
        {"origin": "", "value": True},
        {"origin": "ada", "value": False},
    ]
    symmetry = found["structure_symmetry", "point_group"]
    assert {s["origin"]: s["value"] for s in symmetry["statements"]} == {"": "odd", "ada": "m-3m"}
    assert ("metric", "value") in found
    assert ("entry", "formula") in found
    groups.identify(ada)
    groups.identify(bose)
    mine, yours = shared_content(ada), shared_content(bose)
    for name in ("composition", "candidate", "check_result"):  # ada's own are what it made them
        mine.pop(name)
        yours.pop(name)
    mine["statement"] = [s for s in mine["statement"] if s[0] != "check_result"]
    yours["statement"] = [s for s in yours["statement"] if s[0] != "check_result"]
    assert differences(mine, yours) == []
    assert problems(bose) == []


def test_tags_that_mean_different_versions_all_stay(
    two_groups: Groups, copy_of: CopyOf, tmp_path: Path
) -> None:
    ada, bose = copy_of("ada"), copy_of("bose")
    tag(bose, "own@1", "best")
    merge(ada, groups.bundle(bose, tmp_path / "b"))
    tag(ada, "bose/own@2", "best")
    report = merge(bose, groups.bundle(ada, tmp_path / "a"))
    assert {t["tag"]: t["state"] for t in report.tags} == {"own@best": "differs"}
    with bose.read() as connection:
        rows = connection.execute(sa.select(tables.dataset_tag.c.origin)).scalars().all()
    assert sorted(rows) == ["", "ada"]
    assert versions.resolve(bose, "own@best").number == 1
    groups.identify(ada)
    groups.identify(bose)
    merge(ada, groups.bundle(bose, tmp_path / "b2"))
    assert differences(shared_content(ada), shared_content(bose)) == []


def tag(store: Store, reference: str, name: str) -> None:
    """Tag a version as ``gandb dataset tag`` does."""
    version = versions.resolve(store, reference)
    dataset = parse_reference(reference).name
    with store.write() as tx:
        own = tx.execute(
            sa.select(tables.dataset.c.id).where(tables.dataset.c.name == dataset)
        ).scalar_one()
        tx.execute(
            tables.dataset_tag.insert(),
            {
                "dataset_id": own,
                "tag": name,
                "origin": "",
                "version_id": version.id,
                "message": "",
                "created_at": now(),
            },
        )


# --- parts -------------------------------------------------------------------------------


def test_stubs_are_filled_when_members_come(
    two_groups: Groups, store_url: str, tmp_path: Path
) -> None:
    bose = two_groups["bose"].store
    store = groups.make(store_url, tmp_path / "cora", "cora")
    without = groups.bundle(
        bose, tmp_path / "without", models=["count_given_element:common@1"], entries=False
    )
    report = merge(store, without)
    assert {d["dataset"]: d["state"] for d in report.datasets} == {"bose/common@1": "stub"}
    version = versions.find(store, "bose/common@1")
    assert not version.members_shared
    assert version.n_entries == 30
    filled = merge(store, groups.bundle(bose, tmp_path / "with", datasets=["common@1"]))
    assert {d["dataset"]: d["state"] for d in filled.datasets} == {"bose/common@1": "filled"}
    assert versions.resolve(store, "bose/common@1").members_shared
    assert problems(store) == []
    own, _ = versions.create(
        store, "mine", selection.by_condition(store, "source = 'mp'"), "of what came"
    )
    assert own.n_entries == 30


def test_a_job_that_is_open_here_stops_the_merge(
    two_groups: Groups, copy_of: CopyOf, tmp_path: Path
) -> None:
    store = copy_of("ada")
    alter(
        store,
        "UPDATE job SET state = 'failed', error = 'no power' WHERE kind = 'generate'",
    )
    held = dump(store)
    with pytest.raises(JobError, match=r"generate\), which is failed here: finish it first"):
        merge(store, two_groups["bose"].bundle)
    assert differences(held, dump(store)) == []


def test_a_store_without_a_name_takes_bundles_in(two_groups: Groups, tmp_path: Path) -> None:
    store = groups.make(str(tmp_path / "store"), tmp_path, "nobody")
    alter(store, "DELETE FROM setting WHERE key = 'origin'")
    merge(store, two_groups["ada"].bundle)
    assert versions.resolve(store, "ada/own@2").number == 2
    set_origin(store, "cora")
    assert problems(store) == []


def test_judgements_of_crystals_are_seen_elsewhere(
    two_groups: Groups, store_url: str, tmp_path: Path
) -> None:
    """Views say the same of candidates where their bundle was merged into an empty store."""
    query = sa.text(
        "SELECT candidate_id, structural_validity, density, novelty, is_representative, "
        "relaxed_id, relaxed_energy_per_atom, converged FROM generated_structures "
        "WHERE model = 'other' ORDER BY candidate_id"
    )
    store = groups.make(store_url, tmp_path / "empty", "carl")
    merge(store, two_groups["bose"].bundle)
    said = []
    for each in (two_groups["bose"].store, store):
        with each.read() as connection:
            said.append([[str(v) for v in row] for row in connection.execute(query)])
    assert said[0] == said[1]
    assert len(said[0]) > 5
    assert not any("None" in row for row in said[0])
