"""Open a ledger without changing it: a temporary copy to try operations on, or the ledger itself for reads.

SQLite: a temporary database whose file is unlinked as soon as SQLite creates it, so that a killed process leaves
nothing. PostgreSQL: a second database cannot be assumed, so the copy is temporary tables of one connection, which sees
only them; the server drops them when the connection ends. In both cases the unchanged `Ledger` works on the copy, so
what it does there is what it would do to the real ledger.
"""

import sqlite3
import threading
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.engine import Connection

from sync_assets.ledger import times
from sync_assets.ledger.errors import LedgerError
from sync_assets.ledger.facade import Ledger
from sync_assets.ledger.model import END_OF_TIME
from sync_assets.ledger.storage import operation_tables, schema
from sync_assets.ledger.storage.column_types import Instant
from sync_assets.ledger.storage.database import BUSY_SECONDS, Database, sqlite_engine
from sync_assets.ledger.storage.database_url import Address
from sync_assets.ledger.storage.migrate import VERSION_TABLE, is_current, is_made, migrate
from sync_assets.ledger.storage.payload_cipher import PayloadCipher

T = TypeVar("T")
_VISIBLE = sa.text("""
    SELECT c.relname, n.nspname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind = 'r' AND c.relname = ANY(:names) AND pg_table_is_visible(c.oid) ORDER BY c.relname
""")


def missing_ledger(url: str) -> str | None:
    """Return where `Ledger.open` would create a ledger, None if there is one. Creates nothing.

    Raises:
        LedgerError: as by `Ledger.open`, also if the ledger could not be created.
    """
    address = Address.parse(url)
    if address.sqlite and not Path(address.location).exists():
        address.check_file_can_be_created()
        return address.location
    with closing(Database(url)) as database:
        return None if is_made(database) else database.location


@contextmanager
def scratch_ledger(url: str, cipher: PayloadCipher | None = None) -> Generator[Ledger]:
    """Copy the ledger at `url` for the duration of the block; the copy is empty if there is no ledger yet.

    The copy has no sessions but those of loads by file, and every pending record that is in none may be claimed at
    once. Its payloads are encrypted as those of the ledger are. cipher: the ledger's.

    Raises:
        LedgerError: as by `Ledger.open`, and if there is no space for the copy.
    """
    address = Address.parse(url)
    with _sqlite_copy(address) if address.sqlite else _postgres_copy(url) as database:
        database.write(_release_all)
        yield Ledger(database, lambda: datetime.now(UTC), cipher=cipher, alone=True)


@contextmanager
def ledger_to_read(url: str, cipher: PayloadCipher | None = None) -> Generator[Ledger]:
    """Open the ledger for a block that only reads. A ledger that is missing or out of date is not changed.

    In its place such a block gets a temporary copy: empty, or upgraded. A current ledger is not copied, since it may
    have millions of records. Raises LedgerError.
    """
    address = Address.parse(url)
    if not address.sqlite or Path(address.location).exists():
        with closing(Database(url)) as database:
            if is_current(database):
                yield Ledger(database, lambda: datetime.now(UTC), cipher=cipher)
                return
    with scratch_ledger(url, cipher) as copy:
        yield copy


def _release_all(connection: Connection) -> None:
    """Remove the sessions of workers, and let the retries be due now. They still show that requests failed."""
    later, now = schema.record.c.not_before < END_OF_TIME, times.to_micros(datetime.now(UTC))
    connection.execute(sa.update(schema.record).where(schema.RETRIED, later).values(not_before=now))
    connection.execute(sa.delete(schema.session).where(sa.type_coerce(schema.session.c.until, Instant) < END_OF_TIME))


@contextmanager
def _sqlite_copy(address: Address) -> Generator[Database]:
    with closing(_Unnamed(address.url.render_as_string())) as database:
        if Path(address.location).exists():
            database.fill(address)
        migrate(database)
        yield database


@contextmanager
def _postgres_copy(url: str) -> Generator[Database]:
    with closing(_OneConnection(url)) as database:
        database.write(_shadow)
        migrate(database)
        yield database


class _OneConnection(Database):
    """A database on a single connection, to which its temporary tables belong. Threads use it one at a time."""

    _one: Connection | None = None

    def __init__(self, url: str) -> None:
        super().__init__(url)
        # Reentrant: a nested transaction of one thread raises instead of deadlocking.
        self._alone = threading.RLock()
        with self._plain():
            self._one = self._engine.connect()

    def close(self) -> None:
        if self._one is not None:
            self._one.close()
        super().close()

    @contextmanager
    def read(self) -> Generator[Connection]:
        with self._transaction() as connection:
            yield connection

    def write(self, work: Callable[[Connection], T], *, large: bool = False) -> T:
        with self._transaction() as connection:
            return work(connection)

    @contextmanager
    def _transaction(self) -> Generator[Connection]:
        if self._one is None:  # the connection check of __init__
            with super().read() as connection:
                yield connection
            return
        with self._alone, self._plain():
            if self._one.invalidated:  # a new connection would see the real tables
                raise LedgerError(
                    f"The connection to the ledger {self.location} was lost, and the copy with it.",
                    "Nothing was written.",
                )
            with self._one.begin():
                yield self._one


class _Unnamed(_OneConnection):
    """A temporary SQLite database. Its error messages name the real ledger, whose URL it is given.

    SQLite keeps it in memory while it is small, else in a file that it unlinks at creation,
    https://sqlite.org/inmemorydb.html#temp_db. Its journal is kept in memory.
    """

    def _open(self) -> sa.Engine:
        return sqlite_engine(
            sa.make_url("sqlite://"),
            creator=lambda: sqlite3.connect("", check_same_thread=False),
            poolclass=sa.StaticPool,
        )

    def _reach(self) -> None:
        self._pragma("journal_mode = MEMORY")

    def close(self) -> None:
        if self._one is not None:
            self._one.close()
        self._engine.dispose()
        self._closed = True

    def fill(self, address: Address) -> None:
        """Copy one consistent state of the real ledger, even while others write. No file is changed or left behind.

        A read-write connection would checkpoint a log that a killed process left; a read-only connection would leave a
        log where there was none. So the mode depends on whether there is a log.
        """
        log = Path(f"{address.location}-wal")
        source = f"{Path(address.location).absolute().as_uri()}?mode={'ro' if log.exists() else 'rw'}"
        assert self._one
        copy: Any = self._one.connection.driver_connection
        with self._plain(), closing(sqlite3.connect(source, uri=True, timeout=BUSY_SECONDS)) as real:
            real.backup(copy)

    @contextmanager
    def _plain(self) -> Generator[None]:
        with super()._plain():
            try:
                yield
            except (exc.DBAPIError, sqlite3.Error) as error:
                cause = error.orig if isinstance(error, exc.DBAPIError) else error
                if not getattr(cause, "sqlite_errorname", "").startswith(("SQLITE_FULL", "SQLITE_IOERR")):
                    raise
                raise LedgerError(
                    f"The temporary folder has no room for a copy of the ledger file {self.location} ({cause}).",
                    "Make room there, or name another folder in TMPDIR.",
                ) from None


def _shadow(connection: Connection) -> None:
    """Copy the ledger's tables to temporary tables in one snapshot, and hide the real ones."""
    connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
    names = [*schema.metadata.tables, VERSION_TABLE]
    tables = connection.execute(_VISIBLE, {"names": names}).all()
    quote = connection.dialect.identifier_preparer.quote
    for name, where in tables:
        real, copy = f"{quote(where)}.{quote(name)}", f"pg_temp.{quote(name)}"
        connection.exec_driver_sql(f"CREATE TEMPORARY TABLE {quote(name)} (LIKE {real} INCLUDING ALL)")
        if name != operation_tables.history.name:  # may be large, and no operation that is tried on the copy reads it
            connection.exec_driver_sql(f"INSERT INTO {copy} SELECT * FROM {real}")  # noqa: S608 - names of our tables
        _go_on_counting(connection, real, copy)
        connection.exec_driver_sql(f"ANALYZE {copy}")
    connection.exec_driver_sql("SET search_path = pg_temp")


def _go_on_counting(connection: Connection, real: str, copy: str) -> None:
    """Continue the real table's sequence in the copy."""
    table = schema.metadata.tables.get(real.rpartition(".")[2])
    for column in () if table is None else table.columns:
        if column.identity is None:
            continue
        find = "SELECT pg_get_serial_sequence(%s, %s)"
        counter: Any = connection.exec_driver_sql(find, (real, column.name)).scalar_one()
        last, used = connection.exec_driver_sql(f"SELECT last_value, is_called FROM {counter}").one()  # noqa: S608
        connection.exec_driver_sql(
            "SELECT setval(pg_get_serial_sequence(%s, %s), %s, %s)", (copy, column.name, last, used)
        )
