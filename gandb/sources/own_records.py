"""What gandb's own exports say of a record beyond what their formats hold.

Every format that can keep a text beside a structure keeps a JSON object under `KEY`, so that what
is read back has the ids that it had:

- ``format``: 1.
- ``structure_id``, for people and programs; it is not relied on.
- ``species``: of each site in the order of the file, as `gandb.core.species` writes it, where there
  are oxidation states or isotopes.
- ``properties``: name to one value per site; ``charge``: of the cell.
- ``entry``: ``external_id``, ``aliases``, ``formula``, ``properties``, ``extra`` of the entry.

Elements, coordinates and cell are always those of the format itself, so that a file may be edited.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from gandb.core.errors import InputError
from gandb.core.species import Occupant, parse_species
from gandb.core.units import PROPERTIES
from gandb.sources.documents import MAX_EXTRA
from gandb.sources.records import Record, Sites
from gandb.sources.structures import number, parse_json

KEY = "gandb_record"
"""Name under which the object is kept: a column, key, field or tag."""
FORMAT = 1
MAX_OWN = 900_000
"""Most characters of the object as JSON."""

_MAX_ALIASES = 1_000
_MAX_TEXT = 10_000


def restored(record: Record, said: Any) -> Record:
    """Return a record with what an export says of it; as it is where it says nothing.

    Args:
        record: as the format gives it.
        said: the object, or its JSON; None where there is none.

    Raises:
        InputError: it does not fit the structure, or is no such object.
    """
    if said is None or said == "":
        return record
    own = _object(said)
    structure = record.structure
    if isinstance(structure, Sites):
        structure = restored_sites(structure, own)
    extra = {k: v for k, v in record.extra.items() if k != KEY}
    record = dataclasses.replace(record, structure=structure, extra=extra)
    entry = own.get("entry")
    if entry is None:
        return record
    if not isinstance(entry, Mapping):
        raise InputError(f"{KEY}: entry is not a JSON object")
    external_id, formula = entry.get("external_id"), entry.get("formula")
    for name, value in (("external_id", external_id), ("formula", formula)):
        if value is not None and (not isinstance(value, str) or len(value) > _MAX_TEXT):
            raise InputError(f"{KEY}: {name} is no text")
    return dataclasses.replace(
        record,
        external_id=external_id,
        formula=formula,
        aliases=_aliases(entry.get("aliases")),
        properties=_properties(entry.get("properties")),
        extra=_extra(entry.get("extra")),
    )


def restored_sites(sites: Sites, said: Any) -> Sites:
    """Return sites with the species, properties and charge that an export says.

    Raises:
        InputError: they are of other elements, or of another number of sites.
    """
    own = _object(said)
    n = len(sites.species)
    species: Sequence[str | Sequence[Occupant]] = sites.species
    if own.get("species") is not None:
        texts = _listed(own["species"], "species", n)
        for place, (text, what) in enumerate(zip(texts, species, strict=True), 1):
            if not isinstance(text, str) or _elements(text) != _elements(what):
                raise InputError(
                    f"{KEY} says {str(text)[:40]!r} of site {place}, where the file has another "
                    f"element: if it was edited, take {KEY} out of it"
                )
        species = texts
    properties, charge = sites.properties, sites.charge
    if (said := own.get("properties")) is not None:
        if not isinstance(said, Mapping):
            raise InputError(f"{KEY}: properties are not a JSON object")
        properties = {str(k): _listed(v, str(k)[:100], n) for k, v in said.items()}
    if own.get("charge") is not None:
        charge = number(own["charge"], f"{KEY}: the charge")
    return dataclasses.replace(sites, species=species, properties=properties, charge=charge)


def _object(said: Any) -> Mapping[str, Any]:
    if isinstance(said, str):
        if len(said) > 2 * MAX_OWN:
            raise InputError(f"{KEY} has more than {2 * MAX_OWN:,} characters")
        try:
            said = parse_json(said)
        except InputError as error:
            raise InputError(f"{KEY} {error}") from None
    if not isinstance(said, Mapping):
        raise InputError(f"{KEY} is not a JSON object")
    if said.get("format") != FORMAT:
        raise InputError(
            f"{KEY} is of format {str(said.get('format'))[:20]}, and this gandb reads {FORMAT}: it "
            "may be of a later gandb"
        )
    return said


def _listed(values: Any, name: str, n: int) -> list[Any]:
    if not isinstance(values, list) or len(values) != n:
        what = f"{len(values)} values" if isinstance(values, list) else "no list"
        raise InputError(
            f"{KEY} has {what} of {name} for {n} sites: if the file was edited, take {KEY} out"
        )
    return values


def _elements(what: str | Sequence[Occupant]) -> set[str]:
    occupants = parse_species(what) if isinstance(what, str) else what
    return {occupant.element for occupant in occupants}


def _aliases(said: Any) -> tuple[tuple[str, str], ...]:
    if said is None:
        return ()
    fits = isinstance(said, list) and len(said) <= _MAX_ALIASES
    pairs = [
        (item[0], item[1])
        for item in (said if fits else ())
        if isinstance(item, list)
        and len(item) == 2
        and all(isinstance(text, str) and len(text) <= _MAX_TEXT for text in item)
    ]
    if not fits or len(pairs) != len(said):
        raise InputError(f"{KEY}: aliases are not pairs of texts")
    return tuple(pairs)


def _properties(said: Any) -> dict[str, float]:
    if said is None:
        return {}
    if not isinstance(said, Mapping):
        raise InputError(f"{KEY}: the entry's properties are not a JSON object")
    found = {}
    for name, value in said.items():
        if name not in PROPERTIES:
            raise InputError(f"{KEY}: there is no property {str(name)[:40]!r}")
        known = number(value, f"{KEY}: {name}")
        if known is not None:
            found[name] = known
    return found


def _extra(said: Any) -> dict[str, Any]:
    if said is None:
        return {}
    if not isinstance(said, Mapping):
        raise InputError(f"{KEY}: extra is not a JSON object")
    try:
        size: float = len(json.dumps(said, allow_nan=False))
    except (ValueError, RecursionError):
        size = math.inf
    if size > 2 * MAX_EXTRA:
        raise InputError(f"{KEY}: extra is too large, too deep, or holds what is no number")
    return dict(said)
