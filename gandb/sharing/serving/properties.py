"""The properties that are served: names, types, units, and where their values are.

Standard ones follow "Structures Entries" and "References Entries" of the OPTIMADE specification
1.2.0 (https://specification.optimade.org); gandb's own carry its prefix.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from gandb.core.units import PROPERTIES
from gandb.schema.tables import published, structure

PREFIX = "_gandb_"
"""What the names of gandb's own properties begin with."""


class Type(StrEnum):
    """OPTIMADE's types."""

    STRING = "string"
    INTEGER = "integer"
    FLOAT = "float"
    BOOLEAN = "boolean"
    TIMESTAMP = "timestamp"
    LIST = "list"
    DICTIONARY = "dictionary"


class Origin(StrEnum):
    """Where the value of a property comes from."""

    ROW = "a column of the publication's rows"
    STRUCTURE = "a column of the structure"
    LIVE = "what other tables say at this moment"
    FIXED = "the same for all"
    DOCUMENT = "worked out for the answer; no filter reaches it"
    NEVER = "not known of anything here"


@dataclass(frozen=True)
class Property:
    """One property of an entry type.

    Attributes:
        name: as clients write it.
        type: its type.
        description: what it says.
        unit: its unit; None for what is no quantity.
        item: type of the items of a list.
        origin: where its value comes from.
        column: the column, where it comes from one; or the constant, where it is one.
        sortable: whether answers can be ordered by it.
        default: whether it is in an answer that names no ``response_fields``.
    """

    name: str
    type: Type
    description: str
    unit: str | None = None
    item: Type | None = None
    origin: Origin = Origin.ROW
    column: Any = None
    sortable: bool = False
    default: bool = True


_ROW = published.c

_STANDARD = (
    Property(
        "id", Type.STRING, "Id of the entry or candidate in gandb.", column=_ROW.id, sortable=True
    ),
    Property(
        "type", Type.STRING, "Type of the resource.", origin=Origin.FIXED, column="structures"
    ),
    Property(
        "immutable_id",
        Type.STRING,
        "The same as the id: it is taken from the content, which cannot change.",
        column=_ROW.id,
        sortable=True,
    ),
    Property(
        "last_modified",
        Type.TIMESTAMP,
        "When it was first published here.",
        column=_ROW.last_modified,
        sortable=True,
    ),
    Property(
        "elements",
        Type.LIST,
        "Element symbols in alphabetical order.",
        item=Type.STRING,
        column=_ROW.elements,
    ),
    Property(
        "nelements",
        Type.INTEGER,
        "Number of different elements.",
        column=_ROW.n_elements,
        sortable=True,
    ),
    Property(
        "elements_ratios",
        Type.LIST,
        "Share of each element among all atoms, in the order of elements.",
        item=Type.FLOAT,
        column=_ROW.ratios,
    ),
    Property(
        "chemical_formula_descriptive",
        Type.STRING,
        "Reduced formula, elements by electronegativity, as pymatgen writes it.",
        column=_ROW.formula,
        sortable=True,
    ),
    Property(
        "chemical_formula_reduced",
        Type.STRING,
        "Reduced formula, elements in alphabetical order. With partial occupancies it is exact for "
        "up to 9,999 atoms of the smallest whole multiple of the cell, else the nearest.",
        column=_ROW.formula_reduced,
        sortable=True,
    ),
    Property(
        "chemical_formula_hill",
        Type.STRING,
        "Formula unit as pymatgen reduces formulas (O2, H2O2 ...), in Hill order; null where "
        "occupancies do not add up to whole atoms.",
        column=_ROW.formula_hill,
        sortable=True,
    ),
    Property(
        "chemical_formula_anonymous",
        Type.STRING,
        "Reduced formula with letters for elements, the most frequent first.",
        column=_ROW.formula_anonymous,
        sortable=True,
    ),
    Property(
        "dimension_types",
        Type.LIST,
        "Periodic in all three directions.",
        item=Type.INTEGER,
        origin=Origin.FIXED,
        column=[1, 1, 1],
    ),
    Property(
        "nperiodic_dimensions",
        Type.INTEGER,
        "Number of periodic directions.",
        origin=Origin.FIXED,
        column=3,
    ),
    Property(
        "lattice_vectors",
        Type.LIST,
        "Lattice vectors as rows; c along z, a in the xz plane.",
        unit="angstrom",
        item=Type.LIST,
        origin=Origin.DOCUMENT,
    ),
    Property(
        "space_group_symbol_hermann_mauguin",
        Type.STRING,
        "Short Hermann-Mauguin symbol of the space group that moyo finds at 0.01 angstrom.",
        column=_ROW.space_group_symbol,
        sortable=True,
    ),
    Property(
        "space_group_it_number",
        Type.INTEGER,
        "Number of the space group that moyo finds at 0.01 angstrom; null where it finds none.",
        column=_ROW.space_group_number,
        sortable=True,
    ),
    Property(
        "cartesian_site_positions",
        Type.LIST,
        "Cartesian coordinates of the sites.",
        unit="angstrom",
        item=Type.LIST,
        origin=Origin.DOCUMENT,
    ),
    Property("nsites", Type.INTEGER, "Number of sites.", column=_ROW.n_sites, sortable=True),
    Property(
        "species_at_sites",
        Type.LIST,
        "Name of the species on each site.",
        item=Type.STRING,
        origin=Origin.STRUCTURE,
        column=structure.c.species,
    ),
    Property(
        "species",
        Type.LIST,
        "What the names of species mean; vacancies fill up shared sites. Oxidation states are in "
        f"{PREFIX}oxidation_states, one for each chemical symbol.",
        item=Type.DICTIONARY,
        origin=Origin.DOCUMENT,
    ),
    Property(
        "structure_features",
        Type.LIST,
        "disorder where a site is not filled by one species.",
        item=Type.STRING,
        origin=Origin.DOCUMENT,
    ),
)
_UNSUPPORTED = (
    Property("assemblies", Type.LIST, "Groups of sites that occur together.", item=Type.DICTIONARY),
    Property("space_group_symbol_hall", Type.STRING, "Hall symbol."),
    Property(
        "space_group_symbol_hermann_mauguin_extended",
        Type.STRING,
        "Extended Hermann-Mauguin symbol.",
    ),
    Property(
        "space_group_symmetry_operations_xyz", Type.LIST, "Symmetry operations.", item=Type.STRING
    ),
)

_OWN = (
    Property(
        "kind",
        Type.STRING,
        "entry: a record of a source; candidate: generated.",
        origin=Origin.LIVE,
    ),
    Property(
        "source",
        Type.STRING,
        "Database or collection of an entry.",
        column=_ROW.source,
        sortable=True,
    ),
    Property(
        "external_id",
        Type.STRING,
        "Id of an entry in its source.",
        column=_ROW.external_id,
        sortable=True,
    ),
    Property(
        "publications",
        Type.LIST,
        "Dataset versions (NAME@3) and models (MODEL:NAME@3) that it is published with.",
        item=Type.STRING,
        origin=Origin.LIVE,
    ),
    Property(
        "structure_id",
        Type.STRING,
        "Content id of the structure in gandb: the same structure has it everywhere.",
        column=_ROW.structure_id,
        sortable=True,
    ),
    *(
        Property(p.name, Type.FLOAT, p.description, unit=p.unit, column=_ROW[p.name], sortable=True)
        for p in PROPERTIES.values()
    ),
    *(
        Property(name, Type.BOOLEAN, _ROW[name].info["meaning"], column=_ROW[name])
        for name in ("cnen_strict", "cnen_default", "cnen_matgan", "novel")
    ),
    Property(
        "novelty",
        Type.STRING,
        "What is new in a candidate's structure against all references that it was compared with: "
        "known, structure, prototype, substitution or composition; null if with none.",
        origin=Origin.LIVE,
    ),
    Property(
        "material_id",
        Type.STRING,
        "Material: structures linked by matches under the standard recipe share it; null for what "
        "was not compared.",
        origin=Origin.LIVE,
    ),
    Property(
        "model", Type.STRING, "Model that generated a candidate.", column=_ROW.model, sortable=True
    ),
    Property(
        "times_generated",
        Type.INTEGER,
        "How often the model generated a candidate.",
        origin=Origin.LIVE,
    ),
    Property(
        "charge",
        Type.FLOAT,
        "Charge of the cell; null if it is not given or 0.",
        unit="e",
        origin=Origin.STRUCTURE,
        column=structure.c.charge,
    ),
    Property(
        "site_properties",
        Type.DICTIONARY,
        "Lists of one value per site: magmom, forces ...; vectors are in the axes of "
        "lattice_vectors.",
        origin=Origin.DOCUMENT,
    ),
    Property(
        "licence", Type.LIST, "Licences of its sources.", item=Type.STRING, origin=Origin.DOCUMENT
    ),
    Property(
        "attribution", Type.LIST, "Whom to cite for it.", item=Type.STRING, origin=Origin.DOCUMENT
    ),
)

_TEXT_OF_REFERENCE = {
    "title": "What is referred to.",
    "note": "Whom to cite, as the source asks.",
    "doi": "The first DOI in it.",
    "url": "Where that leads.",
    "bib_type": "Kind of reference, as BibTeX names it.",
}
_REFERENCES = (
    Property("id", Type.STRING, "Source and a digest of its terms.", sortable=True),
    Property(
        "type", Type.STRING, "Type of the resource.", origin=Origin.FIXED, column="references"
    ),
    Property("immutable_id", Type.STRING, "The same as the id."),
    Property("last_modified", Type.TIMESTAMP, "When it was first published here."),
    *(Property(name, Type.STRING, text) for name, text in _TEXT_OF_REFERENCE.items()),
    Property(f"{PREFIX}source", Type.STRING, "Database, collection or model."),
    Property(f"{PREFIX}licence", Type.STRING, "Licence of the data."),
)


def _own(p: Property) -> Property:
    return Property(
        PREFIX + p.name,
        p.type,
        p.description,
        p.unit,
        p.item,
        p.origin,
        p.column,
        p.sortable,
        p.default,
    )


@dataclass(frozen=True)
class EntryType:
    """An entry type with its properties.

    Attributes:
        name: ``structures`` or ``references``.
        description: what it is.
        properties: those that are served, by name.
        unsupported: those of the specification that are always null.
    """

    name: str
    description: str
    properties: Mapping[str, Property]
    unsupported: Mapping[str, Property]

    def find(self, name: str) -> Property | None:
        """Return a property that is served or at least known; None for any other."""
        return self.properties.get(name) or self.unsupported.get(name)


def _never(p: Property) -> Property:
    return Property(p.name, p.type, p.description, item=p.item, origin=Origin.NEVER)


STRUCTURES = EntryType(
    "structures",
    "Crystal structures: records of sources, and candidates that models generated.",
    {p.name: p for p in (*_STANDARD, *map(_own, _OWN))},
    {p.name: _never(p) for p in _UNSUPPORTED},
)
_BIBTEX = (
    "address annote booktitle chapter crossref edition howpublished institution journal key month "
    "number organization pages publisher school series volume year"
).split()
REFERENCES = EntryType(
    "references",
    "Whom to cite for the structures, and under which licence they are.",
    {p.name: p for p in _REFERENCES},
    {
        **{name: _never(Property(name, Type.STRING, "BibTeX's.")) for name in _BIBTEX},
        **{
            name: _never(Property(name, Type.LIST, "People.", item=Type.DICTIONARY))
            for name in ("authors", "editors")
        },
    },
)
ENTRY_TYPES = {t.name: t for t in (STRUCTURES, REFERENCES)}
