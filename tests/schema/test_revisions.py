"""Every revision is what it was, leads to the declared schema, and loses no row on the way."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.config import Config
from alembic.script import ScriptDirectory

import gandb.migrations
from gandb.core.config import Settings
from gandb.core.errors import RevisionError
from gandb.schema.revision import HEAD, HISTORY
from gandb.store import Store, revisions
from gandb.store.engines import connect
from tests.schema import catalog, rows

SCRIPTS = Path(gandb.migrations.__path__[0])
NEXT = f"{int(HEAD) + 1:04}"
ONE_MORE = '''"""One more revision, of this test alone."""

import sqlalchemy as sa
from alembic import op

revision = "{revision}"
down_revision = "{head}"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add a column."""
    op.add_column("metric", sa.Column("note", sa.Text(), nullable=True))
    op.execute("UPDATE metric SET note = name")
    {more}
'''


def _store_at(url: str, revision: str) -> rows.Content:
    """Make a store of a revision with rows in every table; return them."""
    with connect(url, 10).creating() as connection:
        revisions.upgrade(connection, revision)
        rows.fill(connection)
    with connect(url, 10).reading() as connection:
        return rows.read(connection)


def _content(url: str) -> rows.Content:
    with connect(url, 10).reading() as connection:
        return rows.read(connection)


def _upgrade(url: str) -> None:
    store = Store.open(Settings(store=url), any_revision=True)
    with store.write() as tx:
        revisions.upgrade(tx.connection, revisions.HEAD)


@contextmanager
def _one_more_revision(
    folder: Path, monkeypatch: pytest.MonkeyPatch, more: str = "pass"
) -> Iterator[None]:
    """Let gandb have one more revision."""
    scripts = folder / "migrations"
    shutil.copytree(SCRIPTS, scripts, ignore=shutil.ignore_patterns("__pycache__"))
    text = ONE_MORE.format(revision=NEXT, head=HEAD, more=more)
    (scripts / "versions" / f"r{NEXT}_one_more.py").write_text(text)

    def config(connection: sa.Connection) -> Config:
        made = Config()
        made.set_main_option("script_location", str(scripts))
        made.attributes["connection"] = connection
        return made

    with monkeypatch.context() as patch:
        patch.setattr(revisions, "_config", config)
        patch.setattr(revisions, "HISTORY", (*HISTORY, NEXT))
        patch.setattr(revisions, "HEAD", NEXT)
        yield


def test_history_is_the_chain_of_scripts() -> None:
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS))
    scripts = ScriptDirectory.from_config(config)
    chain = [script.revision for script in scripts.walk_revisions()]
    assert tuple(reversed(chain)) == HISTORY
    assert scripts.get_current_head() == HEAD


@pytest.mark.parametrize("revision", HISTORY)
def test_each_revision_is_what_it_was(revision: str, store_url: str) -> None:
    engine = connect(store_url, 10)
    with engine.creating() as connection:
        revisions.upgrade(connection, revision)
    with engine.reading() as connection:
        found = catalog.facts(connection)
    assert found == catalog.golden_file(revision, engine.kind).read_text().splitlines()


@pytest.mark.parametrize("revision", HISTORY)
def test_every_row_of_each_revision_is_kept(revision: str, store_url: str) -> None:
    before = _store_at(store_url, revision)
    assert before
    assert all(len(next(iter(columns.values()))) == rows.N for columns in before.values())
    _upgrade(store_url)
    assert rows.losses(before, _content(store_url)) == []
    store = Store.open(Settings(store=store_url))
    with store.read() as connection:  # and the views read them
        for view in ("entries", "generated", "lineage", "leaderboard", "dataset_members"):
            connection.exec_driver_sql(f"SELECT * FROM {view}").fetchall()
    with store.write() as tx:
        assert revisions.differences(tx.connection) == []


def test_the_database_is_as_declared_until_someone_changes_it(store_url: str) -> None:
    store = Store.create(Settings(store=store_url))
    with store.write() as tx:
        assert revisions.differences(tx.connection) == []
    with store.write() as tx:
        tx.connection.exec_driver_sql("ALTER TABLE metric ADD COLUMN by_hand text")
    with store.write() as tx:
        found = revisions.differences(tx.connection)
    assert len(found) == 1
    assert "by_hand" in found[0]


@pytest.mark.parametrize(
    "change",
    [
        "ALTER TABLE entry ALTER COLUMN band_gap TYPE real",
        "ALTER TABLE entry ALTER COLUMN formula TYPE integer USING 1",
        "ALTER TABLE entry ALTER COLUMN formula DROP NOT NULL",
        "ALTER TABLE entry DROP COLUMN extra",
    ],
)
def test_any_change_by_hand_is_seen(store_url: str, change: str) -> None:
    store = Store.create(Settings(store=store_url))
    with store.write() as tx:
        revisions.drop_views(tx.connection)
        tx.connection.exec_driver_sql(change)
    with store.write() as tx:
        (found,) = revisions.differences(tx.connection)
    assert "entry" in found


def test_a_missing_index_is_a_difference_on_postgresql(postgres_database: str) -> None:
    store = Store.create(Settings(store=postgres_database))
    with store.write() as tx:
        tx.connection.exec_driver_sql("DROP INDEX ix_candidate_elements")
        found = revisions.differences(tx.connection)
    assert len(found) == 1
    assert "ix_candidate_elements" in found[0]


def test_an_older_store_is_refused_then_upgraded(
    store_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = _store_at(store_url, HEAD)
    with _one_more_revision(tmp_path, monkeypatch):
        with pytest.raises(RevisionError, match=rf"revision {HEAD}.* needs {NEXT}.*db upgrade"):
            Store.open(Settings(store=store_url))
        _upgrade(store_url)
        Store.open(Settings(store=store_url))
        after = _content(store_url)
    assert rows.losses(before, after) == []
    assert after["metric"]["note"] == after["metric"]["name"]
    with pytest.raises(RevisionError, match="newer gandb"):
        Store.open(Settings(store=store_url))
    with pytest.raises(RevisionError, match=f"newer than {HEAD}"):
        _upgrade(store_url)


@pytest.mark.parametrize(
    ("more", "lost"),
    [
        ('op.execute("DELETE FROM metric WHERE step = 101")', "metric.step"),
        ("op.execute(\"UPDATE setting SET value = 'x' WHERE key LIKE 'key 1%'\")", "setting.value"),
    ],
)
def test_a_migration_that_loses_rows_is_found_out(
    more: str, lost: str, store_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = _store_at(store_url, HEAD)
    with _one_more_revision(tmp_path, monkeypatch, more):
        _upgrade(store_url)
        assert any(loss.startswith(lost) for loss in rows.losses(before, _content(store_url)))


def test_a_migration_that_fails_changes_nothing(
    store_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = _store_at(store_url, HEAD)
    with (
        _one_more_revision(tmp_path, monkeypatch, 'op.execute("DELETE FROM no_such_table")'),
        pytest.raises(RevisionError, match="no_such_table"),
    ):
        _upgrade(store_url)
    assert _content(store_url) == before
    _upgrade(store_url)
    Store.open(Settings(store=store_url))


def test_a_view_of_ones_own_is_in_the_way_and_named(postgres_database: str) -> None:
    store = Store.create(Settings(store=postgres_database))
    with store.write() as tx:
        tx.connection.exec_driver_sql("CREATE VIEW mine AS SELECT * FROM entries")
    with pytest.raises(RevisionError, match="view mine depends on view entries"):
        _upgrade(postgres_database)
    with store.read() as connection:
        connection.exec_driver_sql("SELECT * FROM mine").fetchall()


def test_a_newer_store_is_refused(store_url: str) -> None:
    store = Store.create(Settings(store=store_url))
    with store.write() as tx:
        tx.connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(RevisionError, match=r"revision 9999.*newer gandb"):
        Store.open(Settings(store=store_url))
