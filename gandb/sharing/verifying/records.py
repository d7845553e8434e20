"""Ids and facts of the large tables, worked out again for many rows at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gandb.core.compositions import CompositionBatch
from gandb.core.crystal_batches import CrystalBatch
from gandb.core.elements import ATOMIC_NUMBERS
from gandb.core.errors import InputError
from gandb.core.formula import parse_formulas
from gandb.core.ids import Domain
from gandb.core.kernels import hash_rows
from gandb.core.units import PROPERTIES
from gandb.identity.evidence import METHODS
from gandb.sharing.verifying.values import FlawError, flag, ids_of, shown
from gandb.tasks.rows import entry_ids, fact_columns

_CELL = ("a", "b", "c", "alpha", "beta", "gamma")
_CLOSE = 1e-9
_FACTS = ("chemical_system", "anonymous_formula", "elements", "n_elements", "n_atoms")
_WORD = r"[\p{L}\p{N}_-]{1,64}"


# --- compositions ------------------------------------------------------------------------


def _check_compositions(rows: pa.Table) -> None:
    formulas = rows.column("reduced_formula")
    batch = _parsed(formulas)
    _same_ids(rows, batch.ids(), formulas)
    facts = {"reduced_formula": batch.reduced_formulas(), **fact_columns(batch)}
    for name in ("reduced_formula", *_FACTS):
        _same_fact(name, rows.column(name), facts[name])


def _parsed(formulas: pa.ChunkedArray) -> CompositionBatch:
    parsed = parse_formulas(formulas)
    if parsed.rejects:
        row, reason = parsed.rejects[0]
        raise FlawError(row, f"the formula {shown(formulas[row].as_py())} cannot be read: {reason}")
    return parsed.batch.reduced()[0]


def _same_ids(rows: pa.Table, expected: np.ndarray, names: pa.ChunkedArray) -> None:
    wrong = (ids_of(rows.column("id")) != expected).any(axis=1)
    flag(wrong, "its id is not that of its content ({})", names)


def _same_fact(name: str, stated: pa.ChunkedArray, fact: pa.Array) -> None:
    plain = stated.combine_chunks()
    if pa.types.is_list(plain.type):
        wrong = _lists_differ(plain, fact)
    else:
        wrong = pc.not_equal(plain, fact.cast(plain.type)).to_numpy(zero_copy_only=False)
    flag(wrong, f"{name}: {{}} does not follow from its formula", plain)


def _lists_differ(one: pa.ListArray, other: pa.ListArray) -> np.ndarray:
    lengths = pc.list_value_length(one).to_numpy(), pc.list_value_length(other).to_numpy()
    wrong: np.ndarray = lengths[0] != lengths[1]
    if wrong.any():
        return wrong
    same = pc.equal(pc.list_flatten(one), pc.list_flatten(other).cast(one.type.value_type))
    places = np.flatnonzero(~same.to_numpy(zero_copy_only=False))
    wrong[pc.list_parent_indices(one).to_numpy()[places]] = True
    return wrong


def element_batches(ids: np.ndarray, rows: pa.Table) -> tuple[CompositionBatch, np.ndarray]:
    """Put the elements of compositions together, sorted by atomic number.

    Args:
        ids: uint8 (m, 16), whose element each row is; rows of one composition stand together.
        rows: of ``composition_element``.

    Returns:
        the n compositions, and the first row of each, int64 (n,).

    Raises:
        FlawError: an element or a fraction is not what it should be.
    """
    numbers = rows.column("atomic_number").to_numpy().astype(np.int64)
    symbols = rows.column("element")
    known = pc.index_in(symbols, value_set=pa.array(list(ATOMIC_NUMBERS)))
    flag(pc.is_null(known), "there is no element {}", symbols)
    z = np.array(list(ATOMIC_NUMBERS.values()))[known.to_numpy()]
    flag(z != numbers, "the atomic number is not that of {}", symbols)
    counts = rows.column("n_atoms").to_numpy().astype(np.int64)
    flag((counts < 1) | (counts > 65_535), "its number of atoms cannot be")
    begins = np.flatnonzero(np.append(True, (ids[1:] != ids[:-1]).any(axis=1)))
    offsets = np.append(begins, len(ids)).astype(np.int64)
    of = np.repeat(np.arange(len(begins)), np.diff(offsets))
    total = np.add.reduceat(counts, begins)
    fractions = rows.column("fraction").to_numpy()
    flag(np.abs(fractions - counts / total[of]) > _CLOSE, "its fraction is not that of its atoms")
    order = np.lexsort((numbers, of))
    batch = CompositionBatch(
        offsets, numbers[order].astype(np.uint8), counts[order].astype(np.uint16)
    )
    return batch, begins


# --- structures --------------------------------------------------------------------------


def crystal_batch(rows: pa.Table) -> CrystalBatch:
    """Take structures out of rows of ``structure``.

    Raises:
        FlawError: coordinates and species do not fit together.
    """
    species = rows.column("species").combine_chunks()
    coords = rows.column("frac_coords").combine_chunks()
    sites = pc.list_value_length(species).to_numpy()
    flag(pc.list_value_length(coords).to_numpy() != 3 * sites, "not three coordinates to a site")
    texts = pc.list_flatten(species).dictionary_encode()
    offsets = np.zeros(len(rows) + 1, np.int64)
    np.cumsum(sites, out=offsets[1:])
    cells = [rows.column(name).to_numpy() for name in _CELL]
    charges = rows.column("charge").combine_chunks()
    return CrystalBatch(
        cells=np.stack(cells, axis=1),
        offsets=offsets,
        texts=texts.dictionary.to_pylist(),
        codes=texts.indices.to_numpy().astype(np.int32),
        frac_coords=pc.list_flatten(coords).to_numpy().reshape(-1, 3),
        properties=rows.column("site_properties").to_pylist(),
        charges=charges.to_numpy(zero_copy_only=False).astype(np.float64),
    )


def _check_structures(rows: pa.Table) -> None:
    batch = crystal_batch(rows)
    ids = rows.column("id")
    n_sites = rows.column("n_sites").to_numpy()
    flag(n_sites != np.diff(batch.offsets), "n_sites is not the number of its sites")
    if (problem := batch.first_problem()) is not None:
        row, reason = problem
        raise FlawError(row, f"the structure {shown(ids[row].as_py())}: {reason}")
    _same_ids(rows, batch.ids(), ids)
    flag(rows.column("ordered").to_numpy() != batch.ordered, "ordered is not what its sites say")
    volumes = rows.column("volume").to_numpy()
    flag(
        np.abs(volumes - batch.volumes) > 1e-6 * batch.volumes, "its volume is not that of its cell"
    )
    try:
        compositions = batch.composition_ids()
    except InputError as error:
        raise FlawError(None, f"a structure is none: {error}") from error
    own = ids_of(rows.column("composition_id"))
    flag((own != compositions).any(axis=1), "the structure {} has another composition", ids)


# --- entries -----------------------------------------------------------------------------


def _check_entries(rows: pa.Table) -> None:
    sources = rows.column("source")
    flag(
        pc.invert(pc.match_substring_regex(sources, f"^{_WORD}$")),
        "{} is no name of a source",
        sources,
    )
    formulas = rows.column("formula")
    compositions = ids_of(rows.column("composition_id"))
    own = _parsed(formulas).ids()
    flag((own != compositions).any(axis=1), "the formula {} is of another composition", formulas)
    structures = rows.column("structure_id")
    raw = ids_of(structures)
    stated = np.asarray(structures.is_valid())
    ordinals = rows.column("ordinal").to_numpy().astype(np.int32)
    numbers = {
        p: rows.column(p).combine_chunks().to_numpy(zero_copy_only=False).astype(np.float64)
        for p in PROPERTIES
    }
    external, extra = rows.column("external_id").to_pylist(), rows.column("extra").to_pylist()
    ids = ids_of(rows.column("id"))
    wrong = np.ones(len(rows), bool)
    for source in pc.unique(sources).to_pylist():
        chosen = np.flatnonzero(pc.equal(sources, source).to_numpy())
        for texts in (True, False):  # a table without columns of texts is not one of empty texts
            listed = chosen.tolist()
            if not texts:
                listed = [i for i in listed if external[i] is None and extra[i] is None]
            own = np.array(listed, np.int64)
            expected = entry_ids(
                source,
                compositions[own],
                ordinals[own],
                {name: values[own] for name, values in numbers.items()},
                external_ids=[external[i] for i in listed] if texts else None,
                extra=[extra[i] for i in listed] if texts else None,
                structures=(raw[own], stated[own]),
            )
            wrong[own[(expected == ids[own]).all(axis=1)]] = False
    flag(wrong, "its id is not that of its content ({})", formulas)


# --- candidates and comparisons ----------------------------------------------------------


def _check_candidates(rows: pa.Table) -> None:
    structures = rows.column("structure_id")
    stated = np.asarray(structures.is_valid())
    subjects = ids_of(rows.column("composition_id"))
    subjects[stated] = ids_of(structures)[stated]
    content = np.hstack([ids_of(rows.column("checkpoint_id")), subjects])
    _same_ids(rows, hash_rows(content, Domain.CANDIDATE), rows.column("reduced_formula"))


def _check_keys(rows: pa.Table) -> None:
    from gandb.identity.cells import Reduced

    cells, sites = rows.column("cell").to_pylist(), rows.column("n_reduced").to_pylist()
    errors, amd = rows.column("error"), rows.column("amd")
    there = pc.is_valid(rows.column("cell"))
    flag(pc.equal(there, pc.is_valid(errors)), "it has both a cell and an error, or neither")
    for name in ("n_reduced", "volume_per_site", "amd"):
        flag(pc.not_equal(there, pc.is_valid(rows.column(name))), f"{name} and cell do not fit")
    lengths = pc.unique(pc.list_value_length(amd).drop_null())
    if len(lengths) > 1:
        raise FlawError(None, "lists of average minimum distances differ in length")
    for row, (cell, n) in enumerate(zip(cells, sites, strict=True)):
        if cell is None:
            continue
        try:
            found = Reduced.from_bytes(cell)
        except InputError as error:
            raise FlawError(row, f"its reduced cell cannot be read: {error}") from error
        if len(found) != n or not np.isfinite(found.lattice).all() or not found.volume > 0:
            raise FlawError(row, "its reduced cell is none, or has other sites than n_reduced says")
        if not np.isfinite(found.frac_coords).all():
            raise FlawError(row, "its reduced cell has coordinates that are no numbers")


def _check_comparisons(rows: pa.Table) -> None:
    flag(
        pc.greater_equal(rows.column("structure_a"), rows.column("structure_b")),
        "structure_a is not the smaller of the two ids",
    )
    said = pc.or_(
        pc.fill_null(rows.column("forward"), False), pc.fill_null(rows.column("backward"), False)
    )
    matched = rows.column("matched")
    flag(pc.not_equal(matched, said), "matched does not follow from forward and backward")
    for name in ("rms", "max_distance"):
        there = pc.is_valid(rows.column(name))
        flag(pc.not_equal(matched, there), f"it has no {name}, or one without a match")
        flag(pc.less(rows.column(name), 0.0), f"{name} is below 0")
    methods = rows.column("method")
    flag(pc.is_null(pc.index_in(methods, value_set=pa.array(METHODS))), "no method {}", methods)


def _check_novelty(rows: pa.Table) -> None:
    level = rows.column("level")
    judged, failed = pc.is_valid(level), pc.is_valid(rows.column("error"))
    flag(pc.equal(judged, failed), "it has both a grade and an error, or neither")
    for name, wanted in (("representative_id", judged), ("reference_structure_id", _named(level))):
        there = pc.is_valid(rows.column(name))  # it may be missing: see `bundles.packing`
        flag(pc.and_(there, pc.invert(wanted)), f"its grade has no {name}")


def _check_relaxations(rows: pa.Table) -> None:
    there, failed = pc.is_valid(rows.column("relaxed_id")), pc.is_valid(rows.column("error"))
    flag(pc.equal(there, failed), "it has both a relaxed structure and an error, or neither")
    for name in ("energy_per_atom", "converged", "n_steps"):
        given = pc.is_valid(rows.column(name))
        flag(pc.and_(there, pc.invert(given)), f"it has a relaxed structure, but no {name}")
    for name in ("max_force", "max_stress", "rmsd", "n_steps"):
        flag(pc.less(rows.column(name), 0), f"{name} is below 0")


def _named(level: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.fill_null(pc.or_(pc.equal(level, 0), pc.equal(level, 3)), False)


RECORD_CHECKS: Mapping[str, Callable[[pa.Table], None]] = {
    "composition": _check_compositions,
    "structure": _check_structures,
    "entry": _check_entries,
    "candidate": _check_candidates,
    "structure_key": _check_keys,
    "relaxation": _check_relaxations,
    "comparison": _check_comparisons,
    "candidate_novelty": _check_novelty,
}
"""What is checked of a row group beyond its values, by table."""
