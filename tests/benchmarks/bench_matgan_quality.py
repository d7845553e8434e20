"""What MatGAN learns: strict CNEN, uniqueness and novelty beside the baselines of the same set.

The training set is what the strict rule passes among a source's distinct reduced formulas of two
or more elements that the one-hot encoding holds. A sample of one element passes smact's rule
whatever it is, so here it counts as failed, for models and baselines alike. Everything is named
with its N. ``GANDB_BENCH_ITERATIONS`` shortens the training.
"""

from __future__ import annotations

import csv
import gzip
import multiprocessing
import os
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path

import numpy as np
import pyarrow as pa

from gandb import generators, training
from gandb.core.compositions import CompositionBatch, unique_ids
from gandb.core.formula import parse_formulas
from gandb.generators import Generator, TrainingData
from gandb.representations import onehot
from gandb.validation import charge
from gandb.validation.statistics import describe, distances

SHARED = Path(os.environ.get("GANDB_SHARED_DATA", Path(__file__).parents[3] / "shared" / "data"))
SEEDS = (0, 1, 2)
N = 100_000
MANY = 2_000_000
CHUNK = 250_000
BASELINES = ("count_given_element", "element_frequency", "substitution", "uniform")
PEER = "count_given_element"


def strict_formulas(table: str) -> TrainingData:
    """Return the formulas of a table that the strict rule passes, as the module says."""
    with gzip.open(SHARED / "formulas" / f"{table}.csv.gz", "rt", newline="") as handle:
        rows = csv.reader(handle)
        next(rows)
        texts = sorted({row[0] for row in rows})
    batch, _ = parse_formulas(pa.array(texts)).batch.reduced()
    batch = batch.take(onehot.encode(batch).rows)
    batch = batch.take(np.sort(batch.unique().first))
    passed = charge.check(batch, "cnen_strict").passed
    return TrainingData(batch.take(np.flatnonzero(passed & (batch.n_elements > 1))))


@dataclass(frozen=True)
class Trained:
    """A finished training: its checkpoint, seconds of processor time and iterations."""

    checkpoint: bytes
    seconds: float
    iterations: int


def train(data: TrainingData, seed: int, options: dict[str, int], name: str = "matgan") -> Trained:
    """Train or fit a model with one thread."""
    began = time.process_time()
    run = training.start(name, options, data, np.random.SeedSequence(seed))
    run.run(run.total)
    return Trained(run.checkpoint(), time.process_time() - began, run.total)


def draw(model: Generator, n: int, seed: int) -> CompositionBatch:
    """Draw n samples and return them reduced."""
    parts = []
    for chunk, start in enumerate(range(0, n, CHUNK)):
        stream = np.random.SeedSequence(seed, spawn_key=(chunk,))
        samples = model.sample(min(CHUNK, n - start), stream)
        parts.append(samples.compositions()[0].reduced()[0])
    return CompositionBatch.concatenate(parts)


def strict_share(batch: CompositionBatch, n: int) -> float:
    """Return the percentage of n samples that are balanced and of two or more elements."""
    passed = charge.check(batch, "cnen_strict").passed & (batch.n_elements > 1)
    return 100.0 * float(passed.sum()) / n


def unique_and_novel(
    batch: CompositionBatch, n: int, known: CompositionBatch
) -> tuple[float, float]:
    """Return the percentage of distinct samples among the first n, and of new ones among these."""
    ids = batch.take(np.arange(min(n, len(batch)))).ids()
    distinct = unique_ids(ids).ids
    both = unique_ids(np.concatenate([known.unique().ids, distinct]))
    new = len(both.ids) - len(known.unique().ids)
    return 100.0 * len(distinct) / n, 100.0 * new / len(distinct)


def run(report: Callable[..., None]) -> None:
    """Train on MP with three seeds and on OQMD with one; measure beside the baselines."""
    options: dict[str, int] = {}
    if "GANDB_BENCH_ITERATIONS" in os.environ:
        options["iterations"] = int(os.environ["GANDB_BENCH_ITERATIONS"])
    _compare(report, "mp", strict_formulas("mp.formation_energy_per_atom"), options, SEEDS)
    _compare(report, "oqmd", strict_formulas("oqmd.Formation_Enthalpy"), options, SEEDS[:1])


def _compare(
    report: Callable[..., None],
    source: str,
    data: TrainingData,
    options: dict[str, int],
    seeds: tuple[int, ...],
) -> None:
    known = data.compositions
    report(f"training.{source}.formulas", len(known), "formulas")
    peers: dict[str, float] = {}
    for name in BASELINES:
        model = generators.load(train(data, 0, {}, name).checkpoint)
        samples = draw(model, N, 1)
        peers[name] = strict_share(samples, N)
        label = "baseline" if name == PEER else name
        report(f"{label}.{source}.strict", peers[name], f"% of {N:,}")
        unique, novel = unique_and_novel(samples, N, known)
        report(f"{label}.{source}.unique.{N}", unique, "%")
        report(f"{label}.{source}.novel.{N}", novel, "% of unique")
        _statistics(report, f"{label}.{source}", samples, known)
    untrained = training.start("matgan", options, data, np.random.SeedSequence(seeds[0]))
    first = draw(generators.load(untrained.checkpoint()), N, 1)
    report(f"matgan.{source}.untrained.strict", strict_share(first, N), f"% of {N:,}")
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        runs = list(pool.map(train, repeat(data), seeds, repeat(options)))
    models = [generators.load(run.checkpoint) for run in runs]
    strict = [strict_share(draw(model, N, 1), N) for model in models]
    report(f"matgan.{source}.strict", float(np.mean(strict)), f"% of {N:,}", PEER, peers[PEER])
    report(
        f"matgan.{source}.strict.beside_substitution",
        float(np.mean(strict)),
        f"% of {N:,}",
        "substitution",
        peers["substitution"],
    )
    report(f"matgan.{source}.strict.spread", float(np.ptp(strict)), f"points, {len(seeds)} seeds")
    report(
        f"matgan.{source}.train_cpu", float(np.mean([run.seconds for run in runs])), "s of one core"
    )
    report(f"matgan.{source}.iterations", runs[0].iterations, "iterations")
    samples = draw(models[0], MANY, 1)
    baseline = draw(generators.load(train(data, 0, {}, PEER).checkpoint), MANY, 1)
    for n in (20_000, N, MANY):
        ours, theirs = (unique_and_novel(batch, n, known) for batch in (samples, baseline))
        report(f"matgan.{source}.unique.{n}", ours[0], "%", PEER, theirs[0])
        report(f"matgan.{source}.novel.{n}", ours[1], "% of unique", PEER, theirs[1])
    _statistics(report, f"matgan.{source}", samples.take(np.arange(N)), known)


def _statistics(
    report: Callable[..., None], name: str, samples: CompositionBatch, known: CompositionBatch
) -> None:
    single = float((samples.n_elements == 1).mean())
    report(f"{name}.single_element", 100.0 * single, "%")
    for kind, value in distances(describe(samples), describe(known)).items():
        if value is not None:
            report(f"{name}.divergence.{kind}", value, "bits from the training set")
