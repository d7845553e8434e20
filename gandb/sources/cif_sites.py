"""The structure in a CIF: all atoms of the cell, checked against what else the file says."""

from __future__ import annotations

import math

import numpy as np

from gandb.core.crystals import CrystalError, lattice_matrix
from gandb.core.errors import InputError
from gandb.sources.cif_atoms import (
    amounts_of,
    formula_units,
    has_formula,
    number_of,
    read_atoms,
    stated_formula,
)
from gandb.sources.cif_blocks import Block, parse_blocks
from gandb.sources.cif_symmetry import expand_by_choice, stated_multiplicities, symmetry_choices
from gandb.sources.orbits import Operations
from gandb.sources.own_records import KEY, restored_sites
from gandb.sources.records import Sites

_CELL = tuple(f"_cell_{t}" for t in ("length_a", "length_b", "length_c")) + tuple(
    f"_cell_angle_{t}" for t in ("alpha", "beta", "gamma")
)
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
    species, labels, coords = read_atoms(block, matrix, formula)
    moments = _moments(block, labels)
    choices = symmetry_choices(block, cell, magnetic=moments is not None)
    source, places, by, operations = expand_by_choice(
        block, choices, matrix, coords, species, formula
    )
    listed = source.tolist()
    if len(operations) > 1:
        _check_multiplicities(block, source, species, labels, formula)
    _check_whole(block, text, [species[i] for i in listed], formula)
    properties = {}
    if moments is not None:
        properties["magmom"] = _turned_moments(moments, listed, by, operations, cell, matrix)
    sites = Sites([species[i] for i in listed], places, parameters=cell, properties=properties)
    own = block.text(f"_{KEY}")
    return sites if own is None else restored_sites(sites, own)


def _cell(block: Block) -> tuple[float, ...]:
    cell = []
    for tag in _CELL:
        [value] = (block.column(tag) or ["?"])[:1]
        number = number_of(value)
        if math.isnan(number):
            raise CrystalError(f"{tag} is {'not given' if value in '?.' else f'{value[:40]!r}'}")
        if not 0 < number < (180 if "angle" in tag else 1e6):
            raise CrystalError(f"{tag} is {value[:40]}")
        cell.append(number)
    x, y, z = (math.cos(math.radians(angle)) for angle in cell[3:])
    if 1 - x * x - y * y - z * z + 2 * x * y * z <= 0:
        raise CrystalError(f"cell angles {cell[3]:g}, {cell[4]:g}, {cell[5]:g} span no volume")
    return tuple(cell)


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
    stated = stated_multiplicities(block, len(species))
    if formula is None or stated is None:
        return
    found = np.bincount(source, minlength=len(species)).tolist()
    everything = [species[i] for i in source.tolist()]
    if found != stated and not has_formula(block, everything, formula):
        at = next(i for i, (a, b) in enumerate(zip(found, stated, strict=True)) if a != b)
        raise CrystalError(
            f"atom {at + 1} ({labels[at][:40]}): its operations make {found[at]} of it where "
            f"{stated[at]} are stated, and together they do not have the stated formula"
        )


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
    amounts = amounts_of(species)
    heavy = {element: n for element, n in formula.items() if element != "H"} or formula
    shares = {element: amounts.get(element, 0.0) / n for element, n in heavy.items()}
    most = max(shares.values())
    units = formula_units(block, formula) or (max(most, 1.0),)
    full = min((n for n in units if most <= n * 1.02), default=0.0)
    element, share = min(shares.items(), key=lambda item: item[1])
    if share < 0.98 * full:
        raise CrystalError(
            f"{amounts.get(element, 0.0):g} atoms of {element}, where its formula states "
            f"{full * formula[element]:g}, and it ends there: is it cut off?"
        )


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
        moment = [number_of(column[at]) for column in columns if column is not None]
        if name not in places or any(math.isnan(m) for m in moment):
            raise CrystalError(f"the magnetic moment of {name[:40]!r} cannot be read")
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
