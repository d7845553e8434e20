"""Where a thing comes from, and what came of it.

A candidate goes back to its job, checkpoint, training run, dataset version with its parents, and
the source snapshots of the version's members; every check of it is told with its recipe. Forward,
an entry goes to the versions that hold it, the checkpoints trained on these, and their candidates.

It is worked out from the view ``lineage_edges`` and the tables, a few things at a time; nothing is
stored.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from gandb.sharing.lineage.facts import Thing, describe, with_disputes
from gandb.sharing.lineage.ids import Key, find
from gandb.sharing.lineage.steps import Check, Group, Step, checks_of, steps_back, steps_forward
from gandb.store import Store

__all__ = ["Check", "Group", "Key", "Lineage", "Step", "Thing", "trace"]


@dataclass(frozen=True)
class Lineage:
    """A thing with all that it came of, or with what came of it.

    Attributes:
        root: the thing that was asked for.
        forward: what came of it; else where it comes from.
        things: every thing that is named, by key.
        steps: how they descend from each other, nearest to the root first; a step's subject came
            of its object.
        groups: what would be too much to list, counted.
        checks: of the root, with their recipes.
        cut: things whose own lineage was not followed, since they are too far away.
    """

    root: Key
    forward: bool
    things: Mapping[Key, Thing]
    steps: tuple[Step, ...] = ()
    groups: tuple[Group, ...] = ()
    checks: tuple[Check, ...] = ()
    cut: frozenset[Key] = field(default_factory=frozenset)

    def next(self, key: Key) -> list[tuple[Step, Key]]:
        """Return the steps from a thing, away from the root, and where they lead."""
        if self.forward:
            return [(s, s.subject) for s in self.steps if s.object == key]
        return [(s, s.object) for s in self.steps if s.subject == key]

    def as_json(self) -> dict[str, Any]:
        """Return all of it as plain JSON data."""
        return {
            "root": {"kind": self.root.kind, "id": self.root.id},
            "direction": "forward" if self.forward else "backward",
            "things": [
                {"kind": k.kind, "id": k.id, "label": t.label, "facts": dict(t.facts)}
                for k, t in self.things.items()
            ],
            "steps": [
                {
                    "subject": {"kind": s.subject.kind, "id": s.subject.id},
                    "relation": s.relation,
                    "object": {"kind": s.object.kind, "id": s.object.id},
                    **({"facts": dict(s.facts)} if s.facts else {}),
                }
                for s in self.steps
            ],
            "groups": [
                {
                    "of": {"kind": g.of.kind, "id": g.of.id},
                    "relation": g.relation,
                    "kind": g.kind,
                    "count": g.count,
                }
                for g in self.groups
            ],
            "checks": [
                {
                    "check": self.things[c.recipe].facts.get("check_name"),
                    "recipe": c.recipe.id,
                    "subject": {"kind": c.subject.kind, "id": c.subject.id},
                    "passed": c.passed,
                    "verdict": c.verdict,
                }
                for c in self.checks
            ],
            "cut": sorted(k.id for k in self.cut),
        }


def trace(
    store: Store, thing: str | UUID | Key, forward: bool = False, *, depth: int | None = None
) -> Lineage:
    """Trace a thing back to what it came of, or forward to what came of it.

    Args:
        store: where it is.
        thing: its id, the beginning of it, or a reference, see `gandb.sharing.lineage.ids.find`.
        forward: which way.
        depth: how many steps to go at most; None for all.

    Returns:
        all things on the way, each once, described.

    Raises:
        NotFoundError: there is no such thing.
        UsageError: several things are called so.
    """
    root = thing if isinstance(thing, Key) else find(store, str(thing))
    found: dict[Key, None] = {root: None}
    steps: list[Step] = []
    groups: list[Group] = []
    level, went = [root], 0
    with store.read() as connection:
        while level and (depth is None or went < depth):
            if forward:
                fresh, many = steps_forward(connection, level, root, set(found))
                groups += many
            else:
                fresh = steps_back(connection, level, steps)
            steps += [step for step in fresh if step not in steps]
            reached = [s.subject if forward else s.object for s in fresh]
            level = [key for key in dict.fromkeys(reached) if key not in found]
            found |= dict.fromkeys(level)
            went += 1
        checks = () if forward else checks_of(connection, root)
        named = [*found, *(c.recipe for c in checks), *(v for c in checks for v in c.against)]
        things = with_disputes(connection, describe(connection, named))
    return Lineage(root, forward, things, tuple(steps), tuple(groups), checks, frozenset(level))
