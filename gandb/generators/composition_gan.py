"""Composition-conditioned GAN: crystals of a composition that is asked for, as clouds of points.

S. Kim, J. Noh, G. H. Gu, A. Aspuru-Guzik and Y. Jung, ACS Cent. Sci. 6, 1412 (2020),
doi:10.1021/acscentsci.0c00426, with the objective of Gulrajani et al. (2017), arXiv:1704.00028. A
critic D, a classifier Q and a generator G, given counts c of the atoms of each element, play

    D: max  E[D(x, c)] - E[D(G(z, c), c)] - lambda E[(|grad D(x_mixed, c)| - 1)^2]
    Q: min  E[CE(Q(x), c)]                                       on real crystals x alone
    G: min  -E[D(G(z, c), c)] + w_count E[CE(Q(G(z, c)), c)] + w_distance E[overlap(G(z, c))]

Cross entropies are taken of logits, and Q never learns from generated crystals, on which it could
agree with G.

Two presets:

- ``paper``: the published networks, rates and augmentations. G makes 28 rows (as many as there are
  slots) of three coordinates by transposed convolutions, and the cell from these. A row that adds
  up to more than 0.4 holds an atom.
- ``compact``: trains on a CPU. Crystals are graphs of neighbours within 3.6 Å, images in other
  cells included. The critic is a SchNet (K. T. Schütt et al., arXiv:1706.08566); in the generator,
  atoms that start anywhere move along the lines to their neighbours (V. G. Satorras et al.,
  arXiv:2102.09844). A slot has coordinates and a presence, a number from 0 to 1, of its own, and
  holds an atom above 0.5.

In both, presence is what the generator says itself; nothing is filled or emptied to meet a request.
So samples can have another composition than that asked for, and how often says what was learned.

The overlap is that of all pairs of atoms nearer than those elements come in the training set, with
images in other cells: the mean over atoms of the sum of ((least - distance) / least)^2. Least is
the option ``distance_quantile`` of the shortest distances of that pair in the training crystals
that have it.

Differences from the published code, beside the losses: an odd permutation of axes inverts
coordinates, so that a crystal keeps its hand; any elements and numbers of slots; the classifier
learns at the critic's rate.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from gandb.core.crystals import Crystal
from gandb.core.elements import ATOMIC_NUMBERS, MAX_Z, SYMBOLS
from gandb.core.errors import InputError, UsageError
from gandb.generators import base
from gandb.generators.composition_gan_distances import least_distances, overlap
from gandb.generators.composition_gan_networks import (
    Draw,
    Geometry,
    GraphCritic,
    GraphGenerator,
)
from gandb.generators.composition_gan_options import CompositionGANConfig
from gandb.generators.composition_gan_paper import ConvCritic, ConvGenerator
from gandb.generators.kept_crystals import formula_asked
from gandb.generators.networks import (
    from_arrays,
    open_device,
    repeatable,
    seeded_weights,
    to_arrays,
)
from gandb.generators.structures import (
    COMPOSITION,
    ELEMENTS,
    Request,
    StructureData,
    StructureSamples,
    read_condition,
)
from gandb.representations import point_cloud
from gandb.representations.point_cloud import PointCloudForm, PointClouds

BATCH = 256
"""Samples that a network draws at a time; fixed, since sums depend on it in the last bit."""

# --- sampling ----------------------------------------------------------------------------


@dataclass(frozen=True)
class CompositionGAN:
    """A trained generator.

    Attributes:
        options: its configuration.
        form: which element has which slots.
        compositions: int64 (k, elements), atoms of each element in cells of the training set.
        times: int64 (k,), how many training crystals have these.
        network: the generator's network, on ``device``.
        device: where the network is.
    """

    options: CompositionGANConfig
    form: PointCloudForm
    compositions: np.ndarray
    times: np.ndarray
    network: GraphGenerator | ConvGenerator
    device: torch.device
    name: str = "composition_gan"

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
    ) -> StructureSamples:
        """Draw n crystals; see `gandb.generators.structures`.

        What was asked of each sample is its reduced formula in ``formulas``, whether the condition
        or the training set named it. The sample may have another composition.

        Args:
            n: number of samples.
            seed: where their randomness comes from.
            condition: None to draw compositions as often as training crystals have them;
                ``{"composition": FORMULA}`` for the counts of the cell, as written; or
                ``{"elements": [...]}`` for the training compositions of just these elements.
            device: None for where the network is; another one copies it there.

        Raises:
            UsageError: the form has not the elements or slots for what is asked for, or no training
                crystal is of just these elements.
        """
        rows, shares = self._choices(read_condition(condition, self.name, (ELEMENTS, COMPOSITION)))
        place = self.device if device is None else open_device(device)
        network = self.network if place == self.device else copy.deepcopy(self.network).to(place)
        network.eval()
        formulas = [self._formula(row) for row in rows]
        sums = np.cumsum(shares)
        crystals: list[Crystal | None] = []
        asked: list[str] = []
        codes = np.zeros(n, np.uint8)
        with repeatable(1, place):
            for part, rng in base.blocks(n, seed, BATCH):
                size = part.stop - part.start
                drawn = np.searchsorted(sums, rng.random(size) * sums[-1], side="right")
                drawn = np.minimum(drawn, len(sums) - 1)
                counts = torch.from_numpy(rows[drawn].astype(np.float32)).to(place)
                numbers = [_drawn_by(rng, draw).to(place) for draw in network.draws(size)]
                with torch.no_grad():
                    shape = network.geometry(network(counts, *numbers))
                found, codes[part] = _clouds(self.form, shape).crystals()
                crystals += found
                asked += [formulas[i] for i in drawn.tolist()]
        groups = np.zeros(n, np.int16)
        return StructureSamples(crystals, codes, point_cloud.REJECTIONS, groups, asked)

    def _choices(self, request: Request) -> tuple[np.ndarray, np.ndarray]:
        """Return the compositions that a request allows, int64 (k, elements), and their weights."""
        if not request.elements:
            return self.compositions, self.times
        symbols = [SYMBOLS[z] for z in request.elements]
        if unknown := [symbol for symbol in symbols if symbol not in self.form.elements]:
            raise UsageError(
                f"this {self.name} knows {', '.join(self.form.elements)}, not {', '.join(unknown)}"
            )
        counts = dict(zip(symbols, request.counts or [1] * len(symbols), strict=True))
        asked = np.array([[counts.get(symbol, 0) for symbol in self.form.elements]])
        if self.form.all_elements and not asked.all():
            raise UsageError(
                f"every crystal of this {self.name} has all of {', '.join(self.form.elements)}"
            )
        if request.counts:
            if (asked > self.form.slots).any():
                most = " ".join(map("{}{}".format, self.form.elements, self.form.slots))
                raise UsageError(
                    f"a cell of {formula_asked(request)} with these counts does not fit: this "
                    f"{self.name} has slots for {most}; counts are those of the cell"
                )
            return asked, np.ones(1)
        fits = ((self.compositions > 0) == (asked > 0)).all(axis=1)
        if not fits.any():
            raise UsageError(
                f"no training crystal of this {self.name} has just these elements: "
                f"{', '.join(symbols)}; ask for a composition"
            )
        return self.compositions[fits], self.times[fits]

    def _formula(self, counts: np.ndarray) -> str:
        pairs = sorted(
            (ATOMIC_NUMBERS[symbol], int(k))
            for symbol, k in zip(self.form.elements, counts.tolist(), strict=True)
            if k
        )
        formula = formula_asked(Request(tuple(z for z, _ in pairs), tuple(k for _, k in pairs)))
        assert formula is not None
        return formula

    def checkpoint(self) -> bytes:
        """Write the weights, the form and the training compositions."""
        tensors = {
            "form.atomic_numbers": np.array([ATOMIC_NUMBERS[s] for s in self.form.elements]),
            "form.slots": np.array(self.form.slots),
            "form.all_elements": np.array([self.form.all_elements]),
            "compositions": self.compositions,
            "times": self.times,
            **to_arrays(self.network, "generator."),
        }
        return base.pack(tensors, base.describe(self.name, self.options))

    @classmethod
    def restore(
        cls, tensors: Mapping[str, np.ndarray], description: Mapping[str, Any], device: str
    ) -> Self:
        """Make it of a checkpoint's tensors.

        Raises:
            InputError: the tensors do not fit the configuration or each other.
            UsageError: the device is unknown or absent.
        """
        options = CompositionGANConfig.of(description["config"])
        place = open_device(device)
        numbers = tensors["form.atomic_numbers"].tolist()
        if any(not 1 <= z <= MAX_Z for z in numbers):
            raise InputError("the checkpoint's form has slots of no element; train it again")
        try:
            form = PointCloudForm(
                tuple(SYMBOLS[z] for z in numbers),
                tuple(tensors["form.slots"].tolist()),
                options.max_length,
                bool(tensors["form.all_elements"].all()),
            )
        except UsageError as error:
            raise InputError(f"the checkpoint's form is none: {error}") from error
        compositions, times = tensors["compositions"], tensors["times"]
        fit = compositions.shape == (len(times), len(form.slots)) and len(times) > 0
        if not fit or (compositions > form.slots).any() or (compositions < 0).any():
            raise InputError("the checkpoint's compositions do not fit its form; train it again")
        with seeded_weights(0):
            network = _make_generator(options, form)
        from_arrays(network, tensors, "generator.")
        return cls(options, form, compositions, times, network.to(place).eval(), place)


def _make_generator(
    options: CompositionGANConfig, form: PointCloudForm
) -> GraphGenerator | ConvGenerator:
    if options.preset == "paper":
        return ConvGenerator(form, options.width)
    return GraphGenerator(form, options.width, options.rounds)


def _drawn_by(rng: np.random.Generator, draw: Draw) -> Tensor:
    kind, shape = draw
    numbers = rng.random if kind == "uniform" else rng.standard_normal
    return torch.from_numpy(numbers(shape, np.float32))


def _clouds(form: PointCloudForm, shape: Geometry) -> PointClouds:
    """Read what a network made."""
    present = shape.present.cpu().numpy()
    coords = shape.coords.double().cpu().numpy()
    with np.errstate(invalid="ignore"):  # what is not finite is rejected as such
        coords = coords - np.floor(coords)
        coords[coords >= 1.0] = 0.0
        angles = np.degrees(np.arccos(shape.cosines.double().cpu().numpy()))
    return PointClouds(
        form,
        shape.lengths.double().cpu().numpy(),
        angles,
        np.where(present[:, :, None], coords, 0.0),
        present,
    )


# --- training ----------------------------------------------------------------------------


class CompositionGANAdversary:
    """What the adversarial loop of `gandb.training` trains: networks, real and generated batches.

    Inputs of the critic are the matrices of `composition_gan_networks` or, in ``paper``, of
    `representations.point_cloud`; the condition is what is asked for, float32 (n, elements).

    Attributes:
        form: which element has which slots.
        generator: draws samples.
        critic: values them; its ``classifier`` tells counts.
        helper: None.
        rejected: training crystals that were left out, by reason.
        rows: number of training crystals that are used.
        least: float32 (elements, elements), Å: pairs of atoms nearer than this overlap.
        monitors: what is recorded of every generator batch: the share that has the composition
            asked for, and the share without overlap.
    """

    monitors = ("composition_obtained", "no_overlap")

    def __init__(self, options: CompositionGANConfig, data: StructureData, device: str) -> None:
        self.options = options
        self.device = open_device(device)
        self.helper = None
        form = self.form = options.form_for(data)
        encoded = point_cloud.encode(data.crystals, form)
        self.rejected = encoded.rejected()
        self.rows = len(encoded.rows)
        if not self.rows:
            raise InputError(
                f"none of the {len(data)} training crystals fits {', '.join(form.elements)} with "
                f"slots {form.slots}: {self.rejected or 'the dataset is empty'}"
            )
        self._compositions, self._times = np.unique(
            encoded.clouds.counts(), axis=0, return_counts=True
        )
        self._clouds = _with_supercells(encoded.clouds) if options.supercells else encoded.clouds
        self._counts = self._clouds.counts()
        _, which, times = np.unique(self._counts, axis=0, return_inverse=True, return_counts=True)
        self._by_composition = np.argsort(which.ravel(), kind="stable")
        self._ends = np.cumsum(times)
        self._batch_present: Tensor | None = None
        self._batch_noise: Tensor | None = None
        self.generator = _make_generator(options, form)
        self.critic: GraphCritic | ConvCritic
        if isinstance(self.generator, GraphGenerator):
            self.critic = GraphCritic(form, options.critic_width, options.critic_rounds)
            volumes = np.array([data.crystals[row].volume for row in encoded.rows.tolist()])
            volume = np.median(volumes / encoded.clouds.counts().sum(axis=1))
            typical = torch.tensor([np.median(encoded.clouds.lengths), volume], dtype=torch.float32)
            self.generator.typical.copy_(typical)
            self.critic.typical.copy_(typical)
        else:
            self.critic = ConvCritic(form, options.critic_width)
        self.generator.to(self.device)
        self.critic.to(self.device)
        self._owner: Tensor = self.generator.slots.owner
        self._asked = torch.from_numpy(self._counts.astype(np.float32))
        self.least = least_distances(
            encoded.clouds, self._owner.cpu(), options.distance_quantile
        ).to(self.device)

    def real(self, n: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw real matrices, and the counts of their atoms (n, elements)."""
        rows = self._draw_rows(n, rng)
        own = np.random.Generator(np.random.Philox(int(torch.randint(2**62, (1,), generator=rng))))
        clouds = self._clouds.take(rows.numpy())
        if self.options.axis_permutations:
            axes = np.argsort(own.random((n, 3)), axis=1)
            clouds = point_cloud.permute_axes(clouds, axes)
        if self.options.translations:
            clouds = point_cloud.translate(clouds, own.random((n, 3)))
        if self.options.slot_permutations:
            clouds = point_cloud.permute_within_elements(clouds, own)
        x: Tensor = self.generator.encode(clouds)
        if self.options.slot_weight:
            self._batch_present = torch.from_numpy(clouds.present).to(self.device)
            self._batch_noise = _row_noise(x, clouds.present, own).to(self.device)
        return x.to(self.device), self._asked[rows].to(self.device)

    def fake(self, counts: Tensor, rng: torch.Generator) -> Tensor:
        """Draw generated matrices for counts (n, elements), without gradient."""
        with torch.no_grad():
            return self._forward(counts, rng)

    def auxiliary_loss(self, real: Tensor, counts: Tensor) -> Tensor | None:
        """Return the classifier's loss on the real batch that was drawn last."""
        options = self.options
        if not options.slot_weight and not options.count_weight:
            return None
        if self._batch_noise is not None:
            real = real + self._batch_noise
        slots, times = self.critic.classifier.losses(real, counts, self._batch_present)
        loss: Tensor = options.count_weight * times
        return loss if slots is None else loss + options.slot_weight * slots

    def generator_loss(self, n: int, rng: torch.Generator) -> tuple[Tensor, list[float]]:
        """Return the generator's loss on n new samples, and the monitors of these."""
        counts = self._asked[self._draw_rows(n, rng)].to(self.device)
        x = self._forward(counts, rng)
        loss: Tensor = -self.critic(x, counts).mean()
        if self.options.generator_count_weight:
            _, times = self.critic.classifier.losses(x, counts, None)
            loss = loss + self.options.generator_count_weight * times
        shape = self.generator.geometry(x)
        overlaps = overlap(shape, self._owner, self.least)
        if self.options.distance_weight:
            loss = loss + self.options.distance_weight * overlaps.mean()
        made = shape.present.float() @ self.generator.slots.sums
        obtained = (made == counts).all(dim=1).float().mean()
        return loss, [float(obtained), float((overlaps == 0).float().mean())]

    def snapshot(self, network: GraphGenerator | ConvGenerator) -> CompositionGAN:
        """Return the model that samples from ``network``, a copy of the generator."""
        return CompositionGAN(
            self.options, self.form, self._compositions, self._times, network, self.device
        )

    def _draw_rows(self, n: int, rng: torch.Generator) -> Tensor:
        """Draw rows of the real crystals, int64 (n,)."""
        if not self.options.balanced:
            return torch.randint(len(self._clouds), (n,), generator=rng)
        which = torch.randint(len(self._ends), (n,), generator=rng).numpy()
        starts = np.concatenate([[0], self._ends[:-1]])[which]
        uniforms = torch.rand((n,), generator=rng, dtype=torch.float64).numpy()
        places = starts + np.floor(uniforms * (self._ends[which] - starts)).astype(np.int64)
        return torch.from_numpy(self._by_composition[places])

    def _forward(self, counts: Tensor, rng: torch.Generator) -> Tensor:
        numbers = []
        for kind, shape in self.generator.draws(len(counts)):
            make = torch.rand if kind == "uniform" else torch.randn
            numbers.append(make(shape, generator=rng).to(self.device))
        x: Tensor = self.generator(counts, *numbers)
        return x


def _with_supercells(clouds: PointClouds) -> PointClouds:
    """Return crystals, and all that fit of their cells doubled along one axis."""
    parts = [clouds, *(point_cloud.supercells(clouds, axis).clouds for axis in range(3))]
    return replace(
        clouds,
        lengths=np.concatenate([part.lengths for part in parts]),
        angles=np.concatenate([part.angles for part in parts]),
        frac_coords=np.concatenate([part.frac_coords for part in parts]),
        present=np.concatenate([part.present for part in parts]),
    )


def _row_noise(x: Tensor, present: np.ndarray, rng: np.random.Generator) -> Tensor:
    """Return what the paper's classifier sees in place of the zeros of empty slots."""
    noise = np.abs(rng.normal(1e-3, 10**-2.5, tuple(x.shape))).astype(np.float32)
    noise[:, :2] = 0.0
    noise[:, 2:] *= ~present[:, :, None]
    return torch.from_numpy(noise)


ADVERSARY = CompositionGANAdversary
"""What `gandb.training` trains for this model."""
