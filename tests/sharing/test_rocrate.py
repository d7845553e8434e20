"""The RO-Crate of a bundle: what it names is described, every file is there, work is told."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.sharing.bundles import files_of
from tests.sharing.conftest import Group

Entities = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def entities(two_groups: dict[str, Group]) -> Entities:
    crate = json.loads((two_groups["ada"].bundle / "ro-crate-metadata.json").read_text())
    assert crate["@context"][0] == "https://w3id.org/ro/crate/1.1/context"
    found = {entity["@id"]: entity for entity in crate["@graph"]}
    assert len(found) == len(crate["@graph"])
    return found


def links(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if set(value) == {"@id"}:
            yield value["@id"]
        else:
            yield from (link for inner in value.values() for link in links(inner))
    elif isinstance(value, list):
        yield from (link for inner in value for link in links(inner))


def many(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def test_the_descriptor_and_the_root(entities: Entities) -> None:
    descriptor = entities["ro-crate-metadata.json"]
    assert descriptor["about"] == {"@id": "./"}
    assert descriptor["conformsTo"] == {"@id": "https://w3id.org/ro/crate/1.1"}
    root = entities["./"]
    for required in ("name", "description", "datePublished", "license"):
        assert root[required]


def test_every_link_leads_to_an_entity(entities: Entities) -> None:
    outside = ("https://w3id.org/", "http://schema.org/", "http://mlcommons.org/")
    loose = {
        link
        for entity in entities.values()
        for link in links(entity)
        if link not in entities and not link.startswith(outside)
    }
    assert loose == set()


def test_every_file_is_described_and_there(
    entities: Entities, two_groups: dict[str, Group]
) -> None:
    files = files_of(two_groups["ada"].bundle)
    described = {i for i, e in entities.items() if e["@type"] == "File"}
    assert described == set(files) - {"ro-crate-metadata.json"}
    assert {link["@id"] for link in entities["./"]["hasPart"]} == described
    for name in described:
        if size := entities[name].get("contentSize"):
            assert int(size) == len(files[name])


def test_work_is_told(entities: Entities) -> None:
    actions = [e for e in entities.values() if e["@type"] == "CreateAction"]
    kinds = {a["name"].split()[0] for a in actions}
    assert {"train", "generate", "import_candidates"} <= kinds
    for action in actions:
        assert entities[action["instrument"]["@id"]]["@type"] == "SoftwareApplication"
        assert many(action["result"])
    trained = next(a for a in actions if a["name"].startswith("train"))
    (weights,) = many(trained["result"])
    assert weights["@id"].startswith("blobs/")
    (read,) = many(trained["object"])
    assert read["@id"].startswith("#version-")


def test_sources_are_cited(entities: Entities) -> None:
    cited = [entities[c["@id"]] for c in many(entities["./"]["citation"])]
    found = {c["name"]: c for c in cited}
    assert found["mine"]["creditText"] == "ours"
    assert "Materials Project" in found["mp"]["creditText"]
    assert found["mp"]["license"]["@id"] == "https://creativecommons.org/licenses/by/4.0/"
