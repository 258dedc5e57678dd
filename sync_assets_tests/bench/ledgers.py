"""Ledgers for measured runs: empty ones and copies of filled ones, in SQLite and in PostgreSQL.

PostgreSQL is the server of the tests (postgres.py) with its default settings, so it syncs to disk.
"""

from __future__ import annotations

import itertools
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from pathlib import Path
from typing import Protocol

import psutil
import psycopg
from psycopg import sql
from sqlalchemy.engine import make_url

from sync_assets.ledger import Ledger
from sync_assets_tests.support.postgres import running_server


class Ledgers(Protocol):
    """One kind of database. URLs are SQLAlchemy's."""

    name: str
    options: tuple[str, ...]
    """For the jobs that open one."""

    def fresh(self) -> str:
        """An empty ledger."""
        ...

    def copy(self, url: str) -> str:
        """A copy of a ledger that nobody has open."""
        ...

    def tidy(self, url: str) -> None:
        """What the database does by itself within minutes: what a benchmark has just left behind is cleared away."""
        ...

    def drop(self, url: str) -> None: ...

    def bytes(self, url: str) -> int:
        """What the ledger takes on disk."""
        ...

    def cpu_seconds(self) -> float:
        """Processor time of the server so far, of connections that are closed; 0 where there is none."""
        ...


class SqliteLedgers:
    name = "SQLite"
    options: tuple[str, ...] = ()

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._numbers = itertools.count(1)

    def _file(self) -> Path:
        return self._folder / f"ledger-{next(self._numbers)}.db"

    def fresh(self) -> str:
        url = f"sqlite:///{self._file()}"
        Ledger.open(url).close()
        return url

    def copy(self, url: str) -> str:
        copied = self._file()
        shutil.copyfile(url.removeprefix("sqlite:///"), copied)
        return f"sqlite:///{copied}"

    def tidy(self, url: str) -> None:
        """Nothing: SQLite reuses what is free and keeps no versions."""

    def drop(self, url: str) -> None:
        for end in ("", "-wal", "-shm"):
            Path(url.removeprefix("sqlite:///") + end).unlink(missing_ok=True)

    def bytes(self, url: str) -> int:
        files = (Path(url.removeprefix("sqlite:///") + end) for end in ("", "-wal"))
        return sum(file.stat().st_size for file in files if file.exists())

    def cpu_seconds(self) -> float:
        return 0.0


class PostgresLedgers:
    name = "PostgreSQL"
    options: tuple[str, ...] = ()

    def __init__(self, admin: str) -> None:
        """admin: the URL of a database beside those of the ledgers."""
        self._admin = make_url(admin)
        self._numbers = itertools.count(1)
        with self._connection() as connection:
            told = connection.execute("SHOW data_directory").fetchone()
        assert told
        self._server = psutil.Process(int((Path(told[0]) / "postmaster.pid").read_text().split()[0]))

    def _connection(self) -> psycopg.Connection:
        plain = self._admin.set(drivername="postgresql").render_as_string(hide_password=False)
        return psycopg.connect(plain, autocommit=True)

    def _create(self, template: str | None) -> str:
        name = f"bench_{next(self._numbers)}"
        made = sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(
            sql.Identifier(name), sql.Identifier(template or "template1")
        )
        with self._connection() as connection:
            connection.execute(made)
        return self._admin.set(database=name).render_as_string(hide_password=False)

    def fresh(self) -> str:
        url = self._create(None)
        Ledger.open(url).close()
        return url

    def copy(self, url: str) -> str:
        copied = self._create(make_url(url).database)
        with self._connection() as connection:
            connection.execute("CHECKPOINT")  # else it comes while a run is measured
        return copied

    def tidy(self, url: str) -> None:
        """Autovacuum looks once a minute."""
        with psycopg.connect(
            make_url(url).set(drivername="postgresql").render_as_string(hide_password=False), autocommit=True
        ) as connection:
            connection.execute("VACUUM ANALYZE")

    def drop(self, url: str) -> None:
        with self._connection() as connection:
            name = sql.Identifier(make_url(url).database or "")
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(name))

    def bytes(self, url: str) -> int:
        """Without the server's write-ahead log, at most some GB."""
        with self._connection() as connection:
            found = connection.execute("SELECT pg_database_size(%s)", [make_url(url).database]).fetchone()
        assert found
        return found[0]

    def cpu_seconds(self) -> float:
        times = self._server.cpu_times()
        return times.children_user + times.children_system


def encrypted(ledgers: Ledgers) -> Ledgers:
    """The same database, for ledgers whose payloads are encrypted."""
    other = copy(ledgers)
    other.name, other.options = f"{ledgers.name}, encrypted", ("--encrypted",)
    return other


@contextmanager
def sqlite_ledgers() -> Iterator[Ledgers]:
    folder = tempfile.mkdtemp(prefix="bench-ledgers-")
    try:
        yield SqliteLedgers(Path(folder))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def postgres_ledgers() -> Iterator[Ledgers]:
    with contextmanager(running_server)({}) as server, server.database() as admin:
        yield PostgresLedgers(admin)
