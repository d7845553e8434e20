"""Relaxation of many crystals at once: positions and cell, each crystal with a state of its own.

The optimiser is FIRE (E. Bitzek et al., doi:10.1103/PhysRevLett.97.170201) on the positions in the
undeformed cell and the logarithm of the deformation, with the settings and the order of steps of
``ase.optimize.FIRE`` on ``ase.filters.FrechetCellFilter`` (https://ase-lib.org): the same potential
gives the same path. A cell that repeats itself is relaxed as what repeats. All crystals that are
under way are given to the potential together; what has ended leaves and the next one enters. What
happens to one crystal does not touch the others.

States and paths are float64. A relaxation can be written out and read again between any two steps,
and goes on as if nothing had been.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from gandb.core.crystals import Crystal, CrystalError, crystal_of_matrix
from gandb.core.errors import GandbError, IntegrityError
from gandb.energies.fire import Settings, State, generalised_forces, moved
from gandb.energies.potentials import GPA, Batch, Evaluation, Potential, unknown_elements
from gandb.energies.translations import Folded, fold
from gandb.identity.explaining import match
from gandb.identity.recipes import MatchRecipe

DISPLACEMENT = MatchRecipe(ltol=0.5, stol=0.5, angle_tol=10.0, primitive_cell=False, scale=False)
"""How a relaxed crystal is laid on what it was, as MatterGen does (doi:10.1038/s41586-025-08628-5).

Cells are compared as they are, since a symmetry that is found on the way makes the primitive cell
smaller."""


@dataclass(frozen=True, eq=False)
class Relaxed:
    """What became of a crystal; all but ``error`` is None if there is one.

    Attributes:
        crystal: the relaxed crystal, without properties of sites.
        initial_energy_per_atom: of the crystal as it was, eV/atom; kept with an error on the way.
        energy_per_atom: of the relaxed crystal, eV/atom.
        max_force: largest force on an atom of it, eV/Å.
        max_stress: largest component of its stress, by amount, GPa.
        n_steps: of the optimiser; kept with an error on the way.
        converged: whether the forces fell below the bound.
        rmsd: root mean square displacement on the lattice between the two cells, Å; None also where
            they do not match. It is pymatgen's rms times (volume / sites)^(1/3) of that lattice.
        volume_change: volume of the cell over that before, less 1.
        forces: float64 (sites, 3) on the sites of ``crystal``, in its order and axes, eV/Å.
        error: why there is no relaxed crystal.
    """

    crystal: Crystal | None = None
    initial_energy_per_atom: float | None = None
    energy_per_atom: float | None = None
    max_force: float | None = None
    max_stress: float | None = None
    n_steps: int | None = None
    converged: bool | None = None
    rmsd: float | None = None
    volume_change: float | None = None
    forces: np.ndarray | None = None
    error: str | None = None


class Relaxation:
    """Crystals on their way to rest.

    Args:
        crystals: all that are to be relaxed.
        settings: how.
        max_atoms: how many atoms are under way at once; a larger crystal is alone.

    Attributes:
        results: by place in ``crystals``, of those that have ended.
        n_steps: steps of all crystals so far.
    """

    def __init__(
        self, crystals: Sequence[Crystal], settings: Settings, max_atoms: int = 400
    ) -> None:
        self.crystals, self.settings, self.max_atoms = crystals, settings, max_atoms
        self.results: dict[int, Relaxed] = {}
        self.n_steps = 0
        self._next = 0
        self._state = State.of([], [], [], settings)
        self._repeating: dict[int, Folded] = {}

    @property
    def done(self) -> bool:
        """Whether all crystals have ended."""
        return len(self.results) == len(self.crystals)

    def step(self, potential: Potential) -> None:
        """Move every crystal that is under way by one step; end those that need not go on."""
        self._fill(potential)
        state = self._state
        if not len(state.own):
            return
        deformations = state.deformations()
        batch = state.batch(deformations)
        found = potential.evaluate(batch)
        first = np.isnan(state.energies)
        energies = np.where(first, found.energies, state.energies)
        state = replace(state, energies=energies)
        forces, pulls = generalised_forces(state, batch, found, deformations)
        largest = np.einsum("nij,nij->ni", pulls, pulls).max(axis=1)
        with np.errstate(invalid="ignore"):  # where the potential failed
            np.maximum.at(largest, state.owners, np.einsum("si,si->s", forces, forces))
        converged = largest < self.settings.max_force**2
        errors = self._errors(state, batch, found)
        ended = converged | (state.steps >= self.settings.max_steps)
        ended |= np.array([e is not None for e in errors], bool)
        for i in np.flatnonzero(ended).tolist():
            own = int(state.own[i])
            self.results[own] = (
                _failed(errors[i], state, i)
                if errors[i] is not None
                else _result(
                    self.crystals[own],
                    self._folded(own),
                    state,
                    batch,
                    found,
                    i,
                    bool(converged[i]),
                )
            )
            self._repeating.pop(own, None)
        going = ~ended
        if not going.all():
            sites = going[state.owners]
            state, forces, pulls = state.keep(going), forces[sites], pulls[going]
        self._state = moved(state, forces, pulls, self.settings)
        self.n_steps += len(state.own)

    def _fill(self, potential: Potential) -> None:
        """Let crystals enter while there is room."""
        held = int(self._state.starts[-1])
        entering: list[int] = []
        while self._next < len(self.crystals):
            crystal = self.crystals[self._next]
            problem = _unfit(crystal, potential, self.settings)
            if problem is not None:
                self.results[self._next] = Relaxed(error=problem)
            elif held and held + len(self._folded(self._next).sites) > self.max_atoms:
                break
            else:
                entering.append(self._next)
                held += len(self._folded(self._next).sites)
            self._next += 1
        if entering:
            crystals = [self.crystals[i] for i in entering]
            new = State.of(entering, crystals, [*map(self._folded, entering)], self.settings)
            self._state = self._state.joined(new)

    def _folded(self, own: int) -> Folded:
        if own not in self._repeating:
            self._repeating[own] = fold(self.crystals[own], self.settings.repeat_tolerance)
        return self._repeating[own]

    def _errors(self, state: State, batch: Batch, found: Evaluation) -> list[str | None]:
        """Say which crystals cannot go on, and why."""
        change = np.abs(np.linalg.det(batch.lattices)) / state.volumes
        most = self.settings.volume_factor
        errors: list[str | None] = []
        for i, error in enumerate(found.errors):
            if error is None and change[i] > most:
                error = f"the cell grew to more than {most:g} times its volume"
            elif error is None and change[i] < 1 / most:
                error = f"the cell shrank to less than 1/{most:g} of its volume"
            errors.append(error)
        return errors

    # --- between steps -----------------------------------------------------------------------

    def to_bytes(self, label: str) -> bytes:
        """Write down everything, to go on from here elsewhere.

        Args:
            label: what the crystals are, so that no others are taken for them.
        """
        head = {
            "label": label,
            "next": self._next,
            "n_steps": self.n_steps,
            "results": {str(k): _plain(v) for k, v in self.results.items()},
        }
        sink = io.BytesIO()
        arrays = {f.name: getattr(self._state, f.name) for f in fields(self._state)}
        text = np.frombuffer(json.dumps(head).encode(), np.uint8)
        np.savez(sink, allow_pickle=False, head=text, **arrays)
        return sink.getvalue()

    def restore(self, data: bytes, label: str) -> None:
        """Go on from where `to_bytes` was called.

        Raises:
            IntegrityError: these are not the same crystals.
        """
        with np.load(io.BytesIO(data), allow_pickle=False) as held:
            head = json.loads(held["head"].tobytes())
            state = State(**{f.name: held[f.name] for f in fields(State)})
        if head["label"] != label:
            raise IntegrityError("what was staged of this relaxation is of other crystals")
        self._state, self._next, self.n_steps = state, head["next"], head["n_steps"]
        self.results = {int(k): _relaxed(v) for k, v in head["results"].items()}


def relax(
    potential: Potential, crystals: Sequence[Crystal], settings: Settings | None = None
) -> list[Relaxed]:
    """Relax crystals, all in one go."""
    work = Relaxation(crystals, settings or Settings())
    while not work.done:
        work.step(potential)
    return [work.results[i] for i in range(len(crystals))]


# --- what becomes of a crystal -----------------------------------------------------------


def _unfit(crystal: Crystal, potential: Potential, settings: Settings) -> str | None:
    """Say why a crystal cannot be begun, if so."""
    if not crystal.ordered:
        return "it is disordered"
    if len(crystal) > settings.max_sites:
        return f"it has {len(crystal):,} sites, more than {settings.max_sites:,}"
    if unknown := unknown_elements(potential, crystal):
        return f"{potential.name} does not know {', '.join(unknown)}"
    return None


def _failed(error: str | None, state: State, i: int) -> Relaxed:
    energy = float(state.energies[i] / state.sizes[i])
    steps = int(state.steps[i])
    return Relaxed(
        initial_energy_per_atom=energy if np.isfinite(energy) else None, n_steps=steps, error=error
    )


def _result(
    before: Crystal,
    folded: Folded,
    state: State,
    batch: Batch,
    found: Evaluation,
    i: int,
    converged: bool,
) -> Relaxed:
    sites = slice(batch.starts[i], batch.starts[i + 1])
    lattice, positions = folded.unfold(batch.lattices[i], batch.positions[sites])
    forces = found.forces[sites][folded.places]
    try:
        turned = crystal_of_matrix(
            lattice,
            before.species,
            positions,
            cartesian=True,
            properties={"forces": forces.tolist()},
            charge=before.charge,
        )
    except CrystalError as error:
        return _failed(f"it became no crystal: {error}", state, i)
    after = replace(turned, properties={})
    return Relaxed(
        crystal=after,
        initial_energy_per_atom=float(state.energies[i] / state.sizes[i]),
        energy_per_atom=float(found.energies[i] / state.sizes[i]),
        max_force=float(np.sqrt((forces * forces).sum(axis=1).max())),
        max_stress=float(np.abs(found.stresses[i]).max() * GPA),
        n_steps=int(state.steps[i]),
        converged=converged,
        rmsd=displacement(before, after),
        volume_change=after.volume / before.volume - 1.0,
        forces=np.array(turned.properties["forces"], np.float64),
    )


def displacement(before: Crystal, after: Crystal) -> float | None:
    """Return the root mean square displacement of atoms, Å; None where the two do not match.

    Both cells keep their size. The unit that StructureMatcher counts in, (volume / sites)^(1/3), is
    of the lattice between the two.
    """
    try:
        return match(before, after, DISPLACEMENT).rms_angstrom
    except GandbError:
        return None


def _plain(result: Relaxed) -> dict[str, Any]:
    plain = {f.name: getattr(result, f.name) for f in fields(result)}
    if result.crystal is not None and result.forces is not None:
        crystal = result.crystal
        plain["crystal"] = {
            "lengths": crystal.lengths.tolist(),
            "angles": crystal.angles.tolist(),
            "species": list(crystal.species),
            "frac_coords": crystal.frac_coords.tolist(),
            "charge": crystal.charge,
        }
        plain["forces"] = result.forces.tolist()
    return plain


def _relaxed(plain: Mapping[str, Any]) -> Relaxed:
    if plain["crystal"] is None:
        return Relaxed(**plain)
    own = plain["crystal"]
    crystal = Crystal(
        lengths=np.array(own["lengths"]),
        angles=np.array(own["angles"]),
        species=tuple(own["species"]),
        frac_coords=np.array(own["frac_coords"]),
        charge=own["charge"],
    )
    return Relaxed(**{**plain, "crystal": crystal, "forces": np.array(plain["forces"])})
