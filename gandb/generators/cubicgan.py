"""CubicGAN: cubic crystals of three or four elements, given the space group and the elements.

Zhao et al., Adv. Sci. 8, 2100566 (2021), doi:10.1002/advs.202100566, with the objective of
Gulrajani et al. (2017), arXiv:1704.00028. A crystal is one base site per element and the length of
the cube's edge; all atoms follow by the operations of the space group (Fm-3m, F-43m or Pm-3m).
Coordinates are brought to quarters.

It is the published model where that can be followed, and differs in what was wrong with the
published code: what is asked of generated crystals is drawn anew for every batch (there it was
frozen at six batches), the penalty's points are uniform between real and generated ones (there
normally distributed, also beyond both), and weights decay, where an option asks for it, in the
optimised loss (there the regularisers were never added to it). Lengths are the generator's own;
combinations of elements follow those of the training set, see
`gandb.generators.base_sites.Combinations`, and are not drawn uniformly.

Two presets:

- ``paper``: the published convolutions, their sizes, learning rate and batch, `cubicgan_networks`.
- ``compact``: trains on a CPU. The generator chooses a Wyckoff position for each site and places
  it there (`gandb.generators.wyckoff_networks`); the critic treats sites alike and sees distances
  too (`gandb.generators.site_networks`), of real and generated crystals on the grid of quarters.
  The gradient passes the rounding as if it were not there (Bengio et al. 2013, arXiv:1308.3432).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor, nn

from gandb.core.errors import InputError, UsageError
from gandb.generators.base_sites import BaseSites, Rules, on_grid, read_space_groups
from gandb.generators.cubicgan_networks import ConvCritic, ConvGenerator
from gandb.generators.site_models import (
    Around,
    SiteAdversary,
    SiteModel,
    read_preset,
    straight_through,
)
from gandb.generators.site_networks import Drawn, SiteCritic, SiteNetwork
from gandb.generators.wyckoff_networks import WyckoffGenerator
from gandb.representations.asymmetric_unit import Merging

SPACE_GROUPS = (216, 221, 225)
"""F-43m, Pm-3m and Fm-3m."""

_CUBIC = range(195, 231)


@dataclass(frozen=True)
class CubicGANConfig:
    """Options of CubicGAN.

    Attributes:
        preset: ``compact`` or ``paper``; it sets the defaults of what follows.
        base_sites: base sites, and elements, of a crystal: 3 for ternaries, 4 for quaternaries.
        space_groups: cubic ones; None for F-43m, Pm-3m and Fm-3m.
        coordinates: which training crystals are taken: ``no_odd_eighths`` as published, ``any``,
            or ``not_all_quarters``.
        f_block: whether those with lanthanoids and actinoids are.
        symprec: how far, Å, an operation may miss a site of theirs.
        grid: steps per edge that coordinates are brought to; 4 as published, 0 for none.
        exchanged: chance that an element of a training combination is exchanged in sampling.
        max_sites: most atoms of a generated cell; others are rejected.
        iterations: generator steps in all; learning rates fall linearly to zero over the last half.
        batch_size: real, and as many generated, crystals per critic step.
        generator_batch: crystals per generator step.
        critic_steps: critic steps per generator step.
        penalty: weight lambda of the gradient penalty.
        penalty_every: critic steps per penalty step; its weight is multiplied by it.
        generator_rate: Adam's learning rate of the generator.
        critic_rate: Adam's learning rate of the critic.
        beta1: Adam's decay of the first moment.
        beta2: Adam's decay of the second moment.
        averaging: decay per step of the running average of the generator that is sampled.
        decay: weight of the squared weights in both losses.
        frequencies: weight of what holds the compact generator's choices of positions to their
            training frequencies: their divergence, nats, beside the critic's value.
        width: hidden size of the generator (``paper``: channels of its first map).
        critic_width: hidden size of the critic (``paper``: channels of its widest map).
        layers: layers of both (``paper`` has its own).
    """

    preset: str = "compact"
    base_sites: int = 3
    space_groups: list[int] | None = None
    coordinates: str = "no_odd_eighths"
    f_block: bool = True
    symprec: float = 0.01
    grid: int = 4
    exchanged: float = 0.5
    max_sites: int = 400
    iterations: int = 1000
    batch_size: int = 64
    generator_batch: int = 128
    critic_steps: int = 2
    penalty: float = 10.0
    penalty_every: int = 1
    generator_rate: float = 5e-4
    critic_rate: float = 5e-4
    beta1: float = 0.0
    beta2: float = 0.9
    averaging: float = 0.995
    decay: float = 0.0
    frequencies: float = 0.3
    width: int = 128
    critic_width: int = 128
    layers: int = 3

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Self:
        """Make a configuration of a preset's defaults and options.

        Raises:
            UsageError: an option is unknown or cannot be.
        """
        config: Self = read_preset(cls, PRESETS, options, "cubicgan")
        if not 1 <= config.base_sites <= 8:
            raise UsageError(f"option 'base_sites' is {config.base_sites}; give 3 or 4, at most 8")
        if config.grid < 0:
            raise UsageError(f"option 'grid' is {config.grid}; give steps per edge, 0 for none")
        listed = SPACE_GROUPS if config.space_groups is None else config.space_groups
        return replace(config, space_groups=list(read_space_groups(listed, _CUBIC, "cubicgan")))

    def rules(self) -> Rules:
        """Return which crystals the model is trained on."""
        return Rules(
            self.base_sites,
            tuple(self.space_groups or SPACE_GROUPS),
            self.f_block,
            self.coordinates,
            self.symprec,
        )

    def merging(self) -> Merging | None:
        """No atoms are joined but those at one place."""
        return None


PRESETS: dict[str, dict[str, Any]] = {
    "compact": {},
    "paper": {
        "iterations": 150_000,
        "batch_size": 256,
        "generator_batch": 256,
        "critic_steps": 5,
        "penalty": 10.0,
        "penalty_every": 1,
        "generator_rate": 1e-5,
        "critic_rate": 1e-5,
        "beta1": 0.5,
        "averaging": 0.999,
        "decay": 1e-6,
        "width": 1024,
        "critic_width": 4096,
    },
}
"""Defaults by preset, where they differ from `CubicGANConfig`'s."""


@dataclass(frozen=True)
class CubicGAN(SiteModel):
    """A trained generator; see `gandb.generators.site_models.SiteModel`."""

    name = "cubicgan"

    @classmethod
    def read(cls, options: Mapping[str, Any]) -> CubicGANConfig:
        """Make its configuration of options."""
        return CubicGANConfig.of(options)

    @classmethod
    def build(cls, options: CubicGANConfig) -> SiteNetwork:
        """Make its network, with random weights."""
        rules = options.rules()
        n_groups, k = len(rules.space_groups), rules.n_sites
        if options.preset == "paper":
            return ConvGenerator(n_groups, k, options.width)
        return WyckoffGenerator(rules.space_groups, k, 1, options.width, options.layers)

    @classmethod
    def decoded(cls, coords: Tensor, options: CubicGANConfig) -> Tensor:
        """Bring coordinates to the grid."""
        return (coords * options.grid).round() / options.grid if options.grid else coords


class CubicGANAdversary(SiteAdversary):
    """What `gandb.training` trains; see `gandb.generators.site_models.SiteAdversary`."""

    model = CubicGAN

    def prepared(self, sites: BaseSites) -> BaseSites:
        """Bring coordinates to the grid where the critic sees generated ones there."""
        if not self._rounds:
            return sites
        groups = self.options.rules().space_groups
        found, others = on_grid(sites, groups, self.options.grid)
        if others:
            self.rejected["other_crystal_on_grid"] = others
        if not others < len(sites):
            raise InputError("no training crystal keeps its positions on the grid of coordinates")
        return found

    def seen(self, drawn: Drawn, condition: Tensor) -> Drawn:
        """Return crystals as they will be decoded; ``paper``: as they are."""
        del condition
        if not self._rounds:
            return drawn
        rounded = CubicGAN.decoded(drawn.coords, self.options)
        return replace(drawn, coords=straight_through(drawn.coords, rounded))

    @property
    def _rounds(self) -> bool:
        return bool(self.options.grid) and self.options.preset != "paper"

    def make_critic(self) -> nn.Module:
        """Return the critic."""
        options = self.options
        n_groups, k = len(options.rules().space_groups), options.base_sites
        if options.preset == "paper":
            return ConvCritic(n_groups, k, options.critic_width)
        width, layers = options.critic_width, options.layers
        return SiteCritic(n_groups, k, 1, self.n_positions, width, layers)

    def inputs(self, drawn: Drawn, condition: Tensor, around: Around | None = None) -> Tensor:
        """Return what the critic sees; ``paper``: 2 x - 1 of coordinates in the cell, the edge."""
        if self.options.preset == "paper":
            return torch.cat([2.0 * drawn.coords.flatten(1) - 1.0, drawn.scaled], dim=1)
        return super().inputs(drawn, condition, around)


ADVERSARY = CubicGANAdversary
"""What `gandb.training` trains for this model."""
