"""What generators built on torch share: devices, threads, seeds, and weights as arrays."""

from __future__ import annotations

import threading
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


class _Mode:
    """Torch's settings for the whole process, which threads that compute at once have to share."""

    def __init__(self) -> None:
        self._free = threading.Condition()
        self._users = 0
        self._wanted: tuple[int, bool] | None = None
        self._before = (1, False, True)

    def enter(self, wanted: tuple[int, bool]) -> None:
        """Set threads and determinism; wait while others compute with other settings."""
        with self._free:
            self._free.wait_for(lambda: not self._users or self._wanted == wanted)
            if not self._users:
                fill = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
                deterministic = torch.are_deterministic_algorithms_enabled()
                self._before = (torch.get_num_threads(), deterministic, fill)
                self._set(wanted[0], deterministic or wanted[1], False)
                self._wanted = wanted
            else:
                torch.set_num_threads(wanted[0])  # each thread has a count of its own
            self._users += 1

    def leave(self) -> None:
        """Put back what was before when the last one leaves."""
        with self._free:
            self._users -= 1
            if not self._users:
                self._set(*self._before)
                self._free.notify_all()

    @staticmethod
    def _set(threads: int, deterministic: bool, fill: bool) -> None:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(deterministic)
        torch.utils.deterministic.fill_uninitialized_memory = fill  # type: ignore[attr-defined]


_MODE = _Mode()


@contextmanager
def repeatable(threads: int, device: torch.device) -> Iterator[None]:
    """Let torch compute with this many threads, in an order that does not vary between runs.

    Results depend on the number of threads in the last bit. On CUDA, sums keep no fixed order.
    """
    _MODE.enter((threads, device.type == "cpu"))
    try:
        yield
    finally:
        _MODE.leave()


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
