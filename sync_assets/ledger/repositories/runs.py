"""Store the sessions of Dagster runs.

A run whose session has ended or expired was killed, unless the end of its work is stored.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

import sqlalchemy as sa

from sync_assets.ledger import times
from sync_assets.ledger.errors import SESSION_SECONDS
from sync_assets.ledger.repositories.sessions import Sessions
from sync_assets.ledger.storage import operation_tables, schema
from sync_assets.ledger.storage.session import Repository, writes
from sync_assets.ledger.storage.transaction import COUNTED, Transaction

KEPT_SECONDS, ENDED_KEPT_SECONDS = 86_400.0, 300.0
ENDED, GIVEN_UP = 0, -1
"""Stored in place of a run's session. ENDED: its work ended by itself. GIVEN_UP: its process was killed, and another
run may continue its work."""
_R, _S = operation_tables.run.c, schema.session.c


class Heartbeat(NamedTuple):
    """The last heartbeat of a run.

    session: the epoch of its process's session, ENDED or GIVEN_UP. at: its time, UTC. worker: the process
    (runtime/workers.py); None once its session has ended, expired or is overdue.
    """

    session: int
    at: datetime
    worker: str | None = None


@dataclass(eq=False)
class Runs(Repository):
    """Reads and writes `sync_run`."""

    _sessions: Sessions

    @writes
    def begin(self, transaction: Transaction, run_id: str, session: int) -> bool:
        """Store that a session works on a run, and delete old runs.

        Returns:
            False if the run was given up before: nothing is stored, and the process must end.
        """
        self._sessions.require(transaction, session)
        now = self._session.now()
        ended = sa.and_(_R.session == ENDED, _R.changed_at < now - times.seconds(ENDED_KEPT_SECONDS))
        silent = _R.session.not_in(schema.LIVE_EPOCHS)
        old = sa.or_(ended, sa.and_(silent, _R.changed_at < now - times.seconds(KEPT_SECONDS)))
        transaction.execute(sa.delete(operation_tables.run).where(old, _R.run_id != run_id))
        row = {"session": session, "changed_at": now}
        new = transaction.insert_into(operation_tables.run).values(run_id=run_id, **row)
        begun = new.on_conflict_do_update(index_elements=["run_id"], set_=row, where=_R.session != GIVEN_UP)
        return transaction.execute(begun, execution_options=COUNTED).rowcount == 1

    def end(self, run_id: str) -> None:
        """Store that the work of a run ended by itself, so that its session is not expected to live."""
        ended = sa.update(operation_tables.run).where(_R.run_id == run_id, _R.session != GIVEN_UP)
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
        same = sa.and_(_R.run_id == run_id, _R.session == seen.session, _R.session.not_in(schema.LIVE_EPOCHS))
        return transaction.execute(sa.update(operation_tables.run).where(same).values(row)).rowcount == 1

    def heartbeats(self) -> Mapping[str, Heartbeat]:
        """Return the heartbeats of the last day, by run id."""
        joined = sa.select(operation_tables.run, _S.worker, _S.until, _S.live).outerjoin(
            schema.session, _S.epoch == _R.session
        )
        with self._session.read() as transaction:
            now, silence = self._sessions.now(transaction), times.seconds(SESSION_SECONDS)
            heartbeats: dict[str, Heartbeat] = {}
            for row in transaction.execute(joined):
                beat_at = 0 if row.until is None else row.until - silence
                at = times.from_micros(max(row.changed_at, beat_at))
                heartbeats[row.run_id] = Heartbeat(
                    row.session, at, row.worker if row.live and beat_at + silence > now else None
                )
            return heartbeats
