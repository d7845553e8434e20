"""Generators of compositions and of crystal structures, and the baselines they have to beat.

One file per model; `MODELS` names them all. Nothing here loads torch until a model that needs it
is asked for.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from types import ModuleType

from gandb.core.errors import InputError, MissingExtraError, NotFoundError
from gandb.generators.base import (
    FORMAT,
    REJECTIONS,
    Generator,
    Samples,
    TrainingData,
    read_description,
    unpack,
)
from gandb.generators.structures import StructureData, StructureGenerator, StructureSamples

__all__ = [
    "COMPOSITIONS",
    "MODELS",
    "REJECTIONS",
    "STRUCTURES",
    "Generator",
    "Model",
    "Samples",
    "StructureData",
    "StructureGenerator",
    "StructureSamples",
    "TrainingData",
    "get",
    "load",
]


COMPOSITIONS, STRUCTURES = "compositions", "structures"
"""What a model can make."""


@dataclass(frozen=True)
class Model:
    """Where a model's code is, and what it is.

    Attributes:
        module: the module that holds it.
        generator: its class there, with ``restore``, and for baselines ``fit``.
        config: its configuration class there.
        trained: whether it is trained by iterations; baselines are fitted at once.
        about: one line for people.
        makes: `COMPOSITIONS` or `STRUCTURES`; it is fitted to the same.
    """

    module: str
    generator: str
    config: str
    trained: bool
    about: str
    makes: str = COMPOSITIONS

    def load_module(self) -> ModuleType:
        """Import the module.

        Raises:
            MissingExtraError: it needs torch, which is not installed.
        """
        try:
            return importlib.import_module(self.module)
        except ModuleNotFoundError as error:
            if error.name != "torch":
                raise
            raise MissingExtraError.for_package("torch", "train") from error


_FREQUENCY = ("gandb.generators.frequency", "FrequencyGenerator", "FrequencyConfig", False)

MODELS: dict[str, Model] = {
    "matgan": Model(
        "gandb.generators.matgan",
        "MatGAN",
        "MatGANConfig",
        True,
        "Wasserstein GAN with gradient penalty on one-hot compositions",
    ),
    "uniform": Model(*_FREQUENCY, "baseline: every element and count alike"),
    "element_frequency": Model(*_FREQUENCY, "baseline: elements and counts by their frequency"),
    "count_given_element": Model(
        *_FREQUENCY, "baseline: elements by frequency, counts by frequency given the element"
    ),
    "substitution": Model(
        "gandb.generators.substitution",
        "SubstitutionGenerator",
        "SubstitutionConfig",
        False,
        "baseline: a training formula with one element replaced",
    ),
    "cubicgan": Model(
        "gandb.generators.cubicgan",
        "CubicGAN",
        "CubicGANConfig",
        True,
        "crystals: cubic ternaries and quaternaries, from space group and elements",
        STRUCTURES,
    ),
    "pgcgm": Model(
        "gandb.generators.pgcgm",
        "PGCGM",
        "PGCGMConfig",
        True,
        "crystals: ternaries of 20 space groups, by symmetry operations and distance losses",
        STRUCTURES,
    ),
    "composition_gan": Model(
        "gandb.generators.composition_gan",
        "CompositionGAN",
        "CompositionGANConfig",
        True,
        "crystals of a composition that is asked for, as clouds of points",
        STRUCTURES,
    ),
    "random_coordinates": Model(
        "gandb.generators.random_coordinates",
        "RandomCoordinates",
        "RandomCoordinatesConfig",
        False,
        "baseline: random coordinates in the cells of training crystals",
        STRUCTURES,
    ),
    "random_wyckoff": Model(
        "gandb.generators.random_wyckoff",
        "RandomWyckoff",
        "RandomWyckoffConfig",
        False,
        "baseline: Wyckoff positions of a space group filled at random",
        STRUCTURES,
    ),
    "prototype_substitution": Model(
        "gandb.generators.prototype_substitution",
        "PrototypeSubstitution",
        "PrototypeSubstitutionConfig",
        False,
        "baseline: a training crystal with elements replaced",
        STRUCTURES,
    ),
}
"""Every model by name."""


def get(name: str) -> Model:
    """Return a model by name.

    Raises:
        NotFoundError: there is none; the message names those that exist.
    """
    if name not in MODELS:
        raise NotFoundError.naming("model", name, MODELS)
    return MODELS[name]


def load(checkpoint: bytes, device: str = "cpu") -> Generator | StructureGenerator:
    """Make a generator of a checkpoint's bytes.

    Args:
        checkpoint: safetensors bytes from a generator's or a training's ``checkpoint``.
        device: where a network runs (``cpu``, ``cuda``); baselines ignore it.

    Raises:
        InputError: the bytes are damaged, of another format, or not a checkpoint.
        NotFoundError: the model is unknown here.
        MissingExtraError: the model needs a package that is not installed.
    """
    description = read_description(checkpoint)
    if description.get("format") != FORMAT:
        raise InputError(
            f"the checkpoint has format {description.get('format')!r}; this gandb reads {FORMAT}: "
            "use a version of gandb that fits, or train the model again"
        )
    if "config" not in description or description.get("kind", "checkpoint") != "checkpoint":
        raise InputError("these bytes are a training state, not a checkpoint of weights")
    model = get(str(description.get("model")))
    tensors, description = unpack(checkpoint)
    factory = getattr(model.load_module(), model.generator)
    try:
        generator: Generator | StructureGenerator = factory.restore(tensors, description, device)
    except KeyError as error:
        raise InputError(f"the checkpoint lacks the tensor {error}") from error
    return generator
