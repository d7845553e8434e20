"""A small store with a bit of everything published, and a server of it on a free port."""

from __future__ import annotations

import contextlib
import http.client
import json
import random
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode
from uuid import UUID

import uvicorn

from gandb.core.config import Settings
from gandb.core.crystals import Crystal, crystal
from gandb.core.units import PROPERTIES
from gandb.datasets import selection, versions
from gandb.sharing.serving.answers import Provider
from gandb.sharing.serving.app import make_app
from gandb.sharing.serving.documents import crystal_attributes
from gandb.sharing.serving.publishing import publish
from gandb.store import Store
from gandb.tasks.candidates import candidates_job
from gandb.tasks.records import records_job
from tests.filled import run

SPECIES = (
    *"Fe Fe3+ Fe2+ O O2- Si Li Li+ Na Cl Cl- H D C N Ca U Lr La3+".split(),
    "Fe3+:0.5 Ni2+:0.25",
    "Al:0.5 Si:0.5",
    "Li+:0.75",
    "D:0.5 H:0.5",
    "O:0.9",
)
NAMES = ("a%b", "a_b", 'quo"te', "back\\slash", "O'Neil", "Ünï", "mp-1", "mp-10", "", " lead")


def crystals(n: int, seed: int) -> list[Crystal]:
    """Return n different crystals, one third of them with charge or site properties."""
    rng = random.Random(seed)
    found: dict[UUID, Crystal] = {}
    while len(found) < n:
        sites = [rng.choice(SPECIES) for _ in range(rng.choice((1, 2, 2, 3, 4, 6)))]
        coords = [[rng.randrange(8) / 8 for _ in range(3)] for _ in sites]
        if len({tuple(c) for c in coords}) < len(coords):
            continue
        properties: dict[str, list[Any]] = {}
        if rng.random() < 0.3:
            properties["magmom"] = [rng.choice((None, 1.5, -2.25)) for _ in sites]
        if rng.random() < 0.2:
            properties["forces"] = [[rng.uniform(-1, 1) for _ in range(3)] for _ in sites]
        angles = rng.choice(([90.0] * 3, [90.0, 90.0, 120.0], [70.5, 81.25, 99.125]))
        own = crystal(
            [rng.uniform(4, 9) for _ in range(3)],
            angles,
            sites,
            coords,
            properties=properties,
            charge=rng.choice((None, None, None, 1.0, -2.0)),
        )
        found[own.id] = own
    return list(found.values())


def write_records(path: Path, made: list[Crystal], seed: int, *, bare: bool = False) -> None:
    """Write crystals as OPTIMADE JSON Lines, with properties here and there."""
    rng = random.Random(seed)
    with path.open("w") as lines:
        for number, own in enumerate(made):
            attributes: dict[str, Any] = crystal_attributes(own)
            attributes["_gandb_external_id"] = (
                NAMES[number] if number < len(NAMES) else f"x-{number}"
            ) or f"n-{number}"
            for name in PROPERTIES if not bare else ():
                if rng.random() < 0.5:
                    attributes[f"_gandb_{name}"] = rng.choice((0.0, 1.5, -0.25, rng.uniform(-3, 3)))
            item = {"type": "structures", "id": f"r{number}", "attributes": attributes}
            lines.write(json.dumps(item) + "\n")


@dataclass
class Lab:
    """The store with what is in it.

    Attributes:
        store: the store.
        public: crystals that everyone may see.
        private: crystals for who has a token.
        secret: crystals that were not published.
        generated: crystals of an external model, public.
    """

    store: Store
    public: list[Crystal]
    private: list[Crystal]
    secret: list[Crystal]
    generated: list[Crystal]


def fill(url: str, folder: Path, n: int = 40) -> Lab:
    """Make the store: own@1 and some@1 are public and overlap, hidden@1 is private."""
    folder.mkdir(parents=True, exist_ok=True)
    blobs = str(folder / "blobs") if "://" in url else None
    store = Store.create(Settings(store=url, lock_timeout=20.0), blobs)
    parts = crystals(4 * n, seed=5)
    kinds = [parts[i * n : (i + 1) * n] for i in range(4)]
    for source, made in zip(("own", "lab", "secret"), kinds[:3], strict=True):
        path = folder / f"{source}.jsonl"
        write_records(path, made, seed=n)
        run(
            store,
            records_job(
                source, [path], licence="CC BY 4.0", attribution=f"{source}, doi:10.1000/{source}.1"
            ),
        )
    path = folder / "model.jsonl"
    write_records(path, kinds[3], seed=3, bare=True)
    run(store, candidates_job("diffuser", [path], origin={"paper": "doi:10.1000/diffuser"}))
    for name, condition in (
        ("own", "source = 'own'"),
        ("hidden", "source = 'lab'"),
        ("unpublished", "source = 'secret'"),
        ("some", "source = 'own' AND n_elements < 3"),
    ):
        versions.create(store, name, selection.by_condition(store, condition), "")
    publish(store, "own@1")
    publish(store, "some@1")
    publish(store, "hidden@1", public=False)
    publish(store, "diffuser")
    return Lab(store, kinds[0], kinds[1], kinds[2], kinds[3])


# --- asking ------------------------------------------------------------------------------


@dataclass
class Reply:
    """An answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.body)
        return found


@dataclass
class Served:
    """A server, and how to ask it.

    Attributes:
        base: its unversioned base URL.
    """

    base: str
    port: int
    token: str | None = None
    _local: threading.local = field(default_factory=threading.local)

    def ask(
        self, path: str, method: str = "GET", headers: Mapping[str, str] | None = None
    ) -> Reply:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        given = dict(headers or {})
        if self.token:
            given["Authorization"] = f"Bearer {self.token}"
        try:
            connection.request(method, path.removeprefix(self.base), headers=given)
            response = connection.getresponse()
            found = {k.lower(): v for k, v in response.getheaders()}
            return Reply(response.status, found, response.read())
        finally:
            connection.close()

    def structures(self, **parameters: Any) -> Reply:
        """Ask for structures with query parameters."""
        text = urlencode(parameters, quote_via=quote)
        return self.ask(f"/v1/structures?{text}")

    def all(self, **parameters: Any) -> list[dict[str, Any]]:
        """Return all entries that fit, page by page."""
        reply = self.structures(**parameters)
        found = []
        while True:
            assert reply.status == 200, reply.body
            page = reply.json
            found += page["data"]
            following = page["links"]["next"]
            assert page["meta"]["more_data_available"] == (following is not None)
            if following is None:
                return found
            reply = self.ask(following)

    def ids(self, **parameters: Any) -> list[str]:
        """Return the ids of all entries that fit."""
        return [d["id"] for d in self.all(response_fields="id", page_limit=1000, **parameters)]


@contextlib.contextmanager
def serving(store: Store, **options: Any) -> Iterator[Served]:
    """Serve a store in a thread of this process."""
    app = make_app(store, provider=Provider(maintainer="someone@example.org"), **options)
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    port = sock.getsockname()[1]
    config = uvicorn.Config(app, log_config=None, access_log=False, lifespan="on", loop="asyncio")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([sock],))
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        yield Served(f"http://127.0.0.1:{port}", port)
    finally:
        server.should_exit = True
        thread.join(30)
        sock.close()
