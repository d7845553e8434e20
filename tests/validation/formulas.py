"""Formulas to judge: real ones, random ones, and what smact says of them."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
from pymatgen.core import Composition
from smact.screening import smact_validity

from gandb.core.compositions import CompositionBatch
from gandb.core.formula import parse_formulas

SMACT_MAX_Z = 103
"""smact knows no element beyond lawrencium."""


@cache
def real_formulas(shared_data: Path, prefix: str = "") -> CompositionBatch:
    """Distinct formulas as written in the tables of real ones whose names start with ``prefix``.

    Formulas that gandb's reader refuses are left out, which are those with rounded decimals.
    """
    texts: dict[str, None] = {}
    for path in sorted((shared_data / "formulas").glob(f"{prefix}*.csv.gz")):
        with gzip.open(path, "rt", newline="") as handle:
            texts.update((row["formula"], None) for row in csv.DictReader(handle))
    batch = parse_formulas(pa.array(list(texts), pa.string())).batch
    return batch.take(batch.unique().first)


def random_formulas(
    rng: np.random.Generator, n: int, elements: int, largest: int, max_z: int = SMACT_MAX_Z
) -> CompositionBatch:
    """Draw formulas of 1 to ``elements`` elements, each with 1 to ``largest`` atoms."""
    numbers = np.argsort(rng.random((n, max_z)), axis=1)[:, :elements] + 1
    counts = rng.integers(1, largest + 1, (n, elements))
    counts[np.arange(elements) >= rng.integers(1, elements + 1, n)[:, None]] = 0
    return CompositionBatch.from_slots(numbers.astype(np.uint8), counts.astype(np.uint16))


def smact_says(composition: Mapping[str, int], **options: object) -> bool:
    """What ``smact_validity`` says."""
    return bool(smact_validity(Composition(composition), **options))


def smact_verdicts(batch: CompositionBatch, **options: object) -> np.ndarray:
    """What ``smact_validity`` says of each formula, bool (n,)."""
    return np.array([smact_says(batch[i], **options) for i in range(len(batch))], np.bool_)


def written(batch: CompositionBatch, rows: np.ndarray) -> list[str]:
    """Formulas at ``rows`` for a failure message."""
    return ["".join(f"{s}{n}" for s, n in batch[i].items()) for i in rows[:20].tolist()]
