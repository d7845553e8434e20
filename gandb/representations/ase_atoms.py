"""Records to and from ASE's atoms (doi:10.1088/1361-648X/aa680e).

A record comes back from atoms with the same id; positions are Å, and the cell has the record's
orientation. What `ase.Atoms` has no place for is kept where ASE and pymatgen's adaptor keep it:

- disorder: ``info["occupancy"]``, ``{kind: {symbol: occupancy}}``, with the array
  ``spacegroup_kinds``; the atom itself is what there is most of;
- oxidation states: the array ``oxi_states``, NaN for none; where a shared site has any, the array
  ``site_species`` of texts such as ``Fe3+:0.5,Ni2+:0.25`` says all;
- deuterium and tritium: hydrogen of their mass;
- site properties ``magmom`` and ``charge``: initial magnetic moments and charges; ``forces``,
  ``final_magmom`` and ``final_charge``: results of a single-point calculator; others: arrays of
  their name, or lists in ``info["site_properties"]`` where no array holds them exactly;
- the charge of the cell: ``info["charge"]``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from gandb.core.crystals import Crystal, crystal_of_matrix
from gandb.core.errors import InputError, MissingExtraError
from gandb.core.species import Occupant, parse_species

if TYPE_CHECKING:
    from ase import Atoms

ISOTOPE_MASSES = {"D": 2.01410177812, "T": 3.0160492779}
"""u, AME2020, doi:10.1088/1674-1137/abddaf."""

_SAME_MASS = 1e-6
_KINDS = "spacegroup_kinds"
_STATES = "oxi_states"
_SPECIES = "site_species"
_REST = "site_properties"
_INITIAL = {"magmom": "initial_magmoms", "charge": "initial_charges"}
_RESULTS = {"forces": "forces", "final_magmom": "magmoms", "final_charge": "charges"}
_OWN = frozenset(
    {"numbers", "positions", "masses", "momenta", "species", *_INITIAL.values()}
    | {_KINDS, _STATES, _SPECIES, "magmoms", "charges", "pos", "occupancy", "spacegroup"}
)
"""Names of arrays that mean something else to ASE or to its files."""
_NO_ARRAY = _OWN | _INITIAL.keys() | _RESULTS.keys()


def isotopes(symbols: Sequence[str], masses: Sequence[float]) -> list[str]:
    """Return symbols with D and T for hydrogen of about their masses (u)."""
    return [
        {2: "D", 3: "T"}.get(int(mass), symbol) if symbol == "H" and 2 <= mass < 3.1 else symbol
        for symbol, mass in zip(symbols, masses, strict=True)
    ]


# --- to ASE ------------------------------------------------------------------------------


def to_atoms(crystal: Crystal) -> Atoms:
    """Return the record as ASE's atoms, periodic in three directions.

    Raises:
        MissingExtraError: ASE is not installed.
    """
    try:
        from ase import Atoms
        from ase.calculators.singlepoint import SinglePointCalculator as Results
    except ImportError:
        raise MissingExtraError.for_package("ase", "ase") from None

    main = [max(site, key=lambda o: o.occupancy) for site in crystal.occupants]
    atoms: Any = Atoms(
        [occupant.element for occupant in main],
        cell=crystal.lattice,
        scaled_positions=crystal.frac_coords,
        pbc=True,
    )
    _set_species(atoms, crystal, main)
    results: dict[str, Any] = {}
    rest: dict[str, list[Any]] = {}
    left = dict(crystal.properties)
    if _set_masses(atoms, main, left.get("masses", ())):
        left.pop("masses")
    for name, values in left.items():
        array = _array(values)
        numbers = array is not None and array.dtype.kind == "f" and not np.isnan(array).any()
        if array is not None and name in _INITIAL and numbers:
            atoms.set_array(_INITIAL[name], array)
        elif array is not None and name in _RESULTS and numbers:
            results[_RESULTS[name]] = array
        elif array is None or name in _NO_ARRAY or (name == "tags" and array.dtype.kind != "i"):
            rest[name] = list(values)
        else:
            atoms.set_array(name, array)
    if results:
        calculator: Any = Results
        atoms.calc = calculator(atoms, **results)
    if rest:
        atoms.info[_REST] = rest
    if crystal.charge is not None:
        atoms.info["charge"] = crystal.charge
    made: Atoms = atoms
    return made


def _set_masses(atoms: Any, main: Sequence[Occupant], given: Sequence[Any]) -> bool:
    """Set masses (u) of isotopes, and those that are given if they can be read back."""
    usual = [ISOTOPE_MASSES.get(o.symbol, m) for o, m in zip(main, atoms.get_masses(), strict=True)]
    masses = usual
    fit = bool(given) and all(
        m is None or (type(m) is float and m > 0 and abs(m - own) >= _SAME_MASS)
        for m, own in zip(given, usual, strict=True)
    )
    if fit:
        masses = [own if m is None else m for own, m in zip(usual, given, strict=True)]
        fit = isotopes([o.element for o in main], masses) == [o.symbol for o in main]
    if fit or any(o.symbol in ISOTOPE_MASSES for o in main):
        atoms.set_masses(masses if fit else usual)
    return fit


def _set_species(atoms: Any, crystal: Crystal, main: Sequence[Occupant]) -> None:
    """Say what sits on the sites beside the symbols."""
    states = [site[0].oxidation_state for site in crystal.occupants]
    if not crystal.ordered:
        kinds = {text: kind for kind, text in enumerate(dict.fromkeys(crystal.species))}
        shares: dict[str, dict[str, float]] = {}
        for text, kind in kinds.items():
            share: dict[str, float] = {}
            for o in parse_species(text):
                share[o.element] = round(share.get(o.element, 0.0) + o.occupancy, 8)
            shares[str(kind)] = share
        atoms.info["occupancy"] = shares
        atoms.set_array(_KINDS, np.array([kinds[text] for text in crystal.species]))
        if any(_says_more(site) for site in crystal.occupants):
            atoms.set_array(_SPECIES, np.array([t.replace(" ", ",") for t in crystal.species]))
            states = [o.oxidation_state for o in main]
    if any(state is not None for state in states):
        atoms.set_array(_STATES, np.array([np.nan if s is None else s for s in states]))


def _says_more(site: Sequence[Occupant]) -> bool:
    """Whether elements and their occupancies do not say what shares a site."""
    if len(site) == 1 and site[0].occupancy == 1.0:
        return False
    return any(o.oxidation_state is not None or o.symbol != o.element for o in site)


def _array(values: Sequence[Any]) -> np.ndarray | None:
    """Return an array that gives the same values back, None if there is none."""
    kinds = {type(value) for value in values}
    if kinds in ({float}, {float, type(None)}):
        return np.array([np.nan if value is None else value for value in values])
    if kinds == {int}:
        large = max(abs(value) for value in values) >= 2**31
        return None if large else np.array(values)
    if kinds == {bool}:
        return np.array(values)
    if kinds == {str} and all(v.isascii() and v.isprintable() and v for v in values):
        return None if any(set(' "=\\,{}[]') & set(v) for v in values) else np.array(values)
    vectors = kinds == {list} and len({len(value) for value in values}) == 1 and len(values[0]) > 1
    if vectors and {type(x) for value in values for x in value} == {float}:
        return np.array(values)
    return None


# --- from ASE ----------------------------------------------------------------------------


def from_atoms(atoms: Atoms) -> Crystal:
    """Return ASE's atoms as a record; constraints, momenta and other ``info`` are left out.

    Raises:
        CrystalError: it is no crystal structure that a record can hold; says why.
        InputError: it is not periodic in three directions, or what it says about occupancies does
            not fit its atoms.
    """
    return _read(atoms)


def _read(atoms: Any) -> Crystal:
    if not atoms.pbc.all():
        raise InputError(
            f"the atoms are not periodic in three directions: pbc is {atoms.pbc.tolist()}"
        )
    properties: dict[str, Sequence[Any]] = {}
    for name, values in atoms.arrays.items():
        if name not in _OWN:
            properties[name] = values.tolist()
    for name, array in _INITIAL.items():
        if atoms.has(array):
            properties[name] = atoms.arrays[array].tolist()
    results = getattr(atoms.calc, "results", None) or {}
    for name, result in _RESULTS.items():
        found = results.get(result)
        if found is not None and np.shape(found)[:1] == (len(atoms),):
            properties[name] = np.asarray(found).tolist()
    rest = atoms.info.get(_REST)
    if isinstance(rest, Mapping):
        properties |= {str(name): values for name, values in rest.items()}
    species, masses = _species(atoms)
    if masses is not None:
        properties["masses"] = masses
    charge = atoms.info.get("charge")
    known = isinstance(charge, int | float | np.number) and not isinstance(charge, bool)
    return crystal_of_matrix(
        np.array(atoms.cell),
        species,
        atoms.positions,
        cartesian=True,
        properties=properties,
        charge=float(charge) if known else None,
    )


def _species(atoms: Any) -> tuple[list[Sequence[Occupant]], list[float | None] | None]:
    """Return what sits on the sites, and masses (u) that are not an element's or isotope's own."""
    symbols = list(atoms.symbols)
    own = None
    if atoms.has("masses"):
        masses = atoms.arrays["masses"].tolist()
        plain = atoms.copy()
        plain.set_masses("defaults")
        usual = plain.get_masses().tolist()
        named = isotopes(symbols, masses)
        usual = [ISOTOPE_MASSES.get(name, mass) for name, mass in zip(named, usual, strict=True)]
        unusual = [
            None if abs(mass - other) < _SAME_MASS else mass
            for mass, other in zip(masses, usual, strict=True)
        ]
        own = unusual if any(mass is not None for mass in unusual) else None
    else:
        named = symbols
    if _SPECIES in atoms.arrays:
        sites: list[Sequence[Occupant]] = []
        for place, text in enumerate(atoms.arrays[_SPECIES].tolist()):
            site = parse_species(text)
            if symbols[place] not in {o.element for o in site}:
                raise InputError(f"atom {place + 1} is {symbols[place]}, and {_SPECIES} {text!r}")
            sites.append(site)
        return sites, own
    states = _states(atoms)
    shares = _shares(atoms, symbols)
    found: list[Sequence[Occupant]] = []
    for name, state, share in zip(named, states, shares, strict=True):
        if share is None:
            found.append((Occupant(name, 1.0, state),))
        elif len(share) == 1:
            found.append((Occupant(name, next(iter(share.values())), state),))
        else:
            found.append(tuple(Occupant(symbol, part) for symbol, part in share.items()))
    return found, own


def _states(atoms: Any) -> list[float | None]:
    if _STATES not in atoms.arrays:
        return [None] * len(atoms)
    values = atoms.arrays[_STATES].tolist()
    return [None if v is None or v != v else float(v) for v in values]


def _shares(atoms: Any, symbols: Sequence[str]) -> list[dict[str, float] | None]:
    """Return the occupancies of every site, None where there are none."""
    occupancy = atoms.info.get("occupancy")
    if occupancy is None:
        return [None] * len(atoms)
    if not isinstance(occupancy, Mapping) or _KINDS not in atoms.arrays:
        raise InputError(f"info['occupancy'] is no mapping, or the array {_KINDS!r} is missing")
    found: list[dict[str, float] | None] = []
    for place, kind in enumerate(atoms.arrays[_KINDS].tolist()):
        share = occupancy.get(str(kind), occupancy.get(kind))
        if not isinstance(share, Mapping) or symbols[place] not in share:
            raise InputError(
                f"atom {place + 1} is {symbols[place]}, and its kind {kind} in info['occupancy'] "
                f"has {share!r}"
            )
        found.append({str(symbol): float(part) for symbol, part in share.items()})
    return found
