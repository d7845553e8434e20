"""Training of generators: iterations that can stop anywhere and go on bit for bit.

`start` begins a training, `resume` goes on from `Training.state`. Baselines are fitted in a single
iteration behind the same interface.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from gandb.core.errors import JobError
from gandb.generators import base
from gandb.generators import get as get_model
from gandb.training.fitting import FittedTraining

__all__ = ["Training", "resume", "start"]


class Training(Protocol):
    """A training under way.

    Attributes:
        iteration: iterations done.
        total: iterations in all.
        rows: training rows in use.
        rejected: training rows left out, by reason.
    """

    @property
    def iteration(self) -> int: ...  # noqa: D102
    @property
    def total(self) -> int: ...  # noqa: D102
    @property
    def rows(self) -> int: ...  # noqa: D102
    @property
    def rejected(self) -> Mapping[str, int]: ...  # noqa: D102

    def run(self, iterations: int) -> None:
        """Do that many iterations, or what is left if it is less."""
        ...

    def state(self) -> bytes:
        """Return safetensors bytes from which `resume` goes on bit for bit."""
        ...

    def curves(self) -> dict[str, np.ndarray]:
        """Return what was recorded, by name, each (iteration,); ``iteration`` counts from 1."""
        ...

    def checkpoint(self) -> bytes:
        """Return canonical bytes of the weights for sampling; see `gandb.generators.load`."""
        ...


def start(
    model: str,
    options: Mapping[str, Any],
    data: base.Data,
    seed: np.random.SeedSequence,
    device: str = "cpu",
    threads: int = 1,
) -> Training:
    """Begin a training.

    Args:
        model: a name in `gandb.generators.MODELS`.
        options: the model's options; those left out have the defaults of its configuration.
        data: what to fit.
        seed: where initial weights, batches and samples come from.
        device: ``cpu`` or ``cuda``.
        threads: threads that torch may use; results depend on it in the last bit.

    Raises:
        NotFoundError: the model is unknown.
        UsageError: an option or the device cannot be.
        InputError: no training row can be used.
        MissingExtraError: torch is needed and absent.
    """
    known = get_model(model)
    module = known.load_module()
    if not known.trained:
        chosen = base.read_options(getattr(module, known.config), options, model)
        return FittedTraining(getattr(module, known.generator), model, data, chosen)
    from gandb.training.adversarial import AdversarialTraining

    config = getattr(module, known.config).of(options)
    return AdversarialTraining.start(model, config, module, data, seed, device, threads)


def resume(
    state: bytes,
    data: base.Data,
    device: str = "cpu",
    threads: int | None = None,
    options: Mapping[str, Any] | None = None,
) -> Training:
    """Go on with a training from its state.

    Args:
        state: bytes from `Training.state`.
        data: the data that it began with.
        device: ``cpu`` or ``cuda``.
        threads: None for the number that it began with.
        options: the options that it began with, to be checked; None for no check.

    Raises:
        JobError: data, options or threads are not those it began with, or the bytes are no state.
        InputError: the bytes are damaged.
    """
    description = base.read_description(state)
    if description.get("kind") != "state" or description.get("format") != base.FORMAT:
        raise JobError(
            "these bytes are not a training state of this format: start the training anew"
        )
    known_name = str(description["model"])
    known = get_model(known_name)
    module = known.load_module()
    digest = data.digest()
    if digest != description["data"]:
        raise JobError(
            f"the training began with other data (digest {description['data'][:12]}..., "
            f"now {digest[:12]}...): resume with the dataset version it began with"
        )
    config_class = getattr(module, known.config)
    if not known.trained:
        chosen = base.read_options(config_class, description.get("config", {}), known_name)
        return FittedTraining.resume(getattr(module, known.generator), state, data, chosen)
    from gandb.training.adversarial import AdversarialTraining

    if options is not None:
        asked = base.config_json(config_class.of(options))
        changed = sorted(k for k in asked if asked[k] != description["config"].get(k))
        if changed:
            raise JobError(
                f"the training began with other options ({', '.join(changed)}): resume with "
                f"{ {k: description['config'].get(k) for k in changed} }, or start anew"
            )
    if threads is not None and threads != description["threads"]:
        raise JobError(
            f"the training began with {description['threads']} threads, not {threads}: its results "
            "would differ in the last bit; resume with the same number"
        )
    return AdversarialTraining.resume(state, config_class, module, data, device)
