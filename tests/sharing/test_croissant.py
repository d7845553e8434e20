"""The Croissant of a bundle: mlcroissant finds nothing wrong and loads what Parquet holds."""

from __future__ import annotations

import json
import logging
import math
import socket
import warnings
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa

from gandb.sharing.bundles.bundle import TABLES, BundleTable
from gandb.sharing.bundles.packing import pack
from gandb.sharing.bundles.selection import select
from tests.sharing.bundles import files_of
from tests.sharing.conftest import Group


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a bundle is described without asking the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.fixture(scope="module")
def croissant() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of rdflib and others while they are loaded
        import mlcroissant

    return mlcroissant


def opened(croissant: Any, folder: Path) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return croissant.Dataset(jsonld=folder / "croissant.json")


def test_mlcroissant_finds_nothing_wrong(
    croissant: Any, two_groups: dict[str, Group], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = two_groups["ada"].store
    chosen = {
        "all": select(store, everything=True),
        "version": select(store, datasets=["own@2"]),
        "model": select(store, models=["other"], entries=False),
    }
    for name, selection in chosen.items():
        pack(store, selection, tmp_path / name)
        with caplog.at_level(logging.WARNING):
            metadata = opened(croissant, tmp_path / name).metadata
        assert metadata.ctx.issues.report() == ""
        assert not metadata.ctx.issues.errors
        assert not metadata.ctx.issues.warnings
        assert [r.message for r in caplog.records] == []
        assert str(metadata.ctx.conforms_to.value).endswith("/1.1")


def test_every_record_set_loads_as_it_is(croissant: Any, two_groups: dict[str, Group]) -> None:
    folder = two_groups["ada"].bundle
    dataset = opened(croissant, folder)
    filled = {t.name: t for t in TABLES if pq.read_metadata(folder / t.path).num_rows}
    assert {r.id for r in dataset.metadata.record_sets} == set(filled)
    assert len(filled) > 20
    for name, table in filled.items():
        wanted = pq.read_table(folder / table.path).to_pylist()[:40]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pandas, about how mlcroissant calls it
            loaded = dataset.records(name)
            found = [record for _, record in zip(range(len(wanted)), loaded, strict=False)]
        assert [_plain(table, record) for record in found] == [_expected(row) for row in wanted]


def _plain(table: BundleTable, record: dict[str, Any]) -> dict[str, Any]:
    return {c.name: _value(record[f"{table.name}/{c.name}"], c) for c in table.columns}


def _value(value: Any, column: sa.Column[Any]) -> Any:
    if isinstance(value, list):
        return [_value(v, column) for v in value]
    if isinstance(value, bytes) and not isinstance(column.type, sa.LargeBinary):
        return value.decode()
    return value.item() if hasattr(value, "item") else value


def _expected(row: dict[str, Any]) -> dict[str, Any]:
    return {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in row.items()}


def test_it_says_what_the_files_are(two_groups: dict[str, Group]) -> None:
    folder = two_groups["ada"].bundle
    about = json.loads((folder / "croissant.json").read_text())
    manifest = json.loads((folder / "manifest.json").read_text())
    files = {f["contentUrl"]: f for f in about["distribution"]}
    assert set(files) == {t.path for t in TABLES}
    for path, file in files.items():
        assert file["sha256"] == manifest["files"][path]["sha256"]
        assert file["contentSize"] == f"{len(files_of(folder)[path])} B"
    fields = {f["@id"]: f for r in about["recordSet"] for f in r["field"]}
    references = {
        k: f["references"].get("field", f["references"].get("fileObject"))["@id"]
        for k, f in fields.items()
        if "references" in f
    }
    assert references["entry/composition_id"] == "composition/id"
    assert references["entry/structure_id"] == "structure.parquet"
    assert references["dataset_member/entry_id"] == "entry.parquet"
    assert fields["entry/band_gap"]["description"].endswith("Unit: eV.")
    assert fields["structure/frac_coords"]["isArray"] is True
    assert about["datePublished"] == "1980-01-01"
    assert all(f["description"] for f in fields.values())


def test_a_date_can_be_stated(two_groups: dict[str, Group], tmp_path: Path) -> None:
    store = two_groups["ada"].store
    chosen = select(store, datasets=["own@1"])
    pack(store, chosen, tmp_path / "out", published="2026-11-30", licence="CC0-1.0")
    about = json.loads((tmp_path / "out/croissant.json").read_text())
    crate = json.loads((tmp_path / "out/ro-crate-metadata.json").read_text())
    assert about["datePublished"] == "2026-11-30"
    assert "CC0-1.0" in about["license"]
    root = next(e for e in crate["@graph"] if e["@id"] == "./")
    assert root["datePublished"] == "2026-11-30"
