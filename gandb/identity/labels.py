"""Symmetry labels: a crystal's space group, and what sits on sites of which symmetry.

A label stays the same in every supercell, setting, origin and order of sites of a crystal, and in
its mirror image; Wyckoff letters do not, because the choice of origin and axes exchanges them. For
that, labels count sites by class:

- The choice of setting can exchange symmetry axes that stand in an oriented symbol. Which it can,
  the affine normaliser of the group says (International Tables for Crystallography, Vol. A, chapter
  3.5). In the tetragonal, trigonal, hexagonal and cubic systems its rotations are among those of
  the lattice, and these keep the places of a symbol: ``.m.`` stays ``.m.``. In the orthorhombic
  system it can permute a, b and c (in Pmmm ``2mm``, ``m2m`` and ``mm2`` are alike), so there only
  the parts of the symbol count: ``mm2`` for all of them, ``m`` for ``.m.``.
- The eleven pairs of space groups that are mirror images of each other go by the lower number:
  quartz is 152 in either hand, as comparisons of structures take both as the same.
- Counts are divided by their greatest common divisor over the whole crystal, so a label does not
  tell how many formula units a primitive cell holds.

Equal labels do not prove equal crystals. Labels are as good as the symmetry they are made of: where
that tells species apart (Fe2+ from Fe3+, D from H), its space group does, though the label names
elements alone.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

from gandb.core.errors import InputError
from gandb.core.species import parse_species

_MIRROR_IMAGES = {
    78: 76,
    95: 91,
    96: 92,
    145: 144,
    153: 151,
    154: 152,
    170: 169,
    172: 171,
    179: 178,
    181: 180,
    213: 212,
}
"""Space groups that are the mirror image of one with a lower number."""
_LAST_ORTHORHOMBIC = 74
_LAST = 230

_Shares = tuple[tuple[str, float], ...]  # elements of a site with their amounts, by symbol


def symmetry_label(
    space_group_number: int, species: Sequence[str], site_symmetries: Sequence[str]
) -> str:
    """Return a crystal's space group and how many sites of each class hold what.

    Rock salt is ``225 Cl:1(m-3m) Na:1(m-3m)``. Disordered sites name amounts:
    ``225 Fe0.5Ni0.5:1(m-3m)``.

    Args:
        space_group_number: 1 to 230.
        species: (n,) what sits on each site, as in `gandb.core.species`; oxidation states are left
            out, isotopes count as their elements.
        site_symmetries: (n,) oriented symbols of the group's standard axes, such as ``m-3m`` or
            ``.m.``.

    Raises:
        InputError: there are no sites, or species without symmetries, or no such space group.
    """
    number, counts = _counted(space_group_number, species, site_symmetries)
    texts = sorted((_site_text(shares), kind, n) for (shares, kind), n in counts.items())
    return " ".join([str(number), *(f"{text}:{n}({kind})" for text, kind, n in texts)])


def prototype_label(
    space_group_number: int, species: Sequence[str], site_symmetries: Sequence[str]
) -> str:
    """Return what `symmetry_label` does, with A, B ... for elements.

    Rock salt and MgO are both ``225 A:1(m-3m) B:1(m-3m)``. Letters go from the rarest element to
    the most frequent; where these are equal, by their sites. A disordered site is named for each of
    its elements, with the amount of that and, after a plus, those of the others:
    ``225 A0.25+0.75:1(m-3m) B0.75+0.25:1(m-3m)``.

    Args:
        space_group_number: 1 to 230.
        species: (n,) what sits on each site.
        site_symmetries: (n,) oriented symbols.

    Raises:
        InputError: as `symmetry_label`.
    """
    number, counts = _counted(space_group_number, species, site_symmetries)
    profiles: dict[str, Counter[tuple[str, str]]] = {}
    amounts: dict[str, list[float]] = {}
    for (shares, kind), n in counts.items():
        for element, share in shares:
            others = sorted(amount for other, amount in shares if other != element)
            text = _amount(share) + "".join(f"+{_amount(amount) or 1}" for amount in others)
            profiles.setdefault(element, Counter())[text, kind] += n
            amounts.setdefault(element, []).append(n * share)
    ordered = sorted(
        (round(math.fsum(amounts[element]), 6), sorted(profile.items()))
        for element, profile in profiles.items()
    )
    parts = [
        f"{_letter(place)}{text}:{n}({kind})"
        for place, (_, profile) in enumerate(ordered)
        for (text, kind), n in profile
    ]
    return " ".join([str(number), *parts])


def _counted(
    number: int, species: Sequence[str], site_symmetries: Sequence[str]
) -> tuple[int, dict[tuple[_Shares, str], int]]:
    """Return the number that a space group goes by, and sites of each kind per formula unit."""
    if not 1 <= number <= _LAST:
        raise InputError(f"there is no space group {number}")
    if len(species) != len(site_symmetries) or not len(species):
        raise InputError(f"{len(species)} sites with {len(site_symmetries)} site symmetries")
    counts: Counter[tuple[_Shares, str]] = Counter()
    for (text, symbol), n in Counter(zip(species, site_symmetries, strict=True)).items():
        counts[_shares(text), _class(symbol, number <= _LAST_ORTHORHOMBIC)] += n
    divisor = math.gcd(*counts.values())
    return _MIRROR_IMAGES.get(number, number), {key: n // divisor for key, n in counts.items()}


@lru_cache(maxsize=1_000)
def _class(symbol: str, any_axes: bool) -> str:
    """Return what is left of a symbol if its axes can be permuted: ``mm2`` for ``m2m``, say."""
    if not any_axes:
        return symbol
    parts = symbol.replace("2/m", "/").replace(".", "")
    return "".join(sorted(parts, reverse=True)).replace("/", "2/m") if "-" not in parts else parts


@lru_cache(maxsize=10_000)
def _shares(text: str) -> _Shares:
    """Return the elements of a site with their amounts, by symbol."""
    found: dict[str, list[float]] = {}
    for occupant in parse_species(text):
        found.setdefault(occupant.element, []).append(occupant.occupancy)
    return tuple((element, round(math.fsum(found[element]), 8)) for element in sorted(found))


def _site_text(shares: _Shares) -> str:
    return "".join(element + _amount(amount) for element, amount in shares)


def _amount(amount: float) -> str:
    """Write an amount; nothing for 1."""
    return "" if amount == 1.0 else f"{amount:.8f}".rstrip("0").rstrip(".")


def _letter(place: int) -> str:
    """Return A to Z, then Aa, Ab ..."""
    if place < 26:
        return chr(ord("A") + place)
    return chr(ord("A") + place // 26 - 1) + chr(ord("a") + place % 26)
