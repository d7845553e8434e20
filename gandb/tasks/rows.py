"""Rows of the tables that every task writes: compositions, their elements, recipes, verdicts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any
from uuid import UUID

import numpy as np
import pyarrow as pa

from gandb.core.compositions import CompositionBatch, uuid_array
from gandb.core.elements import SYMBOLS
from gandb.core.ids import Domain, content_id, json_id
from gandb.core.kernels import hash_rows
from gandb.schema import tables
from gandb.store import Transaction
from gandb.validation.charge import CNEN, REASONS, RULES, Verdicts, check_all

_TAG = 16
_SYMBOLS = pa.array(SYMBOLS)
_REASONS = pa.array([REASONS[code] for code in sorted(REASONS)])


def recipe_row(check_name: str, version: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return the row of a recipe, with its content id."""
    content = {"check": check_name, "version": version, "parameters": dict(parameters)}
    return {
        "id": json_id(Domain.RECIPE, content),
        "check_name": check_name,
        "version": version,
        "parameters": dict(parameters),
    }


@cache
def cnen_recipes() -> dict[str, dict[str, Any]]:
    """Return the recipe rows of the standard charge checks, by name."""
    return {name: recipe_row(name, RULES[name].version, RULES[name].parameters) for name in CNEN}


def repeat_id(value: UUID, n: int) -> pa.ExtensionArray:
    """Return one id n times, as an Arrow UUID array."""
    return uuid_array(np.tile(np.frombuffer(value.bytes, np.uint8), (n, 1)))


def fact_columns(batch: CompositionBatch) -> dict[str, pa.Array]:
    """Return the columns that follow from reduced compositions alone."""
    return {
        "reduced_formula": batch.reduced_formulas(),
        "chemical_system": batch.chemical_systems(),
        "anonymous_formula": batch.anonymous_formulas(),
        "elements": batch.element_lists(),
        "n_elements": pa.array(batch.n_elements.astype(np.int16)),
        "n_atoms": pa.array(batch.n_atoms.astype(np.int32)),
    }


def element_rows(ids: np.ndarray, batch: CompositionBatch) -> pa.Table:
    """Return the rows of ``composition_element`` for reduced compositions and their ids."""
    n = batch.n_elements
    atoms = np.repeat(batch.n_atoms, n)
    return pa.table(
        {
            "composition_id": uuid_array(np.repeat(ids, n, axis=0)),
            "element": _SYMBOLS.take(pa.array(batch.atomic_numbers)),
            "atomic_number": pa.array(batch.atomic_numbers.astype(np.int16)),
            "n_atoms": pa.array(batch.counts.astype(np.int32)),
            "fraction": pa.array(batch.counts / atoms),
        }
    )


def verdict_rows(recipe_id: UUID, ids: np.ndarray, verdicts: Verdicts) -> pa.Table:
    """Return the rows of ``check_result`` for one recipe."""
    return pa.table(
        {
            "recipe_id": repeat_id(recipe_id, len(ids)),
            "subject_id": uuid_array(ids),
            "passed": pa.array(verdicts.passed),
            "reason": _REASONS.take(pa.array(verdicts.reason)),
        }
    )


@dataclass(frozen=True)
class Compositions:
    """Distinct reduced compositions with all that follows from them.

    Attributes:
        ids: uint8 (n, 16), distinct.
        batch: the n compositions.
        facts: `fact_columns` of them.
        verdicts: the standard charge checks of them, by name.
    """

    ids: np.ndarray
    batch: CompositionBatch
    facts: Mapping[str, pa.Array]
    verdicts: Mapping[str, Verdicts]

    @classmethod
    def of(cls, ids: np.ndarray, batch: CompositionBatch) -> Compositions:
        """Work out facts and verdicts; it takes time, so do it outside a transaction."""
        return cls(ids, batch, fact_columns(batch), check_all(batch))


def merge_compositions(tx: Transaction, new: Compositions) -> None:
    """Take in compositions with their elements and standard verdicts.

    A composition enters with all of these in one transaction, so only its own key is looked up.
    """
    rows = composition_rows(new)
    absent = tx.absent(tables.composition, rows)
    mask, places = pa.array(absent), np.flatnonzero(absent)
    ids = new.ids[places]
    tx.append(tables.composition, rows.filter(mask))
    tx.append(tables.composition_element, element_rows(ids, new.batch.take(places)))
    for recipe in cnen_recipes().values():
        tx.insert_new(tables.recipe, recipe)
    verdicts = [
        verdict_rows(recipe["id"], new.ids, new.verdicts[name]).filter(mask)
        for name, recipe in cnen_recipes().items()
    ]
    tx.append(tables.check_result, pa.concat_tables(verdicts))


def merge_all_compositions(
    tx: Transaction, pieces: Callable[[], Iterable[tuple[np.ndarray, CompositionBatch]]]
) -> None:
    """Do the same with more compositions than memory should hold.

    Args:
        tx: takes them in.
        pieces: gives ids and compositions piece by piece, the same ones whenever it is called; a
            composition may occur again.
    """
    keys = (pa.table({"id": uuid_array(ids)}) for ids, _ in pieces())
    fresh = tx.fresh(tables.composition, keys)

    def new() -> Iterator[tuple[np.ndarray, CompositionBatch]]:
        begin = 0
        for ids, batch in pieces():
            places = np.flatnonzero(fresh[begin : begin + len(ids)])
            begin += len(ids)
            if len(places):
                yield ids[places], batch.take(places)

    n = int(fresh.sum())
    rows = (composition_rows(Compositions.of(*piece)) for piece in new())
    tx.append_all(tables.composition, n, rows)
    tx.append_all(tables.composition_element, 3 * n, (element_rows(*piece) for piece in new()))
    verdicts = (standard_verdict_rows(ids, check_all(batch)) for ids, batch in new())
    for recipe in cnen_recipes().values():
        tx.insert_new(tables.recipe, recipe)
    tx.append_all(tables.check_result, len(CNEN) * n, verdicts)


def composition_rows(compositions: Compositions) -> pa.Table:
    """Return the rows of ``composition``."""
    verdicts = {name: pa.array(v.passed) for name, v in compositions.verdicts.items()}
    return pa.table({"id": uuid_array(compositions.ids), **compositions.facts} | verdicts)


def standard_verdict_rows(ids: np.ndarray, verdicts: Mapping[str, Verdicts]) -> pa.Table:
    """Return the rows of ``check_result`` for all standard recipes."""
    recipes = cnen_recipes().items()
    return pa.concat_tables([verdict_rows(r["id"], ids, verdicts[name]) for name, r in recipes])


def entry_ids(
    source: str,
    composition_ids: np.ndarray,
    ordinals: np.ndarray,
    properties: Mapping[str, np.ndarray],
    *,
    external_ids: Sequence[str | None] | None = None,
    extra: Sequence[str | None] | None = None,
    structure_ids: Sequence[UUID | None] | None = None,
    structures: tuple[np.ndarray, np.ndarray] | None = None,
) -> np.ndarray:
    """Return the content ids of n entries, uint8 (n, 16).

    Source, composition and ordinal, then external id and extra, then every property that is stated,
    by name, then the structure. What is absent does not count, so that ids outlive properties added
    later.

    Args:
        source: name of the source.
        composition_ids: uint8 (n, 16).
        ordinals: int32 (n,).
        properties: name to float64 (n,), NaN where missing.
        external_ids: n texts, None where there is none.
        extra: n canonical JSON texts, None where there is none.
        structure_ids: n ids, None where there is no structure.
        structures: the same as arrays: uint8 (n, 16), and where there is one, bool (n,).
    """
    n = len(composition_ids)
    text = np.zeros((n, _TAG), np.uint8)
    if external_ids is not None or extra is not None:
        nothing: Sequence[str | None] = [None] * n
        pairs = zip(external_ids or nothing, extra or nothing, strict=True)
        digests = (
            content_id(Domain.ENTRY, f"{external or ''}\x00{more or ''}".encode()).bytes
            for external, more in pairs
        )
        text = np.frombuffer(b"".join(digests), np.uint8).reshape(n, _TAG)
    numbers = np.ascontiguousarray(ordinals, "<i4").view(np.uint8).reshape(n, 4)
    ids = hash_rows(np.hstack([_tag(source, n), composition_ids, text, numbers]), Domain.ENTRY)
    for name in sorted(properties):
        stated = ~np.isnan(properties[name])
        if not stated.any():
            continue
        plain = (properties[name][stated] + 0.0).astype("<f8")  # -0.0 and 0.0 are one value
        raw = np.ascontiguousarray(plain).view(np.uint8).reshape(-1, 8)
        chain = np.hstack([ids[stated], _tag(name, len(raw)), raw])
        ids[stated] = hash_rows(chain, Domain.ENTRY)
    if structure_ids is not None and any(structure_ids):
        raw = np.frombuffer(
            b"".join(s.bytes if s else bytes(_TAG) for s in structure_ids), np.uint8
        )
        structures = raw.reshape(-1, _TAG), np.array([s is not None for s in structure_ids])
    if structures is not None and structures[1].any():
        own, stated = structures
        chain = np.hstack([ids[stated], _tag("structure", int(stated.sum())), own[stated]])
        ids[stated] = hash_rows(chain, Domain.ENTRY)
    return ids


def _tag(name: str, n: int) -> np.ndarray:
    tag = content_id(Domain.ENTRY, name.encode()).bytes
    return np.tile(np.frombuffer(tag, np.uint8), (n, 1))
