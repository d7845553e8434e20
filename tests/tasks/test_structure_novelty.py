"""Grades, representatives and shares of candidates with structures, against brute force."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa

from gandb.core.crystals import Crystal
from gandb.core.errors import UsageError
from gandb.datasets import selection, versions
from gandb.identity.cells import Cells
from gandb.identity.kernel_comparison import KernelComparison
from gandb.identity.matching import fit_pairs
from gandb.identity.recipes import MatchRecipe
from gandb.identity.reduction import reduce_crystal
from gandb.jobs import queue
from gandb.jobs.worker import Worker
from gandb.schema import tables
from gandb.sources.formats import crystal_of
from gandb.sources.reading import read_files
from gandb.sources.records import Record
from gandb.tasks import TASKS, keys, structure_novelty
from gandb.tasks.candidates import candidates_job
from gandb.tasks.data import find_checkpoint
from gandb.tasks.identity import STANDARD
from gandb.tasks.keys import keys_job
from gandb.tasks.records import records_job
from gandb.tasks.structure_novelty import GRADES, structure_novelty_job
from gandb.tasks.symmetry_labels import wider_labels
from gandb.tasks.verification import verify_store
from tests.content import differences, dump
from tests.crowds import (
    BASES,
    caesium_chloride,
    components,
    fluorite,
    path,
    records,
    rocksalt,
    rutile,
    write,
    zincblende,
)
from tests.shared_data import SHARED, real
from tests.tasks.labs import make_store, work
from tests.tasks.novelty_lab import (
    GRADED,
    KNOWN,
    candidates,
    judge,
    judged,
    known,
    write_formulas,
)
from tests.tasks.test_identity import check_evidence, identified
from tests.variants import Cell, diagonal_supercell, moved, noisy


def read(folder: Path, name: str) -> list[Crystal]:
    """Return the crystals of a file, one for each sample."""
    found = []
    for item in read_files([folder / f"{name}.extxyz"]):
        assert isinstance(item, Record)
        assert item.structure is not None
        found.append(crystal_of(item.structure))
    return found


def matches(crystals: Sequence[Crystal], recipe: MatchRecipe = STANDARD) -> list[tuple[int, int]]:
    """Return all pairs that match in a direction, by number."""
    cells = Cells.of([reduce_crystal(crystal) for crystal in crystals], recipe.comparator)
    pairs = np.array(list(combinations(range(len(crystals)), 2)))
    same = fit_pairs(cells, pairs, recipe) | fit_pairs(cells, pairs[:, ::-1], recipe)
    return [(int(a), int(b)) for a, b in pairs[same]]


# --- grades ------------------------------------------------------------------------------


def test_each_candidate_gets_its_grade(store_url: str, tmp_path: Path) -> None:
    store = make_store(store_url, tmp_path)
    known(store, tmp_path, KNOWN)
    cells = [made for made, _ in GRADED.values()]
    candidates(store, tmp_path, "new", cells, "gen")
    counted, metrics = judge(store, "gen", "entries")
    rows = judged(store)
    ids = [str(crystal.id) for crystal in read(tmp_path, "new")]
    found = {name: rows[own] for name, own in zip(GRADED, ids, strict=True)}
    assert {name: row["grade"] for name, row in found.items()} == {
        name: grade for name, (_, grade) in GRADED.items()
    }
    for row in rows.values():
        assert row["error"] is None
        assert GRADES[row["level"]] == row["grade"]
        matched = row["grade"] in ("known", "substitution")
        assert (row["reference_structure_id"] is not None) == matched
        assert (row["rms"] is not None) == (row["grade"] == "known")
    same = found["the same record"]
    assert (same["reference_structure_id"], same["rms"]) == (same["structure_id"], 0.0)
    assert same["n_compared"] == 0
    formulas = {
        "a supercell in another setting": "SrTiO3", "more volume": "TiO2",
        "another salt": "NaCl", "another perovskite": "SrTiO3",
    }  # fmt: skip
    shown = {own: record.species for own, record in records(store).items()}
    for name, formula in formulas.items():
        reference = str(found[name]["reference_structure_id"])
        assert {*shown[reference]} == {"SrTiO3": {"Sr", "Ti", "O"}, "TiO2": {"Ti", "O"},
                                       "NaCl": {"Na", "Cl"}}[formula]  # fmt: skip
    grades = [grade for _, grade in GRADED.values()]
    n = len(grades)
    assert {name: counted[name] for name in GRADES} == {g: grades.count(g) for g in GRADES}
    assert counted["reference"] == len(KNOWN)
    for grade in GRADES:
        assert metrics[f"novelty_{grade}", n] == grades.count(grade) / n
    assert metrics["structure_novelty", n] == (n - grades.count("known")) / n
    assert metrics["unique_and_novel", n] == (n - grades.count("known")) / n
    with store.read() as connection:
        shown_in = connection.execute(
            sa.text("SELECT structure_id, novelty FROM generated WHERE structure_id IS NOT NULL")
        ).all()
    assert {str(own): grade for own, grade in shown_in} == {
        own: row["grade"] for own, row in rows.items()
    }
    check_evidence(store)
    assert [f for f in verify_store(store) if f["problems"]] == []


def test_symmetry_that_is_lost_is_no_new_prototype(tmp_path: Path) -> None:
    """A prototype is new where its symmetry shows at some tolerance, and is not the known one."""
    rng = np.random.default_rng(8)
    rutile_like, other = rutile(4.0, 6.5, 0.305, "Ti", "O"), fluorite(4.87, "Ti", "O")
    cases = {
        "structure": [rutile_like, *(noisy(rutile_like, rng, size) for size in (0.004, 0.015, 0.1)),
                      noisy(diagonal_supercell(other, rng, 4), rng, 0.1)],
        "prototype": [other, *(noisy(other, rng, size) for size in (0.004, 0.015))],
    }  # fmt: skip
    store = make_store(str(tmp_path / "store"), tmp_path)
    known(store, tmp_path, KNOWN)
    candidates(store, tmp_path, "new", [made for cells in cases.values() for made in cells], "gen")
    judge(store, "gen", "entries")
    rows = judged(store)
    found = [rows[str(crystal.id)]["grade"] for crystal in read(tmp_path, "new")]
    assert found == [grade for grade, cells in cases.items() for _ in cells]


@real
def test_raw_candidates_have_the_labels_of_their_symmetrized_form(tmp_path: Path) -> None:
    """MatterGen's release holds both; the prototype shows in the raw one at wider tolerances."""
    store = make_store(str(tmp_path / "store"), tmp_path)
    archive = SHARED / "generated" / "mattergen-cifs.zip"
    work(store, candidates_job("mattergen", [archive]))
    (spec,) = [keys_job(store)]
    assert spec is not None
    work(store, spec)
    query = sa.select(
        tables.candidate_record.c.file, tables.candidate.c.structure_id,
        tables.structure_key.c.symmetry_label,
    ).join_from(tables.candidate_record, tables.candidate).join(
        tables.structure_key,
        tables.structure_key.c.structure_id == tables.candidate.c.structure_id,
    )  # fmt: skip
    with store.read() as connection:
        rows = {row.file: row for row in connection.execute(query)}
    pairs = [(rows[name.replace("_symmetrized", "")], row) for name, row in rows.items()
             if name.endswith("_symmetrized.cif")]  # fmt: skip
    ids = np.unique(np.array([raw.structure_id.bytes for raw, _ in pairs], "S16"))
    wider = wider_labels(store, ids, lambda n: None)
    strict = sum(raw.symmetry_label == own.symmetry_label for raw, own in pairs)
    found = sum(
        own.symmetry_label in wider[raw.structure_id.bytes.rstrip(b"\0")] | {raw.symmetry_label}
        for raw, own in pairs
    )
    assert (len(pairs), strict) == (385, 322)
    assert found == 382


def test_the_grades_are_those_of_pymatgen() -> None:
    """What the hand-made cases claim to be is what pymatgen says of them."""
    pytest.importorskip("pymatgen.analysis.structure_matcher")
    from pymatgen.analysis.structure_matcher import ElementComparator, StructureMatcher

    from gandb.representations.pymatgen_structures import to_structure

    matcher = StructureMatcher(comparator=ElementComparator())
    renaming = StructureMatcher()
    there = [to_structure(made.crystal()) for made in KNOWN]
    for name, (made, grade) in GRADED.items():
        own = to_structure(made.crystal())
        same = [matcher.fit(own, other) or matcher.fit(other, own) for other in there]
        assert any(same) == (grade == "known"), name
        formulas = {other.composition.reduced_formula for other in there}
        expected = grade in ("substitution", "composition")
        assert (own.composition.reduced_formula not in formulas) == expected, name
        if expected:
            renamed = [renaming.fit_anonymous(own, other) for other in there]
            assert any(renamed) == (grade == "substitution"), name


def test_the_nearest_match_is_named_and_all_are_looked_at(tmp_path: Path) -> None:
    """Twenty titania are there; one candidate matches some, another none."""
    rng = np.random.default_rng(1)
    base = KNOWN[1]
    others = [rutile(4.0 + 0.02 * k, 6.5 - 0.02 * k, 0.305, "Ti", "O") for k in range(12)]
    near = [moved(noisy(base, rng, 0.02 * k), rng) for k in range(1, 8)]
    store = make_store(str(tmp_path / "store"), tmp_path)
    known(store, tmp_path, [*others, *near])
    none = fluorite(4.87, "Ti", "O")
    alone = path(base, 2, np.array([1.3, 0.2, 0.6]), 2)[1]
    candidates(store, tmp_path, "new", [base, none, alone], "gen")
    judge(store, "gen", "entries")
    rows = judged(store)
    own, other, third = (rows[str(crystal.id)] for crystal in read(tmp_path, "new"))
    assert own["grade"] == "known"
    least = np.sqrt(np.mean(np.square([0.02]))) / (32.0 / 6) ** (1 / 3)
    assert own["rms"] < 2 * least
    assert (other["n_compared"], other["grade"]) == (0, "prototype")  # none has three sites
    assert third["grade"] in ("prototype", "structure")
    assert third["n_compared"] == len(others) + len(near)


# --- references --------------------------------------------------------------------------


@pytest.mark.slow
def test_each_reference_is_what_it_says(tmp_path: Path) -> None:
    store = make_store(str(tmp_path / "store"), tmp_path)
    known(store, tmp_path, KNOWN[:2], "one")
    known(store, tmp_path, KNOWN[2:], "two")
    chosen = selection.by_condition(store, "source = 'one'")
    versions.create(store, "d", chosen, "those of one")
    new = [*KNOWN, rocksalt(6.6, "K", "Br")]
    candidates(store, tmp_path, "first", [KNOWN[3], rocksalt(6.6, "K", "Br")], "early")
    candidates(store, tmp_path, "second", new, "late")
    ids = [str(crystal.id) for crystal in read(tmp_path, "second")]

    def grades(*against: str) -> list[str]:
        counted, _ = judge(store, "late", *against)
        rows = judged(store, counted["recipe_id"])
        return [rows[own]["grade"] for own in ids]

    new_salt = "substitution"
    assert grades("entries") == ["known"] * 4 + [new_salt]
    assert grades("d@1") == ["known"] * 2 + ["composition"] * 2 + [new_salt]
    assert grades("early") == [new_salt] + ["composition"] * 2 + ["known"] * 2
    assert grades("earlier") == grades("early")
    assert grades("d@1", "early") == ["known", "known", "composition", "known", "known"]
    assert grades("early", "d@1", "early") == grades("d@1", "early")
    with store.read() as connection:
        split = dict(
            connection.execute(
                sa.text(
                    "SELECT e.structure_id, m.split FROM dataset_members AS m "
                    "JOIN entries AS e ON e.entry_id = m.entry_id"
                )
            ).all()
        )
        least = connection.execute(
            sa.text("SELECT structure_id, novelty FROM generated WHERE model = 'late'")
        ).all()
    in_train = {str(own) for own, part in split.items() if part == "train"}
    if in_train:
        found = grades("d@1:train")
        assert [grade == "known" for grade in found[:2]] == [own in in_train for own in ids[:2]]
    assert {str(own): grade for own, grade in least} == dict.fromkeys(ids, "known")
    assert [f for f in verify_store(store) if f["problems"]] == []


@pytest.mark.postgres
def test_both_engines_say_the_same(postgres_database: str, tmp_path: Path) -> None:
    contents = []
    for address in (str(tmp_path / "store"), postgres_database):
        store = make_store(address, tmp_path)
        known(store, tmp_path, KNOWN)
        candidates(store, tmp_path, "new", [made for made, _ in GRADED.values()], "gen")
        judge(store, "gen", "entries")
        identified(store)
        contents.append(dump(store))
    assert differences(*contents) == []


def test_what_was_identified_before_is_not_compared_again(
    store_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In either order the same rows come out, each comparison in both directions."""
    rng = np.random.default_rng(5)
    chain = path(BASES[10], 1, np.array([0.11, 0.07, 0.03]), 12)
    salts = [rocksalt(6.6, "K", "Br"), rocksalt(6.7, "K", "Br"), caesium_chloride(4.0, "K", "Br")]
    cells = [*chain[::2], *(noisy(KNOWN[1], rng, 0.02) for _ in range(3)), *salts]
    contents, asked = [], []
    fit = KernelComparison.fit
    for address, first in ((store_url, True), (str(tmp_path / "other"), False)):
        store = make_store(address, tmp_path)
        known(store, tmp_path, [*KNOWN, *chain[1::2]])
        candidates(store, tmp_path, "new", cells, "gen")
        if first:
            identified(store)
        pairs: list[np.ndarray] = []

        def told(own: Any, some: np.ndarray, pairs: list[np.ndarray] = pairs) -> np.ndarray:
            pairs.append(some)
            return fit(own, some)

        monkeypatch.setattr(KernelComparison, "fit", told)
        judge(store, "gen", "entries")
        monkeypatch.undo()
        asked.append(sum(map(len, pairs)))
        if not first:
            identified(store)
        with store.read() as connection:
            halves = connection.scalar(
                sa.text("SELECT count(*) FROM comparison WHERE forward IS NULL OR backward IS NULL")
            )
        assert halves == 0
        check_evidence(store)
        contents.append(dump(store))
    assert differences(*contents) == []
    assert asked[0] < asked[1]


# --- uniqueness --------------------------------------------------------------------------


def sampled(rng: np.random.Generator, n: int = 60) -> list[Cell]:
    """Return samples with repeats, near-repeats and a chain."""
    steps = path(BASES[10], 1, np.array([0.11, 0.07, 0.03]), 12)
    pool = [*steps, *BASES[:6], *(noisy(made, rng, 0.03) for made in BASES[:6])]
    return [pool[i] for i in rng.integers(0, len(pool), n)]


@pytest.fixture
def every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(structure_novelty, "sample_grid", lambda n, first: list(range(1, n + 1)))


def check_uniqueness(
    samples: Sequence[Crystal], metrics: dict[tuple[str, int], float], rows: dict[str, Any]
) -> None:
    """Compare representatives and the curve with brute force, greedy groups with pymatgen."""
    from pymatgen.analysis.structure_matcher import ElementComparator, StructureMatcher

    from gandb.representations.pymatgen_structures import to_structure

    first = {str(crystal.id): crystal for crystal in reversed(samples)}
    ids = sorted(first)
    edges = [(ids[a], ids[b]) for a, b in matches([first[own] for own in ids])]
    expected = components(ids, edges)
    assert {own: str(rows[own]["representative_id"]) for own in ids} == expected
    seen: set[str] = set()
    for at, crystal in enumerate(samples, 1):
        seen.add(expected[str(crystal.id)])
        assert metrics["structure_uniqueness", at] == len(seen) / at
    matcher = StructureMatcher(comparator=ElementComparator())
    groups = matcher.group_structures([to_structure(crystal) for crystal in samples])
    assert metrics["structure_uniqueness_greedy", len(samples)] == len(groups) / len(samples)
    novel = {expected[own] for own in ids} - {
        expected[own] for own in ids if rows[own]["level"] == 0
    }
    assert metrics["unique_and_novel", len(samples)] == len(novel) / len(samples)
    new = [crystal for crystal in samples if rows[str(crystal.id)]["level"] > 0]
    assert metrics["structure_novelty", len(samples)] == len(new) / len(samples)


@pytest.mark.usefixtures("every_step")
@pytest.mark.parametrize("seed", [0, 1])
def test_uniqueness_is_that_of_brute_force(seed: int, tmp_path: Path) -> None:
    pytest.importorskip("pymatgen.analysis.structure_matcher")
    store = make_store(str(tmp_path / "store"), tmp_path)
    known(store, tmp_path, BASES[:4])
    rng = np.random.default_rng(seed)
    candidates(store, tmp_path, "new", sampled(rng), "gen")
    counted, metrics = judge(store, "gen", "entries")
    rows = judged(store)
    samples = read(tmp_path, "new")
    assert len(rows) < len(samples) == counted["samples"]
    check_uniqueness(samples, metrics, rows)
    assert counted["unique"] == metrics["structure_uniqueness", len(samples)] * len(samples)


@pytest.mark.usefixtures("every_step")
def test_more_candidates_take_the_place_of_few(store_url: str, tmp_path: Path) -> None:
    pytest.importorskip("pymatgen.analysis.structure_matcher")
    store = make_store(store_url, tmp_path)
    known(store, tmp_path, BASES[:4])
    rng = np.random.default_rng(4)
    candidates(store, tmp_path, "b", sampled(rng, 12), "gen")
    counted, metrics = judge(store, "gen", "entries")
    check_uniqueness(read(tmp_path, "b"), metrics, judged(store))
    candidates(store, tmp_path, "a", sampled(rng, 20), "gen")
    again, metrics = judge(store, "gen", "entries")
    assert again["recipe_id"] == counted["recipe_id"]
    rows = judged(store)
    samples = [*read(tmp_path, "b"), *read(tmp_path, "a")]
    assert set(rows) == {str(crystal.id) for crystal in samples}
    check_uniqueness(samples, metrics, rows)
    before = dump(store)
    assert judge(store, "gen", "entries")[0] == again
    assert dump(store) == before
    check_evidence(store)
    assert [f for f in verify_store(store) if f["problems"]] == []


def test_candidates_without_structures_do_not_count(tmp_path: Path) -> None:
    """Formulas and structures by the same model: the latter alone are judged."""
    store = make_store(str(tmp_path / "store"), tmp_path)
    known(store, tmp_path, KNOWN)
    formulas = write_formulas(tmp_path, "NaCl", "NaCl", "KBr")
    work(store, candidates_job("gen", [formulas]))
    with pytest.raises(UsageError, match="gen has a structure"):
        structure_novelty_job(store, find_checkpoint(store, "gen"), ["entries"])
    candidates(store, tmp_path, "new", [KNOWN[0], KNOWN[0], rocksalt(6.6, "K", "Br")], "gen")
    counted, metrics = judge(store, "gen", "entries")
    assert counted["samples"] == 3
    assert metrics["structure_uniqueness", 3] == 2 / 3
    assert metrics["structure_novelty", 3] == 1 / 3
    assert len(judged(store)) == 2


# --- errors ------------------------------------------------------------------------------


def test_what_has_no_cell_is_an_error_and_never_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = keys.structure_key

    def failing(crystal: Crystal, *args: Any) -> Any:
        if "Br" in crystal.species:
            raise UsageError("no lattice")
        return plain(crystal, *args)

    monkeypatch.setattr(keys, "structure_key", failing)
    store = make_store(str(tmp_path / "store"), tmp_path)
    known(store, tmp_path, KNOWN)
    bad = rocksalt(6.6, "K", "Br")
    candidates(store, tmp_path, "new", [bad, KNOWN[0], bad, zincblende(5.2, "Na", "Cl")], "gen")
    counted, metrics = judge(store, "gen", "entries")
    assert (counted["errors"], counted["samples"], counted["candidates"]) == (1, 4, 3)
    row = judged(store)[str(read(tmp_path, "new")[0].id)]
    assert row["error"] == "no lattice"
    columns = ("grade", "level", "reference_structure_id", "representative_id", "rms")
    assert [row[name] for name in columns] == [None] * 5
    assert metrics["structure_novelty", 4] == 1 / 4
    assert metrics["structure_uniqueness", 4] == 2 / 4
    assert metrics["structure_uniqueness_greedy", 4] == 2 / 4
    assert sum(metrics[f"novelty_{grade}", 4] for grade in GRADES) == 2 / 4
    # Nothing but errors is a result as well.
    candidates(store, tmp_path, "bad", [bad, rocksalt(6.8, "Rb", "Br")], "worse")
    counted, metrics = judge(store, "worse", "entries")
    assert (counted["errors"], counted["unique"], counted["composition"]) == (2, 0, 0)
    assert {value for _, value in metrics.items()} == {0.0}
    assert [f for f in verify_store(store) if f["problems"]] == []


def test_keys_come_first(tmp_path: Path) -> None:
    store = make_store(str(tmp_path / "store"), tmp_path)
    known(store, tmp_path, KNOWN)
    work(store, candidates_job("gen", [write(tmp_path, "new", BASES[:3])]))
    spec = structure_novelty_job(store, find_checkpoint(store, "gen"), ["entries"])
    job = queue.submit(store, spec)

    Worker(store, TASKS, 60.0, [job.id]).run()
    ended = queue.get(store, job.id)
    assert ended.state.value == "failed"
    assert ended.error is not None
    assert "begin with: gandb identify" in ended.error


def test_what_cannot_be_asked_is_refused(tmp_path: Path) -> None:
    store = make_store(str(tmp_path / "store"), tmp_path)
    candidates(store, tmp_path, "new", BASES[:2], "gen")
    checkpoint = find_checkpoint(store, "gen")
    with pytest.raises(UsageError, match="name what to compare with"):
        structure_novelty_job(store, checkpoint, [])
    with pytest.raises(UsageError, match="no structure is in earlier"):
        structure_novelty_job(store, checkpoint, ["earlier"])
    work(store, records_job("mine", [write_formulas(tmp_path, "NaCl")]))
    with pytest.raises(UsageError, match="no structure is in entries"):
        structure_novelty_job(store, checkpoint, ["entries"])
    with pytest.raises(UsageError, match="primitive"):
        structure_novelty_job(store, checkpoint, ["gen"], MatchRecipe(primitive_cell=False))


def test_recipes_of_matching_stand_side_by_side(tmp_path: Path) -> None:
    store = make_store(str(tmp_path / "store"), tmp_path)
    known(store, tmp_path, KNOWN)
    near = rutile(4.594, 2.959, 0.33, "Ti", "O")
    candidates(store, tmp_path, "new", [near], "gen")
    wide, _ = judge(store, "gen", "entries")
    strict = MatchRecipe(ltol=0.01, stol=0.01, angle_tol=0.5, comparator="element")
    narrow, _ = judge(store, "gen", "entries", recipe=strict)
    assert wide["recipe_id"] != narrow["recipe_id"]
    (one,), (other,) = (judged(store, r["recipe_id"]).values() for r in (wide, narrow))
    assert (one["grade"], other["grade"]) == ("known", "structure")
