"""The Materials Project's documents: summaries, computed entries, and those of its old API.

- Summary documents of the API (https://api.materialsproject.org/docs): arrays, answers with
  ``data``, JSON Lines. Their ``energy_per_atom`` has the Materials Project's corrections, and the
  energies are of its mixed GGA, GGA+U and r2SCAN scheme.
- pymatgen's ``ComputedEntry`` and ``ComputedStructureEntry`` (doi:10.1016/j.commatsci.2012.10.028).
  As in pymatgen, the energy is the one that was calculated plus its correction, which is the sum of
  the adjustments where they are listed; extra has the parts, per cell.
- Material documents and answers of the API before 2022 (https://github.com/materialsproject/mapidoc).
  Their energies are as calculated, without corrections.

The total magnetization is per formula unit, as the Materials Project normalises it; one per cell
stays in extra. The volume per atom follows from the volume of the cell and the number of sites.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from gandb.core.errors import InputError, MissingExtraError
from gandb.sources.base import Reject
from gandb.sources.documents import FAULTS, READ_ERRORS, Document, documents, kept, reason_of
from gandb.sources.mp import MP
from gandb.sources.mp_ids import mp_ids
from gandb.sources.quantities import measured, properties_of, reach
from gandb.sources.records import MAX_RAW, Encoded, Format, Member, Record, Sites, reject
from gandb.sources.structures import parse_json, sites_of_structure

MAX_YAML = 2 * 2**20
"""Most bytes of a YAML document, of which a few hundred kilobytes are read in a second."""
MAX_YAML_VALUES = 1_000_000
"""Most values of a YAML document, aliases written out: a few lines can stand for billions."""

_HOLDERS = ("data", "response", "entries", "results")
_FORMULAS = ("formula_pretty", "pretty_formula", "full_formula", "reduced_cell_formula")
_IDS = ("material_id", "task_id", "mp_id")
_MORE_COLUMNS = {
    "final_energy_per_atom": "energy_per_atom:eV/atom",
    "band_gap.search_gap.band_gap": "band_gap:eV",
    "band_gap.energy": "band_gap:eV",
    "homogeneous.k_vrh": "bulk_modulus:GPa",
    "magnetism.total_magnetization_normalized_formula_units": "total_magnetization:μB",
}
# Of the data of computed entries; e_form and band_gap_ind are Alexandria's.
_DATA_COLUMNS = {
    "formation_energy_per_atom": "formation_energy_per_atom:eV/atom",
    "e_form": "formation_energy_per_atom:eV/atom",
    "energy_above_hull": "energy_above_hull:eV/atom",
    "e_above_hull": "energy_above_hull:eV/atom",
    "band_gap": "band_gap:eV",
    "band_gap.energy": "band_gap:eV",
    "band_gap_ind": "band_gap:eV",
}
_STRUCTURES = frozenset(("structure", "cif", "cifs", "initial_structure", "initial_structures"))


# --- material documents ------------------------------------------------------------------


def read_materials(member: Member) -> Iterator[Record | Reject]:
    """Read summary documents, or those of the old API."""
    for found in documents(member, _HOLDERS):
        yield record_of_material(found, member.name) if isinstance(found, Document) else found


def record_of_material(document: Document, file: str) -> Record | Reject:
    """Return the record of a summary document or of an old one; fields may be missing."""
    said = document.value
    try:
        given = next((said[name] for name in _IDS if said.get(name) not in (None, "")), None)
        external_id, aliases = _ids(given)
        formula = next(
            (f for name in _FORMULAS if isinstance(f := said.get(name), str) and f), None
        )
        structure = _structure(said)
        if structure is None and formula is None:
            error = said.get("error") or said.get("detail")
            told = f"; it says: {str(error)[:200]}" if error else ""
            raise InputError(f"has neither a structure nor a formula{told}")
        flat = _without_objects(said)
        properties, used = properties_of(flat, {**MP.columns, **_MORE_COLUMNS})
        volume, atoms = (measured(said.get(name), name) for name in ("volume", "nsites"))
        if volume and atoms and "volume_per_atom" not in properties:
            properties["volume_per_atom"] = volume / atoms
            used.add("volume")
    except FAULTS as error:
        return Reject(file, document.line, reason_of(error), repr(said)[:MAX_RAW])
    without = {*_STRUCTURES, *_IDS[:1], *used, *_FORMULAS[:2]}
    if said.get("material_id") in (None, ""):
        without.add("task_id")
    return Record(
        file,
        document.line,
        external_id=external_id,
        aliases=(*aliases, *_icsd(said)),
        formula=formula,
        structure=structure,
        properties=properties,
        extra=kept(_left(said), without),
    )


def _ids(given: Any) -> tuple[str | None, tuple[tuple[str, str], ...]]:
    if given is None:
        return None, ()
    if isinstance(given, bool) or not isinstance(given, str | int):
        raise InputError(f"its id is of type {type(given).__name__}, not a text")
    found, aliases = mp_ids(str(given))
    return found or None, aliases


def _structure(said: Mapping[str, Any]) -> Sites | Encoded | None:
    """Return the structure of a document, of its CIF if it has no other."""
    structure = said.get("structure")
    if isinstance(structure, str) and structure:
        structure = parse_json(structure)
    if structure:
        return sites_of_structure(structure)
    cif = said.get("cif")
    return Encoded("cif", cif) if isinstance(cif, str) and cif.strip() else None


def _without_objects(said: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a document in which names that mean a number hold no object: those go by path."""
    held = [k for k, v in MP.columns.items() if "." not in k and isinstance(said.get(k), dict)]
    flat = dict(said)
    for name in ("bulk_modulus", "shear_modulus"):  # a number in some answers of the old API
        if _plain_number(said.get(name)) is not None:
            flat[name] = {"vrh": said[name]}
    for name in held:
        for path in _MORE_COLUMNS:
            if path.startswith(f"{name}."):
                flat[path] = reach(said, path)
        flat[name] = None
    return flat


def _plain_number(value: Any) -> float | None:
    """Return a plain number, None for anything else."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _left(said: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in said.items() if not k.startswith("@")}


def _icsd(said: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the ICSD's numbers of a material as aliases."""
    ids: list[Any] = []
    for listed in (said.get("icsd_ids"), said.get("icsd_id"), reach(said, "database_IDs.icsd")):
        ids.extend(listed if isinstance(listed, list) else [listed])
    found = (re.fullmatch(r"(?:icsd-)?([0-9]{1,7})", str(each)) for each in ids)
    return [("icsd", number) for number in sorted({match[1] for match in found if match}, key=int)]


# --- computed entries --------------------------------------------------------------------


def read_computed_entries(member: Member) -> Iterator[Record | Reject]:
    """Read ``ComputedEntry`` and ``ComputedStructureEntry`` objects."""
    for found in documents(member, _HOLDERS):
        yield _record_of_entry(found, member.name) if isinstance(found, Document) else found


def _record_of_entry(document: Document, file: str) -> Record | Reject:
    said = document.value
    try:
        kind = said.get("@class", "ComputedEntry")
        if kind not in ("ComputedEntry", "ComputedStructureEntry"):
            raise InputError(f"is a {str(kind)[:60]}, whose energy is not one of a calculation")
        energy = measured(said.get("energy"), "energy")
        if energy is None:
            raise InputError("has no energy")
        structure = _structure({"structure": said.get("structure")})
        amounts = _amounts(said.get("composition"))
        if structure is not None:
            _compare(structure, amounts)
        elif not amounts:
            raise InputError("has neither a structure nor a composition")
        atoms = sum(amounts.values()) if amounts else float(len(_sites(structure)))
        correction, adjustments = _correction(said)
        data, parameters = (_object(said.get(name), name) for name in ("data", "parameters"))
        external_id, aliases = _ids(_entry_id(said, data))
        properties, _ = properties_of(_without_objects(data), _DATA_COLUMNS)
    except FAULTS as error:
        return Reject(file, document.line, reason_of(error), repr(said)[:MAX_RAW])
    extra = {
        "uncorrected_energy": energy,
        "correction": correction or None,
        "energy_adjustments": adjustments,
        "parameters": parameters,
        "data": {k: v for k, v in data.items() if k != "cif"},
    }
    return Record(
        file,
        document.line,
        external_id=external_id,
        aliases=(*aliases, *_icsd(data)),
        formula="".join(f"{symbol}{n:.12g}" for symbol, n in amounts.items()) or None,
        structure=structure,
        properties={**properties, "energy_per_atom": (energy + correction) / atoms},
        extra=kept(extra),
    )


def _entry_id(said: Mapping[str, Any], data: Mapping[str, Any]) -> Any:
    """Return the id of an entry; for one without, of its material.

    The Materials Project's first dumps, known by what their data hold, write mp-149 as 149.
    """
    entry_id = said.get("entry_id")
    if type(entry_id) is int and "pretty_formula" in data and "unit_cell_formula" in data:
        return f"mp-{entry_id}"
    listed = (entry_id, *(data.get(name) for name in ("material_id", "mat_id", "task_id")))
    return next((given for given in listed if given not in (None, "")), None)


def _object(value: Any, name: str) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise InputError(f"its {name} is of type {type(value).__name__}, not an object")
    return value


def _amounts(composition: Any) -> dict[str, float]:
    """Return the atoms of each element in the cell; empty if no composition is given."""
    if composition is None:
        return {}
    if not isinstance(composition, Mapping):
        raise InputError("its composition is not an object of elements and amounts")
    found: dict[str, float] = {}
    for name, amount in composition.items():
        if name.startswith("@"):
            continue
        symbol = re.match(r"[A-Z][a-z]?", name)
        value = measured(amount, f"the amount of {name}")
        if symbol is None or value is None or value < 0:
            raise InputError(f"its composition has {amount!r} of {name!r}")
        if value > 0:
            found[symbol[0]] = found.get(symbol[0], 0.0) + value
    return found


def _sites(structure: Sites | Encoded | None) -> list[Any]:
    return list(structure.species) if isinstance(structure, Sites) else []


def _compare(structure: Sites | Encoded, amounts: Mapping[str, float]) -> None:
    """Refuse an entry whose composition is another than that of its structure.

    Raises:
        InputError: with both.
    """
    held: dict[str, float] = {}
    for what in _sites(structure):
        if isinstance(what, str):
            held[what] = held.get(what, 0.0) + 1.0
        else:
            for o in what:
                held[o.element] = held.get(o.element, 0.0) + o.occupancy
    total, given = sum(held.values()), sum(amounts.values())
    for symbol in {*held, *amounts} if amounts and total else ():
        share, other = held.get(symbol, 0.0) / total, amounts.get(symbol, 0.0) / given
        if abs(share - other) > 1e-4:
            raise InputError(
                f"its composition and its structure differ: {other:.4g} and {share:.4g} of the "
                f"atoms are {symbol}"
            )


def _correction(said: Mapping[str, Any]) -> tuple[float, dict[str, float]]:
    """Return what is added to the energy of the cell, eV, and its parts by name."""
    listed = said.get("energy_adjustments")
    parts: dict[str, float] = {}
    if listed:
        if not isinstance(listed, list):
            raise InputError("its energy_adjustments are not a list")
        for item in listed:
            item = _object(item, "energy adjustment")
            value = item.get("value")
            if value is None:
                atoms = item.get("n_atoms", 0.0)
                if "adj_per_deg" in item:
                    factors = (item["adj_per_deg"], item.get("temp"), atoms)
                else:
                    factors = (item.get("adj_per_atom"), 1.0, atoms)
                a, b, c = (measured(f, "a factor of an energy adjustment") for f in factors)
                if a is None or b is None or c is None:
                    raise InputError("an energy adjustment has no value")
                value = a * b * c
            number = measured(value, "an energy adjustment")
            name = str(item.get("name") or item.get("@class") or "adjustment")[:100]
            parts[name] = parts.get(name, 0.0) + (number or 0.0)
        return sum(parts.values()), {k: v for k, v in parts.items() if v}
    return measured(said.get("correction"), "correction") or 0.0, {}


# --- YAML --------------------------------------------------------------------------------


def read_legacy(member: Member) -> Iterator[Record | Reject]:
    """Read documents and answers of the old API: JSON, JSON Lines, or one YAML document."""
    if not re.search(r"\.ya?ml\b", member.name.lower()):
        yield from read_materials(member)
        return
    try:
        content = _yaml(member.read(MAX_YAML))
    except READ_ERRORS as error:
        yield reject(member, 1, str(error))
        return
    for number, value in enumerate(content if isinstance(content, list) else [content], 1):
        if isinstance(value, dict):
            yield record_of_material(Document(number, value), member.name)
        else:
            yield reject(member, number, "is not a mapping of names and values", repr(value))


def _yaml(data: bytes) -> Any:
    """Return what a YAML text holds, keys as text.

    Raises:
        InputError: it is not YAML, or stands for too much.
        MissingExtraError: no reader of YAML is installed.
    """
    try:
        from ruamel.yaml import YAML
        from ruamel.yaml.error import YAMLError
    except ModuleNotFoundError:
        raise MissingExtraError.for_package("ruamel.yaml", "structures") from None
    try:
        content = YAML(typ="safe", pure=True).load(data.decode())
    except UnicodeDecodeError:
        raise InputError("is not UTF-8") from None
    except RecursionError:
        raise InputError("is nested too deeply") from None
    except (YAMLError, ValueError, TypeError) as error:
        raise InputError(f"is not YAML: {' '.join(str(error).split())[:300]}") from None
    _count(content, {})
    return content


def _count(value: Any, counted: dict[int, int | None]) -> int:
    """Return how many values a value holds with its aliases written out.

    Raises:
        InputError: too many, or it holds itself.
    """
    if not isinstance(value, dict | list):
        return 1
    key = id(value)
    if key not in counted:
        counted[key] = None
        parts = value.values() if isinstance(value, dict) else value
        counted[key] = 1 + sum(_count(part, counted) for part in parts)
    total = counted[key]
    if total is None or total > MAX_YAML_VALUES:
        raise InputError(f"its aliases stand for more than {MAX_YAML_VALUES:,} values")
    return total


# --- telling them apart ------------------------------------------------------------------

_ENTRY = re.compile(
    rb'"@class"\s*:\s*"Computed(?:Structure)?Entry"'
    rb'|"energy_adjustments"\s*:|"@module"\s*:\s*"pymatgen\.entries\.computed_entries"'
)
_OLD = re.compile(
    rb'"(?:pretty_formula|full_formula|e_above_hull|unit_cell_formula|final_energy|valid_response)"'
)
_ID = re.compile(rb'"(?:material_id|task_id)"\s*:\s*"(?:mp|mvc)-')
_NEW = re.compile(
    rb'"(?:material_id|formula_pretty|energy_above_hull|symmetry|builder_meta|is_stable)"\s*:'
)
_YAML_KEYS = re.compile(rb"(?m)^(?:pretty_formula|full_formula|task_id|e_above_hull|snl):")


def _is_json(head: bytes) -> bool:
    begin = head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
    return begin in (b"{", b"[") and b'"type": "structures"' not in head


def _fits_summary(name: str, head: bytes) -> bool:
    del name
    if not _is_json(head) or _ENTRY.search(head) or b'"jid"' in head:
        return False
    named = b'"formula_pretty"' in head or _ID.search(head) is not None
    return named and len(set(_NEW.findall(head))) > 1 and not _OLD.search(head)


def _fits_entries(name: str, head: bytes) -> bool:
    del name
    return _is_json(head) and _ENTRY.search(head) is not None


def _fits_legacy(name: str, head: bytes) -> bool:
    if re.search(r"\.ya?ml\b", name):
        return len(set(_YAML_KEYS.findall(head))) > 0
    if not _is_json(head) or _ENTRY.search(head):
        return False
    return _ID.search(head) is not None and _OLD.search(head) is not None


MP_SUMMARY = Format(
    "mp-summary",
    "summary documents of the Materials Project (JSON, JSON Lines)",
    _fits_summary,
    read_materials,
)
COMPUTED_ENTRIES = Format(
    "computed-entries",
    "pymatgen's ComputedEntry and ComputedStructureEntry (JSON)",
    _fits_entries,
    read_computed_entries,
)
MP_LEGACY = Format(
    "mp-legacy",
    "documents and answers of the Materials Project's old API (JSON, YAML)",
    _fits_legacy,
    read_legacy,
)
