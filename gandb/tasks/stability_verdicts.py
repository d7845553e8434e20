"""What a hull says of structures: rows of the table ``stability``, and counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import numpy as np
import pyarrow as pa

from gandb.core.compositions import CompositionBatch, uuid_array
from gandb.core.elements import ATOMIC_NUMBERS, MAX_Z
from gandb.core.ids import canonical_json
from gandb.energies.hull import Hull, Judged
from gandb.store.bulk import ids_from_text
from gandb.tasks.hull_phases import FORMATION
from gandb.tasks.relaxed_energies import RelaxedSet
from gandb.tasks.rows import repeat_id

LIMITS = (0.0, 0.025, 0.1)
"""Energies above the hull, eV/atom, up to which structures are counted as stable."""
_ZERO = 1e-9  # eV/atom: closer to the hull is on it


@dataclass(frozen=True, eq=False)
class Verdicts:
    """What became of n structures.

    Attributes:
        own: the structures, with energies and corrections.
        energy: float64 (n,), eV/atom; NaN where entries state energies of formation alone.
        formation: float64 (n,), energy of formation, eV/atom; NaN without a reference.
        above: float64 (n,), energy above the hull, eV/atom; NaN likewise.
        missing: for each, the elements without a reference.
        decompositions: for each, formulas of phases with their shares of the atoms.
    """

    own: RelaxedSet
    energy: np.ndarray
    formation: np.ndarray
    above: np.ndarray
    missing: list[tuple[str, ...]]
    decompositions: list[dict[str, float] | None]

    @classmethod
    def of(
        cls, spec: Mapping[str, Any], own: RelaxedSet, hull: Hull, batch: CompositionBatch
    ) -> Verdicts:
        """Judge structures.

        Args:
            spec: of the job.
            own: the structures.
            hull: of the references.
            batch: the references as the hull was given them.
        """
        judged = hull.judge(own.compositions)
        missing, energy = judged.missing, own.energies
        if spec["energies"] != FORMATION:
            formation, compared = energy - judged.elements, energy
        elif spec["relaxation"] is None:
            formation = compared = energy
            energy = np.full(len(own), np.nan)
        else:
            known = spec["elements"]["found"]
            apart = np.full(MAX_Z + 1, np.nan)
            for symbol, found in known.items():
                apart[ATOMIC_NUMBERS[symbol]] = found["energy_per_atom"]
            formation = compared = energy - _weighed(own.compositions, apart)
            missing = [
                tuple(sorted({*gone, *(set(own.compositions[i]) - known.keys())}))
                for i, gone in enumerate(missing)
            ]
        above = compared - judged.hull
        above[np.abs(above) < _ZERO] = 0.0
        formulas = batch.reduced_formulas()
        return cls(
            own=own,
            energy=energy,
            formation=formation,
            above=above,
            missing=missing,
            decompositions=_decompositions(judged, formulas, ~np.isnan(above)),
        )

    @property
    def counts(self) -> dict[str, Any]:
        """What a user is told."""
        judged = ~np.isnan(self.above)
        failed = np.array([e is not None for e in self.own.errors], bool)
        lacking = Counter(
            symbol
            for symbols, bad in zip(self.missing, failed.tolist(), strict=True)
            for symbol in symbols
            if not bad
        )
        stable = {f"stable_{limit:g}": int((self.above[judged] <= limit).sum()) for limit in LIMITS}
        return {
            "structures": len(self.own),
            "judged": int(judged.sum()),
            **stable,
            "median_above_hull": float(np.median(self.above[judged])) if judged.any() else None,
            "unconverged": int((judged & ~self.own.converged).sum()),
            "failed": int(failed.sum()),
            "missing_references": int((~judged & ~failed).sum()),
            "missing_by_element": dict(sorted(lacking.items(), key=lambda kv: (-kv[1], kv[0]))),
        }

    def rows(self, recipe_id: UUID) -> pa.Table:
        """Return rows of ``stability``."""
        n = len(self.own)
        ids = ids_from_text(pa.chunked_array([pa.array(self.own.ids, pa.string())]))
        texts = [None if d is None else canonical_json(d).decode() for d in self.decompositions]
        return pa.table(
            {
                "recipe_id": repeat_id(recipe_id, n),
                "structure_id": uuid_array(ids),
                "energy_per_atom": _column(self.energy),
                "correction_per_atom": _column(self.own.corrections),
                "formation_energy_per_atom": _column(self.formation),
                "energy_above_hull": _column(self.above),
                "decomposition": pa.array(texts, pa.string()),
                "missing": pa.array([list(m) or None for m in self.missing], pa.list_(pa.string())),
                "error": pa.array(self.own.errors, pa.string()),
            }
        )


def _decompositions(
    judged: Judged, formulas: pa.StringArray, wanted: np.ndarray
) -> list[dict[str, float] | None]:
    return [
        {formulas[phase].as_py(): round(share, 9) for phase, share in judged.decomposition(i)}
        if wanted[i]
        else None
        for i in range(len(judged))
    ]


def _weighed(batch: CompositionBatch, values: np.ndarray) -> np.ndarray:
    """Return the mean over the atoms of each composition of values by atomic number."""
    if not len(batch):
        return np.zeros(0)
    weighed = values[batch.atomic_numbers] * batch.counts
    sums = np.add.reduceat(weighed, batch.offsets[:-1])
    mean: np.ndarray = sums / batch.n_atoms
    return mean


def _column(values: np.ndarray) -> pa.Array:
    return pa.array(values, pa.float64(), mask=np.isnan(values))
