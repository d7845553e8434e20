"""Formulas as text: the compiled reader, the exact reader and pymatgen give one answer."""

from __future__ import annotations

import csv
import gzip
import os
import random
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import Composition

from gandb.core import formula
from gandb.core.compositions import MAX_ATOMS
from gandb.core.elements import SYMBOLS
from gandb.core.errors import FormulaError
from gandb.core.formula import parse_formula, parse_formulas

SHARED = Path(
    os.environ.get("GANDB_SHARED_DATA", Path(__file__).parents[3] / "shared" / "data")
).resolve()
REAL = sorted((SHARED / "formulas").glob("*.csv.gz"))


def amounts(text: str) -> dict[str, float]:
    """What pymatgen reads."""
    return {str(element): amount for element, amount in Composition(text).items()}


def real_formulas(path: Path) -> list[str]:
    with gzip.open(path, "rt", newline="") as handle:
        rows = csv.reader(handle)
        next(rows)
        return [row[0] for row in rows]


# --- real formulas -------------------------------------------------------------------------


@pytest.mark.skipif(not REAL, reason="the real formula tables are not here")
@pytest.mark.parametrize("path", REAL, ids=lambda path: path.name)
def test_real_formulas_read_as_pymatgen_reads_them(path: Path) -> None:
    texts = real_formulas(path)
    parsed = parse_formulas(pa.array(texts))
    assert len(parsed.batch) == len(parsed.rows)
    assert len(parsed.rows) + len(parsed.rejects) == len(texts)
    # What is refused is a rounded decimal amount, and nothing else.
    assert all("." in texts[row] and "made whole" in reason for row, reason in parsed.rejects)
    assert len(parsed.rejects) <= 6
    chosen = random.Random(path.name).sample(range(len(parsed.rows)), min(3_000, len(parsed.rows)))
    chosen += [k for k, row in enumerate(parsed.rows.tolist()) if "." in texts[row]]
    for k in chosen:
        text = texts[parsed.rows[k]]
        ours, theirs = parsed.batch[k], amounts(text)
        assert ours.keys() == theirs.keys(), text
        if "." in text:
            scale = sum(ours.values()) / sum(theirs.values())
            assert ours == pytest.approx({s: n * scale for s, n in theirs.items()}), text
        else:
            assert ours == theirs, text


@pytest.mark.skipif(not REAL, reason="the real formula tables are not here")
def test_the_exact_reader_agrees_on_every_plain_real_formula() -> None:
    texts = sorted(
        {text for path in REAL if path.name.startswith("mp.") for text in real_formulas(path)}
    )
    parsed = parse_formulas(pa.array(texts))
    assert parsed.rejects == []
    for k in range(0, len(texts), 7):
        assert parsed.batch[k] == dict(sorted_by_z(formula._read(texts[k]))), texts[k]


def sorted_by_z(composition: dict[str, int]) -> list[tuple[str, int]]:
    return sorted(composition.items(), key=lambda pair: SYMBOLS.index(pair[0]))


def test_words_that_mean_missing_elsewhere_are_formulas_here() -> None:
    parsed = parse_formulas(pa.array(["NaN", "NO", "No", "InF", "NaN", "InFIn2"]))
    assert parsed.rejects == []
    assert [parsed.batch[i] for i in range(6)] == [
        {"N": 1, "Na": 1},
        {"N": 1, "O": 1},
        {"No": 1},
        {"F": 1, "In": 1},
        {"N": 1, "Na": 1},
        {"F": 1, "In": 3},
    ]


# --- random formulas -----------------------------------------------------------------------

SYMBOL = st.sampled_from(SYMBOLS[1:104])
COUNT = st.one_of(st.just(""), st.integers(1, 30).map(str))


@st.composite
def plain_formulas(draw: st.DrawFn, depth: int = 2) -> str:
    parts = []
    for _ in range(draw(st.integers(1, 4))):
        if depth and draw(st.integers(0, 3)) == 0:
            left, right = draw(st.sampled_from(["()", "[]", "{}"]))
            parts.append(left + draw(plain_formulas(depth=depth - 1)) + right + draw(COUNT))
        else:
            parts.append(draw(SYMBOL) + draw(COUNT))
    return "".join(parts)


@settings(max_examples=400, deadline=None)
@given(plain_formulas())
def test_compiled_exact_and_pymatgen_agree(text: str) -> None:
    theirs = {s: int(n) for s, n in amounts(text).items()}
    parsed = parse_formulas(pa.array([text]))
    if sum(theirs.values()) > MAX_ATOMS:
        assert len(parsed.batch) == 0
        assert f"{sum(theirs.values()):,} atoms" in parsed.rejects[0][1]
    else:
        assert parsed.batch[0] == parse_formula(text) == theirs


@settings(max_examples=400, deadline=None)
@given(st.text(alphabet="FeOHNaCl0123456789.()[]{}+- ·₂⁺^x*\n", max_size=14) | st.text(max_size=8))
def test_any_text_is_read_alike_by_both_readers_or_refused_with_a_reason(text: str) -> None:
    parsed = parse_formulas(pa.array([text]))
    assert len(parsed.batch) + len(parsed.rejects) == 1
    if parsed.rejects:
        [(row, reason)] = parsed.rejects
        assert row == 0
        with pytest.raises(FormulaError) as caught:
            parse_formula(text)
        assert str(caught.value) == f"formula {text!r}: {reason}"
    else:
        assert parsed.batch[0] == parse_formula(text)
        assert 0 < sum(parsed.batch[0].values()) <= MAX_ATOMS


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(SYMBOL, st.integers(1, 400), min_size=1, max_size=6), st.integers(1, 40))
def test_decimals_become_the_least_whole_numbers(counts: dict[str, int], divisor: int) -> None:
    text = "".join(f"{symbol}{count / (8 * divisor):.6f}" for symbol, count in counts.items())
    written = {s: round(n / (8 * divisor), 6) for s, n in counts.items()}
    if not all(written.values()):
        return
    parsed = parse_formulas(pa.array([text]))
    if parsed.rejects:
        assert "made whole" in parsed.rejects[0][1]
        return
    whole = parsed.batch[0]
    assert np.gcd.reduce(list(whole.values())) == 1 or all(n == int(n) for n in written.values())
    first = next(iter(whole))
    scale = whole[first] / written[first]
    assert whole == {s: pytest.approx(n * scale) for s, n in written.items()}


# --- accepted forms ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("La0.5Sr0.5MnO3", {"La": 1, "Sr": 1, "Mn": 2, "O": 6}),
        ("Fe4O6", {"Fe": 4, "O": 6}),
        ("Fe4.0O6.0", {"Fe": 4, "O": 6}),
        ("Lu3.94S4.0582", {"Lu": 100, "S": 103}),
        ("Fe.5O", {"Fe": 1, "O": 2}),
        ("Fe₂O₃", {"Fe": 2, "O": 3}),
        (" Mn1 N1 O1 Yb1 ", {"Mn": 1, "N": 1, "O": 1, "Yb": 1}),
        ("Fe 2 O 3", {"Fe": 2, "O": 3}),
        ("Fe2\u00a0O3", {"Fe": 2, "O": 3}),
        ("CuSO4·5H2O", {"Cu": 1, "S": 1, "O": 9, "H": 10}),
        ("CuSO4 • 5 H2O", {"Cu": 1, "S": 1, "O": 9, "H": 10}),
        ("CaSO4·0.5H2O", {"Ca": 2, "S": 2, "O": 9, "H": 2}),
        ("CaSO4.H2O", {"Ca": 1, "S": 1, "O": 5, "H": 2}),
        ("3CaO·Al2O3", {"Ca": 3, "O": 6, "Al": 2}),
        ("K4[Fe(CN)6]", {"K": 4, "Fe": 1, "C": 6, "N": 6}),
        ("Sr3(SnIr)4", {"Sr": 3, "Sn": 4, "Ir": 4}),
        ("Sr(AlH)2", {"Sr": 1, "Al": 2, "H": 2}),
        ("FeOFe2", {"Fe": 3, "O": 1}),
        ("(((Fe)))", {"Fe": 1}),
        ("(" * 40 + "Fe" + ")" * 40, {"Fe": 1}),
        ("CO", {"C": 1, "O": 1}),
        ("Co", {"Co": 1}),
        ("H9998O", {"H": 9998, "O": 1}),
        ("FeO" * 200, {"Fe": 200, "O": 200}),
    ],
)
def test_accepted_forms(text: str, expected: dict[str, int]) -> None:
    assert parse_formula(text) == expected
    parsed = parse_formulas(pa.array([text]))
    assert parsed.rejects == []
    assert parsed.batch[0] == expected


# --- refusals ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty formula"),
        ("  ", "empty formula"),
        ("FeXx2", "unknown element 'Xx' at character 3"),
        ("Feo", "unknown element 'Feo' at character 1"),
        ("J2", "unknown element 'J' at character 1"),
        ("fe2O3", "unexpected 'f' at character 1"),
        ("D2O", "'D' at character 1 is an isotope of hydrogen; write H"),
        ("Fe0", "zero count '0' at character 3"),
        ("Fe0.00O", "zero count '0.00' at character 3"),
        ("(FeO)0", "zero count '0' at character 6"),
        ("CuSO4·0H2O", "zero count '0' at character 7"),
        ("Fe-2O3", "negative count '-2O3' at character 3"),
        ("Fe02", "count '02' at character 3 begins with a zero; is it the letter O?"),
        ("Fe+3", "a charge ('+3' at character 3) has no place in a formula"),
        ("Fe3+", "a charge ('+' at character 4) has no place in a formula"),
        ("SO4^2-", "a charge ('^2-' at character 4) has no place in a formula"),
        ("SO4²⁻", "a charge ('²⁻' at character 4) has no place in a formula"),
        ("Cl-", "a charge ('-' at character 3) has no place in a formula"),
        ("(FeO", "unmatched '(' at character 1"),
        ("FeO)2", "unmatched ')' at character 4"),
        ("(FeO]2", "unmatched ']' at character 5"),
        ("Fe()2", "empty brackets at character 3"),
        ("2FeO", "a number at character 1 with nothing before it"),
        ("1Fe", "a number at character 1 with nothing before it"),
        ("Fe2 3", "a number at character 5 with nothing before it"),
        ("Fe·", "empty part at character 4"),
        ("·Fe", "empty part at character 1"),
        ("Li1-xCoO2", "unexpected '-' at character 4"),
        ("Fe2O3\x00", "unexpected '\\x00' at character 6"),
        ("Fe9999O", "10,000 atoms; at most 9,999 are allowed"),
        ("(Fe100)100", "10,000 atoms; at most 9,999 are allowed"),
        ("H99999999999999999999", "about 10^19 atoms; at most 9,999 are allowed"),
        ("Hf1O0.1667", "11,667 atoms when amounts are made whole; at most 9,999 are allowed"),
        ("Fe" * 501, "formula of 1,002 characters; at most 1,000 are read"),
        (
            "CuSO4.5H2O",
            "'4.5H2O' at character 5 reads as a decimal or as a hydrate; write '·' before the "
            "water, or a space before the next symbol",
        ),
    ],
)
def test_refusals_say_why_and_where(text: str, reason: str) -> None:
    parsed = parse_formulas(pa.array(["Fe", text, "O"]))
    assert parsed.rejects == [(1, reason)]
    assert parsed.rows.tolist() == [0, 2]
    with pytest.raises(FormulaError) as caught:
        parse_formula(text)
    assert str(caught.value) == f"formula {text[:80]!r}: {reason}"


def test_a_null_is_a_missing_formula() -> None:
    parsed = parse_formulas(pa.array(["Fe", None]))
    assert parsed.rejects == [(1, "empty formula")]


# --- arrays --------------------------------------------------------------------------------


def test_good_and_bad_rows_keep_their_order() -> None:
    texts = ["O2", "bad", "La0.5Sr0.5MnO3", "Fe2O3", "", "CuSO4·5H2O", "NaCl"]
    parsed = parse_formulas(pa.array(texts))
    assert parsed.rows.tolist() == [0, 2, 3, 5, 6]
    assert [row for row, _ in parsed.rejects] == [1, 4]
    assert [parsed.batch[k] for k in range(5)] == [
        dict(sorted_by_z(parse_formula(texts[row]))) for row in parsed.rows
    ]
    assert parsed.batch.counts.dtype == np.uint16
    assert parsed.batch.offsets.dtype == np.int64
    assert all(np.all(np.diff(list(map(SYMBOLS.index, parsed.batch[k]))) > 0) for k in range(5))


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string()])
def test_slices_chunks_and_empty_arrays(kind: pa.DataType) -> None:
    whole = pa.array(["Fe", "Fe2O3", "bad", "NaCl"], kind)
    assert [parse_formulas(whole.slice(1, 3)).batch[k] for k in range(2)] == [
        {"O": 3, "Fe": 2},
        {"Na": 1, "Cl": 1},
    ]
    chunks = pa.chunked_array([whole.slice(0, 2), whole.slice(2)])
    assert parse_formulas(chunks).rows.tolist() == [0, 1, 3]
    for empty in (pa.array([], kind), pa.chunked_array([], kind)):
        assert len(parse_formulas(empty).batch) == 0


def test_only_strings_are_formulas() -> None:
    with pytest.raises(TypeError, match="int64"):
        parse_formulas(pa.array([1]))


def test_plain_formulas_are_read_at_two_million_a_second() -> None:
    texts = pa.array(["Ba1I2O6", "Sr(AlH)2", "Sr3(SnIr)4", "Co12Mn5Nd2"] * 100_000)
    parse_formulas(texts.slice(0, 4))
    seconds = []
    for _ in range(3):
        begin = time.process_time()
        parse_formulas(texts)
        seconds.append(time.process_time() - begin)
    assert len(texts) / min(seconds) > 2_000_000
