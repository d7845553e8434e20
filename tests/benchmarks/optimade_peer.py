"""The consortium's reference server, optimade-python-tools, over the same structures.

It keeps them in mongomock, as it does where no MongoDB is named: a database in memory, written in
Python. With MongoDB beside it, it would be faster; none is at hand here.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

STARTUP_SECONDS = 300


@contextlib.contextmanager
def serving(structures: Path, folder: Path, port: int) -> Iterator[str]:
    """Run the server on loopback and yield its URL.

    Args:
        structures: OPTIMADE JSON lines.
        folder: for its configuration and logs.
        port: a free one.
    """
    folder.mkdir()
    config = folder / "config.json"
    provider = {
        "name": "peer", "description": "peer", "prefix": "gandb", "homepage": "https://example.org",
    }  # fmt: skip
    config.write_text(
        json.dumps(
            {
                "insert_from_jsonl": str(structures),
                "database_backend": "mongomock",
                "create_default_index": True,
                "log_dir": str(folder),
                "provider": provider,
            }
        )
    )
    command = [sys.executable, "-W", "ignore", "-m", "uvicorn", "optimade.server.main:app"]
    process = subprocess.Popen(
        [*command, "--port", str(port)],
        env={**os.environ, "OPTIMADE_CONFIG_FILE": str(config)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    base = f"http://127.0.0.1:{port}"
    try:
        for _ in range(STARTUP_SECONDS):
            if process.poll() is not None:
                raise RuntimeError("the reference server ended at once; is optimade[server] here?")
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{base}/v1/info"):
                break
            time.sleep(1)
        yield base
    finally:
        process.terminate()
        process.wait(30)
