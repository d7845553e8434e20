"""The adversarial loop: Wasserstein GAN with gradient penalty, whatever the networks are.

Per iteration, ``critic_steps`` steps of Adam on

    E[D(fake)] - E[D(real)] + lambda E[(|grad D(mixed)| - 1)^2]

(Gulrajani et al. 2017, arXiv:1704.00028), then one step on the generator's own loss. The penalty
may be taken every few critic steps only, with its weight multiplied. Learning rates are constant
for the first half of the iterations and then fall linearly; a running average of the generator is
what is sampled. Everything goes by iteration, nothing by the clock, and every random number comes
from one stream on the CPU, so a training that stops and resumes ends with the same bits at the
same number of threads on one kind of processor. (CUDA adds in no fixed order: there it resumes,
but not bit for bit.)
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any, Protocol, Self

import numpy as np
import torch
from torch import Tensor, nn

from gandb.core.errors import UsageError
from gandb.generators import base
from gandb.generators.networks import from_arrays, repeatable, seeded_weights, to_arrays

CURVES = ("wasserstein", "gradient_penalty")
"""Recorded per iteration, beside the adversary's own monitors: the critic's estimate of the
Wasserstein distance and its mean squared deviation from unit slope (NaN where no penalty was
taken), each a mean over the critic steps."""


class Settings(Protocol):
    """The options that the loop reads; see `gandb.generators.matgan.MatGANConfig`."""

    @property
    def iterations(self) -> int: ...  # noqa: D102
    @property
    def batch_size(self) -> int: ...  # noqa: D102
    @property
    def generator_batch(self) -> int: ...  # noqa: D102
    @property
    def critic_steps(self) -> int: ...  # noqa: D102
    @property
    def penalty(self) -> float: ...  # noqa: D102
    @property
    def penalty_every(self) -> int: ...  # noqa: D102
    @property
    def generator_rate(self) -> float: ...  # noqa: D102
    @property
    def critic_rate(self) -> float: ...  # noqa: D102
    @property
    def beta1(self) -> float: ...  # noqa: D102
    @property
    def beta2(self) -> float: ...  # noqa: D102
    @property
    def averaging(self) -> float: ...  # noqa: D102


class Sampler(Protocol):
    """What an adversary's generator becomes: it gives the checkpoint's bytes."""

    def checkpoint(self) -> bytes: ...  # noqa: D102


class Adversary(Protocol):
    """A generator and a critic, and where their batches come from.

    ``condition`` is a tensor that the real and the generated batch share (classes, say); the
    penalty is on the inputs alone.
    """

    device: torch.device
    generator: nn.Module
    critic: nn.Module
    helper: nn.Module | None
    rows: int
    rejected: dict[str, int]
    monitors: tuple[str, ...]

    def real(self, n: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw n real inputs, (n, ...), and their condition, (n, ...)."""
        ...

    def fake(self, condition: Tensor, rng: torch.Generator) -> Tensor:
        """Draw a generated input for each condition, without gradient."""
        ...

    def auxiliary_loss(self, real: Tensor, condition: Tensor) -> Tensor | None:
        """Return what else the critic's parameters learn from a real batch; None for nothing.

        So a classifier among them never learns from generated inputs, on which the generator could
        agree with it.
        """
        ...

    def generator_loss(self, n: int, rng: torch.Generator) -> tuple[Tensor, list[float]]:
        """Return the generator's loss on n new samples, and a value of each monitor on them."""
        ...

    def snapshot(self, network: nn.Module) -> Sampler:
        """Return the model that samples from a copy of the generator."""
        ...


class AdversarialTraining:
    """A training of an adversary; see `gandb.training.Training`."""

    def __init__(
        self,
        model: str,
        config: Settings,
        make: Callable[[], Adversary],
        digest: str,
        seed: list[int],
        threads: int,
    ) -> None:
        if threads < 1:
            raise UsageError(f"a training needs at least 1 thread, not {threads}")
        self.model = model
        self.config = config
        self.threads = threads
        self.seed = seed
        self.iteration = 0
        self._digest = digest
        with seeded_weights(seed[0]):
            adversary = make()
        self._adversary = adversary
        self.rows = adversary.rows
        self.rejected: Mapping[str, int] = adversary.rejected
        self._average = copy.deepcopy(adversary.generator).requires_grad_(False)
        learned = list(adversary.generator.parameters())
        if adversary.helper is not None:
            learned += adversary.helper.parameters()
        betas = (config.beta1, config.beta2)
        self._optimizers = {
            "generator": torch.optim.Adam(learned, config.generator_rate, betas, fused=True),
            "critic": torch.optim.Adam(
                adversary.critic.parameters(), config.critic_rate, betas, fused=True
            ),
        }
        self._rng = torch.Generator().manual_seed(seed[1])
        self._names = (*CURVES, *adversary.monitors)
        self._curves = np.zeros((len(self._names), 0), np.float32)

    @property
    def total(self) -> int:
        """Iterations in all."""
        return self.config.iterations

    @classmethod
    def start(
        cls,
        model: str,
        config: Settings,
        module: ModuleType,
        data: base.Data,
        seed: np.random.SeedSequence,
        device: str,
        threads: int,
    ) -> Self:
        """Begin; see `gandb.training.start`."""
        words = [int(word) for word in seed.generate_state(2, np.uint64) >> np.uint64(1)]
        make = lambda: module.ADVERSARY(config, data, device)  # noqa: E731
        return cls(model, config, make, data.digest(), words, threads)

    def run(self, iterations: int) -> None:
        """Do that many iterations, or what is left if it is less."""
        steps = max(0, min(iterations, self.total - self.iteration))
        curves = np.zeros((len(self._names), steps), np.float32)
        with repeatable(self.threads, self._adversary.device):
            for step in range(steps):
                curves[:, step] = self._iterate()
                self.iteration += 1
        self._curves = np.concatenate([self._curves, curves], axis=1)

    def _iterate(self) -> list[float]:
        config, adversary = self.config, self._adversary
        factor = min(1.0, 2.0 * (1.0 - self.iteration / config.iterations))
        self._set_rate("generator", config.generator_rate * factor)
        self._set_rate("critic", config.critic_rate * factor)
        adversary.generator.train()
        distances, penalties = [], []
        for step in range(config.critic_steps):
            number = self.iteration * config.critic_steps + step
            distance, penalty = self._critic_step(number % config.penalty_every == 0)
            distances.append(distance)
            penalties += penalty
        loss, monitors = adversary.generator_loss(config.generator_batch, self._rng)
        self._step("generator", loss)
        self._update_average()
        mean_penalty = float(np.mean(penalties)) if penalties else np.nan
        return [float(np.mean(distances)), mean_penalty, *monitors]

    def _critic_step(self, with_penalty: bool) -> tuple[float, list[float]]:
        config, adversary = self.config, self._adversary
        real, condition = adversary.real(config.batch_size, self._rng)
        fake = adversary.fake(condition, self._rng)
        values = adversary.critic(torch.cat([real, fake]), torch.cat([condition, condition]))
        distance = values[: len(real)].mean() - values[len(real) :].mean()
        loss, penalties = -distance, []
        if with_penalty:
            penalty = gradient_penalty(adversary.critic, real, fake, condition, self._rng)
            loss = loss + config.penalty * config.penalty_every * penalty
            penalties.append(float(penalty.detach()))
        auxiliary = adversary.auxiliary_loss(real, condition)
        if auxiliary is not None:
            loss = loss + auxiliary
        self._step("critic", loss)
        return float(distance.detach()), penalties

    def _step(self, which: str, loss: Tensor) -> None:
        optimizer = self._optimizers[which]
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    def _set_rate(self, which: str, rate: float) -> None:
        for group in self._optimizers[which].param_groups:
            group["lr"] = rate

    @torch.no_grad()
    def _update_average(self) -> None:
        source = self._adversary.generator.state_dict()
        for name, mean in self._average.state_dict().items():
            if mean.is_floating_point():
                mean.lerp_(source[name], 1.0 - self.config.averaging)
            else:
                mean.copy_(source[name])

    def curves(self) -> dict[str, np.ndarray]:
        """Return what was recorded per iteration, each float32 (iteration,)."""
        count = np.arange(1, self.iteration + 1)
        return {"iteration": count, **dict(zip(self._names, self._curves, strict=True))}

    def checkpoint(self) -> bytes:
        """Return the averaged generator's canonical bytes."""
        return self._adversary.snapshot(self._average).checkpoint()

    # --- stop and go on --------------------------------------------------------------------

    def _modules(self) -> dict[str, nn.Module]:
        modules = {
            "generator": self._adversary.generator,
            "critic": self._adversary.critic,
            "average": self._average,
        }
        if self._adversary.helper is not None:
            modules["helper"] = self._adversary.helper
        return modules

    def state(self) -> bytes:
        """Return everything that the rest of the training depends on, as safetensors bytes."""
        tensors = {"rng": self._rng.get_state().numpy(), "curves": self._curves}
        for name, module in self._modules().items():
            tensors |= to_arrays(module, f"{name}.")
        for name, optimizer in self._optimizers.items():
            for i, values in optimizer.state_dict()["state"].items():
                for key, value in values.items():
                    tensors[f"optimizer.{name}.{i}.{key}"] = value.detach().cpu().numpy()
        description = {
            "kind": "state",
            "model": self.model,
            "format": base.FORMAT,
            "config": base.config_json(self.config),
            "data": self._digest,
            "seed": self.seed,
            "threads": self.threads,
            "iteration": self.iteration,
        }
        return base.pack(tensors, description)

    @classmethod
    def resume(
        cls,
        state: bytes,
        config_class: Any,
        module: ModuleType,
        data: base.Data,
        device: str,
    ) -> Self:
        """Go on; see `gandb.training.resume`."""
        tensors, description = base.unpack(state)
        config = config_class.of(description["config"])
        training = cls(
            description["model"],
            config,
            lambda: module.ADVERSARY(config, data, device),
            description["data"],
            description["seed"],
            description["threads"],
        )
        training._restore(tensors, description["iteration"])
        return training

    def _restore(self, tensors: Mapping[str, np.ndarray], iteration: int) -> None:
        for name, module in self._modules().items():
            from_arrays(module, tensors, f"{name}.")
        for name, optimizer in self._optimizers.items():
            saved = optimizer.state_dict()
            prefix = f"optimizer.{name}."
            slots: dict[int, dict[str, Tensor]] = {}
            for key in tensors:
                if key.startswith(prefix):
                    i, field = key.removeprefix(prefix).split(".")
                    slots.setdefault(int(i), {})[field] = torch.from_numpy(tensors[key].copy())
            optimizer.load_state_dict({**saved, "state": slots})
        self._rng.set_state(torch.from_numpy(tensors["rng"].copy()))
        self._curves = tensors["curves"].copy()
        self.iteration = iteration


def gradient_penalty(
    critic: nn.Module, real: Tensor, fake: Tensor, condition: Tensor, rng: torch.Generator
) -> Tensor:
    """Return the mean of (|grad D| - 1)^2 at random points between real and generated inputs.

    Args:
        critic: D, of inputs (n, ...) and a condition (n, ...).
        real: (n, ...).
        fake: (n, ...).
        condition: (n, ...), common to both.
        rng: where the points' places, uniform from 0 to 1, come from; on the CPU.
    """
    place = torch.rand((len(real),) + (1,) * (real.dim() - 1), generator=rng).to(real)
    mixed = torch.lerp(fake, real, place).requires_grad_()
    values = critic(mixed, condition).sum()
    (slope,) = torch.autograd.grad(values, mixed, create_graph=True)
    penalty: Tensor = ((slope.flatten(1).norm(dim=1) - 1.0) ** 2).mean()
    return penalty
