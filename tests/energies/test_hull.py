"""Energies above the hull, against pymatgen's PhaseDiagram and against all mixtures there are."""

from __future__ import annotations

import gzip
import json
from functools import cache
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gandb.core.compositions import CompositionBatch
from gandb.core.errors import InputError
from gandb.energies.hull import Hull
from tests.shared_data import SHARED, real

REAL = ("computed-entries-Li-Fe-P-O", "computed-structure-entries-Li-Fe-O")


@cache
def mp_entries(name: str) -> tuple[Any, ...]:
    """Computed entries of the Materials Project, without their structures."""
    module = pytest.importorskip("pymatgen.entries.computed_entries")
    path = SHARED / "native" / "mp" / f"{name}.json.gz"
    listed = json.loads(gzip.decompress(path.read_bytes()))
    return tuple(
        module.ComputedEntry(
            e["composition"], e["energy"], e.get("correction") or 0.0, entry_id=e["entry_id"]
        )
        for e in listed
    )


def batch_of(entries: Any) -> CompositionBatch:
    return CompositionBatch.from_dicts(
        [{e.symbol: int(n) for e, n in entry.composition.items()} for entry in entries]
    )


def energies_of(entries: Any) -> np.ndarray:
    return np.array([entry.energy_per_atom for entry in entries])


@real
@pytest.mark.parametrize("name", REAL)
@pytest.mark.parametrize("keep", [1.0, 0.5])
def test_real_entries_lie_where_pymatgen_puts_them(name: str, keep: float) -> None:
    """All against all, and all against a half, so that many lie under the hull."""
    diagrams = pytest.importorskip("pymatgen.analysis.phase_diagram")
    entries = mp_entries(name)
    chosen = np.random.default_rng(0).random(len(entries)) < keep
    chosen |= np.array([len(e.composition) == 1 for e in entries])
    references = [e for e, held in zip(entries, chosen, strict=True) if held]
    diagram = diagrams.PhaseDiagram(references)
    hull = Hull(batch_of(references), energies_of(references))
    found = hull.judge(batch_of(entries))
    above = energies_of(entries) - found.hull
    under = 0
    for i, entry in enumerate(entries):
        wanted, height = diagram.get_decomp_and_e_above_hull(
            entry, allow_negative=True, check_stable=False
        )
        assert above[i] == pytest.approx(height, abs=1e-9)
        formation = energies_of([entry])[0] - found.elements[i]
        assert formation == pytest.approx(diagram.get_form_energy_per_atom(entry), abs=1e-9)
        said = {references[p].composition.reduced_formula: s for p, s in found.decomposition(i)}
        assert said == pytest.approx(
            {e.composition.reduced_formula: share for e, share in wanted.items()}, abs=1e-9
        )
        under += height < -1e-6
    assert not any(found.missing)
    assert (under > 5) == (keep < 1)


@st.composite
def systems(draw: st.DrawFn) -> tuple[list[dict[str, int]], np.ndarray, dict[str, int]]:
    """Up to eight phases of up to four elements, each with one of its own, and a composition."""
    elements = draw(st.lists(st.sampled_from("Li Fe P O".split()), min_size=1, unique=True))
    amounts = st.dictionaries(st.sampled_from(elements), st.integers(1, 6), min_size=1)
    phases = [{e: 1} for e in elements] + draw(st.lists(amounts, max_size=5))
    values = st.integers(-40, 40).map(lambda n: n / 8)  # many are equal, or in one plane
    energies = draw(st.lists(values, min_size=len(phases), max_size=len(phases)))
    return phases, np.array(energies), draw(amounts)


@settings(max_examples=200)
@given(systems())
def test_no_mixture_is_lower(case: tuple[list[dict[str, int]], np.ndarray, dict[str, int]]) -> None:
    phases, energies, own = case
    hull = Hull(CompositionBatch.from_dicts(phases), energies)
    found = hull.judge(CompositionBatch.from_dicts([own]))
    elements = sorted(set().union(*phases))
    shares = np.array([[p.get(e, 0) / sum(p.values()) for e in elements] for p in phases])
    wanted = np.array([own.get(e, 0) / sum(own.values()) for e in elements])
    lowest = np.inf
    for size in range(1, len(elements) + 1):
        for some in combinations(range(len(phases)), size):
            mixed, *_ = np.linalg.lstsq(shares[list(some)].T, wanted, rcond=None)
            if (mixed > -1e-9).all() and np.allclose(shares[list(some)].T @ mixed, wanted):
                lowest = min(lowest, float(mixed @ energies[list(some)]))
    assert found.hull[0] == pytest.approx(lowest, abs=1e-9)
    said = found.decomposition(0)
    assert sum(share for _, share in said) == pytest.approx(1)
    assert sum(share * energies[p] for p, share in said) == pytest.approx(lowest, abs=1e-9)
    assert sum(share * shares[p] for p, share in said) == pytest.approx(wanted)
    assert [share for _, share in said] == sorted((share for _, share in said), reverse=True)


def test_an_element_without_a_phase_is_told() -> None:
    phases = CompositionBatch.from_dicts([{"Li": 1}, {"O": 2}, {"Fe": 2, "O": 3}])
    hull = Hull(phases, np.array([-1.9, -4.9, -7.0]))
    own = CompositionBatch.from_dicts([{"Li": 2, "O": 1}, {"Fe": 1, "O": 1}, {"Zr": 1, "Fe": 2}])
    found = hull.judge(own)
    assert found.missing == [(), ("Fe",), ("Fe", "Zr")]
    assert found.hull[0] == pytest.approx((2 * -1.9 - 4.9) / 3)
    assert np.isnan(found.hull[1:]).all()
    assert np.isnan(found.elements[1:]).all()
    assert found.decomposition(1) == []
    assert [p for p, _ in found.decomposition(0)] == [0, 1]


def test_many_elements_and_heavy_ones() -> None:
    """More elements than are looked up system by system, some beyond the first 64."""
    symbols = "H Li Be B C N O F Na Mg Al Cs Pb U".split()
    phases = [{s: 1} for s in symbols] + [{"Cs": 1, "U": 1}, {"U": 2, "H": 5}]
    energies = np.array([0.0] * len(symbols) + [-1.0, -0.1])
    hull = Hull(CompositionBatch.from_dicts(phases), energies)
    own = dict.fromkeys(symbols, 1)
    found = hull.judge(CompositionBatch.from_dicts([own, {"Cs": 3, "U": 1}]))
    assert found.hull == pytest.approx([-2 / 14, -0.5])
    assert found.missing == [(), ()]


def test_the_lowest_phase_of_a_composition_counts() -> None:
    phases = CompositionBatch.from_dicts([{"O": 1}, {"O": 2}, {"Mg": 1}, {"Mg": 2, "O": 2}])
    hull = Hull(phases, np.array([-4.0, -5.0, -1.0, -6.0]))
    found = hull.judge(CompositionBatch.from_dicts([{"O": 8}, {"Mg": 1, "O": 1}]))
    assert found.hull.tolist() == [-5.0, -6.0]
    assert found.elements.tolist() == [-5.0, -3.0]
    assert found.phases.tolist() == [1, 3]
    assert len(hull) == 3


def test_nothing_in_nothing_out() -> None:
    hull = Hull(CompositionBatch.empty(), np.zeros(0))
    assert len(hull.judge(CompositionBatch.empty())) == 0
    assert hull.judge(CompositionBatch.from_dicts([{"H": 1}])).missing == [("H",)]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_energies_are_numbers(value: float) -> None:
    with pytest.raises(InputError, match="phase 1 has the energy"):
        Hull(CompositionBatch.from_dicts([{"H": 1}, {"H": 2}]), np.array([0.0, value]))
