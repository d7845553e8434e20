"""How well a set of structures covers another: COV and Wasserstein distances as CDVAE has them.

Precision is a share of all samples: those that are no crystal, or have no fingerprint, are not
precise. Where fingerprints were worked out for a part of the structures only, that part stands for
all. Structures of the reference without fingerprints are left out, and counted.

The Wasserstein distances are between the reference and valid samples, 1,000 of them as a rule. A
sample is valid if it has a fingerprint, passes ``structural_validity_published``, and its
composition passes CDVAE's charge check (`VALID`).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any
from uuid import UUID

import numpy as np
import sqlalchemy as sa

from gandb.core.compositions import CompositionBatch
from gandb.core.errors import NotFoundError, UsageError
from gandb.jobs.records import Context, JobSpec, Outcome
from gandb.schema import tables
from gandb.store import Store, Transaction
from gandb.store.bulk import fetch, ids_from_text
from gandb.tasks.fingerprinting import Fingerprints, fingerprint_recipe
from gandb.tasks.judged_sets import JudgedSet, Weights
from gandb.tasks.keyed import id_keys, uuids
from gandb.tasks.rows import recipe_row
from gandb.tasks.structures import crystals
from gandb.validation.charge import Rule
from gandb.validation.charge import check as check_charges
from gandb.validation.coverage import CUTOFFS, Cutoffs, coverage, wasserstein
from gandb.validation.fingerprints import scaled, scaling_parameters
from gandb.validation.geometry import density, structural_validity
from gandb.validation.sites import Sites

KIND = "coverage"
SAMPLES = 1_000
"""Valid samples whose numbers are compared with the reference's."""
VALID = Rule("cnen_cdvae", "1", "smact22", alloys=True)
"""CDVAE's charge check: the oxidation states of smact 2.2, metals among themselves pass. An element
without electronegativity fails here, and passes there."""
_LISTED = 2_000  # structures that are read at once


@dataclass(frozen=True)
class CoverageOptions:
    """How sets are compared.

    Attributes:
        cutoffs: how near fingerprints have to be.
        samples: valid samples for Wasserstein distances.
        seed: of their choice.
        energies: relaxation recipe whose energies are compared, of structures as they were
            generated; None for none.
    """

    cutoffs: Cutoffs = CUTOFFS["mp20"]
    samples: int = SAMPLES
    seed: int = 0
    energies: UUID | None = None

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise UsageError(f"{self.samples} samples are too few to compare")
        for name, value in asdict(self.cutoffs).items():
            if not (math.isfinite(value) and value > 0):
                raise UsageError(f"the cut-off of {name} is {value:g}; it must be above 0")


def coverage_job(
    judged: JudgedSet,
    against: JudgedSet,
    fingerprints: tuple[UUID, UUID],
    options: CoverageOptions | None = None,
) -> JobSpec:
    """Describe the job of comparing two sets.

    Args:
        judged: the generated one.
        against: the real one.
        fingerprints: the jobs that worked out the fingerprints of either.
        options: how.

    Raises:
        MissingExtraError: matminer is not installed.
    """
    options = CoverageOptions() if options is None else options
    return JobSpec(
        kind=KIND,
        spec={
            "of": judged.spec,
            "against": against.spec,
            "fingerprints": [str(i) for i in fingerprints],
            "cutoffs": asdict(options.cutoffs),
            "samples": options.samples,
            "seed": options.seed,
            "energies": None if options.energies is None else str(options.energies),
            "recipe": str(fingerprint_recipe()["id"]),
        },
        checkpoint_id=judged.checkpoint_id,
        dataset_version_id=judged.version_id,
    )


def find_energies(store: Store, text: str) -> UUID:
    """Return the one relaxation recipe whose id begins with a text.

    Raises:
        NotFoundError: there is none, or there are several.
    """
    recipe, relaxation = tables.recipe.c, tables.relaxation.c
    own = sa.cast(recipe.id, sa.Text())
    with store.read() as connection:
        found = connection.scalars(
            sa.select(recipe.id).where(
                own.startswith(text.strip().lower(), autoescape=True),
                recipe.id.in_(sa.select(relaxation.recipe_id)),
            )
        ).all()
    if len(found) != 1 or not text.strip():
        problem = "several relaxation recipes begin" if found else "no relaxation recipe begins"
        raise NotFoundError(f"{problem} with {text!r}; they are recipe_id of the table relaxation")
    return UUID(str(found[0]))


def judge_coverage(context: Context) -> Outcome:
    """Compare the two sets."""
    spec = context.job.spec
    own = _Described.of(context, spec["of"], UUID(spec["fingerprints"][0]))
    real = _Described.of(context, spec["against"], UUID(spec["fingerprints"][1]))
    known = real.fingerprinted
    if not known.any():
        raise UsageError("no structure of the reference has a fingerprint: nothing to compare with")
    cutoffs = Cutoffs(**spec["cutoffs"])
    recipe = recipe_row(
        "coverage",
        "1",
        {
            "against": spec["against"],
            "fingerprints": spec["recipe"],
            "cutoffs": spec["cutoffs"],
            **scaling_parameters(),
        },
    )
    values: list[tuple[str, int, float]] = []
    for name, joint in (("coverage", False), ("coverage_joint", True)):
        found = coverage(
            own.prints.structures,
            scaled(own.prints.compositions),
            real.prints.structures[known],
            scaled(real.prints.compositions[known]),
            cutoffs,
            joint,
            own.times,
            real.times[known],
        )
        # The part with fingerprints stands for all samples that are crystals.
        crystals_of_all = own.held / max(own.total, 1)
        values.append((f"{name}_precision", own.total, found.precision * crystals_of_all))
        values.append((f"{name}_recall", found.n_reference, found.recall))
    for field in (
        "mean_structure_to_reference", "mean_structure_to_generated",
        "mean_composition_to_reference", "mean_composition_to_generated",
    ):  # fmt: skip
        n = found.n_fingerprinted if field.endswith("reference") else found.n_reference
        values.append((f"coverage_{field}", n, getattr(found, field)))
    distances, chosen = _distances(context, own, real)
    rows = [(recipe, *value) for value in values if math.isfinite(value[2])]
    rows += [
        (distances[name][0], f"wasserstein_{name}", *distances[name][1:]) for name in distances
    ]

    def merge(tx: Transaction) -> None:
        for row in (fingerprint_recipe(), *(row for row, *_ in rows)):
            tx.insert_new(tables.recipe, row)
        tx.execute(
            tables.metric.insert(),
            [
                {
                    "job_id": context.job.id,
                    "name": name,
                    "step": step,
                    "value": value,
                    "recipe_id": row["id"],
                }
                for row, name, step, value in rows
            ],
        )

    result = {
        "samples": own.total,
        "with_structure": own.held,
        "compared": int(own.times.sum()),
        "valid": int(own.times[own.valid].sum()),
        "chosen": chosen,
        "reference": int(real.times.sum()),
        "failures": own.failures(),
        "reference_failures": real.failures(),
        "metrics": {name: value for _, name, _, value in rows},
        "recipe_id": str(recipe["id"]),
    }
    return Outcome(merge, result)


@dataclass(frozen=True, eq=False)
class _Described:
    """A set with what is compared of it; n structures.

    Attributes:
        prints: their fingerprints.
        times: int64 (n,), how often each came.
        total: samples in all.
        held: samples that are crystals.
        density: float64 (n,), g/cm³.
        n_elements: int64 (n,).
        valid: bool (n,).
    """

    prints: Fingerprints
    times: np.ndarray
    total: int
    held: int
    density: np.ndarray
    n_elements: np.ndarray
    valid: np.ndarray

    @property
    def fingerprinted(self) -> np.ndarray:
        """Which have both fingerprints, bool (n,)."""
        both = np.hstack([self.prints.structures, self.prints.compositions])
        found: np.ndarray = np.isfinite(both).all(axis=1)
        return found

    def failures(self) -> dict[str, int]:
        """Count structures without a fingerprint, by reason."""
        return dict(sorted(Counter(self.prints.failures.values()).items()))

    @classmethod
    def of(cls, context: Context, spec: Mapping[str, Any], job_id: UUID) -> _Described:
        prints = Fingerprints.of_job(context.store, job_id)
        keys = id_keys(prints.ids)
        n = len(keys)
        values, kinds, valid = np.zeros(n), np.zeros(n, np.int64), np.zeros(n, bool)
        with context.store.read() as connection:
            weights = Weights.of(connection, spec)
            for start in range(0, n, _LISTED):
                part = slice(start, min(start + _LISTED, n))
                wanted = tables.structure.c.id.in_(uuids(keys[part]))
                records = [crystal for _, crystal in crystals(connection, wanted)]
                sites = Sites.of(records)
                counts = [record.counts() for record in records]
                batch, _ = CompositionBatch.from_dicts(counts).reduced()
                values[part] = density(sites).value
                kinds[part] = batch.n_elements
                valid[part] = structural_validity(sites, self_images=False).passed
                valid[part] &= check_charges(batch, VALID).passed
        times = weights.times[np.searchsorted(weights.ids, keys)]
        held = int(weights.times.sum())
        found = cls(prints, times, weights.total, held, values, kinds, valid)
        found.valid[:] &= found.fingerprinted
        return found


def _distances(
    context: Context, own: _Described, real: _Described
) -> tuple[dict[str, tuple[dict[str, Any], int, float]], int]:
    """Return recipe, number of samples and distance by what is compared, and how many were chosen.

    Valid samples are chosen at random, all of them where there are fewer than wanted.
    """
    spec = context.job.spec
    every = np.repeat(np.flatnonzero(own.valid), own.times[own.valid])
    if not len(every):
        return {}, 0
    n = min(len(every), spec["samples"])
    chosen = np.sort(np.random.default_rng(spec["seed"]).choice(every, n, replace=False))
    theirs = np.repeat(np.arange(len(real.times)), real.times)
    compared = {
        "density": (own.density[chosen], real.density[theirs], "g/cm³"),
        "n_elements": (own.n_elements[chosen], real.n_elements[theirs], ""),
    }
    if spec["energies"]:
        recipe = UUID(spec["energies"])
        energies = [_energies(context, recipe, x) for x in (own, real)]
        compared["energy"] = (energies[0][chosen], energies[1][theirs], "eV/atom")
    found = {}
    for name, (a, b, unit) in compared.items():
        a, b = a[np.isfinite(a)], b[np.isfinite(b)]
        if not len(a) or not len(b):
            raise UsageError(
                f"no {name} of one of the sets is known: relax its structures first, see "
                "gandb relax"
            )
        row = recipe_row(
            "wasserstein",
            "1",
            {
                "of": name,
                "unit": unit,
                "against": spec["against"],
                "samples": spec["samples"],
                "seed": spec["seed"],
                "valid": {
                    "structure": "structural_validity_published",
                    "composition": VALID.parameters,
                    "fingerprint": spec["recipe"],
                },
                **({"energies": spec["energies"]} if name == "energy" else {}),
            },
        )
        found[name] = (row, len(a), wasserstein(a, b))
    return found, n


def _energies(context: Context, recipe_id: UUID, described: _Described) -> np.ndarray:
    """Return energies of structures as they were, eV/atom, NaN where there is none."""
    relaxation = tables.relaxation.c
    keys = id_keys(described.prints.ids)
    found = np.full(len(keys), np.nan)
    with context.store.read() as connection:
        for start in range(0, len(keys), _LISTED):
            part = keys[start : start + _LISTED]
            rows = fetch(
                connection,
                sa.select(relaxation.structure_id, relaxation.initial_energy_per_atom).where(
                    relaxation.recipe_id == recipe_id,
                    relaxation.structure_id.in_(uuids(part)),
                    relaxation.initial_energy_per_atom.is_not(None),
                ),
            )
            if len(rows):
                own = id_keys(ids_from_text(rows.column("structure_id")))
                found[np.searchsorted(keys, own)] = rows.column(1).to_numpy()
    return found
