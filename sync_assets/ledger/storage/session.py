"""The session of a ledger: what its repositories share."""

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from sync_assets.ledger import times
from sync_assets.ledger.storage.database import Database
from sync_assets.ledger.storage.payload_cipher import PayloadCipher
from sync_assets.ledger.storage.transaction import Transaction

T = TypeVar("T")
P = ParamSpec("P")
R = TypeVar("R", bound="Repository")
Clock = Callable[[], datetime]

HORIZON_SECONDS = 900.0
"""The default of `guardrails.horizon_minutes`: longer than Campaign's gateway and engine work on a request."""


class LedgerSession:
    """What all repositories of one ledger share: the database and the clock.

    Args:
        database: the ledger's.
        clock: returns the time in UTC.
        cipher: encrypts and decrypts payloads.
        horizon_seconds: in which a request without an answer may take effect.
        alone: no other process uses the database, so that transactions take no lock against each other (a copy).
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        *,
        cipher: PayloadCipher | None = None,
        horizon_seconds: float = HORIZON_SECONDS,
        alone: bool = False,
    ) -> None:
        self.database = database
        self.horizon = times.seconds(horizon_seconds)
        self.cipher = cipher or PayloadCipher()
        self.alone = alone
        self.erased = False
        """True once a payload was erased in this session."""
        self.remember: Callable[[int], None] = lambda number: None
        """Called with the ledger's number after a change of it is stored."""
        self.plan: int | None = None
        """The session whose planned records alone may be claimed; None: all may."""
        self._clock = clock

    def now(self) -> int:
        """Return the time in microseconds since 1970."""
        return times.to_micros(self._clock())

    @contextmanager
    def read(self) -> Generator[Transaction]:
        """Open a read transaction. LedgerError if the database fails."""
        with self.database.read() as connection:
            yield Transaction(connection, sqlite=self.database.sqlite)

    def write(self, work: Callable[[Transaction], T], *, large: bool = False) -> T:
        """Run `work` in a write transaction, see `Database.write`, and store the totals that it changed."""

        def run(connection: Connection) -> tuple[T, int | None]:
            transaction = Transaction(connection, sqlite=self.database.sqlite)
            result = work(transaction)
            transaction.store_totals()
            return result, transaction.number

        result, number = self.database.write(run, large=large)
        if number is not None:
            self.remember(number)
        return result

    def rows(self, query: sa.Executable) -> Sequence[Any]:
        """Return the rows of one query, which is a transaction of its own."""
        with self.read() as transaction:
            return transaction.execute(query).all()

    def column(self, query: sa.Executable) -> list[Any]:
        """Return the first column of such a query."""
        return [row[0] for row in self.rows(query)]

    def scalar(self, query: sa.Executable) -> Any:
        """Return the first value of such a query; None without a row."""
        return next(iter(self.column(query)), None)

    def run(self, statement: sa.UpdateBase) -> int:
        """Execute one statement that changes rows, a transaction of its own; return how many rows it changed."""
        return self.write(lambda transaction: transaction.execute(statement).rowcount)

    def put(self, table: sa.Table, rows: Sequence[Mapping[str, Any]], added: str = "") -> None:
        """Insert or change rows, see `Transaction.put`, in a transaction of its own."""
        if rows:
            self.write(lambda transaction: transaction.put(table, rows, added))


@dataclass(eq=False)
class Repository:
    """A part of the ledger: what it reads and writes, and the other parts that it needs."""

    _session: LedgerSession


def writes(method: Callable[Concatenate[R, Transaction, P], T]) -> Callable[Concatenate[R, P], T]:
    """Run a method of a repository in a write transaction of its own. It may run more than once: see Database.write."""

    @wraps(method)
    def run(self: R, *args: P.args, **options: P.kwargs) -> T:
        session = self._session  # pyright: ignore[reportPrivateUsage]
        return session.write(lambda transaction: method(self, transaction, *args, **options))

    return run
