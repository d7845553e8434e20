"""Training stops anywhere and goes on bit for bit; it refuses to go on with something else."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from gandb import generators, training
from gandb.core.compositions import CompositionBatch
from gandb.core.errors import InputError, JobError, UsageError
from gandb.generators import TrainingData
from gandb.generators.base import read_description
from gandb.training.adversarial import gradient_penalty

OPTIONS = {"iterations": 40, "width": 24, "critic_width": 32, "charges": 8, "batch_size": 32}
PAPER = {"preset": "paper", "iterations": 40, "width": 16, "critic_width": 16, "batch_size": 8,
         "generator_batch": 8}  # fmt: skip
ROWS = [{"Na": 1, "Cl": 1}, {"Fe": 2, "O": 3}, {"Ti": 1, "O": 2}, {"Ga": 1, "As": 1}]


@pytest.fixture
def data() -> TrainingData:
    return TrainingData(
        CompositionBatch.from_dicts(ROWS), np.array([5.0, 2.0, 3.0, 1.4]), "band_gap"
    )


def begin(data: TrainingData, seed: int = 3, **options: object) -> training.Training:
    return training.start("matgan", {**OPTIONS, **options}, data, np.random.SeedSequence(seed))


@pytest.mark.parametrize(
    "options",
    [{}, {"condition": {"property": "band_gap", "edges": [2.5]}}, PAPER],
    ids=["compact", "conditional", "paper"],
)
def test_stopping_and_going_on_changes_no_bit(
    options: dict[str, object], data: TrainingData
) -> None:
    straight = begin(data, **options)
    straight.run(40)
    stopped = begin(data, **options)
    for part in (7, 13):
        stopped.run(part)
        stopped = training.resume(stopped.state(), data)
    assert stopped.iteration == 20
    stopped.run(1000)
    assert stopped.iteration == stopped.total == 40
    assert stopped.state() == straight.state()
    assert stopped.checkpoint() == straight.checkpoint()
    for name, curve in straight.curves().items():
        np.testing.assert_array_equal(stopped.curves()[name], curve)


def test_training_depends_on_the_seed_and_nothing_around_it(data: TrainingData) -> None:
    first = begin(data)
    first.run(5)
    torch.manual_seed(99)
    second = begin(data)
    torch.rand(3)
    second.run(5)
    other = begin(data, seed=4)
    other.run(5)
    assert first.state() == second.state()
    assert first.checkpoint() != other.checkpoint()


def test_starting_leaves_torch_as_it_was(data: TrainingData) -> None:
    torch.manual_seed(7)
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    begin(data).run(2)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_num_threads() == threads


def test_curves_have_a_value_per_iteration(data: TrainingData) -> None:
    run = begin(data)
    run.run(12)
    curves = run.curves()
    assert curves["iteration"].tolist() == list(range(1, 13))
    expected = {
        "iteration",
        "wasserstein",
        "gradient_penalty",
        "uniqueness",
        "n_elements",
        "n_atoms",
    }
    assert set(curves) == expected
    for name in expected:
        assert curves[name].shape == (12,)
        assert np.isfinite(curves[name]).all()
    assert ((curves["uniqueness"] > 0) & (curves["uniqueness"] <= 1)).all()


def test_the_state_says_what_it_is_and_is_no_checkpoint(data: TrainingData) -> None:
    run = begin(data)
    run.run(2)
    description = read_description(run.state())
    assert description["kind"] == "state"
    assert description["iteration"] == 2
    assert description["threads"] == 1
    assert description["data"] == data.digest()
    with pytest.raises(InputError, match="training state"):
        generators.load(run.state())
    with pytest.raises(JobError, match="not a training state"):
        training.resume(run.checkpoint(), data)


def test_going_on_with_something_else_is_refused(data: TrainingData) -> None:
    run = begin(data)
    run.run(2)
    state = run.state()
    other = TrainingData(data.compositions, data.values, "gap")
    with pytest.raises(JobError, match="other data"):
        training.resume(state, other)
    changed = TrainingData(data.compositions, data.values + 1e-9, "band_gap")
    with pytest.raises(JobError, match="other data"):
        training.resume(state, changed)
    with pytest.raises(JobError, match="iterations"):
        training.resume(state, data, options={**OPTIONS, "iterations": 41})
    with pytest.raises(JobError, match="1 threads, not 2"):
        training.resume(state, data, threads=2)
    assert training.resume(state, data, threads=1, options=OPTIONS).iteration == 2
    for damaged in (b"", state[:100], state[:-50]):
        with pytest.raises(InputError):
            training.resume(damaged, data)


def test_threads_are_recorded_and_kept(data: TrainingData) -> None:
    with pytest.raises(UsageError, match="at least 1 thread"):
        training.start("matgan", OPTIONS, data, np.random.SeedSequence(0), threads=0)
    run = training.start("matgan", OPTIONS, data, np.random.SeedSequence(0), threads=2)
    run.run(3)
    assert read_description(run.state())["threads"] == 2
    on = training.resume(run.state(), data)
    on.run(3)
    run.run(3)
    assert on.state() == run.state()


class Plane(nn.Module):
    """D(x) = w . x, whose slope has the length of w everywhere."""

    def __init__(self, weights: list[float]) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.tensor(weights))

    def forward(self, x: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        return x @ self.weights


def test_gradient_penalty_of_a_plane_is_known() -> None:
    rng = torch.Generator().manual_seed(0)
    real, fake = torch.rand(6, 2, generator=rng), torch.rand(6, 2, generator=rng)
    critic = Plane([3.0, 4.0])
    penalty = gradient_penalty(critic, real, fake, torch.zeros(6), rng)
    assert float(penalty.detach()) == pytest.approx((5.0 - 1.0) ** 2)
    assert critic.weights.grad is None
    penalty.backward()  # d/dw (|w| - 1)^2 = 2 (|w| - 1) w / |w|
    assert critic.weights.grad is not None
    assert critic.weights.grad.tolist() == pytest.approx([2 * 4 * 0.6, 2 * 4 * 0.8])
