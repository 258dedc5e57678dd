"""The way to the database: opening it, transactions, errors turned into words. Knows no table."""

import os
import random
import socket
import threading
import time
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager, nullcontext, suppress
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy import event, exc
from sqlalchemy.engine import Connection, Engine

from sync_assets.ledger.errors import LedgerError
from sync_assets.ledger.storage.database_errors import BUSY_SECONDS, Busy, Collided, fault, no_connection_left
from sync_assets.ledger.storage.database_url import Address

CONNECT_SECONDS = 10
COLLISION_ATTEMPTS = 6
LOCAL_BUFFER = 4 << 20
"""Bytes on their way to a PostgreSQL server on this host."""
_WRITE = "sync_assets_write"
_SQLITE_SETTINGS = (
    # For a new file only. Random ids dirty a page of their index for each row: half as many commit a third faster.
    "page_size = 8192",
    f"busy_timeout = {BUSY_SECONDS * 1000}",
    # A commit survives the death of the process; a power cut may lose the last ones, each as a whole.
    "synchronous = NORMAL",
    # Erased payloads are overwritten with zeros, freed pages too. Measured: no cost beyond the noise.
    "secure_delete = ON",
    "temp_store = MEMORY",
    "cache_size = -16384",  # 16 MiB a connection
)
# Frames of the write-ahead log, of a page each, after which a transaction carries them over into the file. Random ids
# dirty the same pages again and again; written back less often they cost a third less.
_LOG = 8_000
# Large transactions, which come one after the other, leave that to a thread beside them: both files have to be on the
# disk for it, which at a million records was half of the time that a page took. While they come the log does not begin
# anew, so it grows to so many frames, half a gigabyte; then a transaction carries over what the thread has left.
_LARGE_LOG = 64_000
# One large transaction in so many starts the thread. After each of them the same leaves would be written thrice.
_LARGE_EVERY = 3
# Every query is made for an index, and is meant to be answered by it from the first record to the last million. Left
# to itself the planner reads the whole table while it has no statistics yet, which is all through a first load.
_POSTGRES_SETTINGS = (
    "enable_seqscan = off",
    "enable_bitmapscan = off",
    "enable_hashjoin = off",
    "enable_mergejoin = off",
    "jit = off",
)

T = TypeVar("T")


class Database:
    """One ledger's database. Threads may share it; each transaction has a connection of its own."""

    def __init__(self, url: str) -> None:
        """LedgerError if the URL is wrong, the file can't be written or the server can't be reached."""
        self._address = address = Address.parse(url)
        self.sqlite = address.sqlite
        self.location = address.location
        # SQLite has one writer at a time; threads queue here instead of polling the file for their turn.
        self._turn = threading.Lock() if address.sqlite else nullcontext()
        self._checkpointer: threading.Thread | None = None
        self._large_writes = 0
        self._engine = self._open()
        self._driver_error: type[Exception] = self._engine.dialect.loaded_dbapi.Error
        try:
            self._reach()
        except BaseException:
            self._engine.dispose()
            raise

    def _open(self) -> Engine:
        if not self.sqlite:
            return _postgres_engine(self._address)
        self._address.prepare_file()
        return sqlite_engine(self._address.url, connect_args={"timeout": BUSY_SECONDS})

    def close(self) -> None:
        """Give all connections back. SQLite: also empties the write-ahead log, which may hold erased payloads."""
        if self.sqlite:
            # Another process may be at work; then the last one to close does it.
            if self._checkpointer:
                self._checkpointer.join()
            with suppress(LedgerError):
                self._pragma("busy_timeout = 0", "wal_checkpoint(TRUNCATE)")
        self._engine.dispose()

    def _checkpoint_beside(self) -> None:
        self._large_writes += 1
        if self._large_writes % _LARGE_EVERY or (self._checkpointer and self._checkpointer.is_alive()):
            return
        checkpointer = threading.Thread(target=self._checkpoint, name="checkpoint")
        with suppress(RuntimeError):  # no thread to be had: the transaction that makes the log too long does it
            checkpointer.start()
            self._checkpointer = checkpointer

    def _checkpoint(self) -> None:
        with suppress(LedgerError):
            self._pragma("wal_checkpoint(PASSIVE)")

    def rewrite(self, most_bytes: int) -> None:
        """SQLite: write the file anew, without what lies between its rows, if no more than `most_bytes` is left of it.

        `secure_delete` overwrites what is deleted, but not the copies that stay behind when a page is split and its
        rows move: a row that grows does that to its neighbours. Left undone while another process is at work.
        """
        if not self.sqlite:
            return
        with suppress(LedgerError), self._plain(), closing(self._engine.raw_connection()) as connection:
            cursor = connection.cursor()
            pages, free, size = (
                cursor.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
            )
            if (pages - free) * size <= most_bytes:
                cursor.execute("PRAGMA busy_timeout = 2000")
                cursor.execute("VACUUM")
            cursor.close()

    @contextmanager
    def read(self) -> Generator[Connection]:
        """A transaction that only reads. LedgerError if the database fails."""
        with self._plain(), self._engine.connect() as connection, connection.begin():
            yield connection

    def write(self, work: Callable[[Connection], T], *, large: bool = False) -> T:
        """Run `work` in a transaction: all of it is stored, or, at any exception or death, nothing.

        `work` may run more than once, when PostgreSQL breaks a deadlock. LedgerError if the database fails.
        large: thousands of rows, with more such transactions to come.
        """
        for attempt in range(1, COLLISION_ATTEMPTS):
            try:
                return self._write_once(work, large=large)
            except Collided:
                time.sleep(random.uniform(0.01, 0.05) * attempt)  # noqa: S311 - no secret
        return self._write_once(work, large=large)

    def _write_once(self, work: Callable[[Connection], T], *, large: bool) -> T:
        with self._turn, self._plain(), self._engine.connect() as plain:
            if self.sqlite:
                _limit_log(plain, _LARGE_LOG if large else _LOG)
            connection = plain.execution_options(**{_WRITE: True})
            with connection.begin():
                result = work(connection)
            if large and self.sqlite:
                self._checkpoint_beside()
            return result

    @contextmanager
    def _plain(self) -> Generator[None]:
        """Database errors as one line. The driver's own is not shown with it: it may quote rows."""
        try:
            yield
        except exc.DBAPIError as error:
            raise fault(error.orig, self._address) from None
        except exc.TimeoutError:
            raise no_connection_left(self._address) from None
        except self._driver_error as error:
            raise fault(error, self._address) from None

    def _pragma(self, *pragmas: str) -> None:
        """SQLite: settings that only work outside of a transaction."""
        with self._plain(), closing(self._engine.raw_connection()) as connection:
            cursor = connection.cursor()
            for pragma in pragmas:
                cursor.execute(f"PRAGMA {pragma}")
            cursor.close()

    def _reach(self) -> None:
        if not self.sqlite:
            with self.read() as connection:
                connection.exec_driver_sql("SELECT 1")
            return
        # Switching the journal needs the whole file for a moment, and SQLite does not queue for that.
        give_up = time.monotonic() + BUSY_SECONDS
        while True:
            try:
                self._pragma("journal_mode = WAL")
                return
            except Busy:
                if time.monotonic() > give_up:
                    raise
                time.sleep(0.02)


def _limit_log(connection: Connection, frames: int) -> None:
    kept = connection.connection
    if kept.info.get("frames") != frames:
        driver: Any = kept.driver_connection
        driver.execute(f"PRAGMA wal_autocheckpoint = {frames}")
        kept.info["frames"] = frames


def sqlite_engine(url: sa.URL, **options: Any) -> Engine:
    """An engine whose connections are set up for a ledger. options: those of `create_engine`."""
    engine = sa.create_engine(url, hide_parameters=True, **options)

    def prepare(connection: Any, _: object) -> None:
        connection.isolation_level = None  # the driver's own BEGIN comes too late to be IMMEDIATE
        for pragma in _SQLITE_SETTINGS:
            connection.execute(f"PRAGMA {pragma}")

    def begin(connection: Connection) -> None:
        # A writer takes its turn at once: to read first and write later could fail at the second step.
        write = connection.get_execution_options().get(_WRITE)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")

    event.listen(engine, "connect", prepare)
    event.listen(engine, "begin", begin)
    return engine


def _postgres_engine(address: Address) -> Engine:
    arguments = {"application_name": "sync_assets", "connect_timeout": CONNECT_SECONDS}
    try:
        engine = sa.create_engine(
            address.url,
            hide_parameters=True,
            isolation_level="READ COMMITTED",  # whatever the server's default is
            pool_pre_ping=True,  # a connection that died in the pool is replaced, not handed out
            connect_args={name: value for name, value in arguments.items() if name not in address.url.query},
        )
    except ModuleNotFoundError:
        raise LedgerError(
            "A ledger in PostgreSQL needs the driver psycopg.", "Run: pip install 'sync_assets[prod]'."
        ) from None

    def prepare(connection: Any, _: object) -> None:
        connection.execute("; ".join(f"SET {setting}" for setting in _POSTGRES_SETTINGS))
        connection.commit()
        _widen(connection.fileno())

    event.listen(engine, "connect", prepare)
    return engine


def _widen(descriptor: int) -> None:
    """A page goes to a server on this host in few pieces, as it does over TCP, which widens its buffers by itself.

    Between two pieces the sender waits for the server, and then for the interpreter, which a thread has that makes the
    next page ready. Linux grants what net.core.wmem_max allows, 0.2 MB where nobody raised it.
    """
    with socket.socket(fileno=os.dup(descriptor)) as connection:
        if connection.family == getattr(socket, "AF_UNIX", None):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, LOCAL_BUFFER)
