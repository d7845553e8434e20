"""What live sources ask of servers: searches in their own terms, fields and keys."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from gandb.core.errors import InputError, MissingExtraError, UsageError
from gandb.sources import live_aflow, live_mp
from gandb.sources.live import LIVE
from gandb.sources.paging import Query
from tests.sources import replay
from tests.sources.live_client import KEY, lend_client, quick
from tests.sources.replay import Replay


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MP_API_KEY", KEY)
    lend_client(monkeypatch)


def test_oqmd_is_asked_in_its_own_terms() -> None:
    with Replay([], replay.oqmd).running() as server, quick() as session:
        words = "element_set=(Al-Fe),O AND composition=Fe-O AND stability<=0 AND icsd=True"
        query = Query(f"{server.url}/oqmdapi", words, ("name", "delta_e"), 10, None)
        list(LIVE["oqmd"].pages(query, session))
        assert replay.query_of(server.asked[0][0]) == {
            "filter": "element_set=(Al-Fe),O AND stability<=0",
            "composition": "Fe-O",
            "icsd": "True",
            "fields": "name,delta_e,entry_id",
            "limit": "10",
            "offset": "0",
        }


def test_aflow_is_asked_in_one_matchbook() -> None:
    with Replay([], replay.aflux()).running() as server, quick() as session:
        query = Query(
            f"{server.url}/API/aflux/", "species(Na:K,Cl),Egap(1*,*5)", ("Egap",), 10, None
        )
        list(LIVE["aflow"].pages(query, session))
        assert server.asked[0][0] == (
            "/API/aflux/?auid,species(Na:K,Cl),Egap(1*,*5),aurl,Egap,$paging(1,10),format(json)"
        )


@pytest.mark.parametrize("words", ["paging(2,3)", "Egap(1*),$paging(0)", "format(html),Egap"])
def test_aflow_pages_are_not_the_filters(words: str) -> None:
    query = Query("https://aflow.org/API/aflux", words, (), 10, None)
    with quick() as session, pytest.raises(UsageError, match="directive of its own"):
        live_aflow.pages(query, session)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (None, {}),
        (" ", {}),
        ("elements=Li, O", {"elements": ["Li", "O"]}),
        ("elements=Li", {"elements": ["Li"]}),
        ("chemsys=Li-O", {"chemsys": "Li-O"}),
        ("chemsys=Li-O,Fe-O", {"chemsys": ["Li-O", "Fe-O"]}),
        ("num_elements=2..4&is_stable=TRUE", {"num_elements": (2, 4), "is_stable": True}),
        ("energy_above_hull=0..0.05", {"energy_above_hull": (0, 0.05)}),
        ("spacegroup_number=225,227", {"spacegroup_number": [225, 227]}),
        ('{"band_gap": [0.1, 2]}', {"band_gap": [0.1, 2]}),
    ],
)
def test_a_search_of_the_materials_project(text: str | None, found: dict[str, Any]) -> None:
    assert live_mp.search_of(text) == found


@pytest.mark.parametrize(
    "text", ["elements", "=1", "a=", "a=1&a=2", "{", "fields=x", "_page=1", "n=a..b", "1a=2"]
)
def test_what_is_no_search_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="filter"):
        live_mp.search_of(text)


def test_the_materials_project_is_asked_with_the_key_in_a_header() -> None:
    with Replay([], replay.mp(KEY)).running() as server, quick() as session:
        words = "elements=Li,O&energy_above_hull=0..0.05&deprecated=false"
        query = Query(server.url, words, ("nsites", "material_id"), 10, None)
        (page,) = LIVE["mp"].pages(query, session)
        address, headers = server.asked[0]
        assert headers["X-API-KEY"] == KEY
        assert KEY not in address
        assert KEY not in page.url
        asked = replay.query_of(address)
        assert asked.pop("_per_page") == asked.pop("_limit") == "10"
        assert asked == {
            "elements": "Li,O",
            "energy_above_hull_min": "0",
            "energy_above_hull_max": "0.05",
            "deprecated": "false",
            "_fields": "material_id,nsites",
            "_page": "1",
            "_sort_fields": "material_id",
        }


def test_without_a_good_key_nothing_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MP_API_KEY", "wrong-key")
    with Replay([], replay.mp(KEY)).running() as server, quick() as session:
        query = Query(server.url, None, (), 10, None)
        with pytest.raises(InputError, match="check the key in MP_API_KEY") as caught:
            list(LIVE["mp"].pages(query, session))
        assert "wrong-key" not in str(caught.value)
        monkeypatch.delenv("MP_API_KEY")
        with pytest.raises(UsageError, match="set MP_API_KEY"):
            LIVE["mp"].pages(query, session)
        monkeypatch.setenv("MP_API_KEY", KEY)
        elsewhere = Query("https://example.org", None, (), 10, None)
        with pytest.raises(UsageError, match=r"goes to materialsproject\.org only"):
            LIVE["mp"].pages(elsewhere, session)


def test_fields_that_the_materials_project_does_not_have() -> None:
    with Replay([], replay.mp(KEY)).running() as server, quick() as session:
        query = Query(server.url, None, ("no_such_field",), 10, None)
        with pytest.raises(UsageError, match="no_such_field"):
            list(LIVE["mp"].pages(query, session))
        query = Query(server.url, "no_such_term=1", ("nsites",), 10, None)
        with pytest.raises(UsageError, match="no_such_term"):
            list(LIVE["mp"].pages(query, session))


@pytest.mark.parametrize("name", ["requests", "mp_api.client.routes.materials.summary"])
def test_missing_packages_are_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    query = Query("http://127.0.0.1:9", None, (), 10, None)
    with quick() as session, pytest.raises(MissingExtraError, match=r"gandb\[(live|mp)\]"):
        list(LIVE["mp"].pages(query, session))
