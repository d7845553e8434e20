"""What every generator of compositions shares: its interface, its samples, its training data.

A checkpoint is safetensors bytes whose metadata has the single key ``gandb``: canonical JSON with
the model's name, the version of its format and its configuration. Tensors are written in a fixed
order, so equal weights give equal bytes and, by hash, the same checkpoint id everywhere.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

import numpy as np
import safetensors
import safetensors.numpy

from gandb.core.compositions import CompositionBatch
from gandb.core.errors import InputError, UsageError, known_names
from gandb.core.ids import canonical_json
from gandb.representations import onehot

REJECTIONS: tuple[str, ...] = onehot.REJECTIONS
"""Why a sample is no composition, by code; 0 is accepted."""

FORMAT = 1
"""Version of the checkpoint format."""

BLOCK = 65_536
"""Rows drawn at a time; block b of a chunk has its own random stream."""

_METADATA_KEY = "gandb"
_MAX_HEADER = 100_000_000

Config = TypeVar("Config")
Fitted = TypeVar("Fitted")


@dataclass(frozen=True)
class Samples:
    """n samples in slots.

    Attributes:
        atomic_numbers: uint8 (n, k), each element at most once in a row; 0 where empty.
        counts: uint8 (n, k), atoms of it as drawn, not divided by a common divisor; 0 where empty.
        rejections: uint8 (n,), code into `REJECTIONS`; a rejected row is all zero.
    """

    atomic_numbers: np.ndarray
    counts: np.ndarray
    rejections: np.ndarray

    def __len__(self) -> int:
        return len(self.rejections)

    def compositions(self) -> tuple[CompositionBatch, np.ndarray]:
        """Return the accepted compositions as drawn, and their rows, int64 (k,)."""
        rows = np.flatnonzero(self.rejections == 0)
        return CompositionBatch.from_slots(self.atomic_numbers[rows], self.counts[rows]), rows

    def rejected(self) -> dict[str, int]:
        """Count rejected rows by reason."""
        return onehot.count_rejections(self.rejections)

    @classmethod
    def from_cells(cls, cells: np.ndarray, rejections: np.ndarray | None = None) -> Samples:
        """Take one-hot cells, uint16 (n, 8); without codes, rows of no element are rejected."""
        numbers, counts = onehot.slots(cells)
        if rejections is None:
            rejections = (counts.sum(axis=1, dtype=np.int64) == 0).astype(np.uint8)
        return cls(numbers, counts, rejections)


@runtime_checkable
class Generator(Protocol):
    """A fitted model that draws compositions.

    Attributes:
        name: its name in `gandb.generators.MODELS`.
        config: what it was made with, as plain JSON data.
    """

    name: str
    config: Mapping[str, Any]

    def sample(
        self,
        n: int,
        seed: np.random.SeedSequence,
        condition: Mapping[str, Any] | None = None,
        device: str | None = None,
    ) -> Samples:
        """Draw n samples; the same seed, n and device (None: where it is) give the same samples."""
        ...

    def checkpoint(self) -> bytes:
        """Return canonical safetensors bytes from which `gandb.generators.load` makes it again."""
        ...


@dataclass(frozen=True)
class TrainingData:
    """What a model is fitted to.

    Attributes:
        compositions: n reduced compositions.
        values: float64 (n,), a property to condition on, NaN where missing; None without one.
        property_name: its name (``band_gap``), None without one.
    """

    compositions: CompositionBatch
    values: np.ndarray | None = None
    property_name: str | None = None

    def __post_init__(self) -> None:
        if (self.values is None) != (self.property_name is None):
            raise InputError("training data need both a property's name and its values, or neither")
        if self.values is not None and self.values.shape != (len(self.compositions),):
            raise InputError(
                f"property {self.property_name!r} has shape {self.values.shape} "
                f"for {len(self.compositions)} compositions; give one value each, NaN if missing"
            )

    def digest(self) -> str:
        """Return a SHA-256 of everything the model sees, in hexadecimal."""
        parts = hashlib.sha256()
        batch = self.compositions
        for array in (batch.offsets, batch.atomic_numbers, batch.counts):
            parts.update(f"{array.dtype.str}{array.shape}".encode())
            parts.update(np.ascontiguousarray(array).tobytes())
        if self.values is not None:
            parts.update(str(self.property_name).encode())
            parts.update(np.ascontiguousarray(self.values, np.float64).tobytes())
        return parts.hexdigest()

    def encode(self) -> onehot.Encoded:
        """Encode the compositions.

        Raises:
            InputError: none of them fits the encoding.
        """
        encoded = onehot.encode(self.compositions)
        if not len(encoded.rows):
            raise InputError(
                f"none of the {len(self.compositions)} compositions fits the one-hot encoding: "
                f"{encoded.rejected() or 'the dataset is empty'}"
            )
        return encoded


class Data(Protocol):
    """What a model is fitted to: `TrainingData`, or `gandb.generators.structures.StructureData`."""

    def digest(self) -> str:
        """Return a SHA-256 of everything the model sees, in hexadecimal."""
        ...


@dataclass(frozen=True)
class Fit(Generic[Fitted]):
    """A baseline that was fitted.

    Attributes:
        generator: it.
        rows: training rows in use.
        rejected: training rows left out, by reason.
    """

    generator: Fitted
    rows: int
    rejected: Mapping[str, int]


def read_options(config: type[Config], options: Mapping[str, Any], model: str) -> Config:
    """Make a configuration of known options, each of the type of its default.

    Raises:
        UsageError: an option is unknown or of another type.
    """
    defaults = {f.name: f.default for f in fields(config)}  # type: ignore[arg-type]
    values: dict[str, Any] = {}
    if options and not defaults:
        raise UsageError(f"{model} takes no options, but got {', '.join(sorted(options))}")
    for name, value in options.items():
        if name not in defaults:
            known = known_names("option", name, defaults)
            raise UsageError(f"model {model} has no option {name!r}; {known}")
        values[name] = _typed(name, value, defaults[name], model)
    return config(**values)


def _typed(name: str, value: Any, default: Any, model: str) -> Any:
    if default is None:
        return value
    if isinstance(value, bool) == isinstance(default, bool):
        if isinstance(value, type(default)):
            return value
        if isinstance(default, float) and isinstance(value, int):
            return float(value)
    wanted = type(default).__name__
    raise UsageError(
        f"option {name!r} of model {model} is {value!r}; give a value of type {wanted}"
    )


def config_json(config: Any) -> dict[str, Any]:
    """Return a configuration dataclass as plain JSON data."""
    result: dict[str, Any] = json.loads(canonical_json(asdict(config)))
    return result


def blocks(
    n: int, seed: np.random.SeedSequence, size: int = BLOCK
) -> Iterator[tuple[slice, np.random.Generator]]:
    """Cut n rows into blocks of at most ``size``, each with its own Philox stream.

    The seed is not changed: children are derived from its entropy and key, so a second call with
    an equal seed gives equal streams.
    """
    for b, start in enumerate(range(0, n, size)):
        child = np.random.SeedSequence(entropy=seed.entropy, spawn_key=(*seed.spawn_key, b))
        yield slice(start, min(n, start + size)), np.random.Generator(np.random.Philox(child))


# --- checkpoints -------------------------------------------------------------------------


def pack(tensors: Mapping[str, np.ndarray], description: Mapping[str, Any]) -> bytes:
    """Write tensors and a JSON description as canonical safetensors bytes."""
    arrays = {name: np.asarray(tensors[name], order="C") for name in sorted(tensors)}
    return safetensors.numpy.save(
        arrays, metadata={_METADATA_KEY: canonical_json(description).decode()}
    )


def unpack(data: bytes) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read what `pack` wrote.

    Raises:
        InputError: the bytes are damaged or not gandb's.
    """
    description = read_description(data)
    try:
        return safetensors.numpy.load(data), description
    except (safetensors.SafetensorError, ValueError, KeyError) as error:
        raise InputError(
            f"the checkpoint is damaged ({error}); export or train it again"
        ) from error


def read_description(data: bytes) -> dict[str, Any]:
    """Read the JSON description alone; see `unpack`."""
    problem = "the checkpoint is not safetensors bytes that gandb wrote"
    if len(data) < 8:
        raise InputError(f"{problem}: it has {len(data)} bytes")
    (length,) = struct.unpack("<Q", data[:8])
    if length > min(len(data) - 8, _MAX_HEADER):
        raise InputError(f"{problem}: its header claims {length} bytes of {len(data)}")
    try:
        header = json.loads(data[8 : 8 + length])
        description = json.loads(header["__metadata__"][_METADATA_KEY])
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{problem}: its header lacks the description ({error!r})") from error
    if not isinstance(description, dict):
        raise InputError(f"{problem}: its description is no JSON object")
    return description


def describe(name: str, config: Any) -> dict[str, Any]:
    """Describe a checkpoint: the model's name, the format and the configuration."""
    return {"model": name, "format": FORMAT, "config": config_json(config)}
