"""Site properties of any name and value, those among them that mean something to a library."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

NAMES = (
    "tags masses positions numbers momenta velocities magmom charge forces final_magmom "
    "final_charge magmoms charges initial_magmoms initial_charges species site_species oxi_states "
    "spacegroup_kinds occupancy site_properties species_spin label properties lattice x \u00e9"
).split()

_NUMBERS = st.one_of(st.floats(-1e6, 1e6), st.integers(-3, 3).map(float))
_KINDS: tuple[st.SearchStrategy[Any], ...] = (
    _NUMBERS,
    st.none() | _NUMBERS,
    st.integers(-(2**40), 2**40),
    st.integers(0, 9),
    st.booleans(),
    st.none() | st.integers(0, 3) | _NUMBERS,
    st.text(max_size=3),
    st.lists(_NUMBERS, min_size=3, max_size=3),
    st.lists(_NUMBERS, max_size=3),
    st.none() | st.dictionaries(st.sampled_from(["Fe", "O2-", "a"]), _NUMBERS, max_size=2),
    st.lists(st.lists(_NUMBERS, min_size=3, max_size=3), min_size=3, max_size=3),
)


def any_properties(n: int) -> st.SearchStrategy[dict[str, list[Any]]]:
    """Some properties of n sites."""
    values = st.sampled_from(_KINDS).flatmap(lambda kind: st.lists(kind, min_size=n, max_size=n))
    return st.dictionaries(st.sampled_from(NAMES), values, max_size=3)
