"""PGCGM: ternary crystals of 20 space groups, by symmetry operations and distance losses.

Zhao et al., npj Comput. Mater. 9, 38 (2023), doi:10.1038/s41524-023-00987-9, with the objective of
Gulrajani et al. (2017), arXiv:1704.00028. A crystal is one base site per element and the lengths of
its cell; the network knows the space group by its affine operations, and all atoms follow from
these. Beside the critic's value, what the generator minimises is, for every pair of base sites i
and j, weights aside,

    max(0, margin - d_ij / (r_i + r_j)),

d being the least distance between images of the two, in the cell and the 26 around it, for i = j
between different images of the one. Generated atoms of one element that are too near are joined
(`gandb.representations.asymmetric_unit.Merging`). Pairs of other elements that are too near are
left: checks tell of them.

The published network draws three sets of coordinates at once, for one cell and one combination of
elements, and makes a crystal of each. Here a draw is one set: three crystals that share their cell
are not three samples, which counts of distinct and new ones take them for.

Coordinates come in two ways, by the option ``positions``:

- ``wyckoff``: the network chooses a Wyckoff position for each site and places it there, see
  `gandb.generators.wyckoff_networks`.
- ``free``: as published, anywhere in the cell; sites come onto special positions by merging alone.
  In training the critic sees sites where merging puts them; the gradient passes that as if it were
  not there (Bengio et al. 2013, arXiv:1308.3432).

Two presets: ``compact``, which trains on a CPU (`gandb.generators.site_networks`), and ``paper``,
with convolutions of published sizes where these are known (`gandb.generators.pgcgm_networks`); how
the published critic lays out its image of a crystal, and weights and margins of its distance
losses, are not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from gandb.core.errors import UsageError
from gandb.generators.base_sites import Rules, read_space_groups
from gandb.generators.pgcgm_networks import OperationsCritic, OperationsGenerator
from gandb.generators.site_models import (
    Around,
    SiteAdversary,
    SiteModel,
    read_preset,
    straight_through,
)
from gandb.generators.site_networks import Drawn, SiteCritic, SiteGenerator, SiteNetwork
from gandb.generators.wyckoff_networks import WyckoffGenerator
from gandb.representations.asymmetric_unit import Merging

SPACE_GROUPS = (
    62, 63, 71, 122, 123, 129, 139, 140, 141, 148, 164, 166, 167, 186, 191, 194, 216, 221, 225, 227,
)  # fmt: skip
"""The twenty of the paper: those with 400 ternaries or more in its data."""

POSITIONS = ("wyckoff", "free")

_FIXED_ANGLES = range(16, 231)


@dataclass(frozen=True)
class PGCGMConfig:
    """Options of PGCGM.

    Attributes:
        preset: ``compact`` or ``paper``; it sets the defaults of what follows.
        positions: ``wyckoff`` or ``free``; ``paper`` is free.
        base_sites: base sites, and elements, of a crystal.
        space_groups: orthorhombic to cubic ones; None for the paper's twenty.
        coordinates: which training crystals are taken: ``any``, ``not_all_quarters`` as the paper
            has it for those from OQMD, or ``no_odd_eighths``.
        f_block: whether those with lanthanoids and actinoids are.
        symprec: how far, Å, an operation may miss a site of theirs.
        between: weight of distances between different elements in the loss; 0 for none.
        within: weight of distances between atoms of one element; 0 for none.
        margin: least distance that costs nothing, as a share of the sum of covalent radii.
        merging_share: atoms of one element nearer than this share of their atomic radii are
            joined; 0 for none.
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
        critic_width: hidden size of the critic (``paper``: channels of its last map).
        layers: layers of both (``paper`` has its own).
    """

    preset: str = "compact"
    positions: str = "wyckoff"
    base_sites: int = 3
    space_groups: list[int] | None = None
    coordinates: str = "any"
    f_block: bool = False
    symprec: float = 0.01
    between: float = 1.0
    within: float = 1.0
    margin: float = 0.85
    merging_share: float = 0.6
    exchanged: float = 0.5
    max_sites: int = 400
    iterations: int = 800
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
        config: Self = read_preset(cls, PRESETS, options, "pgcgm")
        known = POSITIONS if config.preset == "compact" else ("free",)
        if config.positions not in known:
            raise UsageError(
                f"option 'positions' is {config.positions!r}; {config.preset} takes "
                f"{' or '.join(known)}"
            )
        if not 1 <= config.base_sites <= 8:
            raise UsageError(f"option 'base_sites' is {config.base_sites}; give 1 to 8")
        for name in ("between", "within", "margin", "merging_share"):
            if not 0 <= getattr(config, name) < 100:
                raise UsageError(f"option {name!r} is {getattr(config, name)}; give 0 or more")
        config.merging()
        listed = SPACE_GROUPS if config.space_groups is None else config.space_groups
        groups = read_space_groups(listed, _FIXED_ANGLES, "pgcgm")
        return replace(config, space_groups=list(groups))

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
        """Return which atoms are joined."""
        return Merging(self.merging_share, "atomic") if self.merging_share else None


PRESETS: dict[str, dict[str, Any]] = {
    "compact": {},
    "paper": {
        "positions": "free",
        "iterations": 100_000,
        "batch_size": 128,
        "generator_batch": 128,
        "critic_steps": 5,
        "generator_rate": 1e-4,
        "critic_rate": 1e-4,
        "averaging": 0.999,
        "width": 1024,
        "critic_width": 256,
    },
}
"""Defaults by preset, where they differ from `PGCGMConfig`'s."""


@dataclass(frozen=True)
class PGCGM(SiteModel):
    """A trained generator; see `gandb.generators.site_models.SiteModel`."""

    name = "pgcgm"

    @classmethod
    def read(cls, options: Mapping[str, Any]) -> PGCGMConfig:
        """Make its configuration of options."""
        return PGCGMConfig.of(options)

    @classmethod
    def build(cls, options: PGCGMConfig) -> SiteNetwork:
        """Make its network, with random weights."""
        rules = options.rules()
        if options.preset == "paper":
            return OperationsGenerator(rules.space_groups, rules.n_sites, options.width)
        if options.positions == "wyckoff":
            return WyckoffGenerator(
                rules.space_groups, rules.n_sites, 3, options.width, options.layers
            )
        return SiteGenerator(
            len(rules.space_groups), rules.n_sites, 3, options.width, options.layers
        )


class PGCGMAdversary(SiteAdversary):
    """What `gandb.training` trains; see `gandb.generators.site_models.SiteAdversary`."""

    model = PGCGM

    def make_critic(self) -> nn.Module:
        """Return the critic."""
        options = self.options
        groups, k = options.rules().space_groups, options.base_sites
        if options.preset == "paper":
            return OperationsCritic(groups, k, options.critic_width)
        width, layers = options.critic_width, options.layers
        return SiteCritic(len(groups), k, 3, self.n_positions, width, layers)

    def inputs(self, drawn: Drawn, condition: Tensor, around: Around | None = None) -> Tensor:
        """Return what the critic sees; ``paper``: 2 x - 1 of coordinates in the cell, lengths."""
        if self.options.preset == "paper":
            inside = drawn.coords - drawn.coords.detach().floor()
            return torch.cat([2.0 * inside.flatten(1) - 1.0, drawn.scaled], dim=1)
        return super().inputs(drawn, condition, around)

    def reaches(self, numbers: Tensor) -> Tensor:
        """Return below what distance, Å, images of a site are joined, for elements (n, k)."""
        merging = self.options.merging()
        if merging is None or self.n_positions:
            return super().reaches(numbers)
        table = np.nan_to_num(merging.reaches(), nan=1.0).astype(np.float32)
        return torch.from_numpy(table).to(numbers.device)[numbers]

    def seen(self, drawn: Drawn, condition: Tensor) -> Drawn:
        """Return crystals with tied lengths, and free sites where merging will put them."""
        groups = condition[:, 0]
        tied = torch.bmm(self.images.average[groups], drawn.scaled[:, :, None])[..., 0]
        drawn = replace(drawn, scaled=tied)
        if self.n_positions or not self.options.merging_share:
            return drawn
        lengths = self.lengths(drawn, condition)
        settled = self.images.settled(drawn.coords, groups, lengths, self.reaches(condition[:, 1:]))
        return replace(drawn, coords=straight_through(drawn.coords, settled))

    @property
    def costs(self) -> bool:
        """Whether there are distance losses."""
        return bool(self.options.between or self.options.within)

    def cost(self, nearest: Tensor) -> Tensor:
        """Return the distance losses of n crystals by shares of radii (n, pairs)."""
        options = self.options
        weights = [options.within if i == j else options.between for i, j in self.images.pairs]
        short = torch.relu(options.margin - nearest)
        return (short * torch.tensor(weights, device=self.device)).sum(dim=1) * _STEEP


_STEEP = 10.0
"""A cost of 1 is a distance that is a tenth of the radii too short."""

ADVERSARY = PGCGMAdversary
"""What `gandb.training` trains for this model."""
