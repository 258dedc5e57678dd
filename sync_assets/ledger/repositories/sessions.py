"""Store the sessions of workers, and the Dagster runs that they work on. A claim names the epoch of its session.

A worker is a process. Its claims of records, captures, listings, opt-outs and call slots name its session, and are free
for others as soon as that has ended or expired, without a write to them. Each claim is counted, as each session and
renewal, so that an older copy of the ledger is recognised (runtime/systems.py).

Invariants: a later session has a higher epoch. A session that has ended or expired is fenced off: it claims and stores
nothing more, and cannot be renewed. It expires when others find it overdue, by the clock of the database, or when its
process is known to have ended. A run whose session has ended or expired was killed, unless the end of its work is
stored.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import sqlalchemy as sa

from sync_assets.ledger import times
from sync_assets.ledger.errors import SESSION_SECONDS, SessionExpired
from sync_assets.ledger.model import ENDED, GIVEN_UP, Heartbeat
from sync_assets.ledger.storage import operation_tables, schema
from sync_assets.ledger.storage.session import Repository, writes
from sync_assets.ledger.storage.transaction import COUNTED, Transaction

KEPT_SECONDS, ENDED_RUN_KEPT_SECONDS = 86_400.0, 300.0
_S, _I, _RUN = schema.session.c, operation_tables.identity.c, operation_tables.run.c
_LIVE = _S.live == 1
_SESSIONS = sa.select(_S.epoch, _S.worker, _S.until).where(_LIVE).order_by(_S.epoch)
_MICROS = "SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT)"


class Sessions(Repository):
    """Reads and writes `sync_session` and `sync_identity`; deletes from `sync_planned`."""

    @writes
    def open(self, transaction: Transaction, worker: str) -> int:
        """Open a session of a worker (runtime/workers.py); return its epoch. Delete old ones, and their plans."""
        now = self.now(transaction)
        over = sa.and_(_S.live == 0, _S.until < now - times.seconds(KEPT_SECONDS))
        ended = sa.select(_S.epoch).where(_S.live == 0)
        transaction.execute(sa.delete(schema.planned).where(schema.planned.c.session.in_(ended)))
        transaction.execute(sa.delete(schema.session).where(over))
        epoch, until = self.count(transaction), now + times.seconds(SESSION_SECONDS)
        transaction.execute(sa.insert(schema.session).values(epoch=epoch, worker=worker, until=until, live=1))
        return epoch

    @writes
    def renew(self, transaction: Transaction, epoch: int) -> bool:
        """Renew a session for SESSION_SECONDS from now. Return False if it has ended or expired."""
        until = self.now(transaction) + times.seconds(SESSION_SECONDS)
        renewed = sa.update(schema.session).where(_S.epoch == epoch, _LIVE).values(until=until)
        return bool(transaction.execute(renewed).rowcount and self.count(transaction))

    def end(self, epoch: int) -> None:
        """End a session. The outcomes of its requests that were not stored stay unknown."""
        ended = sa.update(schema.session).where(_S.epoch == epoch).values(live=0)
        self._session.run(ended)

    def expire(self, has_ended: Callable[[str], bool] = lambda worker: False) -> int:
        """Let sessions expire that are overdue, or whose worker has ended; return how many.

        has_ended: returns True if the process of a worker is known to have ended.
        """

        def over(transaction: Transaction, live: sa.Select[int, str, int]) -> list[int]:
            now = self.now(transaction)
            return [row.epoch for row in transaction.execute(live).all() if row.until <= now or has_ended(row.worker)]

        def work(transaction: Transaction) -> int:
            # A session that stores something at this moment is locked, and lives.
            epochs = over(transaction, _SESSIONS.with_for_update(skip_locked=True))
            return transaction.execute(sa.update(schema.session).where(_S.epoch.in_(epochs)).values(live=0)).rowcount

        with self._session.read() as transaction:
            expired = over(transaction, _SESSIONS)
        return self._session.write(work) if expired else 0

    def number(self) -> int:
        """Return the ledger's number, which is lower in an older copy."""
        return self._session.scalar(sa.select(_I.number))

    def raise_number(self, number: int) -> None:
        """Raise the ledger's number, so that it does not count as an older copy any more."""
        raised = sa.update(operation_tables.identity).where(_I.number < number).values(number=number)
        self._session.run(raised)

    # Parts of the transactions of others

    def now(self, transaction: Transaction) -> int:
        """Return the database's time in microseconds since 1970. SQLite: that of this process, on the same machine."""
        if self._session.database.sqlite:
            return self._session.now()
        return transaction.run(_MICROS)[0][0]

    def is_live(self, transaction: Transaction, epoch: int) -> bool:
        """Return True if the session is live, and then keep it from expiring until the transaction ends."""
        live = sa.select(_S.epoch).where(_S.epoch == epoch, _LIVE).with_for_update(read=True, key_share=True)
        return transaction.execute(live).first() is not None

    def require(self, transaction: Transaction, epoch: int) -> None:
        """Raise SessionExpired unless the session is live."""
        if not self.is_live(transaction, epoch):
            raise SessionExpired

    def count(self, transaction: Transaction) -> int:
        """Raise the ledger's number, and return it. Call it last in a transaction: all workers write this row."""
        raised = sa.update(operation_tables.identity).values(number=_I.number + 1).returning(_I.number)
        transaction.number = number = transaction.execute(raised).scalar_one()
        return number


@dataclass(eq=False)
class Runs(Repository):
    """Reads and writes `sync_run`."""

    _sessions: Sessions

    @writes
    def begin(self, transaction: Transaction, run_id: str, session: int, tables: Collection[str] = ()) -> bool:
        """Store that a session works on a run, and on which tables; delete old runs.

        Returns:
            False if the run was given up before: nothing is stored, and the process must end.
        """
        self._sessions.require(transaction, session)
        now = self._session.now()
        ended = sa.and_(_RUN.session == ENDED, _RUN.changed_at < now - times.seconds(ENDED_RUN_KEPT_SECONDS))
        silent = _RUN.session.not_in(schema.LIVE_EPOCHS)
        old = sa.or_(ended, sa.and_(silent, _RUN.changed_at < now - times.seconds(KEPT_SECONDS)))
        transaction.execute(sa.delete(operation_tables.run).where(old, _RUN.run_id != run_id))
        row = {"session": session, "changed_at": now, "tables": ",".join(sorted(tables))}
        new = transaction.insert_into(operation_tables.run).values(run_id=run_id, **row)
        begun = new.on_conflict_do_update(index_elements=["run_id"], set_=row, where=_RUN.session != GIVEN_UP)
        return transaction.execute(begun, execution_options=COUNTED).rowcount == 1

    def end(self, run_id: str) -> None:
        """Store that the work of a run ended by itself, so that its session is not expected to live."""
        ended = sa.update(operation_tables.run).where(_RUN.run_id == run_id, _RUN.session != GIVEN_UP)
        self._session.run(ended.values(session=ENDED, changed_at=self._session.now()))

    @writes
    def give_up(self, transaction: Transaction, run_id: str, seen: Heartbeat | None) -> bool:
        """Store that the process of a run was killed. If it is alive after all, its `begin` returns False.

        Args:
            run_id: Dagster's id of the run.
            seen: The heartbeat that the decision is based on, None if there was none.

        Returns:
            False if the run began, ended or is alive: nothing is changed.
        """
        row = {"session": GIVEN_UP, "changed_at": self._session.now()}
        if seen is None:
            return transaction.add(operation_tables.run, {"run_id": run_id, **row})
        same = sa.and_(_RUN.run_id == run_id, _RUN.session == seen.session, _RUN.session.not_in(schema.LIVE_EPOCHS))
        return transaction.execute(sa.update(operation_tables.run).where(same).values(row)).rowcount == 1

    def heartbeats(self) -> Mapping[str, Heartbeat]:
        """Return the heartbeats of the last day, by run id."""
        joined = sa.select(operation_tables.run, _S.worker, _S.until, _S.live).outerjoin(
            schema.session, _S.epoch == _RUN.session
        )
        with self._session.read() as transaction:
            now, silence = self._sessions.now(transaction), times.seconds(SESSION_SECONDS)
            heartbeats: dict[str, Heartbeat] = {}
            for row in transaction.execute(joined):
                beat_at = 0 if row.until is None else row.until - silence
                at = times.from_micros(max(row.changed_at, beat_at))
                worker = row.worker if row.live and beat_at + silence > now else None
                heartbeats[row.run_id] = Heartbeat(row.session, at, worker, frozenset(row.tables.split(",")) - {""})
            return heartbeats
