"""Versions made of other versions: united, added to, filtered, dropped from, split otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from gandb.core.errors import UsageError
from gandb.datasets.given import read_splits
from gandb.datasets.members import as_ids, as_keys
from gandb.datasets.names import Version, require_own_name
from gandb.datasets.selection import by_condition, from_file, members_of, with_splits
from gandb.datasets.splits import UNSPLIT, GivenSplit, SplitRecipe, split_from_json
from gandb.datasets.versions import Selection, add_number, create, standing_number
from gandb.store import Store


@dataclass(frozen=True)
class Change:
    """What to make of a version, done in the order of the attributes; so what is dropped is out.

    Attributes:
        unite: versions whose members come in.
        add: SQL condition on the view ``entries``: what comes in.
        add_from: file of ids that come in.
        keep: SQL condition: only what it holds for stays.
        drop: SQL condition: what goes.
        drop_from: file of ids that go; those that are no members do not matter.
        split: another split recipe; by default that of the version that is changed.
        split_file: splits to keep as given (see `gandb.datasets.given.read_splits`).
    """

    unite: Sequence[Version] = ()
    add: str | None = None
    add_from: Path | None = None
    keep: str | None = None
    drop: str | None = None
    drop_from: Path | None = None
    split: SplitRecipe | None = None
    split_file: Path | None = None

    def __bool__(self) -> bool:
        return self != Change()


def change(
    store: Store, base: Version, wanted: Change, message: str, name: str | None = None
) -> tuple[Version, bool]:
    """Make the next version of a dataset out of a version.

    Its parents are the base, which need not be the newest, and the versions it was united with.
    Where the base's splits were given, its members keep theirs, and so do those of united versions
    whose splits were given too; who comes in goes where its composition is, else by hash. Else all
    are split by the base's recipe.

    Args:
        store: where.
        base: what is changed.
        wanted: how.
        message: why.
        name: dataset that gets the version; the base's own by default.

    Returns:
        the version, and whether it is new: what ends as the newest version of the dataset, or as
        the base, makes no further one.

    Raises:
        UsageError: nothing is to be changed, or no member would be left.
        NotFoundError: the members of a version were not shared.
        QueryError: a condition is no SQL.
        InputError: a file cannot be read, or names what the store lacks.
    """
    name = require_own_name(name or base.name)
    if not wanted and name == base.name:
        raise UsageError(f"say what to change in {base.reference}: add, drop, filter, unite, split")
    if not wanted:
        return _named(store, base, message, name)
    chosen = _changed(store, base, wanted)
    if not len(chosen):
        raise UsageError(f"no member would be left of {base.reference}")
    recipe = split_from_json(base.split_recipe)
    rest = recipe.rest if isinstance(recipe, GivenSplit) else recipe
    if wanted.split_file is not None:
        given = read_splits(wanted.split_file)
        chosen = with_splits(store, given, chosen)
    parents = [base.id, *dict.fromkeys(v.id for v in wanted.unite if v.id != base.id)]
    return create(store, name, chosen, message, wanted.split or rest, parents)


def _named(store: Store, base: Version, message: str, name: str) -> tuple[Version, bool]:
    """Give a version a name of another dataset."""
    with store.write() as tx:
        numbered = standing_number(tx, name, base.id)
        if numbered is not None:
            return numbered, False
        return add_number(tx, name, base.id, message, {"base": base.reference}), True


def _changed(store: Store, base: Version, wanted: Change) -> Selection:
    """Return the members after a change; with splits where those of the result are given."""
    keeps = isinstance(split_from_json(base.split_recipe), GivenSplit) and wanted.split is None
    origin: dict[str, Any] = {"base": base.reference}
    parts = [_kept(members_of(store, base.id), keeps)]
    for version in wanted.unite:
        given = isinstance(split_from_json(version.split_recipe), GivenSplit)
        parts.append(_kept(members_of(store, version.id), keeps and given))
        origin.setdefault("unite", []).append(version.reference)
    if wanted.add is not None:
        parts.append(_kept(by_condition(store, wanted.add), False))
        origin["add"] = wanted.add
    if wanted.add_from is not None:
        parts.append(_kept(from_file(store, wanted.add_from), False))
        origin["add_from"] = wanted.add_from.name
    whole = _united(parts)
    if wanted.keep is not None:
        whole = _only(whole, by_condition(store, wanted.keep), inside=True)
        origin["filter"] = wanted.keep
    if wanted.drop is not None:
        whole = _only(whole, by_condition(store, wanted.drop), inside=False)
        origin["drop"] = wanted.drop
    if wanted.drop_from is not None:
        whole = _only(whole, from_file(store, wanted.drop_from), inside=False)
        origin["drop_from"] = wanted.drop_from.name
    given_splits = whole.splits if keeps or wanted.split_file is not None else None
    return replace(whole, origin=origin, splits=given_splits)


def _kept(part: Selection, keeps: bool) -> Selection:
    splits = part.splits if keeps and part.splits is not None else None
    return replace(part, splits=np.full(len(part), UNSPLIT, np.uint8) if splits is None else splits)


def _united(parts: Sequence[Selection]) -> Selection:
    """Put selections together; of an entry that occurs again, the first split that was given."""
    keys = np.concatenate([as_keys(p.entry_ids) for p in parts])
    owners = np.concatenate([p.composition_ids for p in parts])
    splits = np.concatenate([p.splits for p in parts if p.splits is not None])
    order = np.argsort(splits == UNSPLIT, kind="stable")
    unique, first = np.unique(keys[order], return_index=True)
    picked = order[first]
    return Selection(as_ids(unique), owners[picked], {}, splits[picked])


def _only(whole: Selection, part: Selection, *, inside: bool) -> Selection:
    """Keep what lies inside, or outside, of a selection."""
    found = np.isin(as_keys(whole.entry_ids), as_keys(part.entry_ids))
    kept = found if inside else ~found
    splits = None if whole.splits is None else whole.splits[kept]
    return Selection(whole.entry_ids[kept], whole.composition_ids[kept], {}, splits)
