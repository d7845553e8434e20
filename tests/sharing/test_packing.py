"""Bundles: the same content in the same bytes, all that it needs, and nothing else."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gandb.core.config import Settings
from gandb.core.errors import NotFoundError, StoreError, UsageError
from gandb.datasets import selection as members
from gandb.datasets import versions
from gandb.schema import tables
from gandb.sharing.backup import restore_backup, write_backup
from gandb.sharing.bundles.bundle import TABLES, Bundle, open_bundle
from gandb.sharing.bundles.packing import Packed, pack
from gandb.sharing.bundles.selection import Selection, select
from gandb.sharing.origin import own_origin, require_origin, set_origin
from gandb.sharing.verifying.content import verify_content
from gandb.store import Store
from tests.sharing import groups
from tests.sharing.bundles import Rows, files_of, loose_references, rows_of, unneeded
from tests.sharing.conftest import Group

Chosen = dict[str, Any]

SELECTIONS: dict[str, Chosen] = {
    "a version": {"datasets": ["own@2"]},
    "a version with its history": {"datasets": ["own@2"], "history": True},
    "two versions": {"datasets": ["common@1", "own@1"], "tags": False},
    "a model": {"models": ["count_given_element:common@1"]},
    "a model alone": {"models": ["count_given_element:common@1"], "entries": False},
    "an external model": {"models": ["other"]},
    "candidates": {"candidates": "cnen_strict AND novel"},
    "candidates without entries": {"candidates": "true", "entries": False},
    "candidates with structures": {"candidates": "n_sites > 4"},
    "everything": {"everything": True},
    "everything but entries": {"everything": True, "entries": False},
}


@pytest.fixture(scope="module")
def store(two_groups: dict[str, Group]) -> Store:
    return two_groups["ada"].store


def packed(store: Store, target: Path, **chosen: Any) -> Packed:
    return pack(store, select(store, **chosen), target)


def with_bundle(path: Path, look: Callable[[Bundle], Any]) -> Any:
    with open_bundle(path) as bundle:
        return look(bundle)


def counts(store: Store, name: str, *conditions: Any) -> int:
    table = tables.metadata.tables[name]
    with store.read() as connection:
        query = sa.select(sa.func.count()).select_from(table).where(*conditions)
        return int(connection.execute(query).scalar_one())


# --- the same bytes ----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["everything", "candidates with structures"])
def test_twice_is_the_same(store: Store, tmp_path: Path, name: str) -> None:
    first = packed(store, tmp_path / "first", **SELECTIONS[name])
    second = packed(store, tmp_path / "second.zip", **SELECTIONS[name])
    with zipfile.ZipFile(tmp_path / "second.zip") as archive:
        archive.extractall(tmp_path / "second")
    assert files_of(tmp_path / "first") == files_of(tmp_path / "second")
    assert first.sha256 == second.sha256
    third = packed(store, tmp_path / "third.zip", **SELECTIONS[name])
    assert third.path.read_bytes() == second.path.read_bytes()


@pytest.mark.postgres
def test_both_engines_write_the_same_bytes(
    store: Store, postgres_database: str, tmp_path: Path
) -> None:
    write_backup(store, tmp_path / "store.tar")
    other, _ = restore_backup(
        tmp_path / "store.tar", Settings(store=postgres_database), str(tmp_path / "blobs")
    )
    set_origin(other, "ada")
    for place, chosen in enumerate(SELECTIONS.values()):
        packed(store, tmp_path / f"here-{place}", **chosen)
        packed(other, tmp_path / f"there-{place}", **chosen)
        here, there = files_of(tmp_path / f"here-{place}"), files_of(tmp_path / f"there-{place}")
        assert sorted(here) == sorted(there)
        assert [name for name in here if here[name] != there[name]] == [], chosen


def test_the_order_of_imports_does_not_show(tmp_path: Path) -> None:
    from gandb.tasks.importing import import_job
    from tests.tasks.labs import cut_tables, work

    found = []
    parts = cut_tables(tmp_path, 60)
    for name, order in (("one", parts), ("other", parts[::-1])):
        made = groups.make(str(tmp_path / name), tmp_path, "ada")
        for part in order:
            work(made, import_job("mp", [part]))
        version, _ = versions.create(made, "all", members.by_condition(made, "true"), "every entry")
        assert version.number == 1
        packed(made, tmp_path / f"{name}.zip", everything=True)
        found.append((tmp_path / f"{name}.zip").read_bytes())
    assert found[0] == found[1]


# --- all that is needed, and nothing else -------------------------------------------------


@pytest.mark.parametrize("name", SELECTIONS)
def test_a_bundle_is_whole_and_sound(store: Store, tmp_path: Path, name: str) -> None:
    packed(store, tmp_path / "out", **SELECTIONS[name])
    with open_bundle(tmp_path / "out") as bundle:
        rows = rows_of(bundle)
        assert loose_references(rows) == []
        if "everything" not in SELECTIONS[name]:
            assert unneeded(rows) == []
        for table in TABLES:
            keys = [tuple(row[k] for k in table.key) for row in rows[table.name]]
            assert keys == sorted(set(keys)), table.name
            assert bundle.rows(table.name) == len(keys)
        assert {row["sha256"] for row in rows["blob"]} == set(bundle.blobs)
        verify_content(bundle)


@given(data=st.data())
@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_selection_is_whole(store: Store, tmp_path: Path, data: st.DataObject) -> None:
    chosen: Chosen = {
        "datasets": data.draw(st.lists(st.sampled_from(["own@1", "own@2", "common"]), unique=True)),
        "models": data.draw(
            st.lists(st.sampled_from(["count_given_element:common@1", "other"]), unique=True)
        ),
        "candidates": data.draw(
            st.sampled_from([None, "novel", "n_elements = 2", "novelty = 'known'", "n_sites > 2"])
        ),
        "jobs": data.draw(st.lists(st.sampled_from(_jobs(store)), unique=True, max_size=3)),
        "entries": data.draw(st.booleans()),
        "history": data.draw(st.booleans()),
        "tags": data.draw(st.booleans()),
    }
    if not (chosen["datasets"] or chosen["models"] or chosen["jobs"] or chosen["candidates"]):
        chosen["everything"] = True
    target = tmp_path / "out"
    shutil.rmtree(target, ignore_errors=True)
    packed(store, target, **chosen)
    with open_bundle(target) as bundle:
        rows = rows_of(bundle)
        assert loose_references(rows) == []
        assert "everything" in chosen or unneeded(rows) == []
        assert chosen["entries"] or not rows["entry"]
        verify_content(bundle)


def _jobs(store: Store) -> list[str]:
    with store.read() as connection:
        return sorted(str(r[0]) for r in connection.execute(sa.select(tables.job.c.id)))


def test_everything_is_everything(store: Store, tmp_path: Path) -> None:
    found = packed(store, tmp_path / "out", everything=True).rows
    same = ("composition", "structure", "entry", "check_result", "candidate", "metric", "recipe",
            "comparison", "material_member", "structure_key", "generation_event", "snapshot_entry",
            "candidate_novelty", "dataset_version", "candidate_record")  # fmt: skip
    assert {n: found[n] for n in same} == {n: counts(store, n) for n in same}
    assert all(found[n] for n in same)
    assert found["job"] == counts(store, "job", tables.job.c.state == "done")


def test_a_version_has_its_members_and_their_split(store: Store, tmp_path: Path) -> None:
    packed(store, tmp_path / "out", datasets=["own@2"])
    version = versions.resolve(store, "own@2")
    with store.read() as connection:
        query = versions.members_query(version.id)
        wanted = {(str(e), s) for e, s in connection.execute(query)}
    rows = with_bundle(tmp_path / "out", rows_of)
    assert {(r["entry_id"], r["split"]) for r in rows["dataset_member"]} == wanted
    assert {r["id"] for r in rows["entry"]} == {e for e, _ in wanted}
    assert [r["name"] for r in rows["dataset"]] == ["ada/own"]
    assert {r["number"] for r in rows["dataset_number"]} == {1, 2}
    # The earlier version is known by what it was, its members are not here.
    assert len(rows["dataset_version"]) == 2
    assert {r["version_id"] for r in rows["dataset_base"]} == {str(version.id)}


def test_history_is_told_by_what_changed(store: Store, tmp_path: Path) -> None:
    packed(store, tmp_path / "out", datasets=["own@2"], history=True)
    rows = with_bundle(tmp_path / "out", rows_of)
    for number in (1, 2):
        version = versions.resolve(store, f"own@{number}")
        with store.read() as connection:
            found = connection.execute(versions.members_query(version.id))
            wanted = {(str(e), s) for e, s in found}
        assert _members(rows, str(version.id)) == wanted
    newest = str(versions.resolve(store, "own@2").id)
    assert sum(1 for r in rows["dataset_base"] if r["version_id"] == newest) == 2
    changed = [r for r in rows["dataset_member"] if r["version_id"] == newest]
    earlier = str(versions.resolve(store, "own@1").id)
    both = _members(rows, newest), _members(rows, earlier)
    assert len(changed) == len(both[0] ^ both[1]) < len(both[0])


def _members(rows: Rows, version: str) -> set[tuple[str, str]]:
    bases = {r["base_id"] for r in rows["dataset_base"] if r["version_id"] == version}
    total: dict[tuple[str, str], int] = {}
    for row in rows["dataset_member"]:
        if row["version_id"] in bases:
            key = (row["entry_id"], row["split"])
            total[key] = total.get(key, 0) + row["change"]
    return {key for key, n in total.items() if n}


def test_without_entries_versions_are_stubs(store: Store, tmp_path: Path) -> None:
    packed(store, tmp_path / "out", candidates="true", entries=False)
    rows = with_bundle(tmp_path / "out", rows_of)
    assert rows["dataset_version"]
    for name in ("entry", "snapshot_entry", "source_snapshot", "dataset_member", "dataset_base"):
        assert rows[name] == []
    assert len(rows["candidate"]) == counts(store, "candidate")
    own = {r["structure_id"] for r in rows["candidate"]}
    own |= {r["relaxed_id"] for r in rows["relaxation"]}
    assert {r["id"] for r in rows["structure"]} == own - {None}
    # Levels stay; what they were measured against is told only where it is here.
    assert any(r["level"] == 0 for r in rows["candidate_novelty"])


def test_materials_come_along_only_whole(store: Store, tmp_path: Path) -> None:
    packed(store, tmp_path / "out", datasets=["common@1"], candidates="n_sites > 4", entries=False)
    rows = with_bundle(tmp_path / "out", rows_of)
    here = {r["id"] for r in rows["structure"]}
    member = tables.material_member
    with store.read() as connection:
        found = connection.execute(sa.select(member.c.material_id, member.c.structure_id)).all()
    materials: dict[str, set[str]] = {}
    for material, structure in found:
        materials.setdefault(str(material), set()).add(str(structure))
    whole = {m for m, own in materials.items() if own <= here}
    assert {r["material_id"] for r in rows["material_member"]} == whole
    assert any(own & here and not own <= here for own in materials.values())


# --- what stops it -----------------------------------------------------------------------


def test_a_target_that_exists_is_left_alone(store: Store, tmp_path: Path) -> None:
    for target in (tmp_path / "folder", tmp_path / "file.zip"):
        packed(store, target, datasets=["own@1"])
        before = files_of(tmp_path)
        with pytest.raises(StoreError, match="never overwrites"):
            packed(store, target, datasets=["own@2"])
        assert files_of(tmp_path) == before


def test_a_lost_blob_leaves_nothing(tmp_path: Path, store: Store) -> None:
    shutil.copytree(store.location, tmp_path / "copy")
    own = Store.open(Settings(store=str(tmp_path / "copy")))
    for blob in list(own.files.blobs()):
        own.files.drop_blob(blob)
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(NotFoundError, match="missing"):
        packed(own, out / "bundle", everything=True)
    assert list(out.iterdir()) == []


def test_names_and_jobs_must_be_right(store: Store, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="say what to pack"):
        select(store)
    with pytest.raises(NotFoundError):
        select(store, datasets=["nothing@1"])
    with pytest.raises(NotFoundError, match="no candidate"):
        select(store, candidates="n_elements > 99")
    new = Store.create(Settings(store=str(tmp_path / "new")))
    assert own_origin(new) is None
    with pytest.raises(UsageError, match="gandb share origin"):
        require_origin(new)
    for wrong in ("", "Ada", "a/b", "-a", "a" * 33, "a b"):
        with pytest.raises(UsageError, match="cannot name a group"):
            set_origin(new, wrong)
    set_origin(new, "bose-7")
    assert own_origin(new) == "bose-7"


def test_candidates_of_unfinished_jobs_stay(store: Store, tmp_path: Path) -> None:
    shutil.copytree(store.location, tmp_path / "copy")
    own = Store.open(Settings(store=str(tmp_path / "copy")))
    job, event = tables.job, tables.generation_event
    with own.read() as connection:
        query = sa.select(job.c.id).where(job.c.kind == "generate").limit(1)
        running = connection.execute(query).scalar_one()
        others = {
            r[0]
            for r in connection.execute(
                sa.select(event.c.candidate_id).where(event.c.job_id != running)
            )
        }
    with own.write() as tx:
        tx.execute(sa.update(job).where(job.c.id == running).values(state="running"))
    with pytest.raises(UsageError, match="is running"):
        select(own, jobs=[str(running)])
    packed(own, tmp_path / "out", everything=True)
    rows = with_bundle(tmp_path / "out", rows_of)
    assert {r["id"] for r in rows["candidate"]} == {str(i) for i in others}
    assert str(running) not in {r["id"] for r in rows["job"]}
    sums: dict[str, int] = {}
    for row in rows["generation_event"]:
        sums[row["candidate_id"]] = sums.get(row["candidate_id"], 0) + row["times"]
    assert {r["id"]: r["times_generated"] for r in rows["candidate"]} == sums


# --- licences ----------------------------------------------------------------------------


def _closed(store: Store, folder: Path, licence: str) -> Store:
    shutil.copytree(store.location, folder)
    own = Store.open(Settings(store=str(folder)))
    snapshot = tables.source_snapshot
    with own.write() as tx:
        tx.execute(sa.update(snapshot).where(snapshot.c.source == "mine").values(licence=licence))
    return own


@pytest.mark.parametrize("licence", ["ICSD, not to be passed on", "not stated", "", "CC BY-ND 4.0"])
def test_what_may_not_be_handed_on_is_not(store: Store, tmp_path: Path, licence: str) -> None:
    own = _closed(store, tmp_path / "copy", licence)
    version, _ = versions.create(own, "mine", members.by_condition(own, "source = 'mine'"), "")
    chosen = select(own, datasets=[version.reference])
    with pytest.raises(UsageError, match="forbid handing the data on") as told:
        pack(own, chosen, tmp_path / "out")
    assert repr(licence) in str(told.value)
    assert not (tmp_path / "out").exists()
    pack(own, select(own, datasets=["common@1"]), tmp_path / "others")  # other sources' data
    stub = select(own, datasets=[version.reference], entries=False)
    pack(own, stub, tmp_path / "stub")
    assert with_bundle(tmp_path / "stub", rows_of)["entry"] == []
    allowed = pack(own, chosen, tmp_path / "allowed", allowed=[licence])
    assert [n.terms.value for n in allowed.notices] == ["agreed"]
    assert "states that it may hand this on" in (tmp_path / "allowed/LICENCES.md").read_text()


def test_what_is_not_for_commercial_use_says_so(store: Store, tmp_path: Path) -> None:
    from gandb.sources import SOURCES

    own = _closed(store, tmp_path / "copy", SOURCES["aflow"].licence)
    found = packed(own, tmp_path / "out", everything=True)
    assert {n.source: n.terms.value for n in found.notices} == {
        "mp": "open", "mine": "non-commercial",
    }  # fmt: skip
    assert "Not for commercial use" in (tmp_path / "out/LICENCES.md").read_text()


def test_licences_travel(store: Store, tmp_path: Path) -> None:
    packed(store, tmp_path / "out", everything=True)
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    found = {n["source"]: n for n in manifest["licences"]}
    assert found["mine"]["licence"] == "CC-BY-4.0"
    assert found["mine"]["attribution"] == "ours"
    assert found["mp"]["entries"] == counts(store, "entry", tables.entry.c.source == "mp")
    for document in ("LICENCES.md", "croissant.json", "ro-crate-metadata.json"):
        text = (tmp_path / "out" / document).read_text()
        assert "ours" in text
        assert "https://creativecommons.org/licenses/by/4.0/" in text


def test_ids_of_candidates_may_be_given(store: Store, tmp_path: Path) -> None:
    chosen = select(store, candidates="times_generated > 1")
    few = replace(chosen, candidate_ids=chosen.candidate_ids[:3])
    assert isinstance(few, Selection)
    found = pack(store, few, tmp_path / "out")
    assert found.rows["candidate"] == len(np.unique(few.candidate_ids, axis=0)) == 3
