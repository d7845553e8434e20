"""Fingerprints of crystals by which sets of them are compared, as CDVAE defines them.

The structural fingerprint is the mean over all sites of matminer's
``CrystalNNFingerprint.from_preset("ops")`` (N. E. R. Zimmermann and A. Jain, RSC Adv. 10, 6063
(2020), doi:10.1039/C9RA07755C): how much a site resembles each of 61 coordination geometries. The
composition's is matminer's Magpie statistics of element properties (L. Ward et al., npj Comput.
Mater. 2, 16028 (2016), doi:10.1038/npjcompumats.2016.28), 132 of them.

Both are those of T. Xie et al., ICLR 2022, arXiv:2110.06197. Oxidation states are left out, as
there: they would change the radii by which neighbours are found.
"""

from __future__ import annotations

import csv
import importlib
import importlib.metadata
import warnings
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np

from gandb.core.crystals import Crystal
from gandb.core.errors import GandbError, MissingExtraError
from gandb.core.ids import sha256_hex
from gandb.representations.pymatgen_structures import to_structure

SITE_FEATURES, COMPOSITION_FEATURES = 61, 132
"""Lengths of the two fingerprints."""
_SCALING = "composition_scaling.csv"
_PACKAGES = ("matminer", "pymatgen")
_LONGEST = 160  # letters of a reason


class FingerprintError(GandbError):
    """A crystal has no fingerprint, and why."""


def fingerprints(crystal: Crystal) -> tuple[np.ndarray, np.ndarray]:
    """Return the fingerprints of a crystal: structure, float64 (61,), composition, float64 (132,).

    It takes about 20 ms for each site.

    Raises:
        FingerprintError: there are none, with what matminer says.
        MissingExtraError: matminer is not installed.
    """
    sites, composition = _featurizers()
    if not crystal.ordered:
        raise FingerprintError("disordered")
    structure = to_structure(crystal).remove_oxidation_states()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that oxidation states are missing, for every site
            of_sites = [sites.featurize(structure, i) for i in range(len(structure))]
            of_elements = composition.featurize(structure.composition)
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".split("\n")[0]
        raise FingerprintError(reason[:_LONGEST]) from error
    found = np.array(of_sites, np.float64).mean(axis=0), np.array(of_elements, np.float64)
    if not all(np.isfinite(part).all() for part in found):
        raise FingerprintError("a feature is no number")
    return found


def fingerprint_parameters() -> dict[str, Any]:
    """Return what decides fingerprints, for a recipe: presets, packages and their versions.

    Raises:
        MissingExtraError: matminer is not installed.
    """
    try:
        versions = {name: importlib.metadata.version(name) for name in _PACKAGES}
    except importlib.metadata.PackageNotFoundError as error:
        raise MissingExtraError.for_package(str(error.name), "fingerprints") from None
    return {
        "structure": "mean over sites of CrystalNNFingerprint, preset ops",
        "composition": "ElementProperty, preset magpie",
        "oxidation_states": "left out",
        "packages": versions,
    }


@cache
def _featurizers() -> tuple[Any, Any]:
    """Return matminer's featurizers of sites and of compositions."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of packages that matminer loads
        try:
            site = importlib.import_module("matminer.featurizers.site.fingerprint")
            composition = importlib.import_module("matminer.featurizers.composition.composite")
        except ImportError:
            raise MissingExtraError.for_package("matminer", "fingerprints") from None
        return (
            site.CrystalNNFingerprint.from_preset("ops"),
            composition.ElementProperty.from_preset("magpie"),
        )


# --- scaling -----------------------------------------------------------------------------


@cache
def _scaling() -> tuple[tuple[str, ...], np.ndarray]:
    """Names of the features, and their means and standard deviations, float64 (2, 132)."""
    rows = list(csv.DictReader(_scaling_text().splitlines()))
    names = tuple(row["feature"] for row in rows)
    return names, np.array(
        [[float(row[name]) for row in rows] for name in ("mean", "standard_deviation")]
    )


@cache
def _scaling_text() -> str:
    return (files("gandb.validation") / "data" / _SCALING).read_text(encoding="utf-8")


def scaled(compositions: np.ndarray) -> np.ndarray:
    """Scale fingerprints of compositions, (n, 132), by CDVAE's means and deviations (MP-20).

    The published cut-offs are for distances of what was scaled so.
    """
    means, deviations = _scaling()[1]
    found: np.ndarray = (np.asarray(compositions, np.float64) - means) / deviations
    return found


def scaling_parameters() -> dict[str, Any]:
    """Return what decides the scaling, for a recipe."""
    return {
        "composition_scaling": "means and standard deviations of CDVAE (MP-20)",
        "composition_scaling_sha256": sha256_hex(_scaling_text().encode()),
    }
