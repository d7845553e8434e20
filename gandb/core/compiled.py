"""How kernels are compiled where only other kernels call them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

from numba import njit

F = TypeVar("F", bound=Callable[..., object])


def inner(function: F) -> F:
    """Compile a function that nothing but compiled functions calls.

    It gets no way in from Python, which takes an eighth of the time of compiling; called from
    there, it fails. Pass it whole numbers and truth values that are known beforehand as
    ``np.int64(0)`` and ``np.bool_(True)``: of a plain literal numba takes the value for a part of
    the type, and compiles the function, and all that it calls, anew for each.
    """
    options: dict[str, Any] = {"cache": True, "nogil": True}
    options |= {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
    return cast(F, njit(**options)(function))
