"""The Croissant description of a bundle: what its tables are, for programs that load data sets.

Croissant 1.1, http://mlcommons.org/croissant/1.1. Meanings and units come from the data dictionary,
references from the keys of the schema.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from gandb.sharing.bundles.bundle import CROISSANT, TABLES, BundleTable
from gandb.sharing.bundles.description import Description

VERSION = "http://mlcommons.org/croissant/1.1"
_CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "arrayShape": "cr:arrayShape",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "containedIn": "cr:containedIn",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "description": {"@container": "@language"},
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isArray": "cr:isArray",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "name": {"@container": "@language"},
    "parentField": "cr:parentField",
    "path": "cr:path",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
_TYPES: tuple[tuple[type, str], ...] = (
    (sa.Boolean, "sc:Boolean"),
    (sa.SmallInteger, "cr:Int16"),
    (sa.BigInteger, "cr:Int64"),
    (sa.Integer, "cr:Int32"),
    (sa.Float, "cr:Float64"),
)


def croissant(about: Description) -> dict[str, Any]:
    """Return the description of a bundle.

    Args:
        about: what there is to say of it; its tables have their rows, sizes and hashes.
    """
    filled = [t for t in TABLES if about.rows(t)]
    return {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "@id": CROISSANT,
        "conformsTo": VERSION,
        "name": about.name,
        "description": about.text,
        "citeAs": about.citation,
        "creator": {"@type": "sc:Organization", "name": about.origin}
        | ({"url": about.origin_url} if about.origin_url else {}),
        "datePublished": about.published,
        "keywords": list(about.keywords),
        "license": about.licences,
        "url": about.url,
        "version": about.version,
        "distribution": [_file(about, table) for table in TABLES],
        "recordSet": [_records(table, {t.table.name for t in filled}) for table in filled],
    }


def _file(about: Description, table: BundleTable) -> dict[str, Any]:
    return {
        "@type": "cr:FileObject",
        "@id": f"{table.name}.parquet",
        "name": f"{table.name}.parquet",
        "description": f"{about.rows(table):,} rows. {meaning(table)}",
        "contentUrl": table.path,
        "contentSize": f"{about.size(table)} B",
        "encodingFormat": "application/x-parquet",
        "sha256": about.sha256(table),
    }


def _records(table: BundleTable, filled: set[str]) -> dict[str, Any]:
    return {
        "@type": "cr:RecordSet",
        "@id": table.name,
        "name": table.name,
        "description": meaning(table),
        "key": [{"@id": f"{table.name}/{name}"} for name in table.key],
        "field": [_field(table, column, filled) for column in table.columns],
    }


def _field(table: BundleTable, column: sa.Column[Any], filled: set[str]) -> dict[str, Any]:
    kind: Any = column.type
    listed = isinstance(kind, sa.ARRAY)
    unit = column.info["unit"]
    said = column.info["meaning"] + (f" Unit: {unit}." if unit not in ("", "1", "none") else "")
    field = {
        "@type": "cr:Field",
        "@id": f"{table.name}/{column.name}",
        "name": column.name,
        "description": said,
        "dataType": _data_type(kind.item_type if listed else kind),
        "source": {
            "fileObject": {"@id": f"{table.name}.parquet"},
            "extract": {"column": column.name},
        },
    }
    if listed:
        field |= {"isArray": True, "arrayShape": "-1"}
    if target := _target(table, column, filled):
        field["references"] = target
    return field


def _data_type(kind: Any) -> str:
    return next((name for type_, name in _TYPES if isinstance(kind, type_)), "sc:Text")


def _target(table: BundleTable, column: sa.Column[Any], filled: set[str]) -> dict[str, Any] | None:
    """Return what a column refers to, unless the reference closes a circle.

    That is a field; but mlcroissant 1.1 cannot load records whose references lead to records with
    references of their own, so there it is the column of the file, which says the same.
    """
    for key in column.foreign_keys:
        target = next((t for t in TABLES if t.table is key.column.table), None)
        if target is None or target.name not in filled or not _before(target, table):
            continue
        name = key.column.name
        if any(_target(target, c, filled) for c in target.columns):
            file = {"@id": f"{target.name}.parquet"}
            return {"fileObject": file, "extract": {"column": name}}
        return {"field": {"@id": f"{target.name}/{name}"}}
    return None


def _before(one: BundleTable, other: BundleTable) -> bool:
    return TABLES.index(one) < TABLES.index(other)


def meaning(table: BundleTable) -> str:
    """Return what a row of a table is."""
    if table.name == "dataset_member":
        return "What a version changes against its bases; of one without others, all its members."
    return str(table.table.info["meaning"])
