"""Records to and from pymatgen's structures (doi:10.1016/j.commatsci.2012.10.028).

A record comes back from a structure with the same id. A structure comes back from a record with its
sites within the grid of 1e-8, in the record's order, orientation and cell, and without labels and
properties of the whole structure. The spin of a species is the site property `SPECIES_SPIN`.

Deuterium and tritium are pymatgen's own elements; its files (JSON, CIF, POSCAR) write them as H.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from gandb.core.crystals import Crystal, crystal_of_matrix
from gandb.core.errors import InputError, MissingExtraError
from gandb.core.species import Occupant

if TYPE_CHECKING:
    from pymatgen.core.structure import Structure

SPECIES_SPIN = "species_spin"
"""Site property that holds what pymatgen keeps as the spin of a species: one number for a site of
one species, else ``{species: spin}``."""
CHARGE = "charge"
"""Property of the whole structure that says that its charge was given. pymatgen's files write the
sum of the oxidation states as the charge where none was."""

_SAME_CHARGE = 1e-6


def to_structure(crystal: Crystal) -> Structure:
    """Return the record as a pymatgen structure: row-vector lattice in Å, fractional coordinates.

    Raises:
        MissingExtraError: pymatgen is not installed.
    """
    try:
        from pymatgen.core.composition import Composition
        from pymatgen.core.lattice import Lattice
        from pymatgen.core.periodic_table import Element, Species
        from pymatgen.core.sites import PeriodicSite
        from pymatgen.core.structure import Structure
    except ImportError:
        raise MissingExtraError.for_package("pymatgen", "pymatgen") from None

    lattice = Lattice(crystal.lattice)
    spins = _spins(crystal)
    own = dict(crystal.properties)
    if spins is None:
        spins = [{}] * len(crystal)
    else:
        own.pop(SPECIES_SPIN)
    made: dict[tuple[str, str], Composition] = {}
    sites = []
    for i, (text, occupants) in enumerate(zip(crystal.species, crystal.occupants, strict=True)):
        key = (text, repr(spins[i]))
        if key not in made:
            parts: dict[Any, float] = {}
            for occupant in occupants:
                spin = spins[i].get(str(occupant))
                if occupant.oxidation_state is None and spin is None:
                    parts[Element(occupant.symbol)] = occupant.occupancy
                else:
                    what = Species(occupant.symbol, occupant.oxidation_state, spin=spin)
                    parts[what] = occupant.occupancy
            made[key] = Composition(parts)
        # Occupancies may add up to 1 + 1e-6 here, and to 1 + 1e-8 there.
        site = PeriodicSite(
            made[key],
            crystal.frac_coords[i].copy(),
            lattice,
            properties={name: values[i] for name, values in own.items()},
            skip_checks=True,
        )
        sites.append(site)
    given = {} if crystal.charge is None else {CHARGE: crystal.charge}
    structure = Structure(lattice, [], [], charge=crystal.charge, properties=given)
    structure.sites = sites
    return structure


def _spins(crystal: Crystal) -> list[dict[str, float]] | None:
    """Return the spins of every site by species, None where the property does not mean them."""
    values = crystal.properties.get(SPECIES_SPIN)
    if values is None:
        return None
    found: list[dict[str, float]] = []
    for value, occupants in zip(values, crystal.occupants, strict=True):
        names = {str(occupant) for occupant in occupants}
        spins = {} if value is None else value
        if len(names) == 1 and value is not None:
            spins = {next(iter(names)): value}
        if not isinstance(spins, dict) or not spins.keys() <= names or (value == {}):
            return None
        if not all(type(spin) in (int, float) for spin in spins.values()):
            return None
        found.append(spins)
    return found


def from_structure(structure: Structure) -> Crystal:
    """Return a pymatgen structure as a record.

    Raises:
        CrystalError: it is no crystal structure that a record can hold; says why.
        InputError: it is not periodic in three directions.
    """
    pbc = getattr(structure.lattice, "pbc", (True, True, True))
    if not all(pbc):
        raise InputError(f"the structure is not periodic in three directions: pbc is {pbc}")
    species: list[tuple[Occupant, ...]] = []
    properties: dict[str, list[Any]] = {}
    formal = 0.0
    for place, site in enumerate(structure):
        occupants = []
        spins: dict[str, float] = {}
        for what, share in site.species.items():
            state = getattr(what, "oxi_state", None)
            element = getattr(what, "element", what)
            # Isotopes have the symbol of their element, and a name of their own.
            symbol = str(getattr(element, "name", None) or getattr(element, "symbol", element))
            occupant = Occupant(symbol, float(share), None if state is None else float(state))
            occupants.append(occupant)
            formal += (occupant.oxidation_state or 0.0) * occupant.occupancy
            spin = getattr(what, "spin", None)
            if spin is not None:
                spins[str(occupant)] = spin
        species.append(tuple(occupants))
        own = dict(site.properties)
        if spins:
            own[SPECIES_SPIN] = spins if len(occupants) > 1 else next(iter(spins.values()))
        for name, value in own.items():
            if name not in properties:
                properties[name] = [None] * len(structure)
            properties[name][place] = value.as_dict() if hasattr(value, "as_dict") else value
    with warnings.catch_warnings():  # of a charge that differs from the oxidation states
        warnings.simplefilter("ignore")
        charge = given_charge(structure.properties, structure.charge, formal)
    return crystal_of_matrix(
        structure.lattice.matrix,
        species,
        structure.frac_coords,
        properties=properties,
        charge=charge,
    )


def given_charge(properties: Any, charge: float | None, formal: float) -> float | None:
    """Return the charge of a pymatgen structure that was given, not summed up.

    Args:
        properties: of the whole structure.
        charge: what pymatgen says.
        formal: sum of the oxidation states.
    """
    stated = properties.get(CHARGE) if isinstance(properties, dict) else None
    if isinstance(stated, int | float) and not isinstance(stated, bool):
        return stated
    if charge is None or abs(charge - formal) <= _SAME_CHARGE:
        return None
    return charge
