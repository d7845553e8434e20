"""What generators built on torch share: devices, threads, seeds, and weights as arrays."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn

from gandb.core.errors import InputError, UsageError


def open_device(name: str) -> torch.device:
    """Return a device by name (``cpu``, ``cuda``, ``cuda:1``).

    Raises:
        UsageError: the name is none, or this machine has no such device.
    """
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"{name!r} is no device; give cpu or cuda") from error
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= count:
            raise UsageError(f"device {name!r} was asked for, but torch sees {count} CUDA devices")
    elif device.type != "cpu":
        raise UsageError(f"device {name!r} is not supported; give cpu or cuda")
    return device


@contextmanager
def repeatable(threads: int, device: torch.device) -> Iterator[None]:
    """Let torch compute with this many threads, in an order that does not vary between runs.

    Results depend on the number of threads in the last bit. On CUDA, sums keep no fixed order.
    """
    before = torch.get_num_threads()
    deterministic = torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(deterministic or device.type == "cpu")
    fill = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    try:
        yield
    finally:
        torch.set_num_threads(before)
        torch.use_deterministic_algorithms(deterministic)
        torch.utils.deterministic.fill_uninitialized_memory = fill  # type: ignore[attr-defined]


@contextmanager
def seeded_weights(seed: int) -> Iterator[None]:
    """Make the initial weights of networks built inside depend on ``seed`` alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def to_arrays(module: nn.Module, prefix: str = "") -> dict[str, np.ndarray]:
    """Return a module's weights and buffers as arrays on the CPU."""
    return {
        prefix + name: tensor.detach().cpu().contiguous().numpy()
        for name, tensor in module.state_dict().items()
    }


def from_arrays(module: nn.Module, arrays: Mapping[str, np.ndarray], prefix: str = "") -> None:
    """Load what `to_arrays` gave.

    Raises:
        InputError: a tensor is absent or has another shape.
    """
    state = module.state_dict()
    for name, tensor in state.items():
        array = arrays.get(prefix + name)
        if array is None:
            raise InputError(f"the checkpoint lacks the tensor {prefix + name!r}")
        if tuple(array.shape) != tuple(tensor.shape):
            raise InputError(
                f"tensor {prefix + name!r} has shape {tuple(array.shape)}; "
                f"the configuration needs {tuple(tensor.shape)}"
            )
        state[name] = torch.from_numpy(np.array(array)).to(tensor.dtype)
    module.load_state_dict(state)
