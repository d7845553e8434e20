"""Corrections of energies, against those that the Materials Project states of its entries."""

from __future__ import annotations

import gzip
import json
from functools import cache
from typing import Any

import numpy as np
import pytest

from gandb.core.crystals import Crystal
from gandb.core.errors import NotFoundError
from gandb.energies.corrections import (
    MP2020,
    NONE,
    TRAINED_ON,
    correct_calculation,
    correct_crystal,
    scheme_parameters,
    still_due,
)
from gandb.sources.base import Reject
from gandb.sources.reading import crystal_of, read_files
from tests.shared_data import SHARED, real

pytest.importorskip("pymatgen.entries.compatibility")

NAME = "computed-structure-entries-Li-Fe-O.json.gz"


@cache
def entries() -> tuple[tuple[dict[str, Any], Crystal], ...]:
    """Computed entries of Li-Fe-O with their structures."""
    path = SHARED / "native" / "mp" / NAME
    listed = json.loads(gzip.decompress(path.read_bytes()))
    records = list(read_files([path]))
    assert not any(isinstance(r, Reject) for r in records)
    return tuple(
        (entry, crystal_of(r.structure))
        for entry, r in zip(listed, records, strict=True)
        if not isinstance(r, Reject) and r.structure is not None
    )


def stated(entry: dict[str, Any]) -> float:
    """The correction that an entry states, eV/atom."""
    atoms = sum(entry["composition"].values())
    return float(entry["correction"]) / atoms


@real
def test_calculations_are_corrected_as_the_materials_project_did() -> None:
    corrected = 0
    for entry, crystal in entries():
        for known in (crystal, None):
            found = correct_calculation(
                entry["composition"], entry["parameters"], entry["data"], known, MP2020
            )
            assert found == pytest.approx(stated(entry), abs=1e-9)
        corrected += found != 0
    assert corrected > 300


@real
def test_crystals_are_corrected_as_if_they_had_been_calculated() -> None:
    """By a structure alone, one of 375 is taken for another kind of oxide than its source says."""
    found = np.array([correct_crystal(crystal, MP2020) for _, crystal in entries()])
    wanted = np.array([stated(entry) for entry, _ in entries()])
    assert (np.abs(found - wanted) > 1e-6).sum() <= 1
    assert {correct_crystal(crystal, NONE) for _, crystal in entries()} == {0.0}


@real
def test_what_was_calculated_otherwise_is_not_corrected() -> None:
    entry, crystal = next((e, c) for e, c in entries() if e["parameters"]["hubbards"])
    data, amounts = entry["data"], entry["composition"]
    without_u = {**entry["parameters"], "hubbards": {}, "run_type": "GGA"}
    with pytest.raises(ValueError, match=r"Invalid U value of 0\.0 on Fe"):
        correct_calculation(amounts, without_u, data, crystal, MP2020)
    with pytest.raises(ValueError, match="run type"):
        correct_calculation(
            amounts, {**entry["parameters"], "run_type": "R2SCAN"}, data, None, MP2020
        )
    with pytest.raises(ValueError, match="does not say how"):
        correct_calculation(amounts, {}, data, crystal, MP2020)
    assert correct_calculation(amounts, {}, data, crystal, NONE) == 0.0


@real
def test_chgnet_was_trained_on_corrected_energies() -> None:
    model = pytest.importorskip("gandb.energies.chgnet_model")
    potentials = pytest.importorskip("gandb.energies.potentials")
    pytest.importorskip("chgnet")
    potential = model.load("0.3.0", "cpu")
    assert TRAINED_ON[potential.name] == MP2020
    oxides = [(e, c) for e, c in entries() if len(c) <= 16 and stated(e) < -0.3]
    small = oxides[:: len(oxides) // 16]
    batch = potentials.Batch.of([c for _, c in small])
    energies = potential.evaluate(batch).energies / np.diff(batch.starts)
    plain = np.array([e["energy"] / sum(e["composition"].values()) for e, _ in small])
    corrected = plain + np.array([stated(e) for e, _ in small])
    assert np.abs(energies - corrected).mean() < 0.15 < 0.5 < np.abs(energies - plain).mean()


def test_what_is_still_due() -> None:
    assert still_due("CHGNet-0.3.0", MP2020) == NONE
    assert still_due("CHGNet-0.3.0", NONE) is None  # nothing takes corrections off
    assert still_due("SevenNet-0", MP2020) == MP2020
    assert still_due("SevenNet-0", NONE) == NONE
    assert still_due("CHGNet-r2scan", MP2020) is None  # of another functional
    assert still_due("another", MP2020) is None


def test_schemes_name_all_they_depend_on() -> None:
    assert scheme_parameters(NONE) == {"scheme": NONE}
    found = scheme_parameters(MP2020)
    assert found["package"].startswith("pymatgen 20")
    assert len(found["table_sha256"]) == 64
    with pytest.raises(NotFoundError, match="known: mp2020, none"):
        scheme_parameters("mp2021")
