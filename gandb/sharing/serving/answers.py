"""The form of answers: JSON:API documents with OPTIMADE's ``meta``; what /info and /links say."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from gandb import __version__
from gandb.sharing.serving.failures import RequestError
from gandb.sharing.serving.properties import (
    ENTRY_TYPES,
    PREFIX,
    EntryType,
    Origin,
    Property,
    Type,
)
from gandb.sharing.serving.publishing import Publication
from gandb.sharing.serving.requests import API_VERSION, VERSIONS
from gandb.sharing.serving.timestamps import timestamp_text

MEDIA_TYPE = "application/vnd.api+json"
_SCHEMA = "https://schemas.optimade.org/openapi/v1.2/optimade.json"
_PROVIDERS = "https://providers.optimade.org"
_SPECIFICATION = "https://specification.optimade.org"
_JSON_TYPES = {
    Type.STRING: "string",
    Type.INTEGER: "integer",
    Type.FLOAT: "number",
    Type.BOOLEAN: "boolean",
    Type.TIMESTAMP: "string",
    Type.LIST: "array",
    Type.DICTIONARY: "object",
}


@dataclass(frozen=True)
class Provider:
    """Who serves.

    Attributes:
        name: short.
        description: longer.
        homepage: URL; None without one.
        maintainer: e-mail address; None without one.
    """

    name: str = "gandb"
    description: str = "Structures published from a gandb store."
    homepage: str | None = None
    maintainer: str | None = None


def dumped(document: Mapping[str, Any]) -> bytes:
    """Write an answer."""
    text = json.dumps(document, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode("utf-8", "replace")


class Answers:
    """Makes the documents of one server.

    Args:
        provider: who serves.
    """

    def __init__(self, provider: Provider) -> None:
        self._provider = provider

    def meta(
        self,
        query: str,
        *,
        more: bool = False,
        returned: int | None = None,
        available: int | None = None,
        warnings: Iterable[str] = (),
    ) -> dict[str, Any]:
        """Return ``meta``.

        Args:
            query: path below the base URL, with the query string.
            more: whether there is another page.
            returned: how many entries fit the filter; None where that is not known.
            available: how many there are.
            warnings: what to say about the request.
        """
        own: dict[str, Any] = {
            "query": {"representation": query},
            "api_version": API_VERSION,
            "schema": _SCHEMA,
            "time_stamp": timestamp_text(datetime.now(UTC)),
            "more_data_available": more,
            "provider": self._who(),
            "implementation": self._implementation(),
        }
        if returned is not None:
            own["data_returned"] = returned
        if available is not None:
            own["data_available"] = available
        if told := list(dict.fromkeys(warnings)):
            own["warnings"] = [
                {"type": "warning", "id": str(i), "code": f"{PREFIX}warning", "detail": text}
                for i, text in enumerate(told)
            ]
        return own

    def _who(self) -> dict[str, Any]:
        found = {
            "name": self._provider.name,
            "description": self._provider.description,
            "prefix": PREFIX.strip("_"),
        }
        return found | ({"homepage": self._provider.homepage} if self._provider.homepage else {})

    def _implementation(self) -> dict[str, Any]:
        found: dict[str, Any] = {"name": "gandb", "version": __version__}
        if self._provider.maintainer:
            found["maintainer"] = {"email": self._provider.maintainer}
        return found

    def page(
        self,
        data: Any,
        meta: Mapping[str, Any],
        base: str,
        following: str | None = None,
        included: Sequence[Mapping[str, Any]] | None = None,
    ) -> dict[str, Any]:
        """Return an answer with data."""
        answer: dict[str, Any] = {
            "jsonapi": {"version": "1.1", "meta": {"api": "OPTIMADE", "api-version": API_VERSION}},
            "links": {"base_url": base, "next": following},
            "meta": meta,
            "data": data,
        }
        if included is not None:
            answer["included"] = included
        return answer

    def failure(self, error: RequestError, query: str) -> dict[str, Any]:
        """Return the answer to a request that failed."""
        told: dict[str, Any] = {
            "status": str(error.status),
            "title": error.title,
            "detail": error.detail,
        }
        if error.parameter:
            told["source"] = {"parameter": error.parameter}
        return {"meta": self.meta(query), "errors": [told]}

    # --- /info, /links -------------------------------------------------------------------

    def info(self, root: str, publications: Sequence[Publication]) -> dict[str, Any]:
        """Return the data of /info.

        Args:
            root: unversioned base URL.
            publications: those that whoever asks may read.
        """
        licences = sorted({s["licence"] for p in publications for s in p.sources.values()})
        return {
            "type": "info",
            "id": "/",
            "attributes": {
                "api_version": API_VERSION,
                "available_api_versions": [
                    {"url": f"{root}/{version}/", "version": API_VERSION} for version in VERSIONS
                ],
                "formats": ["json"],
                "entry_types_by_format": {"json": list(ENTRY_TYPES)},
                "available_endpoints": [*ENTRY_TYPES, "info", "links"],
                "is_index": False,
                "license": {
                    "href": f"{root}/v1/references",
                    "meta": {f"{PREFIX}licences": licences},
                },
                "available_licenses": None,
                f"{PREFIX}publications": [
                    {
                        "name": p.name,
                        "kind": p.kind,
                        "public": p.public,
                        "n_structures": p.n_structures,
                        "published": timestamp_text(p.created_at),
                    }
                    for p in publications
                ],
            },
        }

    def entry_info(self, entry_type: EntryType) -> dict[str, Any]:
        """Return the data of /info/structures and its like."""
        return {
            "type": "info",
            "id": entry_type.name,
            "description": entry_type.description,
            "properties": {p.name: definition(p) for p in entry_type.properties.values()},
            "formats": ["json"],
            "output_fields_by_format": {"json": list(entry_type.properties)},
        }

    def links(self, root: str) -> list[dict[str, Any]]:
        """Return the data of /links: the server itself, and the list of all providers."""
        own = {
            "name": self._provider.name,
            "description": self._provider.description,
            "base_url": root,
            "homepage": self._provider.homepage,
            "link_type": "root",
        }
        consortium = {
            "name": "Materials Consortia",
            "description": "List of OPTIMADE providers maintained by the Materials Consortia.",
            "base_url": _PROVIDERS,
            "homepage": "https://optimade.org",
            "link_type": "providers",
        }
        return [
            {"type": "links", "id": "gandb", "attributes": own},
            {"type": "links", "id": "optimade", "attributes": consortium},
        ]


def definition(of: Property) -> dict[str, Any]:
    """Return the definition of a property.

    Version 1.2 of the specification asks for JSON Schema's ``type``, a list, and has the OPTIMADE
    type beside it; 1.1 has the OPTIMADE type as ``type``, and clients, the consortium's validator
    among them, read only that. What is given is a definition for both: 1.1's, with 1.2's own keys.
    """
    filtered = of.origin is not Origin.DOCUMENT or of.name == "structure_features"
    found: dict[str, Any] = {
        "title": of.name.removeprefix(PREFIX).replace("_", " "),
        "description": of.description,
        "type": of.type.value,
        "sortable": of.sortable,
        "x-optimade-type": of.type.value,
        "x-optimade-unit": of.unit or ("dimensionless" if _countable(of) else "inapplicable"),
        "x-optimade-implementation": {
            "sortable": of.sortable,
            "query-support": "all optional" if filtered else "none",
        },
    }
    if of.unit:
        found["unit"] = of.unit
    if of.item:
        found["items"] = {"type": [_JSON_TYPES[of.item], "null"], "x-optimade-type": of.item.value}
    if not of.name.startswith("_"):
        found["x-optimade-definition"] = {"kind": "property", "name": of.name, "format": "1.2"}
    return found


def _countable(of: Property) -> bool:
    return of.type in (Type.INTEGER, Type.FLOAT)
