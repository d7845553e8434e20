"""The package list, the tree and a built wheel agree; the top-level command starts light."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import gandb

ROOT = Path(__file__).resolve().parent.parent
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
FOLDERS = {"gandb": "gandb", "cli": "gandb.cli", "migrations": "gandb.migrations"}
FOLDERS["schema"] = "gandb.schema"
LINKS = ["cli", "migrations", "schema"]
BARE = shutil.ignore_patterns("__pycache__", ".*")


def files_in_tree() -> dict[str, str]:
    """Every file of the real folders, as {path in a wheel: path in the tree}."""
    found = {}
    for folder, package in FOLDERS.items():
        inside = package.replace(".", "/")
        for parent, folders, names in os.walk(ROOT / folder, followlinks=False):
            folders[:] = [f for f in folders if f != "__pycache__"]
            for name in names:
                path = Path(parent, name)
                if not name.startswith("."):
                    relative = path.relative_to(ROOT / folder).as_posix()
                    found[f"{inside}/{relative}"] = path.relative_to(ROOT).as_posix()
    return found


@pytest.fixture(scope="module", params=["tree", "sdist"])
def wheel(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> zipfile.ZipFile:
    """A wheel built by the installed setuptools: from a clean tree, or from its sdist."""
    source = tmp_path_factory.mktemp("source")
    for folder in FOLDERS:
        shutil.copytree(ROOT / folder, source / folder, symlinks=True, ignore=BARE)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    target = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", target, source]
    if request.param == "tree":
        command.append("--wheel")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "deprecat" not in (done.stdout + done.stderr).lower()
    (built,) = target.glob("*.whl")
    return zipfile.ZipFile(built)


def test_package_list_is_the_tree() -> None:
    packages = {
        Path(path).parent.as_posix().replace("/", ".")
        for path in files_in_tree()
        if path.endswith("/__init__.py")
    }
    listed = SETTINGS["tool"]["setuptools"]["packages"]
    assert listed == sorted(listed)
    assert set(listed) == packages


def test_no_module_lies_outside_a_package() -> None:
    packages = set(SETTINGS["tool"]["setuptools"]["packages"])
    modules = [path for path in files_in_tree() if path.endswith(".py")]
    strays = [m for m in modules if Path(m).parent.as_posix().replace("/", ".") not in packages]
    assert not strays


def test_wheel_holds_the_tree_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    held = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert held == set(files_in_tree())


def test_wheel_holds_the_bytes_of_the_tree(wheel: zipfile.ZipFile) -> None:
    differing = [
        inside
        for inside, path in files_in_tree().items()
        if wheel.read(inside) != (ROOT / path).read_bytes()
    ]
    assert not differing


def test_wheel_metadata(wheel: zipfile.ZipFile) -> None:
    info = f"gandb-{gandb.__version__}.dist-info"
    metadata = wheel.read(f"{info}/METADATA").decode()
    assert f"\nVersion: {gandb.__version__}\n" in metadata
    assert "\nLicense-Expression: MIT\n" in metadata
    assert f"{info}/licenses/LICENSE" in wheel.namelist()
    assert "gandb = gandb.cli.app:main" in wheel.read(f"{info}/entry_points.txt").decode()


def test_wheel_runs_by_itself(wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    """Unpacked away from the tree, every listed package imports from the wheel."""
    wheel.extractall(tmp_path)
    packages = SETTINGS["tool"]["setuptools"]["packages"]
    code = (
        "import importlib, sys\n"
        f"for name in {packages!r}:\n"
        "    print(importlib.import_module(name).__file__)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    files = done.stdout.split()
    assert len(files) == len(packages)
    assert all(Path(file).is_relative_to(tmp_path) for file in files)


@pytest.mark.parametrize("name", LINKS)
def test_links_are_relative_and_committed(name: str) -> None:
    link = ROOT / "gandb" / name
    assert link.is_symlink()
    assert link.readlink() == Path("..") / name
    if (ROOT / ".git").exists():
        staged = subprocess.run(
            ["git", "ls-files", "--stage", f"gandb/{name}"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        assert staged.startswith("120000 ")


def test_one_version_everywhere() -> None:
    assert SETTINGS["project"]["dynamic"] == ["version"]
    version = re.escape(gandb.__version__)
    assert re.search(rf"^version: {version}$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)
    newest = re.search(r"^## \[([^]]+)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest
    assert newest[1] == gandb.__version__


NAMESPACES = {"ruamel": "ruamel-yaml"}
"""Packages that several distributions share, and which of these is meant."""


def required() -> set[str]:
    """Normalised names of every distribution that the core or an extra asks for."""
    project = SETTINGS["project"]
    extras = [r for rs in project["optional-dependencies"].values() for r in rs]
    names = {re.split(r"[\[<>=!~; ]", r)[0] for r in [*project["dependencies"], *extras]}
    return {normal(name) for name in names} - {"gandb"}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_what_is_imported_is_required() -> None:
    found: dict[str, str] = {}
    for folder in [*FOLDERS, "tests"]:
        for path in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_bytes())):
                if isinstance(node, ast.Import):
                    found.update({alias.name.partition(".")[0]: str(path) for alias in node.names})
                elif isinstance(node, ast.ImportFrom) and node.module:
                    found[node.module.partition(".")[0]] = str(path)
    foreign = {name for name in found if name not in sys.stdlib_module_names}
    named = {n: NAMESPACES.get(n, normal(n)) for n in foreign - {"gandb", "tests"}}
    undeclared = {n for n, distribution in named.items() if distribution not in required()}
    assert {name: found[name] for name in undeclared} == {}


def test_constraints_pin_what_is_required() -> None:
    """Every requirement has one exact pin, and no pin names a local build."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = dict(line.lower().split("==") for line in lines if line and not line.startswith("#"))
    assert not [name for name, version in pins.items() if "+" in version]
    assert not required() - {normal(name) for name in pins}


def loaded_after(code: str) -> set[str]:
    """Top-level modules that a fresh interpreter has loaded after running ``code``."""
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys\nprint('LOADED', *sys.modules)"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    last = done.stdout.splitlines()[-1].split()
    assert last[0] == "LOADED"
    return {name.partition(".")[0] for name in last[1:]}


HEAVY = {"matplotlib", "pymatgen", "smact", "torch", "typer"}
ENGINES = {"alembic", "duckdb", "numba", "numpy", "pyarrow", "sqlalchemy"}


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from gandb.cli.app import main\n"
        "sys.argv = ['gandb', '--help']\n"
        "try:\n"
        "    main()\n"
        "except SystemExit as stop:\n"
        "    assert not stop.code, stop.code"
    )
    assert sorted(loaded_after(code) & ((HEAVY | ENGINES) - {"typer"})) == []


@pytest.mark.parametrize("package", ["core", "schema", "store", "query", "jobs", "datasets"])
def test_the_store_loads_nothing_heavy(package: str) -> None:
    """Not even by way of another distribution: every module of the package is imported."""
    code = (
        f"import importlib, pkgutil, gandb.{package} as package\n"
        "for module in pkgutil.walk_packages(package.__path__, package.__name__ + '.'):\n"
        "    importlib.import_module(module.name)"
    )
    assert sorted(loaded_after(code) & HEAVY) == []
