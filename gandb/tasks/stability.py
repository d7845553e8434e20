"""How stable structures are: their energies against a hull of a dataset version's entries.

What is compared is stated in full by the recipe: which entries make up the hull, with which
energies and corrections (and the hash of all of these), by which relaxation the structures got
theirs, and the energies of elements that formation energies refer to. A new hull needs no new
relaxation: ask again with other references, and the old results stay beside the new.

Energies on both sides have to be of one kind:

- ``formation``: entries state energies of formation; those of relaxed structures are worked out
  with elements relaxed by the same potential, so what the potential and the source differ by in an
  element does not count. This is the default where entries state energies of formation.
- ``total``: entries state total energies, on the scale of the potential once it is corrected. Right
  for computed entries; a source that mixes functionals has no one scale.
- ``potential``: the entries' own structures were relaxed under the same recipe, so both sides have
  the same errors, most of which cancel. The best there is, at the price of relaxing them all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import numpy as np
import sqlalchemy as sa

from gandb.core.compositions import CompositionBatch
from gandb.core.elements import SYMBOLS
from gandb.core.errors import NotFoundError, UsageError
from gandb.datasets.versions import require_members, resolve
from gandb.energies.corrections import MP2020, NONE, SCHEMES, scheme_parameters, still_due
from gandb.energies.elements import WITHIN, Elements, ground_states, relaxed_elements
from gandb.energies.hull import Hull
from gandb.jobs.records import Context, JobSpec, Outcome
from gandb.schema import tables
from gandb.store import Store, Transaction
from gandb.tasks.hull_phases import (
    ENERGIES,
    FORMATION,
    POTENTIAL,
    STATED,
    TOTAL,
    Phases,
    element_entries,
    stated_counts,
    stated_phases,
)
from gandb.tasks.judged_sets import JudgedSet, structures_query
from gandb.tasks.relaxed_energies import (
    Recipe,
    RelaxedSet,
    find_relaxation,
    relaxed_by_id,
    relaxed_phases,
    relaxed_set,
)
from gandb.tasks.rows import recipe_row
from gandb.tasks.stability_verdicts import Verdicts

KIND = "stability"


@dataclass(frozen=True)
class Choices:
    """What a user may choose; None where the store decides.

    Attributes:
        relaxed: recipe of the relaxation, by the beginning of its id or its potential.
        energies: one of `gandb.tasks.hull_phases.ENERGIES`.
        corrections: scheme for the energies by a potential.
        reference_corrections: scheme for total energies of entries: ``stated``, or a scheme.
        elements: dataset version whose entries of elements are taken; by default the references.
    """

    relaxed: str | None = None
    energies: str | None = None
    corrections: str | None = None
    reference_corrections: str | None = None
    elements: str | None = None


def stability_job(
    store: Store, judged: JudgedSet, against: Sequence[str], choices: Choices | None = None
) -> JobSpec:
    """Describe the job of judging structures against a hull.

    Candidates are judged by their relaxation. So are a version's structures if one is named; else
    its entries are, by the energies that they state.

    Args:
        store: where all is.
        judged: the structures.
        against: dataset versions, NAME@NUMBER, whose entries are the hull; all splits.
        choices: the rest.

    Raises:
        NotFoundError: there is no such version, recipe or scheme, or nothing has been relaxed.
        UsageError: what was chosen does not go together, or is not there.
        MissingExtraError: the corrections need pymatgen.
    """
    chosen = choices or Choices()
    if not against:
        raise UsageError("name whose entries make up the hull: --against NAME@NUMBER")
    if not judged.n_structures:
        raise UsageError(f"{judged.name} has no structures to judge")
    versions = sorted({str(_shared(store, name)) for name in against})
    relaxation: Recipe | None = None
    if judged.version_id is None or chosen.relaxed is not None:
        relaxation = find_relaxation(store, structures_query(judged.spec), chosen.relaxed)
    energies = _energies(store, versions, against, chosen, relaxation)
    reference = _reference_scheme(chosen, energies)
    scheme = _scheme(chosen, energies, reference, relaxation)
    spec: dict[str, Any] = {
        "of": judged.spec,
        "against": versions,
        "energies": energies,
        "corrections": scheme_parameters(scheme),
        "reference_corrections": (
            {"scheme": STATED} if reference == STATED else scheme_parameters(reference)
        ),
        "relaxation": None,
        "elements": None,
    }
    if relaxation is not None:
        spec["relaxation"] = {
            "recipe": str(relaxation.id),
            "potential": relaxation.potential,
            "rows": relaxation.n,
        }
        if energies == POTENTIAL:
            spec["relaxation"]["references"] = _relaxed_rows(store, relaxation.id, versions)
        if energies == FORMATION:
            of = [str(_shared(store, chosen.elements))] if chosen.elements else versions
            spec["elements"] = _elements(store, of, relaxation.id)
    return JobSpec(
        kind=KIND,
        spec=spec,
        totals=(relaxation.n if relaxation else judged.n_structures,),
        checkpoint_id=judged.checkpoint_id,
        dataset_version_id=judged.version_id,
    )


def _shared(store: Store, name: str) -> UUID:
    version = resolve(store, name)
    with store.read() as connection:
        require_members(connection, version.id, name)
    return version.id


def _energies(
    store: Store,
    versions: Sequence[str],
    names: Sequence[str],
    chosen: Choices,
    relaxation: Recipe | None,
) -> str:
    """Return the kind of energies to compare: the one asked for, or what most entries state."""
    kind = chosen.energies
    if kind is not None and kind not in ENERGIES:
        raise NotFoundError.naming("kind of energies", kind, ENERGIES)
    if kind == POTENTIAL:
        if relaxation is None:
            raise UsageError("energies by a potential need relaxed structures: name --relaxed")
        return kind
    with store.read() as connection:
        counts = stated_counts(connection, versions)
    named = ", ".join(names)
    if kind is None:
        kind = FORMATION if counts[FORMATION] >= counts[TOTAL] else TOTAL
    if not counts[kind]:
        raise UsageError(
            f"no entry of {named} states {'formation' if kind == FORMATION else 'total'} energies; "
            f"of {counts['entries']:,}, {counts[FORMATION]:,} state energies of formation and "
            f"{counts[TOTAL]:,} total ones. Relax their structures and judge by "
            "--energies potential, or name another version"
        )
    return kind


def _reference_scheme(chosen: Choices, energies: str) -> str:
    scheme = chosen.reference_corrections or STATED
    if scheme not in (STATED, *SCHEMES):
        raise NotFoundError.naming("correction scheme", scheme, (STATED, *SCHEMES))
    if scheme != STATED and energies != TOTAL:
        raise UsageError(
            "--reference-corrections is for total energies that entries state; "
            f"these are {energies} energies"
        )
    return scheme


def _scheme(chosen: Choices, energies: str, reference: str, relaxation: Recipe | None) -> str:
    """Return the corrections for energies by a potential."""
    if relaxation is None:
        if chosen.corrections is not None:
            raise UsageError(
                "--corrections is for energies by a potential; what entries state is corrected by "
                "--reference-corrections"
            )
        return NONE
    if chosen.corrections is not None:
        return chosen.corrections
    scale = NONE if reference == NONE else MP2020
    due = still_due(relaxation.potential, scale)
    if due is None:
        raise UsageError(
            f"it is not known how energies by {relaxation.potential} come to the scale of "
            f"{'energies without corrections' if scale == NONE else 'corrected energies'}; "
            f"state what is to be added: --corrections {' or '.join(SCHEMES)}"
        )
    return due


def _relaxed_rows(store: Store, recipe_id: UUID, versions: Sequence[str]) -> int:
    structures = [structures_query({"version": v, "split": None}) for v in versions]
    relaxation = tables.relaxation.c
    query = sa.select(sa.func.count()).where(
        relaxation.recipe_id == recipe_id,
        sa.or_(*(relaxation.structure_id.in_(s) for s in structures)),
    )
    with store.read() as connection:
        return int(connection.scalar(query) or 0)


def _elements(store: Store, versions: Sequence[str], recipe_id: UUID) -> dict[str, Any]:
    """Return the elements' references as plain data."""
    with store.read() as connection:
        structures, missing = ground_states(element_entries(connection, versions))
        relaxed = relaxed_by_id(connection, recipe_id, list(structures.values()))
    found: Elements = relaxed_elements(structures, missing, relaxed)
    unrelaxed = {s: own for s, own in structures.items() if own not in relaxed}
    return {
        "versions": list(versions),
        "within": WITHIN,
        "found": {
            s: {"structure": found.structures[s], "energy_per_atom": found.energies[s]}
            for s in found.structures
        },
        "missing": dict(sorted(found.missing.items())),
        "unrelaxed": unrelaxed,
    }


# --- judging -----------------------------------------------------------------------------


def judge_stability(context: Context) -> Outcome:
    """Do the job."""
    spec = context.job.spec
    phases = _phases(context.store, spec)
    own = _own(context.store, spec)
    if not len(phases):
        why = "; ".join(f"{reason}: {n:,}" for reason, n in phases.left_out.items())
        raise UsageError(f"no reference has an energy to make a hull of: {why}")
    formation = spec["energies"] == FORMATION
    batch, energies = phases.compositions, phases.energies
    if formation:
        batch, energies = _with_elements(batch, energies)
    hull = Hull(batch, energies)
    found = Verdicts.of(spec, own, hull, batch)
    recipe = stability_recipe(spec, phases)
    rows = found.rows(recipe["id"])
    context.progress(len(own))

    def merge(tx: Transaction) -> None:
        tx.insert_new(tables.recipe, recipe)
        tx.merge(tables.stability, rows)

    result = {
        **found.counts,
        "references": len(phases),
        "references_left_out": dict(sorted(phases.left_out.items())),
        "energies": spec["energies"],
        "potential": spec["relaxation"] and spec["relaxation"]["potential"],
        "corrections": spec["corrections"]["scheme"],
        "reference_corrections": spec["reference_corrections"]["scheme"],
        "recipe_id": str(recipe["id"]),
    }
    return Outcome(merge, result)


def stability_recipe(spec: Mapping[str, Any], phases: Phases) -> dict[str, Any]:
    """Return the recipe row of a job: all that a verdict depends on but the structure."""
    elements = spec["elements"]
    parameters = {
        "against": spec["against"],
        "energies": spec["energies"],
        "references": {
            "corrections": spec["reference_corrections"],
            "phases": len(phases),
            "digest": phases.digest,
        },
        "structures": {
            "relaxation": spec["relaxation"] and spec["relaxation"]["recipe"],
            "stated_by": spec["of"] if spec["relaxation"] is None else None,
            "corrections": spec["corrections"],
        },
        "elements": elements and {k: elements[k] for k in ("versions", "within", "found")},
    }
    return recipe_row(KIND, "1", parameters)


def _phases(store: Store, spec: Mapping[str, Any]) -> Phases:
    if spec["energies"] == POTENTIAL:
        recipe_id = UUID(spec["relaxation"]["recipe"])
        return relaxed_phases(store, spec["against"], recipe_id, spec["corrections"]["scheme"])
    scheme = spec["reference_corrections"]["scheme"]
    return stated_phases(store, spec["against"], spec["energies"], scheme)


def _own(store: Store, spec: Mapping[str, Any]) -> RelaxedSet:
    """Return the structures to judge with their energies, by relaxation or as entries state them.

    Of entries that share a structure, the one of lowest energy counts.
    """
    if spec["relaxation"] is not None:
        recipe_id = UUID(spec["relaxation"]["recipe"])
        structures = structures_query(spec["of"])
        return relaxed_set(store, recipe_id, structures, spec["corrections"]["scheme"])
    stated = stated_phases(
        store,
        [spec["of"]["version"]],
        spec["energies"],
        spec["reference_corrections"]["scheme"],
        spec["of"]["split"],
    )
    lowest: dict[str, int] = {}
    for row, own in enumerate(stated.structures):
        if own is not None and (
            own not in lowest or stated.energies[row] < stated.energies[lowest[own]]
        ):
            lowest[own] = row
    ids = sorted(lowest)
    places = np.array([lowest[own] for own in ids], np.int64)
    return RelaxedSet(
        ids=ids,
        compositions=stated.compositions.take(places),
        energies=stated.energies[places],
        corrections=stated.corrections[places],
        converged=np.ones(len(ids), bool),
        errors=[None] * len(ids),
    )


def _with_elements(
    batch: CompositionBatch, energies: np.ndarray
) -> tuple[CompositionBatch, np.ndarray]:
    """Add the elements at 0, to which formation energies refer: those that any phase holds."""
    numbers = np.unique(batch.atomic_numbers)
    own = CompositionBatch.from_dicts([{SYMBOLS[z]: 1} for z in numbers.tolist()])
    return (
        CompositionBatch.concatenate([batch, own]),
        np.concatenate([energies, np.zeros(len(numbers))]),
    )
