"""Imports of records with structures: what is written, resumed, refused, kept, parsed again."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa

from gandb.core.errors import InputError, NotFoundError, UsageError
from gandb.datasets import selection, versions
from gandb.jobs import queue
from gandb.jobs.records import State
from gandb.jobs.worker import Worker
from gandb.schema.tables import (
    candidate,
    candidate_record,
    entry,
    entry_alias,
    snapshot_file,
    snapshot_reject,
    structure,
    structure_symmetry,
)
from gandb.sources.reading import read_files
from gandb.store import Store
from gandb.tasks import TASKS, parts, records
from gandb.tasks.candidates import candidates_job
from gandb.tasks.data import find_checkpoint
from gandb.tasks.generation import generation_job
from gandb.tasks.novelty import novelty_job
from gandb.tasks.preparing import Preparation
from gandb.tasks.records import records_job, reparse_job
from gandb.tasks.snapshots import difference, find_snapshot, reasons, snapshots
from gandb.tasks.structures import crystals, find_structure
from gandb.tasks.verification import verify_store
from tests.content import differences, dump
from tests.tasks.labs import make_store, work


def poscar(name: str, edge: float, kinds: Sequence[str], places: Sequence[Sequence[float]]) -> str:
    """Write a cubic POSCAR; sites of one kind stand together."""
    counts = {kind: list(kinds).count(kind) for kind in dict.fromkeys(kinds)}
    rows = "\n".join(" ".join(map(str, place)) for place in places)
    return (
        f"{name}\n1.0\n{edge} 0 0\n0 {edge} 0\n0 0 {edge}\n{' '.join(counts)}\n"
        f"{' '.join(map(str, counts.values()))}\nDirect\n{rows}\n"
    )


CSCL = [[0, 0, 0], [0.5, 0.5, 0.5]]
SALTS = [(a, x, 3.5 + 0.05 * i) for i, (a, x) in enumerate(
    [("Na", "Cl"), ("K", "Cl"), ("Cs", "Cl"), ("Cs", "Br"), ("Cs", "I"), ("Tl", "Cl"), ("Li", "F")]
)]  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of seven good files, two broken ones and one that says the same as another."""
    made = tmp_path / "salts"
    made.mkdir()
    for a, x, edge in SALTS:
        (made / f"{a}{x}.vasp").write_text(poscar(f"{a}{x}", edge, [a, x], CSCL))
    (made / "flat.vasp").write_text(poscar("flat", 0.0, ["Na", "Cl"], CSCL))
    (made / "full.vasp").write_text(poscar("full", 3.5, ["Na", "Cl"], [[0, 0, 0], [0, 0, 1]]))
    return made


def _rows(store: Store, query: sa.Select[Any]) -> list[dict[str, Any]]:
    with store.read() as connection:
        return [dict(row) for row in connection.execute(query).mappings()]


def test_records_become_entries_with_structures(
    store_url: str, folder: Path, tmp_path: Path
) -> None:
    store = make_store(store_url, tmp_path)
    (job,) = work(store, records_job("salts", [folder], release="7", licence="CC0"))
    (chunk,) = queue.chunks(store, job.id)
    assert {k: chunk["result"][k] for k in ("rows_read", "rows_rejected", "entries")} == {
        "rows_read": 9, "rows_rejected": 2, "entries": 7,
    }  # fmt: skip
    listed = {row["formula"]: row for row in _rows(store, sa.select(entry))}
    assert set(listed) == {f"{a}{x}" for a, x, _ in SALTS}
    assert {row["space_group_number"] for row in listed.values()} == {221}
    assert {row["n_sites"] for row in listed.values()} == {2}
    (snapshot,) = snapshots(store)
    assert (snapshot["n_rows"], snapshot["n_entries"], snapshot["n_rejects"]) == (9, 7, 2)
    assert (snapshot["release"], snapshot["licence"]) == ("7", "CC0")
    assert sum(row["rows"] for row in reasons(store, snapshot["id"])) == 2
    with store.read() as connection:
        for own, crystal in crystals(connection):
            assert crystal.id == own
            assert np.allclose(crystal.angles, 90)
        assert sorted(c.lengths[0] for _, c in crystals(connection)) == pytest.approx(
            sorted(edge for _, _, edge in SALTS)
        )
    assert [f for f in verify_store(store) if f["problems"]] == []


def test_the_same_again_adds_nothing_wherever_it_lies(
    store_url: str, folder: Path, tmp_path: Path
) -> None:
    store = make_store(store_url, tmp_path)
    work(store, records_job("salts", [folder]))
    before = dump(store)
    packed = tmp_path / "packed.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        for path in sorted(folder.iterdir(), reverse=True):
            archive.write(path, path.name)
    work(store, records_job("salts", [packed]))
    after = dump(store)
    for table in ("entry", "structure", "structure_symmetry", "composition", "recipe"):
        assert after[table] == before[table], table


@pytest.mark.parametrize("deaths", [1, 3])
def test_a_broken_import_goes_on_where_it_stopped(
    store_url: str,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    deaths: int,
) -> None:
    calm = make_store(str(tmp_path / "calm"), tmp_path / "calm-files")
    work(calm, records_job("salts", [folder]))
    monkeypatch.setattr(parts, "PART", 2)
    done: list[int] = []
    plain = Preparation.__call__
    left = [deaths]

    def dying(self: Preparation, items: Any) -> Any:
        if left[0] and len(done) % 2:
            left[0] -= 1
            done.append(0)
            raise KeyboardInterrupt
        done.append(len(items))
        return plain(self, items)

    monkeypatch.setattr(Preparation, "__call__", dying)
    store = make_store(store_url, tmp_path)
    job = queue.submit(store, records_job("salts", [folder]))
    for _ in range(deaths):
        with pytest.raises(KeyboardInterrupt):
            Worker(store, TASKS, 60.0, [job.id]).run()
    Worker(store, TASKS, 60.0, [job.id]).run()
    assert queue.get(store, job.id).state is State.DONE
    assert sum(done) == 9, "what was done is not done again"
    skip = ("job", "job_chunk")
    one, other = dump(calm), dump(store)
    assert differences({k: v for k, v in one.items() if k not in skip},
                       {k: v for k, v in other.items() if k not in skip}) == []  # fmt: skip


def test_many_records_are_worked_out_by_other_processes(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = make_store(str(tmp_path / "alone"), tmp_path)
    work(alone, records_job("salts", [folder]))
    monkeypatch.setattr(parts, "FEW", 1)
    monkeypatch.setattr(parts, "PART", 2)
    store = make_store(str(tmp_path / "beside"), tmp_path)
    work(store, records_job("salts", [folder]))
    assert differences(dump(alone), dump(store)) == []


def test_an_import_in_many_pieces_is_the_same_import(
    store_url: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Compositions, structures and records that come again later are taken in once."""
    for a, x, edge in SALTS[:3]:
        (folder / f"z{a}{x}.vasp").write_text(poscar(f"z{a}{x}", edge, [a, x], CSCL))
    whole = make_store(str(tmp_path / "whole"), tmp_path)
    work(whole, records_job("salts", [folder]))
    monkeypatch.setattr(parts, "PART", 2)
    monkeypatch.setattr(parts, "PIECE", 1)
    monkeypatch.setattr(parts, "SPAN", 2)
    store = make_store(store_url, tmp_path)
    work(store, records_job("salts", [folder]))
    assert differences(dump(whole), dump(store)) == []
    assert [f for f in verify_store(store) if f["problems"]] == []


def test_a_record_that_takes_for_ever_is_found_and_turned_away(
    folder: Path, tmp_path: Path
) -> None:
    items = list(read_files([folder]))
    work_out = Preparation("salts")

    def ask(piece: Any) -> Any:
        if any(getattr(item, "external_id", "") == "CsBr" for item in piece):
            return parts._late(work_out, piece, ask)
        return work_out(piece)

    made = parts._late(work_out, items, ask)
    assert made["entries"].num_rows == 6
    reasons = made["rejects"].column("reason").to_pylist()
    assert sum("takes longer than" in reason for reason in reasons) == 1
    assert len(reasons) == 3


def test_strict_takes_all_or_nothing(store_url: str, folder: Path, tmp_path: Path) -> None:
    store = make_store(store_url, tmp_path)
    job = queue.submit(store, records_job("salts", [folder], strict=True))
    Worker(store, TASKS, 60.0, [job.id]).run()
    ended = queue.get(store, job.id)
    assert ended.state is State.FAILED
    assert "2 records are malformed and --strict" in str(ended.error)
    assert _rows(store, sa.select(entry)) == _rows(store, sa.select(structure)) == []


def test_a_file_that_changes_meanwhile_is_refused(folder: Path, tmp_path: Path) -> None:
    store = make_store(str(tmp_path / "store"), tmp_path)
    job = queue.submit(store, records_job("salts", [folder]))
    (folder / "NaCl.vasp").write_text(poscar("NaCl", 9.0, ["Na", "Cl"], CSCL))
    Worker(store, TASKS, 60.0, [job.id]).run()
    assert "has changed since" in str(queue.get(store, job.id).error)
    with pytest.raises(InputError, match="cannot read"):
        records_job("salts", [tmp_path / "none.cif"])


def test_raw_files_are_kept_and_parsed_again(
    store_url: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make_store(store_url, tmp_path)
    work(store, records_job("salts", [folder], keep_raw=True))
    kept = _rows(store, sa.select(snapshot_file))
    assert len(kept) == 9
    assert all(row["kept"] for row in kept)
    for path in folder.iterdir():
        path.unlink()
    (first,) = snapshots(store)
    work(store, reparse_job(first))
    assert len(snapshots(store)) == 1, "readers are the same, so it is the same snapshot"
    entries = _rows(store, sa.select(entry))
    monkeypatch.setattr(records, "PARSER", "next")
    work(store, reparse_job(first))
    assert [s["parser"] for s in snapshots(store)].count("next") == 1
    assert sorted(r["id"] for r in _rows(store, sa.select(entry))) == sorted(
        r["id"] for r in entries
    )
    assert [f for f in verify_store(store) if f["problems"]] == []


def test_what_changed_between_two_snapshots(store_url: str, folder: Path, tmp_path: Path) -> None:
    store = make_store(store_url, tmp_path)
    work(store, records_job("salts", [folder], release="1"))
    (folder / "LiF.vasp").unlink()
    (folder / "NaCl.vasp").write_text(poscar("NaCl", 4.0, ["Na", "Cl"], CSCL))
    (folder / "RbCl.vasp").write_text(poscar("RbCl", 3.7, ["Rb", "Cl"], CSCL))
    work(store, records_job("salts", [folder], release="2"))
    one, two = (find_snapshot(store, str(s["id"])) for s in snapshots(store))
    if one["release"] != "1":
        one, two = two, one
    found = difference(store, one["id"], two["id"])
    assert found.counts == {"new": 1, "gone": 1, "changed": 1, "same": 5}
    assert {(r["status"], r["formula"]) for r in found.rows} == {
        ("new", "RbCl"), ("gone", "LiF"), ("changed", "NaCl"),
    }  # fmt: skip
    (changed,) = [r for r in found.rows if r["status"] == "changed"]
    assert "structure_id" in changed["columns"]
    work(store, records_job("others", [folder]))
    other = find_snapshot(store, "others")
    with pytest.raises(InputError, match="different sources"):
        difference(store, one["id"], other["id"])


def test_a_failed_symmetry_search_is_kept_as_an_error(
    store_url: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gandb.tasks import preparing
    from gandb.validation.symmetry import SymmetryError

    plain = preparing.find_symmetry

    def failing(crystal: Any, symprec: float) -> Any:
        if "Cs" in crystal.species:
            raise SymmetryError("too symmetric to be true")
        return plain(crystal, symprec)

    monkeypatch.setattr(preparing, "find_symmetry", failing)
    store = make_store(store_url, tmp_path)
    work(store, records_job("salts", [folder], symprec=0.1))
    rows = _rows(store, sa.select(structure_symmetry))
    assert len(rows) == 14, "seven structures, two tolerances"
    failed = [row for row in rows if row["error"]]
    assert {row["error"] for row in failed} == {"too symmetric to be true"}
    assert len(failed) == 6
    assert all(row["space_group_number"] is None for row in failed)
    numbers = [row["space_group_number"] for row in _rows(store, sa.select(entry))]
    assert sorted(map(str, numbers)) == ["221"] * 4 + ["None"] * 3


def test_a_formula_that_the_structure_has_not_is_kept_beside(tmp_path: Path) -> None:
    store = make_store(str(tmp_path / "store"), tmp_path)
    lattice = [[4, 0, 0], [0, 4, 0], [0, 0, 4]]
    sites = [{"species": [{"element": s, "occu": 1}], "abc": x} for s, x in zip(
        ("Cs", "Cl"), CSCL, strict=True)]  # fmt: skip
    structure = {"lattice": {"matrix": lattice}, "sites": sites, "@class": "Structure"}
    documents = [
        {"material_id": f"mp-{i}", "formula_pretty": formula, "structure": structure}
        for i, formula in enumerate(("CsCl", "Cs2Cl2", "CsHCl"), 1)
    ]
    (tmp_path / "summary.json").write_text(json.dumps(documents))
    work(store, records_job("mp", [tmp_path / "summary.json"]))
    rows = {r["external_id"]: r for r in _rows(store, sa.select(entry))}
    assert [rows[f"mp-{i}"]["formula"] for i in (1, 2, 3)] == ["CsCl", "Cs2Cl2", "CsCl"]
    assert [rows[f"mp-{i}"]["formula_units"] for i in (1, 2, 3)] == [1, 2, 1]
    stated = [(rows[f"mp-{i}"]["extra"] or {}).get("stated_formula") for i in (1, 2, 3)]
    assert stated == [None, None, "CsHCl"]


def test_aliases_lead_to_the_entry(store_url: str, tmp_path: Path) -> None:
    store = make_store(store_url, tmp_path)
    cif = (
        "data_x\n_database_code_ICSD 12345\n_cell_length_a 4\n_cell_length_b 4\n_cell_length_c 4\n"
        "_cell_angle_alpha 90\n_cell_angle_beta 90\n_cell_angle_gamma 90\n"
        "_symmetry_space_group_name_H-M 'P 1'\nloop_\n_atom_site_label\n_atom_site_type_symbol\n"
        "_atom_site_fract_x\n_atom_site_fract_y\n_atom_site_fract_z\nCs1 Cs 0 0 0\n"
        "Cl1 Cl 0.5 0.5 0.5\n"
    )
    (tmp_path / "x.cif").write_text(cif)
    work(store, records_job("icsd", [tmp_path / "x.cif"]))
    (found,) = _rows(store, sa.select(entry_alias).where(entry_alias.c.kind == "icsd"))
    assert found["alias"] == "12345"


# --- candidates of other models ----------------------------------------------------------


def test_another_models_output_becomes_candidates(
    store_url: str, folder: Path, tmp_path: Path
) -> None:
    store = make_store(store_url, tmp_path)
    text = (folder / "CsCl.vasp").read_text()
    (folder / "again.vasp").write_text(text)
    spec = candidates_job("other-gan", [folder], version="2", origin={"paper": "doi:10.1/x"})
    (job,) = work(store, spec)
    (chunk,) = queue.chunks(store, job.id)
    assert chunk["result"] == {
        "rows_read": 10, "rows_rejected": 2, "samples": 8, "candidates": 7, "compositions": 7,
    }  # fmt: skip
    rows = _rows(store, sa.select(candidate))
    assert sorted(row["times_generated"] for row in rows) == [1] * 6 + [2]
    assert {row["space_group_number"] for row in rows} == {221}
    assert len(_rows(store, sa.select(candidate_record))) == 8
    from gandb.query.frames import query

    (line,) = query(store, "SELECT * FROM leaderboard").to_pylist()
    assert (line["model"], line["role"], line["n_samples"]) == ("other-gan", "external", 8)
    assert line["uniqueness"] == pytest.approx(7 / 8)
    assert line["rejected"] == pytest.approx(0.2)
    (model,) = query(store, "SELECT config FROM checkpoints").to_pylist()
    assert json.loads(model["config"]) == {"origin": {"paper": "doi:10.1/x"}}
    assert query(store, "SELECT * FROM lineage").num_rows == 7
    found = find_checkpoint(store, "other-gan")
    assert find_checkpoint(store, found.short_id) == found
    with pytest.raises(UsageError, match="external model"):
        generation_job(found, 10, seed=0)
    (folder / "CsCl.vasp").unlink()
    work(store, records_job("salts", [folder / "NaCl.vasp"]))
    version, _ = versions.create(store, "salts", selection.by_condition(store, "true"), "all")
    (judged,) = work(store, novelty_job(store, found, version))
    (chunk,) = queue.chunks(store, judged.id)
    assert (chunk["result"]["candidates"], chunk["result"]["novel"]) == (7, 6)
    assert [f for f in verify_store(store) if f["problems"]] == []


def test_structures_are_found_by_the_beginning_of_their_id(folder: Path, tmp_path: Path) -> None:
    store = make_store(str(tmp_path / "store"), tmp_path)
    work(store, records_job("salts", [folder]))
    (first, *_) = _rows(store, sa.select(structure.c.id))
    own, crystal = find_structure(store, str(first["id"])[:13])
    assert own == crystal.id == first["id"]
    with pytest.raises(NotFoundError, match=r"several structures are|no structure is"):
        find_structure(store, "")


def test_rejects_say_where_and_why(folder: Path, tmp_path: Path) -> None:
    store = make_store(str(tmp_path / "store"), tmp_path)
    work(store, records_job("salts", [folder]))
    rows = {Path(r["file"]).name: r["reason"] for r in _rows(store, sa.select(snapshot_reject))}
    assert set(rows) == {"flat.vasp", "full.vasp"}
    assert "at one place" in rows["full.vasp"]
