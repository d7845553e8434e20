"""One step of relaxing many crystals: FIRE on positions and cells, with all that it needs to know.

The optimiser is that of E. Bitzek et al., doi:10.1103/PhysRevLett.97.170201, with the settings and
the order of steps of ``ase.optimize.FIRE`` on ``ase.filters.FrechetCellFilter``
(https://ase-lib.org). All is float64, and what is worked out of one crystal hangs on it alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np

from gandb.core.crystals import Crystal
from gandb.core.errors import UsageError
from gandb.energies.potentials import Batch, Evaluation
from gandb.energies.translations import Folded


@dataclass(frozen=True)
class Settings:
    """How crystals are relaxed; the constants of FIRE are those of ASE.

    Attributes:
        max_force: a crystal has converged once no force on an atom or on the cell is larger, eV/Å.
            The force on the cell is the derivative by the logarithm of its deformation, over the
            number of atoms.
        max_steps: where it ends otherwise.
        max_sites: larger cells are not begun.
        repeat_tolerance: of a cell that repeats itself within it, Å, what repeats is relaxed, and
            the rest follows; 0 relaxes all cells as they are.
        volume_factor: a cell that grows or shrinks beyond this factor has come apart, or collapsed.
        time_step: at first.
        max_time_step: at most.
        max_move: length of the largest step of all coordinates together, Å.
        wait: steps downhill before the time step grows.
        grow, shrink: factors of the time step.
        mixing, mixing_shrink: how far the velocity turns to the force, and how that wears off.

    Raises:
        UsageError: a bound that cannot be.
    """

    max_force: float = 0.05
    max_steps: int = 500
    max_sites: int = 500
    repeat_tolerance: float = 1e-3
    volume_factor: float = 10.0
    time_step: float = 0.1
    max_time_step: float = 1.0
    max_move: float = 0.2
    wait: int = 5
    grow: float = 1.1
    shrink: float = 0.5
    mixing: float = 0.1
    mixing_shrink: float = 0.99

    def __post_init__(self) -> None:
        if not 0 < self.max_force < 10:
            raise UsageError(f"--max-force {self.max_force:g} eV/Å: give 0.001 to 1")
        if self.max_steps < 0:
            raise UsageError(f"--max-steps {self.max_steps}: give 0 (energies alone) or more")

    def parameters(self) -> dict[str, Any]:
        """Return all of it as plain data, for a recipe."""
        own = asdict(self)
        return {
            "optimiser": "FIRE",
            "cell": "logarithm of the deformation",
            "converged": "largest force on an atom or the cell, eV/Å",
            "arithmetic": "float64",
            **own,
        }


@dataclass(frozen=True, eq=False)
class State:
    """Crystals under way; n of them, with s sites in all.

    Attributes:
        own: int64 (n,), which of the crystals each is.
        starts: int64 (n + 1,).
        numbers: int64 (s,).
        lattices: float64 (n, 3, 3), the undeformed cells.
        volumes: float64 (n,), theirs.
        positions: float64 (s, 3), in the undeformed cells, Cartesian.
        logs: float64 (n, 3, 3), logarithm of the deformation times the number of atoms.
        velocities, log_velocities: of these; alike in shape.
        steps: int64 (n,), done so far.
        downhill: int64 (n,), steps since the last turn.
        time_steps, mixings: float64 (n,).
        energies: float64 (n,), of the cells at first; NaN before the first step.
    """

    own: np.ndarray
    starts: np.ndarray
    numbers: np.ndarray
    lattices: np.ndarray
    volumes: np.ndarray
    positions: np.ndarray
    logs: np.ndarray
    velocities: np.ndarray
    log_velocities: np.ndarray
    steps: np.ndarray
    downhill: np.ndarray
    time_steps: np.ndarray
    mixings: np.ndarray
    energies: np.ndarray

    @staticmethod
    def of(
        own: Sequence[int],
        crystals: Sequence[Crystal],
        folded: Sequence[Folded],
        settings: Settings,
    ) -> State:
        """Put crystals at the start, each as what repeats in it; ``own`` says which each is."""
        batch = Batch.of(crystals)
        n = len(crystals)
        starts = np.zeros(n + 1, np.int64)
        np.cumsum([len(f.sites) for f in folded], out=starts[1:])
        none = np.zeros(0, np.int64)
        kept = np.concatenate([none, *(f.sites + batch.starts[i] for i, f in enumerate(folded))])
        lattices = np.array([f.lattice for f in folded]).reshape(-1, 3, 3)
        return State(
            own=np.array(own, np.int64),
            starts=starts,
            numbers=batch.numbers[kept],
            lattices=lattices,
            volumes=np.abs(np.linalg.det(lattices)),
            positions=batch.positions[kept],
            logs=np.zeros((n, 3, 3)),
            velocities=np.zeros((len(kept), 3)),
            log_velocities=np.zeros((n, 3, 3)),
            steps=np.zeros(n, np.int64),
            downhill=np.zeros(n, np.int64),
            time_steps=np.full(n, settings.time_step),
            mixings=np.full(n, settings.mixing),
            energies=np.full(n, np.nan),
        )

    @property
    def sizes(self) -> np.ndarray:
        """Sites of each crystal, int64 (n,)."""
        return np.diff(self.starts)

    @property
    def owners(self) -> np.ndarray:
        """Which crystal each site belongs to, int64 (s,)."""
        return np.repeat(np.arange(len(self.own)), self.sizes)

    def deformations(self) -> np.ndarray:
        """Return the deformation gradients, float64 (n, 3, 3)."""
        return exponentials(self.logs / self.sizes[:, None, None])

    def batch(self, deformations: np.ndarray) -> Batch:
        """Return the crystals as they are now."""
        turned = deformations.transpose(0, 2, 1)
        positions = np.einsum("si,sij->sj", self.positions, turned[self.owners])
        return Batch(self.numbers, positions, self.lattices @ turned, self.starts)

    def keep(self, chosen: np.ndarray) -> State:
        """Return some of the crystals, bool (n,)."""
        sites = chosen[self.owners]
        kept = {
            f.name: getattr(self, f.name)[sites if f.name in _SITES else chosen]
            for f in fields(self)
            if f.name != "starts"
        }
        starts = np.zeros(int(chosen.sum()) + 1, np.int64)
        np.cumsum(self.sizes[chosen], out=starts[1:])
        return State(**kept, starts=starts)

    def joined(self, other: State) -> State:
        """Return these crystals and others after them."""
        both = {
            f.name: np.concatenate([getattr(self, f.name), getattr(other, f.name)])
            for f in fields(self)
        }
        both["starts"] = np.append(self.starts, other.starts[1:] + self.starts[-1])
        return State(**both)


_SITES = frozenset({"numbers", "positions", "velocities"})
_HALVINGS, _TERMS = 6, 16


def generalised_forces(
    state: State, batch: Batch, found: Evaluation, deformations: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the forces on positions (s, 3) and on logarithms of deformations (n, 3, 3)."""
    forces = np.einsum("si,sij->sj", found.forces, deformations[state.owners])
    volumes = np.abs(np.linalg.det(batch.lattices))
    virials = -volumes[:, None, None] * found.stresses
    gradients = virials @ np.linalg.inv(deformations.transpose(0, 2, 1))
    sizes = state.sizes[:, None, None]
    turned = (state.logs / sizes).transpose(0, 2, 1)
    # The derivative of an exponential along a matrix is a block of the exponential of blocks.
    blocks = np.zeros((len(turned), 6, 6))
    blocks[:, :3, :3] = blocks[:, 3:, 3:] = turned
    gradients = np.where(np.isfinite(gradients), gradients, 0.0)
    unit = np.abs(gradients).max(axis=(1, 2), keepdims=True) + np.finfo(float).tiny
    blocks[:, :3, 3:] = gradients / unit
    pulls = exponentials(blocks)[:, :3, 3:] * unit / sizes
    return forces, pulls


def moved(state: State, forces: np.ndarray, pulls: np.ndarray, settings: Settings) -> State:
    """Return the crystals after one step of FIRE."""
    owners, n = state.owners, len(state.own)

    def dot(
        sites: np.ndarray, others: np.ndarray, logs: np.ndarray, more: np.ndarray
    ) -> np.ndarray:
        own = np.einsum("si,si->s", sites, others)
        both: np.ndarray = np.bincount(owners, own, n) + np.einsum("nij,nij->n", logs, more)
        return both

    power = dot(forces, state.velocities, pulls, state.log_velocities)
    squared = dot(forces, forces, pulls, pulls)
    speed = dot(state.velocities, state.velocities, state.log_velocities, state.log_velocities)
    begun = state.steps > 0
    down = begun & (power > 0)
    turn = begun & ~down
    with np.errstate(divide="ignore", invalid="ignore"):
        towards = np.where(down, state.mixings * np.sqrt(speed / squared), 0.0)
    stay = np.where(down, 1.0 - state.mixings, np.where(turn, 0.0, 1.0))
    longer = down & (state.downhill > settings.wait)
    time_steps = np.where(
        longer, np.minimum(state.time_steps * settings.grow, settings.max_time_step),
        np.where(turn, state.time_steps * settings.shrink, state.time_steps),
    )  # fmt: skip
    mixings = np.where(
        longer, state.mixings * settings.mixing_shrink,
        np.where(turn, settings.mixing, state.mixings),
    )  # fmt: skip
    gain = towards + time_steps
    velocities = stay[owners, None] * state.velocities + gain[owners, None] * forces
    log_velocities = stay[:, None, None] * state.log_velocities + gain[:, None, None] * pulls
    length = time_steps * np.sqrt(dot(velocities, velocities, log_velocities, log_velocities))
    with np.errstate(divide="ignore"):
        move = time_steps * np.minimum(1.0, settings.max_move / length)
    return replace(
        state,
        positions=state.positions + move[owners, None] * velocities,
        logs=state.logs + move[:, None, None] * log_velocities,
        velocities=velocities,
        log_velocities=log_velocities,
        steps=state.steps + 1,
        downhill=np.where(down, state.downhill + 1, np.where(turn, 0, state.downhill)),
        time_steps=time_steps,
        mixings=mixings,
    )


def exponentials(matrices: np.ndarray) -> np.ndarray:
    """Return the exponentials of small matrices, float64 (n, k, k), by scaling and squaring.

    The scale is fixed, so that the exponential of one does not depend on the others; it serves for
    entries that add up to 30 in a row, far beyond any deformation here.
    """
    scaled = matrices / 2.0**_HALVINGS
    term = np.broadcast_to(np.eye(matrices.shape[1]), matrices.shape)
    total = term.copy()
    for k in range(1, _TERMS):
        term = term @ scaled / k
        total = total + term
    for _ in range(_HALVINGS):
        total = total @ total
    return total
