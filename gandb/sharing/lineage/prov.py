"""A lineage as PROV-JSON, which PROV's tools read, validate and draw.

https://www.w3.org/submissions/prov-json/ (W3C member submission), https://www.w3.org/TR/prov-dm/.
Things are entities (dataset versions and snapshots collections of their members, recipes and models
plans), jobs and checks activities, versions of gandb and the sources agents. Ids are
``gandb:KIND-ID``; facts are attributes ``gandb:NAME``, nested ones as JSON text.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from gandb import __version__
from gandb.core.ids import sha256_hex
from gandb.sharing.lineage.tracing import Key, Lineage, Step, Thing

NAMESPACE = "urn:gandb:"
"""What ``gandb:`` stands for; content ids are the same in every store."""

_TYPES = {
    "dataset_version": "prov:Collection",
    "source_snapshot": "prov:Collection",
    "recipe": "prov:Plan",
    "model": "prov:Plan",
}
_DERIVED = frozenset(
    {"sampled_from", "trained_on", "instance_of", "derived_from", "drawn_from", "read_from",
     "refers_to", "relaxed_from"}
)  # fmt: skip
_GENERATED = frozenset({"generated_by", "trained_by", "brought_by", "imported_by"})
_SPECIAL = frozenset({"has_structure", "has_composition"})
_OMITTED = frozenset({"present", "finished_at", "created_at"})
_Document = dict[str, Any]


def prov_document(lineage: Lineage) -> _Document:
    """Return a lineage as a PROV-JSON document; the same lineage gives the same document."""
    document = _Builder()
    for thing in lineage.things.values():
        document.add_thing(thing)
    for step in lineage.steps:
        document.add_step(step)
    for group in lineage.groups:
        name = f"gandb:group-{sha256_hex(repr(group).encode())[:32]}"
        document.add(
            "entity",
            name,
            {
                "prov:type": _qualified("prov:Collection"),
                "prov:label": f"{group.count} of kind {group.kind}",
                "gandb:count": group.count,
                "gandb:relation": group.relation,
            },
        )
        document.derived(name, _name(group.of))
    for check in lineage.checks:
        recipe = lineage.things[check.recipe]
        own = f"{check.recipe.id}-{check.subject.id}"
        verdict, activity = f"gandb:verdict-{own}", f"gandb:check-{own}"
        said: dict[str, Any] = {
            "prov:label": f"{recipe.label}: {check.verdict}",
            "gandb:verdict": check.verdict,
        }
        if check.passed is not None:
            said["gandb:passed"] = bool(check.passed)
        document.ensure(check.subject)
        document.add("entity", verdict, said)
        document.add("activity", activity, {"prov:label": recipe.label})
        document.relate("used", activity=activity, entity=_name(check.subject))
        for version in check.against:
            document.relate("used", activity=activity, entity=_name(version))
        document.relate("wasGeneratedBy", entity=verdict, activity=activity)
        document.associate(activity, None, plan=_name(check.recipe))
    return document.finished()


def prov_json(lineage: Lineage) -> str:
    """Return the same as text."""
    return json.dumps(prov_document(lineage), indent=2, ensure_ascii=False) + "\n"


class _Builder:
    """A document in the making."""

    def __init__(self) -> None:
        self._parts: dict[str, dict[str, Any]] = {}
        self._relations: dict[str, list[dict[str, Any]]] = {}

    def add(self, part: str, name: str, attributes: Mapping[str, Any]) -> None:
        self._parts.setdefault(part, {})[name] = dict(attributes)

    def ensure(self, key: Key) -> None:
        """Name a thing that nothing more is said of."""
        self._parts.setdefault("entity", {}).setdefault(
            _name(key), {"prov:type": _qualified(f"gandb:{key.kind}")}
        )

    def add_thing(self, thing: Thing) -> None:
        key, facts = thing.key, thing.facts
        attributes: dict[str, Any] = {"prov:label": thing.label}
        if key.kind == "job":
            for name, said in (("created_at", "startTime"), ("finished_at", "endTime")):
                if facts.get(name):
                    attributes[f"prov:{said}"] = facts[name]
            self.add("activity", _name(key), attributes | _attributes(facts))
            self.associate(_name(key), str(facts.get("code_version", "")) or None)
            return
        own = _qualified(f"gandb:{key.kind}")
        more = _TYPES.get(key.kind)
        attributes["prov:type"] = [own, _qualified(more)] if more else own
        self.add("entity", _name(key), attributes | _attributes(facts))
        if key.kind == "source_snapshot" and "source" in facts:
            self._source(key, facts)

    def _source(self, key: Key, facts: Mapping[str, Any]) -> None:
        """Say whose data a snapshot holds, and which files were read."""
        agent = f"gandb:source-{_plain(str(facts['source']))}"
        self.add(
            "agent",
            agent,
            {
                "prov:type": _qualified("prov:Organization"),
                "prov:label": str(facts["source"]),
                "gandb:attribution": str(facts.get("attribution", "")),
            },
        )
        self.relate("wasAttributedTo", entity=_name(key), agent=agent)
        for file in facts.get("files") or ():
            name = f"gandb:file-{file['sha256']}"
            said = {"prov:label": file["name"], "prov:type": _qualified("gandb:file")}
            self.add("entity", name, said | _attributes(file))
            self.derived(_name(key), name)

    def add_step(self, step: Step) -> None:
        subject, target = _name(step.subject), _name(step.object)
        said = _attributes(step.facts) | {"gandb:relation": step.relation}
        if step.relation in _GENERATED:
            self.relate("wasGeneratedBy", said, entity=subject, activity=target)
        elif step.relation == "used":
            self.relate("used", said, activity=subject, entity=target)
        elif step.relation == "holds":
            self.relate("hadMember", collection=subject, entity=target)
        elif step.relation in _SPECIAL:
            self.relate("specializationOf", specificEntity=subject, generalEntity=target)
        elif step.relation == "has_material":
            self.relate("alternateOf", alternate1=subject, alternate2=target)
        elif step.relation in _DERIVED and step.subject.kind != "job":
            self.derived(subject, target, said)
            if step.relation == "read_from":
                self.relate("hadMember", collection=target, entity=subject)
        elif step.subject.kind == "job":  # measured_under
            self.relate("used", said, activity=subject, entity=target)
        else:  # checked_under, shows
            self.relate("wasInfluencedBy", said, influencee=subject, influencer=target)

    def derived(self, later: str, earlier: str, said: Mapping[str, Any] | None = None) -> None:
        self.relate("wasDerivedFrom", said or {}, generatedEntity=later, usedEntity=earlier)

    def associate(self, activity: str, version: str | None, plan: str | None = None) -> None:
        """Say which version of gandb did something; this one, where that is not on record."""
        agent = f"gandb:software-{_plain(version or __version__)}"
        self.add(
            "agent",
            agent,
            {
                "prov:type": _qualified("prov:SoftwareAgent"),
                "prov:label": f"gandb {version or __version__}",
            },
        )
        ends = {"activity": activity, "agent": agent} | ({"plan": plan} if plan else {})
        self.relate("wasAssociatedWith", None, **ends)

    def relate(self, kind: str, said: Mapping[str, Any] | None = None, **ends: str) -> None:
        row = {f"prov:{name}": value for name, value in ends.items()} | dict(said or {})
        listed = self._relations.setdefault(kind, [])
        if row not in listed:
            listed.append(row)

    def finished(self) -> _Document:
        document: _Document = {"prefix": {"gandb": NAMESPACE}}
        for part in ("entity", "activity", "agent"):
            if part in self._parts:
                document[part] = dict(sorted(self._parts[part].items()))
        number = 0
        for kind in sorted(self._relations):
            rows = sorted(self._relations[kind], key=lambda row: json.dumps(row, sort_keys=True))
            document[kind] = {}
            for row in rows:
                number += 1
                document[kind][f"_:r{number}"] = row
        return document


def _name(key: Key) -> str:
    return f"gandb:{key.kind}-{_plain(key.id)}"


def _plain(text: str) -> str:
    """Return a text as part of a qualified name, of letters, digits, ``-``, ``_`` and ``.``."""
    if all(c.isascii() and (c.isalnum() or c in "-_.") for c in text) and text[-1:] != ".":
        return text
    return sha256_hex(text.encode())[:32]


def _qualified(name: str) -> dict[str, str]:
    return {"$": name, "type": "xsd:QName"}


def _attributes(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return facts as attributes: plain values as they are, nested ones as JSON."""
    return {
        f"gandb:{name}": value
        if isinstance(value, str | bool | int | float)
        else json.dumps(value, sort_keys=True, ensure_ascii=False)
        for name, value in sorted(facts.items())
        if name not in _OMITTED and value is not None
    }
