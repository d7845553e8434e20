"""`gandb dataset`: making versions of others, their history, differences, tags and splits."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.test_commands import Outcome
from tests.datasets import labs

N = 40


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A store with three versions of mp, one of other, and a tag."""
    store = str(tmp_path_factory.mktemp("lab") / "store")
    labs.make_store(store, N)
    for command in (
        ("create", "mp", "--where", "band_gap < 40", "-m", "first\nof two lines"),
        ("change", "mp", "--drop", "band_gap < 4", "-m", "less"),
        ("create", "other", "--where", "band_gap >= 36 AND band_gap < 50"),
        ("change", "mp", "--unite", "other", "--filter", "band_gap < 48", "-m", "united"),
        ("tag", "mp@2", "best", "-m", "so far"),
    ):
        outcome = Outcome("dataset", *command, "--json", store=store)
        assert outcome.code == 0, outcome.err
    return store


def _run(lab: str, *command: object, code: int = 0) -> Outcome:
    outcome = Outcome("dataset", *command, store=lab)
    assert outcome.code == code, outcome.err
    return outcome


def test_the_log_draws_the_graph(lab: str) -> None:
    lines = _run(lab, "log", "mp").out.splitlines()
    heads = [line.split("  20")[0].rstrip() for line in lines if "entries" in line]
    assert [h.split()[-1] for h in heads if "[" not in h] == ["mp@3", "other@1", "mp@1"]
    assert lines[0].startswith("●")
    assert "44 entries  +8 -0" in lines[0]
    assert "├─╮" in [line.strip() for line in lines]
    assert any("mp@2  [mp@best]" in line and "+0 -4" in line for line in lines)
    assert any(line.endswith("of two lines") for line in lines)
    rows = _run(lab, "log", "mp", "--json").rows
    assert rows[0]["datasets"] == ["mp@3"]
    assert [p["datasets"] for p in rows[0]["parents"]] == [["mp@2"], ["other@1"]]
    assert {r["added"] for r in rows if r["datasets"] == ["mp@1"]} == {40}
    few = _run(lab, "log", "-n", "1")
    assert "3 older ones are left out" in few.err
    assert len([line for line in few.out.splitlines() if "entries" in line]) == 1


def test_show_says_everything(lab: str) -> None:
    (row,) = _run(lab, "show", "mp@best", "--json").rows
    assert (row["dataset"], row["entries"], row["compositions"]) == ("mp@2", 36, 18)
    assert row["train"] + row["validation"] + row["test"] == 36
    assert row["parents"][0]["dataset"] == "mp@1"
    assert row["tags"] == [{"tag": "mp@best", "origin": "", "counts": True}]
    assert row["selection"] == {"base": "mp@1", "drop": "band_gap < 4"}
    assert not any(r["leaked_members"] for r in row["leak"] if r["level"] == "composition")
    shown = _run(lab, "show", "mp@2").out
    for text in ("mp@best", "drop band_gap < 4", "mp@1", "Splits", "train"):
        assert text in shown


def test_differences_are_told_and_listed(lab: str) -> None:
    (row,) = _run(lab, "diff", "mp@1", "mp@3", "--json").rows
    assert (row["added"], row["dropped"], row["moved"]) == (8, 4, 0)
    assert row["compositions"] == {"gained": 4, "lost": 2}
    shown = _run(lab, "diff", "mp@1", "mp@3").out
    assert "mp@1 (40 entries) -> mp@3 (44): +8 -4" in shown
    listed = _run(lab, "diff", "mp@1", "mp@3", "--list", "--json").rows
    assert sorted(int(r["external_id"][3:]) for r in listed) == [*range(4), *range(40, 48)]
    assert "hold the same entries" in _run(lab, "diff", "mp@2", "mp@best").out


def test_splits_given_and_coarser(lab: str, tmp_path: Path) -> None:
    lines = [f"mp-{n} {'test' if n % 3 == 0 else 'train'}" for n in range(20)]
    path = labs.write_lines(tmp_path / "splits.txt", lines)
    (row,) = _run(lab, "create", "given", "--split-file", path, "--json").rows
    assert (row["train"], row["validation"], row["test"]) == (13, 0, 7)
    rows = _run(lab, "leak", "given", "--json").rows
    told = {(r["split"], r["level"]): r["leaked_members"] for r in rows}
    assert told["test", "composition"] == 7
    assert "7" in _run(lab, "leak", "given@1").out
    outcome = _run(lab, "create", "given", "--where", "band_gap < 22", "--split-file", path)
    assert "2 of 22 entries are not among the 20 ids with a split" in outcome.err
    (row,) = _run(lab, "change", "given", "--split-by", "chemical_system", "--json").rows
    rows = _run(lab, "leak", "given", "--json").rows
    assert not any(r["leaked_members"] for r in rows if r["level"] == "chemical_system")
    (shown,) = _run(lab, "show", "given", "--json").rows
    assert shown["split_recipe"]["by"] == "chemical_system"
    (row,) = _run(lab, "change", "given", "--split", "0.5,0.25,0.25", "--json").rows
    (shown,) = _run(lab, "show", "given", "--json").rows
    assert (shown["split_recipe"]["by"], shown["split_recipe"]["seed"]) == ("chemical_system", 0)


def test_tags_and_numbers_come_and_go(lab: str) -> None:
    _run(lab, "create", "tmp", "--where", "band_gap < 6")
    _run(lab, "change", "tmp", "--drop", "band_gap < 2")
    _run(lab, "tag", "tmp@1", "old")
    assert _run(lab, "tag", "tmp", "--json").rows[0]["tag"] == "tmp@old"
    assert "stands for it already" in _run(lab, "tag", "tmp@old", "old").err
    assert "with --move" in _run(lab, "tag", "tmp@2", "old", code=2).err
    _run(lab, "tag", "tmp@2", "old", "--move")
    assert "tag tmp@old" in _run(lab, "rm", "tmp@2", code=2).err
    _run(lab, "tag", "tmp", "old", "--delete")
    assert "gandb dataset restore tmp@2" in _run(lab, "rm", "tmp@2").err
    assert "tmp@2" not in _run(lab, "list").out
    assert "was removed" in _run(lab, "show", "tmp@2", code=3).err
    (row,) = _run(lab, "restore", "tmp@2", "--json").rows
    assert row["dataset"] == "tmp@2"
    (row,) = _run(lab, "restore", "tmp@1", "--json").rows
    assert (row["dataset"], row["message"]) == ("tmp@3", "restored from tmp@1")
    assert "nothing is to be restored" in _run(lab, "restore", "tmp@3").err


@pytest.mark.parametrize(
    ("command", "code", "words"),
    [
        (("change", "mp"), 2, "say what to change in mp@3"),
        (("change", "mp", "--drop", "true"), 2, "no member would be left"),
        (("change", "mp", "--drop", "gap > 1"), 6, "band_gap"),
        (("change", "pm", "--drop", "true"), 3, "known: mp"),
        (("change", "mp", "--unite", "mp@9"), 3, "mp@9"),
        (("change", "mp", "--split-by", "element"), 2, "split by composition, chemical_system"),
        (("create", "mp", "--where", "true", "--from", "x"), 2, "not by both"),
        (("create", "a/mp", "--where", "true"), 2, "--as mp"),
        (("diff", "mp@1", "mp@8"), 3, "known: mp@"),
        (("log", "pm"), 3, "known: mp"),
        (("rm", "mp"), 2, "mp@NUMBER"),
        (("tag", "--delete"), 2, "give the version and the tag"),
        (("tag", "mp@1", "3"), 2, "cannot be a tag"),
        (("show", "mp@worst"), 3, "known: mp@best"),
    ],
    ids=lambda part: " ".join(part) if isinstance(part, tuple) else None,
)
def test_refusals(lab: str, command: tuple[str, ...], code: int, words: str) -> None:
    assert words in _run(lab, *command, code=code).err
