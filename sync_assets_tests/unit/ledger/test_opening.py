"""Opening a ledger: it is created or brought up to date, or says in one line why not and what to do."""

import atexit
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

import sync_assets.ledger
from sync_assets.ledger import Ledger
from sync_assets.ledger.errors import LedgerError
from sync_assets.ledger.scratch import scratch_ledger
from sync_assets.ledger.storage.migrate import HEAD, VERSION_TABLE
from sync_assets.ledger.storage.schema import metadata, short_id
from sync_assets_tests.support.ledgers import capture, row, stored

SECRET = "correct-horse"


def test_a_ledger_is_made_where_there_is_none_and_found_again(new_url: str) -> None:
    with Ledger.open(new_url) as ledger:
        assert ledger.made
        capture(ledger, row("anna"))
    with Ledger.open(new_url) as ledger:
        assert not ledger.made
        assert len(stored(ledger)) == 1


@pytest.mark.postgresql
def test_a_ledger_has_an_id_of_its_own_from_the_beginning_and_keeps_it(new_url: str, tmp_path: Path) -> None:
    with Ledger.open(new_url) as ledger:
        id_ = ledger.systems.identity()
        assert ledger.systems.is_empty()
        ledger.holds.hold("4e1c0000-0000-4000-8000-000000000001")
    with Ledger.open(new_url) as ledger, Ledger.open(f"sqlite:///{tmp_path}/another.db") as another:
        assert (ledger.systems.identity(), ledger.systems.is_empty()) == (id_, False)
        assert another.systems.identity() != id_


def test_a_ledger_that_was_closed_connects_to_nothing_again(new_url: str) -> None:
    with Ledger.open(new_url) as ledger, scratch_ledger(new_url) as copy:
        assert ledger.reports.backlog("contact") == copy.reports.backlog("contact") == 0
    ledger.close()
    for closed in (ledger, copy):
        with pytest.raises(LedgerError, match="was used after it was closed"):
            closed.reports.backlog("contact")


@pytest.mark.postgresql
@pytest.mark.filterwarnings("ignore:(Skipped unsupported reflection|autogenerate skipping) .*expression-based")
def test_the_migrations_bring_about_the_schema_that_the_code_knows(url: str) -> None:
    engine = sa.create_engine(url)
    # How records are found is each database's own affair, which Alembic does not see.
    ours = {"sync_record_id", "sync_record_key"}
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection,
            opts={
                "include_name": lambda name, kind, _: kind != "table" or name in metadata.tables,
                "include_object": lambda _, name, *__: name not in ours,
            },
        )
        assert compare_metadata(context, metadata) == []
        unique = [one["name"] for one in sa.inspect(connection).get_unique_constraints("sync_record")]
        if engine.name == "sqlite":
            assert unique == []
            index = "SELECT sql FROM sqlite_master WHERE name = 'sync_record_key'"
            assert connection.exec_driver_sql(index).scalars().one().endswith(f"({short_id('id')})")
        else:
            assert unique == ["sync_record_id"]
    engine.dispose()


@pytest.mark.postgresql
def test_partial_indexes_are_partial_on_both_databases(url: str) -> None:
    engine = sa.create_engine(url)
    partial = "SELECT sql FROM sqlite_master" if engine.name == "sqlite" else "SELECT indexdef FROM pg_indexes"
    with engine.connect() as connection:
        definitions = [str(text).lower() for text in connection.exec_driver_sql(partial).scalars() if text]
    engine.dispose()
    for index in (
        "sync_record_pending",
        "sync_record_stuck",
        "sync_record_session",
        "sync_link_acked",
        "sync_opt_out_due",
    ):
        assert any(f"index {index} " in text and " where " in text for text in definitions)


def test_the_code_knows_the_newest_migration() -> None:
    folder = Path(sync_assets.ledger.__file__).parent / "migrations"
    assert ScriptDirectory(str(folder)).get_heads() == [HEAD]


@pytest.mark.postgresql
def test_a_ledger_of_a_newer_version_is_left_alone_and_no_try_to_open_it_leaves_anything_behind(url: str) -> None:
    engine, kept_until_the_end = sa.create_engine(url), atexit._ncallbacks()
    with engine.begin() as connection:
        connection.exec_driver_sql(f"UPDATE {VERSION_TABLE} SET version_num = '9999'")
    try:
        with pytest.raises(LedgerError, match=r"written by a newer sync_assets .*9999.*Install that version"):
            Ledger.open(url)
        assert atexit._ncallbacks() == kept_until_the_end
    finally:
        with engine.begin() as connection:
            connection.exec_driver_sql(f"UPDATE {VERSION_TABLE} SET version_num = '{HEAD}'")
        engine.dispose()


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("ledger.db", "is not a database URL"),
        ("", "is not a database URL"),
        ("sqlite://", "names no file"),
        ("sqlite:///:memory:", "names no file"),
        (f"mysql://me:{SECRET}@host/db", "not supported"),
        (f"postgresql+psycopg2://me:{SECRET}@host/db", "not supported"),
        (f"postgresql+psycopg://me:{SECRET}@127.0.0.1:1/db", r"127\.0\.0\.1:1/db can't be reached .*refused"),
        (f"postgresql+psycopg://me@127.0.0.1:1/db?password={SECRET}", "can't be reached"),
        (f"postgresql://me:{SECRET}@nowhere.invalid/db", r"nowhere\.invalid/db can't be reached"),
        (f"postgresql+psycopg://me:{SECRET}@host:port/db", "is not a database URL"),
    ],
)
def test_a_wrong_url_is_explained_in_one_line_without_the_password(url: str, text: str) -> None:
    with pytest.raises(LedgerError, match=text) as raised:
        Ledger.open(url)
    assert raised.value.remedy
    assert "\n" not in str(raised.value)
    shown = raised.getrepr(style="long", chain=True)
    assert SECRET not in str(raised.value)
    assert SECRET not in str(shown.reprcrash)


def test_a_database_that_is_not_there_is_explained(postgres: object, migrated_postgres: str) -> None:
    url = sa.make_url(migrated_postgres).set(database="nothing").render_as_string(hide_password=False)
    with pytest.raises(LedgerError, match='database "nothing" does not exist'):
        Ledger.open(url)


def test_a_connection_to_postgresql_ends_soon_after_the_network_has(migrated_postgres: str) -> None:
    """The operating system's default is two hours. A parameter of the URL comes first."""
    for more, idle in (({}, "30"), ({"keepalives_idle": "7"}, "7")):
        url = sa.make_url(migrated_postgres).update_query_dict(more).render_as_string(hide_password=False)
        with Ledger.open(url) as ledger, ledger.database.read() as connection:
            driver: Any = connection.connection.driver_connection
            given = driver.info.get_parameters()
        assert (given["keepalives_idle"], given["keepalives_count"], given["tcp_user_timeout"]) == (idle, "3", "60000")


def test_an_unwritable_place_is_explained(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LedgerError, match=r"can't be written .*Make its folder writable"):
        Ledger.open(f"sqlite:///{tmp_path}/file/ledger.db")
    with pytest.raises(LedgerError, match=r"can't be written \(Is a directory\)"):
        Ledger.open(f"sqlite:///{tmp_path}")


def test_a_file_that_is_no_ledger_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("not a database, but somebody's notes" * 100)
    with pytest.raises(LedgerError, match="is no ledger"):
        Ledger.open(f"sqlite:///{path}")
    assert path.read_text().startswith("not a database")


def test_a_file_that_is_open_twice_keeps_its_log_when_another_process_closes_it(tmp_path: Path) -> None:
    """Closing the file by other means than SQLite's releases the locks of the whole process."""
    path = tmp_path / "ledger.db"
    other = f"import sqlite3; one = sqlite3.connect({str(path)!r}); one.execute('SELECT * FROM sync_feed'); one.close()"
    with Ledger.open(f"sqlite:///{path}") as ledger, Ledger.open(f"sqlite:///{path}") as another:
        capture(ledger, row("anna"))
        subprocess.run([sys.executable, "-c", other], check=True)
        capture(ledger, row("bert"))
        assert len(stored(another)) == 2
        with Ledger.open(f"sqlite:///{path}") as third:
            assert len(stored(third)) == 2


def test_the_file_is_for_its_owner_only(tmp_path: Path) -> None:
    previous = os.umask(0)
    try:
        with Ledger.open(f"sqlite:///{tmp_path}/ledger.db") as ledger:
            capture(ledger, row("anna"))
            modes = [stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()]
    finally:
        os.umask(previous)
    assert set(modes) == {0o600}


@pytest.mark.postgresql
def test_a_database_error_quotes_no_rows(ledger: Ledger) -> None:
    """PostgreSQL names the offending row in its details; what comes out is one line about the database."""

    def break_a_rule(connection: sa.Connection) -> None:
        connection.exec_driver_sql("INSERT INTO sync_record (table_name, payload) VALUES ('contact', 'Jane Doe')")

    with pytest.raises(LedgerError) as raised:
        ledger.database.write(break_a_rule)
    assert raised.value.__suppress_context__
    assert raised.value.__cause__ is None
    assert "Jane" not in str(raised.value)
    assert "\n" not in str(raised.value)
