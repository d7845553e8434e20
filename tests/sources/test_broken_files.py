"""Two thousand broken files: each is a reject with its reason; none is a crash, a hang or a row."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from gandb.jobs import queue
from gandb.schema.tables import entry, snapshot_reject, source_snapshot
from gandb.sources.reading import read_files
from gandb.tasks.preparing import Preparation
from gandb.tasks.records import records_job
from gandb.tasks.verification import verify_store
from tests.broken import TOTAL, Broken, broken_files
from tests.good_files import WRITERS, draft
from tests.tasks.labs import make_store, work

SECONDS = 60
"""A file that takes longer hangs; the slowest take about one."""
MEMORY = 800 * 2**20
"""Bytes that reading bombs may take beyond what was taken before."""
_VAGUE = re.compile(r"\b\w+(?:Error|Exception|Warning)\b:?")
_OUTSIDE = ("/gandb-evil.cif", "/tmp/gandb-evil.cif", "/tmp/gandb-evil-pickle")


class _Hang(BaseException):
    """Raised by the alarm; no reader takes it for an error of a file."""


def _ring(signum: int, frame: object) -> None:
    raise _Hang


@cache
def _all() -> list[Broken]:
    return broken_files()


@cache
def _id(number: int) -> str:
    return str(draft(number).crystal().id)


def _is_heavy(each: Broken) -> bool:
    return len(each.data) > 10**6 or each.what.startswith("bomb")


def problems_of(path: Path, each: Broken) -> list[str]:
    """Read one file and say what is not as it must be."""
    before = signal.signal(signal.SIGALRM, _ring)
    signal.alarm(SECONDS)
    try:
        part = Preparation("broken")(list(read_files([path])))
    except _Hang:
        return [f"hangs, more than {SECONDS} seconds"]
    except Exception as error:  # noqa: BLE001 (whatever it is)
        return [f"raises {type(error).__name__}: {error}"[:300]]
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    rejects = part["rejects"].to_pylist()
    found = _amiss(each, part["entries"].to_pylist())
    if not rejects:
        found.append("has no reject")
    for reject in rejects:
        reason = reject["reason"]
        if len(_VAGUE.sub("", reason).strip()) < 8 or not reject["file"]:
            found.append(f"says no more than {reason!r}")
    if each.says and not any(re.search(each.says, reject["reason"]) for reject in rejects):
        found.append(f"does not say {each.says!r}: {[r['reason'][:100] for r in rejects]}")
    return found


def _amiss(each: Broken, entries: Sequence[Any]) -> list[str]:
    """What came in that should not have, or did not that should have."""
    is_dump = each.name.endswith(".sql")  # whose entries are rows of their own
    rows = [row for row in entries if row["structure_id"] or not is_dump]
    found = Counter(str(row["structure_id"]) for row in rows)
    sure = Counter(map(_id, each.good))
    return [
        *(f"lost a good record, {gone}" for gone in sure - found),
        *(f"let in {row}" for row in found - sure - Counter(map(_id, each.perhaps))),
    ]


def _open_files(folder: Path) -> list[str]:
    links = []
    for path in Path("/proc/self/fd").iterdir():
        try:
            links.append(str(path.readlink()))
        except OSError:
            continue
    return [link for link in links if link.startswith(str(folder))]


def check(folder: Path, files: Sequence[tuple[int, Broken]]) -> list[str]:
    """Read files one by one, each from a folder of its own; say what is amiss."""
    found = []
    for number, each in files:
        path = folder / f"{number:04d}" / each.name
        path.parent.mkdir(parents=True)
        path.write_bytes(each.data)
        amiss = problems_of(path, each)
        amiss += [f"left open: {name}" for name in _open_files(folder)]
        if sorted(path.parent.iterdir()) != [path]:
            amiss.append("wrote beside it")
        found += [f"{number} ({each.what}, {each.name}) {problem}" for problem in amiss]
        path.unlink()
        path.parent.rmdir()
    if left := [str(path) for path in folder.rglob("*")]:
        found.append(f"left behind: {left}")
    return found


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder to read in, and one for temporary files; nothing is written elsewhere."""
    for name in ("read", "temporary", "here"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    monkeypatch.chdir(tmp_path / "here")
    yield tmp_path / "read"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["here", "read", "temporary"]
    assert not list((tmp_path / "temporary").iterdir())
    assert not list((tmp_path / "here").iterdir())
    assert not [path for path in _OUTSIDE if Path(path).exists()]


def test_there_are_two_thousand_and_always_the_same() -> None:
    files = _all()
    assert len(files) == TOTAL
    assert len({(each.name, each.data) for each in files}) > TOTAL - 200, "empty ones are alike"
    again = broken_files()
    assert files == again
    assert {writer.name for writer in WRITERS} <= {each.name for each in files}


def test_what_they_are_made_of_is_good(place: Path) -> None:
    """Unbroken, each of the files comes in whole."""
    for writer in WRITERS:
        drafts = [draft(k + 1) for k in range(writer.most)]
        path = place / writer.name
        path.write_bytes(writer.file(drafts))
        each = Broken("nothing", writer.name, b"", tuple(of.number for of in drafts))
        assert problems_of(path, each) == ["has no reject"], writer.name
        path.unlink()


@pytest.mark.slow
def test_every_broken_file_is_a_reject(place: Path) -> None:
    light = [(k, each) for k, each in enumerate(_all()) if not _is_heavy(each)]
    assert check(place, light) == []


@pytest.mark.slow
def test_bombs_and_giants_take_little_memory(place: Path) -> None:
    """In a process of its own, whose memory is bounded."""
    code = f"from {__name__.rpartition('.')[2]} import heavy; heavy({str(place)!r})"
    root = Path(__file__).parents[2]
    paths = os.pathsep.join([str(Path(__file__).parent), str(root)])
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": paths, "TMPDIR": str(place.parent / "temporary")},
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2_000:]
    assert json.loads(done.stdout) == []


def heavy(folder: str) -> None:
    """Read the heavy ones within bounded memory and print what is amiss."""
    files = [(k, each) for k, each in enumerate(_all()) if _is_heavy(each)]
    warm = [(k, each) for k, each in enumerate(_all()) if each.name in ("one.cif", "ase.db")][:4]
    amiss = check(Path(folder), warm)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    amiss += check(Path(folder), files)
    if len(files) < 20:
        amiss.append(f"only {len(files)} are heavy")
    print(json.dumps(amiss))


@pytest.mark.slow
def test_all_of_them_imported_as_one_folder(tmp_path: Path) -> None:
    """Counts add up, and the store holds the good records and nothing else."""
    folder = tmp_path / "broken"
    files = {f"broken/{number:04d}/{each.name}": each for number, each in enumerate(_all())}
    for name, each in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True)
        path.write_bytes(each.data)
    store = make_store(str(tmp_path / "store"), tmp_path)
    (job,) = work(store, records_job("broken", [folder]))
    with store.read() as connection:
        (snapshot,) = connection.execute(source_snapshot.select()).mappings()
        entries = [dict(row) for row in connection.execute(entry.select()).mappings()]
        rejects = connection.execute(sa.select(snapshot_reject.c.file)).scalars().all()
    (chunk,) = queue.chunks(store, job.id)
    items = chunk["result"]["rows_read"]
    assert items == snapshot["n_entries"] + snapshot["n_rejects"] + snapshot["n_repeats"]
    assert (len(entries), len(rejects)) == (snapshot["n_entries"], snapshot["n_rejects"])
    refused = {"/".join(file.split("/")[:2]) for file in rejects}
    missing = [name for name in files if "/".join(name.split("/")[:2]) not in refused]
    assert missing == []
    found = Counter(str(row["structure_id"]) for row in entries if row["structure_id"])
    sure = {_id(number) for each in files.values() for number in each.good}
    perhaps = {_id(number) for each in files.values() for number in each.perhaps}
    assert sure <= set(found)
    assert set(found) <= sure | perhaps
    assert set(found.values()) == {1}
    assert [f for f in verify_store(store) if f["problems"]] == []
