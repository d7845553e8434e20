"""Fingerprints, against matminer called as the published code calls it."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

from gandb.core.crystals import crystal
from gandb.representations.pymatgen_structures import to_structure
from gandb.validation import fingerprints as module
from gandb.validation.coverage import CUTOFFS, coverage
from gandb.validation.fingerprints import (
    COMPOSITION_FEATURES,
    SITE_FEATURES,
    FingerprintError,
    fingerprint_parameters,
    fingerprints,
    scaled,
    scaling_parameters,
)
from tests.real_crystals import some_crystals
from tests.shared_data import real

pytest.importorskip("matminer")

CUBIC = (90.0, 90.0, 90.0)


def featurizers() -> tuple[Any, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from matminer.featurizers.composition.composite import ElementProperty
        from matminer.featurizers.site.fingerprint import CrystalNNFingerprint
        from matminer.featurizers.structure.sites import SiteStatsFingerprint

        site = CrystalNNFingerprint.from_preset("ops")
        return SiteStatsFingerprint(site, stats=["mean"]), ElementProperty.from_preset("magpie")


@real
def test_fingerprints_are_those_of_matminer() -> None:
    """By another of its featurizers: the statistics over sites, of which the mean is one."""
    structure_features, composition_features = featurizers()
    small = [c for c in some_crystals("structures/mp20-mini.csv.gz", 60) if len(c) < 6]
    assert len(small) > 5
    for record in small[:6]:
        structure, composition = fingerprints(record)
        assert structure.shape == (SITE_FEATURES,)
        assert composition.shape == (COMPOSITION_FEATURES,)
        theirs = to_structure(record)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert structure == pytest.approx(np.array(structure_features.featurize(theirs)))
            assert composition.tolist() == composition_features.featurize(theirs.composition)


def test_scaling_has_the_features_of_matminer_in_their_order() -> None:
    _, composition_features = featurizers()
    names, numbers = module._scaling()
    assert [f"MagpieData {name}" for name in names] == composition_features.feature_labels()
    assert numbers.shape == (2, COMPOSITION_FEATURES)
    assert (numbers[1] > 0).all()


@real
def test_scaled_compositions_of_mp_have_mean_zero_and_deviation_one() -> None:
    """The scale is that of MP-20: of 1,200 of its crystals, what is scaled is about normal."""
    _, composition_features = featurizers()
    crystals = some_crystals("structures/mp20-mini.csv.gz", 1_200)
    features = [composition_features.featurize(to_structure(c).composition) for c in crystals]
    found = scaled(np.array(features))
    assert np.abs(found.mean(axis=0)).mean() < 0.15
    assert np.median(found.std(axis=0)) == pytest.approx(1.0, abs=0.05)


@real
def test_a_set_covers_itself_and_another_hardly() -> None:
    records = [c for c in some_crystals("structures/mp20-mini.csv.gz", 60) if len(c) < 6][:6]
    both = [fingerprints(record) for record in records]
    structures = np.array([s for s, _ in both])
    compositions = scaled(np.array([c for _, c in both]))
    own = coverage(structures, compositions, structures, compositions, CUTOFFS["mp20"], True)
    assert own.precision == own.recall == 1.0
    salt = crystal((5.0,) * 3, CUBIC, ["Na", "Cl"], [(0, 0, 0), (0.5, 0.5, 0.5)])
    one = fingerprints(salt)
    far = coverage(
        one[0][None], scaled(one[1][None]), structures, compositions, CUTOFFS["perov5"], True
    )
    assert far.recall < 1


def test_oxidation_states_change_nothing() -> None:
    sites = [(0, 0, 0), (0.5, 0.5, 0.5)]
    plain = fingerprints(crystal((4.1,) * 3, CUBIC, ["Cs", "Cl"], sites))
    ions = fingerprints(crystal((4.1,) * 3, CUBIC, ["Cs+", "Cl-"], sites))
    for a, b in zip(plain, ions, strict=True):
        assert a.tolist() == b.tolist()


def test_what_has_no_fingerprint_says_why() -> None:
    mixed = crystal((4.0,) * 3, CUBIC, ["Fe:0.5 Ni:0.5"], [(0, 0, 0)])
    with pytest.raises(FingerprintError, match="disordered"):
        fingerprints(mixed)
    heavy = crystal((5.0,) * 3, CUBIC, ["Bk", "O"], [(0, 0, 0), (0.5, 0.5, 0.5)])
    with pytest.raises(FingerprintError, match="TypeError: "):  # it has no radius
        fingerprints(heavy)


def test_recipes_name_versions_and_files() -> None:
    assert set(fingerprint_parameters()["packages"]) == {"matminer", "pymatgen"}
    assert len(scaling_parameters()["composition_scaling_sha256"]) == 64
