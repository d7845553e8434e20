"""The one-hot codec: every formula it claims to hold comes back, every other is counted."""

from __future__ import annotations

import csv
import gzip
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gandb.core.compositions import CompositionBatch
from gandb.core.elements import SYMBOLS
from gandb.core.errors import InputError
from gandb.core.formula import parse_formulas
from gandb.representations import onehot

SHARED = Path(
    os.environ.get("GANDB_SHARED_DATA", Path(__file__).parents[3] / "shared" / "data")
).resolve()
REAL = sorted((SHARED / "formulas").glob("*.csv.gz"))


compositions = st.dictionaries(
    st.sampled_from(SYMBOLS[1:]), st.integers(1, 12), min_size=1, max_size=10
)
held = st.dictionaries(
    st.sampled_from(onehot.VOCABULARY), st.integers(1, 8), min_size=1, max_size=8
)


def reason(row: dict[str, int]) -> str:
    """Why a composition is not held, said plainly and apart from the codec."""
    if not row:
        return "no_elements"
    if not set(row) <= set(onehot.VOCABULARY):
        return "element_outside_vocabulary"
    if max(row.values()) > 8:
        return "count_above_8"
    return "more_than_8_elements" if len(row) > 8 else "accepted"


def test_vocabulary_is_matgan_s() -> None:
    assert len(onehot.VOCABULARY) == 85
    assert onehot.VOCABULARY[0] == "H"
    assert onehot.VOCABULARY[-1] == "Pu"
    absent = set(SYMBOLS[1:95]) - set(onehot.VOCABULARY)
    assert absent == {"He", "Ne", "Ar", "Kr", "Po", "At", "Rn", "Fr", "Ra"}


@settings(deadline=None)
@given(st.lists(held, min_size=1, max_size=20))
def test_encode_then_decode_is_identity(rows: list[dict[str, int]]) -> None:
    encoded = onehot.encode(CompositionBatch.from_dicts(rows))
    decoded = onehot.decode(encoded.cells)
    assert [decoded[i] for i in range(len(rows))] == rows
    assert encoded.rejected() == {}


@settings(deadline=None)
@given(st.lists(held, min_size=1, max_size=20))
def test_dense_matrix_has_one_cell_per_element_and_reads_back(rows: list[dict[str, int]]) -> None:
    cells = onehot.encode(CompositionBatch.from_dicts(rows)).cells
    dense = onehot.dense(cells)
    assert dense.shape == (len(rows), 85, 8)
    for matrix, row in zip(dense, rows, strict=True):
        assert matrix.sum() == len(row)
        for symbol, count in row.items():
            assert matrix[onehot.VOCABULARY.index(symbol), count - 1] == 1
    again, codes = onehot.choose(dense.astype(np.float32), 0.2)
    np.testing.assert_array_equal(again, cells)
    assert not codes.any()


@settings(deadline=None)
@given(st.lists(compositions | st.just({}), min_size=1, max_size=30))
def test_what_is_not_held_is_counted_by_reason(rows: list[dict[str, int]]) -> None:
    encoded = onehot.encode(CompositionBatch.from_dicts(rows))
    reasons = [reason(row) for row in rows]
    assert [onehot.REJECTIONS[code] for code in encoded.rejections] == reasons
    assert encoded.rejected() == {r: n for r, n in Counter(reasons).items() if r != "accepted"}
    assert encoded.rows.tolist() == [i for i, r in enumerate(reasons) if r == "accepted"]


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**32 - 1), st.floats(0.05, 0.95))
def test_choice_takes_the_greatest_cell_of_each_present_element(seed: int, level: float) -> None:
    rng = np.random.default_rng(seed)
    values = (rng.random((6, 85, 8)) ** 40).astype(np.float32)
    cells, codes = onehot.choose(values, level)
    for matrix, row, code in zip(values, cells, codes, strict=True):
        present = np.flatnonzero(matrix.max(axis=1) >= np.float32(level))
        wanted = [e * 8 + int(matrix[e].argmax()) for e in present]
        if not wanted or len(wanted) > 8:
            assert (row == onehot.EMPTY).all()
            assert onehot.REJECTIONS[code] == ("more_than_8_elements" if wanted else "no_elements")
        else:
            assert row[row < onehot.EMPTY].tolist() == wanted
            assert code == 0


def test_another_shape_is_refused() -> None:
    with pytest.raises(InputError, match=r"\(2, 8, 85\)"):
        onehot.choose(np.zeros((2, 8, 85), np.float32), 0.2)


@pytest.mark.skipif(not REAL, reason="the shared formulas are not here")
@pytest.mark.parametrize("path", REAL, ids=lambda path: path.name.removesuffix(".csv.gz"))
def test_every_real_formula_comes_back_or_is_counted(path: Path) -> None:
    with gzip.open(path, "rt", newline="") as handle:
        rows = csv.reader(handle)
        next(rows)
        formulas = sorted({row[0] for row in rows})
    batch = parse_formulas(pa.array(formulas)).batch
    encoded = onehot.encode(batch)
    assert len(encoded.rows) + sum(encoded.rejected().values()) == len(batch)
    kept = batch.take(encoded.rows)
    decoded = onehot.decode(encoded.cells)
    np.testing.assert_array_equal(decoded.offsets, kept.offsets)
    np.testing.assert_array_equal(decoded.atomic_numbers, kept.atomic_numbers)
    np.testing.assert_array_equal(decoded.counts, kept.counts)
    sizes, starts = kept.n_elements, kept.offsets[:-1]
    assert sizes.max() <= 8
    assert np.maximum.reduceat(kept.counts, starts).max() <= 8
    left = np.setdiff1d(np.arange(len(batch)), encoded.rows)
    for i in left[:2000]:
        assert reason(batch[i]) == onehot.REJECTIONS[encoded.rejections[i]] != "accepted"
