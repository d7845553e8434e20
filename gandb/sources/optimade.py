"""OPTIMADE structures of any provider: pages of answers, and JSON Lines of resources or of pages.

Specification: https://specification.optimade.org, doi:10.1038/s41597-021-00974-z; its appendix on
JSON Lines for the exchange of whole databases. Standard fields have standard units; of a provider's
own fields those become properties whose meaning and unit the provider documents:

- OQMD, https://oqmd.org: the external id is the entry id, which is not the OPTIMADE id.
- Materials Project, https://docs.materialsproject.org: ``_mp_stability`` holds energies by thermo
  type. Taken are those of `MP_THERMO_TYPES`, the first that is there: the mixed one is what the
  Materials Project itself shows. Which one it was is in extra as ``thermo_type``, beside all of
  them. ``_mp_energy_above_hull``, which some collections add, is not taken: in one of them it is 0
  where the Materials Project has no hull.
- Alexandria, https://alexandria.icams.rub.de: per atom in eV, its band gap the smaller one.
- JARVIS-DFT, https://jarvis.nist.gov: OptB88vdW; -99999 and ``na`` are missing.
- AFLOW, https://aflow.org: its AFLUX keywords.
- gandb's own server: properties by their names and units here.

All other fields are extra: NOMAD's (``_nmd_``) are results of many codes in SI units, COD's are
bibliographic, and those of other providers have no units that could be relied on.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

from gandb.core.errors import InputError
from gandb.core.units import PROPERTIES
from gandb.sources.base import Reject
from gandb.sources.documents import FAULTS, documents, kept, reason_of
from gandb.sources.mp_ids import mp_ids
from gandb.sources.own_records import KEY, restored
from gandb.sources.quantities import measured, properties_of
from gandb.sources.records import MAX_RAW, Format, Member, Record
from gandb.sources.structures import is_optimade, sites_of_optimade

OPTIMADE_ALIAS = "optimade"
"""Kind of alias of a resource's OPTIMADE id, where the external id is another."""
MP_THERMO_TYPES = ("gga_gga+u_r2scan", "gga_gga+u", "r2scan")
"""Calculations of the Materials Project, in the order in which their energies are taken."""


@dataclass(frozen=True)
class Provider:
    """What a provider's own fields mean.

    Attributes:
        columns: field to ``PROPERTY:UNIT``.
        external_id: field that holds the id by which the provider knows the record.
        aliases: kind of alias to the field that holds it.
        missing: what stands for a missing value.
    """

    columns: Mapping[str, str]
    external_id: str | None = None
    aliases: Mapping[str, str] | None = None
    missing: tuple[float | str, ...] = ()


PROVIDERS: dict[str, Provider] = {
    "oqmd": Provider(
        columns={
            "_oqmd_delta_e": "formation_energy_per_atom:eV/atom",
            "_oqmd_stability": "energy_above_hull:eV/atom",
            "_oqmd_band_gap": "band_gap:eV",
        },
        external_id="_oqmd_entry_id",
        aliases={"icsd": "_oqmd_icsd_id"},
    ),
    "mp": Provider(columns={}),
    "alexandria": Provider(
        columns={
            "_alexandria_formation_energy_per_atom": "formation_energy_per_atom:eV/atom",
            "_alexandria_hull_distance": "energy_above_hull:eV/atom",
            "_alexandria_band_gap": "band_gap:eV",
        },
    ),
    "jarvis": Provider(
        columns={
            "_jarvis_formation_energy_peratom": "formation_energy_per_atom:eV/atom",
            "_jarvis_ehull": "energy_above_hull:eV/atom",
            "_jarvis_optb88vdw_bandgap": "band_gap:eV",
        },
        external_id="_jarvis_jid",
        missing=(-99999.0, "na"),
    ),
    "aflow": Provider(
        columns={
            "_aflow_enthalpy_formation_atom": "formation_energy_per_atom:eV/atom",
            "_aflow_energy_atom": "energy_per_atom:eV/atom",
            "_aflow_egap": "band_gap:eV",
            "_aflow_Egap": "band_gap:eV",
            "_aflow_volume_atom": "volume_per_atom:Å³/atom",
            "_aflow_ael_bulk_modulus_vrh": "bulk_modulus:GPa",
            "_aflow_ael_shear_modulus_vrh": "shear_modulus:GPa",
        },
        external_id="_aflow_auid",
        aliases={"aurl": "_aflow_aurl"},
    ),
    "gandb": Provider(
        columns={f"_gandb_{p.name}": f"{p.name}:{p.unit}" for p in PROPERTIES.values()},
        external_id="_gandb_external_id",
    ),
}
"""Providers whose own fields are known, by prefix."""

_HOSTS = {
    "materialsproject.org": "mp",
    "oqmd.org": "oqmd",
    "alexandria.icams.rub.de": "alexandria",
    "jarvis.nist.gov": "jarvis",
    "aflow.org": "aflow",
}
_UNKNOWN = Provider(columns={})
_FORMULAS = (
    "chemical_formula_reduced",
    "chemical_formula_descriptive",
    "chemical_formula_hill",
)
_ARRAYS = (
    "_gandb_charge",
    "_gandb_site_properties",
    "assemblies",
    "cartesian_site_positions",
    "fractional_site_positions",
    "lattice_vectors",
    "species",
    "species_at_sites",
)
# What a structure says itself, so that it is not kept a second time.
_DERIVED = (
    "chemical_formula_anonymous",
    "chemical_formula_descriptive",
    "chemical_formula_hill",
    "chemical_formula_reduced",
    "dimension_types",
    "elements",
    "elements_ratios",
    "nelements",
    "nperiodic_dimensions",
    "nsites",
    "structure_features",
)
_PREFIX = re.compile(r"_([a-z]+)_")
_RESOURCE = re.compile(rb'"type"\s*:\s*"structures"')
_EMPTY = re.compile(rb'"data"\s*:\s*\[\s*\]|"errors"\s*:')


def read_optimade(member: Member) -> Iterator[Record | Reject]:
    """Read pages or resources, in an array, alone or as JSON Lines.

    Lines that describe the database (``x-optimade``, ``meta``, ``info``) and resources that are no
    structures are passed over; the provider that they name holds for what follows.
    """
    prefix: str | None = None
    number = 0
    for found in documents(member):
        if isinstance(found, Reject):
            number += 1
            yield found
            continue
        value = found.value
        prefix = _named_provider(value) or prefix
        if "attributes" in value or value.get("type") == "structures":
            if value.get("type") in (None, "structures"):
                number += 1
                yield _record(value, member.name, found.line, prefix, {})
            continue
        for record in _page(value, member.name, number + 1, prefix):
            number += 1
            yield record


def records_of_page(
    page: Mapping[str, Any], file: str, first_line: int
) -> Iterator[Record | Reject]:
    """Yield the structures of one answer of an OPTIMADE server.

    Args:
        page: the answer, ``{"data": [...], "meta": {...}}``.
        file: what the records are said to come from.
        first_line: number of the first record; those that follow count on.
    """
    yield from _page(page, file, first_line, _named_provider(page))


def _page(
    page: Mapping[str, Any], file: str, number: int, prefix: str | None
) -> Iterator[Record | Reject]:
    data = page.get("data")
    errors = page.get("errors")
    if errors and not data:
        yield Reject(file, number, f"the server answered with errors: {errors}"[:1_000], "")
        return
    resources = [data] if isinstance(data, dict) else _list(data)
    included = {
        item["id"]: item.get("attributes")
        for item in _list(page.get("included"))
        if isinstance(item, Mapping) and isinstance(item.get("id"), str)
    }
    for resource in resources:
        if not isinstance(resource, Mapping):
            yield Reject(file, number, "a resource is not a JSON object", repr(resource)[:MAX_RAW])
        elif resource.get("type", "structures") == "structures":
            yield _record(resource, file, number, prefix, included)
        else:
            continue
        number += 1


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _named_provider(value: Mapping[str, Any]) -> str | None:
    """Return the prefix that a page, or a header of JSON Lines, gives its provider."""
    places: list[Any] = [value.get("meta"), value.get("x-optimade"), value.get("data")]
    for place in places:
        if isinstance(place, Mapping):
            for inner in (place, place.get("meta"), place.get("attributes")):
                provider = inner.get("provider") if isinstance(inner, Mapping) else None
                prefix = provider.get("prefix") if isinstance(provider, Mapping) else None
                if isinstance(prefix, str) and prefix:
                    return prefix.lower()
    return None


def _prefix_of(resource_id: str, attributes: Mapping[str, Any]) -> str | None:
    """Return the known provider whose fields a resource has, or whose URL its id is."""
    for name in attributes:
        match = _PREFIX.match(name)
        if match and match[1] in PROVIDERS:
            return match[1]
    host = (urlsplit(resource_id).hostname or "") if "://" in resource_id[:10] else ""
    return next((p for end, p in _HOSTS.items() if f".{host}".endswith(f".{end}")), None)


def _record(
    resource: Mapping[str, Any],
    file: str,
    number: int,
    prefix: str | None,
    included: Mapping[str, Any],
) -> Record | Reject:
    attributes = resource.get("attributes")
    resource_id = "" if resource.get("id") is None else str(resource["id"]).strip()
    try:
        if not isinstance(attributes, Mapping):
            raise InputError("the resource has no attributes")
        _refuse_features(attributes)
        known = PROVIDERS.get(prefix or "") or PROVIDERS.get(
            _prefix_of(resource_id, attributes) or "", _UNKNOWN
        )
        if known.missing:
            attributes = {k: v for k, v in attributes.items() if v not in known.missing}
        external_id, aliases = _ids(resource_id, attributes, known)
        structure = sites_of_optimade(attributes) if is_optimade(attributes) else None
        formula = next((f for name in _FORMULAS if (f := attributes.get(name))), None)
        if formula is not None and not isinstance(formula, str):
            raise InputError("its chemical formula is not a text")
        if structure is None and formula is None:
            raise InputError(
                "has neither a structure (lattice_vectors, cartesian_site_positions, "
                "species_at_sites) nor a chemical formula: ask for them in response_fields"
            )
        properties, used, more = _properties(attributes, known)
    except FAULTS as error:
        return Reject(file, number, reason_of(error), f"{resource_id} {attributes!r}"[:MAX_RAW])
    without = {f"_{KEY}", *_ARRAYS, *used, *(known.aliases or {}).values()}
    without.update(_DERIVED if structure is not None else ())
    if known.external_id:
        without.add(known.external_id)
    said = {**attributes, **more, **_references(resource, included)}
    record = Record(
        file,
        number,
        external_id=external_id,
        aliases=aliases,
        formula=formula,
        structure=structure,
        properties=properties,
        extra=kept(said, without),
    )
    try:
        return restored(record, attributes.get(f"_{KEY}"))
    except InputError as error:
        return Reject(file, number, str(error), resource_id[:MAX_RAW])


def _refuse_features(attributes: Mapping[str, Any]) -> None:
    features = attributes.get("structure_features") or ()
    if not isinstance(features, list | tuple):
        raise InputError("structure_features is not a list")
    if "unknown_positions" in features:
        raise InputError("the places of some of its atoms are not known (unknown_positions)")
    if "assemblies" in features or attributes.get("assemblies"):
        raise InputError(
            "its atoms come in groups that exclude each other (assemblies), which occupancies "
            "cannot say; take an ordered model of it"
        )
    if "site_attachments" in features or "implicit_atoms" in features:
        raise InputError("some of its atoms have no place of their own (site_attachments)")


def _ids(
    resource_id: str, attributes: Mapping[str, Any], known: Provider
) -> tuple[str | None, tuple[tuple[str, str], ...]]:
    """Return the external id and the aliases of a resource."""
    own = resource_id
    if "://" in own[:10]:
        own = unquote(urlsplit(own).path.rstrip("/").rpartition("/")[2])
    immutable = attributes.get("immutable_id")
    aliases: list[tuple[str, str]] = []
    if known is PROVIDERS["mp"]:
        found, aliases_of_mp = mp_ids(own or str(immutable or ""))
        aliases.extend(aliases_of_mp)
    else:
        named = attributes.get(known.external_id) if known.external_id else None
        found = own or str(immutable or "") if named in (None, "") else str(named)
        if own and own != found:
            aliases.append((OPTIMADE_ALIAS, own))
    for kind, name in (known.aliases or {}).items():
        value = attributes.get(name)
        if isinstance(value, str | int) and not isinstance(value, bool) and str(value):
            aliases.append((kind, str(value)))
    return found or None, tuple(aliases)


def _properties(
    attributes: Mapping[str, Any], known: Provider
) -> tuple[dict[str, float], Iterable[str], dict[str, Any]]:
    """Return properties, the fields that they are of, and what is said of them in extra."""
    found, used = properties_of(attributes, known.columns)
    if known is not PROVIDERS["mp"]:
        return found, used, {}
    stability = attributes.get("_mp_stability")
    if isinstance(stability, Mapping):
        for kind in MP_THERMO_TYPES:
            energies = stability.get(kind)
            if isinstance(energies, Mapping):
                for name in ("formation_energy_per_atom", "energy_above_hull"):
                    value = measured(energies.get(name), f"_mp_stability {kind} {name}")
                    if value is not None:
                        found[name] = value
                return found, (), {"thermo_type": kind}
    return found, (), {}


def _references(resource: Mapping[str, Any], included: Mapping[str, Any]) -> dict[str, Any]:
    """Return the literature references of a resource, with what the page says of them."""
    relationships = resource.get("relationships")
    references = relationships.get("references") if isinstance(relationships, Mapping) else None
    data = references.get("data") if isinstance(references, Mapping) else None
    found = []
    for item in _list(data):
        if isinstance(item, Mapping) and isinstance(item.get("id"), str):
            about = included.get(item["id"])
            more = about if isinstance(about, Mapping) else {}
            found.append({"id": item["id"], **{k: v for k, v in more.items() if v is not None}})
    return {"references": found} if found else {}


def _fits(name: str, head: bytes) -> bool:
    del name
    begin = head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
    if begin not in (b"{", b"["):
        return False
    return (
        b'"x-optimade"' in head
        or _RESOURCE.search(head) is not None
        or (b'"attributes"' in head and b'"cartesian_site_positions"' in head)
        or (b'"api_version"' in head and _EMPTY.search(head) is not None)
    )


OPTIMADE = Format(
    name="optimade",
    title="OPTIMADE structures: pages of answers, or JSON Lines",
    fits=_fits,
    read=read_optimade,
)
