"""``gandb publish``, ``token`` and ``serve`` as they are typed."""

from __future__ import annotations

import http.client
import json
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from gandb.cli.app import app
from gandb.core.config import Settings
from gandb.schema.tables import source_snapshot
from gandb.store import Store
from tests.sharing.serve_lab import fill

COMMAND = (sys.executable, "-c", "from gandb.cli.app import main; main()")


def _run(store: str, *words: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, ["--store", store, *words])
    assert result.exit_code == code, result.output
    return result.output


def test_what_is_published_is_listed_and_taken_back(tmp_path: Path) -> None:
    store = str(tmp_path / "store")
    fill(store, tmp_path / "files", n=4)
    names = {p["publication"] for p in json.loads(_run(store, "publish", "--list", "--json"))}
    assert names == {"own@1", "some@1", "hidden@1", "diffuser"}
    said = _run(store, "publish", "unpublished@1", "--private")
    assert "secret: CC BY 4.0" in said
    assert "unpublished@1" in said
    assert "no longer served" in _run(store, "publish", "--remove", "unpublished@1")
    assert "known:" in _run(store, "publish", "--remove", "unpublished@1", code=3)
    _run(store, "publish", "nothing@1", code=3)
    _run(store, "publish", code=2)
    _run(store, "publish", "own@1", "--list", code=2)
    _run(store, "publish", "--list", "--private", code=2)


def test_tokens_are_shown_once(tmp_path: Path) -> None:
    store = str(tmp_path / "store")
    fill(store, tmp_path / "files", n=4)
    said = _run(store, "token", "create", "group B", "--for", "hidden@1")
    [token] = re.findall(r"gandb_[\w-]{43}", said)
    listed = _run(store, "token", "list")
    assert "group B" in listed
    assert token not in listed
    _run(store, "token", "create", "group B", code=2)
    _run(store, "token", "create", "group C", "--for", "nothing@1", code=3)
    assert "no longer valid" in _run(store, "token", "revoke", "group B")
    _run(store, "token", "revoke", "group B", code=3)


def test_what_may_not_be_handed_on_is_not_shown_to_everyone(tmp_path: Path) -> None:
    store = str(tmp_path / "store")
    fill(store, tmp_path / "files", n=4)
    with Store.open(Settings(store=store)).write() as tx:
        tx.execute(sa.update(source_snapshot).values(licence="ICSD, not to be passed on"))
    before = json.loads(_run(store, "publish", "--list", "--json"))
    said = _run(store, "publish", "unpublished@1", code=2)
    assert "not published: " in said
    assert "'ICSD, not to be passed on'" in said
    assert json.loads(_run(store, "publish", "--list", "--json")) == before
    _run(store, "publish", "unpublished@1", "--private")
    _run(store, "publish", "unpublished@1", "--allow-licence", "ICSD, not to be passed on")


@pytest.mark.slow
def test_a_server_answers_until_it_is_interrupted(tmp_path: Path) -> None:
    store = str(tmp_path / "store")
    fill(store, tmp_path / "files", n=4)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = ("--store", store, "serve", "--port", str(port))
    with subprocess.Popen([*COMMAND, *words], stderr=subprocess.PIPE, text=True) as server:
        try:
            status = _status(port)
        finally:
            server.send_signal(signal.SIGINT)
            _, said = server.communicate(timeout=60)
    assert status == 200
    assert server.returncode == 130
    assert "serving 4 publications, 3 of them public" in said
    assert re.search(r"127\.0\.0\.1 GET /structures 200 \d+ ms", said)
    assert "Traceback" not in said


def _status(port: int) -> int:
    for _ in range(600):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        try:
            connection.request("GET", "/v1/structures")
            return connection.getresponse().status
        except ConnectionRefusedError:
            time.sleep(0.1)
        finally:
            connection.close()
    raise AssertionError("the server did not start")


def test_a_port_that_is_taken_is_told(tmp_path: Path) -> None:
    store = str(tmp_path / "store")
    fill(store, tmp_path / "files", n=4)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        result = subprocess.run(
            [*COMMAND, "--store", store, "serve", "--port", port],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    assert result.returncode == 2, result.stderr
    assert "cannot listen" in result.stderr
