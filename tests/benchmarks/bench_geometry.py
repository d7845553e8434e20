"""Geometry checks: crystals per second on one core, and agreement with pymatgen on each.

``check_job`` is what ``gandb check`` does of each crystal: all checks, the search for its symmetry
at 0.1 Å, and the rows. The crystals are those of ``structures`` in the shared data;
``GANDB_BENCH_SAMPLE=N`` takes N of them (2,000). Reading them is no part of the rates.
"""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pymatgen.core.bond_valence import BVAnalyzer

from gandb.core.crystals import Crystal
from gandb.core.radii import COVALENT_RADIUS
from gandb.representations.asymmetric_unit import Merging, encode, expand
from gandb.representations.pymatgen_structures import to_structure
from gandb.sources.base import Reject
from gandb.sources.reading import crystal_of, read_files
from gandb.tasks.structure_checks import SYMMETRY, judge_records
from gandb.validation.bond_valence import bond_valence_balance
from gandb.validation.geometry import (
    coordination,
    coordination_numbers,
    density,
    radius_distances,
    structural_validity,
)
from gandb.validation.sites import Sites
from gandb.validation.standard_checks import STANDARD

PEER = "pymatgen"
REPEATS = 5
CLOSE = 1e-6


def _crystals(count: int) -> list[Crystal]:
    root = Path(__file__).resolve().parents[2]
    folder = Path(os.environ.get("GANDB_SHARED_DATA", root.parent / "shared" / "data"))
    if not (folder / "structures").is_dir():
        raise SystemExit(f"the geometry figures need real structures; no {folder / 'structures'}")
    found = [
        crystal_of(record.structure)
        for record in read_files(sorted((folder / "structures").iterdir()))
        if not isinstance(record, Reject) and record.structure is not None
    ]
    ordered = [c for c in found if c.ordered]
    chosen = np.random.default_rng(0).permutation(len(ordered))[:count]
    return [ordered[k] for k in chosen]


def _record(record: Crystal) -> dict[str, Any]:
    """A row as a job of checks reads it."""
    names = ("a", "b", "c", "alpha", "beta", "gamma")
    return {
        "id": str(record.id),
        **dict(zip(names, [*record.lengths.tolist(), *record.angles.tolist()], strict=True)),
        "charge": record.charge,
        "site_properties": None,
        "species": list(record.species),
        "frac_coords": record.frac_coords.ravel().tolist(),
    }


def _rate(judge: Callable[[], object], n: int) -> float:
    times = []
    for _ in range(REPEATS + 1):
        started = time.perf_counter()
        judge()
        times.append(time.perf_counter() - started)
    return n / float(np.median(times[1:]))


def _once(judge: Callable[[], list[float]]) -> tuple[np.ndarray, float]:
    started = time.perf_counter()
    found = judge()
    return np.array(found), len(found) / (time.perf_counter() - started)


def run(report: Callable[..., None]) -> None:
    """Time the checks and pymatgen on the same crystals, then compare the values."""
    crystals = _crystals(int(os.environ.get("GANDB_BENCH_SAMPLE", "2000")))
    n = len(crystals)
    sites = Sites.of(crystals)
    structures = [to_structure(c) for c in crystals]

    def shortest() -> list[float]:
        found = []
        for structure in structures:
            matrix = structure.distance_matrix.copy()
            np.fill_diagonal(matrix, np.inf)
            found.append(float(matrix.min()))
        return found

    def shares() -> list[float]:
        found = []
        for structure in structures:
            radii = COVALENT_RADIUS[[site.specie.Z for site in structure]]
            first, second, _, far = structure.get_neighbor_list(
                3.0 * float(radii.max()), numerical_tol=1e-8, exclude_self=True
            )
            share = far / (radii[first] + radii[second])
            found.append(float(share.min()) if len(share) else np.inf)
        return found

    def neighbours() -> list[float]:
        found = []
        for structure in structures:
            radii = COVALENT_RADIUS[[site.specie.Z for site in structure]]
            first, second, _, far = structure.get_neighbor_list(
                3.0 * float(radii.max()), numerical_tol=1e-8, exclude_self=True
            )
            near = far < 1.5 * (radii[first] + radii[second])
            found.append(float(np.bincount(first[near], minlength=len(structure)).min()))
        return found

    theirs, rate = _once(shortest)
    published = structural_validity(sites, self_images=False).value
    report(
        "geometry.distance.rate",
        _rate(lambda: structural_validity(sites, self_images=False), n),
        "crystals/s",
        f"{PEER}, distance_matrix",
        rate,
    )
    wrong = np.isnan(published) != np.isinf(theirs)  # cells of one atom have no distance
    wrong |= np.isfinite(theirs) & ~(np.abs(published - theirs) < CLOSE) & ~np.isnan(published)
    report("geometry.distance.mismatches", int(wrong.sum()), f"of {n:,}", PEER)
    theirs, rate = _once(shares)
    report(
        "geometry.radii.rate",
        _rate(lambda: radius_distances(sites), n),
        "crystals/s",
        f"{PEER}, get_neighbor_list",
        rate,
    )
    ours = radius_distances(sites).value
    near = np.isfinite(theirs) & (theirs < 1.5)
    wrong = near & ~(np.abs(ours - theirs) < CLOSE)
    report("geometry.radii.mismatches", int(wrong.sum()), f"of {int(near.sum()):,}", PEER)
    theirs, rate = _once(neighbours)
    report(
        "geometry.coordination.rate",
        _rate(lambda: coordination_numbers(sites), n),
        "crystals/s",
        f"{PEER}, get_neighbor_list",
        rate,
    )
    wrong = coordination(sites).value != theirs
    report("geometry.coordination.mismatches", int(wrong.sum()), f"of {n:,}", PEER)
    theirs, rate = _once(lambda: [float(s.density) for s in structures])
    report("geometry.density.rate", _rate(lambda: density(sites), n), "crystals/s", PEER, rate)
    wrong = np.abs(density(sites).value / theirs - 1) > CLOSE
    report("geometry.density.mismatches", int(wrong.sum()), f"of {n:,}", PEER)

    few = [c for c in crystals if len(c) <= 40][: max(1, n // 10)]
    analyser = BVAnalyzer()

    def states() -> list[float]:
        found = []
        for record in few:
            try:
                found.append(float(max(analyser.get_valences(to_structure(record)))))
            except ValueError:  # none balance
                found.append(0.0)
        return found

    with warnings.catch_warnings():  # of elements without electronegativity
        warnings.simplefilter("ignore")
        theirs, rate = _once(states)
    report(
        "geometry.bond_valence.rate",
        _rate(lambda: bond_valence_balance(few), len(few)),
        "crystals/s",
        f"{PEER}, BVAnalyzer",
        rate,
    )
    balanced = bond_valence_balance(few)
    ours = np.array([0.0 if s is None else float(s.max()) for s in balanced.states])
    judged = ~balanced.outcome.errors
    report(
        "geometry.bond_valence.mismatches",
        int((ours != theirs)[judged].sum()),
        f"of {int(judged.sum()):,}",
        PEER,
    )

    table = pa.Table.from_pylist([_record(c) for c in crystals])
    names = (*STANDARD, SYMMETRY)
    judge_records((table.slice(0, 20), names))
    started = time.perf_counter()
    judge_records((table, names))
    report("geometry.check_job.rate", n / (time.perf_counter() - started), "crystals/s")

    started = time.perf_counter()
    units = encode(crystals).units
    report("geometry.asymmetric_unit.encode", n / (time.perf_counter() - started), "crystals/s")
    report("geometry.asymmetric_unit.expand", _rate(lambda: expand(units), n), "crystals/s")
    report(
        "geometry.asymmetric_unit.merge", _rate(lambda: expand(units, Merging()), n), "crystals/s"
    )
