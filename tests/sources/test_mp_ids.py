"""Both forms of the Materials Project's ids."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gandb.sources.mp_ids import ALIAS, LAST_DECIMAL, letters_of, mp_ids, number_of


@pytest.mark.parametrize(
    ("number", "letters"),
    # https://docs.materialsproject.org/data-production/identifiers and the docs of emmet-core
    [(0, "a"), (149, "ft"), (2026, "czy"), (2658, "dyg"), (LAST_DECIMAL + 1, "hilze")],
)
def test_published_examples(number: int, letters: str) -> None:
    assert letters_of(number) == letters
    assert number_of(letters) == number
    assert number_of(letters.rjust(8, "a")) == number


@given(st.integers(0, 10**15))
def test_numbers_survive(number: int) -> None:
    letters = letters_of(number)
    assert number_of(letters) == number
    digits = [string.ascii_lowercase.index(letter) for letter in letters]
    assert sum(d * 26**k for k, d in enumerate(reversed(digits))) == number
    assert letters == "a" or not letters.startswith("a")


@given(st.integers(0, 26**8 - 1), st.sampled_from(["mp", "mvc"]))
def test_all_forms_meet(number: int, prefix: str) -> None:
    short = letters_of(number)
    forms = {f"{prefix}-{number}", f"{prefix}-{short}", f"{prefix}-{short.rjust(8, 'a')}"}
    found = {mp_ids(form) for form in forms}
    assert len(found) == 1
    canonical, aliases = found.pop()
    assert {form for _, form in aliases} == forms
    assert {kind for kind, _ in aliases} == {ALIAS}
    assert canonical in forms
    assert canonical[-1].isdigit() == (number <= LAST_DECIMAL)
    assert mp_ids(canonical) == (canonical, aliases)


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("mp-149", "mp-149"),
        (" mp-ft ", "mp-149"),
        ("mp-aaaaaaft", "mp-149"),
        ("mvc-3", "mvc-3"),
        ("mp-3347529", "mp-3347529"),
        ("mp-3347530", "mp-aaahilze"),
        ("mp-aaaaaaft-GGA+U", "mp-149-GGA+U"),
        ("mp-755116_GGA_GGA+U_R2SCAN", "mp-755116_GGA_GGA+U_R2SCAN"),
    ],
)
def test_canonical_form(text: str, canonical: str) -> None:
    found, aliases = mp_ids(text)
    assert found == canonical
    assert len(aliases) in (2, 3)


@pytest.mark.parametrize(
    "text",
    ["25334", "", "mp-", "MP-149", "mp-ABC", "mp-12ab", "aflow:1", "JVASP-1002", "mp149", "mp-1-"],
)
def test_other_ids_stay_as_they_are(text: str) -> None:
    assert mp_ids(text) == (text, ())


@given(st.text(max_size=40))
def test_any_text_is_taken(text: str) -> None:
    canonical, aliases = mp_ids(text)
    assert mp_ids(canonical) == (canonical, aliases)
