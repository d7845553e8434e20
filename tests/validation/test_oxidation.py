"""The shipped oxidation tables are what their sources say."""

from __future__ import annotations

import pytest
from smact import Element, metals, ordered_elements
from smact.screening import ICSD24FilterConfig
from smact.utils.oxidation import ICSD24OxStatesFilter

from gandb.core.elements import ATOMIC_NUMBERS, SYMBOLS
from gandb.core.errors import InputError, NotFoundError
from gandb.core.ids import sha256_hex
from gandb.validation.oxidation import TABLES, OxidationTable, load_table

ELEMENTS = ordered_elements(1, 103)


def by_symbol(table: OxidationTable) -> dict[str, tuple[int, ...]]:
    return {SYMBOLS[z]: states for z, states in table.states.items()}


def test_icsd24_is_what_smact_validity_uses_at_its_defaults() -> None:
    config = ICSD24FilterConfig()
    rows = ICSD24OxStatesFilter().filter(
        consensus=config.consensus,
        include_zero=config.include_zero,
        commonality=config.commonality,
    )
    theirs = {
        element: tuple(sorted(map(int, states.split())))
        for element, states in zip(rows["element"], rows["oxidation_state"], strict=True)
    }
    assert by_symbol(load_table("icsd24")) == theirs


def test_smact14_is_smacts_list_of_2014() -> None:
    ours = by_symbol(load_table("smact14"))
    theirs = {s: tuple(sorted(Element(s).oxidation_states_smact14 or ())) for s in ELEMENTS}
    assert {s: q for s, q in ours.items() if s in ELEMENTS} == {
        s: q for s, q in theirs.items() if q
    }
    # smact lists five elements that it has no other data for.
    assert {s: q for s, q in ours.items() if s not in ELEMENTS} == {
        "Rf": (4,), "Db": (5,), "Sg": (6,), "Bh": (7,), "Hs": (8,),
    }  # fmt: skip


@pytest.mark.parametrize("name", ["icsd24", "smact14"])
def test_electronegativities_and_metals_are_smacts(name: str) -> None:
    table = load_table(name)
    theirs = {ATOMIC_NUMBERS[s]: Element(s).pauling_eneg for s in ELEMENTS}
    assert table.electronegativity == {z: x for z, x in theirs.items() if x is not None}
    assert table.metals == {ATOMIC_NUMBERS[s] for s in metals}


def test_smact22_differs_from_smact14_in_two_values() -> None:
    old, new = load_table("smact22"), load_table("smact14")
    ir, zr = ATOMIC_NUMBERS["Ir"], ATOMIC_NUMBERS["Zr"]
    assert {z for z in {*old.states, *new.states} if old.states.get(z) != new.states.get(z)} == {ir}
    assert (old.states[ir][:2], new.states[ir][:2]) == ((-2, -1), (-3, -1))
    assert old.electronegativity == {**new.electronegativity, zr: 0.33}
    assert old.metals == new.metals


def test_content_hashes_are_pinned() -> None:
    """A changed table must be a new table: results already point at these hashes."""
    assert {name: load_table(name).sha256 for name in TABLES} == {
        "icsd24": "b1b007b27236db785427cb4c8b74b89c52fe6c396cd097e1a07645151938498d",
        "smact14": "889825256a40fdb874e42e1565a8e6127d777797a8f3c7189e6ee5f3fe2a4924",
        "smact22": "6fe3c7a19d5155963baf159b6d870e6a78853221fb97aae13b10df45c1349ab5",
    }


def test_the_hash_is_of_the_content_alone() -> None:
    table = load_table("icsd24")
    assert table.sha256 == sha256_hex(table.canonical_bytes)
    renamed = OxidationTable(
        "other",
        "0",
        dict(reversed(table.states.items())),
        dict(reversed(table.electronegativity.items())),
        table.metals,
    )
    assert renamed.sha256 == table.sha256
    changed = OxidationTable("icsd24", table.version, {8: (-2,)}, {8: 3.44}, table.metals)
    assert changed.sha256 != table.sha256


@pytest.mark.parametrize(
    ("states", "said"),
    [
        ({8: (-2, 0, 2)}, "must not be zero"),
        ({8: (-2, 99)}, "beyond 15"),
        ({8: (2, -2)}, "ascending"),
        ({8: (-2, -2)}, "once each"),
        ({8: ()}, "leave the element out"),
        ({119: (1,)}, "atomic number 119"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused(
    states: dict[int, tuple[int, ...]], said: str
) -> None:
    with pytest.raises(InputError, match=said):
        OxidationTable("mine", "1", states, {}, frozenset())


def test_an_unknown_table_names_the_known_ones() -> None:
    with pytest.raises(NotFoundError, match="icsd24"):
        load_table("icsd")
