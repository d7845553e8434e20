"""The tables of an OQMD dump, and what of them belongs to an entry, as queries.

The tables' meaning follows qmpy's models (https://github.com/wolverton-research-group/qmpy).
"""

from __future__ import annotations

import pyarrow as pa

LABELS = ("static", "standard", "relaxation", "fine_relax", "coarse_relax")
"""Labels of calculations with OQMD's own settings, the most exact first."""
INITIAL = ("input", "initialize")
"""Labels of structures as they were taken from where the entry comes from."""
FIT = "standard"
"""The set of reference energies that formation energies are relative to."""
MAX_ATOMS = 10_000
"""Most atoms of a structure that are read; no more make a crystal."""

LATTICE = [f"{row}{k}" for row in "xyz" for k in (1, 2, 3)]
"""Columns of the lattice vectors, row after row."""

_I, _F, _S = pa.int64(), pa.float64(), pa.string()
TABLES: dict[str, pa.Schema] = {
    name: pa.schema(list(columns.items()))
    for name, columns in {
        "atoms": {
            "id": _I, "structure_id": _I, "element_id": _S, "ox": _I,
            "x": _F, "y": _F, "z": _F, "occupancy": _F,
        },
        "authors": {"id": _I, "last": _S, "first": _S},
        "calculations": {
            "id": _I, "label": _S, "entry_id": _I, "output_id": _I, "energy_pa": _F,
            "magmom": _F, "magmom_pa": _F, "band_gap": _F, "converged": _I,
        },
        "entries": {
            "id": _I, "path": _S, "label": _S, "duplicate_of_id": _I, "delta_e": _F,
            "stability": _F, "composition_id": _S, "reference_id": _I, "prototype_id": _S,
            "ntypes": _I, "natoms": _I, "n": _I, "line": _I,
        },
        "formation_energies": {
            "id": _I, "entry_id": _I, "calculation_id": _I, "fit_id": _S, "stability": _F,
            "delta_e": _F,
        },
        "journals": {"id": _I, "name": _S},
        "publications": {
            "id": _I, "journal_id": _I, "title": _S, "page_first": _I, "page_last": _I,
            "year": _I, "volume": _I,
        },
        "publications_author_set": {"id": _I, "reference_id": _I, "author_id": _I},
        "structures": {
            "id": _I, "entry_id": _I, "label": _S, "measured": _I, "natoms": _I,
            **dict.fromkeys(LATTICE, _F), "spacegroup_id": _I, "volume_pa": _F,
        },
    }.items()
}  # fmt: skip
"""The columns that are read of each table; ``n`` and ``line`` are numbers given to the entries."""

_SEVERAL = len(LABELS)
_LOW = (1 << 40) - 1


def _rank(table: str) -> str:
    cases = " ".join(f"WHEN '{label}' THEN {rank}" for rank, label in enumerate(LABELS))
    return f"(CASE {table}.label {cases} ELSE {_SEVERAL} END)::BIGINT"


# Every step joins one large table with one of a few numbers per entry, so that memory does for it.
# A key is a rank and, in its lower 40 bits, an id: the smallest is the best, then the first.
STEPS = {
    "numbered": """
        SELECT min(n) AS n, id FROM entries WHERE id IS NOT NULL GROUP BY id ORDER BY n
    """,
    "labelled": f"""
        SELECT c.id, c.entry_id, c.output_id, c.converged, {_rank("c")} AS rank
        FROM calculations c WHERE c.id BETWEEN 0 AND {_LOW}
    """,
    # the formation energy of each entry, and the calculation that it is of
    "energy": f"""
        SELECT entry_id, min(key) & {_LOW} AS id FROM (
            SELECT f.entry_id,
                ((f.delta_e IS NULL)::BIGINT << 50) | (coalesce(c.rank, 9) << 40) | f.id AS key
            FROM formation_energies f LEFT JOIN labelled c ON c.id = f.calculation_id
            WHERE f.fit_id = '{FIT}' AND f.id BETWEEN 0 AND {_LOW}
        ) GROUP BY entry_id
    """,
    "sorted_energies": """
        SELECT e.n, f.id, f.calculation_id, f.delta_e, f.stability
        FROM formation_energies f JOIN energy g ON g.id = f.id JOIN numbered e ON e.id = g.entry_id
        ORDER BY e.n
    """,
    # the structure of each entry
    "usable": """
        SELECT c.* FROM labelled c WHERE EXISTS (FROM structures s WHERE s.id = c.output_id)
    """,
    "choice": f"""
        SELECT n, min(key) AS key FROM (
            SELECT g.n, c.id AS key FROM usable c JOIN sorted_energies g ON g.calculation_id = c.id
            UNION ALL
            SELECT e.n, ((1 + c.rank) << 40) | c.id
            FROM usable c JOIN numbered e ON e.id = c.entry_id
            WHERE c.converged = 1 AND c.rank < {_SEVERAL}
            UNION ALL
            SELECT e.n, ((CASE s.label WHEN '{INITIAL[0]}' THEN 10 WHEN '{INITIAL[1]}' THEN 11
            ELSE 20 + {_rank("s")} END)::BIGINT << 40) | s.id
            FROM structures s JOIN numbered e ON e.id = s.entry_id
            WHERE s.id BETWEEN 0 AND {_LOW}
        ) GROUP BY n
    """,
    "placed": f"""
        SELECT h.n, h.key & {_LOW} AS structure_id FROM choice h WHERE h.key >> 40 >= 10
        UNION
        SELECT h.n, c.output_id FROM usable c JOIN choice h
        ON c.id = CASE WHEN h.key >> 40 < 10 THEN h.key & {_LOW} END
    """,
    "calculated": f"""
        SELECT n, calculation_id AS id FROM sorted_energies WHERE calculation_id IS NOT NULL
        UNION
        SELECT n, key & {_LOW} FROM choice WHERE key >> 40 BETWEEN 1 AND 9
        AND n NOT IN (SELECT n FROM sorted_energies WHERE calculation_id IS NOT NULL)
    """,
    # what is read of the two
    "sorted_calculations": """
        SELECT c.n, k.id, k.label, k.converged, k.energy_pa, k.band_gap, k.magmom, k.magmom_pa
        FROM calculations k JOIN calculated c ON c.id = k.id ORDER BY c.n
    """,
    "sorted_structures": f"""
        SELECT p.n, s.id, s.label, s.measured, s.natoms, s.spacegroup_id, s.volume_pa,
            {", ".join(f"s.{name}" for name in LATTICE)}
        FROM structures s JOIN placed p ON p.structure_id = s.id ORDER BY p.n
    """,
    "sizes": """
        SELECT p.n, count(*) AS atoms
        FROM atoms a JOIN placed p ON p.structure_id = a.structure_id GROUP BY p.n ORDER BY p.n
    """,
    "readable": f"""
        SELECT p.* FROM placed p JOIN sizes z USING (n) WHERE z.atoms <= {MAX_ATOMS}
    """,
    "sorted_atoms": """
        SELECT p.n, a.id, a.x, a.y, a.z, coalesce(a.element_id, '?') ||
            CASE WHEN a.ox IS NULL THEN ''
            ELSE abs(a.ox) || CASE WHEN a.ox < 0 THEN '-' ELSE '+' END END ||
            CASE WHEN a.occupancy = 1 THEN '' ELSE ':' || coalesce(a.occupancy::VARCHAR, '?') END
            AS species
        FROM atoms a JOIN readable p ON p.structure_id = a.structure_id ORDER BY p.n, a.id
    """,
    "sorted_entries": """
        SELECT e.* FROM entries e JOIN numbered m USING (n) ORDER BY n
    """,
    "literature": """
        SELECT p.id, struct_pack(title := p.title, journal := j.name, year := p.year,
            volume := p.volume, page_first := p.page_first, page_last := p.page_last,
            authors := w.names) AS reference
        FROM publications p LEFT JOIN journals j ON j.id = p.journal_id LEFT JOIN (
            SELECT s.reference_id, list(concat_ws(', ', a.last, a.first) ORDER BY s.id) AS names
            FROM publications_author_set s JOIN authors a ON a.id = s.author_id
            GROUP BY s.reference_id
        ) w ON w.reference_id = p.id
    """,
    "cited": """
        SELECT e.n, r.reference FROM entries e JOIN literature r ON r.id = e.reference_id
        ORDER BY e.n
    """,
}
"""Queries to run one after the other; the result of each is a table for those that follow."""
