"""The README's commands work as written, in order, and name every command there is."""

from __future__ import annotations

import gzip
import json
import os
import re
import shlex
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import typer.main

from gandb.cli.app import app
from tests.forking import Commands

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text("utf-8")
Gandb = Callable[[list[str], str | None], str]


TITLES = (
    "A first session", "Your own data", "Structures", "Same and new", "Datasets",
    "Where a result comes from", "Sharing", "Crystals", "Jobs", "Stores",
)  # fmt: skip
IDS = {
    "SNAPSHOT": "SELECT snapshot_id AS id FROM snapshots WHERE source = 'mp' ORDER BY n_rows",
    "STRUCTURE": "SELECT structure_id AS id FROM structures ORDER BY n_sites",
}
CIF = """data_{name}
_cell_length_a {edge}
_cell_length_b {edge}
_cell_length_c {edge}
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
_symmetry_space_group_name_H-M 'P 1'
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
A1 Cs 0 0 0
X1 {anion} 0.5 0.5 0.5
"""


def _write_structures(folder: Path) -> None:
    """Write the files that the section on structures names."""
    document = {"material_id": "mp-149", "formula_pretty": "Si", "nsites": 2, "band_gap": 0.6,
                "energy_above_hull": 0.0, "formation_energy_per_atom": 0.0}  # fmt: skip
    (folder / "summary.json").write_text(json.dumps([document]))
    for archive, edges in (("cifs.zip", (4.1, 4.3)), ("generated.zip", (4.2, 4.4))):
        with zipfile.ZipFile(folder / archive, "w") as out:
            for edge, anion in zip(edges, ("Cl", "Br"), strict=True):
                text = CIF.format(name=f"Cs{anion}", edge=edge, anion=anion)
                out.writestr(f"Cs{anion}.cif", text)
    for name, edge in (("Sr3V2O8", 4.1), ("mp-19386", 4.2)):
        (folder / f"{name}.cif").write_text(CIF.format(name="CsCl", edge=edge, anion="Cl"))


def section(title: str) -> str:
    pattern = rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)"
    found = re.search(pattern, README, re.MULTILINE | re.DOTALL)
    assert found, title
    return found[1]


def commands(title: str) -> list[str]:
    blocks = re.findall(r"```console\n(.*?)```", section(title), re.DOTALL)
    lines = [line[2:] for block in blocks for line in block.splitlines() if line.startswith("$ ")]
    return [re.sub(r"\s{2,}#.*$", "", line) for line in lines]


@pytest.fixture
def gandb(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gandb]:
    """Runs a command in ``tmp_path``; returns what it printed."""
    commands = Commands(tmp_path_factory.mktemp("commands"))
    plain = {k: v for k, v in os.environ.items() if k != "GANDB_STORE"}
    plain["XDG_STATE_HOME"] = str(tmp_path / "state")

    def run(arguments: list[str], store: str | None) -> str:
        named = plain | ({"GANDB_STORE": store} if store else {})
        done = commands.run(arguments, tmp_path, named)
        told = f"gandb {shlex.join(arguments)}\n{done.stdout}\n{done.stderr}"
        assert done.returncode == 0, told
        return done.stdout

    yield run
    commands.close()


@pytest.mark.slow
def test_the_readme_as_written(tmp_path: Path, gandb: Gandb) -> None:
    with gzip.open(tmp_path / "Formation_Enthalpy.csv.gz", "wt") as out:
        out.write("formula,value\nFe2O3,-1.7\nNaN,0.6\n")
    with gzip.open(tmp_path / "Bandgap.csv.gz", "wt") as out:
        out.write("formula,value\nFe2O3,2.0\n")
    (tmp_path / "mine.csv").write_text("name,e_form\nLiF,-300.0\n")
    record = {"compound": "Ti1O2", "enthalpy_formation_atom": -3.2, "auid": "aflow:1"}
    (tmp_path / "aflow.jsonl").write_text(json.dumps(record) + "\n")
    _write_structures(tmp_path)
    store = None
    ran = 0
    for title in TITLES:
        for line in commands(title):
            if line.startswith("export GANDB_STORE="):
                store = line.partition("=")[2]
                continue
            if any(word in line for word in ("postgresql://", "--live", "pip ", "gandb serve")):
                continue  # a server, the network, or no end
            arguments = shlex.split(line)
            assert arguments[0] == "gandb"
            if "JOB" in arguments:
                if arguments[2] in ("cancel", "retry"):
                    continue  # of a finished job these are refused; tested with the jobs
                jobs = json.loads(gandb(["job", "list", "--json"], store))
                arguments = [jobs[0]["job_id"] if a == "JOB" else a for a in arguments]
            for word, query in IDS.items():
                if word in arguments:
                    asked = gandb(["sql", "--json", query], store)
                    ids = iter([row["id"] for row in json.loads(asked)])
                    arguments = [next(ids) if a == word else a for a in arguments]
            gandb(arguments[1:], store)
            ran += 1
    assert ran >= 60
    with zipfile.ZipFile(tmp_path / "binaries.zip") as archive:
        assert len(archive.namelist()) == 2
    assert (tmp_path / "report.html").stat().st_size > 100_000
    assert (tmp_path / "novel.parquet").exists()
    example = re.search(r"```python\n(.*?)```", section("Stores"), re.DOTALL)
    assert example
    done = subprocess.run(
        [sys.executable, "-c", example[1]], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert "'source': 'aflow', 'n': 12001" in done.stdout
    example = re.search(r"```python\n(.*?)```", section("Same and new"), re.DOTALL)
    assert example
    done = subprocess.run(
        [sys.executable, "-c", example[1]], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("True ")


def test_every_command_is_in_the_readme() -> None:
    group = typer.main.get_command(app)
    assert hasattr(group, "commands")
    for name, command in group.commands.items():
        inner = getattr(command, "commands", None)
        if inner is None:
            assert re.search(rf"\b(gandb|make) {name}\b", README), f"gandb {name}"
            continue
        for sub in inner:
            assert re.search(rf"\bgandb {name} {sub}\b", README), f"gandb {name} {sub}"
