"""MatGAN: a Wasserstein GAN with gradient penalty on one-hot compositions.

Dan et al., npj Comput. Mater. 6, 84 (2020), doi:10.1038/s41524-020-00352-0, with the objective of
Gulrajani et al. (2017), arXiv:1704.00028. A critic D and a generator G play

    min_G max_D  E[D(x_real)] - E[D(G)] - lambda E[(|grad D(x_mixed)| - 1)^2],

x being 85 x 8 one-hot matrices and x_mixed points between a real and a generated one.

Two presets:

- ``paper``: the published convolutional generator (sigmoid cells, an element is absent below 0.2)
  and critic. The critic has no batch normalisation, which would tie the samples of a batch
  together where the penalty is meant for each alone.
- ``compact``: trains on a CPU. The generator draws one (element, count) cell after another,
  elements ascending in electronegativity, each from the sum of learned vectors of the cells
  before; so a sample is a discrete formula. Its gradient is the policy gradient of Williams
  (1992), doi:10.1007/BF00992696, with the critic's value as the reward, as in SeqGAN (Yu et al.
  2017, arXiv:1609.05473), and a learned expectation of that value as the baseline. The generator
  never sees a training formula: what sets its distribution is the critic alone; only its first
  biases are training frequencies (of elements in each slot, of counts whatever the element). The
  critic sees the one-hot matrix, and sums over atoms of learned numbers per element.

Neither sees an oxidation state or a verdict of a check. Of element properties, electronegativity
gives ``compact`` the order of its slots.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from gandb.core.elements import ELECTRONEGATIVITY
from gandb.core.errors import InputError, UsageError, known_names
from gandb.generators import base
from gandb.generators.matgan_networks import (
    LATENT,
    N_CELLS,
    N_COUNTS,
    N_ELEMENTS,
    N_SLOTS,
    ConvCritic,
    ConvGenerator,
    Expectation,
    SlotGenerator,
    SumCritic,
)
from gandb.generators.networks import (
    from_arrays,
    open_device,
    repeatable,
    seeded_weights,
    to_arrays,
)
from gandb.representations import onehot

BATCH = 4096
"""Samples that a network draws at a time; fixed, since sums depend on it in the last bit."""

THRESHOLD = 0.2
"""Least value of a present element in the paper's decoder."""

_ORDER: np.ndarray = np.argsort(ELECTRONEGATIVITY[onehot.ELEMENTS], kind="stable")
"""Places of `onehot.ELEMENTS` by ascending electronegativity, int64 (85,); no value sorts last."""
_RANK: np.ndarray = np.argsort(_ORDER, kind="stable")


# --- configuration -----------------------------------------------------------------------


@dataclass(frozen=True)
class MatGANConfig:
    """Options of MatGAN.

    Attributes:
        preset: ``compact`` or ``paper``; it sets the defaults of what follows.
        iterations: generator steps in all; learning rates fall linearly to zero over the last half.
        batch_size: real, and as many generated, samples per critic step.
        generator_batch: samples per generator step.
        critic_steps: critic steps per generator step.
        penalty: weight lambda of the gradient penalty.
        penalty_every: critic steps per penalty step; its weight is multiplied by it.
        generator_rate: Adam's learning rate of the generator.
        critic_rate: Adam's learning rate of the critic.
        beta1: Adam's decay of the first moment.
        beta2: Adam's decay of the second moment.
        averaging: decay per step of the running average of the generator that is sampled.
        width: hidden size of the generator (``paper``: channels of its first map; 128 is the ICSD
            model, 256 the MP one).
        critic_width: hidden size of the critic (``paper``: channels of its last map).
        charges: learned numbers per element that the compact critic sums over atoms.
        entropy: weight of the compact generator's entropy (nats) in what it maximises beside the
            critic's value: more distinct samples, fewer like the training set's.
        condition: None, or ``{"property": NAME, "edges": [e1, ...]}``: classes are the intervals
            below e1, from e1 to below e2, ..., from the last edge on.
    """

    preset: str = "compact"
    iterations: int = 1500
    batch_size: int = 256
    generator_batch: int = 512
    critic_steps: int = 2
    penalty: float = 0.3
    penalty_every: int = 2
    generator_rate: float = 1e-3
    critic_rate: float = 1e-3
    beta1: float = 0.0
    beta2: float = 0.9
    averaging: float = 0.99
    width: int = 192
    critic_width: int = 256
    charges: int = 64
    entropy: float = 0.0
    condition: dict[str, Any] | None = None

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Self:
        """Make a configuration of a preset's defaults and options.

        Raises:
            UsageError: an option is unknown or cannot be.
        """
        preset = options.get("preset", "compact")
        if preset not in PRESETS:
            raise UsageError(
                f"MatGAN has no preset {preset!r}; {known_names('preset', str(preset), PRESETS)}"
            )
        config = base.read_options(cls, {**PRESETS[preset], **options}, "matgan")
        for name in ("iterations", "batch_size", "generator_batch", "critic_steps", "penalty_every",
                     "width", "critic_width", "charges"):  # fmt: skip
            if getattr(config, name) < 1:
                raise UsageError(f"option {name!r} is {getattr(config, name)}; give at least 1")
        for name in ("generator_rate", "critic_rate"):
            if not getattr(config, name) > 0:
                raise UsageError(
                    f"option {name!r} is {getattr(config, name)}; give a positive rate"
                )
        for name in ("beta1", "beta2", "averaging"):
            if not 0 <= getattr(config, name) < 1:
                raise UsageError(f"option {name!r} is {getattr(config, name)}; give 0 to below 1")
        for name in ("penalty", "entropy"):
            if not getattr(config, name) >= 0:
                raise UsageError(f"option {name!r} is {getattr(config, name)}; give 0 or more")
        return replace(config, condition=_read_condition(config.condition))

    @property
    def n_classes(self) -> int:
        """Number of classes, 0 without a condition."""
        return len(self.condition["edges"]) + 1 if self.condition else 0


PRESETS: dict[str, dict[str, Any]] = {
    "compact": {},
    "paper": {
        "batch_size": 64,
        "generator_batch": 64,
        "critic_steps": 1,
        "penalty": 10.0,
        "penalty_every": 1,
        "beta1": 0.5,
        "averaging": 0.99,
        "width": 128,
        "critic_width": 128,
    },
}
"""Defaults by preset, where they differ from `MatGANConfig`'s."""


def _read_condition(condition: Any) -> dict[str, Any] | None:
    if condition is None:
        return None
    example = '{"property": "band_gap", "edges": [0.1, 3.0]}'
    if not isinstance(condition, Mapping) or set(condition) != {"property", "edges"}:
        raise UsageError(f"option 'condition' is {condition!r}; give something like {example}")
    try:
        edges = [float(edge) for edge in condition["edges"]]
    except (TypeError, ValueError) as error:
        raise UsageError(f"edges of 'condition' are no numbers: {condition['edges']!r}") from error
    if not edges or any(not a < b for a, b in pairwise(edges)):
        raise UsageError(f"edges of 'condition' are {edges}; give at least one, ascending")
    if not np.isfinite(edges).all():
        raise UsageError(f"edges of 'condition' are {edges}; give finite numbers")
    return {"property": str(condition["property"]), "edges": edges}


# --- sampling ----------------------------------------------------------------------------


@dataclass(frozen=True)
class MatGAN:
    """A trained generator.

    Attributes:
        options: its configuration.
        network: the generator's network, on ``device``.
        class_shares: float64 (n_classes,), share of each class in the training set; (0,) without.
        device: where the network is.
    """

    options: MatGANConfig
    network: nn.Module
    class_shares: np.ndarray
    device: torch.device
    name: str = "matgan"

    @property
    def config(self) -> Mapping[str, Any]:
        """Return the configuration as plain JSON data."""
        return base.config_json(self.options)

    def sample(
        self,
        n: int,
        seed: np.random.SeedSequence,
        condition: Mapping[str, Any] | None = None,
        device: str | None = None,
    ) -> base.Samples:
        """Draw n formulas; see `gandb.generators.base.Generator`.

        Args:
            n: number of samples.
            seed: where their randomness comes from.
            condition: None to draw classes as often as the training set has them;
                ``{"class": i}``; or ``{"band_gap": [low, high]}`` for the classes whose
                intervals lie within that range, None being an open end.
            device: None for where the network is; another one copies it there.

        Raises:
            UsageError: the condition does not fit the model's classes.
        """
        place = self.device if device is None else open_device(device)
        network = self.network if place == self.device else copy.deepcopy(self.network).to(place)
        network.eval()
        shares = self._shares(condition)
        cells = np.empty((n, N_SLOTS), np.uint16)
        rejections = np.zeros(n, np.uint8)
        with repeatable(1, place):
            for part, rng in base.blocks(n, seed, BATCH):
                size = part.stop - part.start
                classes = torch.from_numpy(_draw_classes(shares, size, rng)).to(place)
                if isinstance(network, SlotGenerator):
                    uniforms = rng.random((size, 2 * N_SLOTS), np.float32)
                    cells[part] = from_slot_order(network.draw(classes, uniforms))
                else:
                    noise = torch.from_numpy(rng.standard_normal((size, LATENT), np.float32))
                    with torch.no_grad():
                        values = network(noise.to(place), classes).cpu().numpy()
                    cells[part], rejections[part] = onehot.choose(values, THRESHOLD)
        return base.Samples.from_cells(cells, rejections)

    def _shares(self, condition: Mapping[str, Any] | None) -> np.ndarray:
        """Return the probability of each class under a condition, (0,) without classes."""
        if not condition:
            return self.class_shares
        trained = self.options.condition
        if trained is None:
            raise UsageError(
                f"this model was trained without a condition, but {dict(condition)} was given: "
                "leave it out, or train with the option 'condition'"
            )
        edges = [-np.inf, *trained["edges"], np.inf]
        bins = list(pairwise(edges))
        known = f"classes of {trained['property']}: " + ", ".join(
            f"{i} = [{low:g}, {high:g})" for i, (low, high) in enumerate(bins)
        )
        if set(condition) == {"class"}:
            wanted = [condition["class"]]
        elif set(condition) == {trained["property"]}:
            low, high = _read_range(condition[trained["property"]])
            wanted = [i for i, (a, b) in enumerate(bins) if low <= a and b <= high]
        else:
            raise UsageError(
                f"condition {dict(condition)} names neither 'class' nor "
                f"{trained['property']!r}; {known}"
            )
        shares = np.zeros(len(bins))
        for i in wanted:
            if isinstance(i, bool) or not isinstance(i, int) or not 0 <= i < len(bins):
                raise UsageError(f"there is no class {i!r}; {known}")
            shares[i] = self.class_shares[i]
        if not shares.sum() > 0:
            raise UsageError(f"no class with training data lies within {dict(condition)}; {known}")
        return np.asarray(shares / shares.sum())

    def checkpoint(self) -> bytes:
        """Write the weights and the configuration."""
        tensors = {"class_shares": self.class_shares, **to_arrays(self.network, "generator.")}
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
        options = MatGANConfig.of(description["config"])
        place = open_device(device)
        with seeded_weights(0):
            network = _make_generator(options)
        from_arrays(network, tensors, "generator.")
        return cls(options, network.to(place).eval(), tensors["class_shares"], place)


def from_slot_order(cells: np.ndarray) -> np.ndarray:
    """Turn cells by electronegativity, int64 (n, 8), into those of `onehot`, uint16 (n, 8)."""
    places = np.minimum(cells // N_COUNTS, N_ELEMENTS - 1)
    own = np.where(cells < N_CELLS, _ORDER[places] * N_COUNTS + cells % N_COUNTS, N_CELLS)
    own.sort(axis=1)
    return own.astype(np.uint16)


def to_slot_order(cells: np.ndarray) -> np.ndarray:
    """Turn cells of `onehot`, uint16 (n, 8), into those by electronegativity, int64 (n, 8)."""
    wide = cells.astype(np.int64)
    places = np.minimum(wide // N_COUNTS, N_ELEMENTS - 1)
    own = np.where(wide < N_CELLS, _RANK[places] * N_COUNTS + wide % N_COUNTS, N_CELLS)
    own.sort(axis=1)
    return own


def _make_generator(options: MatGANConfig) -> nn.Module:
    network = ConvGenerator if options.preset == "paper" else SlotGenerator
    return network(options.width, options.n_classes)


def _draw_classes(shares: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """Draw n classes, int64 (n,); 0 without classes."""
    if not len(shares):
        return np.zeros(n, np.int64)
    places = np.searchsorted(np.cumsum(shares), rng.random(n), side="right")
    return np.asarray(np.minimum(places, np.flatnonzero(shares)[-1]))


def _read_range(given: Any) -> tuple[float, float]:
    if isinstance(given, Sequence) and not isinstance(given, str) and len(given) == 2:
        low, high = given
        try:
            return (
                -np.inf if low is None else float(low),
                np.inf if high is None else float(high),
            )
        except (TypeError, ValueError):
            pass
    raise UsageError(f"{given!r} is no range; give [low, high], with null for an open end")


# --- training ----------------------------------------------------------------------------


class MatGANAdversary:
    """What the adversarial loop of `gandb.training` trains: networks, real and generated batches.

    Inputs of the critic are matrices float32 (n, 680), and the classes int64 (n,) that the real
    and the generated batch share. In ``compact`` their elements are in the generator's order.

    Attributes:
        generator: draws samples.
        critic: values them.
        helper: learned with the generator, not needed for sampling; None without one.
        rejected: training rows that were left out, by reason.
        rows: number of training rows that are used.
        monitors: what is recorded of every generator batch: the share of distinct samples, the mean
            number of elements and of atoms as drawn.
    """

    monitors = ("uniqueness", "n_elements", "n_atoms")

    def __init__(self, options: MatGANConfig, data: base.TrainingData, device: str) -> None:
        self.options = options
        self.device = open_device(device)
        encoded = data.encode()
        self.rejected = encoded.rejected()
        cells, classes = encoded.cells, np.zeros(len(encoded.rows), np.int64)
        self._class_shares = np.zeros(0)
        if options.condition is not None:
            cells, classes = self._label(encoded, data)
            counts = np.bincount(classes, minlength=options.n_classes)
            self._class_shares = counts / counts.sum()
        self.rows = len(cells)
        self._cells = torch.from_numpy(cells.astype(np.int64))
        if options.preset == "compact":
            self._cells = torch.from_numpy(to_slot_order(cells))
        self._classes = torch.from_numpy(classes)
        self.generator = _make_generator(options)
        self.critic: nn.Module
        self.helper: nn.Module | None = None
        if isinstance(self.generator, SlotGenerator):
            self.generator.start_from_frequencies(to_slot_order(cells))
            self.critic = SumCritic(options.critic_width, options.charges, options.n_classes)
            self.helper = Expectation(options.width)
            self.helper.to(self.device)
        else:
            self.critic = ConvCritic(options.critic_width, options.n_classes)
        self.generator.to(self.device)
        self.critic.to(self.device)

    def _label(
        self, encoded: onehot.Encoded, data: base.TrainingData
    ) -> tuple[np.ndarray, np.ndarray]:
        condition = self.options.condition
        assert condition is not None
        if data.values is None or data.property_name != condition["property"]:
            raise InputError(
                f"the model is conditioned on {condition['property']!r}, but the training data "
                f"have {'no property' if data.values is None else repr(data.property_name)}"
            )
        values = data.values[encoded.rows]
        known = np.isfinite(values)
        if not known.all():
            self.rejected[f"no_{condition['property']}"] = int((~known).sum())
        if not known.any():
            raise InputError(f"no training composition has a value of {condition['property']!r}")
        return encoded.cells[known], np.digitize(values[known], condition["edges"])

    def real(self, n: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw real matrices (n, 680) and their classes (n,)."""
        rows = torch.randint(len(self._cells), (n,), generator=rng)
        return _matrices(self._cells[rows].to(self.device)), self._classes[rows].to(self.device)

    def fake(self, classes: Tensor, rng: torch.Generator) -> Tensor:
        """Draw generated matrices (n, 680) of classes (n,), without gradient."""
        with torch.no_grad():
            if isinstance(self.generator, SlotGenerator):
                return _matrices(self._draw(self.generator, classes, rng))
            return self._forward(classes, rng)

    def auxiliary_loss(self, real: Tensor, classes: Tensor) -> None:
        """The critic learns nothing else."""

    def generator_loss(self, n: int, rng: torch.Generator) -> tuple[Tensor, list[float]]:
        """Return the generator's loss on n new samples, and the monitors of these."""
        rows = torch.randint(len(self._classes), (n,), generator=rng)
        classes = self._classes[rows].to(self.device)
        if isinstance(self.generator, SlotGenerator):
            return self._policy_loss(self.generator, classes, rng)
        x = self._forward(classes, rng)
        values = x.detach().view(-1, N_ELEMENTS, N_COUNTS).cpu().numpy()
        loss: Tensor = -self.critic(x, classes).mean()
        return loss, _monitor(onehot.choose(values, THRESHOLD)[0])

    def snapshot(self, network: nn.Module) -> MatGAN:
        """Return the model that samples from ``network``, a copy of the generator."""
        return MatGAN(self.options, network, self._class_shares, self.device)

    def _forward(self, classes: Tensor, rng: torch.Generator) -> Tensor:
        """Matrices (n, 680) of the paper's generator, with gradient."""
        noise = torch.randn((len(classes), LATENT), generator=rng).to(self.device)
        x: Tensor = self.generator(noise, classes)
        return x.reshape(-1, N_CELLS)

    def _draw(self, generator: SlotGenerator, classes: Tensor, rng: torch.Generator) -> Tensor:
        """Cells (n, 8) of the compact generator."""
        uniforms = torch.rand((len(classes), 2 * N_SLOTS), generator=rng).numpy()
        return torch.from_numpy(generator.draw(classes, uniforms)).to(self.device)

    def _policy_loss(
        self, generator: SlotGenerator, classes: Tensor, rng: torch.Generator
    ) -> tuple[Tensor, list[float]]:
        """Return a loss with the gradient of minus the critic's expected value and some entropy.

        Each decision's log-probability is weighted by the critic's value of the finished sample,
        and the option ``entropy`` times its surprise, less the helper's expectation of both there,
        which leaves the gradient's mean as it is.
        """
        cells = self._draw(generator, classes, rng)
        assert isinstance(self.helper, Expectation)
        decisions = generator.decisions(cells, classes)
        with torch.no_grad():
            value = self.critic(_matrices(cells), classes)
            surprise = torch.zeros_like(value).index_add(0, decisions.row, -decisions.log_element)
            rows = decisions.row.index_select(0, decisions.going)
            surprise = surprise.index_add(0, rows, -decisions.log_count)
            value = value + self.options.entropy * surprise
            value = value - value.mean()
        expected = self.helper.element(decisions.features.detach())[:, 0]
        reward = value[decisions.row]
        loss = -((reward - expected.detach()) * decisions.log_element).sum()
        error = ((reward - expected) ** 2).sum()
        expected = self.helper.count(decisions.count_features.detach())[:, 0]
        reward = reward[decisions.going]
        loss = loss - ((reward - expected.detach()) * decisions.log_count).sum()
        error = error + ((reward - expected) ** 2).sum()
        return (loss + 0.5 * error) / len(cells), _monitor(cells.cpu().numpy())


def _monitor(cells: np.ndarray) -> list[float]:
    """Return the monitors of cells (n, 8)."""
    n, used = len(cells), cells < N_CELLS
    distinct = len(np.unique(np.ascontiguousarray(cells).view(f"V{cells.itemsize * N_SLOTS}")))
    atoms = ((cells % N_COUNTS + 1) * used).sum()
    return [distinct / n, float(used.sum() / n), float(atoms / n)]


def _matrices(cells: Tensor) -> Tensor:
    """One-hot matrices, float32 (n, 680), of cells (n, 8)."""
    x = torch.zeros((len(cells), N_CELLS + 1), device=cells.device)
    return x.scatter_(1, cells, 1.0)[:, :N_CELLS]


ADVERSARY = MatGANAdversary
"""What `gandb.training` trains for this model."""
