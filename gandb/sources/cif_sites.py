"""The structure in a CIF: cell, symmetry and the atoms of the whole cell.

Operations are taken from the file's own list, else from its Hall symbol, its Hermann-Mauguin symbol
or its number; a file that says nothing of symmetry lists all atoms. Where a symbol has two origins,
or the list has the identity alone and the symbol says otherwise, the stated formula decides. If it
cannot, the file is refused.
"""

from __future__ import annotations

import math
import re
from functools import lru_cache
from typing import Any

import numpy as np

from gandb.core.crystals import MAX_SITES, CrystalError, lattice_matrix
from gandb.core.elements import ATOMIC_NUMBERS
from gandb.core.errors import InputError
from gandb.core.species import ISOTOPES, Occupant, parse_species, species_text
from gandb.sources.cif_blocks import Block, parse_blocks
from gandb.sources.orbits import Operations, expand, read_operations
from gandb.sources.records import Sites

_CELL = tuple(f"_cell_{t}" for t in ("length_a", "length_b", "length_c")) + tuple(
    f"_cell_angle_{t}" for t in ("alpha", "beta", "gamma")
)
_OPERATION_TAGS = ("_space_group_symop_operation_xyz", "_symmetry_equiv_pos_as_xyz")
_MAGNETIC_TAGS = ("_space_group_symop_magn_operation_xyz",)
_CENTERING_TAGS = ("_space_group_symop_magn_centering_xyz",)
_HALL_TAGS = ("_space_group_name_hall", "_symmetry_space_group_name_hall")
NAME_TAGS = (
    "_space_group_name_h-m_alt",
    "_symmetry_space_group_name_h-m",
    "_space_group_name_h-m",
    "_space_group_name_h-m_full",
    "_space_group_name_h-m_ref",
)
NUMBER_TAGS = ("_space_group_it_number", "_symmetry_int_tables_number")
_MODULATED = (
    "_cell_modulation_dimension",
    "_cell_wave_vector_x",
    "_cell_wave_vector_seq_id",
    "_space_group_ssg_name",
    "_space_group_symop_ssg_operation_algebraic",
    "_space_group_symop_magn_ssg_operation_algebraic",
    "_atom_site_fourier_wave_vector_seq_id",
    "_cell_subsystems_number",
)
_SETTING = re.compile(r"\s*(?::\s*|\s)(1|2|S|Z|H|R|HR|RS|O1|O2)$", re.IGNORECASE)
_SETTINGS = {"S": "1", "O1": "1", "Z": "2", "O2": "2", "HR": "H", "RS": "R"}
_SYMBOL = re.compile(r"([A-Za-z]{1,2})(?:(\d+(?:\.\d+)?)?([+-])|([+-])(\d+(?:\.\d+)?)|\d*)\Z")
_FORMULA_PART = re.compile(r"([A-Z][a-z]?)(\d+(?:\.\d+)?)?\Z")


def decode_cif(text: str) -> Sites:
    """Read the one structure of a CIF.

    Args:
        text: of one or more blocks, of which one has atoms.

    Returns:
        All sites of the cell, with cell parameters and fractional coordinates; moments as the
        site property ``magmom``, Cartesian vectors in μB.

    Raises:
        InputError: it is no CIF, or has no structure or several.
        CrystalError: its structure is refused; says why.
        MissingExtraError: gemmi is not installed.
    """
    found = [block for block in parse_blocks(text) if has_atoms(block)]
    if len(found) != 1:
        raise InputError(
            "it holds no atom sites"
            if not found
            else f"it holds {len(found)} structures where one is expected"
        )
    return sites_of(found[0], text)


def has_atoms(block: Block) -> bool:
    """Whether a block lists atom sites."""
    return any(
        tag in block.values
        for tag in ("_atom_site_fract_x", "_atom_site_cartn_x", "_atom_site_label")
    )


def sites_of(block: Block, text: str = "") -> Sites:
    """Return the structure of a block; see `decode_cif`."""
    for tag in _MODULATED:
        if block.text(tag) not in (None, "0"):
            raise CrystalError(
                f"a modulated structure ({tag}): only its average or a commensurate supercell fits "
                "a periodic cell"
            )
    cell = _cell(block)
    matrix = lattice_matrix(np.array(cell[:3]), np.array(cell[3:]))
    formula = stated_formula(block)
    species, labels, coords = _atoms(block, matrix, formula)
    moments = _moments(block, labels)
    choices = _choices(block, cell, magnetic=moments is not None)
    source, places, by, operations = _chosen(block, choices, matrix, coords, species, formula)
    listed = source.tolist()
    if len(operations) > 1:
        _check_multiplicities(block, source, species, labels, formula)
    _check_whole(block, text, [species[i] for i in listed], formula)
    properties = {}
    if moments is not None:
        properties["magmom"] = _turned_moments(moments, listed, by, operations, cell, matrix)
    return Sites([species[i] for i in listed], places, parameters=cell, properties=properties)


# --- cell and symmetry -------------------------------------------------------------------


def _cell(block: Block) -> tuple[float, ...]:
    cell = []
    for tag in _CELL:
        [value] = (block.column(tag) or ["?"])[:1]
        number = _number(value)
        if math.isnan(number):
            raise CrystalError(f"{tag} is {'not given' if value in '?.' else f'{value!r}'}")
        if not 0 < number < (180 if "angle" in tag else 1e6):
            raise CrystalError(f"{tag} is {value}")
        cell.append(number)
    x, y, z = (math.cos(math.radians(angle)) for angle in cell[3:])
    if 1 - x * x - y * y - z * z + 2 * x * y * z <= 0:
        raise CrystalError(f"cell angles {cell[3]:g}, {cell[4]:g}, {cell[5]:g} span no volume")
    return tuple(cell)


def _choices(
    block: Block, cell: tuple[float, ...], *, magnetic: bool
) -> list[tuple[str, Operations]]:
    """Return what the file may mean by its symmetry: one group, or several to decide between."""
    if block.column(*_MAGNETIC_TAGS):
        texts = _operation_texts(block, _MAGNETIC_TAGS)
        return [
            ("its operations", read_operations(texts, _operation_texts(block, _CENTERING_TAGS)))
        ]
    texts = _operation_texts(block, _OPERATION_TAGS)
    given = [("its operations", read_operations(texts))] if texts else []
    if given and len(given[0][1]) > 1:
        if magnetic:
            raise CrystalError("magnetic moments without the operations of a magnetic group")
        return given
    named = _named(block, cell)
    if named and all(len(operations) == 1 for _, operations in named):
        return named
    if given and named:
        given = [("the identity, its only operation", given[0][1])]
    found = given + named or [("no symmetry", read_operations(()))]
    if magnetic and any(len(operations) > 1 for _, operations in found):
        raise CrystalError("magnetic moments without the operations of a magnetic group")
    return found


def _operation_texts(block: Block, tags: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(text for text in block.texts(*tags) if text)


def _named(block: Block, cell: tuple[float, ...]) -> list[tuple[str, Operations]]:
    """Return the groups that the file's symbols may mean."""
    hall, name, number = block.text(*_HALL_TAGS), block.text(*NAME_TAGS), block.text(*NUMBER_TAGS)
    if hall:
        operations = _of_hall(hall)
        if operations is not None:
            return [(f"{hall} (Hall)", operations)]
    if name:
        names = _of_name(name, cell[3], cell[5])
        if not names:
            raise CrystalError(
                f"space group {name!r} is not known, and the file has no operations of its own"
            )
    elif number:
        names = _of_number(number)
        if not names:
            raise CrystalError(f"space group number {number!r} is not one of 1 to 230")
    else:
        return []
    return [(symbol, read_operations(texts)) for symbol, texts in names]


@lru_cache(maxsize=1_000)
def _of_hall(symbol: str) -> Operations | None:
    import gemmi

    try:
        group = gemmi.symops_from_hall(symbol)
    except (RuntimeError, ValueError):
        return None
    return read_operations(tuple(operation.triplet() for operation in group))


@lru_cache(maxsize=1_000)
def _of_name(name: str, alpha: float, gamma: float) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Return symbol and operations of every setting that a Hermann-Mauguin symbol may mean."""
    import gemmi

    find: Any = gemmi.find_spacegroup_by_name  # None if there is none
    plain = re.sub(r"\(\d{2,3}\)$", "", name.strip()).replace("_", "")
    plain = re.sub(r"\((\d)\)", r"\1", plain).strip()
    setting = ""
    if match := _SETTING.search(plain):
        given = match[1].upper()
        if find(plain, 0.0, 0.0) is None or ":" in plain:
            plain = plain[: match.start()]
            setting = _SETTINGS.get(given, given)
    found = find(plain, alpha, gamma)
    if found is None and " " not in plain:
        found = find(plain.capitalize(), alpha, gamma)
    if found is None:
        return ()
    settings = [g for g in gemmi.spacegroup_table() if g.hm == found.hm]
    exact = [g for g in settings if g.ext == setting] if setting else []
    if exact:
        settings = exact[:1]
    elif found.ext in ("H", "R") or found.ext == "":
        settings = [found]
    return tuple((g.xhm(), _triplets(g)) for g in settings)


@lru_cache(maxsize=1_000)
def _of_number(number: str) -> tuple[tuple[str, tuple[str, ...]], ...]:
    import gemmi

    find: Any = gemmi.find_spacegroup_by_number  # None if there is none
    try:
        first = find(int(number))
    except ValueError:
        return ()
    if first is None:
        return ()
    settings = [g for g in gemmi.spacegroup_table() if g.hm == first.hm] if first.ext else [first]
    return tuple((g.xhm(), _triplets(g)) for g in settings)


def _triplets(group: object) -> tuple[str, ...]:
    return tuple(operation.triplet() for operation in group.operations())  # type: ignore[attr-defined]


def _chosen(
    block: Block,
    choices: list[tuple[str, Operations]],
    matrix: np.ndarray,
    coords: np.ndarray,
    species: list[str],
    formula: dict[str, float] | None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, Operations]:
    """Expand by the group that is meant.

    Raises:
        CrystalError: several may be, and the formula and multiplicities do not tell which.
    """
    if len(choices) == 1:
        return (*expand(matrix, coords, choices[0][1]), choices[0][1])
    fitting = []
    for name, operations in choices:
        try:
            made = (*expand(matrix, coords, operations), operations)
        except CrystalError:
            continue
        if _agrees(block, made[0], species, formula):
            fitting.append((name, made))
    if len(fitting) == 1:
        return fitting[0][1]
    names = " or ".join(name for name, _ in choices)
    raise CrystalError(
        f"its symmetry may be {names}, and the stated formula and multiplicities fit "
        f"{'none' if not fitting else 'more than one'}: give the operations"
    )


def _agrees(
    block: Block, source: np.ndarray, species: list[str], formula: dict[str, float] | None
) -> bool:
    """Whether the atoms of the cell are those that formula and multiplicities state."""
    stated = _multiplicities(block, len(species))
    if stated and np.bincount(source, minlength=len(species)).tolist() != stated:
        return False
    return formula is None or _has_formula(block, [species[i] for i in source.tolist()], formula)


def _multiplicities(block: Block, n: int) -> list[int] | None:
    tags = ("_atom_site_symmetry_multiplicity", "_atom_site_site_symmetry_multiplicity")
    stated = [text for text in block.texts(*tags) if text and text.isdecimal()]
    return [int(text[:9]) for text in stated] if len(stated) == n else None


def _check_multiplicities(
    block: Block,
    source: np.ndarray,
    species: list[str],
    labels: list[str],
    formula: dict[str, float] | None,
) -> None:
    """Refuse atoms whose numbers agree neither with the stated multiplicities nor the formula.

    Raises:
        CrystalError: so it is; names the first.
    """
    stated = _multiplicities(block, len(species))
    if formula is None or stated is None:
        return
    found = np.bincount(source, minlength=len(species)).tolist()
    everything = [species[i] for i in source.tolist()]
    if found != stated and not _has_formula(block, everything, formula):
        at = next(i for i, (a, b) in enumerate(zip(found, stated, strict=True)) if a != b)
        raise CrystalError(
            f"atom {at + 1} ({labels[at]}): its operations make {found[at]} of it where "
            f"{stated[at]} are stated, and together they do not have the stated formula"
        )


def _has_formula(block: Block, species: list[str], formula: dict[str, float]) -> bool:
    amounts = _amounts(species)
    if not set(amounts) <= set(formula):
        return False
    shares = [amounts[element] / formula[element] for element in amounts]
    expected = _formula_units(block, formula)
    return max(shares) < 1.02 * min(shares) and (
        not expected or any(abs(shares[0] / units - 1) < 0.02 for units in expected)
    )


def _formula_units(block: Block, formula: dict[str, float]) -> tuple[float, ...]:
    """Return how many times a cell may hold the stated formula; none if that is not stated.

    It is Z, but pymatgen writes the sum of the whole cell beside it.
    """
    units = _number(block.text("_cell_formula_units_z") or "?")
    if not units >= 1:
        return ()
    whole = all(amount % units == 0 for amount in formula.values())
    return (units, 1.0) if whole else (units,)


# --- atoms -------------------------------------------------------------------------------


def _atoms(
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
    flags = block.column("_atom_site_calc_flag") or ["."] * n
    xyz = [column for column in columns if column is not None]
    if any(len(column) != n for column in (labels, shares, flags, *xyz)):
        raise CrystalError("columns of its atom sites stand in different loops or differ in length")
    if n > MAX_SITES:
        raise CrystalError(f"{n:,} atom sites; at most {MAX_SITES:,} are allowed")
    states = _oxidation_states(block)
    species, names, coords = [], [], []
    for at, (kind, label, share, flag) in enumerate(zip(types, labels, shares, flags, strict=True)):
        if flag.lower() == "dum" or (kind == "." and label in ".?"):
            continue
        occupancy = 1.0 if share == "." else _number(share)
        if not 0 <= occupancy <= 1e3:
            raise CrystalError(f"atom {at + 1} ({label}): its occupancy is {share!r}")
        if occupancy == 0:
            continue
        by_type = kind not in ("?", ".") and types is not labels
        try:
            who = _occupant(kind if by_type else label, by_type, frozenset(formula or ()))
        except InputError as error:
            raise CrystalError(f"atom {at + 1} ({label}): {error}") from None
        state = _state(who, kind, states)
        species.append(_species(who.symbol, occupancy, state))
        names.append(label)
        coords.append([_coordinate(column[at], at, label) for column in xyz])
    if not species:
        raise CrystalError("its atom sites are empty")
    found = np.array(coords, np.float64)
    return species, names, found @ _to_fractional(block, matrix) if cartesian else found


def _coordinate(value: str, at: int, label: str) -> float:
    number = _number(value)
    if math.isnan(number):
        what = "unknown" if value in ("?", ".") else f"{value!r}, no number"
        raise CrystalError(f"atom {at + 1} ({label}): a coordinate is {what}")
    return number


def _to_fractional(block: Block, matrix: np.ndarray) -> np.ndarray:
    """Return what turns Cartesian rows into fractional ones.

    Raises:
        CrystalError: the file does not say how its axes lie.
    """
    rows = [
        [_number(block.text(f"_atom_sites_fract_tran_matrix_{i}{j}") or "?") for j in "123"]
        for i in "123"
    ]
    found = np.array(rows)
    if not np.isnan(found).any():
        shift = [_number(block.text(f"_atom_sites_fract_tran_vector_{i}") or "0") for i in "123"]
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
        raise InputError(f"{text!r} is no element")
    letters = match[1]
    pair, single = letters.capitalize(), letters[0].upper()
    options = [s for s in dict.fromkeys((pair, single)) if s in ATOMIC_NUMBERS or s in ISOTOPES]
    if by_type or (len(letters) == 2 and letters[1].islower()):
        options = [s for s in options if s == pair] or ([] if by_type else options)
        if not by_type and letters[1].islower() and pair not in options:
            options = []  # such as Wat1
    if len(options) > 1 and known:
        options = [s for s in options if ISOTOPES.get(s, s) in known] or options
    if len(options) != 1:
        raise InputError(
            f"{text!r} is no element"
            if not options
            else f"label {text!r} may be {options[0]} or {options[1]}: give _atom_site_type_symbol"
        )
    state = None
    if by_type and (match[3] or match[4]):
        state = float(f"{match[3] or match[4]}{match[2] or match[5] or 1}")
    return Occupant(options[0], 1.0, state)


def _oxidation_states(block: Block) -> dict[str, float]:
    symbols = block.column("_atom_type_symbol") or []
    numbers = block.column("_atom_type_oxidation_number") or []
    if len(symbols) != len(numbers):
        return {}
    found = {symbol: _number(number) for symbol, number in zip(symbols, numbers, strict=True)}
    return {symbol: number for symbol, number in found.items() if not math.isnan(number)}


def _state(who: Occupant, kind: str, states: dict[str, float]) -> float | None:
    """Return an oxidation state: of the symbol in the list of types, else of the symbol itself."""
    if kind in states:
        return states[kind]
    if who.oxidation_state is not None or not states:
        return who.oxidation_state
    of_element = {
        state
        for symbol, state in states.items()
        if (match := re.match(r"[A-Za-z]+", symbol)) and match[0].capitalize() == who.symbol
    }
    return of_element.pop() if len(of_element) == 1 else None


@lru_cache(maxsize=20_000)
def _species(symbol: str, occupancy: float, state: float | None) -> str:
    return species_text([Occupant(symbol, occupancy, state)])


def _number(value: str) -> float:
    """Return a number without its uncertainty, such as 0.123(4); NaN if it is none."""
    from gemmi import cif

    number: float = cif.as_number(value.strip("'\""))
    return number


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


def _amounts(species: list[str]) -> dict[str, float]:
    found: dict[str, float] = {}
    for text in species:
        for occupant in parse_species(text):
            found[occupant.element] = found.get(occupant.element, 0.0) + occupant.occupancy
    return found


def _check_whole(
    block: Block, text: str, species: list[str], formula: dict[str, float] | None
) -> None:
    """Refuse a text that was cut off within its atoms, as far as its formula tells.

    Only texts that end with their atoms, all of them whole, can have lost some that way.

    Raises:
        CrystalError: atoms other than hydrogen are fewer than formula and Z state.
    """
    last = next(reversed(block.values), "")
    if formula is None or not last.startswith("_atom_site_") or any(":" in s for s in species):
        return
    if text.rstrip().rpartition("\n")[2].startswith("#"):
        return
    amounts = _amounts(species)
    heavy = {element: n for element, n in formula.items() if element != "H"} or formula
    shares = {element: amounts.get(element, 0.0) / n for element, n in heavy.items()}
    most = max(shares.values())
    units = _formula_units(block, formula) or (max(most, 1.0),)
    full = min((n for n in units if most <= n * 1.02), default=0.0)
    element, share = min(shares.items(), key=lambda item: item[1])
    if share < 0.98 * full:
        raise CrystalError(
            f"{amounts.get(element, 0.0):g} atoms of {element}, where its formula states "
            f"{full * formula[element]:g}, and it ends there: is it cut off?"
        )


# --- magnetic moments --------------------------------------------------------------------


def _moments(block: Block, labels: list[str]) -> dict[int, list[float]] | None:
    """Return moments along the cell's edges, μB, by the number of the atom; None if all are 0."""
    names = block.column("_atom_site_moment_label", "_atom_site_moment_atom_site_label")
    if not names:
        return None
    columns = [
        block.column(f"_atom_site_moment_crystalaxis_{x}", f"_atom_site_moment_{x}") for x in "xyz"
    ]
    if any(column is None or len(column) != len(names) for column in columns):
        raise CrystalError("magnetic moments are not given along the cell's edges (crystalaxis)")
    places = {label: at for at, label in enumerate(labels)}
    if len(places) != len(labels):
        raise CrystalError("magnetic moments of atoms whose labels are not unique")
    found = {}
    for at, name in enumerate(names):
        moment = [_number(column[at]) for column in columns if column is not None]
        if name not in places or any(math.isnan(m) for m in moment):
            raise CrystalError(f"the magnetic moment of {name!r} cannot be read")
        if any(moment):
            found[places[name]] = moment
    return found or None


def _turned_moments(
    moments: dict[int, list[float]],
    source: list[int],
    by: np.ndarray,
    operations: Operations,
    cell: tuple[float, ...],
    matrix: np.ndarray,
) -> list[list[float] | None]:
    """Return the Cartesian moment of every atom of the cell: m' = (time)(det R) R m."""
    edges = np.array(cell[:3])
    found: list[list[float] | None] = []
    for atom, which in zip(source, by.tolist(), strict=True):
        if (moment := moments.get(atom)) is None:
            found.append([0.0, 0.0, 0.0])
            continue
        rotation = operations.rotations[which]
        sign = operations.reversals[which] * round(float(np.linalg.det(rotation)))
        turned = sign * (rotation @ (np.array(moment) / edges))
        found.append((turned @ matrix).tolist())
    return found
