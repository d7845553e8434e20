"""What of validation and test a model has seen in training: the leak of a split.

By composition nothing leaks unless splits were given; other levels tell how near the held-out
entries are to what was trained on.
"""

from __future__ import annotations

from dataclasses import dataclass

from gandb.datasets.comparing import state_of
from gandb.datasets.members import require_members
from gandb.datasets.names import Version
from gandb.datasets.splits import SPLITS
from gandb.store import Store

LEVELS = ("composition", "material", "structure", "chemical_system", "prototype")
"""What entries may share: material under the standard recipe, exact structure, label of the
prototype (space group and occupied sites with the elements as A, B ...)."""

_HELD_OUT = SPLITS[1:]


@dataclass(frozen=True)
class Leak:
    """How much of a split occurs in train, at one level.

    Attributes:
        split: validation or test.
        level: one of `LEVELS`.
        groups: distinct compositions, materials ... of the split.
        leaked_groups: those that also occur in train.
        members: members of the split of which the composition, material ... is known; an entry
            without structure has no material, one that was not identified neither.
        leaked_members: those whose composition, material ... also occurs in train.
    """

    split: str
    level: str
    groups: int
    leaked_groups: int
    members: int
    leaked_members: int


def leaks(store: Store, version: Version) -> list[Leak]:
    """Report what of validation and test also occurs in train, at every level.

    Raises:
        NotFoundError: the members were not shared.
    """
    with store.read() as connection:
        require_members(connection, version.id, version.reference)
        sql = state_of(connection, version.id, version.id) + _SUMMARY
        found = {(row[0], row[1]): row[2:] for row in connection.exec_driver_sql(sql)}
    return [
        Leak(split, level, *(int(n) for n in found.get((level, split), (0, 0, 0, 0))))
        for split in _HELD_OUT
        for level in LEVELS
    ]


_KEYS = {
    "composition": "SELECT composition_id AS key, split_after AS split FROM state",
    "material": (
        "SELECT m.material_id AS key, s.split_after AS split FROM state AS s"
        " JOIN material_member AS m ON m.structure_id = s.structure_id WHERE m.standard"
    ),
    "structure": (
        "SELECT structure_id AS key, split_after AS split FROM state WHERE structure_id IS NOT NULL"
    ),
    "chemical_system": (
        "SELECT c.chemical_system AS key, s.split_after AS split FROM state AS s"
        " JOIN composition AS c ON c.id = s.composition_id"
    ),
    "prototype": (
        "SELECT k.prototype_label AS key, s.split_after AS split FROM state AS s"
        " JOIN (SELECT structure_id, max(prototype_label) AS prototype_label FROM structure_key"
        " GROUP BY structure_id) AS k ON k.structure_id = s.structure_id"
        " WHERE k.prototype_label IS NOT NULL"
    ),
}


def _level(level: str) -> str:
    counts = ", ".join(
        f"count(CASE WHEN split = '{split}' THEN 1 END) AS in_{split}" for split in SPLITS
    )
    parts = [
        f"SELECT '{level}' AS level, '{split}' AS split,"
        f" count(CASE WHEN in_{split} > 0 THEN 1 END) AS n_groups,"
        f" count(CASE WHEN in_{split} > 0 AND in_train > 0 THEN 1 END) AS leaked_groups,"
        f" coalesce(sum(in_{split}), 0) AS members,"
        f" coalesce(sum(CASE WHEN in_train > 0 THEN in_{split} ELSE 0 END), 0) AS leaked_members"
        f" FROM by_{level}"
        for split in _HELD_OUT
    ]
    keyed = f"by_{level} AS (SELECT key, {counts} FROM ({_KEYS[level]}) AS k GROUP BY key)"
    return f"SELECT * FROM (WITH {keyed}\n" + "\nUNION ALL\n".join(parts) + f") AS {level}_"


_SUMMARY = "\n" + "\nUNION ALL\n".join(_level(level) for level in LEVELS)
