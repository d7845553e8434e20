"""Verdicts agree with smact 4.0.2 and with MatGAN's rule written out, formula by formula."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations, product
from math import gcd, prod
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gandb.core.compositions import CompositionBatch
from gandb.core.elements import ATOMIC_NUMBERS, MAX_Z, SYMBOLS
from gandb.core.errors import NotFoundError
from gandb.sources.reading import crystal_of, read_files
from gandb.sources.records import Record
from gandb.validation.charge import CNEN, PASSING, REASONS, RULES, Rule, check, check_all
from gandb.validation.oxidation import OxidationTable, load_table
from tests.validation.formulas import (
    random_formulas,
    real_formulas,
    smact_says,
    smact_verdicts,
    written,
)

SMACT: dict[str, dict[str, bool]] = {
    "cnen_strict": {"include_alloys": False},
    "cnen_default": {},
    "charge_neutral": {"include_alloys": False, "use_pauling_test": False},
}
"""What to ask smact for, by rule."""


def choices(composition: Mapping[str, int], table: OxidationTable) -> list[tuple[int, ...]]:
    """Every choice of one state per element that sums to zero."""
    states = [table.states.get(ATOMIC_NUMBERS[s], ()) for s in composition]
    return [
        chosen
        for chosen in product(*states)
        if sum(q * n for q, n in zip(chosen, composition.values(), strict=True)) == 0
    ]


def ordered(chosen: tuple[int, ...], composition: Mapping[str, int], table: OxidationTable) -> bool:
    """Every cation less electronegative than every anion; all known."""
    values = [table.electronegativity.get(ATOMIC_NUMBERS[s]) for s in composition]
    for (qa, xa), (qb, xb) in combinations(zip(chosen, values, strict=True), 2):
        if xa is None or xb is None:
            return False
        if (qa > 0 > qb and xa >= xb) or (qb > 0 > qa and xb >= xa):
            return False
    return True


def matgan_says(composition: Mapping[str, int]) -> bool:
    """MatGAN's two checks, written out."""
    if len(composition) == 1:
        return True
    if gcd(*composition.values()) > 1:
        return False
    table = load_table("smact22")
    return any(ordered(c, composition, table) for c in choices(composition, table))


def combinations_of_states(composition: Mapping[str, int], table: OxidationTable) -> int:
    return prod(len(table.states.get(ATOMIC_NUMBERS[s], ())) for s in composition)


def assert_as_smact(batch: CompositionBatch, rules: Mapping[str, dict[str, bool]] = SMACT) -> None:
    reduced, units = batch.reduced()
    verdicts = check_all(reduced, units, tuple(rules))
    for name, options in rules.items():
        wrong = np.flatnonzero(verdicts[name].passed != smact_verdicts(batch, **options))
        assert not len(wrong), f"{name}: {written(batch, wrong)}"


# --- smact ---------------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["oqmd", "mp", "aflow"])
def test_real_formulas_are_judged_as_smact_judges_them(shared_data: Path, source: str) -> None:
    batch = real_formulas(shared_data, source)
    rows = np.random.default_rng(1).choice(len(batch), 1_000, replace=False)
    assert_as_smact(batch.take(rows))


@pytest.mark.slow
def test_many_real_formulas_are_judged_as_smact_judges_them(shared_data: Path) -> None:
    batch = real_formulas(shared_data)
    rows = np.random.default_rng(2).choice(len(batch), 20_000, replace=False)
    assert_as_smact(batch.take(rows))


@pytest.mark.parametrize(("elements", "largest"), [(6, 8), (3, 200), (4, 1)])
def test_random_formulas_are_judged_as_smact_judges_them(elements: int, largest: int) -> None:
    assert_as_smact(random_formulas(np.random.default_rng(3), 1_500, elements, largest))


def test_every_pair_of_elements_is_judged_as_smact_judges_it() -> None:
    rng = np.random.default_rng(4)
    pairs = np.array(list(combinations(range(1, 104), 2)), np.uint8)
    counts = rng.integers(1, 9, pairs.shape).astype(np.uint16)
    assert_as_smact(CompositionBatch.from_slots(pairs, counts))


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(st.sampled_from(SYMBOLS[1:104]), st.integers(1, 12), min_size=1, max_size=5))
def test_any_formula_is_judged_as_smact_judges_it(composition: dict[str, int]) -> None:
    verdicts = check_all(CompositionBatch.from_dicts([composition]), rules=tuple(SMACT))
    for name, options in SMACT.items():
        assert verdicts[name].passed[0] == smact_says(composition, **options), name


@pytest.mark.parametrize(
    ("composition", "strict", "default"),
    [
        ({"Na": 1, "Cl": 1}, "balanced", "balanced"),
        ({"Na": 3, "N": 1}, "balanced", "balanced"),
        ({"Fe": 2}, "single element", "single element"),
        ({"He": 1}, "single element", "single element"),
        ({"Cu": 1, "Zn": 1}, "not neutral", "alloy"),
        ({"Fe": 1, "Po": 1}, "electronegativity order", "alloy"),
        ({"He": 1, "O": 1}, "no oxidation state", "no oxidation state"),
        ({"Na": 1, "O": 2}, "not neutral", "not neutral"),
        ({"Pm": 1, "Cl": 3}, "no electronegativity", "no electronegativity"),
        ({"Pm": 1, "Cl": 40}, "not neutral", "not neutral"),
        ({"S": 1, "O": 1, "Cl": 1, "N": 1, "C": 1}, "balanced", "balanced"),
        ({"C": 1, "Se": 2}, "electronegativity order", "electronegativity order"),
    ],
)
def test_reasons(composition: dict[str, int], strict: str, default: str) -> None:
    verdicts = check_all(CompositionBatch.from_dicts([composition]))
    assert verdicts["cnen_strict"].tally() == {strict: 1}
    assert verdicts["cnen_default"].tally() == {default: 1}
    for name, options in SMACT.items():
        assert check(CompositionBatch.from_dicts([composition]), name).passed[0] == smact_says(
            composition, **options
        )


def test_elements_that_smact_does_not_know_fail_unless_alone() -> None:
    batch = CompositionBatch.from_dicts([{"Rf": 1, "O": 2}, {"Og": 1, "Fe": 1}, {"Og": 1}])
    for rule in RULES:
        assert check(batch, rule).passed.tolist() == [False, False, True]


# --- reasons -------------------------------------------------------------------------------


def test_reasons_of_random_formulas_are_true() -> None:
    batch = random_formulas(np.random.default_rng(5), 3_000, 4, 9, MAX_Z)
    table = load_table("icsd24")
    verdicts = check(batch, "cnen_strict")
    seen = set()
    for i in range(len(batch)):
        composition = batch[i]
        neutral = choices(composition, table)
        numbers = [ATOMIC_NUMBERS[s] for s in composition]
        if len(composition) == 1:
            expected = "single element"
        elif any(z not in table.states for z in numbers):
            expected = "no oxidation state"
        elif not neutral:
            expected = "not neutral"
        elif any(z not in table.electronegativity for z in numbers):
            expected = "no electronegativity"
        elif not any(ordered(c, composition, table) for c in neutral):
            expected = "electronegativity order"
        else:
            expected = "balanced"
        seen.add(expected)
        assert REASONS[int(verdicts.reason[i])] == expected, composition
    assert len(seen) == 6


def test_passing_reasons_and_only_they_pass() -> None:
    batch = random_formulas(np.random.default_rng(6), 5_000, 3, 5, MAX_Z)
    reduced, units = batch.reduced()
    for verdicts in check_all(reduced, units, tuple(RULES)).values():
        assert verdicts.passed.dtype == np.bool_
        assert verdicts.reason.dtype == np.uint8
        assert np.array_equal(verdicts.passed, np.isin(verdicts.reason, list(PASSING)))
        assert sum(verdicts.tally().values()) == len(batch)


def test_one_rule_or_several_give_one_answer() -> None:
    batch = random_formulas(np.random.default_rng(7), 5_000, 5, 8, MAX_Z)
    reduced, units = batch.reduced()
    together = check_all(reduced, units, tuple(RULES))
    assert tuple(check_all(reduced, units)) == CNEN
    for name, rule in RULES.items():
        for alone in (check(reduced, rule, units), check(reduced, name, units), check(batch, name)):
            assert np.array_equal(alone.passed, together[name].passed)
            assert np.array_equal(alone.reason, together[name].reason)


def test_an_empty_formula_and_an_empty_batch() -> None:
    nothing = CompositionBatch.from_dicts([{}])
    assert check(nothing, "cnen_default").tally() == {"empty": 1}
    assert all(len(v.passed) == 0 for v in check_all(CompositionBatch.empty()).values())


# --- MatGAN --------------------------------------------------------------------------------


def test_matgan_fails_what_is_not_reduced() -> None:
    batch = CompositionBatch.from_dicts(
        [{"Fe": 1, "O": 1}, {"Fe": 2, "O": 2}, {"Fe": 4}, {"Cu": 1, "Zn": 1}]
    )
    reduced, units = batch.reduced()
    verdicts = check(reduced, "cnen_matgan", units)
    assert [REASONS[r] for r in verdicts.reason.tolist()] == [
        "balanced", "not reduced", "single element", "not neutral",
    ]  # fmt: skip
    assert verdicts.passed.tolist() == [True, False, True, False]
    assert check(reduced, "cnen_matgan").passed.tolist() == [True, True, True, False]


def test_matgan_orders_zirconium_before_sodium() -> None:
    """Its table misprints zirconium's electronegativity; smact 4.0.2 has it right."""
    batch = CompositionBatch.from_dicts([{"Zr": 1, "Na": 1}])
    assert matgan_says(batch[0])
    assert check(batch, "cnen_matgan").tally() == {"balanced": 1}
    chosen = choices(batch[0], load_table("smact14"))
    assert chosen
    assert not any(ordered(c, batch[0], load_table("smact14")) for c in chosen)


@pytest.mark.parametrize(("elements", "largest"), [(4, 8), (5, 3), (2, 100)])
def test_matgan_is_its_rule_written_out(elements: int, largest: int) -> None:
    batch = random_formulas(np.random.default_rng(8), 2_500, elements, largest, MAX_Z)
    reduced, units = batch.reduced()
    passed = check(reduced, "cnen_matgan", units).passed
    table = load_table("smact22")
    compared = 0
    for i in range(len(batch)):
        if combinations_of_states(batch[i], table) <= 5_000:
            compared += 1
            assert passed[i] == matgan_says(batch[i]), batch[i]
    assert compared > 1_500


def test_units_must_be_one_for_each_formula() -> None:
    batch = CompositionBatch.from_dicts([{"Fe": 1, "O": 1}])
    with pytest.raises(ValueError, match="2 units for 1 formulas"):
        check(batch, "cnen_matgan", np.ones(2, np.uint16))


# --- large formulas ------------------------------------------------------------------------


def reachable(parts: list[set[int]]) -> set[int]:
    """Every sum of one number from each part."""
    sums = {0}
    for part in parts:
        sums = {a + b for a in sums for b in part}
    return sums


def balanced(composition: Mapping[str, int], table: OxidationTable) -> bool:
    """Balance by trying every border between cations and anions."""
    values = {s: table.electronegativity[ATOMIC_NUMBERS[s]] for s in composition}
    for border in values.values():
        parts = [
            {q * n for q in table.states[ATOMIC_NUMBERS[s]] if (q > 0) == (values[s] <= border)}
            for s, n in composition.items()
        ]
        if 0 in reachable(parts):
            return True
    return False


@pytest.mark.parametrize(("elements", "largest"), [(2, 9_999), (3, 9_999), (4, 1_500), (12, 60)])
def test_large_formulas(elements: int, largest: int) -> None:
    rng = np.random.default_rng(9)
    table = load_table("icsd24")
    known = [z for z in table.states if z in table.electronegativity]
    rows = []
    for _ in range(150):
        numbers = rng.choice(known, elements, replace=False).tolist()
        counts = rng.integers(1, largest + 1, elements)
        if elements == 2:  # else almost none would be neutral
            a, b = (abs(int(rng.choice(table.states[z]))) for z in numbers)
            scale = largest // max(a, b)
            counts = np.array([b * scale, a * scale + int(rng.integers(0, 2))])
        rows.append({SYMBOLS[z]: int(n) for z, n in zip(numbers, counts, strict=True)})
    batch = CompositionBatch.from_dicts(rows)
    verdicts = check_all(batch, rules=("cnen_strict", "charge_neutral"))
    expected = [balanced(row, table) for row in rows]
    neutral = [
        0 in reachable([{q * n for q in table.states[ATOMIC_NUMBERS[s]]} for s, n in row.items()])
        for row in rows
    ]
    assert verdicts["cnen_strict"].passed.tolist() == expected
    assert verdicts["charge_neutral"].passed.tolist() == neutral
    assert elements == 3 or any(expected)
    assert not all(neutral) or elements == 12


def test_large_formulas_of_nonmetals() -> None:
    """Some can carry more negative than positive charge; many balance in the wrong order."""
    rng = np.random.default_rng(12)
    table = load_table("icsd24")
    nonmetals = "H B C N O F Si P S Cl As Se Br I".split()
    rows = [
        {str(s): int(rng.integers(40, 200)) for s in rng.choice(nonmetals, 4, replace=False)}
        for _ in range(300)
    ]
    verdicts = check_all(CompositionBatch.from_dicts(rows), rules=("cnen_strict", "charge_neutral"))
    sums = [
        reachable([{q * n for q in table.states[ATOMIC_NUMBERS[s]]} for s, n in row.items()])
        for row in rows
    ]
    assert verdicts["charge_neutral"].passed.tolist() == [0 in s for s in sums]
    assert verdicts["cnen_strict"].passed.tolist() == [balanced(row, table) for row in rows]
    assert sum(-min(s) > max(s) for s in sums) > 20
    assert verdicts["cnen_strict"].tally()["electronegativity order"] > 10


def test_a_formula_of_every_element_with_states() -> None:
    table = load_table("icsd24")
    known = [z for z in table.states if z in table.electronegativity]
    row = {SYMBOLS[z]: 1 + z % 5 for z in known}
    verdict = check(CompositionBatch.from_dicts([row]), "cnen_strict")
    assert verdict.passed[0] == balanced(row, table)


@pytest.mark.parametrize("factor", [2, 7, 60, 1_000])
def test_verdicts_do_not_depend_on_the_number_of_formula_units(factor: int) -> None:
    """The narrow and the wide arithmetic agree."""
    batch, _ = random_formulas(np.random.default_rng(10), 2_000, 5, 9).reduced()
    larger = CompositionBatch(
        batch.offsets, batch.atomic_numbers, (batch.counts * factor).astype(np.uint16)
    )
    for rule in ("cnen_strict", "cnen_default", "charge_neutral"):
        assert np.array_equal(check(batch, rule).reason, check(larger, rule).reason)


# --- invariance ----------------------------------------------------------------------------


def test_the_order_of_elements_does_not_matter() -> None:
    rng = np.random.default_rng(11)
    batch = random_formulas(rng, 3_000, 6, 9)
    numbers, counts = batch.slots(6)
    shuffled = rng.permuted(np.arange(6)[None].repeat(len(batch), 0), axis=1)
    rows = np.arange(len(batch))[:, None]
    keep = counts[rows, shuffled] > 0
    other = CompositionBatch(
        batch.offsets, numbers[rows, shuffled][keep], counts[rows, shuffled][keep]
    )
    assert not np.array_equal(other.atomic_numbers, batch.atomic_numbers)
    for name, verdicts in check_all(batch, rules=tuple(RULES)).items():
        assert np.array_equal(check(other, name).reason, verdicts.reason)


# --- rules ---------------------------------------------------------------------------------


def test_parameters_tell_the_rules_apart_and_name_the_table_by_hash() -> None:
    seen = [tuple(sorted(rule.parameters.items())) for rule in RULES.values()]
    assert len(set(seen)) == len(RULES)
    assert RULES["cnen_default"].parameters == {
        "alloys_pass": True,
        "electronegativity_test": True,
        "oxidation_table": "icsd24",
        "oxidation_table_sha256": load_table("icsd24").sha256,
        "oxidation_table_version": "smact 4.0.2",
        "reduced_formula": True,
        "single_elements_pass": True,
    }


def test_an_unknown_rule_names_the_known_ones() -> None:
    with pytest.raises(NotFoundError, match="cnen_strict"):
        check(CompositionBatch.empty(), "cnen_strct")


def test_the_verdicts_of_smact_on_lemat_are_found_again(shared_data: Path) -> None:
    """Recorded by LeMat-GenBench: smact_validity with the oxidation states of 2014, alloys pass."""
    folders: list[str] = []
    counts: list[dict[str, int]] = []
    for name in ("seed_42.zip", "seed_123.zip"):
        for item in read_files([shared_data / "validity" / name]):
            if isinstance(item, Record) and item.structure is not None:
                folders.append(item.file.split("/")[-2])
                counts.append(crystal_of(item.structure).counts())
    assert len(counts) == 2_000
    batch, _ = CompositionBatch.from_dicts(counts).reduced()
    theirs = np.isin(folders, ["both_valid", "smact_valid_ours_invalid"])
    ours = check(batch, Rule("smact_2014", "1", "smact14", alloys=True)).passed
    assert ours.tolist() == theirs.tolist()
    assert 0.8 < theirs.mean() < 0.85
