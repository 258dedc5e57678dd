"""Store the sessions of workers: the epoch that a worker's claims name, and until when the session lives.

A worker is a process. Its claims of records, captures, listings, opt-outs and call slots name its session, and are free
for others as soon as that has ended or expired, without a write to them. Each claim is counted, as each session and
renewal, so that an older copy of the ledger is recognised (runtime/systems.py).

Invariants: a later session has a higher epoch. A session that has ended or expired is fenced off: it claims and stores
nothing more, and cannot be renewed. It expires when others find it overdue, by the clock of the database, or when its
process is known to have ended.
"""

from collections.abc import Callable
from datetime import datetime
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from sync_assets.ledger import times
from sync_assets.ledger.errors import SESSION_SECONDS, SessionExpired
from sync_assets.ledger.storage import operation_tables, schema
from sync_assets.ledger.storage.session import LedgerSession

_KEPT_SECONDS = 86_400.0
_S, _I = schema.session.c, operation_tables.identity.c
_LIVE = _S.live == 1
_MICROS = "SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT)"


class Session(NamedTuple):
    """A live session. until: when it is overdue unless it is renewed; this may have passed."""

    epoch: int
    worker: str
    until: datetime


class Sessions:
    """Reads and writes `sync_session` and `sync_identity`."""

    def __init__(self, session: LedgerSession) -> None:
        self._session = session
        self.remember: Callable[[int], None] = lambda number: None
        """Called with the ledger's number after a change of it is stored."""

    def open(self, worker: str) -> int:
        """Open a session of a worker (runtime/workers.py); return its epoch. Old sessions are deleted."""

        def work(connection: Connection) -> int:
            now = self.now(connection)
            over = sa.and_(_S.live == 0, _S.until < now - times.seconds(_KEPT_SECONDS))
            connection.execute(sa.delete(schema.session).where(over))
            epoch, until = self.count(connection), now + times.seconds(SESSION_SECONDS)
            connection.execute(sa.insert(schema.session).values(epoch=epoch, worker=worker, until=until, live=1))
            return epoch

        epoch = self._session.database.write(work)
        self.remember(epoch)
        return epoch

    def renew(self, epoch: int) -> bool:
        """Renew a session for SESSION_SECONDS from now. Return False if it has ended or expired."""

        def work(connection: Connection) -> int | None:
            until = self.now(connection) + times.seconds(SESSION_SECONDS)
            renewed = sa.update(schema.session).where(_S.epoch == epoch, _LIVE).values(until=until)
            return self.count(connection) if connection.execute(renewed).rowcount else None

        number = self._session.database.write(work)
        if number is not None:
            self.remember(number)
        return number is not None

    def end(self, epoch: int) -> None:
        """End a session. The outcomes of its requests that were not stored stay unknown."""
        ended = sa.update(schema.session).where(_S.epoch == epoch).values(live=0)
        self._session.run(ended)

    def expire(self, has_ended: Callable[[str], bool] = lambda worker: False) -> int:
        """Let sessions expire that are overdue, or whose worker has ended; return how many.

        has_ended: returns True if the process of a worker is known to have ended.
        """

        def over(connection: Connection, live: sa.Select[int, str, int]) -> list[int]:
            now = self.now(connection)
            return [row.epoch for row in connection.execute(live).all() if row.until <= now or has_ended(row.worker)]

        def work(connection: Connection) -> int:
            # A session that stores something at this moment is locked, and lives.
            epochs = over(connection, live.with_for_update(skip_locked=True))
            connection.execute(sa.update(schema.session).where(_S.epoch.in_(epochs)).values(live=0))
            return len(epochs)

        live = sa.select(_S.epoch, _S.worker, _S.until).where(_LIVE).order_by(_S.epoch)
        with self._session.database.read() as connection:
            expired = over(connection, live)
        return self._session.database.write(work) if expired else 0

    def all(self) -> list[Session]:
        """Return the live sessions."""
        live = sa.select(_S.epoch, _S.worker, _S.until).where(_LIVE).order_by(_S.epoch)
        return [Session(row.epoch, row.worker, times.from_micros(row.until)) for row in self._session.rows(live)]

    def number(self) -> int:
        """Return the ledger's number, which is lower in an older copy."""
        return self._session.scalar(sa.select(_I.number))

    def raise_number(self, number: int) -> None:
        """Raise the ledger's number, so that it does not count as an older copy any more."""
        raised = sa.update(operation_tables.identity).where(_I.number < number).values(number=number)
        self._session.run(raised)

    # Parts of the transactions of others

    def now(self, connection: Connection) -> int:
        """Return the database's time in microseconds since 1970. SQLite: that of this process, on the same machine."""
        if self._session.database.sqlite:
            return self._session.now()
        return connection.exec_driver_sql(_MICROS).scalar_one()

    def is_live(self, connection: Connection, epoch: int) -> bool:
        """Return True if the session is live, and then keep it from expiring until the transaction ends."""
        live = sa.select(_S.epoch).where(_S.epoch == epoch, _LIVE).with_for_update(read=True, key_share=True)
        return connection.execute(live).first() is not None

    def require(self, connection: Connection, epoch: int) -> None:
        """Raise SessionExpired unless the session is live."""
        if not self.is_live(connection, epoch):
            raise SessionExpired

    def count(self, connection: Connection) -> int:
        """Raise the ledger's number, and return it. Call it last in a transaction: all workers write this row."""
        raised = sa.update(operation_tables.identity).values(number=_I.number + 1).returning(_I.number)
        return connection.execute(raised).scalar_one()
