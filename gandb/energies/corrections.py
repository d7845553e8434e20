"""Corrections of computed energies, which bring calculations of different kinds onto one scale.

``mp2020`` is the scheme of the Materials Project: corrections of anions, and of the mixture of GGA
with GGA+U (Wang et al., Sci. Rep. 11, 15496 (2021), doi:10.1038/s41598-021-94550-5; Jain et al.,
Phys. Rev. B 84, 045115 (2011), doi:10.1103/PhysRevB.84.045115), as
``MaterialsProject2020Compatibility`` of pymatgen has it. Elements by themselves are not corrected.

A potential gives energies on the scale of what it was trained on, see `TRAINED_ON`. That was
measured: 120 entries of Li-Fe-O of the Materials Project (up to 30 sites, 105 of them oxides), as
they are, differ on average by

- CHGNet 0.3.0: 0.051 eV/atom from the corrected energies, 0.887 from those as calculated;
- SevenNet-0: 0.874 eV/atom from the corrected energies, 0.037 from those as calculated.

On 13 of the oxides (up to 10 sites), SevenNet's other weights lie as clearly at the energies as
calculated: 0-22May2024 by 0.172 against 1.074 eV/atom, l3i5 by 0.042 against 1.125.

Formation energies with elements by the same potential, of structures of the Materials Project as it
relaxed them, differ from those on record by 0.057 eV/atom for CHGNet (400 structures), by 0.055 for
SevenNet-0 with these corrections and 0.246 without (150 of them).

So what CHGNet gives must not be corrected again, and what SevenNet-0 gives has to be corrected
before it is compared with corrected energies.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

from gandb.core.crystals import Crystal
from gandb.core.errors import MissingExtraError, NotFoundError

if TYPE_CHECKING:
    from pymatgen.entries.computed_entries import ComputedEntry, ComputedStructureEntry

NONE, MP2020 = "none", "mp2020"
SCHEMES = (NONE, MP2020)
"""Names of schemes."""

TRAINED_ON: dict[str, str] = {
    "CHGNet-0.3.0": MP2020,
    "SevenNet-0": NONE,
    "SevenNet-0-22May2024": NONE,
    "SevenNet-l3i5": NONE,
}
"""Which corrections the energies have that a potential was trained on, by its name."""


def still_due(potential: str, scheme: str) -> str | None:
    """Return what corrections a potential's energies need to be on the scale of a scheme.

    Args:
        potential: its name in a relaxation recipe.
        scheme: of the energies that they are compared with.

    Returns:
        a scheme; None where that is not known, or cannot be, as nothing takes corrections off.
    """
    trained = TRAINED_ON.get(potential)
    if trained is None:
        return None
    if trained == scheme:
        return NONE
    return scheme if trained == NONE else None


def scheme_parameters(scheme: str) -> dict[str, Any]:
    """Return all that corrections by a scheme depend on, as plain data for a recipe.

    Raises:
        NotFoundError: there is no such scheme.
        MissingExtraError: pymatgen is not installed.
    """
    if scheme not in SCHEMES:
        raise NotFoundError.naming("correction scheme", scheme, SCHEMES)
    if scheme == NONE:
        return {"scheme": NONE}
    module = _compatibility()
    table = module.MaterialsProject2020Compatibility.DEFAULT_CONFIG_FILE
    text = repr(_sorted(table)).encode()
    return {
        "scheme": scheme,
        "package": f"pymatgen {_version()}",
        "table_sha256": hashlib.sha256(text).hexdigest(),
    }


def correct_crystal(crystal: Crystal, scheme: str) -> float:
    """Return what a scheme adds to the energy of a crystal, eV/atom.

    The energy is taken to be one as the Materials Project calculates it without corrections: with
    its Hubbard U in oxides and fluorides of some transition metals, without elsewhere. That is what
    a potential gives that was trained on such energies.

    Args:
        crystal: an ordered crystal.
        scheme: one of `SCHEMES`.

    Raises:
        ValueError: the scheme has no correction for it, with the reason.
        MissingExtraError: pymatgen is not installed.
    """
    if scheme == NONE:
        return 0.0
    entries = _entries()
    from gandb.representations.pymatgen_structures import to_structure

    structure = to_structure(crystal)
    structure.remove_oxidation_states()
    entry = entries.ComputedStructureEntry(
        structure, 0.0, parameters=_usual_parameters(structure.composition)
    )
    return _adjusted(entry, check_potcar=False) / len(crystal)


def correct_calculation(
    amounts: Mapping[str, float],
    parameters: Mapping[str, Any],
    data: Mapping[str, Any],
    crystal: Crystal | None,
    scheme: str,
) -> float:
    """Return what a scheme adds to the energy of a calculation, eV/atom.

    Args:
        amounts: atoms by element.
        parameters: of the calculation, as pymatgen's computed entries have them: run_type, hubbards
            and potcar_spec or potcar_symbols.
        data: what else is known: oxide_type, sulfide_type, oxidation_states.
        crystal: its structure, which tells oxides from peroxides where the data do not.
        scheme: one of `SCHEMES`.

    Raises:
        ValueError: it was not done as the scheme wants it, or it is not said how.
        MissingExtraError: pymatgen is not installed.
    """
    if scheme == NONE:
        return 0.0
    entries = _entries()
    if not parameters:
        raise ValueError("does not say how it was calculated")
    known = {k: v for k, v in data.items() if v is not None}
    entry: Any
    if crystal is None:
        entry = entries.ComputedEntry(dict(amounts), 0.0, parameters=dict(parameters), data=known)
    else:
        from gandb.representations.pymatgen_structures import to_structure

        structure = to_structure(crystal)
        structure.remove_oxidation_states()
        entry = entries.ComputedStructureEntry(
            structure, 0.0, parameters=dict(parameters), data=known
        )
    return _adjusted(entry, check_potcar=True) / float(entry.composition.num_atoms)


def _usual_parameters(composition: Any) -> dict[str, Any]:
    """Return how the Materials Project would calculate a composition."""
    anion = max((e for e in composition.elements), key=lambda e: e.X).symbol
    usual = _settings().get(anion, {}) if len(composition) > 1 else {}
    hubbards = {e.symbol: usual[e.symbol] for e in composition.elements if e.symbol in usual}
    return {
        "run_type": "GGA+U" if hubbards else "GGA",
        "is_hubbard": bool(hubbards),
        "hubbards": hubbards,
    }


@cache
def _settings() -> Mapping[str, Mapping[str, float]]:
    with _quiet():
        from pymatgen.io.vasp.sets import MPRelaxSet

        values: Mapping[str, Mapping[str, float]] = MPRelaxSet.CONFIG["INCAR"]["LDAUU"]
        return values


@cache
def _scheme(check_potcar: bool) -> Any:
    with _quiet():
        return _compatibility().MaterialsProject2020Compatibility(check_potcar=check_potcar)


def _adjusted(entry: ComputedEntry | ComputedStructureEntry, *, check_potcar: bool) -> float:
    """Return the sum of a calculation's corrections, eV per cell."""
    with _quiet():
        try:
            found = _scheme(check_potcar).get_adjustments(entry)
        except (_compatibility().CompatibilityError, ValueError, KeyError, AttributeError) as error:
            raise ValueError(" ".join(str(error).split())[:200]) from None
        return float(sum(adjustment.value for adjustment in found))


@contextmanager
def _quiet() -> Iterator[None]:
    """Leave out pymatgen's warnings: of elements without electronegativity, of guessed charges."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _compatibility() -> Any:
    try:
        with _quiet():
            import pymatgen.entries.compatibility as module
    except ModuleNotFoundError:
        raise MissingExtraError.for_package("pymatgen", "pymatgen") from None
    return module


def _entries() -> Any:
    _compatibility()
    import pymatgen.entries.computed_entries as module

    return module


@cache
def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    for name in ("pymatgen-core", "pymatgen"):
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return "of unknown version"


def _sorted(value: Any) -> Any:
    """Return nested mappings as lists of pairs, sorted by name."""
    if isinstance(value, Mapping):
        return [(str(k), _sorted(value[k])) for k in sorted(value, key=str)]
    return value
