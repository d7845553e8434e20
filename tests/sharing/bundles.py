"""What tests of bundles share: bundles read back, and references in them that lead nowhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from gandb.sharing.bundles.bundle import TABLES, Bundle

Rows = dict[str, list[dict[str, Any]]]


def rows_of(bundle: Bundle) -> Rows:
    """Return every row of a bundle, by table."""
    return {t.name: pq.read_table(bundle.tables[t.name]).to_pylist() for t in TABLES}


def files_of(path: Path) -> dict[str, bytes]:
    """Return every file of a folder, by its path in it."""
    return {
        p.relative_to(path).as_posix(): p.read_bytes()
        for p in sorted(path.rglob("*"))
        if p.is_file()
    }


def loose_references(rows: Rows) -> list[str]:
    """Name the references of a bundle that lead to no row in it."""
    held: dict[tuple[str, str], set[Any]] = {}
    found = []
    for table in TABLES:
        for column in table.columns:
            for key in column.foreign_keys:
                # Changes of versions lie under another name; nothing refers to them.
                target = (key.column.table.name, key.column.name)
                if target not in held:
                    held[target] = {row[target[1]] for row in rows[target[0]]}
                missing = {r[column.name] for r in rows[table.name]} - held[target] - {None}
                found += [f"{table.name}.{column.name} {m}" for m in sorted(missing)[:3]]
    return found


def unneeded(rows: Rows) -> list[str]:
    """Name rows that nothing in the bundle refers to and that tell of nothing in it."""

    def ids(name: str, column: str = "id") -> set[Any]:
        return {row[column] for row in rows[name]} - {None}

    used: dict[str, set[Any]] = {
        "recipe": set().union(
            *(
                ids(name, "recipe_id")
                for name in (
                    "check_result", "structure_symmetry", "structure_key", "comparison",
                    "material_member", "candidate_novelty", "metric", "structure_check",
                    "relaxation", "stability",
                )
            )
        ),
        "composition": ids("entry", "composition_id")
        | ids("candidate", "composition_id")
        | ids("structure", "composition_id"),
        "structure": ids("entry", "structure_id")
        | ids("candidate", "structure_id")
        | ids("candidate_novelty", "reference_structure_id")
        | ids("candidate_novelty", "representative_id")
        | ids("relaxation", "relaxed_id"),
        "source_snapshot": ids("snapshot_entry", "snapshot_id"),
        "model": ids("checkpoint", "model_id"),
        "dataset": ids("dataset_number", "dataset_id") | ids("dataset_tag", "dataset_id"),
    }  # fmt: skip
    return [f"{name} {own}" for name, need in used.items() for own in sorted(ids(name) - need)[:3]]
