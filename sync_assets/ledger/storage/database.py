"""Open the ledger's database, run transactions, and translate the driver's errors. Independent of the tables.

Invariants: a write transaction is stored as a whole or not at all. A message never holds row content or a password; the
driver's own text may quote rows.
"""

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

from sync_assets.errors import is_disk_full
from sync_assets.ledger.errors import LedgerError
from sync_assets.ledger.storage.database_url import SETTING, Address

BUSY_SECONDS = 60  # how long an SQLite writer waits for other processes
_COLLISIONS = {"40001", "40P01"}  # PostgreSQL: serialization failure, deadlock
_UNREACHABLE = {"08", "28", "3D", "57"}  # SQLSTATE classes: connection, sign-in, database name, shutdown
CONNECT_SECONDS = 10
COLLISION_ATTEMPTS = 6
# After a network failed silently, or a server moved, a statement would wait for an answer for two hours, the operating
# system's default. A server that is at work on a long statement answers these probes.
_ALIVE = {"keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3, "tcp_user_timeout": 60_000}
LOCAL_BUFFER = 4 << 20
"""Bytes of the send buffer of a connection to a PostgreSQL server on this host."""
_WRITE = "sync_assets_write"
_SQLITE_SETTINGS = (
    # Applies to a new file only. Random ids dirty an index page per row: with half as many pages commits are a third
    # faster.
    "page_size = 8192",
    f"busy_timeout = {BUSY_SECONDS * 1000}",
    # A commit survives a power cut: a lost claim would let its requests be sent again.
    "synchronous = FULL",
    "fullfsync = ON",  # macOS: its fsync alone does not reach the disk
    # Erased payloads and freed pages are overwritten with zeros. Measured: no cost beyond the noise.
    "secure_delete = ON",
    "temp_store = MEMORY",
    "cache_size = -16384",  # 16 MiB per connection
)
# Frames of the write-ahead log, of a page each, after which a transaction checkpoints them into the file. Random ids
# dirty the same pages again and again; fewer checkpoints cost a third less.
_LOG = 8_000
# Large transactions, which follow one another, leave the checkpoint to a thread: it syncs both files to disk, which at
# a million records was half of a page's time. Meanwhile the log does not restart, so it grows to this many frames, half
# a gigabyte; then a transaction checkpoints what the thread has left.
_LARGE_LOG = 64_000
# One large transaction in this many starts the thread: after each one, the same leaves would be written three times.
_LARGE_EVERY = 3
# Every query is written for an index and must use it at any size of the table. By default the planner scans the whole
# table while it has no statistics, which is throughout a first load.
_POSTGRES_SETTINGS = (
    "enable_seqscan = off",
    "enable_bitmapscan = off",
    "enable_hashjoin = off",
    "enable_mergejoin = off",
    "jit = off",
    "synchronous_commit = on",  # whatever the server's default is: a lost claim would let its requests be sent again
)

T = TypeVar("T")


class Busy(LedgerError):
    """SQLite: another process has locked the file."""


class Collided(LedgerError):
    """PostgreSQL aborted this transaction to break a deadlock. Nothing was written."""


class Database:
    """The database of one ledger. Threads may share it; each transaction has its own connection."""

    def __init__(self, url: str) -> None:
        """Connect. LedgerError if the URL is wrong, the file can't be written or the server can't be reached."""
        self._address = address = Address.parse(url)
        self.sqlite = address.sqlite
        self.location = address.location
        # SQLite has one writer at a time; threads queue here instead of polling for the file lock.
        self._turn = threading.Lock() if address.sqlite else nullcontext()
        self._checkpointer: threading.Thread | None = None
        self._large_writes = 0
        self._closed = False
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
        """Close all connections; using it again is an error, since nothing would close the new ones.

        SQLite: also truncate the write-ahead log, which may hold erased payloads.
        """
        if self.sqlite:
            # Not possible while another process uses the file; then the last one to close it does this.
            if self._checkpointer:
                self._checkpointer.join()
            with suppress(LedgerError):
                self._pragma("busy_timeout = 0", "wal_checkpoint(TRUNCATE)")
        self._engine.dispose()
        self._closed = True

    def _checkpoint_beside(self) -> None:
        """Start the checkpoint thread after every _LARGE_EVERY-th large transaction."""
        self._large_writes += 1
        if self._large_writes % _LARGE_EVERY or (self._checkpointer and self._checkpointer.is_alive()):
            return
        checkpointer = threading.Thread(target=self._checkpoint, name="checkpoint")
        with suppress(RuntimeError):  # no thread available: the transaction that exceeds _LARGE_LOG does it
            checkpointer.start()
            self._checkpointer = checkpointer

    def _checkpoint(self) -> None:
        with suppress(LedgerError):
            self._pragma("wal_checkpoint(PASSIVE)")

    def rewrite(self, most_bytes: int) -> None:
        """SQLite: VACUUM the file, if it holds at most `most_bytes`, to remove remains of erased payloads.

        `secure_delete` overwrites deleted content, but not the copies that remain when a page is split and its rows
        move, as happens when a neighbouring row grows. Not done while another process uses the file.
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
        """Open a read transaction. LedgerError if the database fails."""
        with self._plain(), self._engine.connect() as connection, connection.begin():
            yield connection

    def write(self, work: Callable[[Connection], T], *, large: bool = False) -> T:
        """Run `work` in a write transaction, which is stored as a whole or, after an exception or a kill, not at all.

        Args:
            work: may be called more than once, if PostgreSQL aborts the transaction to break a deadlock.
            large: True for a transaction of thousands of rows that more such transactions follow.

        Raises:
            LedgerError: the database failed.
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
        """Translate database errors to LedgerError. The driver's text is left out: it may quote rows."""
        if self._closed:
            raise LedgerError(f"The ledger {self.location} was used after it was closed.", "Report this as a defect.")
        try:
            yield
        except exc.DBAPIError as error:
            raise fault(error.orig, self._address) from None
        except exc.TimeoutError:
            text = f"All connections to the ledger {self.location} are in use."
            raise LedgerError(text, "Use fewer threads.") from None
        except self._driver_error as error:
            raise fault(error, self._address) from None

    def _pragma(self, *pragmas: str) -> None:
        """SQLite: run pragmas that only work outside a transaction."""
        with self._plain(), closing(self._engine.raw_connection()) as connection:
            cursor = connection.cursor()
            for pragma in pragmas:
                cursor.execute(f"PRAGMA {pragma}")
            cursor.close()

    def _reach(self) -> None:
        """Check that the database is usable; SQLite: switch to the write-ahead log."""
        if not self.sqlite:
            with self.read() as connection:
                connection.exec_driver_sql("SELECT 1")
            return
        # Switching the journal needs an exclusive lock for a moment, for which SQLite does not wait.
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
    """Set after how many frames a transaction checkpoints the write-ahead log."""
    kept = connection.connection
    if kept.info.get("frames") != frames:
        driver: Any = kept.driver_connection
        driver.execute(f"PRAGMA wal_autocheckpoint = {frames}")
        kept.info["frames"] = frames


def sqlite_engine(url: sa.URL, **options: Any) -> Engine:
    """Create an engine whose connections are set up for a ledger. options: those of `create_engine`."""
    engine = sa.create_engine(url, hide_parameters=True, **options)

    def prepare(connection: Any, _: object) -> None:
        connection.isolation_level = None  # the driver's own BEGIN cannot be IMMEDIATE
        for pragma in _SQLITE_SETTINGS:
            connection.execute(f"PRAGMA {pragma}")

    def begin(connection: Connection) -> None:
        # A write transaction locks at once: upgrading a read lock later could fail.
        write = connection.get_execution_options().get(_WRITE)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")

    event.listen(engine, "connect", prepare)
    event.listen(engine, "begin", begin)
    return engine


def _postgres_engine(address: Address) -> Engine:
    arguments: dict[str, str | int] = {"application_name": "sync_assets", "connect_timeout": CONNECT_SECONDS, **_ALIVE}
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
    """Enlarge the send buffer of a Unix socket, so that a page is sent in few writes. TCP adapts its buffers by itself.

    Between two writes the sender waits for the server, and then for the interpreter lock, which a thread that prepares
    the next page holds. Linux grants at most net.core.wmem_max, 0.2 MB by default.
    """
    with socket.socket(fileno=os.dup(descriptor)) as connection:
        if connection.family == getattr(socket, "AF_UNIX", None):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, LOCAL_BUFFER)


# --- Errors -----------------------------------------------------------------------------------------------------------


def fault(error: BaseException | None, address: Address) -> LedgerError:
    """Return the error to raise instead of the driver's."""
    state: str | None = getattr(error, "sqlstate", None)
    if state in _COLLISIONS:
        return Collided(
            f"The ledger {address.location} kept colliding with other writers.", "Run fewer workers at once."
        )
    # PostgreSQL's primary message names objects only; its detail and context quote values.
    primary = getattr(getattr(error, "diag", None), "message_primary", None)
    lines = str(primary or error).splitlines()
    cause = lines[0].strip() if lines else type(error).__name__
    if address.password:
        cause = cause.replace(address.password, "***")
    if "check constraint" in cause.lower():
        return LedgerError(
            f"The ledger {address.location} refused a row ({cause}). It is as it was before.",
            "Report this: the program would have stored what cannot be.",
        )
    if not address.sqlite:
        return _postgres_fault(address, cause, state)
    if is_disk_full(error):
        return LedgerError(f"The disk of the ledger file {address.location} is full.", "Make room there.")
    return _sqlite_fault(address.location, cause)


def _sqlite_fault(location: str, cause: str) -> LedgerError:
    if "locked" in cause or "busy" in cause:
        return Busy(
            f"Another process has been writing to the ledger file {location} for {BUSY_SECONDS} seconds.",
            "Wait for it or stop it.",
        )
    if "not a database" in cause or "malformed" in cause:
        return LedgerError(
            f"The file {location} is no ledger, or is damaged ({cause}).",
            f"Restore it, or set {SETTING} to another file.",
        )
    return LedgerError(
        f"The ledger file {location} can't be used ({cause}).", f"Check the file and its folder, and {SETTING}."
    )


def _postgres_fault(address: Address, cause: str, state: str | None) -> LedgerError:
    if state is None or state[:2] in _UNREACHABLE:
        return LedgerError(
            f"The ledger {address.location} can't be reached ({cause}).", f"Check that the server runs, and {SETTING}."
        )
    if state[:2] == "42":
        return LedgerError(
            f"The ledger {address.location} refused ({cause}, SQLSTATE {state}).",
            "Give its user the right to create and use tables there.",
        )
    return LedgerError(
        f"The ledger {address.location} failed ({cause}, SQLSTATE {state}).", "See the log of the server."
    )
