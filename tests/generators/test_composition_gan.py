"""The composition-conditioned GAN: what its critic must not see, its losses, what is asked."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from gandb import generators, training  # noqa: E402
from gandb.core.crystals import Crystal, crystal  # noqa: E402
from gandb.core.errors import InputError, JobError, UsageError  # noqa: E402
from gandb.generators import StructureData, StructureSamples  # noqa: E402
from gandb.generators.base import unpack  # noqa: E402
from gandb.generators.composition_gan import (  # noqa: E402
    BATCH,
    CompositionGAN,
    CompositionGANAdversary,
)
from gandb.generators.composition_gan_distances import overlap  # noqa: E402
from gandb.generators.composition_gan_networks import find_neighbours, metric  # noqa: E402
from gandb.generators.composition_gan_options import CompositionGANConfig  # noqa: E402
from gandb.representations import point_cloud  # noqa: E402
from gandb.representations.point_cloud import MG_MN_O  # noqa: E402
from tests.real_crystals import real_crystals  # noqa: E402
from tests.shared_data import real  # noqa: E402

NAME = "composition_gan"
SMALL = {
    "width": 16,
    "critic_width": 16,
    "rounds": 1,
    "critic_rounds": 1,
    "batch_size": 8,
    "generator_batch": 8,
}


def perovskite(a: str, b: str, length: float) -> Crystal:
    coords = [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]
    return crystal([length] * 3, [90] * 3, [a, b, "O", "O", "O"], coords)


def delafossite(a: str, b: str, length: float) -> Crystal:
    coords = [[0, 0, 0], [0.5, 0.5, 0.5], [0.11, 0.11, 0.11], [0.89, 0.89, 0.89]]
    return crystal([length] * 3, [40] * 3, [a, b, "O", "O"], coords)


CRYSTALS = (
    perovskite("Mg", "Mn", 3.8),
    perovskite("Mn", "Mg", 3.9),
    delafossite("Mg", "Mn", 5.6),
    crystal([4.2] * 3, [60] * 3, ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]]),
)


def start(crystals: Sequence[Crystal] = CRYSTALS, **options: Any) -> training.Training:
    data = StructureData.of(crystals)
    chosen = {**SMALL, "iterations": 4, **options}
    return training.start(NAME, chosen, data, np.random.SeedSequence(5))


def fit(crystals: Sequence[Crystal] = CRYSTALS, **options: Any) -> CompositionGAN:
    run = start(crystals, **options)
    run.run(run.total)
    found = generators.load(run.checkpoint())
    assert isinstance(found, CompositionGAN)
    return found


def adversary(crystals: Sequence[Crystal] = CRYSTALS, **options: Any) -> CompositionGANAdversary:
    config = CompositionGANConfig.of({**SMALL, **options})
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return CompositionGANAdversary(config, StructureData.of(crystals), "cpu")


def stream(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# --- critic ------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", ["compact", "paper"])
def test_the_critic_sees_no_order_within_an_element(preset: str) -> None:
    game = adversary(preset=preset, form="Mg-Mn-O", slot_permutations=False)
    critic = game.critic.double()
    x, counts = game.real(16, stream())
    x, counts = x.double(), counts.double()
    before = critic(x, counts)
    assert before.std() > 0
    mixed = x.clone()
    rng = np.random.default_rng(0)
    for row in range(len(x)):
        order = np.concatenate(
            [[0, 1], *(2 + block.start + rng.permutation(block.stop - block.start)
                       for block in MG_MN_O.blocks)]
        )  # fmt: skip
        mixed[row] = x[row, order]
    assert (mixed != x).any()
    torch.testing.assert_close(critic(mixed, counts), before)
    # An atom of another element in the same place is something else.
    swapped = x.clone()
    swapped[:, 2:10], swapped[:, 10:18] = x[:, 10:18], x[:, 2:10]
    assert not torch.allclose(critic(swapped, counts), before)


def test_the_compact_critic_sees_no_origin_and_no_whole_cells() -> None:
    game = adversary()
    critic = game.critic.double()
    x, counts = game.real(16, stream())
    x, counts = x.double(), counts.double()
    before = critic(x, counts)
    rng = torch.Generator().manual_seed(3)
    moved = x.clone()
    moved[:, 2:, :3] += torch.rand((16, 1, 3), generator=rng, dtype=torch.float64)
    moved[:, 2:, :3] += torch.randint(-2, 3, moved[:, 2:, :3].shape, generator=rng)
    torch.testing.assert_close(critic(moved, counts), before)
    other = x.clone()
    other[:, 2, :3] += 0.05
    assert not torch.allclose(critic(other, counts), before)


@real
def test_neighbours_are_those_that_pymatgen_finds() -> None:
    from pymatgen.core import Lattice, Structure

    chosen = [own for own in real_crystals() if own.ordered and 2 <= len(own) <= 12]
    chosen = [own for own in chosen if (np.abs(own.angles - 90) < 31).all()][:25]
    assert len(chosen) > 15
    for own in chosen:
        cutoff = min(3.6, 0.9 * float(own.lengths.min()))
        lengths, cosines = (
            torch.from_numpy(v[None].copy()) for v in (own.lengths, np.cos(np.radians(own.angles)))
        )
        coords = torch.from_numpy(own.frac_coords[None].copy())
        metrics = metric(lengths, cosines)
        pairs = find_neighbours(coords, metrics, torch.ones((1, len(own)), dtype=bool), cutoff)
        vectors, distances = pairs.vectors(coords, metrics)
        lattice = Lattice.from_parameters(*own.lengths, *own.angles)
        theirs = Structure(lattice, list(own.species), own.frac_coords).get_neighbor_list(cutoff)
        found = np.array(sorted(zip(pairs.atom, pairs.other, distances.numpy(), strict=True)))
        expected = np.array(sorted(zip(theirs[0], theirs[1], theirs[3], strict=True)))
        np.testing.assert_allclose(found, expected, atol=1e-6)
        np.testing.assert_allclose(
            np.linalg.norm(vectors.numpy() @ own.lattice, axis=1), distances, atol=1e-6
        )


# --- losses ------------------------------------------------------------------------------


def test_overlap_is_the_sum_over_pairs_that_are_too_near() -> None:
    game = adversary(form="Mg-Mn-O", distance_quantile=0.0)
    x, _ = game.real(30, stream())
    shape = game.generator.geometry(x)
    assert float(overlap(shape, game.generator.slots.owner, game.least).max()) < 1e-9
    # An atom of magnesium 0.5 Å from one of oxygen; all other pairs stay far enough away.
    own = crystal([9] * 3, [90] * 3, ["Mg", "Mn", "O"], [[0, 0, 0], [0.5] * 3, [0.5 / 9, 0, 0]])
    clouds = point_cloud.encode([own], MG_MN_O).clouds
    shape = game.generator.geometry(game.generator.encode(clouds))
    least = float(game.least[0, 2])
    assert least == pytest.approx(5.6 * 0.3032, abs=0.01)
    expected = 2 * ((least - 0.5) / least) ** 2 / 3
    found = overlap(shape, game.generator.slots.owner, game.least)
    assert float(found) == pytest.approx(expected, rel=1e-4)
    # In a cell that is shorter than that, an atom overlaps with its own images.
    thin = crystal([1.0, 9, 9], [90] * 3, ["Mg", "Mn", "O"], [[0] * 3, [0, 0.5, 0.5], [0, 0.5, 0]])
    shape = game.generator.geometry(
        game.generator.encode(point_cloud.encode([thin], MG_MN_O).clouds)
    )
    assert float(overlap(shape, game.generator.slots.owner, game.least)) > 0.5


def test_the_overlap_has_a_gradient_that_parts_atoms() -> None:
    game = adversary(form="Mg-Mn-O")
    own = crystal([9] * 3, [90] * 3, ["Mg", "Mn", "O"], [[0, 0, 0], [0.5] * 3, [0.1, 0, 0]])
    x = game.generator.encode(point_cloud.encode([own], MG_MN_O).clouds).requires_grad_()
    overlap(game.generator.geometry(x), game.generator.slots.owner, game.least).sum().backward()
    gradient = x.grad[0, 2:, 0]
    assert gradient[0] > 0  # magnesium at 0 is to go left,
    assert gradient[16] < 0  # oxygen at 0.1 right


@pytest.mark.parametrize("preset", ["compact", "paper"])
def test_cross_entropies_are_of_logits(preset: str) -> None:
    """With all weights 0 each head is undecided, and a decided one reaches a loss of almost 0.

    A softmax before the cross entropy's own could not come below log(1 + n / e).
    """
    game = adversary(preset=preset, form="Mg-Mn-O")
    x, counts = game.real(8, stream())
    classifier = game.critic.classifier
    with torch.no_grad():
        for weight in classifier.parameters():
            weight.zero_()
    present = x[:, 2:].sum(dim=2) > 0.4
    with torch.no_grad():
        slots, times = classifier.losses(x, counts, present)
    assert float(times) == pytest.approx(sum(math.log(n + 1) for n in MG_MN_O.slots))
    same = counts[:1].expand_as(counts)
    with torch.no_grad():
        if preset == "paper":
            assert float(slots) == pytest.approx(3 * math.log(2))
            for e, head in enumerate(classifier.count):
                head.bias[int(same[0, e])] = 30.0
            assert float(classifier.losses(x, same, present)[1]) < 1e-6
        else:
            assert slots is None
            for centres in classifier.centres:
                centres.copy_(torch.arange(float(len(centres))))
            classifier.scales.fill_(30.0)
            assert float(classifier.losses(x, counts, present)[1]) < 1e-6


@pytest.mark.parametrize("preset", ["compact", "paper"])
def test_the_classifier_learns_from_real_crystals_alone(preset: str) -> None:
    game = adversary(preset=preset)
    real_batch, counts = game.real(8, stream())
    loss = game.auxiliary_loss(real_batch, counts)
    assert loss is not None
    loss.backward()
    own = list(game.critic.classifier.parameters())
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in own)
    assert all(p.grad is None for p in game.generator.parameters())
    # The generator learns to be told right: its loss reaches its own weights through the heads.
    game.critic.zero_grad()
    loss, monitors = game.generator_loss(8, stream())
    loss.backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in game.generator.parameters())
    assert len(monitors) == len(game.monitors)
    silent = adversary(preset=preset, count_weight=0.0, slot_weight=0.0)
    assert silent.auxiliary_loss(*silent.real(8, stream())) is None


# --- real batches ------------------------------------------------------------------------


@pytest.mark.parametrize("preset", ["compact", "paper"])
def test_real_batches_are_training_crystals_in_other_words(preset: str) -> None:
    game = adversary(preset=preset, supercells=True, balanced=True, slot_permutations=True)
    x, counts = game.real(64, stream())
    shape = game.generator.geometry(x)
    made = shape.present.float() @ game.generator.slots.sums
    torch.testing.assert_close(made, counts)
    volumes = torch.linalg.det(metric(shape.lengths, shape.cosines)).sqrt() / counts.sum(dim=1)
    known = {round(own.volume / len(own), 2) for own in CRYSTALS}
    assert {round(float(v), 2) for v in volumes} <= {v + d / 100 for v in known for d in (-1, 0, 1)}
    assert float(overlap(shape, game.generator.slots.owner, 0.9 * game.least).max()) == 0.0


def test_balanced_draws_compositions_alike_and_supercells_are_real_too() -> None:
    many = [CRYSTALS[3], *(perovskite("Mg", "Mn", 3.8 + 0.01 * i) for i in range(30))]
    form = {"elements": ["Mg", "Mn", "O"], "slots": [2, 2, 6]}

    def share(**options: Any) -> float:
        _, counts = adversary(many, form=form, **options).real(600, stream())
        return float((counts.sum(dim=1) == 2).float().mean())

    assert share() < 0.1
    assert share(balanced=True) == pytest.approx(0.5, abs=0.08)
    _, counts = adversary(many, form=form, supercells=True).real(600, stream())
    assert set(counts.sum(dim=1).tolist()) == {2.0, 4.0, 5.0, 10.0}


def test_what_the_form_has_no_place_for_is_left_out_and_counted() -> None:
    others = [
        *CRYSTALS,
        perovskite("Ca", "Mn", 3.9),
        crystal([40, 4, 4], [90] * 3, ["O"], [[0] * 3]),
    ]
    run = start(others, form="Mg-Mn-O")
    assert run.rows == 3
    assert run.rejected == {"element_outside_system": 1, "element_missing": 2}
    with pytest.raises(InputError, match="element_outside_system"):
        start([perovskite("Ca", "Mn", 3.9)], form="Mg-Mn-O")
    mixed = crystal([4.0] * 3, [90] * 3, ["Fe:0.5 Ni:0.5"], [[0, 0, 0]])
    with pytest.raises(InputError, match="ordered"):
        start([mixed])
    huge = crystal([9] * 3, [90] * 3, ["Mg"] * 300, np.random.default_rng(0).random((300, 3)))
    with pytest.raises(UsageError, match="slots"):
        start([huge])


# --- training and sampling ---------------------------------------------------------------


@pytest.mark.parametrize("preset", ["compact", "paper"])
def test_a_training_that_stops_goes_on_bit_for_bit(preset: str) -> None:
    whole = start(preset=preset)
    whole.run(4)
    part = start(preset=preset)
    part.run(2)
    data = StructureData.of(CRYSTALS)
    rest = training.resume(part.state(), data)
    rest.run(2)
    assert rest.checkpoint() == whole.checkpoint()
    curves = whole.curves()
    assert {"composition_obtained", "no_overlap"} <= curves.keys()
    assert np.isfinite(curves["wasserstein"]).all()
    with pytest.raises(JobError, match="other data"):
        training.resume(part.state(), StructureData.of(CRYSTALS[:2]))


@pytest.mark.parametrize("preset", ["compact", "paper"])
def test_samples_depend_on_the_seed_alone_and_checkpoints_are_canonical(preset: str) -> None:
    model = fit(preset=preset)
    checkpoint = model.checkpoint()
    again = generators.load(checkpoint)
    assert isinstance(again, CompositionGAN)
    assert again.checkpoint() == checkpoint
    n = BATCH + 10
    one, two = (m.sample(n, np.random.SeedSequence(3)) for m in (model, again))
    other = model.sample(n, np.random.SeedSequence(4))
    assert isinstance(one, StructureSamples)
    assert list(one.crystals) == list(two.crystals)
    assert list(one.crystals) != list(other.crystals)
    assert set(one.formulas) == {"MgMnO3", "MgMnO2", "MgO"}
    assert sum(one.rejected().values()) == sum(own is None for own in one.crystals)
    assert not one.space_groups.any()


def test_short_training_learns_to_give_what_is_asked_for() -> None:
    model = fit(
        iterations=60, generator_rate=5e-3, averaging=0.5, width=32, generator_count_weight=3.0
    )
    for formula in ("MgMnO3", "MgMnO2", "MgO"):
        samples = model.sample(100, np.random.SeedSequence(1), {"composition": formula})
        obtained = [
            own is not None and _counts(own) == _parsed(formula) for own in samples.crystals
        ]
        assert np.mean(obtained) >= 0.8
        assert set(samples.formulas) == {formula}
    assert len({own.id for own in samples.crystals if own}) == 100


def _counts(own: Crystal) -> dict[str, int]:
    return own.counts()


def _parsed(formula: str) -> dict[str, int]:
    from gandb.core.formula import parse_formula

    return parse_formula(formula)


def test_conditions() -> None:
    model = fit()
    samples = model.sample(20, np.random.SeedSequence(0), {"elements": ["O", "Mg"]})
    assert set(samples.formulas) == {"MgO"}
    with pytest.raises(UsageError, match="does not fit"):
        model.sample(1, np.random.SeedSequence(0), {"composition": "Mg9O9"})
    with pytest.raises(UsageError, match="Ca"):
        model.sample(1, np.random.SeedSequence(0), {"composition": "CaO"})
    with pytest.raises(UsageError, match="just these elements"):
        model.sample(1, np.random.SeedSequence(0), {"elements": ["Mn", "O"]})
    with pytest.raises(UsageError, match="space_group"):
        model.sample(1, np.random.SeedSequence(0), {"space_group": 225})
    # A composition that no training crystal has can be asked for.
    samples = model.sample(3, np.random.SeedSequence(0), {"composition": "MnO"})
    assert set(samples.formulas) == {"MnO"}
    whole = fit(form="Mg-Mn-O")
    with pytest.raises(UsageError, match="all of"):
        whole.sample(1, np.random.SeedSequence(0), {"composition": "MgO"})


@pytest.mark.parametrize(
    "options",
    [
        {"preset": "large"},
        {"form": "Li-O"},
        {"form": ["Mg"]},
        {"form": {"elements": ["Mg"]}},
        {"form": {"elements": ["Mg", "Xx"], "slots": [1, 1]}},
        {"form": {"elements": ["Mg"], "slots": [1.5]}},
        {"form": {"elements": ["Mg"], "slots": [0]}},
        {"form": {"elements": ["Mg"], "slots": [1], "all_elements": 1}},
        {"form": {"elements": ["Mg"], "slots": [1], "other": 1}},
        {"iterations": 0},
        {"generator_rate": 0.0},
        {"averaging": 1.0},
        {"distance_weight": -1.0},
        {"slot_weight": 1.0},
        {"distance_quantile": 1.0},
        {"unknown": 1},
    ],
)
def test_options_that_cannot_be_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        CompositionGANConfig.of(options)


def test_damaged_checkpoints_are_refused() -> None:
    tensors, description = unpack(fit().checkpoint())
    for name, value in (
        ("form.atomic_numbers", np.array([12, 250, 8])),
        ("form.slots", np.array([1, 1])),
        ("compositions", tensors["compositions"] + 50),
        ("times", tensors["times"][1:]),
        ("generator.cell.0.weight", tensors["generator.cell.0.weight"][1:]),
    ):
        with pytest.raises(InputError):
            CompositionGAN.restore({**tensors, name: value}, description, "cpu")


def test_rows_that_are_no_crystal_are_counted() -> None:
    model = fit()
    with torch.no_grad():
        model.network.presence[-1].bias.fill_(-100.0)
    samples = replace(model).sample(10, np.random.SeedSequence(0))
    assert samples.rejected() == {"no_atoms": 10}
    assert list(samples.crystals) == [None] * 10
