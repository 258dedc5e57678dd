"""Pytest fixtures for empty ledgers on SQLite and PostgreSQL, made quickly."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from sync_assets.ledger import Ledger
from sync_assets.ledger.storage.schema import identity, metadata
from sync_assets_tests.support.ledgers import Clock, Ledgers
from sync_assets_tests.support.postgres import PostgresServer

DATABASES = ["sqlite", "postgresql"]


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ledger") / "template.db"
    Ledger.open(f"sqlite:///{path}").close()
    return path


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


@pytest.fixture(params=DATABASES)
def ledgers(request: pytest.FixtureRequest, tmp_path: Path) -> Ledgers:
    """Return a source of URLs of empty ledgers. On PostgreSQL, the next one is the last one emptied, which is fast."""
    if request.param == "sqlite":
        template: Path = request.getfixturevalue("sqlite_template")

        def fresh_file(number: int) -> str:
            path = tmp_path / f"ledger_{number}.db"
            shutil.copyfile(template, path)
            return f"sqlite:///{path}"

        return Ledgers("sqlite", fresh_file)

    url: str = request.getfixturevalue("migrated_postgres")

    def emptied(_: int) -> str:
        engine = sa.create_engine(url)
        with engine.begin() as connection:
            for table in metadata.tables.keys() - {identity.name}:  # faster than TRUNCATE on small tables
                connection.exec_driver_sql(f"DELETE FROM {table}")
        engine.dispose()
        return url

    return Ledgers("postgresql", emptied)


@pytest.fixture
def url(ledgers: Ledgers) -> str:
    """Return the URL of an empty ledger."""
    return ledgers.fresh()


@pytest.fixture(params=DATABASES)
def new_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Return the URL of a database without a ledger."""
    if request.param == "sqlite":
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
