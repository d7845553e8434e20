"""Small structures, and whole files of them in every format: what `tests.broken` breaks.

A draft may hold anything where a number or symbol belongs, so that it can be written broken.
"""

from __future__ import annotations

import csv
import io
import json
import sqlite3
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from gandb.core.crystals import Crystal, crystal
from gandb.core.elements import ATOMIC_NUMBERS

METALS = "Li Na K Mg Ca Sr Ba Al Ti V Cr Mn Fe Co Ni Cu Zn Y Zr La".split()
OTHERS = "O S Se F Cl Br N P As C".split()
PLACES = ((0.0, 0.0, 0.0), (0.5, 0.5, 0.0), (0.5, 0.0, 0.5), (0.0, 0.5, 0.5))


@dataclass(frozen=True)
class Draft:
    """A structure of four sites, A2B2.

    Attributes:
        number: which one it is; no two have the same cell.
        cell: a, b, c in Å, alpha, beta, gamma in degrees.
        lattice: the same as vectors, rows.
        species: what sits on each site.
        coords: fractional.
        shares: occupancies.
        without: names of fields that are left out.
        instead: names of fields to what stands in their place.
    """

    number: int
    cell: list[Any]
    lattice: list[list[Any]]
    species: list[Any]
    coords: list[Any]
    shares: list[Any]
    without: frozenset[str] = frozenset()
    instead: dict[str, Any] = field(default_factory=dict)

    @property
    def pair(self) -> tuple[str, str]:
        return METALS[self.number % 20], OTHERS[self.number // 20 % 10]

    def crystal(self) -> Crystal:
        return crystal(self.cell[:3], self.cell[3:], self.species, self.coords)

    def fields(self, named: dict[str, Any]) -> dict[str, Any]:
        """Fields of a JSON object, some of them broken."""
        return {k: self.instead.get(k, v) for k, v in named.items() if k not in self.without}


def draft(number: int) -> Draft:
    """A good one."""
    a = round(4.0 + number * 0.001, 3)
    edges = [a, round(a + 0.25, 3), round(a + 0.5, 3)]
    lattice = [[e if i == j else 0.0 for j in range(3)] for i, e in enumerate(edges)]
    metal, other = METALS[number % 20], OTHERS[number // 20 % 10]
    species = [metal, metal, other, other]
    coords = [list(place) for place in PLACES]
    return Draft(number, [*edges, 90.0, 90.0, 90.0], lattice, species, coords, [1.0] * 4)


def cartesian(of: Draft) -> list[Any]:
    """Cartesian coordinates, for the lattices are diagonal; what is no number stays."""
    found: list[Any] = []
    for row in of.coords:
        if not isinstance(row, list):
            found.append(row)
            continue
        edges = of.cell[:3]
        found.append(
            [
                x * edges[j] if isinstance(x, float) and isinstance(edges[j % 3], float) else x
                for j, x in zip([0, 1, 2, 0], row, strict=False)
            ]
        )
    return found


def flat(values: Any, blank: str = "") -> str:
    """Values in one line of text."""
    if not isinstance(values, list | tuple):
        return blank if values is None else str(values)
    return " ".join(flat(value, blank) for value in values)


# --- text ----------------------------------------------------------------------------------

CELL = tuple(f"_cell_length_{x}" for x in "abc") + tuple(
    f"_cell_angle_{x}" for x in ("alpha", "beta", "gamma")
)


def cif(of: Draft) -> str:
    metal, other = of.pair
    lines = [f"data_x{of.number}"]
    tags = zip(CELL, of.cell, strict=True)
    lines += [f"{tag} {flat(value, '?')}" for tag, value in tags if tag not in of.without]
    lines += ["_symmetry_space_group_name_H-M 'P 1'", f"_chemical_formula_sum '{metal}2 {other}2'"]
    known = ("label", "type_symbol", "fract_x", "fract_y", "fract_z", "occupancy")
    columns: Any = [c for c in known if c not in of.without]
    lines += ["loop_", *(f"_atom_site_{column}" for column in columns)]
    for i, (what, row, share) in enumerate(zip(of.species, of.coords, of.shares, strict=False)):
        values = (f"{what or 'Q'}{i}", "''" if what == "" else what, *row, share)
        cells = dict(zip(columns if len(row) == 3 else range(9), values, strict=False))
        lines.append(" ".join(flat(value, ".") for value in cells.values()))
    return "\n".join(lines) + "\n"


def poscar(of: Draft) -> str:
    names = list(dict.fromkeys(str(s) for s in of.species))
    counts = [sum(str(s) == name for s in of.species) for name in names]
    lines = [f"x{of.number}", "1.0", *(flat(row) for row in of.lattice)]
    if "names" not in of.without:
        lines.append(" ".join(names))
    lines.append(flat(of.instead.get("counts", counts)))
    if "mode" not in of.without:
        lines.append("Direct")
    return "\n".join([*lines, *(flat(row) for row in of.coords)]) + "\n"


def extxyz(of: Draft) -> str:
    lattice = "" if "lattice" in of.without else f'Lattice="{flat(of.lattice)}" '
    count = of.instead.get("counts", len(of.species))
    lines = [flat(count), f'{lattice}Properties=species:S:1:pos:R:3 pbc="T T T"']
    rows = zip(of.species, cartesian(of), strict=False)
    return "\n".join([*lines, *(f"{what} {flat(row)}" for what, row in rows)]) + "\n"


# --- JSON ----------------------------------------------------------------------------------


def pymatgen(of: Draft) -> dict[str, Any]:
    sites = [
        of.fields(
            {
                "species": [of.fields({"element": what, "occu": share})],
                "abc": row,
                "properties": {},
            }
        )
        for what, row, share in zip(of.species, of.coords, of.shares, strict=False)
    ]
    return of.fields(
        {
            "@module": "pymatgen.core.structure",
            "@class": "Structure",
            "lattice": of.fields({"matrix": of.lattice, "pbc": [True] * 3}),
            "sites": sites,
        }
    )


def pymatgen_parameters(of: Draft) -> dict[str, Any]:
    """As pymatgen writes it, with a lattice of parameters alone."""
    found = pymatgen(of)
    names = ("a", "b", "c", "alpha", "beta", "gamma")
    if "lattice" not in of.instead and "lattice" not in of.without:
        found["lattice"] = of.fields(dict(zip(names, of.cell, strict=True)))
    return found


def optimade(of: Draft) -> dict[str, Any]:
    species = [
        of.fields({"name": f"s{i}", "chemical_symbols": [what], "concentration": [share]})
        for i, (what, share) in enumerate(zip(of.species, of.shares, strict=True))
    ]
    attributes = of.fields(
        {
            "lattice_vectors": of.lattice,
            "cartesian_site_positions": cartesian(of),
            "species_at_sites": [f"s{i}" for i in range(len(of.species))],
            "species": species,
            "dimension_types": [1, 1, 1],
        }
    )
    return of.fields({"id": f"x{of.number}", "type": "structures", "attributes": attributes})


def oqmd(of: Draft) -> dict[str, Any]:
    metal, other = of.pair
    rows = zip(of.species, of.coords, strict=False)
    return of.fields(
        {
            "entry_id": of.number,
            "delta_e": -0.5,
            "composition": f"{metal}2 {other}2",
            "unit_cell": of.lattice,
            "sites": [f"{what} @ {flat(row)}" for what, row in rows],
        }
    )


def mp_summary(of: Draft) -> dict[str, Any]:
    return of.fields(
        {
            "material_id": f"mp-{of.number}",
            "formula_pretty": "".join(of.pair),
            "energy_above_hull": 0.25,
            "structure": pymatgen(of),
        }
    )


def computed(of: Draft) -> dict[str, Any]:
    return of.fields(
        {
            "@module": "pymatgen.entries.computed_entries",
            "@class": "ComputedStructureEntry",
            "entry_id": f"mp-{of.number}",
            "energy": -20.5,
            "composition": dict.fromkeys(of.pair, 2.0),
            "structure": pymatgen_parameters(of),
        }
    )


def aflux(of: Draft) -> dict[str, Any]:
    metal, other = of.pair
    return of.fields(
        {
            "auid": f"aflow:{of.number:016x}",
            "aurl": f"aflowlib.duke.edu:AFLOWDATA/X/{of.number}",
            "compound": f"{metal}2{other}2",
            "geometry": of.cell,
            "species": [*of.species[:1], *of.species[-1:]],
            "composition": [2, len(of.species) - 2],
            "positions_fractional": of.coords,
        }
    )


def aflow_out(of: Draft) -> str:
    said = aflux(of)
    texts = {k: ",".join(map(str, v)) if isinstance(v, list) else v for k, v in said.items()}
    if isinstance(said.get("positions_fractional"), list):
        rows = said["positions_fractional"]
        texts["positions_fractional"] = ";".join(",".join(map(str, row)) for row in rows)
    aurl = texts.pop("aurl")
    return " | ".join(f"{k}={v}" for k, v in {"aurl": aurl, **texts}.items())


def ase_row(of: Draft) -> dict[str, Any]:
    return of.fields(
        {
            "unique_id": f"{of.number:032x}",
            "ctime": 1.0,
            "numbers": [ATOMIC_NUMBERS.get(s, s) for s in of.species],
            "positions": cartesian(of),
            "cell": of.lattice,
            "pbc": [True, True, True],
            "key_value_pairs": {"energy_per_atom": -1.5},
        }
    )


# --- whole files ---------------------------------------------------------------------------


def ase_sqlite(drafts: Sequence[Draft]) -> bytes:
    """An ASE database of version 9, without ASE."""
    blobs = (
        "numbers positions cell initial_magmoms initial_charges masses tags forces stress dipole "
        "magmoms charges"
    )
    texts = "unique_id username constraints calculator calculator_parameters key_value_pairs data"
    numbers = "ctime mtime pbc energy free_energy magmom natoms fmax smax volume mass charge"
    with sqlite3.connect(":memory:") as connection:
        names = f"{blobs} {texts} {numbers}".split()
        connection.execute(f"CREATE TABLE systems (id INTEGER PRIMARY KEY, {', '.join(names)})")
        connection.execute("CREATE TABLE information (name TEXT, value TEXT)")
        connection.execute("INSERT INTO information VALUES ('version', '9')")
        for of in drafts:
            row = ase_row(of)
            row |= {k: _packed("i", row[k]) for k in ("numbers",) if k in row}
            row |= {k: _packed("d", row[k]) for k in ("positions", "cell") if k in row}
            row["pbc"] = of.instead.get("pbc", 7)
            row["key_value_pairs"] = of.instead.get("key_value_pairs", "{}")
            places = ", ".join("?" * len(row))
            connection.execute(
                f"INSERT INTO systems ({', '.join(row)}) VALUES ({places})", list(row.values())
            )
        connection.commit()
        data = connection.serialize()
    connection.close()
    return data


def _packed(kind: str, values: Any) -> Any:
    """Numbers as a blob; what is no list goes in as it is."""
    found: list[Any] = []

    def walk(value: Any) -> None:
        if isinstance(value, list):
            for item in value:
                walk(item)
        else:
            found.append(value)

    if not isinstance(values, list):
        return (
            values if isinstance(values, str | bytes | int | float | None) else json.dumps(values)
        )
    walk(values)
    if not all(isinstance(v, int | float) for v in found):
        return json.dumps(values)
    return struct.pack(f"<{len(found)}{kind}", *found)


SCHEMA = {
    "atoms": "id structure_id element_id ox x y z occupancy",
    "entries": "id path label duplicate_of_id delta_e stability composition_id natoms",
    "structures": "id entry_id label measured natoms x1 x2 x3 y1 y2 y3 z1 z2 z3 spacegroup_id",
    "calculations": "id label entry_id output_id energy_pa band_gap converged",
    "formation_energies": "id entry_id calculation_id fit_id stability delta_e",
}


def sql_rows(of: Draft) -> dict[str, list[list[Any]]]:
    n = of.number
    metal, other = of.pair
    sites = zip(of.species, of.coords, of.shares, strict=False)
    atoms = [[n * 10 + i, n, s, None, *row, share] for i, (s, row, share) in enumerate(sites)]
    entry = [n, f"/x/{n}", None, None, None, None, f"{metal}2 {other}2", 4]
    cell = [x for row in of.lattice for x in row]
    count = of.instead.get("counts", len(of.species))
    return {
        "atoms": atoms,
        "entries": [entry],
        "structures": [[n, n, "input", 0, count, *cell, 1]],
        "calculations": [[n, "static", n, n, -1.5, 0.5, 1]],
        "formation_energies": [[n, n, n, "standard", 0.0, -0.5]],
    }


def sql(drafts: Sequence[Draft]) -> bytes:
    """A dump of OQMD with the tables that structures need."""
    lines = ["-- MySQL dump 10.13"]
    for table, columns in SCHEMA.items():
        defined = ",\n".join(f"  `{column}` text" for column in columns.split())
        lines.append(f"CREATE TABLE `{table}` (\n{defined}\n);")
        rows = [row for of in drafts for row in sql_rows(of)[table]]
        listed = ",".join(f"({','.join(map(_quoted, row))})" for row in rows)
        lines.append(f"INSERT INTO `{table}` VALUES {listed};")
    return ("\n".join([*lines, "-- Dump completed on 2020-01-01  0:00:00"]) + "\n").encode()


def _quoted(value: Any) -> str:
    if value is None:
        return "NULL"
    return f"'{value}'" if isinstance(value, str) else str(value)


def parquet(drafts: Sequence[Draft]) -> bytes:
    sink = pa.BufferOutputStream()
    rows = [{"material_id": f"x{of.number}", "cif": cif(of)} for of in drafts]
    pq.write_table(pa.Table.from_pylist(rows), sink)
    return bytes(sink.getvalue())


# --- writers of text -----------------------------------------------------------------------


@dataclass(frozen=True)
class Writer:
    """A format that is text, as pieces between which it may be cut.

    Attributes:
        name: of the files, with their ending.
        record: the text of one record.
        head: before the records.
        between: them.
        tail: after them.
        whole: whether nothing is read of a file that is cut.
        most: records that a file may hold.
        loss: bytes from the end of a record that must be lost for it to be incomplete for sure.
        apart: whether a damaged record costs itself alone.
        takes: which faults it can have: of its ``parameters`` or ``vectors``, of ``shares``
            (occupancies), its ``counts`` of sites, ``lists`` that differ in length, or
            names of JSON fields, without which there is no structure.
    """

    name: str
    record: Callable[[Draft], str]
    head: str = ""
    between: str = ""
    tail: str = ""
    whole: bool = False
    most: int = 3
    loss: int = 1
    apart: bool = True
    takes: frozenset[str] = frozenset()

    def parts(self, drafts: Sequence[Draft]) -> list[bytes]:
        """Head, records with what is between them, and tail."""
        records = [self.record(of) for of in drafts]
        return [self.head.encode(), self.between.join(records).encode(), self.tail.encode()]

    def file(self, drafts: Sequence[Draft]) -> bytes:
        return b"".join(self.parts(drafts))

    def ends(self, drafts: Sequence[Draft]) -> list[tuple[int, int]]:
        """Where each record begins, and where it is complete."""
        at = len(self.head.encode())
        found = []
        for of in drafts:
            size = len(self.record(of).encode())
            found.append((at, at + size - self.loss))
            at += size + len(self.between)
        return found


def _of(names: str) -> frozenset[str]:
    return frozenset(names.split())


def _named(name: Callable[[Draft], str], layout: Callable[[Draft], Any]) -> Callable[[Draft], str]:
    return lambda of: f'"{name(of)}": {json.dumps(layout(of))}'


def _json(layout: Callable[[Draft], Any]) -> Callable[[Draft], str]:
    return lambda of: json.dumps(layout(of))


def _line(layout: Callable[[Draft], Any]) -> Callable[[Draft], str]:
    return lambda of: json.dumps(layout(of)) + "\n"


def _cells(*columns: Callable[[Draft], str], delimiter: str = ",") -> Callable[[Draft], str]:
    def row(of: Draft) -> str:
        text = io.StringIO()
        writer = csv.writer(text, delimiter=delimiter, lineterminator="\n", quoting=csv.QUOTE_ALL)
        writer.writerow([column(of) for column in columns])
        return text.getvalue()

    return row


def _id(of: Draft) -> str:
    return f"x{of.number}"


def _jarvis(of: Draft) -> str:
    text = poscar(of).replace("\n", "\\n")
    return (
        f"x{of.number},{poscar(draft(of.number)).strip().replace(chr(10), chr(92) + 'n')},{text}\n"
    )


def _table(of: Draft) -> dict[str, Any]:
    return of.fields({"material_id": _id(of), "cif": cif(of)})


def _atoms(of: Draft) -> dict[str, Any]:
    atoms = of.fields(
        {
            "lattice_mat": of.lattice,
            "coords": of.coords,
            "elements": of.species,
            "cartesian": False,
        }
    )
    return of.fields({"jid": _id(of), "atoms": atoms})


_ARRAY: dict[str, Any] = {"head": "[", "between": ", ", "tail": "]\n"}
_MATRIX = _of("vectors shares lattice sites abc species element matrix")
_OPTIMADE = _of(
    "vectors shares lists attributes lattice_vectors cartesian_site_positions species_at_sites"
)
_ATOMS = _of("vectors lists lattice_mat coords elements atoms")
_ASE = _of("vectors lists cell positions numbers")
_DOCUMENT = _of("vectors shares sites abc species element matrix")
_TEXT = _of("parameters shares")

WRITERS: tuple[Writer, ...] = (
    Writer("one.cif", cif, most=1, loss=5, takes=_TEXT),
    Writer("many.cif", cif, loss=5, takes=_TEXT),
    Writer("x.vasp", poscar, most=1, loss=5, takes=_of("vectors counts")),
    Writer("POSCAR", poscar, most=1, loss=5, takes=_of("vectors counts")),
    Writer("frames.extxyz", extxyz, loss=7, takes=_of("vectors counts")),
    Writer("one.json", _json(pymatgen), most=1, takes=_MATRIX),
    Writer("array.json", _json(pymatgen_parameters), **_ARRAY,
           takes=_of("parameters shares lattice sites abc species element a gamma")),
    Writer("lines.jsonl", _line(pymatgen), loss=2, takes=_MATRIX),
    Writer("by-id.json", _named(_id, pymatgen), "{", ", ", "}\n", apart=False, takes=_MATRIX),
    Writer("page.json", _json(optimade), '{"data": [', ", ", '], "meta": {"api_version": "1.1.0"}}',
           whole=True, apart=False, takes=_OPTIMADE),
    Writer("optimade.jsonl", _line(optimade),
           '{"x-optimade": {"meta": {"api_version": "1.1.0"}}}\n', loss=2, takes=_OPTIMADE),
    Writer("oqmdapi.json", _json(oqmd), '{"links": {"next": null}, "data": [', ", ",
           '], "response_message": "OK"}\n', takes=_of("vectors")),
    Writer("summary.json", _json(mp_summary), **_ARRAY, takes=_DOCUMENT),
    Writer("summary.jsonl", _line(mp_summary), loss=2, takes=_DOCUMENT),
    Writer("entries.json", _json(computed), **_ARRAY,
           takes=_of("parameters sites abc species element gamma energy")),
    Writer("aflux.json", _json(aflux), **_ARRAY, takes=_of("parameters lists")),
    Writer("numbered.json", _named(lambda of: f"{of.number} of 9", aflux), "{", ", ", "}\n",
           whole=True, apart=False, takes=_of("parameters lists")),
    Writer("aflowlib.out", lambda of: aflow_out(of) + "\n", loss=5, takes=_of("parameters lists")),
    Writer("cdvae.csv", _cells(_id, cif), "material_id,cif\n", loss=2, takes=_TEXT),
    Writer("table.tsv", _cells(_id, poscar, delimiter="\t"), "id\tposcar\n", loss=2,
           takes=_of("vectors counts")),
    Writer("structures.csv", _cells(_id, _json(pymatgen)), "id,structure\n", loss=2,
           takes=_MATRIX),
    Writer("table.jsonl", _line(_table), loss=2, takes=_TEXT | _of("cif")),
    Writer("jarvis.json", _json(_atoms), **_ARRAY, takes=_ATOMS),
    Writer("leaderboard.csv", _jarvis, "id,target,prediction\n", loss=9,
           takes=_of("vectors counts")),
    Writer("ase.json", _named(lambda of: str(of.number), ase_row), "{", ", ", "}\n", apart=False,
           takes=_ASE),
)  # fmt: skip

BINARY: dict[str, tuple[Callable[[Sequence[Draft]], bytes], frozenset[str]]] = {
    "ase.db": (ase_sqlite, _of("vectors lists")),
    "dump.sql": (sql, _of("vectors shares counts")),
    "table.parquet": (parquet, _TEXT),
}
"""Writers of whole files, and the faults that they can have."""
