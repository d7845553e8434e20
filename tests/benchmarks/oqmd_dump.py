"""A synthetic OQMD dump in the layout of the real one, and how fast and small it is to read.

``write_dump`` writes what ``mysqldump`` writes of the tables that matter, in its alphabetical order
and in lines of a megabyte, and some tables that are passed over. Every entry has an input and a
calculated structure, and two calculations; some have no formation energy, some are not converged.

Run as ``python -m tests.benchmarks.oqmd_dump FILE [ENTRIES]`` it writes the dump if it is not
there, reads it, and prints the seconds, MB/s and peak memory.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from typing import TextIO

import numpy as np

LINE = 1_000_000
"""Bytes of a line, as `net_buffer_length` makes them."""

_METALS = (
    "Li Be Na Mg Al K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Rb Sr Y Zr Nb Mo Ru Rh Pd Ag Cd In Sn Cs "
    "Ba La Ce Pr Nd Sm Eu Gd Tb Dy Ho Er Tm Yb Lu Hf Ta W Re Os Ir Pt Au Tl Pb Bi Th U"
).split()
_OTHERS = "H B C N O F Si P S Cl Ge As Se Br Sb Te I".split()
_SETTINGS = (
    r"{\'encut\': 520.0, \'lcharg\': True, \'nbands\': 38, \'ismear\': -5, \'ediff\': 0.0001, "
    r"\'nsw\': 0, \'prec\': \'med\', \'lreal\': False, \'lorbit\': 11, \'potentials\': [{\'xc\': "
    r"\'PBE\', \'name\': \'O\', \'us\': False, \'paw\': True}], \'ispin\': 2, \'isif\': 3, "
    r"\'algo\': \'fast\', \'sigma\': 0.2, \'potim\': 0.5}"
)

# What `SHOW CREATE TABLE` gives for OQMD's tables: names and types of the columns.
_INT, _DOUBLE, _NAME = "int DEFAULT NULL", "double DEFAULT NULL", "varchar(255) DEFAULT NULL"
_ID, _TEXT, _FLAG = "int NOT NULL AUTO_INCREMENT", "longtext", "tinyint(1) DEFAULT NULL"
_TABLES: dict[str, dict[str, str]] = {
    "atoms": {
        "id": _ID, "structure_id": _INT, "site_id": _INT, "element_id": "varchar(9) DEFAULT NULL",
        "ox": _INT, "x": _DOUBLE, "y": _DOUBLE, "z": _DOUBLE, "fx": _DOUBLE, "fy": _DOUBLE,
        "fz": _DOUBLE, "magmom": _DOUBLE, "charge": _DOUBLE, "volume": _DOUBLE,
        "occupancy": "double NOT NULL", "wyckoff_id": _INT,
    },
    "calculations": {
        "id": _ID, "configuration": _NAME, "label": "varchar(63) NOT NULL", "entry_id": _INT,
        "path": _NAME, "composition_id": _NAME, "natoms": _INT, "input_id": _INT,
        "settings": _TEXT, "output_id": _INT, "energy": _DOUBLE, "energy_pa": _DOUBLE,
        "magmom": _DOUBLE, "magmom_pa": _DOUBLE, "dos_id": _INT, "band_gap": _DOUBLE,
        "irreducible_kpoints": _DOUBLE, "attempt": _INT, "nsteps": _INT, "converged": _FLAG,
        "runtime": _DOUBLE,
    },
    "dos": {
        "id": _ID, "entry_id": _INT, "gap": _DOUBLE, "data": _TEXT,
        "file": "varchar(128) DEFAULT NULL",
    },
    "entries": {
        "id": _ID, "path": "varchar(255) NOT NULL", "label": "varchar(20) DEFAULT NULL",
        "duplicate_of_id": _INT, "delta_e": _DOUBLE, "stability": _DOUBLE, "composition_id": _NAME,
        "reference_id": _INT, "prototype_id": "varchar(63) DEFAULT NULL", "ntypes": _INT,
        "natoms": _INT,
    },
    "formation_energies": {
        "id": _ID, "composition_id": _NAME, "entry_id": _INT, "calculation_id": _INT,
        "description": "varchar(20) DEFAULT NULL", "fit_id": _NAME, "stability": _DOUBLE,
        "delta_e": _DOUBLE,
    },
    "journals": {"id": _ID, "code": "varchar(10) DEFAULT NULL", "name": _TEXT},
    "publications": {
        "id": _ID, "journal_id": _INT, "title": _TEXT, "page_first": _INT, "page_last": _INT,
        "year": _INT, "volume": _INT,
    },
    "sites": {
        "id": _ID, "structure_id": _INT, "x": _DOUBLE, "y": _DOUBLE, "z": _DOUBLE,
        "wyckoff_id": _INT,
    },
    "structures": {
        "id": _ID, "entry_id": _INT, "reference_id": _INT, "label": "varchar(63) DEFAULT ''",
        "prototype_id": "varchar(63) DEFAULT NULL", "measured": "tinyint(1) NOT NULL",
        "composition_id": _NAME, "natoms": _INT, "nsites": _INT, "ntypes": _INT,
        **{f"{row}{k}": "double NOT NULL" for row in "xyz" for k in (1, 2, 3)},
        **dict.fromkeys(("sxx", "syy", "szz", "sxy", "syz", "szx"), "double NOT NULL"),
        "spacegroup_id": _INT, "energy": _DOUBLE, "energy_pa": _DOUBLE, "magmom": _DOUBLE,
        "magmom_pa": _DOUBLE, "delta_e": _DOUBLE, "meta_stability": _DOUBLE, "fit_id": _NAME,
        "volume": "float DEFAULT NULL", "volume_pa": "float DEFAULT NULL", "coords": _TEXT,
    },
}  # fmt: skip
_HEAD = """-- MySQL dump 10.13  Distrib 8.0.34, for Linux (x86_64)
--
-- Host: localhost    Database: qmdb_prod
-- ------------------------------------------------------
-- Server version\t8.0.34

/*!40101 SET @OLD_CHARACTER_SET_CLIENT=@@CHARACTER_SET_CLIENT */;
/*!50503 SET NAMES utf8mb4 */;
/*!40014 SET @OLD_FOREIGN_KEY_CHECKS=@@FOREIGN_KEY_CHECKS, FOREIGN_KEY_CHECKS=0 */;
"""


@dataclass(frozen=True)
class _Prototype:
    """A kind of structure: ``kinds`` says which of the entry's elements each site has."""

    name: str
    kinds: list[int]
    counts: list[int]
    coords: list[tuple[str, str, str]]
    relaxed: list[tuple[str, str, str]]
    shape: np.ndarray


def write_dump(path: Path, n_entries: int, seed: int = 0) -> None:
    """Write a dump of so many entries, about 4 kB each."""
    rng = np.random.default_rng(seed)
    prototypes = [_prototype(rng, k) for k in range(400)]
    with path.open("w", encoding="utf-8", buffering=1 << 20) as out:
        out.write(_HEAD)
        entries = _Entries(rng, n_entries, prototypes)
        for table, columns in _TABLES.items():
            _define(out, table, columns)
            rows: Callable[[], Iterator[str]] = getattr(entries, table)
            _insert(out, table, rows())
        out.write("\n-- Dump completed on 2024-10-16 10:37:20\n")


def _prototype(rng: np.random.Generator, k: int) -> _Prototype:
    kinds: list[int] = []
    counts = [int(n) for n in rng.integers(1, 4, size=int(rng.integers(2, 5)))]
    for kind, n in enumerate(counts):
        kinds += [kind] * n
    grid = rng.permutation(27)[: len(kinds)]  # apart from each other
    base = np.stack([grid // 9, grid // 3 % 3, grid % 3], axis=1) / 3 + 0.01
    moved = base + rng.uniform(-0.03, 0.03, base.shape)
    fixed = np.round(rng.uniform(0, 0.1, 3) + base, 6)
    shape = np.eye(3) + np.tril(rng.uniform(-0.3, 0.3, (3, 3)), -1)
    return _Prototype(
        f"proto{k}_AB{counts[-1]}",
        kinds,
        counts,
        [tuple(f"{v:.15g}" for v in row) for row in fixed.tolist()],
        [tuple(f"{v:.15g}" for v in row) for row in moved.tolist()],
        np.where(rng.random() < 0.5, np.eye(3), shape),
    )


class _Entries:
    """The rows of every table, of the same entries."""

    def __init__(self, rng: np.random.Generator, n: int, prototypes: list[_Prototype]) -> None:
        self.n = n
        self.kinds = [prototypes[k] for k in rng.integers(0, len(prototypes), n).tolist()]
        elements = np.array(_METALS + _OTHERS)
        drawn = rng.integers(0, len(elements), (n, 4))
        drawn += np.arange(4) * 7  # mostly different ones
        self.elements = elements[drawn % len(elements)].tolist()
        self.edge = rng.uniform(4.5, 8.0, n).tolist()
        self.delta_e = rng.normal(0.0, 0.6, n).tolist()
        self.energy = rng.uniform(-9.0, -1.0, n).tolist()
        self.stability = rng.gamma(1.0, 0.3, n).tolist()
        self.chance = rng.random(n).tolist()
        self.gap = np.where(rng.random(n) < 0.7, 0.0, rng.uniform(0.1, 7.0, n)).round(3).tolist()
        self.blob = ",".join(f"[{v:.4f}, {v * v:.4f}]" for v in rng.normal(0, 5, 300).tolist())

    def _formulas(self) -> Iterator[str]:
        for kind, elements in zip(self.kinds, self.elements, strict=True):
            amounts: dict[str, int] = {}
            for element, amount in zip(elements, kind.counts, strict=False):
                amounts[element] = amounts.get(element, 0) + amount
            yield " ".join(f"{e}{n}" for e, n in sorted(amounts.items()))

    def atoms(self) -> Iterator[str]:
        number = count(1)
        for k, (kind, elements) in enumerate(zip(self.kinds, self.elements, strict=True)):
            for which, coords in ((1, kind.coords), (2, kind.relaxed)):
                s = 2 * k + which
                yield ",".join(
                    f"({(i := next(number))},{s},{i + 7},'{elements[e]}',NULL,{x},{y},{z},"
                    "0,0,0,0.001,5.109,NULL,1,NULL)"
                    for e, (x, y, z) in zip(kind.kinds, coords, strict=True)
                )

    def calculations(self) -> Iterator[str]:
        for k, formula in enumerate(self._formulas()):
            natoms = len(self.kinds[k].kinds)
            energy, chance = self.energy[k], self.chance[k]
            for which, label in ((1, "fine_relax"), (2, "static")):
                converged = int(chance > 0.02 * which)
                gap = self.gap[k] if which == 2 else "NULL"
                yield (
                    f"({2 * k + which},'{label}','{label}',{k + 1},"
                    f"'/home/oqmd/libraries/{k}/{label}','{formula}',{natoms},{2 * k + which},"
                    f"'{_SETTINGS}',{2 * k + 2},{energy * natoms!r},{energy!r},"
                    f"0.003,0.0005,NULL,{gap},112,0,{which},"
                    f"{converged},433.07)"
                )

    def dos(self) -> Iterator[str]:
        for k in range(0, self.n, 10):
            yield f"({k + 1},{k + 1},NULL,'{{\\'dos\\': [{self.blob}]}}',NULL)"

    def entries(self) -> Iterator[str]:
        for k, formula in enumerate(self._formulas()):
            kind = self.kinds[k]
            icsd = self.chance[k] > 0.95
            path = f"/home/oqmd/libraries/{'icsd' if icsd else 'hypothetical'}/{k}"
            label = f"'icsd-{k}'" if icsd else "NULL"
            reference = str(k % 1000 + 1) if icsd else "NULL"
            delta_e = "NULL" if self.chance[k] < 0.5 else repr(self.delta_e[k])
            yield (
                f"({k + 1},'{path}',{label},{k + 1},{delta_e},NULL,'{formula}',{reference},"
                f"'{kind.name}',{len(kind.counts)},{len(kind.kinds)})"
            )

    def formation_energies(self) -> Iterator[str]:
        for k, formula in enumerate(self._formulas()):
            if self.chance[k] > 0.05:
                yield (
                    f"({k + 1},'{formula}',{k + 1},{2 * k + 2},NULL,'standard',"
                    f"{self.stability[k]!r},{self.delta_e[k]!r})"
                )

    def journals(self) -> Iterator[str]:
        yield "(184,'NOGTAO','Norsk Geologisk Tidsskrift')"

    def publications(self) -> Iterator[str]:
        for k in range(1000):
            title = f'On the structure\\\'s \\"no. {k}\\"'
            yield f"({k + 1},184,'{title}',{k},{k + 8},{1925 + k % 90},8)"

    def sites(self) -> Iterator[str]:
        number = count(1)
        for k, kind in enumerate(self.kinds):
            yield ",".join(
                f"({next(number)},{2 * k + 2},{x},{y},{z},1628)" for x, y, z in kind.relaxed
            )

    def structures(self) -> Iterator[str]:
        for k, formula in enumerate(self._formulas()):
            kind = self.kinds[k]
            natoms = len(kind.kinds)
            for which, label in ((1, "input"), (2, "static")):
                edge = self.edge[k] * (1.0 if which == 2 else 1.02)
                cell = ",".join(f"{v:.10g}" for v in (kind.shape * edge).ravel().tolist())
                volume = edge**3
                yield (
                    f"({2 * k + which},{k + 1},NULL,'{label}',NULL,0,'{formula}',{natoms},{natoms},"
                    f"{len(kind.counts)},{cell},-0.13578,-0.13578,-0.13578,0,0,0,221,NULL,NULL,NULL,"
                    f"NULL,NULL,NULL,NULL,{volume:.6g},{volume / natoms:.6g},NULL)"
                )


def _define(out: TextIO, table: str, columns: dict[str, str]) -> None:
    lines = ",\n".join(f"  `{name}` {kind}" for name, kind in columns.items())
    out.write(
        f"\n--\n-- Table structure for table `{table}`\n--\n\nDROP TABLE IF EXISTS `{table}`;\n"
        f"CREATE TABLE `{table}` (\n{lines},\n  PRIMARY KEY (`id`)\n"
        ") ENGINE=InnoDB AUTO_INCREMENT=111074189 DEFAULT CHARSET=latin1;\n"
    )


def _insert(out: TextIO, table: str, rows: Iterator[str]) -> None:
    """Write rows (or several at once, with commas) in statements of about a megabyte."""
    out.write(f"\nLOCK TABLES `{table}` WRITE;\n/*!40000 ALTER TABLE `{table}` DISABLE KEYS */;\n")
    size = 0
    for row in rows:
        out.write(f"INSERT INTO `{table}` VALUES " if size == 0 else ",")
        out.write(row)
        size += len(row) + 1
        if size > LINE:
            out.write(";\n")
            size = 0
    if size:
        out.write(";\n")
    out.write(f"/*!40000 ALTER TABLE `{table}` ENABLE KEYS */;\nUNLOCK TABLES;\n")


@dataclass(frozen=True)
class Streamed:
    """What reading a dump took.

    Attributes:
        records: of the dump.
        rejects: of the dump.
        seconds: wall time.
        megabytes: size of the dump, 1e6 bytes.
        rss_gb: peak resident memory of the process, 1e9 bytes.
    """

    records: int
    rejects: int
    seconds: float
    megabytes: float
    rss_gb: float


def stream_dump(path: Path) -> Streamed:
    """Read a dump into records in a process of its own, and measure it."""
    command = [sys.executable, "-m", "tests.benchmarks.oqmd_dump", "--read", str(path)]
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{path} could not be read:\n{done.stderr}")
    return Streamed(**json.loads(done.stdout))


def _read(path: Path) -> Streamed:
    from gandb.sources.oqmd_dump import OQMD_DUMP
    from gandb.sources.records import Member, Record

    member = Member(path.name, path.stat().st_size, lambda: path.open("rb"), str(path))
    records = rejects = 0
    started = time.perf_counter()
    for found in OQMD_DUMP.read(member):
        if isinstance(found, Record):
            records += 1
        else:
            rejects += 1
    seconds = time.perf_counter() - started
    return Streamed(records, rejects, seconds, path.stat().st_size / 1e6, _peak())


def _peak() -> float:
    """Return the most memory that the process had; ru_maxrss would count its parent's too."""
    try:
        status = Path("/proc/self/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e9
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def main() -> None:
    """Write a dump, if it is not there, and read it."""
    if sys.argv[1] == "--read":
        print(json.dumps(asdict(_read(Path(sys.argv[2])))))
        return
    path = Path(sys.argv[1])
    if not path.exists():
        started = time.perf_counter()
        write_dump(path, int(sys.argv[2]) if len(sys.argv) > 2 else 1_000_000)
        print(f"written in {time.perf_counter() - started:.0f} s")
    found = stream_dump(path)
    print(found, f"{found.megabytes / found.seconds:.0f} MB/s")


if __name__ == "__main__":
    main()
