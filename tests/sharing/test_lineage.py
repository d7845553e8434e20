"""Descent, back and forward, on both engines, against the tables it is worked out from."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from uuid import UUID

import pytest
import sqlalchemy as sa
from prov.model import ProvDocument
from typer.testing import CliRunner

from gandb.cli.app import app
from gandb.core.errors import NotFoundError, UsageError
from gandb.datasets import selection, versions
from gandb.query.frames import query
from gandb.schema import tables
from gandb.sharing.lineage.prov import prov_document, prov_json
from gandb.sharing.lineage.steps import MANY
from gandb.sharing.lineage.tracing import Key, Lineage, trace
from gandb.store import Store
from gandb.tasks.candidates import candidates_job
from gandb.tasks.records import records_job
from tests import postgres
from tests.filled import SAMPLES, Filled, fill
from tests.tasks.labs import work

SALT = """2
Lattice="4 0 0 0 4 0 0 0 4" Properties=species:S:1:pos:R:3 material_id={name} energy={energy}
Cs 0 0 0
Cl 2 2 2
"""


@pytest.fixture(
    scope="module", params=["duckdb", pytest.param("postgres", marks=pytest.mark.postgres)]
)
def address(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """Where a store may be made, once on each engine; all tests here only add to it."""
    if request.param == "duckdb":
        yield str(tmp_path_factory.mktemp("lineage") / "store")
        return
    with postgres.fresh_database(request.getfixturevalue("postgres_url")) as url:
        yield url


@pytest.fixture(scope="module")
def filled(address: str, tmp_path_factory: pytest.TempPathFactory) -> Filled:
    """A store with two sources, two versions, baselines, and an external model's candidates."""
    tmp_path = tmp_path_factory.mktemp("files")
    made = fill(address, tmp_path)
    chosen = selection.by_condition(made.store, "cnen_strict AND band_gap > 0.5")
    versions.create(made.store, "balanced", chosen, "with a gap")
    read = tmp_path / "salt.extxyz"
    read.write_text(SALT.format(name="cs-1", energy=-6.5))
    brought = tmp_path / "theirs.extxyz"
    brought.write_text(SALT.format(name="gen-1", energy=-1.0))
    work(made.store, records_job("own", [read], licence="CC0", attribution="me"))
    work(made.store, candidates_job("theirs", [brought], origin={"paper": "doi:1"}))
    return made


def one(store: Store, statement: str) -> str:
    """Return the only value of a query."""
    (row,) = query(store, statement).to_pylist()
    return str(next(iter(row.values())))


def relations(found: Lineage) -> set[tuple[str, str, str]]:
    return {(s.subject.kind, s.relation, s.object.kind) for s in found.steps}


def test_back_from_a_candidate(filled: Filled) -> None:
    store = filled.store
    own = one(
        store, "SELECT candidate_id FROM generated WHERE model = 'uniform' ORDER BY 1 LIMIT 1"
    )
    found = trace(store, own)
    assert relations(found) == {
        ("candidate", "generated_by", "job"),
        ("candidate", "sampled_from", "checkpoint"),
        ("candidate", "has_composition", "composition"),
        ("checkpoint", "trained_by", "job"),
        ("checkpoint", "trained_on", "dataset_version"),
        ("checkpoint", "instance_of", "model"),
        ("job", "used", "checkpoint"),
        ("job", "used", "dataset_version"),
        ("dataset_version", "drawn_from", "source_snapshot"),
        ("source_snapshot", "imported_by", "job"),
    }
    assert Key("dataset_version", str(filled.dataset.id)) in found.things
    # The members by snapshot, counted another way.
    sources = {s.object.id: s.facts["entries"] for s in found.steps if s.relation == "drawn_from"}
    with store.read() as connection:
        members = versions.members_query(filled.dataset.id).subquery()
        held = tables.snapshot_entry
        rows = connection.execute(
            sa.select(held.c.snapshot_id, sa.func.count())
            .join(members, members.c.entry_id == held.c.entry_id)
            .group_by(held.c.snapshot_id)
        )
        assert sources == {str(i): n for i, n in rows}
    for key in sources:
        facts = found.things[Key("source_snapshot", key)].facts
        assert facts["licence"] == "CC BY 4.0"
        assert facts["files"]
        assert facts["release"] == "sample"
    # The view lineage says the same of the way back.
    row = query(store, f"SELECT * FROM lineage WHERE candidate_id = '{own}'").to_pylist()[0]
    for kind, column in [
        ("job", "generation_job_id"),
        ("job", "training_job_id"),
        ("checkpoint", "checkpoint_id"),
        ("dataset_version", "dataset_version_id"),
    ]:
        assert Key(kind, str(row[column])) in found.things
    (made,) = [s for s in found.steps if s.relation == "generated_by"]
    assert made.facts == {"times": row["times"], "first_index": row["first_index"]}


def test_every_check_is_told_with_its_recipe(filled: Filled) -> None:
    store = filled.store
    for row in query(store, "SELECT * FROM generated ORDER BY candidate_id LIMIT 12").to_pylist():
        found = trace(store, row["candidate_id"], depth=1)
        told = {found.things[c.recipe].facts["check_name"]: c for c in found.checks}
        assert {"cnen_strict", "cnen_default", "cnen_matgan", "novelty"} <= set(told)
        for name in ("cnen_strict", "cnen_default", "cnen_matgan"):
            assert told[name].passed == row[name]
        if row["model"] != "theirs":
            assert told["novelty"].passed == row["novel"]
            assert told["novelty"].against == (Key("dataset_version", str(filled.dataset.id)),)
        assert all(found.things[c.recipe].facts["parameters"] for c in found.checks)


def test_a_multiple_fails_matgans_check_of_its_own(filled: Filled) -> None:
    told = query(
        filled.store,
        "SELECT count(*) AS n, count(CASE WHEN g.cnen_matgan = c.passed THEN 1 END) AS same, "
        "count(CASE WHEN c.verdict LIKE 'generated as%' THEN 1 END) AS multiples "
        "FROM lineage_checks c JOIN generated g ON g.candidate_id = c.candidate_id "
        "WHERE c.check_name = 'cnen_matgan'",
    ).to_pylist()[0]
    assert told["n"] == told["same"] > SAMPLES


def test_back_from_an_external_candidate(filled: Filled) -> None:
    store = filled.store
    own = one(store, "SELECT candidate_id FROM generated WHERE model = 'theirs'")
    found = trace(store, own)
    assert relations(found) == {
        ("candidate", "generated_by", "job"),
        ("candidate", "sampled_from", "checkpoint"),
        ("candidate", "has_structure", "structure"),
        ("candidate", "has_composition", "composition"),
        ("structure", "has_composition", "composition"),
        ("checkpoint", "brought_by", "job"),
        ("checkpoint", "instance_of", "model"),
    }
    facts = found.things[found.root].facts
    assert facts["records"][0]["external_id"] == "gen-1"
    (job,) = [t for k, t in found.things.items() if k.kind == "job"]
    assert [set(f) for f in job.facts["spec"]["files"]] == [{"name", "sha256", "size"}]
    (model,) = [t for k, t in found.things.items() if k.kind == "model"]
    assert model.facts["config"] == {"origin": {"paper": "doi:1"}}
    assert "symmetry" in {found.things[c.recipe].facts["check_name"] for c in found.checks}


def test_forward_from_an_entry(filled: Filled) -> None:
    store = filled.store
    held = query(
        store,
        "SELECT entry_id, split FROM dataset_members WHERE dataset = 'balanced@2' "
        "ORDER BY entry_id",
    ).to_pylist()
    own = held[0]["entry_id"]
    found = trace(store, own, forward=True)
    both = {s.subject.id: s.facts["split"] for s in found.steps if s.relation == "holds"}
    numbered = query(store, "SELECT version_id FROM datasets WHERE name = 'balanced'")
    assert set(both) == set(numbered.column("version_id").to_pylist())
    assert set(both.values()) == {held[0]["split"]}
    assert {s.subject.kind for s in found.steps if s.relation == "trained_on"} == {"checkpoint"}
    jobs = {s.subject.id for s in found.steps if s.relation == "used"}
    assert jobs == {str(job.id) for job in filled.jobs}
    counts = {g.of.id: g.count for g in found.groups if g.relation == "generated_by"}
    for job in filled.jobs:
        n = one(
            store,
            "SELECT count(DISTINCT candidate_id) AS n FROM generation_event "
            f"WHERE job_id = '{job.id}'",
        )
        assert counts[str(job.id)] == int(n) > MANY
    # The same from the view, and nothing of an entry that is in the first version alone.
    rows = query(
        store,
        f"SELECT * FROM lineage_forward WHERE entry_id = '{own}' AND checkpoint_id IS NOT NULL",
    ).to_pylist()
    assert {r["checkpoint_id"] for r in rows} == {
        s.subject.id for s in found.steps if s.relation == "trained_on"
    }
    dropped = one(
        store,
        "SELECT m.entry_id FROM dataset_members m WHERE m.dataset = 'balanced@1' "
        "AND m.entry_id NOT IN "
        "(SELECT entry_id FROM dataset_members WHERE dataset = 'balanced@2') ORDER BY 1 LIMIT 1",
    )
    only = [s for s in trace(store, dropped, forward=True).steps if s.relation == "holds"]
    assert [s.subject.id for s in only] == [str(filled.dataset.id)]


def test_versions_and_their_parents(filled: Filled) -> None:
    second = versions.resolve(filled.store, "balanced@2")
    back = trace(filled.store, "balanced@2")
    derived = [s for s in back.steps if s.relation == "derived_from"]
    assert [(s.subject.id, s.object.id) for s in derived] == [
        (str(second.id), str(filled.dataset.id))
    ]
    # Sources are told of the version, not of its parent a second time.
    assert {s.subject.id for s in back.steps if s.relation == "drawn_from"} == {str(second.id)}
    ahead = trace(filled.store, "balanced@1", forward=True)
    assert ("dataset_version", "derived_from", "dataset_version") in relations(ahead)


def test_a_version_whose_members_were_not_shared(filled: Filled) -> None:
    stub = {
        "id": UUID(int=77), "parent_id": filled.dataset.id, "members_hash": "0", "split_recipe": {},
        "n_entries": 5, "n_compositions": 4,
    }  # fmt: skip
    parent = {"version_id": stub["id"], "position": 0, "parent_id": filled.dataset.id}
    named = {"dataset_id": UUID(int=78), "number": 1, "version_id": stub["id"], "message": "",
             "selection": {}, "created_at": datetime(2026, 1, 1)}  # fmt: skip
    with filled.store.write() as tx:
        tx.insert_new(tables.dataset_version, stub)
        tx.insert_new(tables.dataset_parent, parent)
        tx.insert_new(tables.dataset, {"id": named["dataset_id"], "name": "bose/closed"})
        tx.insert_new(tables.dataset_number, named)
    assert trace(filled.store, "bose/closed@1").root.id == str(stub["id"])
    found = trace(filled.store, str(stub["id"]), depth=1)
    assert [s.relation for s in found.steps] == ["derived_from"]
    assert "its members were not shared" in found.things[found.root].label
    assert found.things[found.root].facts["members_shared"] is False


def test_what_groups_state_differently_is_told(filled: Filled) -> None:
    own = one(filled.store, "SELECT entry_id FROM entries WHERE external_id = 'cs-1'")
    rows = [
        {"relation": "entry", "subject": json.dumps({"id": own}), "attribute": "energy_per_atom",
         "origin": origin, "value": value}
        for origin, value in (("", "-3.25"), ("theirs", "-3.3"))
    ]  # fmt: skip
    with filled.store.write() as tx:
        tx.execute(tables.statement.insert(), rows)
    found = trace(filled.store, own)
    assert [d["value"] for d in found.things[found.root].facts["disputed"]] == ["-3.25", "-3.3"]


@pytest.mark.parametrize("kind", ["model", "job", "recipe", "source_snapshot", "composition"])
def test_every_kind_goes_both_ways(filled: Filled, kind: str) -> None:
    table = "source_snapshot" if kind == "source_snapshot" else kind
    for own in query(filled.store, f"SELECT id FROM {table} ORDER BY id LIMIT 8").column(0):
        for forward in (False, True):
            found = trace(filled.store, str(own)[:13], forward)
            assert found.root == Key(kind, str(own))
            ends = {k for s in found.steps for k in (s.subject, s.object)}
            assert ends <= set(found.things)
            assert all(t.facts.get("present", True) for t in found.things.values())


def test_what_a_thing_may_be_called(filled: Filled, tmp_path: Path) -> None:
    store = filled.store
    entry = one(store, "SELECT entry_id FROM entries WHERE external_id = 'cs-1'")
    for text in (entry, entry.upper(), entry.replace("-", ""), entry[:8], "own:cs-1", "cs-1"):
        assert trace(store, text, depth=1).root == Key("entry", entry)
    version = Key("dataset_version", str(filled.dataset.id))
    assert trace(store, "balanced@1", depth=1).root == version
    assert trace(store, "theirs", depth=1).root.kind == "checkpoint"
    assert trace(store, "uniform:balanced@1", depth=1).root.kind == "checkpoint"
    for text in ("nothing", "balanced@9", "own:cs-2", "0" * 31 + "1", "%", "' OR 1=1 --"):
        with pytest.raises(NotFoundError):
            trace(store, text)
    with pytest.raises(UsageError, match="name a thing"):
        trace(store, " ")
    for energy in (-7.0, -7.5):
        again = tmp_path / f"again{energy}.extxyz"
        again.write_text(SALT.format(name="cs-9", energy=energy))
        work(store, records_job("own", [again]))
    with pytest.raises(UsageError, match="may be entry"):
        trace(store, "own:cs-9")


def test_prov_is_read_by_another_program(filled: Filled) -> None:
    store = filled.store
    for text, forward in (
        (one(store, "SELECT candidate_id FROM generated ORDER BY 1 LIMIT 1"), False),
        (one(store, "SELECT candidate_id FROM generated WHERE model = 'theirs'"), False),
        ("own:cs-1", True),
        ("balanced@1", True),
        ("balanced@2", False),
    ):
        found = trace(store, text, forward)
        document = ProvDocument.deserialize(content=prov_json(found), format="json")
        names = {str(record.identifier) for record in document.get_records() if record.identifier}
        for key in found.things:
            assert f"gandb:{key.kind}-{key.id}" in names
        # What is referred to is there, and it survives being written by that program.
        for record in document.get_records():
            ends = [str(value) for name, value in record.formal_attributes if value is not None]
            assert all(e in names for e in ends if e.startswith("gandb:")), record
        again = ProvDocument.deserialize(content=document.serialize(), format="json")
        assert again == document
        assert document.get_provn()
        assert prov_document(found) == prov_document(trace(store, text, forward))
        generated = {s for s in found.steps if s.relation in ("generated_by", "trained_by")}
        text_of = document.get_provn()
        for step in generated:
            assert (
                f"wasGeneratedBy(gandb:{step.subject.kind}-{step.subject.id}, "
                f"gandb:job-{step.object.id}"
            ) in text_of


def test_the_command(filled: Filled, address: str, tmp_path: Path) -> None:
    run, target = CliRunner(), tmp_path / "lineage.json"
    own = one(
        filled.store,
        "SELECT candidate_id FROM generated WHERE model = 'uniform' ORDER BY 1 LIMIT 1",
    )
    tree = run.invoke(app, ["-s", address, "lineage", own[:8]])
    assert tree.exit_code == 0, tree.output
    for said in ("generated by job", "uniform 1 (baseline)", "balanced@1, ", "licence CC BY 4.0",
                 "novelty 1", "against balanced@1"):  # fmt: skip
        assert said in tree.stdout
    ahead = run.invoke(app, ["-s", address, "lineage", "balanced@1", "--forward"])
    assert "generated 2," in ahead.stdout or "generated 1," in ahead.stdout
    short = run.invoke(app, ["-s", address, "lineage", own, "--depth", "1", "--json"])
    data = json.loads(short.stdout)
    assert data["root"] == {"kind": "candidate", "id": own}
    assert data["cut"]
    written = run.invoke(app, ["-s", address, "lineage", own, "--prov", str(target)])
    assert written.exit_code == 0
    assert ProvDocument.deserialize(str(target), format="json")
    again = run.invoke(app, ["-s", address, "lineage", own, "--prov", str(target)])
    assert again.exit_code == 5
    assert "exists" in again.stderr
    missing = run.invoke(app, ["-s", address, "lineage", "zzz"])
    assert missing.exit_code == 3
