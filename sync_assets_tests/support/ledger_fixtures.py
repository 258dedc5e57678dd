"""Pytest fixtures for empty ledgers on SQLite or PostgreSQL, made quickly."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from sync_assets.ledger import Ledger
from sync_assets.ledger.storage.operation_tables import identity
from sync_assets.ledger.storage.schema import metadata
from sync_assets_tests.support.ledgers import Clock, Ledgers, new_sqlite_ledger
from sync_assets_tests.support.postgres import PostgresServer


@pytest.fixture(scope="session")
def migrated_postgres(postgres: PostgresServer) -> Iterator[str]:
    with postgres.database() as url:
        Ledger.open(url).close()
        engine = sa.create_engine(url)
        with engine.begin() as connection:
            for table in metadata.tables:  # else query plans would depend on what was analysed so far
                connection.exec_driver_sql(f"ALTER TABLE {table} SET (autovacuum_enabled = off)")
        engine.dispose()
        yield url


@pytest.fixture
def ledgers(request: pytest.FixtureRequest, tmp_path: Path) -> Ledgers:
    """Return a source of URLs of empty ledgers: on SQLite, or on the database that the test's parameter names.

    On PostgreSQL, the next one is the last one emptied, which is fast.
    """
    if getattr(request, "param", "sqlite") == "sqlite":
        return Ledgers("sqlite", lambda number: new_sqlite_ledger(tmp_path / f"ledger_{number}.db"))

    url: str = request.getfixturevalue("migrated_postgres")

    def emptied(_: int) -> str:
        engine = sa.create_engine(url)
        with engine.begin() as connection:
            for table in metadata.tables.keys() - {identity.name}:  # faster than TRUNCATE on small tables
                connection.exec_driver_sql(f"DELETE FROM {table}")
        engine.dispose()
        return url

    return Ledgers("postgresql", emptied)


def on_both_databases(metafunc: pytest.Metafunc) -> None:
    """Run a test that uses `ledgers` on both databases, unless it is for one of them."""
    chosen = [mark for mark in metafunc.definition.iter_markers("parametrize") if mark.args[0] == "ledgers"]
    if "ledgers" in metafunc.fixturenames and not chosen:
        metafunc.parametrize("ledgers", ["sqlite", "postgresql"], indirect=True)


@pytest.fixture
def url(ledgers: Ledgers) -> str:
    """Return the URL of an empty ledger."""
    return ledgers.fresh()


@pytest.fixture
def new_url(ledgers: Ledgers, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Return the URL of a database without a ledger."""
    if ledgers.kind == "sqlite":
        yield f"sqlite:///{tmp_path}/new/ledger.db"
    else:
        server: PostgresServer = request.getfixturevalue("postgres")
        with server.database() as url:
            yield url


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ledger(url: str, clock: Clock) -> Iterator[Ledger]:
    with Ledger.open(url, clock=clock) as opened:
        yield opened
        assert not (found := opened.check()), found
