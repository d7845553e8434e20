"""Exports out of a store, and into another: the ids stay, on both engines."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gandb.cli.app import app
from gandb.core.config import Settings
from gandb.core.errors import QueryError, StoreError, UsageError
from gandb.query.frames import query
from gandb.sharing.exports.structure_files import FORMATS, export_structures
from gandb.store import Store, StoreReader
from gandb.tasks.records import records_job
from tests import postgres
from tests.tasks.labs import make_store, work

CIF = """data_{name}
_cell_length_a 4.1
_cell_length_b 4.1
_cell_length_c 4.1
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
loop_
  _atom_type_symbol
  _atom_type_oxidation_number
  {first} {state}
  O2- -2
loop_
  _atom_site_type_symbol
  _atom_site_label
  _atom_site_fract_x
  _atom_site_fract_y
  _atom_site_fract_z
  _atom_site_occupancy
  {first} A1 0 0 0 {share}
  O2- O1 0.5 0.5 0.5 1
"""
TARGETS = {
    "cif": "out.zip",
    "json": "out.json",
    "extxyz": "out.extxyz",
    "ase": "out.db",
    "lemat": "out.parquet",
    "optimade": "out.optimade.jsonl",
    "poscar": "out",
    "mattergen": "out",
}
ALL = "SELECT structure_id, entry_id, source, band_gap FROM entries WHERE source = 'own'"
KEEPS_ENTRIES = set(FORMATS) - {"poscar"}


@pytest.fixture(
    scope="module", params=["duckdb", pytest.param("postgres", marks=pytest.mark.postgres)]
)
def address(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    if request.param == "duckdb":
        yield str(tmp_path_factory.mktemp("export") / "store")
        return
    with postgres.fresh_database(request.getfixturevalue("postgres_url")) as url:
        yield url


@pytest.fixture(scope="module")
def store(address: str, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Entries with everything: disorder, oxidation states, site properties, extra, aliases."""
    folder = tmp_path_factory.mktemp("files")
    for name, first, state, share in (
        ("ordered", "Mg2+", 2, 1),
        ("shared", "Mg2+", 2, 0.75),
        ("bare", "Fe", "?", 1),
    ):
        text = CIF.format(name=name, first=first, state=state, share=share)
        if name == "bare":
            text = text.replace("O2-", "O").replace("  O -2\n", "").replace("  Fe ?\n", "")
            text = text.replace("loop_\n  _atom_type_symbol\n  _atom_type_oxidation_number\n", "")
        (folder / f"{name}.cif").write_text(text)
    (folder / "frames.extxyz").write_text(
        '2\nLattice="4 0 0 0 4 0 0 0 4" Properties=species:S:1:pos:R:3:magmoms:R:1 '
        'material_id=x-1 energy_per_atom=-3.3 band_gap_direct=1.5 note="a # \\"b\\""\n'
        "Cs 0 0 0 0.5\nCl 2 2 2 -0.5\n"
        '2\nLattice="4 0 0 0 4 0 0 0 4" Properties=species:S:1:pos:R:3 material_id=x-2\n'
        "Cs 0 0 0\nCl 2 2 2\n"
    )
    made = make_store(address, folder)
    files = [folder / n for n in ("ordered.cif", "shared.cif", "bare.cif", "frames.extxyz")]
    work(made, records_job("own", files))
    return made


def ids(store: Store, column: str) -> set[str]:
    found = query(store, f"SELECT {column} FROM entries WHERE source = 'own'").column(0)
    return set(found.to_pylist())


@pytest.mark.parametrize("form", FORMATS)
def test_ids_stay(store: Store, address: str, tmp_path: Path, form: str) -> None:
    target = tmp_path / TARGETS[form]
    reader = StoreReader(Settings(address))
    lacking = form in ("extxyz", "ase", "poscar", "mattergen")
    if lacking:
        with pytest.raises(UsageError, match=r"cannot hold .* of 5 structures .* it is disordered"):
            export_structures(store, reader, ALL, target, form)
        assert not list(tmp_path.iterdir())
    done = export_structures(store, reader, ALL, target, form, skip=lacking)
    lost = 5 - done.written
    assert lost == {"extxyz": 1, "ase": 1, "mattergen": 1, "poscar": 3}.get(form, 0)
    assert sum(done.skipped.values()) == lost
    assert done.sources == ("own",)
    other = Store.create(Settings(str(tmp_path / "other")))
    read = target / "generated_crystals.extxyz" if form == "mattergen" else target
    work(other, records_job("own", [read]))
    assert query(other, "SELECT * FROM snapshot_reject").num_rows == 0
    structures = ids(other, "structure_id")
    assert structures <= ids(store, "structure_id")
    if not lost:
        assert structures == ids(store, "structure_id")
    entries = ids(other, "entry_id")
    assert len(entries) == done.written
    assert (entries <= ids(store, "entry_id")) == (form in KEEPS_ENTRIES)


@pytest.mark.parametrize("form", FORMATS)
def test_the_same_content_is_the_same_bytes(
    store: Store, address: str, tmp_path: Path, form: str
) -> None:
    reader, found = StoreReader(Settings(address)), []
    for order in ("ASC", "DESC"):
        target = tmp_path / order / TARGETS[form]
        export_structures(
            store, reader, f"{ALL} ORDER BY entry_id {order}", target, form, skip=True
        )
        files = [target] if target.is_file() else sorted(target.iterdir())
        found.append([(path.name, path.read_bytes()) for path in files])
    assert found[0] == found[1]


def test_what_cannot_be_written(store: Store, address: str, tmp_path: Path) -> None:
    reader = StoreReader(Settings(address))
    target = tmp_path / "x.zip"
    target.write_text("mine")
    with pytest.raises(StoreError, match="exists"):
        export_structures(store, reader, ALL, target)
    assert target.read_text() == "mine"
    for name, form, said in (
        ("x.txt", None, "say which format"),
        ("x.txt", "lemat", "ends in .parquet"),
        ("x.zip", "ase", "ends in .db"),
        ("x.zip", "mattergen", "is a folder"),
        ("y.zip.gz", "cif", "leave out .gz"),
        ("x", "gif", "no format"),
    ):
        with pytest.raises(UsageError, match=said):
            export_structures(store, reader, ALL, tmp_path / name, form)
    for statement, said in (
        ("SELECT 1 AS x", "no column structure_id"),
        ("SELECT structure_id, source AS band_gap FROM entries", "is no number"),
        ("SELECT 'x' AS structure_id", "is no id"),
        ("DROP TABLE entry", "refused"),
    ):
        with pytest.raises(QueryError, match=said):
            export_structures(store, reader, statement, tmp_path / "y.zip")
    assert [path.name for path in tmp_path.iterdir()] == ["x.zip"]


def test_an_interrupted_export_leaves_nothing(store: Store, address: str, tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    for form in FORMATS:
        with pytest.raises(KeyboardInterrupt):
            export_structures(
                store, StoreReader(Settings(address)), ALL, tmp_path / TARGETS[form], form,
                skip=True, on_progress=stop,
            )  # fmt: skip
    assert not list(tmp_path.iterdir())
    assert threading.active_count() < 50


def test_rows_without_ids_are_structures(store: Store, address: str, tmp_path: Path) -> None:
    reader = StoreReader(Settings(address))
    twice = "SELECT structure_id FROM entries UNION ALL SELECT structure_id FROM entries"
    done = export_structures(store, reader, twice, tmp_path / "x")
    assert done.written == len(ids(store, "structure_id"))
    assert {path.stem for path in (tmp_path / "x").iterdir()} == ids(store, "structure_id")
    nothing = "SELECT structure_id FROM entries WHERE false"
    for form, name in TARGETS.items():
        target = tmp_path / "none" / form / name
        assert export_structures(store, reader, nothing, target, form).written == 0
        assert target.exists()


def test_the_command(store: Store, address: str, tmp_path: Path) -> None:
    run, target = CliRunner(), tmp_path / "x.extxyz"
    asked = ["-s", address, "structure", "export", ALL, "-o", str(target)]
    refused = run.invoke(app, asked)
    assert refused.exit_code == 2
    assert "--skip" in refused.stderr
    done = run.invoke(app, [*asked, "--skip"])
    assert done.exit_code == 0
    assert "wrote 4 structures" in done.stderr
    assert "left out 1: it is disordered" in done.stderr
    again = run.invoke(app, [*asked, "--skip"])
    assert again.exit_code == 5
