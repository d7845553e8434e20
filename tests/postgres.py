"""A throw-away PostgreSQL server for the tests, and fresh databases on it.

The server is started from binaries found on this machine, listens on loopback only, asks for a
random password, trades durability for speed and is gone with its files when the tests end.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
from psycopg import sql

USER = "gandb"
STARTUP_SECONDS = 60
SETTINGS = {
    "autovacuum_naptime": "5min",
    "fsync": "off",
    "full_page_writes": "off",
    "listen_addresses": "127.0.0.1",
    "max_connections": "100",
    "max_wal_size": "2GB",
    "password_encryption": "scram-sha-256",
    "shared_buffers": "128MB",
    "synchronous_commit": "off",
    "timezone": "UTC",
    "unix_socket_directories": "",
}


def server_binaries() -> Path | None:
    """Return the folder that holds ``initdb`` and ``postgres``; the newest where there are many."""
    folders: list[Path] = []
    if pg_config := shutil.which("pg_config"):
        answer = subprocess.run(
            [pg_config, "--bindir"], capture_output=True, text=True, check=True
        ).stdout
        folders.append(Path(answer.strip()))
    folders += [Path(p) for p in os.environ.get("PATH", "").split(os.pathsep) if p]
    packaged = [p for p in Path("/usr/lib/postgresql").glob("*/bin") if p.parent.name.isdigit()]
    folders += sorted(packaged, key=lambda p: int(p.parent.name), reverse=True)
    for folder in folders:
        if (folder / "initdb").exists() and (folder / "postgres").exists():
            return folder
    return None


def _unprivileged_user() -> pwd.struct_passwd | None:
    """Return whom to run the server as: PostgreSQL refuses to run as root. None: as ourselves."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise RuntimeError("PostgreSQL does not run as root, and there is no user postgres or nobody")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_until_ready(server: subprocess.Popen[bytes], url: str, log: Path) -> bool:
    """Wait for connections; False if the server has gone (its port was taken, say)."""
    deadline = time.monotonic() + STARTUP_SECONDS
    while time.monotonic() < deadline:
        if server.poll() is not None:
            return False
        try:
            psycopg.connect(url, connect_timeout=5).close()
        except psycopg.OperationalError:
            time.sleep(0.05)
        else:
            return True
    server.kill()
    raise RuntimeError(
        f"PostgreSQL took no connections within {STARTUP_SECONDS} s:\n{log.read_text()}"
    )


@contextlib.contextmanager
def running_server(binaries: Path) -> Iterator[str]:
    """Start a new cluster on loopback and yield the URL of its ``postgres`` database."""
    user = _unprivileged_user()
    identity = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []} if user else {}
    with tempfile.TemporaryDirectory(prefix="gandb-postgres-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        password = secrets.token_hex(16)
        password_file = folder / "password"
        password_file.write_text(password)
        if user:
            os.chown(folder, user.pw_uid, user.pw_gid)
            os.chown(password_file, user.pw_uid, user.pw_gid)
        data, log = folder / "data", folder / "log"
        initdb = [
            str(binaries / "initdb"),
            f"--pgdata={data}",
            f"--username={USER}",
            f"--pwfile={password_file}",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--locale=C",
            "--no-sync",
        ]
        made = subprocess.run(
            initdb, cwd=folder, capture_output=True, text=True, check=False, **identity
        )
        if made.returncode:
            raise RuntimeError(f"initdb failed:\n{made.stdout}{made.stderr}")
        settings = [part for item in SETTINGS.items() for part in ("-c", "=".join(item))]
        for _ in range(5):
            port = _free_port()
            url = f"postgresql://{USER}:{password}@127.0.0.1:{port}/postgres"
            with log.open("wb") as sink:
                server = subprocess.Popen(
                    [str(binaries / "postgres"), "-D", str(data), "-p", str(port), *settings],
                    cwd=folder,
                    stdin=subprocess.DEVNULL,
                    stdout=sink,
                    stderr=sink,
                    start_new_session=True,  # an interrupt of the tests is not one of the server
                    **identity,
                )
            try:
                if _wait_until_ready(server, url, log):
                    yield url
                    return
            finally:
                server.send_signal(signal.SIGINT)  # "fast": roll back and stop
                try:
                    server.wait(30)
                except subprocess.TimeoutExpired:
                    server.kill()
                    server.wait()
        raise RuntimeError(f"PostgreSQL did not start:\n{log.read_text()}")


@contextlib.contextmanager
def fresh_database(server_url: str) -> Iterator[str]:
    """Create an empty database on the server and yield its URL; drop it at the end."""
    name = f"gandb_test_{secrets.token_hex(6)}"
    with psycopg.connect(server_url, autocommit=True) as connection:
        create = sql.SQL("CREATE DATABASE {} TEMPLATE template0 ENCODING 'UTF8'")
        connection.execute(create.format(sql.Identifier(name)))
    try:
        yield urlunsplit(urlsplit(server_url)._replace(path=f"/{name}"))
    finally:
        with psycopg.connect(server_url, autocommit=True) as connection:
            drop = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)")
            connection.execute(drop.format(sql.Identifier(name)))
