"""The RO-Crate of a bundle: its files, licences, whom to cite, and the work that made its contents.

RO-Crate 1.1, https://w3id.org/ro/crate/1.1. Each job that made a model or candidates is a
``CreateAction``: gandb is its instrument, what it read its object, what it made its result.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from gandb.sharing.bundles.bundle import CROISSANT, LICENCES, MANIFEST, ROCRATE, TABLES
from gandb.sharing.bundles.croissant import VERSION, meaning
from gandb.sharing.bundles.description import Description
from gandb.sharing.licences import Notice

PROFILE = "https://w3id.org/ro/crate/1.1"
_CONTEXT = [
    "https://w3id.org/ro/crate/1.1/context",
    {"creditText": "http://schema.org/creditText", "sha256": "http://schema.org/sha256"},
]
_SOFTWARE = "#gandb"


def rocrate(about: Description, gandb_version: str) -> dict[str, Any]:
    """Return the metadata of a bundle as an RO-Crate.

    Args:
        about: what there is to say of it.
        gandb_version: the version that packs it.
    """
    origin = f"#origin-{about.origin}"
    jobs = list(_actions(about))
    parts = [*(t.path for t in TABLES), *_blobs(about), MANIFEST, CROISSANT, LICENCES]
    licences = _licences(about)
    root = {
        "@id": "./",
        "@type": "Dataset",
        "name": about.name,
        "description": about.text,
        "datePublished": about.published,
        "license": {"@id": LICENCES} if len(licences) != 1 else {"@id": licences[0]["@id"]},
        "author": {"@id": origin},
        "publisher": {"@id": origin},
        "identifier": about.url,
        "keywords": list(about.keywords),
        "hasPart": [{"@id": part} for part in parts],
        "mentions": [{"@id": job["@id"]} for job in jobs],
        "citation": [{"@id": _source(i)} for i, _ in enumerate(about.notices)],
        "creditText": about.citation,
    }
    graph: list[dict[str, Any]] = [
        {
            "@id": ROCRATE,
            "@type": "CreativeWork",
            "about": {"@id": "./"},
            "conformsTo": {"@id": PROFILE},
        },
        root,
        {"@id": origin, "@type": "Organization", "name": about.origin}
        | ({"url": about.origin_url} if about.origin_url else {}),
        {
            "@id": _SOFTWARE,
            "@type": "SoftwareApplication",
            "name": "gandb",
            "version": gandb_version,
            "description": "A versioned SQL store for generated inorganic materials.",
        },
        *licences,
        *(_cited(i, notice) for i, notice in enumerate(about.notices)),
        *_files(about),
        *jobs,
        *_things(about),
    ]
    return {"@context": _CONTEXT, "@graph": [_compact(entity) for entity in graph]}


def _compact(entity: Mapping[str, Any]) -> dict[str, Any]:
    """Write a list of one as that one, and leave out what is empty, as RO-Crate recommends."""
    return {
        key: value[0] if isinstance(value, list) and len(value) == 1 else value
        for key, value in entity.items()
        if value != []
    }


def _blobs(about: Description) -> list[str]:
    return sorted(name for name in about.files if name.startswith("blobs/"))


def _source(number: int) -> str:
    return f"#source-{number + 1}"


def _licences(about: Description) -> list[dict[str, Any]]:
    """Return the licences whose text has an address, once each."""
    found = {n.url: n.licence for n in about.notices if n.url}
    return [
        {"@id": url, "@type": "CreativeWork", "name": name, "description": name, "url": url}
        for url, name in sorted(found.items())
    ]


def _cited(number: int, notice: Notice) -> dict[str, Any]:
    cited = {
        "@id": _source(number),
        "@type": "CreativeWork",
        "name": notice.source,
        "description": f"{notice.entries:,} {notice.of} of {notice.source}.",
        "creditText": notice.attribution or "not stated",
        "conditionsOfAccess": notice.licence or "not stated",
    }
    return cited | ({"license": {"@id": notice.url}} if notice.url else {})


def _files(about: Description) -> Iterator[dict[str, Any]]:
    for table in TABLES:
        yield {
            "@id": table.path,
            "@type": "File",
            "name": table.name,
            "description": f"{about.rows(table):,} rows. {meaning(table)}",
            "encodingFormat": "application/vnd.apache.parquet",
            "contentSize": str(about.size(table)),
            "sha256": about.sha256(table),
        }
    for name in _blobs(about):
        yield {
            "@id": name,
            "@type": "File",
            "name": name,
            "description": "Weights of a model; of an external model, what is known of its origin.",
            "encodingFormat": str(about.files[name].get("media_type", "application/octet-stream")),
            "contentSize": str(about.files[name]["size"]),
            "sha256": about.files[name]["sha256"],
        }
    for name, form, said in (
        (MANIFEST, "application/json", "Every other file with its size and SHA-256."),
        (CROISSANT, "application/ld+json", "The tables and their columns, as Croissant."),
        (LICENCES, "text/markdown", "Terms of the sources, and whom to cite."),
    ):
        more = {"conformsTo": {"@id": VERSION}} if name == CROISSANT else {}
        yield {
            "@id": name,
            "@type": "File",
            "name": name,
            "description": said,
            "encodingFormat": form,
        } | more


# --- the work ----------------------------------------------------------------------------


def _actions(about: Description) -> Iterator[dict[str, Any]]:
    for job in about.jobs:
        reads = [
            _thing("version", job["dataset_version_id"]),
            _thing("model", job["checkpoint_id"]),
        ]
        results = [f"blobs/{sha256}" for sha256 in job["weights"]]
        if job["candidates"]:
            results.append("tables/candidate.parquet")
        yield {
            "@id": f"#job-{job['id']}",
            "@type": "CreateAction",
            "name": f"{job['kind']} {job['id'][:8]}",
            "description": _said(job),
            "agent": {"@id": f"#origin-{about.origin}"},
            "instrument": {"@id": _SOFTWARE},
            "object": [{"@id": r} for r in reads if r],
            "result": [{"@id": r} for r in results],
            "actionStatus": {"@id": "http://schema.org/CompletedActionStatus"},
        }


def _said(job: Mapping[str, Any]) -> str:
    seed = f", seed {job['seed']}" if job["seed"] is not None else ""
    made = f"; {job['candidates']:,} candidates are here" if job["candidates"] else ""
    return f"Job {job['id']} of kind {job['kind']}{seed}, gandb {job['code_version']}{made}."


def _thing(kind: str, own: str | None) -> str | None:
    return f"#{kind}-{own}" if own else None


def _things(about: Description) -> Iterator[dict[str, Any]]:
    """Describe what jobs read: dataset versions and models, which are rows of tables."""
    versions = sorted({j["dataset_version_id"] for j in about.jobs if j["dataset_version_id"]})
    models = sorted({j["checkpoint_id"] for j in about.jobs if j["checkpoint_id"]})
    for own in versions:
        yield {
            "@id": f"#version-{own}",
            "@type": "Dataset",
            "name": f"dataset version {own}",
            "description": "A row of tables/dataset_version.parquet.",
        }
    for own in models:
        yield {
            "@id": f"#model-{own}",
            "@type": "CreativeWork",
            "name": f"checkpoint {own}",
            "description": "A row of tables/checkpoint.parquet.",
        }
