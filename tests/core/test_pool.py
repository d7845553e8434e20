"""Processes beside this one: order, failures, deaths, and work that does not end."""

from __future__ import annotations

import operator
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gandb.core.pool import Pool, PoolError, PoolTimeoutError


def _descriptors() -> set[str]:
    return {path.name for path in Path("/proc/self/fd").iterdir()}


@pytest.fixture(autouse=True)
def nothing_left_open() -> Iterator[None]:
    before = len(_descriptors())
    yield
    assert len(_descriptors()) <= before


@pytest.mark.parametrize("processes", [0, 1, 3])
def test_results_come_in_the_order_of_the_pieces(processes: int) -> None:
    with Pool(operator.neg, processes) as pool:
        assert list(pool.map(range(50))) == [-n for n in range(50)]


@pytest.mark.parametrize("processes", [0, 2])
def test_a_failure_is_the_callers(processes: int) -> None:
    with pytest.raises(TypeError, match="unary"), Pool(operator.neg, processes) as pool:
        list(pool.map([1, 2, "three", 4]))


def test_only_a_few_pieces_are_read_ahead() -> None:
    read: list[int] = []

    def pieces() -> Iterator[int]:
        for n in range(100):
            read.append(n)
            yield n

    with Pool(operator.neg, 1) as pool:
        results = pool.map(pieces())
        assert next(results) == 0
        assert len(read) <= 4


def test_a_process_that_dies_is_told_of() -> None:
    with pytest.raises(PoolError, match="ended with 3"), Pool(os._exit, 1) as pool:
        list(pool.map([3]))


def test_work_without_end_is_ended() -> None:
    with pytest.raises(PoolTimeoutError), Pool(time.sleep, 1, 0.3) as pool:
        list(pool.map([60]))


def test_what_is_late_may_be_done_otherwise() -> None:
    def late(piece: float, ask: Callable[[Any], Any]) -> Any:
        return ask(0) if piece > 1 else "given up"

    with Pool(time.sleep, 2, 1.5, late) as pool:
        assert list(pool.map([0, 60, 0])) == [None, None, None]
