"""Single steps of descent, asked of the view ``lineage_edges`` for a few things at a time."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from gandb.schema import tables
from gandb.sharing.lineage.ids import Key

MANY = 12
"""More things of a kind than this are counted, not listed."""

_BACK: dict[str, tuple[str, ...]] = {
    "candidate": ("generated_by", "sampled_from", "has_structure", "has_composition"),
    "job": ("used",),
    "checkpoint": ("trained_by", "brought_by", "trained_on", "instance_of"),
    "dataset_version": ("derived_from",),
    "entry": ("read_from", "has_structure", "has_composition"),
    "source_snapshot": ("imported_by",),
    "structure": ("relaxed_from", "has_composition", "has_material"),
    "recipe": ("refers_to",),
}
_FORWARD: dict[str, tuple[tuple[str, str], ...]] = {
    "model": (("instance_of", "checkpoint"),),
    "dataset_version": (("trained_on", "checkpoint"),),
    "checkpoint": (("used", "job"),),
    "job": (
        ("generated_by", "candidate"),
        ("trained_by", "checkpoint"),
        ("brought_by", "checkpoint"),
        ("imported_by", "source_snapshot"),
    ),
    "source_snapshot": (("read_from", "entry"),),
    "structure": (
        ("has_structure", "entry"),
        ("has_structure", "candidate"),
        ("relaxed_from", "structure"),
    ),
    "composition": (("has_composition", "entry"), ("has_composition", "candidate")),
    "recipe": (
        ("checked_under", "composition"),
        ("checked_under", "structure"),
        ("checked_under", "candidate"),
    ),
}
_FORWARD_OF_ROOT = {
    "dataset_version": (("refers_to", "recipe"), ("derived_from", "dataset_version")),
    "recipe": (("measured_under", "job"),),
}
_MEMBERS = ("composition", "entry", "source_snapshot", "structure")
"""What descends from these is what holds them, not what is derived from that."""


@dataclass(frozen=True)
class Step:
    """One step: the subject came of the object.

    Attributes:
        subject: the later one.
        relation: how, see ``gandb schema lineage_edges``; also ``drawn_from`` (a version's members
            were read from a snapshot) and ``shows`` (a publication).
        object: the earlier one.
        facts: more on it: how often a job generated a candidate, which split an entry is in.
    """

    subject: Key
    relation: str
    object: Key
    facts: Mapping[str, Any] = field(default_factory=dict, compare=False)


@dataclass(frozen=True)
class Group:
    """Many things of a kind that came of one.

    Attributes:
        of: that one.
        relation: how, as in `Step`; or ``matches``, of candidates that a comparison with a
            reference found to be the same as a structure.
        kind: what they are.
        count: how many.
    """

    of: Key
    relation: str
    kind: str
    count: int


@dataclass(frozen=True)
class Check:
    """A verdict.

    Attributes:
        subject: what was checked.
        recipe: exactly how.
        passed: None if no verdict could be made.
        verdict: in a few words.
        against: dataset versions that it was compared with.
    """

    subject: Key
    recipe: Key
    passed: bool | None
    verdict: str
    against: tuple[Key, ...] = ()


# --- back --------------------------------------------------------------------------------


def steps_back(
    connection: sa.Connection, keys: Sequence[Key], before: Sequence[Step]
) -> list[Step]:
    """Return the steps from things to what they came of.

    Args:
        connection: an open transaction of a store.
        keys: the things.
        before: the steps that led to them.
    """
    found: list[Step] = []
    by_kind: dict[str, list[Key]] = {}
    for key in keys:
        by_kind.setdefault(key.kind, []).append(key)
    for kind, some in by_kind.items():
        relations = _BACK.get(kind)
        if relations is None:
            continue
        rows = connection.exec_driver_sql(
            "SELECT subject_id, relation, object_kind, object_id FROM lineage_edges "
            f"WHERE subject_kind = '{kind}' AND relation IN ({_quoted(relations)}) "
            f"AND subject_id IN ({_quoted(k.uuid for k in some)})"
        )
        steps = [Step(Key(kind, str(s)), r, Key(k, str(o))) for s, r, k, o in rows]
        steps = [step for step in steps if step.subject != step.object]
        steps.sort(key=lambda s: (relations.index(s.relation), s.object))
        if kind == "candidate":
            steps = _with_times(connection, steps)
        if kind == "dataset_version":
            steps = _with_positions(connection, steps)
        found += steps
    # A version's sources are those of its own members; its parents say how it came about.
    for key in by_kind.get("dataset_version", ()):
        ways = {s.relation for s in before if s.object == key}
        if ways != {"derived_from"}:
            found += _sources(connection, "version_id", key)
    return found


def _quoted(values: Any) -> str:
    """Write gandb's own ids and names as SQL literals."""
    return ", ".join(f"'{value}'" for value in values)


def _with_times(connection: sa.Connection, steps: Sequence[Step]) -> list[Step]:
    event = tables.generation_event
    query = (
        sa.select(
            event.c.candidate_id,
            event.c.job_id,
            sa.func.sum(event.c.times),
            sa.func.min(event.c.first_index),
        )
        .where(event.c.candidate_id.in_({s.subject.uuid for s in steps}))
        .group_by(event.c.candidate_id, event.c.job_id)
    )
    told = {
        (str(c), str(j)): {"times": int(n), "first_index": int(first)}
        for c, j, n, first in connection.execute(query)
    }
    return [
        Step(s.subject, s.relation, s.object, told.get((s.subject.id, s.object.id), {}))
        for s in steps
    ]


def _with_positions(connection: sa.Connection, steps: Sequence[Step]) -> list[Step]:
    p = tables.dataset_parent
    query = sa.select(p.c.version_id, p.c.parent_id, p.c.position).where(
        p.c.version_id.in_({s.subject.uuid for s in steps})
    )
    place = {(str(v), str(o)): int(n) for v, o, n in connection.execute(query)}
    told = [
        Step(s.subject, s.relation, s.object, {"position": place[s.subject.id, s.object.id]})
        for s in steps
    ]
    return sorted(told, key=lambda s: (s.subject, s.facts["position"]))


def _sources(connection: sa.Connection, column: str, key: Key) -> list[Step]:
    """Return which snapshots a version's members were read from, or which versions hold some."""
    rows = connection.exec_driver_sql(
        "SELECT version_id, snapshot_id, n_entries FROM lineage_sources "
        f"WHERE {column} = '{key.uuid}' ORDER BY n_entries DESC, snapshot_id, version_id"
    )
    return [
        Step(
            Key("dataset_version", str(version)),
            "drawn_from",
            Key("source_snapshot", str(snapshot)),
            {"entries": int(n)},
        )
        for version, snapshot, n in rows
    ]


# --- forward -----------------------------------------------------------------------------


def steps_forward(
    connection: sa.Connection, keys: Sequence[Key], root: Key, known: Collection[Key]
) -> tuple[list[Step], list[Group]]:
    """Return the steps to what came of things, and counts of what is too much to list.

    Args:
        connection: an open transaction of a store.
        keys: the things.
        root: where the way began; from an entry it goes on through the versions that hold it, not
            through those that are derived from them.
        known: what has been reached so far.
    """
    steps: list[Step] = []
    groups: list[Group] = []
    for key in keys:
        asked = list(_FORWARD.get(key.kind, ()))
        if key == root:
            asked += _FORWARD_OF_ROOT.get(key.kind, ())
        elif key.kind == "dataset_version" and root.kind not in _MEMBERS:
            asked.append(("derived_from", "dataset_version"))
        for relation, kind in asked:
            found, n = _came_of(connection, key, relation, kind)
            if n > MANY:
                groups.append(Group(key, relation, kind, n))
            else:
                steps += [Step(Key(kind, i), relation, key) for i in found]
        if key.kind == "checkpoint" and not _samples_follow(steps, key, known):
            found, n = _came_of(connection, key, "sampled_from", "candidate")
            if n:
                groups.append(Group(key, "sampled_from", "candidate", n))
        if key.kind == "entry":
            steps += _holding(connection, key)
        if key.kind in ("entry", "structure") and (n := _matching(connection, key)):
            groups.append(Group(key, "matches", "candidate", n))
        if key.kind == "source_snapshot":
            steps += _sources(connection, "snapshot_id", key)
        steps += _published(connection, key)
    return steps, groups


def _came_of(
    connection: sa.Connection, key: Key, relation: str, kind: str
) -> tuple[list[str], int]:
    """Return the ids of things, sorted, as long as they are few, and how many there are."""
    rows = (
        f"FROM lineage_edges WHERE object_kind = '{key.kind}' AND object_id = '{key.uuid}' "
        f"AND relation = '{relation}' AND subject_kind = '{kind}' "
        f"AND subject_id <> '{key.uuid}'"
    )
    few = connection.exec_driver_sql(f"SELECT subject_id {rows} LIMIT {MANY + 1}").all()
    if len(few) <= MANY:
        return sorted(str(row[0]) for row in few), len(few)
    return [], int(connection.exec_driver_sql(f"SELECT count(*) {rows}").scalar_one())


def _samples_follow(steps: Sequence[Step], key: Key, known: Collection[Key]) -> bool:
    """Whether a checkpoint's candidates are told with the jobs that generated them."""
    if any(s.object == key and s.relation == "used" for s in steps):
        return True
    return any(k.kind == "job" for k in known)


def _holding(connection: sa.Connection, key: Key) -> list[Step]:
    """Return the versions that hold an entry, with the split that it is in."""
    base, change = tables.dataset_base, tables.dataset_change
    query = (
        sa.select(base.c.version_id, sa.func.max(change.c.split))
        .join(change, change.c.version_id == base.c.base_id)
        .where(change.c.entry_id == key.uuid)
        .group_by(base.c.version_id)
        .having(sa.func.sum(change.c.change) == 1)
        .order_by(base.c.version_id)
    )
    return [
        Step(Key("dataset_version", str(version)), "holds", key, {"split": split})
        for version, split in connection.execute(query)
    ]


def _matching(connection: sa.Connection, key: Key) -> int:
    """Count the candidates that were found to be known as a structure, or that of an entry."""
    own = sa.literal(key.uuid)
    if key.kind == "entry":
        own = sa.select(tables.entry.c.structure_id).where(  # type: ignore[assignment]
            tables.entry.c.id == key.uuid
        ).scalar_subquery()  # fmt: skip
    novelty = tables.candidate_novelty
    query = sa.select(sa.func.count(novelty.c.candidate_id.distinct())).where(
        novelty.c.reference_structure_id == own, novelty.c.level == 0
    )
    return int(connection.execute(query).scalar_one())


def _published(connection: sa.Connection, key: Key) -> list[Step]:
    publication, published = tables.publication, tables.published
    if key.kind == "dataset_version":
        query = sa.select(publication.c.name).where(publication.c.dataset_version_id == key.uuid)
    elif key.kind == "checkpoint":
        query = sa.select(publication.c.name).where(publication.c.checkpoint_id == key.uuid)
    elif key.kind in ("candidate", "entry"):
        query = sa.select(published.c.publication).where(published.c.id == key.uuid)
    else:
        return []
    names = sorted(connection.scalars(query))
    return [Step(Key("publication", name), "shows", key) for name in names]


# --- checks ------------------------------------------------------------------------------

_CHECKS = {
    "candidate": "SELECT subject, recipe_id, passed, verdict, check_name, parameters "
    "FROM lineage_checks WHERE candidate_id = '{id}'",
    "composition": "SELECT 'composition', recipe_id, passed, reason, check_name, parameters "
    "FROM checks WHERE composition_id = '{id}'",
    "structure": "SELECT 'structure', recipe_id, error IS NULL, coalesce(error, space_group_symbol "
    "|| ' (' || CAST(space_group_number AS TEXT) || ')'), 'symmetry', parameters "
    "FROM symmetry WHERE structure_id = '{id}' UNION ALL SELECT 'structure', recipe_id, passed, "
    "reason, check_name, parameters FROM structure_checks WHERE structure_id = '{id}'",
}


def checks_of(connection: sa.Connection, root: Key) -> tuple[Check, ...]:
    """Return every check of a candidate, composition or structure, by name; of an entry, both."""
    subjects = {root.kind: root}
    if root.kind == "entry":
        row = connection.execute(
            sa.select(tables.entry.c.composition_id, tables.entry.c.structure_id).where(
                tables.entry.c.id == root.uuid
            )
        ).one()
        names = ("composition", "structure")
        subjects = {k: Key(k, str(i)) for k, i in zip(names, row, strict=True) if i is not None}
    if root.kind == "candidate":
        candidate = tables.candidate
        row = connection.execute(
            sa.select(candidate.c.composition_id, candidate.c.structure_id).where(
                candidate.c.id == root.uuid
            )
        ).one()
        subjects |= {"composition": Key("composition", str(row[0]))}
        subjects |= {"structure": Key("structure", str(row[1]))} if row[1] else {}
    asked = [root] if root.kind == "candidate" else list(subjects.values())
    found = []
    for key in asked:
        if key.kind not in _CHECKS:
            continue
        rows = connection.exec_driver_sql(_CHECKS[key.kind].format(id=key.uuid)).all()
        rows = sorted(rows, key=lambda r: (r[4], str(r[1])))
        found += [
            Check(subjects[r[0]], Key("recipe", str(r[1])), r[2], r[3] or "", _against(r[5]))
            for r in rows
        ]
    return tuple(found)


def _against(parameters: Any) -> tuple[Key, ...]:
    """Return the dataset versions that a recipe compares with."""
    if isinstance(parameters, str):
        parameters = json.loads(parameters)
    given = parameters.get("against") if isinstance(parameters, dict) else None
    listed = given if isinstance(given, list) else [given]
    found = []
    for one in listed:
        text = one.get("version", one.get("dataset_version")) if isinstance(one, dict) else one
        try:
            found.append(Key("dataset_version", str(UUID(str(text)))))
        except ValueError:
            continue
    return tuple(found)
