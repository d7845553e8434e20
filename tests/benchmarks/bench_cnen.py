"""Charge balance: formulas per second on one core, and agreement with smact, formula by formula.

smact needs minutes for all real formulas; ``GANDB_BENCH_SAMPLE=N`` compares N of them.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from pymatgen.core import Composition
from smact.screening import smact_validity

from gandb.core.compositions import CompositionBatch
from gandb.validation.charge import check, check_all
from tests.validation.formulas import random_formulas, real_formulas, smact_verdicts, written

RULES = ("cnen_strict", "cnen_default")
PEER = "smact 4.0.2"
ROWS = 2_000_000
SAMPLE = 5_000
RANDOM = 40_000
CHUNK = 2_000
REPEATS = 5


def _shared_data() -> Path:
    root = Path(__file__).resolve().parents[2]
    folder = Path(os.environ.get("GANDB_SHARED_DATA", root.parent / "shared" / "data"))
    if not (folder / "formulas").is_dir():
        raise SystemExit(f"the cnen figures need the real formulas; no {folder / 'formulas'}")
    return folder


def _rate(judge: Callable[[], object], n: int) -> float:
    """Formulas per second, the median of several runs after one that compiles."""
    times = []
    for _ in range(REPEATS + 1):
        started = time.perf_counter()
        judge()
        times.append(time.perf_counter() - started)
    return n / float(np.median(times[1:]))


def _smact_rate(batch: CompositionBatch, *, include_alloys: bool) -> float:
    """Formulas per second of smact on formulas that are read already, which ours are too."""
    compositions = [Composition(batch[i]) for i in range(len(batch))]
    smact_validity(compositions[0], include_alloys=include_alloys)  # loads its tables
    started = time.perf_counter()
    for composition in compositions:
        smact_validity(composition, include_alloys=include_alloys)
    return len(compositions) / (time.perf_counter() - started)


def _smact_both(batch: CompositionBatch) -> tuple[np.ndarray, np.ndarray]:
    return smact_verdicts(batch, include_alloys=False), smact_verdicts(batch)


def _chunks(batch: CompositionBatch) -> Iterator[CompositionBatch]:
    for start in range(0, len(batch), CHUNK):
        yield batch.take(np.arange(start, min(start + CHUNK, len(batch))))


def _mismatches(batch: CompositionBatch) -> int:
    """How many verdicts of both settings differ from smact's."""
    reduced, units = batch.reduced()
    ours = check_all(reduced, units, RULES)
    workers = len(os.sched_getaffinity(0))
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        parts = list(pool.map(_smact_both, _chunks(batch)))
    total = 0
    for name, theirs in zip(RULES, zip(*parts, strict=True), strict=True):
        wrong = np.flatnonzero(ours[name].passed != np.concatenate(theirs))
        total += len(wrong)
        if len(wrong):
            print(f"{name} differs from {PEER}: {' '.join(written(batch, wrong))}")
    return total


def run(report: Callable[..., None]) -> None:
    """Time both verdicts in one pass, and the strict one; then compare with smact throughout."""
    shared = _shared_data()
    rng = np.random.default_rng(0)
    oqmd = real_formulas(shared, "oqmd").reduced()[0]
    many = CompositionBatch.concatenate([oqmd] * -(-ROWS // len(oqmd)))
    few = oqmd.take(rng.choice(len(oqmd), SAMPLE, replace=False))
    report(
        "cnen.rate",
        _rate(lambda: check_all(many, rules=RULES), len(many)),
        "formulas/s",
        f"{PEER}, default only",
        _smact_rate(few, include_alloys=True),
    )
    report(
        "cnen.rate.strict_ratio",
        _rate(lambda: check(many, "cnen_strict"), len(many)),
        "formulas/s",
        f"{PEER}, include_alloys=False",
        _smact_rate(few, include_alloys=False),
    )
    real = real_formulas(shared)
    sample = int(os.environ.get("GANDB_BENCH_SAMPLE", "0"))
    if sample:
        real = real.take(rng.choice(len(real), min(sample, len(real)), replace=False))
    drawn = random_formulas(rng, RANDOM, 6, 10)
    report("cnen.compared.real", len(real), "formulas")
    report("cnen.compared.random", len(drawn), "formulas")
    both = CompositionBatch.concatenate([real, drawn])
    report("cnen.mismatches", _mismatches(both), f"of {2 * len(both):,} verdicts", PEER)
