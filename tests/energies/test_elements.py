"""Which phases stand for elements."""

from __future__ import annotations

from gandb.energies.elements import ElementEntry, Relaxed, ground_states, relaxed_elements


def entry(symbol: str, structure: str | None, above: float | None = None,
          energy: float | None = None, source: str = "mp") -> ElementEntry:  # fmt: skip
    return ElementEntry(symbol, source, structure, above, energy)


def test_the_most_stable_phase_is_taken() -> None:
    found, missing = ground_states(
        [
            entry("Li", "b", 0.003), entry("Li", "a", 0.001), entry("Li", "c"),
            entry("Fe", "e", energy=-8.1), entry("Fe", "d", energy=-8.4),
            entry("O", "g", 0.0), entry("O", "f", 0.0),
            entry("He", "x", None, -0.1), entry("He", "y", 0.0, -0.05),
            entry("Te", None, 0.0), entry("Te", "t", 0.012),
        ]
    )  # fmt: skip
    assert found == {"Li": "a", "Fe": "d", "O": "f", "He": "y", "Te": "t"}
    assert missing == {}


def test_nothing_stands_in_for_what_is_not_known() -> None:
    found, missing = ground_states(
        [
            entry("Si", "a", 0.159), entry("P", "b"), entry("S", None, 0.0), entry("S", "c"),
            entry("Fe", None, energy=-8.4), entry("Fe", "f", energy=-8.3),
            entry("Cl", "d", energy=-1.8), entry("Cl", "e", energy=-1.7, source="oqmd"),
        ]
    )  # fmt: skip
    assert found == {}
    assert missing == {
        "Si": "its most stable structure lies 0.159 eV/atom above the ground state",
        "P": "no energy of it is stated",
        "S": "no entry of it has both an energy and a structure",
        "Fe": "its most stable structure lies 0.100 eV/atom above the ground state",
        "Cl": "its total energies are of several sources, which cannot be compared",
    }


def test_an_element_needs_its_structure_relaxed() -> None:
    structures = {"Li": "a", "Fe": "b", "O": "c"}
    relaxed = {"a": Relaxed(-1.9), "b": Relaxed(None, "it did not converge")}
    found = relaxed_elements(structures, {"P": "no energy of it is stated"}, relaxed)
    assert found.energies == {"Li": -1.9}
    assert found.structures == {"Li": "a"}
    assert found.missing == {
        "P": "no energy of it is stated",
        "Fe": "its structure b: it did not converge",
        "O": "its structure c has not been relaxed",
    }
