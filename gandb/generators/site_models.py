"""What CubicGAN and PGCGM have in common as models: sampling, checkpoints, adversaries.

A network answers a space group and k elements with k coordinates and scaled logarithms of lengths;
`SiteModel` draws what to ask and makes crystals of the answers, `SiteAdversary` sets it against a
critic.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn

from gandb.core.crystals import SAME_PLACE
from gandb.core.errors import UsageError
from gandb.core.radii import COVALENT_RADIUS
from gandb.generators import base
from gandb.generators.base_sites import COORDINATES, BaseSites, Combinations, Maker, select
from gandb.generators.networks import (
    from_arrays,
    open_device,
    repeatable,
    seeded_weights,
    to_arrays,
)
from gandb.generators.site_distances import SymmetryImages
from gandb.generators.site_networks import Drawn, SiteNetwork, place_inputs
from gandb.generators.structures import (
    COMPOSITION,
    ELEMENTS,
    SPACE_GROUP,
    StructureData,
    StructureSamples,
    read_condition,
)
from gandb.generators.wyckoff_networks import Choices, Expectation, WyckoffGenerator

_PART = 256

Around = tuple[Tensor, Tensor]
"""What `SymmetryImages.surroundings` gives."""

BATCH = 1024
"""Samples that a network draws at a time; fixed, since sums depend on it in the last bit."""

_RADII = torch.from_numpy(np.nan_to_num(COVALENT_RADIUS, nan=1.5).astype(np.float32))


@dataclass(frozen=True)
class SiteModel(ABC):
    """A trained generator of crystals by base sites.

    Attributes:
        options: its configuration.
        network: the generator's network, on ``device``.
        combinations: space groups and elements of the training crystals.
        device: where the network is.
    """

    options: Any
    network: SiteNetwork
    combinations: Combinations
    device: torch.device
    name: ClassVar[str]

    @property
    def config(self) -> Mapping[str, Any]:
        """Return the configuration as plain JSON data."""
        return base.config_json(self.options)

    @classmethod
    @abstractmethod
    def read(cls, options: Mapping[str, Any]) -> Any:
        """Make its configuration of options."""

    @classmethod
    @abstractmethod
    def build(cls, options: Any) -> SiteNetwork:
        """Make its network, with random weights."""

    @classmethod
    def decoded(cls, coords: Tensor, options: Any) -> Tensor:
        """Return coordinates as they are put into crystals."""
        del options
        return coords

    def sample(
        self,
        n: int,
        seed: np.random.SeedSequence,
        condition: Mapping[str, Any] | None = None,
        device: str | None = None,
    ) -> StructureSamples:
        """Draw n crystals; see `gandb.generators.structures.StructureGenerator`.

        Args:
            n: number of samples.
            seed: where their randomness comes from.
            condition: None, or any of ``elements`` (as many as there are base sites),
                ``composition`` (drawn anew, a few times, until it is met) and ``space_group``.
                What is left free is as in the training set, with elements exchanged by the option
                ``exchanged``.
            device: None for where the network is; another one copies it there.

        Raises:
            UsageError: the model cannot do what is asked for.
        """
        request = read_condition(condition, self.name, (ELEMENTS, COMPOSITION, SPACE_GROUP))
        place = self.device if device is None else open_device(device)
        network = self.network if place == self.device else copy.deepcopy(self.network).to(place)
        network.eval()

        def answer(
            groups: np.ndarray, elements: np.ndarray, rng: np.random.Generator
        ) -> tuple[np.ndarray, np.ndarray]:
            noise = torch.from_numpy(rng.standard_normal((len(groups), network.noise), np.float32))
            asked = torch.from_numpy(groups).to(place), torch.from_numpy(elements).to(place)
            with torch.no_grad():
                drawn = network(noise.to(place), *asked)
                coords = self.decoded(drawn.coords, self.options)
                lengths = network.scale.lengths(drawn.scaled, *asked, drawn.times).expand(-1, 3)
            return lengths.cpu().double().numpy(), coords.cpu().double().numpy()

        rules = self.options.rules()
        maker = Maker(
            self.name,
            rules.space_groups,
            self.combinations,
            self.options.exchanged,
            self.options.merging(),
            self.options.max_sites,
            BATCH,
        )
        with repeatable(1, place):
            return maker.make(n, seed, request, answer)

    def checkpoint(self) -> bytes:
        """Write the weights, the training combinations and the configuration."""
        tensors = {**self.combinations.tensors(), **to_arrays(self.network, "generator.")}
        return base.pack(tensors, base.describe(self.name, self.options))

    @classmethod
    def restore(
        cls, tensors: Mapping[str, np.ndarray], description: Mapping[str, Any], device: str
    ) -> Self:
        """Make it of a checkpoint's tensors.

        Raises:
            InputError: the tensors do not fit the configuration.
            UsageError: the device is unknown or absent.
        """
        options = cls.read(description["config"])
        place = open_device(device)
        with seeded_weights(0):
            network = cls.build(options)
        from_arrays(network, tensors, "generator.")
        rules = options.rules()
        combinations = Combinations.restore(tensors, len(rules.space_groups), rules.n_sites)
        return cls(options, network.to(place).eval(), combinations, place)


class SiteAdversary(ABC):
    """What the adversarial loop of `gandb.training` trains for models of base sites.

    Inputs of the critic are what `inputs` makes of crystals, float32 (n, ...); conditions are the
    place of the space group and the elements, int64 (n, 1 + k). The critic judges training
    combinations, as those alone have real crystals beside them; where crystals have a cost, half as
    many with exchanged elements learn from that alone.

    Attributes:
        generator: draws samples.
        critic: values them.
        helper: None.
        rejected: training crystals that were left out, by reason.
        rows: number of training crystals that are used.
        monitors: what is recorded of every generator batch: the mean volume of a box of the cells'
            edges, Å³, the standard deviation of scaled lengths, the mean cost beside the critic's
            value, and the mean entropy of a choice of a Wyckoff position, nats.
    """

    model: ClassVar[type[SiteModel]]
    monitors: tuple[str, ...] = ("volume", "length_spread", "cost", "entropy")
    generator: SiteNetwork
    critic: nn.Module
    helper: nn.Module | None

    def __init__(self, options: Any, data: StructureData, device: str) -> None:
        self.options = options
        self.device = open_device(device)
        sites, self.rejected = select(data.crystals, options.rules())
        sites = self.prepared(sites)
        self.rows = len(sites)
        self.combinations = Combinations.of(sites.groups, sites.atomic_numbers)
        self.generator = self.model.build(options)
        self.images = SymmetryImages(options.rules().space_groups, options.rules().n_sites)
        self.n_positions = 0
        self.helper = None
        groups = torch.from_numpy(sites.groups)
        numbers = torch.from_numpy(sites.atomic_numbers)
        positions = torch.from_numpy(sites.positions)
        times = torch.ones(numbers.shape)
        if isinstance(self.generator, WyckoffGenerator):
            self.n_positions = self.generator.positions.most
            self.generator.start_from(sites.groups, sites.positions, sites.frac_coords)
            times = self.generator.positions.multiplicities[groups[:, None], positions]
            self.helper = Expectation(options.width)
            self.helper.to(self.device)
        scale = self.generator.scale
        lengths = sites.lengths[:, : scale.mean.shape[1]]
        scale.fit(sites.groups, lengths, numbers, times)
        drawn = Drawn(
            torch.from_numpy(sites.frac_coords).float(),
            scale.scaled(torch.from_numpy(lengths).float(), groups, numbers, times),
            times,
            positions if self.n_positions else positions[:, :0],
        )
        self._conditions = torch.cat([groups[:, None], numbers], dim=1)
        self._real = torch.cat(
            [
                self.inputs(
                    Drawn(
                        drawn.coords[part],
                        drawn.scaled[part],
                        drawn.times[part],
                        drawn.positions[part],
                    ),
                    self._conditions[part],
                )
                for part in (slice(i, i + _PART) for i in range(0, self.rows, _PART))
            ]
        )
        self.critic = self.make_critic()
        self.generator.to(self.device)
        self.images.to(self.device)
        self.critic.to(self.device)

    def prepared(self, sites: BaseSites) -> BaseSites:
        """Return training crystals as the critic is to see them."""
        return sites

    @abstractmethod
    def make_critic(self) -> nn.Module:
        """Return the critic."""

    def inputs(self, drawn: Drawn, condition: Tensor, around: Around | None = None) -> Tensor:
        """Return what the critic sees of crystals, whose surroundings may be known."""
        nearest, density = around or self.surroundings(drawn, condition)
        return place_inputs(drawn, nearest, density, self.n_positions)

    def seen(self, drawn: Drawn, condition: Tensor) -> Drawn:
        """Return generated crystals as the critic is to see them, with gradient."""
        del condition
        return drawn

    @property
    def costs(self) -> bool:
        """Whether crystals cost anything beside the critic's value."""
        return False

    def cost(self, nearest: Tensor) -> Tensor:
        """Return what each of n crystals costs beside the critic's value, (n,)."""
        return nearest.new_zeros(len(nearest))

    def reaches(self, numbers: Tensor) -> Tensor:
        """Return below what distance, Å, images of a site are one atom, for elements (n, k)."""
        return torch.full(numbers.shape, SAME_PLACE, device=numbers.device)

    def surroundings(self, drawn: Drawn, condition: Tensor) -> Around:
        """Return `SymmetryImages.surroundings` by covalent radii."""
        numbers = condition[:, 1:]
        return self.images.surroundings(
            drawn.coords,
            condition[:, 0],
            self.lengths(drawn, condition),
            self.reaches(numbers),
            _RADII.to(numbers.device)[numbers],
        )

    def real(self, n: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw real inputs and their conditions."""
        rows = torch.randint(self.rows, (n,), generator=rng)
        return self._real[rows].to(self.device), self._conditions[rows].to(self.device)

    def fake(self, condition: Tensor, rng: torch.Generator) -> Tensor:
        """Draw generated inputs for conditions, without gradient."""
        with torch.no_grad():
            noise = self._noise(len(condition), rng)
            drawn = self.generator(noise, condition[:, 0], condition[:, 1:])
            return self.inputs(self.seen(drawn, condition), condition)

    def _noise(self, n: int, rng: torch.Generator) -> Tensor:
        return torch.randn((n, self.generator.noise), generator=rng).to(self.device)

    def auxiliary_loss(self, real: Tensor, condition: Tensor) -> Tensor | None:
        """Return the decay of the critic's weights, None without."""
        del real, condition
        decay = self.options.decay
        return decay * squared_weights(self.critic) if decay else None

    def generator_loss(self, n: int, rng: torch.Generator) -> tuple[Tensor, list[float]]:
        """Return the generator's loss on n new samples, and the monitors of these."""
        rows = torch.randint(self.rows, (n,), generator=rng)
        condition = self._conditions[rows]
        if self.costs and self.options.exchanged:
            condition = torch.cat([condition, self._exchanged(n // 2, rng)])
        condition = condition.to(self.device)
        noise = self._noise(len(condition), rng)
        choices = None
        if isinstance(self.generator, WyckoffGenerator):
            choices = self.generator.choose(noise, condition[:, 0], condition[:, 1:])
            drawn = choices.drawn
        else:
            drawn = self.generator(noise, condition[:, 0], condition[:, 1:])
        drawn = self.seen(drawn, condition)
        around = self.surroundings(drawn, condition)
        inputs = self.inputs(drawn, condition, around)
        value = self.critic(inputs[:n], condition[:n])
        costs = self.cost(around[0])
        loss = costs.sum() / n - value.mean()
        if choices is not None:
            loss = loss + self._choice_loss(choices, value.detach())
        if self.options.decay:
            loss = loss + self.options.decay * squared_weights(self.generator)
        with torch.no_grad():
            volume = float(self.lengths(drawn, condition).prod(dim=1).mean())
            spread = float(drawn.scaled.std())
            entropy = float(choices.entropies.mean()) if choices is not None else 0.0
        return loss, [volume, spread, float(costs.detach().mean()), entropy]

    def _exchanged(self, n: int, rng: torch.Generator) -> Tensor:
        """Draw conditions in which elements are exchanged, int64 (n, 1 + k)."""
        word = int(torch.randint(2**62, (1,), generator=rng))
        stream = np.random.Generator(np.random.Philox(word))
        groups, elements = self.combinations.draw(n, stream, self.options.exchanged)
        return torch.from_numpy(np.concatenate([groups[:, None], elements], axis=1))

    def _choice_loss(self, choices: Choices, value: Tensor) -> Tensor:
        """Return a loss with the policy gradient of the critic's value of the first (n,) samples.

        Costs are left out: they would have the network choose whatever leaves most room.
        """
        assert self.helper is not None
        n = len(value)
        expected = self.helper(choices.known[:n].detach())
        better = (value - value.mean())[:, None] - expected
        loss: Tensor = -(better.detach() * choices.log_chances[:n]).sum(dim=1).mean()
        loss = loss + self.options.frequencies * choices.divergences.sum(dim=1).mean()
        error: Tensor = 0.5 * better.square().mean()
        return loss + error

    def lengths(self, drawn: Drawn, condition: Tensor) -> Tensor:
        """Return lengths, Å, (n, 3)."""
        found: Tensor = self.generator.scale.lengths(
            drawn.scaled, condition[:, 0], condition[:, 1:], drawn.times
        )
        return found.expand(-1, 3)

    def snapshot(self, network: SiteNetwork) -> SiteModel:
        """Return the model that samples from ``network``, a copy of the generator."""
        return self.model(self.options, network, self.combinations, self.device)


def straight_through(raw: Tensor, seen: Tensor) -> Tensor:
    """Return ``seen`` with the gradient of ``raw`` (Bengio et al. 2013, arXiv:1308.3432)."""
    return raw + (seen - raw).detach()


def read_preset(
    config: Any, presets: Mapping[str, Mapping[str, Any]], options: Mapping[str, Any], model: str
) -> Any:
    """Make a configuration of a preset's defaults and options.

    Raises:
        UsageError: an option is unknown or cannot be.
    """
    preset = options.get("preset", "compact")
    if preset not in presets:
        raise UsageError(f"{model} has no preset {preset!r}; choose {' or '.join(presets)}")
    found = base.read_options(config, {**presets[preset], **options}, model)
    for name in (
        "iterations", "batch_size", "generator_batch", "critic_steps", "penalty_every", "width",
        "critic_width", "layers", "max_sites",
    ):  # fmt: skip
        _demand(found, name, getattr(found, name) >= 1, "give at least 1")
    for name in ("generator_rate", "critic_rate", "symprec"):
        _demand(found, name, getattr(found, name) > 0, "give a number above 0")
    for name in ("beta1", "beta2", "averaging"):
        _demand(found, name, 0 <= getattr(found, name) < 1, "give 0 to below 1")
    for name in ("penalty", "decay", "frequencies"):
        _demand(found, name, getattr(found, name) >= 0, "give 0 or more")
    _demand(found, "exchanged", 0 <= found.exchanged <= 1, "give 0 to 1")
    _demand(found, "coordinates", found.coordinates in COORDINATES, f"choose {COORDINATES}")
    return found


def _demand(options: Any, name: str, fits: bool, advice: str) -> None:
    if not fits:
        raise UsageError(f"option {name!r} is {getattr(options, name)!r}; {advice}")


def squared_weights(network: nn.Module) -> Tensor:
    """Return the sum of squares of a network's matrices and kernels."""
    return torch.stack([p.square().sum() for p in network.parameters() if p.dim() > 1]).sum()
