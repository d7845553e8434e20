"""Atoms that a CIF lists: species, occupancies, coordinates; and the formula that it states."""

from __future__ import annotations

import contextlib
import math
import re
from collections import Counter
from functools import lru_cache

import numpy as np

from gandb.core.crystals import MAX_SITES, CrystalError
from gandb.core.elements import ATOMIC_NUMBERS
from gandb.core.errors import InputError
from gandb.core.species import ISOTOPES, Occupant, parse_species, species_text
from gandb.sources.cif_blocks import Block

_SYMBOL = re.compile(r"([A-Za-z]{1,2})(?:(\d+(?:\.\d+)?)?([+-])|([+-])(\d+(?:\.\d+)?)|\d*)\Z")
_NUMBER = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,3})?)(?:\(\d*\))?", re.ASCII)
_PLAIN = re.compile(r"[-+0-9. ]+", re.ASCII)
_LAST_OF_LABELS = 103
_FORMULA_PART = re.compile(r"([A-Z][a-z]?)(\d+(?:\.\d+)?)?\Z")


def read_atoms(
    block: Block, matrix: np.ndarray, formula: dict[str, float] | None
) -> tuple[list[str], list[str], np.ndarray]:
    """Return species, labels and fractional coordinates of the atoms that are listed."""
    labels = block.column("_atom_site_label", "_atom_site_id") or []
    types = block.column("_atom_site_type_symbol") or labels
    columns = [block.column(f"_atom_site_fract_{x}") for x in "xyz"]
    cartesian = any(column is None for column in columns)
    if cartesian:
        columns = [block.column(f"_atom_site_cartn_{x}") for x in "xyz"]
    if not types or any(column is None for column in columns):
        raise CrystalError("its atom sites have no coordinates, or neither symbols nor labels")
    n = len(types)
    labels = labels or types
    shares = block.column("_atom_site_occupancy") or ["1"] * n
    flags = block.column("_atom_site_calc_flag") or types
    xyz = [column for column in columns if column is not None]
    if any(len(column) != n for column in (labels, shares, flags, *xyz)):
        raise CrystalError("columns of its atom sites stand in different loops or differ in length")
    if n > MAX_SITES:
        raise CrystalError(f"{n:,} atom sites; at most {MAX_SITES:,} are allowed")
    kept = [
        at
        for at, (kind, label, flag) in enumerate(zip(types, labels, flags, strict=True))
        if not (flag == "dum" or (kind == "." and label in ".?"))
    ]
    states = _oxidation_states(block)
    known = frozenset(formula or ())
    seen: dict[tuple[str, str], str | None] = {}
    species, places = [], []
    for at in kept:
        by_type = types is not labels and types[at] not in ("?", ".")
        key = (types[at] if by_type else labels[at], shares[at])
        if key not in seen:
            try:
                seen[key] = _species(key[0], by_type, shares[at], states, known)
            except InputError as error:
                raise CrystalError(f"atom {at + 1} ({labels[at][:40]}): {error}") from None
        if (what := seen[key]) is not None:
            species.append(what)
            places.append(at)
    if not species:
        raise CrystalError("its atom sites are empty")
    found = np.array([_coordinates(column, places, labels) for column in xyz]).T
    names = [labels[at] for at in places]
    return species, names, found @ _to_fractional(block, matrix) if cartesian else found


def _species(
    what: str, by_type: bool, share: str, states: dict[str, float | None], known: frozenset[str]
) -> str | None:
    """Return what sits on a site; None if its occupancy is 0.

    Raises:
        InputError: it is no element, or the occupancy is none.
    """
    occupancy = 1.0 if share == "." else number_of(share)
    if not 0 <= occupancy <= 1e3:
        raise InputError(f"its occupancy is {share[:40]!r}")
    if occupancy == 0:
        return None
    who = _occupant(what, by_type, known)
    return species_text([Occupant(who.symbol, occupancy, _state(who, what, states))])


def _coordinates(column: list[str], places: list[int], labels: list[str]) -> list[float]:
    """Return one coordinate of every atom.

    Raises:
        CrystalError: one is no number, naming it.
    """
    values = column if len(places) == len(column) else [column[at] for at in places]
    if _PLAIN.fullmatch(" ".join(values)):
        with contextlib.suppress(ValueError):
            return list(map(float, values))
    found = [number_of(value) for value in values]
    for at, number in zip(places, found, strict=True):
        if math.isnan(number):
            value = column[at]
            what = "unknown" if value in ("?", ".") else f"{value[:40]!r}, no number"
            raise CrystalError(f"atom {at + 1} ({labels[at][:40]}): a coordinate is {what}")
    return found


def _to_fractional(block: Block, matrix: np.ndarray) -> np.ndarray:
    """Return what turns Cartesian rows into fractional ones.

    Raises:
        CrystalError: the file does not say how its axes lie.
    """
    rows = [
        [number_of(block.text(f"_atom_sites_fract_tran_matrix_{i}{j}") or "?") for j in "123"]
        for i in "123"
    ]
    found = np.array(rows)
    if not np.isnan(found).any():
        shift = [number_of(block.text(f"_atom_sites_fract_tran_vector_{i}") or "0") for i in "123"]
        if any(shift):
            raise CrystalError("its Cartesian axes have another origin than its cell")
        return found.T
    if (np.abs(matrix - np.diag(np.diag(matrix))) < 1e-9).all():
        return np.diag(1 / np.diag(matrix))
    raise CrystalError(
        "Cartesian coordinates whose axes are not stated (_atom_sites_fract_tran_matrix_): give "
        "fractional ones"
    )


@lru_cache(maxsize=20_000)
def _occupant(text: str, by_type: bool, known: frozenset[str]) -> Occupant:
    """Read a type symbol such as ``Fe3+``, or a label such as ``Fe1A``.

    Raises:
        InputError: it names no element, or may be two.
    """
    text = text.strip("'\" ")
    match = _SYMBOL.match(text) if by_type else re.match(r"([A-Za-z]{1,2})", text)
    if match is None:
        raise InputError(f"{text[:40]!r} is no element")
    letters = match[1]
    pair, single = letters.capitalize(), letters[0].upper()
    options = [s for s in dict.fromkeys((pair, single)) if s in ATOMIC_NUMBERS or s in ISOTOPES]
    if letters.isupper() and ATOMIC_NUMBERS.get(pair, 0) > _LAST_OF_LABELS:
        options.remove(pair)  # NH is no nihonium
    if by_type or (len(letters) == 2 and letters[1].islower()):
        options = [s for s in options if s == pair] or ([] if by_type else options)
        if not by_type and letters[1].islower() and pair not in options:
            options = []  # such as Wat1
    if len(options) > 1 and known:
        options = [s for s in options if ISOTOPES.get(s, s) in known] or options
    if len(options) != 1:
        raise InputError(
            f"{text[:40]!r} is no element"
            if not options
            else f"label {text[:40]!r} may be {options[0]} or {options[1]}: "
            "give _atom_site_type_symbol"
        )
    state = None
    if by_type and (match[3] or match[4]):
        state = float(f"{match[3] or match[4]}{match[2] or match[5] or 1}")
    return Occupant(options[0], 1.0, state)


def _oxidation_states(block: Block) -> dict[str, float | None]:
    """Return the list of types with its numbers, None where it has a type without one."""
    symbols = block.column("_atom_type_symbol") or []
    numbers = block.column("_atom_type_oxidation_number") or []
    if len(symbols) != len(numbers):
        return {}
    found = {symbol: number_of(number) for symbol, number in zip(symbols, numbers, strict=True)}
    return {symbol: None if math.isnan(n) else n for symbol, n in found.items()}


def _state(who: Occupant, kind: str, states: dict[str, float | None]) -> float | None:
    """Return an oxidation state: of the symbol in the list of types, else of the symbol itself."""
    listed = states.get(kind)
    if listed is not None:
        return listed
    if who.oxidation_state is not None or kind in states or not states:
        return who.oxidation_state
    of_element = {
        state
        for symbol, state in states.items()
        if (match := re.match(r"[A-Za-z]+", symbol)) and match[0].capitalize() == who.symbol
    }
    return of_element.pop() if len(of_element) == 1 else None


def number_of(value: str) -> float:
    """Return a number without its uncertainty, such as 0.123(4); NaN if it is none."""
    match = _NUMBER.fullmatch(value.strip("'\""))
    number = float(match[1]) if match else math.nan
    return number if math.isfinite(number) else math.nan


# --- formula -----------------------------------------------------------------------------


def stated_formula(block: Block) -> dict[str, float] | None:
    """Return the amounts in ``_chemical_formula_sum``; None if it is not there or unreadable."""
    text = block.text("_chemical_formula_sum")
    amounts: dict[str, float] = {}
    for part in (text or "").replace(",", " ").split():
        match = _FORMULA_PART.match(part)
        element = ISOTOPES.get(match[1], match[1]) if match else ""
        if match is None or element not in ATOMIC_NUMBERS or float(match[2] or 1) == 0:
            return None
        amounts[element] = amounts.get(element, 0.0) + float(match[2] or 1)
    return amounts or None


def amounts_of(species: list[str]) -> dict[str, float]:
    """Return how many atoms of each element sites hold."""
    found: dict[str, float] = {}
    for text, n in Counter(species).items():
        for occupant in parse_species(text):
            found[occupant.element] = found.get(occupant.element, 0.0) + n * occupant.occupancy
    return found


def has_formula(block: Block, species: list[str], formula: dict[str, float]) -> bool:
    """Whether the sites of the cell have the stated formula, as often as is stated."""
    amounts = amounts_of(species)
    if not set(amounts) <= set(formula):
        return False
    shares = [amounts[element] / formula[element] for element in amounts]
    expected = formula_units(block, formula)
    return max(shares) < 1.02 * min(shares) and (
        not expected or any(abs(shares[0] / units - 1) < 0.02 for units in expected)
    )


def formula_units(block: Block, formula: dict[str, float]) -> tuple[float, ...]:
    """Return how many times a cell may hold the stated formula; none if that is not stated.

    It is Z, but pymatgen writes the sum of the whole cell beside it.
    """
    units = number_of(block.text("_cell_formula_units_z") or "?")
    if not units >= 1:
        return ()
    whole = all(amount % units == 0 for amount in formula.values())
    return (units, 1.0) if whole else (units,)
