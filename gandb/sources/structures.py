"""Structures as JSON documents write them: pymatgen's, JARVIS's and OPTIMADE's, as `Sites`.

What is wrong with a document is an `InputError` that says what; whether the numbers make a crystal
is for `Sites.crystal` to say.

- pymatgen: ``Structure.as_dict``, https://pymatgen.org (doi:10.1016/j.commatsci.2012.10.028)
- JARVIS: ``Atoms.to_dict``, https://jarvis-tools.readthedocs.io (doi:10.1038/s41524-020-00440-1)
- OPTIMADE: "Structures entries" of https://specification.optimade.org
  (doi:10.1038/s41597-021-00974-z)
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from gandb.core.crystals import MAX_SITES
from gandb.core.elements import ATOMIC_NUMBERS
from gandb.core.errors import InputError
from gandb.core.species import ISOTOPES, Occupant, SpeciesError, parse_species
from gandb.representations.ase_atoms import isotopes
from gandb.representations.pymatgen_structures import SPECIES_SPIN, given_charge
from gandb.sources.records import Sites

_PARAMETERS = ("a", "b", "c", "alpha", "beta", "gamma")
_EMPTY = frozenset({"vacancy"})


def parse_json(text: str | bytes) -> Any:
    """Return what a JSON text holds; numbers are exact, NaN and Infinity are read as such.

    Raises:
        InputError: it is not JSON, is not UTF-8, or is nested too deeply.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise InputError("is nested too deeply to be read") from None
    except UnicodeDecodeError:
        raise InputError("is not UTF-8") from None
    except json.JSONDecodeError as error:
        raise InputError(f"is not JSON: {error}") from None
    except ValueError as error:  # a whole number of thousands of digits
        raise InputError(f"holds a number that cannot be read: {error}") from None


# --- pymatgen ----------------------------------------------------------------------------


def is_structure(data: Any) -> bool:
    """Whether a document looks like pymatgen's ``Structure.as_dict``."""
    return isinstance(data, Mapping) and "lattice" in data and "sites" in data


def sites_of_structure(data: Mapping[str, Any]) -> Sites:
    """Read pymatgen's ``Structure.as_dict``, as any of its versions writes it.

    Lattice vectors go before parameters, fractional coordinates before Cartesian ones. Labels are
    left out. pymatgen writes the sum of the oxidation states as the charge where none was set, so
    a charge that equals it is not kept. The spin of a species becomes the property `SPECIES_SPIN`.

    Raises:
        InputError: it is no such document; says what is wrong with it.
    """
    if not isinstance(data, Mapping):
        raise InputError("is no pymatgen structure: it is not a JSON object")
    for key in ("lattice", "sites"):
        if not data.get(key):
            raise InputError(f"is no pymatgen structure: it has no {key}")
    matrix, parameters = _lattice(data["lattice"])
    sites = _listed(data["sites"], "sites")
    fractional = all(isinstance(site, Mapping) and site.get("abc") is not None for site in sites)
    if not fractional and matrix is None:
        raise InputError("has Cartesian sites, and a lattice without vectors")
    species: list[str | Sequence[Occupant]] = []
    coords: list[Any] = []
    properties: dict[str, list[Any]] = {}
    formal = 0.0
    for place, site in enumerate(sites):
        if not isinstance(site, Mapping):
            raise InputError(f"site {place + 1} is not a JSON object")
        what, states, spins = _species(site, place + 1)
        species.append(what)
        formal += states
        found = site.get("abc" if fractional else "xyz")
        if found is None:
            raise InputError(f"site {place + 1} has no coordinates (abc or xyz)")
        coords.append(found)
        own = site.get("properties") or {}
        if not isinstance(own, Mapping):
            raise InputError(f"the properties of site {place + 1} are not a JSON object")
        if spins is not None:
            own = {**own, SPECIES_SPIN: spins}
        for name, value in own.items():
            if name not in properties:
                properties[name] = [None] * len(sites)
            properties[name][place] = _array(value)
    charge = given_charge(data.get("properties"), number(data.get("charge"), "its charge"), formal)
    return Sites(
        species=species,
        coords=coords,
        lattice=matrix,
        parameters=parameters,
        cartesian=not fractional,
        properties=properties,
        charge=charge,
    )


def _lattice(data: Any) -> tuple[Any, list[float] | None]:
    """Return the vectors, or else the six parameters."""
    if isinstance(data, Sequence) and not isinstance(data, str):
        return data, None
    if not isinstance(data, Mapping):
        raise InputError("its lattice is neither an object nor three vectors")
    pbc = data.get("pbc")
    if isinstance(pbc, Sequence) and not all(pbc):
        raise InputError(f"is not periodic in three directions: pbc is {list(pbc)}")
    matrix = _array(data.get("matrix"))
    if matrix is not None:
        return matrix, None
    missing = [name for name in _PARAMETERS if data.get(name) is None]
    if missing:
        raise InputError(f"its lattice has no matrix and no {', '.join(missing)}")
    return None, [number(data[name], name) or 0.0 for name in _PARAMETERS]


def _species(site: Mapping[str, Any], place: int) -> tuple[str | tuple[Occupant, ...], float, Any]:
    """Return what sits on a site, the sum of its oxidation states, and its spins or None."""
    listed = site.get("species")
    if isinstance(listed, list) and len(listed) == 1 and isinstance(listed[0], Mapping):
        only = listed[0]
        if len(only) == 2 and only.get("occu") == 1:  # nearly every site
            symbol = only.get("element")
            if isinstance(symbol, str) and symbol in ATOMIC_NUMBERS:
                return symbol, 0.0, None
    if listed is None:  # the oldest documents have a label alone
        listed = site.get("label")
    if isinstance(listed, str):
        found = _named(listed, 1.0, None, place)
        return (found,), found.oxidation_state or 0.0, None
    if isinstance(listed, Mapping):  # {"Fe3+": 0.5, "Ni2+": 0.5}
        listed = [{"element": name, "occu": share} for name, share in listed.items()]
    if not isinstance(listed, list) or not listed:
        raise InputError(f"site {place} has no species")
    occupants: list[Occupant] = []
    spins: dict[str, float] = {}
    total = 0.0
    for item in listed:
        if not isinstance(item, Mapping):
            raise InputError(f"a species of site {place} is not a JSON object")
        name = item.get("element", item.get("specie", item.get("symbol")))
        share = number(item.get("occu", 1.0), f"an occupancy of site {place}")
        if share is None:  # NaN too, which readers of JSON pass on as null
            raise InputError(f"an occupancy of site {place} is null or NaN, not a number")
        state = number(item.get("oxidation_state"), f"an oxidation state of site {place}")
        occupant = _named(name, share, state, place)
        occupants.append(occupant)
        total += (occupant.oxidation_state or 0.0) * occupant.occupancy
        more = item.get("properties")
        spin = item.get("spin", more.get("spin") if isinstance(more, Mapping) else None)
        value = number(spin, f"a spin of site {place}")
        if value is not None:
            spins[str(occupant)] = value
    if not spins:
        return tuple(occupants), total, None
    return tuple(occupants), total, spins if len(occupants) > 1 else next(iter(spins.values()))


def _named(name: Any, share: float, state: float | None, place: int) -> Occupant:
    """Build an occupant of a name such as ``Fe`` or ``Fe3+``; a state that is given wins."""
    if not isinstance(name, str):
        raise InputError(f"a species of site {place} has no element")
    if name in ATOMIC_NUMBERS or name in ISOTOPES:
        return Occupant(name, share, state)
    try:
        parsed = parse_species(name.strip())
    except SpeciesError as error:
        raise InputError(f"site {place}: {error}") from None
    if len(parsed) != 1 or ":" in name:
        raise InputError(f"site {place}: {name!r} is more than one species")
    return Occupant(parsed[0].symbol, share, parsed[0].oxidation_state if state is None else state)


def _array(value: Any) -> Any:
    """Return what monty writes for a NumPy array as a list; anything else as it is."""
    if isinstance(value, Mapping) and value.get("@class") == "array" and "data" in value:
        return value["data"]
    return value


# --- JARVIS ------------------------------------------------------------------------------


def is_atoms(data: Any) -> bool:
    """Whether a document looks like JARVIS's ``Atoms.to_dict``."""
    return isinstance(data, Mapping) and "lattice_mat" in data and "elements" in data


def sites_of_atoms(data: Mapping[str, Any]) -> Sites:
    """Read JARVIS's ``Atoms.to_dict``; ``props``, where they say something, are a site property.

    Raises:
        InputError: it is no such document; says what is wrong with it.
    """
    if not isinstance(data, Mapping):
        raise InputError("is no JARVIS structure: it is not a JSON object")
    for key in ("lattice_mat", "coords", "elements"):
        if data.get(key) is None:
            raise InputError(f"is no JARVIS structure: it has no {key}")
    elements = _listed(data["elements"], "elements")
    coords = _listed(data["coords"], "coords")
    _alike(len(coords), "coords", len(elements))
    species = [_text(name, place) for place, name in enumerate(elements, 1)]
    cartesian = data.get("cartesian", False)
    if isinstance(cartesian, str):  # written so by some exports
        cartesian = cartesian.strip().lower() == "true"
    if not isinstance(cartesian, bool):
        raise InputError(f"cartesian is {cartesian!r}, neither true nor false")
    properties: dict[str, list[Any]] = {}
    props = data.get("props")
    if isinstance(props, list) and any(value not in ("", None) for value in props):
        _alike(len(props), "props", len(elements))
        properties["props"] = [None if value == "" else value for value in props]
    return Sites(
        species=species,
        coords=coords,
        lattice=data["lattice_mat"],
        cartesian=cartesian,
        properties=properties,
    )


# --- OPTIMADE ----------------------------------------------------------------------------


def is_optimade(data: Any) -> bool:
    """Whether attributes hold an OPTIMADE structure."""
    return (
        isinstance(data, Mapping)
        and data.get("lattice_vectors") is not None
        and data.get("species_at_sites") is not None
    )


def sites_of_optimade(
    attributes: Mapping[str, Any], properties: Mapping[str, Sequence[Any]] | None = None
) -> Sites:
    """Read the attributes of an OPTIMADE structure.

    Vacancies are left out, and so are sites with nothing else. Hydrogen with the mass of an isotope
    is that isotope. What gandb's own server adds (oxidation states, charge, site properties) makes
    the very record again that it serves. Members of an assembly are there with the probability of
    their group. Where no ``species`` are given, ``species_at_sites`` must be elements.

    Args:
        attributes: of the resource.
        properties: name to one value per site; provider's fields that the caller knows.

    Raises:
        InputError: a field is missing or wrong, it is not periodic in three directions, or it has
            unknown atoms (``X``) or attached ones, whose places are not known.
    """
    if not isinstance(attributes, Mapping):
        raise InputError("its attributes are not a JSON object")
    _periodic(attributes)
    names = _listed(attributes.get("species_at_sites"), "species_at_sites")
    coords, cartesian = attributes.get("cartesian_site_positions"), True
    if coords is None:
        coords, cartesian = attributes.get("fractional_site_positions"), False
    coords = _listed(coords, "cartesian_site_positions")
    _alike(len(coords), "cartesian_site_positions", len(names))
    known = _optimade_species(attributes.get("species"))
    species: list[str | Sequence[Occupant]] = []
    for place, name in enumerate(names, 1):
        if not isinstance(name, str):
            raise InputError(f"species_at_sites: the name at {place} is not a string")
        if known is None:
            species.append(_text(name, place))
        elif name in known:
            species.append(known[name])
        else:
            raise InputError(f"site {place} names {name!r}, which is not among its species")
    own = attributes.get("_gandb_site_properties")
    kept = {
        str(name): _listed(values, f"site property {name}")
        for name, values in (own.items() if isinstance(own, Mapping) else ())
    }
    kept |= {name: list(values) for name, values in (properties or {}).items()}
    for name, values in kept.items():
        _alike(len(values), name, len(names))
    shares = _assembly_shares(attributes.get("assemblies"), len(names))
    for place, share in shares.items():
        what = species[place]
        parts = parse_species(what) if isinstance(what, str) else what
        species[place] = [Occupant(o.symbol, o.occupancy * share, o.oxidation_state) for o in parts]
    if any(not what for what in species):
        places = [i for i, what in enumerate(species) if what]
        species = [species[i] for i in places]
        coords = [coords[i] for i in places]
        kept = {name: [values[i] for i in places] for name, values in kept.items()}
    return Sites(
        species=species,
        coords=coords,
        lattice=attributes["lattice_vectors"],
        cartesian=cartesian,
        properties=kept,
        charge=number(attributes.get("_gandb_charge"), "_gandb_charge"),
    )


def _periodic(attributes: Mapping[str, Any]) -> None:
    kinds = attributes.get("dimension_types")
    if kinds is not None and kinds != [1, 1, 1]:
        raise InputError(f"is not periodic in three directions: dimension_types is {kinds}")
    if attributes.get("nperiodic_dimensions", 3) not in (3, None):
        raise InputError(f"is periodic in {attributes['nperiodic_dimensions']} directions, not 3")
    if attributes.get("lattice_vectors") is None:
        raise InputError("has no lattice_vectors")


def _optimade_species(listed: Any) -> dict[str, str | tuple[Occupant, ...]] | None:
    """Return what each named species is; empty for a vacancy; None where none are given."""
    if not listed:
        return None
    known: dict[str, str | tuple[Occupant, ...]] = {}
    for item in _listed(listed, "species"):
        if not isinstance(item, Mapping) or not isinstance(name := item.get("name"), str):
            raise InputError("a species has no name")
        if name in known:
            raise InputError(f"species {name!r} is there twice")
        known[name] = _optimade_occupants(name, item)
    return known


def _optimade_occupants(name: str, item: Mapping[str, Any]) -> str | tuple[Occupant, ...]:
    symbols = _listed(item.get("chemical_symbols"), f"chemical_symbols of species {name!r}")
    states = _gandb_list(item, "oxidation_states", name, len(symbols)) or [None] * len(symbols)
    symbols = _gandb_list(item, "symbols", name, len(symbols)) or symbols
    shares = item.get("concentration")
    if shares is None and len(symbols) == 1:
        shares = [1.0]
    shares = _listed(shares, f"concentration of species {name!r}")
    _alike(len(shares), f"concentration of species {name!r}", len(symbols))
    masses = item.get("mass")
    if not isinstance(masses, list):
        masses = [masses] * len(symbols)
    _alike(len(masses), f"mass of species {name!r}", len(symbols))
    if any(item.get("attached") or ()) and any(item.get("nattached") or ()):
        raise InputError(f"species {name!r} has atoms attached, whose places are not known")
    found = []
    for symbol, share, mass, state in zip(symbols, shares, masses, states, strict=True):
        if symbol in _EMPTY:
            continue
        if not isinstance(symbol, str) or (symbol not in ATOMIC_NUMBERS and symbol not in ISOTOPES):
            what = "an unknown atom" if symbol == "X" else "no element"
            raise InputError(f"species {name!r}: {symbol!r} is {what}")
        u = number(mass, f"the mass of species {name!r}")
        if u is not None:
            symbol = isotopes([symbol], [u])[0]
        part = number(share, f"a concentration of species {name!r}")
        if part is None:
            raise InputError(f"species {name!r} has no concentration of {symbol}")
        charge = number(state, f"an oxidation state of species {name!r}")
        found.append(Occupant(symbol, part, charge))
    if len(found) == 1 and found[0].occupancy == 1.0:
        return str(found[0])
    return tuple(found)


def _gandb_list(item: Mapping[str, Any], field: str, name: str, n: int) -> list[Any] | None:
    """Return a list that gandb's own server adds to a species, one value per chemical symbol."""
    values = item.get(f"_gandb_{field}")
    if values is None:
        return None
    what = f"_gandb_{field} of species {name!r}"
    values = _listed(values, what)
    _alike(len(values), what, n, "chemical symbols")
    return values


def _assembly_shares(assemblies: Any, n: int) -> dict[int, float]:
    """Return the probability of each site that belongs to a group of an assembly."""
    shares: dict[int, float] = {}
    for assembly in _listed(assemblies, "assemblies") if assemblies else ():
        groups = assembly.get("sites_in_groups") if isinstance(assembly, Mapping) else None
        chances = assembly.get("group_probabilities") if isinstance(assembly, Mapping) else None
        groups = _listed(groups, "sites_in_groups")
        chances = _listed(chances, "group_probabilities")
        _alike(len(chances), "group_probabilities", len(groups), "groups")
        for group, chance in zip(groups, chances, strict=True):
            share = number(chance, "a group probability")
            for place in _listed(group, "sites_in_groups"):
                if not isinstance(place, int) or not 0 <= place < n or place in shares:
                    raise InputError(f"assemblies: site {place!r} is not there, or is there twice")
                shares[place] = 0.0 if share is None else share
    return shares


# --- shared ------------------------------------------------------------------------------


def number(value: Any, what: str) -> float | None:
    """Return a number, None for null.

    Raises:
        InputError: it is something else, or not finite; ``what`` is named.
    """
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InputError(f"{what} is {_shown(value)}, which is not a number")
    try:
        found = float(value)
    except OverflowError:
        found = math.inf
    if not math.isfinite(found):
        raise InputError(f"{what} is not finite")
    return found


def _shown(value: Any) -> str:
    text = repr(value) if isinstance(value, str | int | float) else f"a {type(value).__name__}"
    return text if len(text) <= 40 else text[:39] + "…"


def _text(name: Any, place: int) -> str:
    if isinstance(name, str) and (name in ATOMIC_NUMBERS or name in ISOTOPES):
        return name
    raise InputError(f"site {place}: {_shown(name)} is not an element")


def _listed(value: Any, what: str) -> list[Any]:
    """Return a list, which is not longer than a structure may be."""
    if value is None:
        raise InputError(f"has no {what}")
    if not isinstance(value, list | tuple):
        raise InputError(f"{what}: {_shown(value)} is not a list")
    if len(value) > MAX_SITES:
        raise InputError(f"{what}: {len(value):,} values; at most {MAX_SITES:,} are allowed")
    return list(value)


def _alike(found: int, what: str, wanted: int, things: str = "sites") -> None:
    if found != wanted:
        raise InputError(f"{found} values of {what} for {wanted} {things}")
