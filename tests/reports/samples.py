"""A report with three seeds of a model, its four baselines and two training sets."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from gandb.core.elements import ATOMIC_NUMBERS, MAX_Z
from gandb.reports import CheckShare, Curve, DatasetSummary, Recipe, Report, Role, Run

CHECKS = ("cnen_strict", "cnen_default", "cnen_matgan")
RECIPES = {
    name: f"{index:08x}-0000-4000-8000-00000000000{index}"
    for index, name in enumerate(
        (*CHECKS, "uniqueness", "novelty", "holdout_recovery", "statistics"), start=0x1A2B3C40
    )
}
COMMON = {"O": 0.45, "S": 0.12, "F": 0.1, "Li": 0.08, "Fe": 0.07, "Si": 0.06, "Mg": 0.05, "N": 0.04}
ABSENT = [*range(99, MAX_Z + 1), *(ATOMIC_NUMBERS[s] for s in ("He", "Ne", "Ar", "Po", "At", "Rn"))]


def element_frequency(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    frequency = 10 ** rng.uniform(-3.5, -1.5, MAX_Z + 1)
    for symbol, share in COMMON.items():
        frequency[ATOMIC_NUMBERS[symbol]] = share * rng.uniform(0.6, 1.4)
    frequency[0] = 0.0
    frequency[ABSENT] = 0.0
    return frequency


def curves(seed: int) -> dict[str, Curve]:
    rng = np.random.default_rng(seed)
    steps = np.arange(0, 4000, 10, dtype=float)
    monitor = np.arange(0, 4000, 250, dtype=float)
    noise = rng.normal(0, 0.004, len(steps))
    return {
        "wasserstein": Curve(steps, 0.12 * np.exp(-steps / 900) + 0.06 + noise),
        "gradient_penalty": Curve(steps, 0.1 * np.exp(-steps / 300) + 0.004 + abs(noise)),
        "uniqueness": Curve(monitor, 0.98 - 0.15 * np.exp(-monitor / 700)),
        "n_atoms": Curve(steps, 6 + rng.normal(0, 0.3, len(steps))),
    }


def run(model: str, seed: int, strict: float, dataset: str = "mp@1", n: int = 100_000) -> Run:
    rng = np.random.default_rng([seed, len(model)])
    is_model = model == "matgan"
    at = [k for k in (20_000, 100_000, 2_000_000) if k <= n]
    return Run(
        job_id=f"{len(model):02x}{seed:02x}cafe-0000-4000-8000-0000000000{len(dataset):02d}",
        model=model,
        role=Role.MODEL if is_model else Role.BASELINE,
        dataset=dataset,
        seed=seed,
        n_samples=n,
        recipes=RECIPES,
        training_seed=seed if is_model else None,
        config="compact" if is_model else "",
        checks={
            "cnen_strict": CheckShare(strict, strict - 0.02),
            "cnen_default": CheckShare(min(1.0, strict + 0.12), strict + 0.1),
            "cnen_matgan": CheckShare(strict - 0.07, strict - 0.08),
        },
        rejections={"empty": 12, "more than 8 elements": 3} if is_model else {},
        uniqueness={
            k: 0.98 - 0.006 * len(model) * np.log10(k / 10_000) - rng.uniform(0, 0.01) for k in at
        },
        novelty={k: 0.95 - 0.004 * len(model) - rng.uniform(0, 0.01) for k in at},
        novelty_reference=dataset,
        holdout_recovery=0.31 + rng.uniform(0, 0.01) if is_model else 0.2,
        one_element_share=0.012,
        reduced_share=0.08 + rng.uniform(0, 0.01),
        divergences={
            "elements": 0.004 + rng.uniform(0, 0.002),
            "n_elements": 0.002,
            "stoichiometries": 0.081,
            "pairs": 0.12 if model != "uniform" else None,
        },
        curves=curves(seed) if is_model else {},
        element_frequency=element_frequency(seed + 1),
        n_elements=np.array([0, 300, 2100, 4200, 1900, 700, 90]) * rng.uniform(0.8, 1.2, 7),
    )


BASELINES = {
    "uniform": 0.219,
    "element_frequency": 0.542,
    "count_given_element": 0.667,
    "substitution": 0.641,
}


def report() -> Report:
    runs = [run("matgan", seed, strict) for seed, strict in enumerate((0.744, 0.748, 0.752))]
    runs += [
        run(name, seed, share + 0.001 * (seed - 1))
        for name, share in BASELINES.items()
        for seed in range(3)
    ]
    runs += [run("matgan", 7, 0.318, "oqmd@2")]
    runs += [run("count_given_element", 7, 0.376, "oqmd@2")]
    return Report(
        title="MatGAN beside its baselines",
        runs=tuple(runs),
        datasets=(dataset("mp@1"), dataset("oqmd@2")),
        recipes=tuple(
            Recipe(
                id=recipe_id,
                name=name,
                version="1",
                parameters={"alloys": False, "reduce": True},
                data_files={"icsd24_filtered.csv": "ab" * 32} if name in CHECKS else {},
                description=f"Decides {name}.",
            )
            for name, recipe_id in RECIPES.items()
        ),
        commands=(
            "gandb train matgan --dataset mp@1 --seed 0",
            "gandb generate CHECKPOINT -n 100k",
        ),
        provenance=(("gandb", "0.1.0"), ("store revision", "0001")),
    )


def dataset(ref: str) -> DatasetSummary:
    return DatasetSummary(
        ref=ref,
        n_train=41_000,
        n_test=4_600,
        element_frequency=element_frequency(0),
        n_elements=np.array([0, 30, 200, 430, 200, 60, 9, 2.0]),
        checks={"cnen_strict": 0.72, "cnen_default": 0.915},
        attribution="Materials Project, CC BY 4.0",
    )


def with_run(base: Report, index: int, **changes: object) -> Report:
    """Return ``base`` with one run changed."""
    runs = list(base.runs)
    runs[index] = replace(runs[index], **changes)  # type: ignore[arg-type]
    return replace(base, runs=tuple(runs))
