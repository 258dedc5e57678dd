"""Databases for measured runs: empty ones, and copies of filled ledgers, in SQLite and in PostgreSQL.

PostgreSQL is the server of the tests (support/postgres.py) with its default settings, so it syncs to disk.
"""

import itertools
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from pathlib import Path

import psutil
import psycopg
from psycopg import sql
from sqlalchemy.engine import URL, make_url

from sync_assets_tests.bench.measure import ROOT
from sync_assets_tests.support.postgres import running_server


class Ledgers:
    """SQLite files. `root`: the checkout whose program opens them, which makes a ledger of an empty database."""

    name = "SQLite"
    root = ROOT

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._numbers = itertools.count(1)

    def fresh(self) -> str:
        """Return the URL of an empty database."""
        return f"sqlite:///{self._folder / f'ledger-{next(self._numbers)}.db'}"

    def copy(self, url: str) -> str:
        """Return a copy of a ledger that nobody has open."""
        copied = self.fresh()
        shutil.copyfile(url.removeprefix("sqlite:///"), copied.removeprefix("sqlite:///"))
        return copied

    def tidy(self, url: str) -> None:
        """Do what the database does by itself within minutes; SQLite does nothing."""

    def drop(self, url: str) -> None:
        for end in ("", "-wal", "-shm"):
            Path(url.removeprefix("sqlite:///") + end).unlink(missing_ok=True)

    def cpu_seconds(self) -> float:
        """Return the processor time of the database's server so far, of connections that are closed."""
        return 0.0


class PostgresLedgers(Ledgers):
    """Databases of one server. `admin`: the URL of a database beside them."""

    name = "PostgreSQL"

    def __init__(self, admin: str) -> None:
        self._admin = make_url(admin)
        self._numbers = itertools.count(1)
        with self._connection() as connection:
            folder = connection.execute("SHOW data_directory").fetchone()
        assert folder
        self._server = psutil.Process(int((Path(folder[0]) / "postmaster.pid").read_text().split()[0]))

    def _connection(self, url: URL | None = None) -> psycopg.Connection:
        plain = (url or self._admin).set(drivername="postgresql").render_as_string(hide_password=False)
        return psycopg.connect(plain, autocommit=True)

    def _create(self, template: str) -> str:
        name = f"bench_{next(self._numbers)}"
        create = sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template))
        with self._connection() as connection:
            connection.execute(create)
        return self._admin.set(database=name).render_as_string(hide_password=False)

    def fresh(self) -> str:
        return self._create("template1")

    def copy(self, url: str) -> str:
        copied = self._create(make_url(url).database or "")
        with self._connection() as connection:
            connection.execute("CHECKPOINT")  # else it comes while a run is measured
        return copied

    def tidy(self, url: str) -> None:
        with self._connection(make_url(url)) as connection:
            connection.execute("VACUUM ANALYZE")

    def drop(self, url: str) -> None:
        with self._connection() as connection:
            name = sql.Identifier(make_url(url).database or "")
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(name))

    def cpu_seconds(self) -> float:
        times = self._server.cpu_times()
        return times.children_user + times.children_system


def of_checkout(ledgers: Ledgers, end: str, root: Path) -> Ledgers:
    """Return the same database for the program of a checkout; `end`: of its name."""
    other = copy(ledgers)
    other.name, other.root = f"{ledgers.name}{end}", root
    return other


@contextmanager
def sqlite_ledgers() -> Iterator[Ledgers]:
    folder = tempfile.mkdtemp(prefix="bench-ledgers-")
    try:
        yield Ledgers(Path(folder))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def postgres_ledgers() -> Iterator[Ledgers]:
    with contextmanager(running_server)({}) as server, server.database() as admin:
        yield PostgresLedgers(admin)
