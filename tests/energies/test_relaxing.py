"""Relaxation against ASE's own, and against itself in other company and cut in two."""

from __future__ import annotations

import contextlib
import io
import warnings
from dataclasses import fields, replace
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.calculator import Calculator
from ase.filters import FrechetCellFilter
from ase.optimize import FIRE
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.analysis.structure_matcher import StructureMatcher
from scipy.linalg import expm

from gandb.core.crystals import Crystal, crystal
from gandb.core.errors import IntegrityError, UsageError
from gandb.energies.fire import Settings, exponentials
from gandb.energies.potentials import Batch, Evaluation, load
from gandb.energies.relaxing import Relaxation, Relaxed, displacement, relax
from gandb.representations.ase_atoms import to_atoms
from gandb.representations.pymatgen_structures import to_structure
from tests.energies.boxes import shaken
from tests.energies.springs import Springs

QUICK = Settings(max_force=0.02, max_steps=80)


class Asked(Calculator):
    """The springs as ASE asks for them."""

    implemented_properties = ["energy", "forces", "stress"]  # noqa: RUF012

    def calculate(
        self, atoms: Any = None, properties: Any = None, system_changes: Any = None
    ) -> None:
        super().calculate(atoms, properties, system_changes)
        batch = Batch(
            np.array(atoms.numbers, np.int64),
            np.array(atoms.positions),
            np.array(atoms.cell)[None],
            np.array([0, len(atoms)]),
        )
        found = Springs().evaluate(batch)
        self.results = {
            "energy": found.energies[0],
            "forces": found.forces,
            "stress": found.stresses[0],
        }


def by_ase(record: Crystal, wanted: Settings) -> tuple[Atoms, int]:
    """Relax as ASE does; return the end and the number of steps."""
    atoms = to_atoms(record)
    atoms.calc = Asked()
    optimiser = FIRE(FrechetCellFilter(atoms), logfile=None)
    optimiser.run(fmax=wanted.max_force, steps=wanted.max_steps)
    return atoms, optimiser.nsteps


def same(one: Relaxed, other: Relaxed) -> bool:
    """Whether two results are equal to the last bit."""
    names = [f.name for f in fields(Relaxed) if f.name not in ("crystal", "forces")]
    if any(getattr(one, name) != getattr(other, name) for name in names):
        return False
    if (one.crystal is None) != (other.crystal is None):
        return False
    if one.crystal is None or other.crystal is None:
        return True
    assert one.forces is not None
    assert other.forces is not None
    return one.crystal.id == other.crystal.id and np.array_equal(one.forces, other.forces)


def test_paths_are_those_of_ase() -> None:
    crystals = shaken(5)
    short = replace(QUICK, max_steps=40)
    for record, result in zip(crystals, relax(Springs(), crystals, short), strict=True):
        atoms, steps = by_ase(record, short)
        assert result.crystal is not None
        assert result.error is None
        assert result.n_steps == steps
        assert result.converged == (result.n_steps < 40)
        energy = atoms.get_potential_energy() / len(atoms)
        assert result.energy_per_atom == pytest.approx(energy, abs=1e-9)
        assert result.crystal.volume == pytest.approx(atoms.cell.volume, rel=1e-7)
        assert result.volume_change == pytest.approx(
            atoms.cell.volume / record.volume - 1, abs=1e-7
        )
        largest = np.linalg.norm(atoms.get_forces(), axis=1).max()
        assert result.max_force == pytest.approx(largest, abs=1e-8)
        assert result.crystal.species == record.species


def test_forces_are_those_on_the_relaxed_crystals_sites() -> None:
    for result in relax(Springs(), shaken(5, seed=2), Settings(max_force=0.3)):
        assert result.crystal is not None
        assert result.forces is not None
        again = Springs().evaluate(Batch.of([result.crystal]))
        assert result.forces == pytest.approx(again.forces, abs=1e-5)
        assert again.energies[0] / len(result.crystal) == pytest.approx(result.energy_per_atom)
        norms = np.linalg.norm(result.forces, axis=1)
        assert norms.max() == pytest.approx(result.max_force)


def test_company_makes_no_difference() -> None:
    crystals = shaken(9, seed=4)
    together = relax(Springs(), crystals, QUICK)
    for record, result in zip(crystals, together, strict=True):
        assert same(relax(Springs(), [record], QUICK)[0], result)
    few = Relaxation(crystals, QUICK, max_atoms=6)
    while not few.done:
        few.step(Springs())
    assert all(same(few.results[i], together[i]) for i in range(9))


@settings(max_examples=12)
@given(cuts=st.lists(st.integers(0, 60), max_size=3, unique=True))
def test_a_relaxation_goes_on_from_where_it_was_cut(cuts: list[int]) -> None:
    crystals = [*shaken(4, seed=6), crystal([9, 9, 9], [90] * 3, ["Na"], [[0, 0, 0]])]
    short = replace(QUICK, max_steps=25)
    whole = relax(Springs(), crystals, short)
    work, steps = Relaxation(crystals, short, max_atoms=7), 0
    while not work.done:
        if steps in cuts:
            held = work.to_bytes("these")
            work = Relaxation(crystals, short, max_atoms=7)
            work.restore(held, "these")
        work.step(Springs())
        steps += 1
    assert all(same(work.results[i], whole[i]) for i in range(5))


def test_no_others_are_taken_for_them() -> None:
    held = Relaxation(shaken(2), QUICK).to_bytes("these")
    with pytest.raises(IntegrityError, match="of other crystals"):
        Relaxation(shaken(2), QUICK).restore(held, "those")


class Failing(Springs):
    """Gives no numbers for the first crystal when it is asked for the fourth time."""

    def __init__(self) -> None:
        self.calls = 0

    def evaluate(self, batch: Batch) -> Evaluation:
        found = super().evaluate(batch)
        self.calls += 1
        if self.calls == 4:
            errors = list(found.errors)
            errors[0] = "no numbers"
            found.energies[0] = np.nan
            return replace(found, errors=tuple(errors))
        return found


class Bursting(Springs):
    """Pushes apart whatever it is given."""

    def evaluate(self, batch: Batch) -> Evaluation:
        found = super().evaluate(batch)
        return replace(found, stresses=np.tile(-0.5 * np.eye(3), (len(batch), 1, 1)))


def test_failures_are_of_one_crystal_alone() -> None:
    good = shaken(3, seed=8)
    lonely = crystal([20, 20, 20], [90] * 3, ["Na"], [[0, 0, 0]])
    disordered = crystal([4, 4, 4], [90] * 3, ["Na:0.5 K:0.5"], [[0, 0, 0]])
    strange = crystal([4, 4, 4], [90] * 3, ["U"], [[0, 0, 0]])
    crystals = [good[0], lonely, disordered, good[1], strange, good[2]]
    found = relax(Springs(), crystals, replace(QUICK, max_sites=4))
    assert [r.error for r in found] == [
        None,
        "an atom has no neighbour within 6 Å",
        "it is disordered",
        None,
        "springs does not know U",
        "it has 5 sites, more than 4",
    ]
    for place, record in ((0, good[0]), (3, good[1])):
        assert same(found[place], relax(Springs(), [record], QUICK)[0])
    assert all(r.crystal is None and r.energy_per_atom is None for r in found if r.error)


def test_what_fails_on_the_way_keeps_how_far_it_came() -> None:
    first, second = relax(Failing(), shaken(2), QUICK)
    assert (first.error, first.n_steps, first.crystal) == ("no numbers", 3, None)
    assert first.initial_energy_per_atom is not None
    assert second.error is None


def test_a_cell_that_bursts_is_an_error() -> None:
    (found,) = relax(Bursting(), shaken(1), replace(QUICK, volume_factor=1.5))
    assert found.error == "the cell grew to more than 1.5 times its volume"


def test_no_steps_give_energies_alone() -> None:
    (record,) = shaken(1)
    (found,) = relax(Springs(), [record], replace(QUICK, max_steps=0))
    assert found.n_steps == 0
    assert found.crystal == record
    assert found.energy_per_atom == found.initial_energy_per_atom
    assert not found.converged


def test_displacements_are_pymatgens() -> None:
    crystals = shaken(8, seed=9)
    matcher = StructureMatcher(0.5, 0.5, 10, primitive_cell=False, scale=False)
    for record, result in zip(crystals, relax(Springs(), crystals, QUICK), strict=True):
        assert result.crystal is not None
        theirs = matcher.get_rms_dist(to_structure(record), to_structure(result.crystal))
        if theirs is None:
            assert result.rmsd is None
            continue
        assert result.rmsd is not None
        edge = (record.volume * result.crystal.volume) ** (1 / 6) / len(record) ** (1 / 3)
        assert result.rmsd == pytest.approx(theirs[0] * edge, rel=0.02, abs=1e-6)
    assert displacement(crystals[0], crystals[1]) is None


def test_exponentials_are_scipys() -> None:
    rng = np.random.default_rng(0)
    matrices = rng.normal(0, 0.7, (20, 6, 6))
    for matrix, found in zip(matrices, exponentials(matrices), strict=True):
        assert found == pytest.approx(expm(matrix), rel=1e-10, abs=1e-10)


def test_bounds_that_cannot_be_are_refused() -> None:
    with pytest.raises(UsageError, match="--max-force 0 eV/Å"):
        Settings(max_force=0.0)
    with pytest.raises(UsageError, match="--max-steps -1"):
        Settings(max_steps=-1)


@pytest.mark.slow
@pytest.mark.skipif(find_spec("chgnet") is None, reason="chgnet is not installed")
def test_chgnet_relaxes_as_its_own_relaxer_does() -> None:
    crystals = shaken(4, seed=12)
    found = relax(load("chgnet"), crystals, Settings(max_force=0.05, max_steps=200))
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        from chgnet.model.dynamics import StructOptimizer

        relaxer = StructOptimizer(use_device="cpu")
        for record, result in zip(crystals, found, strict=True):
            theirs = relaxer.relax(to_structure(record), fmax=0.05, steps=200, verbose=False)
            energy = theirs["trajectory"].energies[-1] / len(record)
            assert result.energy_per_atom == pytest.approx(energy, abs=2e-3)
