"""Symmetry that a CIF states: the groups that it may mean, and the one that fits its atoms.

Operations are taken from the file's own list, else from its Hall symbol, its Hermann-Mauguin symbol
or its number; a file that says nothing of symmetry lists all atoms. Where a symbol has two origins,
or the list has the identity alone and the symbol says otherwise, the stated formula decides. If it
cannot, the file is refused.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

import numpy as np

from gandb.core.crystals import CrystalError
from gandb.sources.cif_atoms import has_formula
from gandb.sources.cif_blocks import Block
from gandb.sources.orbits import Operations, expand, read_operations

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
_SETTING = re.compile(r"\s*(?::\s*|\s)(1|2|S|Z|H|R|HR|RS|O1|O2)$", re.IGNORECASE)
_SETTINGS = {"S": "1", "O1": "1", "Z": "2", "O2": "2", "HR": "H", "RS": "R"}


def symmetry_choices(
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
        if not name and not number:
            raise CrystalError(f"Hall symbol {hall[:60]!r} cannot be read")
    if name:
        # Rhombohedral axes or hexagonal ones, as gemmi decides it.
        names = _of_name(name, cell[5] < 1.125 * cell[3])
        if not names:
            raise CrystalError(
                f"space group {name[:60]!r} is not known, and the file has no operations of its own"
            )
    elif number:
        names = _of_number(number)
        if not names:
            raise CrystalError(f"space group number {number[:60]!r} is not one of 1 to 230")
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
def _of_name(name: str, rhombohedral: bool) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Return symbol and operations of every setting that a Hermann-Mauguin symbol may mean."""
    import gemmi

    find: Any = gemmi.find_spacegroup_by_name  # None if there is none
    alpha, gamma = (60.0, 60.0) if rhombohedral else (90.0, 120.0)
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


def expand_by_choice(
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
    counts = {len(made[0]) for _, made in fitting}
    if len(fitting) == 1 or (len(counts) == 1 and len(fitting[0][1][3]) == 1):
        return fitting[0][1]  # the only one; or all atoms are listed, whatever the group
    names = " or ".join(name for name, _ in choices)
    raise CrystalError(
        f"its symmetry may be {names}, and the stated formula and multiplicities fit "
        f"{'none' if not fitting else 'more than one'}: give the operations"
    )


def _agrees(
    block: Block, source: np.ndarray, species: list[str], formula: dict[str, float] | None
) -> bool:
    """Whether the atoms of the cell are those that formula and multiplicities state."""
    stated = stated_multiplicities(block, len(species))
    if stated and np.bincount(source, minlength=len(species)).tolist() != stated:
        return False
    return formula is None or has_formula(block, [species[i] for i in source.tolist()], formula)


def stated_multiplicities(block: Block, n: int) -> list[int] | None:
    """Return how many of each listed atom the cell holds; None unless that is stated of all."""
    tags = ("_atom_site_symmetry_multiplicity", "_atom_site_site_symmetry_multiplicity")
    stated = [text for text in block.texts(*tags) if text and text.isdecimal()]
    return [int(text[:9]) for text in stated] if len(stated) == n else None
