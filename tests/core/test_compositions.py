"""Compositions as arrays against hashlib, pymatgen and plain Python."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from pathlib import Path
from uuid import UUID

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import Composition

from gandb.core import kernels
from gandb.core.compositions import (
    CompositionBatch,
    composition_id,
    unique_ids,
    uuid_array,
)
from gandb.core.elements import ATOMIC_NUMBERS, SYMBOLS
from tests.validation.formulas import real_formulas

# pymatgen says so of every noble gas; such elements go last, here as there.
pytestmark = pytest.mark.filterwarnings("ignore:No Pauling electronegativity")

Formula = dict[str, int]

COUNTS = st.integers(1, 12) | st.integers(1, 9_999)
FORMULAS = st.dictionaries(st.sampled_from(SYMBOLS[1:]), COUNTS, min_size=1, max_size=8)
BATCHES = st.lists(FORMULAS, max_size=12)
# Pairs whose formulas pymatgen writes in a customary way.
CUSTOMARY = [
    {"O": 1}, {"O": 3}, {"H": 1}, {"N": 5}, {"F": 2}, {"Cl": 1}, {"Br": 1}, {"I": 2}, {"He": 1},
    {"H": 1, "O": 1}, {"Li": 1, "O": 1}, {"Na": 2, "O": 2}, {"K": 1, "O": 1}, {"Rb": 1, "O": 1},
    {"Cs": 1, "O": 1}, {"Ba": 1, "O": 1}, {"Ca": 1, "O": 1}, {"H": 1, "F": 1}, {"Li": 1, "O": 2},
    {"Fe": 2, "S": 3, "O": 12}, {"Ca": 1, "C": 1, "O": 3}, {"Ca": 1, "O": 2, "H": 2},
    {"Ca": 3, "P": 2, "O": 8}, {"Fe": 1, "C": 2, "N": 2}, {"Lr": 1, "Rf": 2, "Og": 2},
    {"Hg": 2, "Cl": 2}, {"Mg": 3, "Al": 2, "Si": 3, "O": 12}, {"N": 2, "H": 8, "S": 1, "O": 4},
]  # fmt: skip


def _reduced(formula: Formula) -> Formula:
    divisor = math.gcd(*formula.values())
    return {symbol: n // divisor for symbol, n in formula.items()}


def _hashed(formula: Formula) -> bytes:
    """The id as the documentation defines it."""
    pairs = sorted((ATOMIC_NUMBERS[s], n) for s, n in _reduced(formula).items())
    data = b"".join(bytes([z, n & 255, n >> 8]) for z, n in pairs)
    return hashlib.blake2b(data, digest_size=16, person=b"gandb.compos").digest()


def _ours(formulas: list[Formula]) -> tuple[CompositionBatch, np.ndarray]:
    return CompositionBatch.from_dicts(formulas).reduced()


@given(BATCHES)
def test_a_batch_holds_what_was_put_in(formulas: list[Formula]) -> None:
    batch = CompositionBatch.from_dicts(formulas)
    assert [batch[i] for i in range(len(batch))] == formulas
    assert batch.n_elements.tolist() == [len(f) for f in formulas]
    assert batch.n_atoms.tolist() == [sum(f.values()) for f in formulas]
    for i in range(len(batch)):
        z = batch.atomic_numbers[batch.offsets[i] : batch.offsets[i + 1]]
        assert (np.diff(z.astype(int)) > 0).all()
    with pytest.raises(IndexError):
        batch[len(formulas)]


@given(BATCHES)
def test_reduction_divides_by_the_greatest_common_divisor(formulas: list[Formula]) -> None:
    reduced, units = _ours(formulas)
    assert [reduced[i] for i in range(len(reduced))] == [_reduced(f) for f in formulas]
    assert units.tolist() == [math.gcd(*f.values()) for f in formulas]


@given(st.lists(st.dictionaries(st.sampled_from(SYMBOLS[1:]), COUNTS, min_size=1), max_size=6))
def test_ids_are_the_documented_hash(formulas: list[Formula]) -> None:
    # Up to 118 elements: more than one block of 128 bytes.
    reduced, _ = _ours(formulas)
    assert [i.tobytes() for i in reduced.ids()] == [_hashed(f) for f in formulas]
    assert [composition_id(f).bytes for f in formulas] == [_hashed(f) for f in formulas]


@pytest.mark.parametrize("n", [42, 43, 85, 86, 118])
def test_ids_at_the_ends_of_blocks(n: int) -> None:
    formula = {symbol: 1 + z for z, symbol in enumerate(SYMBOLS[1 : n + 1])}
    assert _ours([formula])[0].ids()[0].tobytes() == _hashed(formula)


def test_ids_of_released_data_never_change() -> None:
    assert str(composition_id({"Fe": 4, "O": 6})) == str(composition_id({"O": 3, "Fe": 2}))
    assert str(composition_id({"Fe": 2, "O": 3})) == "e5f20ba7-5e62-7585-8eee-46ea0e7c8efd"


def _check_formulas(formulas: list[Formula]) -> None:
    reduced, _ = _ours(formulas)
    theirs = [Composition(f) for f in formulas]
    assert reduced.reduced_formulas().to_pylist() == [c.reduced_formula for c in theirs]
    assert reduced.chemical_systems().to_pylist() == [c.chemical_system for c in theirs]
    assert reduced.element_lists().to_pylist() == [sorted(f) for f in formulas]
    anonymous = [c.anonymized_formula for c in theirs]
    assert reduced.anonymous_formulas().to_pylist() == anonymous


@given(BATCHES)
@settings(max_examples=300)
def test_formulas_are_written_as_pymatgen_does(formulas: list[Formula]) -> None:
    _check_formulas(formulas)


def test_customary_formulas_are_written_as_pymatgen_does() -> None:
    _check_formulas(CUSTOMARY)


def test_every_pair_is_written_as_pymatgen_does() -> None:
    _check_formulas([{a: 1, b: 2} for a in SYMBOLS[1::7] for b in SYMBOLS[1:] if a != b])


def test_real_formulas_are_written_as_pymatgen_does(shared_data: Path) -> None:
    everything = real_formulas(shared_data)
    some = everything.take(np.random.default_rng(0).permutation(len(everything))[:6_000])
    _check_formulas([some[i] for i in range(len(some))])


def test_more_than_26_elements_go_on_in_lower_case() -> None:
    formula = dict.fromkeys(SYMBOLS[1:31], 1)
    (written,) = _ours([formula])[0].anonymous_formulas().to_pylist()
    assert written == "ABCDEFGHIJKLMNOPQRSTUVWXYZabcd"


# --- slots and rearranging ---------------------------------------------------------------


@given(BATCHES, st.permutations(range(9)))
def test_slots_come_back_in_any_order(formulas: list[Formula], order: list[int]) -> None:
    batch = CompositionBatch.from_dicts(formulas)
    z, counts = batch.slots(9)
    assert z.shape == counts.shape == (len(formulas), 9)
    again = CompositionBatch.from_slots(z[:, order], counts[:, order])
    assert [again[i] for i in range(len(again))] == formulas


def test_slots_too_few_are_refused() -> None:
    batch = CompositionBatch.from_dicts([{"Li": 1, "Fe": 1, "O": 2}])
    with pytest.raises(ValueError, match="has 3 elements, more than 2"):
        batch.slots(2)


@given(BATCHES, st.lists(st.integers(0, 11), max_size=20))
def test_taking_and_joining(formulas: list[Formula], rows: list[int]) -> None:
    rows = [r for r in rows if r < len(formulas)]
    batch = CompositionBatch.from_dicts(formulas)
    taken = batch.take(np.array(rows, np.int64))
    assert [taken[i] for i in range(len(taken))] == [formulas[r] for r in rows]
    joined = CompositionBatch.concatenate([batch, CompositionBatch.empty(), taken])
    assert [joined[i] for i in range(len(joined))] == formulas + [formulas[r] for r in rows]


def test_nothing_is_a_batch_too() -> None:
    for batch in (CompositionBatch.empty(), CompositionBatch.from_dicts([]),
                  CompositionBatch.concatenate([])):  # fmt: skip
        assert len(batch) == 0
        reduced, units = batch.reduced()
        assert len(units) == 0
        assert reduced.ids().shape == (0, 16)
        assert reduced.reduced_formulas().to_pylist() == []
        assert reduced.element_lists().to_pylist() == []
        assert len(reduced.unique().ids) == 0
        assert len(uuid_array(reduced.ids())) == 0


# --- ids in bulk -------------------------------------------------------------------------

IDS = st.lists(
    st.sampled_from([bytes(16), b"\xff" * 16])
    | st.integers(0, 40).map(lambda i: bytes([i % 3, *bytes(6), 0, i, *bytes(7)]))
    | st.binary(min_size=16, max_size=16),
    max_size=60,
)


def _array(ids: list[bytes]) -> np.ndarray:
    return np.frombuffer(b"".join(ids), np.uint8).reshape(-1, 16)


@given(IDS)
def test_grouping_is_counting(ids: list[bytes]) -> None:
    groups = unique_ids(_array(ids))
    counted = Counter(ids)
    distinct = list(counted)  # in order of first appearance
    assert [i.tobytes() for i in groups.ids] == distinct
    assert groups.first.tolist() == [ids.index(i) for i in distinct]
    assert groups.times.tolist() == list(counted.values())
    assert [distinct[g] for g in groups.inverse] == ids


def _words(ids: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(ids).view(np.uint64).reshape(-1, 2)


@given(IDS, IDS)
def test_looking_up_is_finding_in_a_list(known: list[bytes], asked: list[bytes]) -> None:
    distinct = list(dict.fromkeys(known))
    rows = _words(_array(distinct))
    found = kernels.look_up(kernels.build_table(rows), rows, _words(_array(asked)))
    assert found.tolist() == [distinct.index(i) if i in distinct else -1 for i in asked]


def test_many_ids_that_begin_alike_are_still_told_apart() -> None:
    n = 5_000
    ids = np.zeros((n, 16), np.uint8)
    ids[:, 8:] = np.arange(n, dtype="<u8").view(np.uint8).reshape(n, 8)
    assert len(unique_ids(ids).ids) == n
    rows = _words(ids[: n // 2])
    found = kernels.look_up(kernels.build_table(rows), rows, _words(ids))
    assert found.tolist() == [i if i < n // 2 else -1 for i in range(n)]


@given(IDS)
def test_ids_become_uuids_without_a_change(ids: list[bytes]) -> None:
    array = uuid_array(_array(ids))
    assert array.type == pa.uuid()
    assert array.to_pylist() == [UUID(bytes=i) for i in ids]
