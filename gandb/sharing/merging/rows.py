"""Rows of a bundle on their way into a store: those that are new go in, others are compared."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import sqlalchemy as sa

from gandb.core.compositions import CompositionBatch
from gandb.core.formula import parse_formulas
from gandb.core.ids import canonical_json
from gandb.core.units import PROPERTIES
from gandb.jobs.queue import now
from gandb.query.values import printable
from gandb.schema import tables
from gandb.sharing.bundles.bundle import Bundle
from gandb.sharing.merging.report import Conflict, Reporter
from gandb.sharing.portable import importable
from gandb.sharing.verifying.content import pieces, table_named
from gandb.sharing.verifying.values import ids_of
from gandb.store import Transaction
from gandb.store.bulk import fetch, ids_from_text
from gandb.store.merge import chosen
from gandb.tasks.keys import key_recipe
from gandb.tasks.rows import cnen_recipes, merge_all_compositions
from gandb.validation.charge import CNEN, check_all

STATED: Mapping[str, tuple[str, ...]] = {
    "structure_symmetry": (
        "space_group_number", "space_group_symbol", "hall_number", "point_group", "crystal_system",
        "pearson_symbol", "error",
    ),
    "structure_check": ("passed", "value", "reason"),
    "relaxation": ("energy_per_atom", "converged", "error"),
    "stability": ("energy_above_hull", "formation_energy_per_atom", "error"),
    "comparison": ("matched",),
    "source_snapshot": ("licence", "attribution", "n_rows", "n_entries", "n_rejects"),
    "entry": ("formula", "formula_units"),
    "check_result": ("passed",),
    "blob": ("media_type",),
    "model": ("role",),
    "job": ("code_version",),
    "job_chunk": ("result",),
    "checkpoint": ("job_id", "iteration"),
    "metric": ("value",),
    "generation_event": ("times", "first_index"),
    "candidate_record": ("external_id", "extra"),
    "candidate_novelty": ("level", "error"),
}  # fmt: skip
"""What groups may state differently of one thing, by table. The rest of a row is its key, follows
from its content, or says how much work was done (which pairs were compared, and how)."""

CLOSE = 1e-6
"""Numbers that agree to so much of their size are the same."""
_OF_STRUCTURES = (
    "structure", "structure_symmetry", "structure_key", "structure_check", "relaxation",
    "stability", "comparison",
)  # fmt: skip
_EXAMPLES = 3
_BRIEF = 40

Change = Callable[[pa.Table], pa.Table]


class Rows:
    """Takes the rows of a bundle's large tables into a store, in one transaction."""

    def __init__(self, tx: Transaction, bundle: Bundle, reporter: Reporter) -> None:
        self._tx = tx
        self._bundle = bundle
        self._reporter = reporter
        self._dry_run = reporter.dry_run

    def take(
        self, name: str, change: Change | None = None, *, stated: Sequence[str] | None = None
    ) -> np.ndarray:
        """Take in the rows of a table whose key is new, and compare the others.

        Args:
            name: of the table.
            change: makes of the bundle's rows those that this store should have.
            stated: the columns that are compared; by default those of `STATED`.

        Returns:
            which rows are new, bool (n,).
        """
        table = table_named(name)
        change = change or (lambda rows: rows)
        keys = list(table.key)
        found = [importable(table.columns, change(p)) for p in pieces(self._bundle, name, keys)]
        if not found:
            return np.zeros(0, np.bool_)
        new = self._tx.absent(table.table, pa.concat_tables(found))
        self.noted(name, new)
        stated = STATED.get(name, ()) if stated is None else stated
        if stated and not new.all():
            self.compare(name, ~new, stated, change)
        if not self._dry_run and new.any():
            whole = (importable(table.columns, change(p)) for p in pieces(self._bundle, name))
            self._tx.append_all(table.table, int(new.sum()), chosen(whole, new))
        return new

    def noted(self, name: str, new: np.ndarray) -> None:
        """Report which rows of a table are new."""
        n = int(new.sum())
        self._reporter.table(name, len(new), n, len(new) - n)

    # --- what differs --------------------------------------------------------------------

    def compare(
        self, name: str, known: np.ndarray, stated: Sequence[str], change: Change | None = None
    ) -> None:
        """Report the cells of rows that are there already and say something else.

        Args:
            name: of the table.
            known: which rows, bool (n,).
            stated: columns to compare.
            change: as for `take`.
        """
        table = table_named(name)
        change = change or (lambda rows: rows)
        columns = [*table.key, *stated]
        read = (change(p) for p in pieces(self._bundle, name, columns))
        for piece in chosen(read, known):
            if piece.num_rows:
                rows = importable(table.columns, piece)
                for conflict in self._differing(table.table, name, rows, stated):
                    self._reporter.conflict(conflict)

    def _differing(
        self, table: sa.Table, name: str, rows: pa.Table, stated: Sequence[str]
    ) -> Iterator[Conflict]:
        stage = self._tx.stage(table, rows)
        keys = [c.name for c in table.primary_key.columns]
        staged = sa.table(stage, *(sa.column(n, table.c[n].type) for n in (*keys, *stated)))
        query = (
            sa.select(
                *(table.c[k].label(f"key_{k}") for k in keys),
                *(table.c[n].label(f"ours_{n}") for n in stated),
                *(staged.c[n].label(f"theirs_{n}") for n in stated),
            )
            .join(staged, sa.and_(*(table.c[k] == staged.c[k] for k in keys)))
            .where(sa.or_(*(_differs(table.c[n], staged.c[n]) for n in stated)))
            .order_by(*(table.c[k] for k in keys))
        )
        for row in self._tx.execute(query).mappings():
            for attribute in stated:
                ours, theirs = row[f"ours_{attribute}"], row[f"theirs_{attribute}"]
                if not same(ours, theirs):
                    subject = {k: row[f"key_{k}"] for k in keys}
                    yield Conflict(name, subject, attribute, ours, theirs)
        self._tx.unstage(stage)

    # --- compositions --------------------------------------------------------------------

    def take_compositions(self) -> None:
        """Take in compositions with their elements, and verdicts on them.

        Verdicts under the standard recipes are worked out anew; where the bundle says otherwise,
        that is a conflict.
        """

        def batches() -> Iterator[tuple[np.ndarray, CompositionBatch]]:
            for piece in pieces(self._bundle, "composition", ["id", "reduced_formula"]):
                parsed = parse_formulas(piece.column("reduced_formula"))
                yield ids_of(piece.column("id")), parsed.batch.reduced()[0]

        own = tables.composition
        keys = [
            importable(own.columns, p) for p in pieces(self._bundle, "composition", ["id"])
        ] or [importable(own.columns, table_named("composition").schema.empty_table())]
        new = self._tx.absent(own, pa.concat_tables(keys).select(["id"]))
        self.noted("composition", new)
        self._compare_standard_verdicts()
        if not self._dry_run:
            merge_all_compositions(self._tx, batches)
        standard = pa.array([str(r["id"]) for r in cnen_recipes().values()])

        def others(rows: pa.Table) -> pa.Table:
            import pyarrow.compute as pc

            return rows.filter(pc.invert(pc.is_in(rows.column("recipe_id"), standard)))

        self.take("check_result", others)

    def _compare_standard_verdicts(self) -> None:
        columns = ["id", "reduced_formula", *CNEN]
        for piece in pieces(self._bundle, "composition", columns):
            batch = parse_formulas(piece.column("reduced_formula")).batch.reduced()[0]
            for name, verdicts in check_all(batch).items():
                stated = piece.column(name).to_numpy(zero_copy_only=False).astype(bool)
                for row in np.flatnonzero(stated != verdicts.passed).tolist():
                    subject = {
                        "recipe_id": str(cnen_recipes()[name]["id"]),
                        "subject_id": piece.column("id")[row].as_py(),
                    }
                    ours = bool(verdicts.passed[row])
                    self._reporter.conflict(
                        Conflict("check_result", subject, "passed", ours, not ours)
                    )

    # --- structures ----------------------------------------------------------------------

    def take_structures(self) -> None:
        """Take in structures and what is said of them; materials where there are none."""
        for name in _OF_STRUCTURES:
            self.take(name)
        self._take_materials()

    def _take_materials(self) -> None:
        """Take in the materials of recipes by which nothing was grouped here yet."""
        own = tables.material_member
        here = set(map(str, self._tx.connection.scalars(sa.select(own.c.recipe_id).distinct())))

        def wanted(rows: pa.Table) -> pa.Table:
            import pyarrow.compute as pc

            known = pc.is_in(rows.column("recipe_id"), pa.array(sorted(here), pa.string()))
            return rows.filter(pc.invert(known))

        self.take("material_member", wanted, stated=())

    def unidentified(self) -> int:
        """Return how many structures of the store have no keys, or keys but no material."""
        key, member = tables.structure_key, tables.material_member
        count = sa.select(sa.func.count())
        structures = self._tx.connection.scalar(count.select_from(tables.structure)) or 0
        if self._dry_run:
            structures += self._reporter.n_new("structure")
        keyed = self._tx.connection.scalar(
            count.select_from(key).where(
                key.c.recipe_id == key_recipe()["id"], key.c.error.is_not(None)
            )
        )
        grouped = self._tx.connection.scalar(count.select_from(member).where(member.c.standard))
        if self._dry_run:
            grouped = (grouped or 0) + self._reporter.n_new("material_member")
        return max(0, structures - (keyed or 0) - (grouped or 0))

    # --- entries -------------------------------------------------------------------------

    def take_entries(self) -> None:
        """Take in snapshots, entries, their other ids, and which snapshot holds which."""
        self._take_dated("source_snapshot", "imported_at")
        own = tables.entry
        keys = [importable(own.columns, p) for p in pieces(self._bundle, "entry", ["id"])]
        if keys:
            new = self._tx.absent(own, pa.concat_tables(keys))
            if new.any() and self._any(own):
                self._find_other_records(new)
        self.take("entry")
        for name in ("entry_alias", "snapshot_entry"):
            self.take(name)

    def _any(self, table: sa.Table) -> bool:
        return self._tx.execute(
            sa.select(sa.literal(1)).select_from(table).limit(1)
        ).first() is not (None)

    def _take_dated(self, name: str, column: str) -> None:
        """Take in rows that get the present moment in a column that bundles do not have."""
        table = table_named(name)
        keys = [importable(table.columns, p) for p in pieces(self._bundle, name, list(table.key))]
        if not keys:
            return
        new = self._tx.absent(table.table, pa.concat_tables(keys))
        self.noted(name, new)
        self.compare(name, ~new, STATED.get(name, ()))
        if self._dry_run:
            return
        moment = now()
        for piece in chosen(pieces(self._bundle, name), new):
            rows = importable(table.columns, piece)
            dated = rows.append_column(column, pa.array([moment] * len(rows), pa.timestamp("us")))
            self._tx.append(table.table, dated)

    def _find_other_records(self, new: np.ndarray) -> None:
        """Report new entries whose source and id another entry has that the bundle lacks."""
        own = tables.entry
        columns = ["id", "source", "external_id"]
        every = np.sort(
            np.concatenate(
                [
                    ids_of(p.column("id")).view("S16").reshape(-1)
                    for p in pieces(self._bundle, "entry", ["id"])
                ]
            )
        )
        n = 0
        examples: list[str] = []
        for piece in chosen(pieces(self._bundle, "entry", columns), new):
            named = piece.filter(piece.column("external_id").is_valid())
            if not named.num_rows:
                continue
            stage = self._tx.stage(own, importable(own.columns, named))
            staged = sa.table(stage, *(sa.column(c, own.c[c].type) for c in columns))
            both = sa.and_(
                own.c.source == staged.c.source, own.c.external_id == staged.c.external_id
            )
            query = sa.select(own.c.id.label("here"), staged.c.id.label("there"))
            pairs = fetch(self._tx.connection, query.join(staged, both))
            self._tx.unstage(stage)
            if not pairs.num_rows:
                continue
            here = ids_from_text(pairs.column("here")).view("S16").reshape(-1)
            place = np.minimum(np.searchsorted(every, here), len(every) - 1)
            rest = pairs.filter(pa.array(every[place] != here))
            n += len(set(rest.column("there").to_pylist()))
            few = rest.slice(0, _EXAMPLES - len(examples)).to_pylist()
            examples += [self._told(row["here"], row["there"]) for row in few]
        self._reporter.other_records(n, examples)

    def _told(self, here: str, there: str) -> str:
        """Say in words in what two entries differ."""
        import uuid

        import pyarrow.compute as pc

        own = tables.entry
        names = ("formula", *PROPERTIES, "structure_id", "extra")
        ours = self._tx.execute(own.select().where(own.c.id == uuid.UUID(here))).mappings().one()
        theirs: dict[str, Any] = {}
        for piece in pieces(self._bundle, "entry"):
            place = pc.index(piece.column("id"), there).as_py()
            if place >= 0:
                theirs = piece.slice(place, 1).to_pylist()[0]
        parts = [
            f"{name} {_brief(theirs[name])} there, {_brief(ours[name])} here"
            for name in names
            if not same(ours[name], theirs[name])
        ]
        return f"{ours['source']}:{_brief(ours['external_id'])} ({'; '.join(parts[:3])})"


# --- values ------------------------------------------------------------------------------


def _differs(ours: sa.ColumnElement[Any], theirs: sa.ColumnElement[Any]) -> sa.ColumnElement[bool]:
    """Return what finds rows that may differ; `same` decides."""
    if isinstance(ours.type, sa.Float):
        size = sa.func.greatest(sa.func.abs(ours), sa.func.abs(theirs))
        return sa.or_(ours.is_(None) != theirs.is_(None), sa.func.abs(ours - theirs) > CLOSE * size)
    if isinstance(ours.type, sa.JSON):
        return sa.cast(ours, sa.Text()).is_distinct_from(sa.cast(theirs, sa.Text()))
    return ours.is_distinct_from(theirs)


def same(ours: Any, theirs: Any) -> bool:
    """Say whether two values of a cell are the same."""
    if ours is None or theirs is None:
        return ours is theirs
    if isinstance(ours, (dict, list)) or isinstance(theirs, (dict, list)):
        return _document(ours) == _document(theirs)
    if isinstance(ours, float) or isinstance(theirs, float):
        one, other = float(ours), float(theirs)
        return one == other or abs(one - other) <= CLOSE * max(abs(one), abs(other))
    return str(ours) == str(theirs)


def _brief(value: Any) -> str:
    """Write a value in a few characters, none of which moves the cursor."""
    text = f"{value:.6g}" if isinstance(value, float) else printable(str(value))
    return text if len(text) <= _BRIEF else f"{text[:_BRIEF]}..."


def _document(value: Any) -> bytes:
    import json

    return canonical_json(json.loads(value) if isinstance(value, str) else value)
