"""What is served: the very records, page by page, to whom it was published, and nothing else."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import sqlalchemy as sa

from gandb.core.config import Settings
from gandb.core.crystals import Crystal
from gandb.schema.revision import HEAD, HISTORY
from gandb.schema.tables import access_token, candidate, entry, published
from gandb.sharing.serving import catalogue
from gandb.sharing.serving.answers import MEDIA_TYPE
from gandb.sharing.serving.packed import COLUMNS, pack_columns, unpack, unpack_row
from gandb.sharing.serving.properties import PREFIX, STRUCTURES
from gandb.sharing.serving.publishing import list_publications, publish, remove
from gandb.sharing.serving.tokens import create_token, revoke_token
from gandb.sources.optimade import records_of_page
from gandb.sources.records import Record, Sites
from gandb.store import Store
from tests.sharing.serve_lab import Lab, Served, crystals, fill, serving


@pytest.fixture
def lab(lab_served: tuple[Lab, Served]) -> Lab:
    return lab_served[0]


@pytest.fixture
def served(lab_served: tuple[Lab, Served]) -> Served:
    return lab_served[1]


def crystal_of(resource: dict[str, Any]) -> Crystal:
    [record] = records_of_page({"data": [resource]}, "page", 1)
    assert isinstance(record, Record), record
    assert isinstance(record.structure, Sites)
    return record.structure.crystal()


# --- structures --------------------------------------------------------------------------


def test_every_structure_served_is_the_stored_one(lab: Lab, served: Served) -> None:
    found = served.all(page_limit=7)
    assert {crystal_of(r).id for r in found} == {c.id for c in (*lab.public, *lab.generated)}
    for resource in found:
        assert str(crystal_of(resource).id) == resource["attributes"]["_gandb_structure_id"]


def test_pymatgen_makes_the_same_structures_of_the_answers(lab: Lab, served: Served) -> None:
    from optimade.adapters import Structure as Adapter

    from gandb.representations.pymatgen_structures import from_structure

    by_id = {str(c.id): c for c in (*lab.public, *lab.generated)}
    seen = 0
    for resource in served.all(page_limit=50):
        own = by_id[resource["attributes"]["_gandb_structure_id"]]
        if any(o.symbol in "DT" for s in own.occupants for o in s):
            continue  # the tools drop isotopes
        made = from_structure(Adapter(resource).as_pymatgen)
        bare = tuple(re.sub(r"[\d.]*[+-]", "", s) for s in own.species)
        if own.ordered:
            assert sorted(made.species) == sorted(bare)
            seen += 1
        assert made.lengths.tolist() == own.lengths.tolist()
        assert made.angles.tolist() == own.angles.tolist()
        assert sorted(map(tuple, made.frac_coords)) == sorted(map(tuple, own.frac_coords))
    assert seen > 10


def test_packed_structures_come_back_as_they_were() -> None:
    import pyarrow as pa

    made = crystals(40, seed=9)
    columns = [pa.array([float(c.lengths[i]) for c in made]) for i in range(3)]
    columns += [pa.array([float(c.angles[i]) for c in made]) for i in range(3)]
    columns += [
        pa.array([c.charge for c in made], pa.float64()),
        pa.array([list(c.species) for c in made]),
        pa.array([c.frac_coords.reshape(-1).tolist() for c in made]),
        pa.array([json.dumps(c.properties) if c.properties else None for c in made], pa.string()),
        pa.array([json.dumps([str(c.id), *COLUMNS[1:-1], "2026-01-02 03:04:05"]) for c in made]),
    ]
    for begin, n in ((0, 40), (3, 20)):
        sliced = [c.slice(begin, n) for c in columns]
        packed = pack_columns(*sliced).to_pylist()
        assert [unpack(d) for d in packed] == made[begin : begin + n]
        assert [unpack_row(d)["structure_id"] for d in packed] == [unpack(d).id for d in packed]
        assert unpack_row(packed[0])["band_gap"] == "band_gap"


def test_answers_carry_what_is_known(lab: Lab, served: Served) -> None:
    with lab.store.read() as connection:
        rows = {str(r.id): r for r in connection.execute(sa.select(entry))}
        made = {str(r.id): r for r in connection.execute(sa.select(candidate))}
    for resource in served.all(page_limit=100):
        own = resource["attributes"]
        if own["_gandb_kind"] == "candidate":
            assert own["_gandb_model"] == "diffuser"
            assert own["_gandb_times_generated"] == made[resource["id"]].times_generated == 1
            assert own["_gandb_publications"] == ["diffuser"]
            continue
        row = rows[resource["id"]]
        assert own["_gandb_source"] == row.source == "own"
        assert own["_gandb_external_id"] == row.external_id
        for name in ("band_gap", "energy_above_hull", "total_magnetization"):
            assert own[PREFIX + name] == getattr(row, name)
        assert own["_gandb_licence"] == ["CC BY 4.0"]
        assert own["_gandb_attribution"] == ["own, doi:10.1000/own.1"]
        few = own["nelements"] < 3
        assert own["_gandb_publications"] == (["own@1", "some@1"] if few else ["own@1"])
        [reference] = resource["relationships"]["references"]["data"]
        assert served.ask(f"/v1/references/{reference['id']}").status == 200


def test_what_changes_later_is_seen_at_once(store_url: str, tmp_path: Path) -> None:
    lab = fill(store_url, tmp_path / "files", n=6)
    with serving(lab.store) as served:
        [one, *_] = served.ids(filter='_gandb_kind = "candidate"')
        assert served.ids(filter="_gandb_times_generated > 5") == []
        with lab.store.write() as tx:
            tx.execute(sa.update(candidate).values(times_generated=7))
        assert one in served.ids(filter="_gandb_times_generated > 5")
        found = served.ask(f"/v1/structures/{one}").json["data"]["attributes"]
        assert found["_gandb_times_generated"] == 7


# --- pages -------------------------------------------------------------------------------


SORTS = ["", "id", "-id", "nsites", "-nelements,chemical_formula_reduced", "_gandb_band_gap",
         "-_gandb_band_gap", "_gandb_external_id,-nsites", "-last_modified",
         "_gandb_structure_id"]  # fmt: skip


@pytest.mark.parametrize(
    ("sort", "limit"),
    [*((s, n) for s in SORTS for n in (7, 1000)), *((s, 1) for s in SORTS if "," in s)],
)
def test_pages_add_up_in_any_order(served: Served, sort: str, limit: int) -> None:
    given = {"sort": sort} if sort else {}
    found = served.all(page_limit=limit, response_fields="id", **given)
    ids = [r["id"] for r in found]
    assert len(ids) == len(set(ids)) == served.structures().json["meta"]["data_available"]
    if not sort:
        assert ids == sorted(ids)
        return
    everything = {r["id"]: r for r in served.all(page_limit=1000)}
    ordered = sorted(everything)
    for key in reversed(sort.split(",")):
        name = key.removeprefix("-")
        value = {i: i if name == "id" else r["attributes"][name] for i, r in everything.items()}
        known = [i for i in ordered if value[i] is not None]
        if key[0] == "-":  # sorting keeps equal ones as they are, reversed or not
            known = sorted(known, key=lambda i, v=value: v[i], reverse=True)
        else:
            known.sort(key=lambda i, v=value: v[i])
        ordered = known + [i for i in ordered if value[i] is None]
    assert ids == ordered


@pytest.mark.parametrize("asked", [{}, {"filter": "nelements<3"}, {"filter": "nelements=77"}])
def test_large_stores_are_looked_through_part_by_part(
    served: Served, monkeypatch: pytest.MonkeyPatch, asked: dict[str, str]
) -> None:
    whole = served.all(page_limit=7, **asked)
    monkeypatch.setattr(catalogue, "_LARGE", 0)
    assert served.all(page_limit=7, **asked) == whole
    assert len(whole) == served.structures(**asked).json["meta"]["data_returned"]


def test_offsets_and_numbers_reach_the_same_pages(served: Served) -> None:
    ids = served.ids()
    page = served.structures(page_offset=5, page_limit=4, response_fields="id").json
    assert [r["id"] for r in page["data"]] == ids[5:9]
    page = served.structures(page_number=3, page_limit=4, response_fields="id").json
    assert [r["id"] for r in page["data"]] == ids[8:12]
    page = served.structures(page_above=ids[9], page_limit=2, response_fields="id").json
    assert [r["id"] for r in page["data"]] == ids[10:12]
    assert served.structures(page_offset=10_000).json["data"] == []


def test_the_next_page_asks_for_the_same(served: Served) -> None:
    text = 'elements HAS ANY "O","Fe" AND NOT nsites=3'
    page = served.structures(
        filter=text, page_limit=2, response_fields="nsites,_gandb_kind", include="", sort="-nsites"
    ).json
    again = served.ask(page["links"]["next"]).json
    assert set(again["data"][0]["attributes"]) == {"nsites", "_gandb_kind"}
    assert len(again["data"]) == 2
    assert "included" not in again
    assert again["meta"]["data_returned"] == page["meta"]["data_returned"]


@pytest.mark.parametrize(
    ("parameters", "status"),
    [
        ({"page_limit": 1001}, 403),
        ({"page_limit": 0}, 400),
        ({"page_limit": -1}, 400),
        ({"page_limit": "x"}, 400),
        ({"page_offset": 10**8}, 400),
        ({"page_number": 0}, 400),
        ({"page_above": "x"}, 400),
        ({"page_above": str(uuid4()), "page_offset": 3}, 400),
        ({"page_above": str(uuid4()), "sort": "nsites"}, 400),
        ({"page_cursor": "x", "sort": "nsites"}, 400),
        ({"page_cursor": "WyJ4IiwgInkiXQ", "sort": "nsites"}, 400),
        ({"sort": "elements"}, 400),
        ({"sort": "nope"}, 400),
        ({"sort": "id,nsites,nelements,_gandb_source"}, 400),
        ({"response_fields": "nope"}, 400),
        ({"response_fields": "_gandb_nope"}, 400),
        ({"response_format": "xml"}, 400),
        ({"include": "authors"}, 400),
        ({"api_hint": "v2"}, 553),
        ({"api_hint": "two"}, 400),
    ],
)
def test_wrong_parameters_are_refused(
    served: Served, parameters: dict[str, Any], status: int
) -> None:
    reply = served.structures(**parameters)
    assert reply.status == status
    assert len(reply.json["errors"][0]["detail"]) > 10


def test_parameters_given_twice_are_refused(served: Served) -> None:
    assert served.ask("/v1/structures?page_limit=1&page_limit=2").status == 400


def test_response_fields_are_kept_to(served: Served) -> None:
    found = served.structures(response_fields="nsites,assemblies,_exmpl_x", page_limit=1).json
    assert set(found["data"][0]["attributes"]) == {"nsites", "assemblies", "_exmpl_x"}
    assert found["data"][0]["attributes"]["assemblies"] is None
    assert "_exmpl_x" in found["meta"]["warnings"][0]["detail"]
    everything = served.structures(page_limit=1).json["data"][0]["attributes"]
    assert set(everything) == set(STRUCTURES.properties) - {"id", "type"}
    for name in STRUCTURES.properties:
        alone = served.structures(page_limit=1, response_fields=name).json["data"][0]["attributes"]
        assert set(alone) == {name} - {"id", "type"}
        assert not alone or alone[name] == everything[name]


def test_unknown_parameters_are_warned_of(served: Served) -> None:
    found = served.ask("/v1/structures?page_limit=1&colour=red").json
    assert "colour" in found["meta"]["warnings"][0]["detail"]


# --- HTTP --------------------------------------------------------------------------------


def test_every_base_url_serves(served: Served) -> None:
    for base in ("", "/v1", "/v1.2", "/v1.2.0"):
        for path in ("info", "info/structures", "info/references", "links", "structures",
                     "references"):  # fmt: skip
            reply = served.ask(f"{base}/{path}")
            assert reply.status == 200
            assert reply.headers["content-type"].startswith(MEDIA_TYPE)
            assert reply.headers["access-control-allow-origin"] == "*"
            assert reply.json["meta"]["query"]["representation"] == f"/{path}"
        following = served.ask(f"{base}/structures?page_limit=1").json["links"]["next"]
        assert following.startswith(f"{served.base}{base}/structures?")
        assert served.ask(f"{base}/").headers["content-type"].startswith("text/html")
    assert served.ask("/versions").body == b"version\n1\n"
    assert served.ask("/v1/versions").status == 404
    for path in ("/v0/info", "/v2/info", "/v1.3/structures"):
        assert served.ask(path).status == 553
    for path in ("/v1/nope", "/v1/info/nope", "/v1/structures/a/b", "/v1/calculations"):
        assert served.ask(path).status == 404


def test_head_options_and_other_methods(served: Served) -> None:
    reply = served.ask("/v1/structures?page_limit=1", "HEAD")
    assert (reply.status, reply.body) == (200, b"")
    assert int(reply.headers["content-length"]) > 100
    reply = served.ask("/v1/structures", "OPTIONS", {"Origin": "https://example.org"})
    assert reply.status == 204
    assert "Authorization" in reply.headers["access-control-allow-headers"]
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        assert served.ask("/v1/structures", method).status == 405


def test_hosts_that_are_none_make_no_links(served: Served) -> None:
    reply = served.ask("/v1/structures", headers={"Host": 'evil"><script>'})
    assert reply.status == 400


def test_a_base_url_that_is_given_is_used(lab: Lab) -> None:
    with serving(lab.store, base_url="https://data.example.org/db/") as served:
        page = served.structures(page_limit=1).json
        assert page["links"]["next"].startswith("https://data.example.org/db/v1/structures?")
        [root, _] = served.ask("/links").json["data"]
        assert root["attributes"]["base_url"] == "https://data.example.org/db"


# --- who sees what -----------------------------------------------------------------------


def test_nothing_unpublished_shows(lab: Lab, served: Served) -> None:
    """Neither ids, nor counts, nor relationships, nor filters tell of what was not published."""
    with lab.store.read() as connection:
        rows = connection.execute(sa.select(entry.c.id, entry.c.source, entry.c.structure_id)).all()
    hidden = [r for r in rows if r.source in ("lab", "secret")]
    assert len(hidden) == len(lab.private) + len(lab.secret)
    meta = served.structures(page_limit=1000).json
    text = json.dumps(meta) + served.ask("/v1/references").body.decode()
    text += served.ask("/v1/info").body.decode()
    for row in hidden:
        assert str(row.id) not in text
        assert str(row.structure_id) not in text
        assert served.ask(f"/v1/structures/{row.id}").status == 404
        assert served.ids(filter=f'id = "{row.id}"') == []
        assert served.ids(filter=f'_gandb_structure_id = "{row.structure_id}"') == []
    for word in ("hidden", "unpublished", "10.1000/lab", "10.1000/secret", '"lab"', '"secret"'):
        assert word not in text
    assert served.ids(filter='_gandb_publications HAS "hidden@1"') == []
    assert served.ids(filter='_gandb_source = "lab" OR references.id HAS ANY STARTS "lab"') == []
    n = len(lab.public) + len(lab.generated)
    assert meta["meta"]["data_available"] == meta["meta"]["data_returned"] == n == len(meta["data"])


def test_tokens_open_what_they_are_for(store_url: str, tmp_path: Path) -> None:
    lab = fill(store_url, tmp_path / "files", n=6)
    publish(lab.store, "unpublished@1", public=False)
    with serving(lab.store) as served:
        public = set(served.ids())
        one, _ = create_token(lab.store, "one", ["hidden@1"])
        every, _ = create_token(lab.store, "every")
        served.token = one
        own = set(served.ids())
        assert len(own - public) == len(lab.private)
        assert "unpublished" not in served.ask("/v1/info").body.decode()
        assert "hidden@1" in served.ask("/v1/info").body.decode()
        served.token = every
        assert len(set(served.ids()) - own) == len(lab.secret)
        served.token = one + "x"
        reply = served.structures()
        assert reply.status == 401
        assert reply.headers["www-authenticate"].startswith("Bearer")
        served.token = one
        revoke_token(lab.store, "one")
        assert served.structures().status == 401
        served.token = None
        assert set(served.ids()) == public
        assert served.ask("/v1/info", headers={"Authorization": "Basic eDp5"}).status == 401
    with lab.store.read() as connection:
        kept = json.dumps([list(map(str, r)) for r in connection.execute(sa.select(access_token))])
    assert one not in kept
    assert every not in kept


def test_publications_come_and_go(store_url: str, tmp_path: Path) -> None:
    lab = fill(store_url, tmp_path / "files", n=6)
    with lab.store.read() as connection:
        before = {r.id: r.last_modified for r in connection.execute(sa.select(published))}
    with serving(lab.store) as served:
        everything = set(served.ids())
        publish(lab.store, "own@1")  # again
        assert set(served.ids()) == everything
        publish(lab.store, "own@1", public=False)
        few = set(served.ids())
        assert {e["attributes"]["_gandb_publications"][0] for e in served.all()} == {
            "diffuser", "some@1"
        }  # fmt: skip
        remove(lab.store, "own@1")
        assert set(served.ids()) == few < everything
        publish(lab.store, "own@1")
        assert set(served.ids()) == everything
        for name in ("own@1", "some@1", "diffuser", "hidden@1"):
            remove(lab.store, name)
        page = served.structures(filter='elements HAS "O"').json
        assert page["data"] == []
        assert page["meta"]["data_available"] == page["meta"]["data_returned"] == 0
        assert served.ask("/v1/references").json["data"] == []
        assert served.ask("/v1/info").status == 200
    with lab.store.read() as connection:
        assert list_publications(connection) == []
        assert connection.execute(sa.select(sa.func.count()).select_from(published)).scalar() == 0
    publish(lab.store, "some@1")
    with lab.store.read() as connection:
        after = {r.id: r.last_modified for r in connection.execute(sa.select(published))}
    assert all(after[i] >= before[i] for i in after)


def test_a_store_that_is_used_by_others_is_served_meanwhile(store_url: str, tmp_path: Path) -> None:
    lab = fill(store_url, tmp_path / "files", n=6)
    with serving(Store.open(Settings(store=store_url, lock_timeout=1.0))) as served:
        n = len(served.ids())
        for _ in range(5):  # the server lets go of the file for each of them
            with lab.store.write() as tx:
                tx.execute(sa.update(candidate).values(times_generated=3))
            assert len(served.ids()) == n
        if lab.store.kind == "duckdb":
            with lab.store.write():
                reply = served.structures()
            assert reply.status == 503
            assert reply.headers["retry-after"]
            assert str(tmp_path) not in reply.body.decode()
        assert len(served.ids()) == n
        with lab.store.write() as tx:
            tx.execute(sa.text(f"UPDATE alembic_version SET version_num = '{HISTORY[-2]}'"))
        reply = served.structures()
        assert reply.status == 503
        with lab.store.write() as tx:
            tx.execute(sa.text(f"UPDATE alembic_version SET version_num = '{HEAD}'"))
        assert len(served.ids()) == n


def test_slow_queries_are_stopped(lab: Lab) -> None:
    with serving(lab.store, seconds=0.000_001) as served:
        reply = served.structures(filter='chemical_formula_reduced CONTAINS "O"', sort="nsites")
        assert reply.status in (200, 504)  # it may be done before
        assert served.ask("/v1/info").status in (200, 504)
