"""The import rules are not blind: each refuses a planted violation, through the links too."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent

VIOLATIONS = [
    # (file, its code, contract, what the report must name)
    ("schema/planted.py", "import gandb.cli", "layers", "gandb.schema is not allowed to import"),
    ("gandb/core/planted.py", "import gandb.schema", "layers", "gandb.core is not allowed"),
    ("migrations/planted.py", "import gandb.store", "layers", "gandb.migrations is not allowed"),
    ("gandb/reports/planted.py", "import gandb.sharing", "layers", "gandb.reports.planted"),
    ("gandb/sources/planted.py", "import gandb.validation", "layers", "gandb.sources.planted"),
    ("gandb/planted/__init__.py", "", "layers", "gandb.planted"),
    ("gandb/store/planted.py", "import typer", "light", "gandb.store.planted -> typer"),
    ("schema/planted.py", "import torch", "light", "gandb.schema.planted -> torch"),
    (
        "gandb/jobs/planted.py",
        "def late():\n    from pymatgen.core import Structure",
        "light",
        "gandb.jobs.planted -> pymatgen",
    ),
    ("gandb/sources/planted.py", "import sqlalchemy", "no-sql", "gandb.sources.planted"),
    ("gandb/validation/planted.py", "from gandb import store", "no-sql", "gandb.store"),
    ("gandb/generators/planted.py", "from gandb.schema import tables", "no-sql", "gandb.schema"),
]
SIBLINGS = [
    # (contract, a module, its sibling)
    ("generators", "gandb.generators.substitution", "gandb.generators.frequency"),
    ("generators", "gandb.generators.matgan", "gandb.generators.substitution"),
    ("sources", "gandb.sources.mp", "gandb.sources.oqmd"),
    ("sources", "gandb.sources.oqmd", "gandb.sources.aflow"),
]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the packages and their settings, links as links."""
    bare = shutil.ignore_patterns("__pycache__")
    for name in ("cli", "gandb", "migrations", "schema"):
        shutil.copytree(ROOT / name, tmp_path / name, symlinks=True, ignore=bare)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def lint_imports(tree: Path, contract: str) -> tuple[int, str]:
    """Check one contract in a tree; return the exit code and what was printed."""
    done = subprocess.run(
        [BIN / "lint-imports", "--no-cache", "--contract", contract],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": str(tree), "COLUMNS": "200", "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, " ".join((done.stdout + done.stderr).split())


@pytest.mark.parametrize(("file", "code", "contract", "named"), VIOLATIONS)
def test_a_violation_is_refused(
    tree: Path, file: str, code: str, contract: str, named: str
) -> None:
    planted = tree / file
    planted.parent.mkdir(exist_ok=True)
    planted.write_text(code + "\n")
    status, report = lint_imports(tree, contract)
    assert status == 1
    assert "planted" in report
    assert named in report


@pytest.mark.parametrize(("contract", "module", "sibling"), SIBLINGS)
def test_siblings_do_not_import_each_other(
    tree: Path, contract: str, module: str, sibling: str
) -> None:
    with (tree / module.replace(".", "/")).with_suffix(".py").open("a") as file:
        file.write(f"\n\ndef planted():\n    import {sibling}\n")
    status, report = lint_imports(tree, contract)
    assert status == 1
    assert f"{module} -> {sibling}" in report


@pytest.mark.parametrize("package", ["generators", "sources"])
def test_a_new_sibling_must_be_placed(tree: Path, package: str) -> None:
    (tree / "gandb" / package / "planted.py").write_text("")
    status, report = lint_imports(tree, package)
    assert status == 1
    assert "planted" in report


@pytest.mark.parametrize("name", ["cli", "migrations", "schema"])
def test_bare_names_are_refused(name: str) -> None:
    done = subprocess.run(
        [BIN / "ruff", "check", "--select=TID251", "--stdin-filename=gandb/planted.py", "-"],
        cwd=ROOT,
        input=f"import {name}\n",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert f"import gandb.{name}" in done.stdout
