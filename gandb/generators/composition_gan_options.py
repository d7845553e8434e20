"""Options of the composition-conditioned GAN; see `gandb.generators.composition_gan`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

from gandb.core.errors import InputError, UsageError, known_names
from gandb.generators import base
from gandb.generators.structures import StructureData
from gandb.representations.point_cloud import MG_MN_O, PointCloudForm

FORMS: dict[str, PointCloudForm] = {"Mg-Mn-O": MG_MN_O}
"""Forms by name."""

MOST_SLOTS = 256
"""Most slots that a form of this model may have."""


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
    iterations: int = 600
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
