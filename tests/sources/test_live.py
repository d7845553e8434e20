"""Live sources against a server on this machine that replays pages and misbehaves."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from gandb.core.errors import InputError, NotFoundError, UsageError
from gandb.sources.live import LIVE, LiveSource, live_source
from gandb.sources.paging import Page, Query
from tests.sources import replay
from tests.sources.live_client import KEY, lend_client, quick
from tests.sources.replay import PRANKS, TROUBLES, Replay, Script, Style

# "hang" costs a real time-out each; it has tests of its own.
SWIFT = tuple(t for t in TROUBLES if t != "hang")


def structures(count: int) -> list[dict[str, Any]]:
    return [
        {"id": f"x-{i}", "type": "structures", "attributes": {"nelements": i % 5, "name": "é☃"}}
        for i in range(count)
    ]


STYLES: dict[str, tuple[Callable[[int], list[dict[str, Any]]], Style, str, str, str]] = {
    # name: records, style, live source, path of the endpoint, field that tells records apart
    "optimade": (structures, replay.optimade(), "optimade", "/optimade", "id"),
    "optimade by number": (
        structures,
        replay.optimade(link="number"),
        "optimade",
        "/optimade/v1",
        "id",
    ),
    "optimade by cursor": (
        structures,
        replay.optimade(link="cursor"),
        "optimade",
        "/optimade/v1/structures",
        "id",
    ),
    "optimade without version": (
        structures,
        replay.optimade(prefix="/optimade"),
        "optimade",
        "/optimade/",
        "id",
    ),
    "optimade without links": (
        structures,
        replay.optimade(link="none"),
        "optimade",
        "/optimade",
        "id",
    ),
    "optimade without more": (
        structures,
        replay.optimade(link="none", more=False),
        "optimade",
        "/optimade",
        "id",
    ),
    "oqmd": (
        lambda n: [{"entry_id": i, "name": f"Fe{i + 1}O"} for i in range(n)],
        replay.oqmd,
        "oqmd",
        "/oqmdapi",
        "entry_id",
    ),
    "aflow": (
        lambda n: [{"auid": f"aflow:{i:016x}", "aurl": f"a/{i}"} for i in range(n)],
        replay.aflux(),
        "aflow",
        "/API/aflux",
        "auid",
    ),
    "aflow by number": (
        lambda n: [{"auid": f"aflow:{i:016x}", "aurl": f"a/{i}"} for i in range(n)],
        replay.aflux(numbered=True),
        "aflow",
        "/API/aflux",
        "auid",
    ),
    "mp": (
        lambda n: [{"material_id": f"mp-{i}", "nsites": i} for i in range(n)],
        replay.mp(KEY),
        "mp",
        "",
        "material_id",
    ),
}
COUNTED = [name for name in STYLES if name != "aflow"]


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MP_API_KEY", KEY)
    lend_client(monkeypatch)


def records_of(data: bytes) -> list[Mapping[str, Any]]:
    document = json.loads(data)
    if isinstance(document, list):
        return document
    return list(document["data"] if "data" in document else document.values())


def collect(pages: Iterator[Page], field: str) -> dict[Any, Mapping[str, Any]]:
    """What a store holds in the end: one record per id."""
    found: dict[Any, Mapping[str, Any]] = {}
    for page in pages:
        records = records_of(page.data)
        assert page.records == len(records)
        found |= {record[field]: record for record in records}
    return found


def ask(
    kind: str,
    server: Replay,
    *,
    size: int = 10,
    limit: int | None = None,
) -> tuple[LiveSource, Query, str]:
    _, _, source, path, field = STYLES[kind]
    return LIVE[source], Query(server.url + path, None, (), size, limit), field


def check_numbers(pages: list[Page]) -> None:
    assert [page.number for page in pages] == list(range(len(pages)))
    assert [page.next is None for page in pages] == [False] * (len(pages) - 1) + [True]


# --- a server that behaves ------------------------------------------------------------------


@pytest.mark.parametrize("kind", STYLES)
@pytest.mark.parametrize("count", [0, 1, 10, 57])
def test_every_record_comes_once_from_a_server_that_behaves(kind: str, count: int) -> None:
    make, style, *_ = STYLES[kind]
    records = make(count)
    with Replay(records, style).running() as server, quick() as session:
        source, query, field = ask(kind, server)
        pages = list(source.pages(query, session))
        check_numbers(pages)
        assert [r[field] for p in pages for r in records_of(p.data)] == [r[field] for r in records]
        expected = {page.expected for page in pages if page.records}
        assert expected <= ({None} if kind == "aflow" else {count, None})
        for page in pages:
            assert len(source.ids(page.data)) == page.records


@pytest.mark.parametrize("kind", STYLES)
def test_the_limit_ends_the_pages(kind: str) -> None:
    make, style, *_ = STYLES[kind]
    with Replay(make(57), style).running() as server, quick() as session:
        source, query, _ = ask(kind, server, size=10, limit=23)
        pages = list(source.pages(query, session))
        assert sum(page.records for page in pages) == 30
        source, query, _ = ask(kind, server, size=10, limit=4)
        (page,) = source.pages(query, session)
        assert page.records == 4


@pytest.mark.parametrize(
    "kind", [k for k in STYLES if k != "aflow" and "number" not in k and k != "mp"]
)
def test_servers_that_give_fewer_than_asked(kind: str) -> None:
    make, style, *_ = STYLES[kind]
    with Replay(make(57), style, most=4).running() as server, quick() as session:
        source, query, field = ask(kind, server)
        assert len(collect(source.pages(query, session), field)) == 57


# --- a server that misbehaves ---------------------------------------------------------------


@pytest.mark.parametrize("kind", STYLES)
@pytest.mark.parametrize("seed", range(6))
def test_troubles_lose_and_double_nothing(kind: str, seed: int) -> None:
    make, style, *_ = STYLES[kind]
    records = make(60)
    script = Script(seed, troubles=SWIFT, rate=0.8, in_a_row=3)
    with Replay(records, style, script).running() as server, quick() as session:
        source, query, field = ask(kind, server)
        pages = list(source.pages(query, session))
        check_numbers(pages)
        assert [r[field] for p in pages for r in records_of(p.data)] == [r[field] for r in records]
        assert sum(server.happened.values()) > server.happened["nothing"]


@pytest.mark.parametrize("kind", ["optimade", "oqmd", "aflow", "mp"])
def test_servers_that_hang_are_asked_again(kind: str) -> None:
    make, style, *_ = STYLES[kind]
    script = Script(3, troubles=("hang", "closed before the answer"), rate=0.4)
    with Replay(make(40), style, script).running() as server, quick() as session:
        source, query, field = ask(kind, server)
        assert len(collect(source.pages(query, session), field)) == 40
        assert server.happened["hang"]


@pytest.mark.parametrize("kind", COUNTED)
@pytest.mark.parametrize("seed", range(6))
def test_odd_answers_lose_nothing(kind: str, seed: int) -> None:
    make, style, *_ = STYLES[kind]
    records = make(60)
    script = Script(seed, troubles=SWIFT, pranks=PRANKS, most_pranks=8)
    with Replay(records, style, script).running() as server, quick() as session:
        source, query, field = ask(kind, server)
        found = collect(source.pages(query, session), field)
        assert found == {record[field]: record for record in records}


@pytest.mark.parametrize("seed", range(6))
def test_short_and_empty_pages_lose_nothing_without_a_count(seed: int) -> None:
    pranks = ("short page", "empty page", "gzip", "slow", "wrong content type")
    make, style, *_ = STYLES["aflow"]
    records = make(60)
    script = Script(seed, troubles=SWIFT, pranks=pranks, most_pranks=8, rate=0.3)
    with Replay(records, style, script).running() as server, quick() as session:
        source, query, field = ask("aflow", server)
        found = collect(source.pages(query, session), field)
        assert found == {record[field]: record for record in records}


@pytest.mark.parametrize("kind", COUNTED)
@pytest.mark.parametrize("seed", range(6))
def test_what_changing_places_passed_over_comes_with_another_walk(kind: str, seed: int) -> None:
    make, style, *_ = STYLES[kind]
    records = make(60)
    # Six pages in the first walk, in which records change places three times, and twice later.
    script = Script(seed, reorder=2, reorders=5)
    with Replay(records, style, script).running() as server, quick() as session:
        source, query, field = ask(kind, server)
        pages = list(source.pages(query, session))
        check_numbers(pages)
        assert len(collect(iter(pages[:6]), field)) < 60
        assert collect(iter(pages), field) == {record[field]: record for record in records}


def test_a_walk_ends_where_the_server_counts_what_it_does_not_give() -> None:
    def serve(server: Replay, path: str, asked: dict[str, str]) -> replay.Reply | None:
        reply = replay.optimade()(server, path, asked)
        if reply and "meta" in reply.document:
            reply.document["meta"]["data_returned"] += 5
        return reply

    with Replay(structures(40), serve).running() as server, quick() as session:
        query = Query(f"{server.url}/optimade", None, (), 10, None)
        pages = list(LIVE["optimade"].pages(query, session))
        assert len(collect(iter(pages), "id")) == 40
        assert len(pages) == 8  # a second walk, which brings nothing new


# --- going on -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", STYLES)
def test_going_on_from_any_page_gives_the_same(kind: str) -> None:
    make, style, *_ = STYLES[kind]
    records = make(45)
    wanted = list(records)
    with Replay(records, style).running() as server, quick() as session:
        source, query, field = ask(kind, server)
        whole = list(source.pages(query, session))
        for cut in range(1, len(whole)):
            done = whole[:cut]
            seen = [i for page in done for i in source.ids(page.data)]
            rest = list(source.pages(query, session, done[-1].next, cut, seen=iter(seen)))
            assert [(p.number, p.data, p.next) for p in rest] == [
                (p.number, p.data, p.next) for p in whole[cut:]
            ]
            blind = list(source.pages(query, session, done[-1].next, cut))
            assert blind[0].number == cut
            found = collect(iter([*done, *blind]), field)
            assert sorted(map(str, found)) == sorted(str(r[field]) for r in wanted)


@pytest.mark.parametrize("kind", COUNTED)
@pytest.mark.parametrize("seed", range(4))
def test_going_on_while_records_change_places(kind: str, seed: int) -> None:
    """Broken off at a page of one's choice, gone on without a word of what came before."""
    make, style, *_ = STYLES[kind]
    records = make(60)
    script = Script(seed, troubles=SWIFT, pranks=PRANKS, most_pranks=8)
    chance = random.Random(seed)
    with Replay(records, style, script).running() as server, quick() as session:
        source, query, field = ask(kind, server)
        got: list[Page] = []
        start: str | None = None
        while not got or got[-1].next is not None:
            for page in source.pages(query, session, start, len(got)):
                got.append(page)
                if chance.random() < 0.3:
                    break
            start = got[-1].next
        check_numbers(got)
        found = collect(iter(got), field)
        assert found == {record[field]: record for record in records}


@pytest.mark.parametrize("cursor", ["", "x", "{}", "[1]", '{"at":"5"}', '{"at":5,"sweep":1}'])
@pytest.mark.parametrize("name", ["optimade", "oqmd", "aflow", "mp"])
def test_what_is_no_cursor_is_refused(name: str, cursor: str) -> None:
    query = Query("http://127.0.0.1:9/optimade", None, (), 10, None)
    with quick() as session, pytest.raises(UsageError, match="begin again"):
        next(LIVE[name].pages(query, session, cursor))


def test_a_cursor_leads_to_no_other_host() -> None:
    start = '{"at":"https://other.org/","expected":null,"fresh":0,"offset":0,"sweep":1}'
    query = Query("https://example.org", None, (), 10, None)
    with quick() as session, pytest.raises(UsageError, match=r"went to https://other.org"):
        LIVE["optimade"].pages(query, session, start)


# --- OPTIMADE's links -----------------------------------------------------------------------


@pytest.mark.parametrize("prank", [p for p in PRANKS if "link" in p])
def test_links_are_followed_on_the_endpoint_with_the_filter(prank: str) -> None:
    script = Script(1, pranks=[prank], rate=1.0)
    if prank == "link that goes back":
        script.rate = 0.5
    with Replay(structures(35), replay.optimade(), script).running() as server, quick() as session:
        query = Query(f"{server.url}/optimade", 'elements HAS "O"', ("id", "type"), 10, None)
        found = collect(LIVE["optimade"].pages(query, session), "id")
        assert len(found) == 35
        asked = [replay.query_of(url) for url, _ in server.asked if "structures" in url]
        assert {a["filter"] for a in asked} == {'elements HAS "O"'}
        assert {a["response_fields"] for a in asked} == {"id,type"}


def test_pages_in_a_circle_are_refused() -> None:
    style = replay.optimade(link="circle")
    with Replay(structures(35), style).running() as server, quick() as session:
        query = Query(f"{server.url}/optimade", None, (), 10, None)
        with pytest.raises(InputError, match="a page that came before") as caught:
            list(LIVE["optimade"].pages(query, session))
        assert "goes on from where it stopped" in str(caught.value)


def test_a_server_without_links_that_heeds_no_offset_is_refused() -> None:
    style = replay.optimade(link="none", heed=False)
    with Replay(structures(35), style).running() as server, quick() as session:
        query = Query(f"{server.url}/optimade", None, (), 10, None)
        with pytest.raises(InputError, match="heeds no page_offset"):
            list(LIVE["optimade"].pages(query, session))


@pytest.mark.parametrize("kind", ["oqmd", "aflow", "optimade by number"])
def test_a_server_that_gives_one_page_for_ever_is_refused(kind: str) -> None:
    make, style, *_ = STYLES[kind]

    class Stuck(Replay):
        def page(self, offset: int, limit: int) -> list[Mapping[str, Any]]:
            return super().page(0, limit)

    with Stuck(make(1000), style).running() as server, quick() as session:
        source, query, _ = ask(kind, server)
        with pytest.raises(InputError, match="in circles"):
            list(source.pages(query, session))


@pytest.mark.parametrize(
    ("total", "more", "linked"), [(10, True, False), (None, True, False), (None, None, True)]
)
def test_what_servers_leave_unsaid(total: int | None, more: bool | None, linked: bool) -> None:
    """The number on the page for that of all; no number; neither that nor whether there is more."""

    def serve(server: Replay, path: str, asked: dict[str, str]) -> replay.Reply | None:
        reply = replay.optimade(link="offset" if linked else "none")(server, path, asked)
        if reply is None or "meta" not in reply.document:
            return reply
        meta = reply.document["meta"]
        meta["data_returned"] = None if total is None else len(reply.document["data"])
        if more is None:
            del meta["more_data_available"]
        return reply

    with Replay(structures(35), serve).running() as server, quick() as session:
        query = Query(f"{server.url}/optimade", None, (), 10, None)
        pages = list(LIVE["optimade"].pages(query, session))
        assert len(collect(iter(pages), "id")) == 35
        assert len(pages) <= 5


@pytest.mark.parametrize("cut", [None, 1, 2])
def test_links_that_go_by_paths(cut: int | None) -> None:
    """Links without a query, and records that change places, so that there is a second walk."""

    def serve(server: Replay, path: str, asked: dict[str, str]) -> replay.Reply | None:
        head, _, page = path.partition("/page/")
        wanted = asked | {"page_offset": page or "0", "page_limit": "10"}
        reply = replay.optimade()(server, head, wanted)
        if reply and reply.document.get("links", {}).get("next"):
            reply.document["links"]["next"] = f"{head}/page/{int(page or 0) + 10}"
        return reply

    script = Script(5, reorder=2, reorders=1)
    with Replay(structures(35), serve, script).running() as server, quick() as session:
        query = Query(f"{server.url}/optimade", None, (), 10, None)
        pages = list(LIVE["optimade"].pages(query, session))
        if cut is not None:
            rest = LIVE["optimade"].pages(query, session, pages[cut - 1].next, cut)
            pages = [*pages[:cut], *rest]
        assert len(collect(iter(pages), "id")) == 35
        assert len(pages) > 4
        server.style = replay.optimade(prefix="/other")
        with pytest.raises(InputError, match="status 404"):
            list(LIVE["optimade"].pages(query, session))


# --- the list -------------------------------------------------------------------------------


def test_every_live_source_is_complete() -> None:
    assert {"oqmd", "mp", "aflow", "nomad", "jarvis", "alexandria", "cod", "odbx", "mc3d"} <= set(
        LIVE
    )
    for name, source in LIVE.items():
        assert source.name == name
        assert live_source(name) is source
        assert source.format in {"optimade", "oqmd-rest", "mp-summary", "aflux"}
        assert (source.endpoint is None) == (name == "optimade")
        assert source.endpoint is None or source.endpoint.startswith("https://")
    with pytest.raises(NotFoundError, match="known: oqmd"):
        live_source("oqdm")


# --- the real pages -------------------------------------------------------------------------


def real(shared_data: Path, name: str) -> tuple[str, list[dict[str, Any]]]:
    native = shared_data / "native"
    if name == "optimade":
        pages = json.loads((native / "oqmd" / "optimade-structures-pages.json").read_bytes())
        return "id", [entry for page in pages for entry in page["data"]]
    if name == "optimade by number":
        with gzip.open(native / "mp" / "optimade-structures.jsonl.gz") as lines:
            return "id", [json.loads(line) for line in list(lines)[::3] if b'"structures"' in line]
    if name == "oqmd":
        return "entry_id", json.loads((native / "oqmd" / "rest-formationenergy.json").read_bytes())
    if name == "aflow":
        return "auid", json.loads((native / "aflow" / "aflux-page.json").read_bytes())
    return "material_id", json.loads((native / "mp" / "summary-records-mock.json").read_bytes())


@pytest.mark.parametrize(
    ("kind", "size"),
    [("optimade", 200), ("optimade by number", 200), ("oqmd", 30), ("aflow", 2), ("mp", 7)],
)
@pytest.mark.parametrize("seed", [None, 0, 1])
def test_real_records_come_from_a_server_that_misbehaves(
    kind: str, size: int, seed: int | None, shared_data: Path
) -> None:
    field, records = real(shared_data, kind)
    script = None
    if seed is not None:
        pranks = (
            () if kind == "aflow" else ("short page", "repeated entries", "link by http", "gzip")
        )
        script = Script(seed, troubles=SWIFT, pranks=pranks, rate=0.4)
    with Replay(records, STYLES[kind][1], script).running() as server, quick() as session:
        source, query, _ = ask(kind, server, size=size)
        found = collect(source.pages(query, session), field)
        assert found == {record[field]: record for record in records}
