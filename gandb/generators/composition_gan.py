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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from gandb.core.crystals import Crystal
from gandb.core.elements import ATOMIC_NUMBERS, MAX_Z, SYMBOLS
from gandb.core.errors import InputError, UsageError, known_names
from gandb.core.radii import COVALENT_RADIUS
from gandb.generators import base
from gandb.generators.composition_gan_networks import (
    Draw,
    Geometry,
    GraphCritic,
    GraphGenerator,
    find_neighbours,
    metric,
)
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
from gandb.representations.point_cloud import MG_MN_O, PointCloudForm, PointClouds

BATCH = 256
"""Samples that a network draws at a time; fixed, since sums depend on it in the last bit."""

FORMS: dict[str, PointCloudForm] = {"Mg-Mn-O": MG_MN_O}
"""Forms by name."""

MOST_SLOTS = 256
"""Most slots that a form of this model may have."""

_FARTHEST = 5.0  # Å, to which pairs of training atoms are looked at for their shortest distance
_LIKELY = 0.7  # shortest distance, of the sum of covalent radii, of elements never seen so near
_FLATTEST = 1e-3  # squared volume of a cell with edges of 1, below which distances mean nothing


# --- configuration -----------------------------------------------------------------------


@dataclass(frozen=True)
class CompositionGANConfig:
    """Options of the composition-conditioned GAN.

    Attributes:
        preset: ``compact`` or ``paper``; it sets the defaults of what follows.
        form: which elements have how many slots: None for those of the training crystals; a name
            (``Mg-Mn-O``, the paper's); or ``{"elements": ["Li", "O"], "slots": [4, 8]}``, with
            ``"all_elements": true`` where crystals without one of them are to be left out.
            Training crystals that do not fit are left out.
        max_length: training cells with a longer edge, Å, are left out.
        iterations: generator steps in all; learning rates fall linearly to zero over the last half.
        batch_size: real, and as many generated, samples per critic step.
        generator_batch: samples per generator step.
        critic_steps: critic steps per generator step.
        penalty: weight lambda of the gradient penalty.
        penalty_every: critic steps per penalty step; its weight is multiplied by it.
        generator_rate: Adam's learning rate of the generator.
        critic_rate: Adam's learning rate of the critic and the classifier.
        beta1: Adam's decay of the first moment.
        beta2: Adam's decay of the second moment.
        averaging: decay per step of the running average of the generator that is sampled.
        width: hidden size of the generator (``paper``: channels of its first map).
        critic_width: hidden size of the critic (``paper``: channels of its widest map).
        rounds: how often the compact generator moves its atoms.
        critic_rounds: how often atoms take up their neighbours in the compact critic.
        axis_permutations: whether real cells come with their axes in random order.
        translations: whether real crystals come with a random origin.
        slot_permutations: whether real atoms come in random slots of their element. The critic
            does not see it; the paper's classifier does.
        supercells: whether cells doubled along an axis, where they have the slots, are real too.
        balanced: whether real compositions are drawn alike, instead of real crystals.
        slot_weight: weight of the cross entropy of slots on real crystals (``paper`` alone).
        count_weight: weight of the cross entropy of counts on real crystals.
        generator_count_weight: weight of the cross entropy of counts on generated crystals, which
            only the generator learns from.
        distance_weight: weight of the overlap in the generator's loss; 0 for none.
        distance_quantile: which quantile of the training crystals' shortest distances between two
            elements is the least that does not overlap.
    """

    preset: str = "compact"
    form: Any = None
    max_length: float = 30.0
    iterations: int = 1500
    batch_size: int = 32
    generator_batch: int = 32
    critic_steps: int = 2
    penalty: float = 10.0
    penalty_every: int = 2
    generator_rate: float = 5e-4
    critic_rate: float = 5e-4
    beta1: float = 0.5
    beta2: float = 0.9
    averaging: float = 0.99
    width: int = 64
    critic_width: int = 64
    rounds: int = 5
    critic_rounds: int = 2
    axis_permutations: bool = True
    translations: bool = True
    slot_permutations: bool = False
    supercells: bool = False
    balanced: bool = False
    slot_weight: float = 0.0
    count_weight: float = 0.3
    generator_count_weight: float = 0.3
    distance_weight: float = 10.0
    distance_quantile: float = 0.01

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Self:
        """Make a configuration of a preset's defaults and options.

        Raises:
            UsageError: an option is unknown or cannot be.
        """
        preset = options.get("preset", "compact")
        if preset not in PRESETS:
            known = known_names("preset", str(preset), PRESETS)
            raise UsageError(f"composition_gan has no preset {preset!r}; {known}")
        config = base.read_options(cls, {**PRESETS[preset], **options}, "composition_gan")
        for name in ("iterations", "batch_size", "generator_batch", "critic_steps", "penalty_every",
                     "width", "critic_width", "rounds", "critic_rounds"):  # fmt: skip
            if getattr(config, name) < 1:
                raise UsageError(f"option {name!r} is {getattr(config, name)}; give at least 1")
        for name in ("generator_rate", "critic_rate", "max_length"):
            if not getattr(config, name) > 0:
                raise UsageError(f"option {name!r} is {getattr(config, name)}; give more than 0")
        for name in ("beta1", "beta2", "averaging", "distance_quantile"):
            if not 0 <= getattr(config, name) < 1:
                raise UsageError(f"option {name!r} is {getattr(config, name)}; give 0 to below 1")
        for name in ("penalty", "slot_weight", "count_weight", "generator_count_weight",
                     "distance_weight"):  # fmt: skip
            if not getattr(config, name) >= 0:
                raise UsageError(f"option {name!r} is {getattr(config, name)}; give 0 or more")
        if preset == "compact" and config.slot_weight:
            raise UsageError("option 'slot_weight' is of the preset paper: slots of compact say "
                             "themselves whether they hold an atom")  # fmt: skip
        return replace(config, form=_read_form(config.form))

    def form_for(self, data: StructureData) -> PointCloudForm:
        """Return the form, that of the training crystals where none is given.

        Raises:
            UsageError: it has too many slots.
            InputError: no training crystal is ordered.
        """
        if isinstance(self.form, str):
            form = replace(FORMS[self.form], max_length=self.max_length)
        elif self.form is not None:
            form = _form_of(self.form, self.max_length)
        elif any(own.ordered for own in data.crystals):
            form = PointCloudForm.for_crystals(data.crystals, self.max_length)
        else:
            raise InputError(f"none of the {len(data)} training crystals is ordered")
        if sum(form.slots) > MOST_SLOTS:
            raise UsageError(
                f"{len(form.elements)} elements with {sum(form.slots):,} slots in all; "
                f"composition_gan takes at most {MOST_SLOTS}: give the option 'form', such as "
                '{"elements": ["Mg", "Mn", "O"], "slots": [8, 8, 12]}, or a smaller dataset'
            )
        return form


PRESETS: dict[str, dict[str, Any]] = {
    "compact": {},
    "paper": {
        "iterations": 350_000,
        "critic_steps": 5,
        "penalty": 10.0,
        "penalty_every": 1,
        "generator_rate": 5e-5,
        "critic_rate": 5e-5,
        "beta1": 0.5,
        "beta2": 0.999,
        "averaging": 0.0,
        "width": 128,
        "critic_width": 512,
        "slot_permutations": True,
        "supercells": True,
        "balanced": True,
        "slot_weight": 1.0,
        "distance_weight": 0.0,
    },
}
"""Defaults by preset, where they differ from `CompositionGANConfig`'s. 350,000 iterations are the
501 epochs of 112,000 crystals in batches of 32 that the published code runs."""


def _read_form(form: Any) -> Any:
    """Return the option 'form' as it is kept.

    Raises:
        UsageError: it is none.
    """
    if form is None:
        return None
    if isinstance(form, str):
        if form not in FORMS:
            known = known_names("form", form, FORMS)
            raise UsageError(f"option 'form' is {form!r}, which is no name; {known}")
        return form
    keys = {"elements", "slots", "all_elements"}
    if not isinstance(form, Mapping) or not {"elements", "slots"} <= set(form) <= keys:
        raise UsageError(
            f"option 'form' is {form!r}; give a name ({', '.join(FORMS)}) or something like "
            '{"elements": ["Mg", "Mn", "O"], "slots": [8, 8, 12]}'
        )
    elements, slots = form["elements"], form["slots"]
    for what, kind in ((elements, str), (slots, int)):
        listed = isinstance(what, Sequence) and not isinstance(what, str)
        if not listed or any(not isinstance(v, kind) or isinstance(v, bool) for v in what):
            raise UsageError(f"in option 'form', {what!r} is no list of {kind.__name__}")
    if not isinstance(form.get("all_elements", False), bool):
        raise UsageError("in option 'form', 'all_elements' is neither true nor false")
    found = {"elements": list(elements), "slots": list(slots), **dict(form)}
    _form_of(found, 30.0)
    return found


def _form_of(form: Mapping[str, Any], max_length: float) -> PointCloudForm:
    return PointCloudForm(
        tuple(form["elements"]),
        tuple(form["slots"]),
        max_length,
        bool(form.get("all_elements", False)),
    )


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
        self.least = _least_distances(
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


def overlap(shape: Geometry, owner: Tensor, least: Tensor) -> Tensor:
    """Return how much the atoms of each crystal overlap, (n,); see the module.

    Args:
        shape: n crystals. Of cells too flat to be any, the overlap is 0.
        owner: int64 (s,), element of each slot.
        least: (elements, elements), Å, distance from which atoms do not overlap.
    """
    metrics = metric(shape.lengths, shape.cosines)
    n_slots = shape.present.shape[1]
    square = torch.linalg.det(metric(torch.ones_like(shape.lengths), shape.cosines))
    present = shape.present & (square > _FLATTEST)[:, None]
    pairs = find_neighbours(shape.coords, metrics, present, float(least.max()))
    _, distance = pairs.vectors(shape.coords, metrics)
    bound = least[owner[pairs.atom % n_slots], owner[pairs.other % n_slots]]
    short = ((bound - distance) / bound).clamp(min=0.0) ** 2
    sums = torch.zeros_like(square).index_add(0, pairs.crystal, short)
    return sums / shape.present.sum(dim=1).clamp(min=1)


def _least_distances(clouds: PointClouds, owner: Tensor, quantile: float) -> Tensor:
    """Return the option ``distance_quantile`` of the shortest distances, float32 (e, e), Å.

    Of elements never within 5 Å of each other, it is a share of the sum of covalent radii.
    """
    e, n_slots = len(clouds.form.slots), clouds.present.shape[1]
    shortest = np.full((len(clouds), e, e), np.inf, np.float32)
    for start in range(0, len(clouds), BATCH):
        part = clouds.take(np.arange(start, min(start + BATCH, len(clouds))))
        cosines = np.cos(np.radians(part.angles)).astype(np.float32)
        metrics = metric(
            torch.from_numpy(part.lengths.astype(np.float32)), torch.from_numpy(cosines)
        )
        coords = torch.from_numpy(part.frac_coords.astype(np.float32))
        pairs = find_neighbours(coords, metrics, torch.from_numpy(part.present), _FARTHEST)
        _, distance = pairs.vectors(coords, metrics)
        one, other = owner[pairs.atom % n_slots], owner[pairs.other % n_slots]
        places = (start + pairs.crystal.numpy(), one.numpy(), other.numpy())
        np.minimum.at(shortest, places, distance.numpy())
    radii = np.nan_to_num(
        COVALENT_RADIUS[[ATOMIC_NUMBERS[symbol] for symbol in clouds.form.elements]],
        nan=float(np.nanmean(COVALENT_RADIUS)),
    )
    least = _LIKELY * (radii[:, None] + radii)
    for a in range(e):
        for b in range(e):
            seen = shortest[np.isfinite(shortest[:, a, b]), a, b]
            if len(seen):
                least[a, b] = np.quantile(seen, quantile)
    return torch.from_numpy(least.astype(np.float32))


ADVERSARY = CompositionGANAdversary
"""What `gandb.training` trains for this model."""
