"""Store the sessions of Dagster runs, and numbers of captures and pushes by day.

A run whose session has ended or expired was killed, unless the end of its work is stored.
"""

from collections import Counter
from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from sync_assets.ledger import times
from sync_assets.ledger.errors import SESSION_SECONDS
from sync_assets.ledger.repositories.sessions import Sessions
from sync_assets.ledger.storage import operation_tables, schema
from sync_assets.ledger.storage.session import LedgerSession

KEPT_SECONDS, ENDED_KEPT_SECONDS = 86_400.0, 300.0
ENDED, GIVEN_UP = 0, -1
"""Stored in place of a run's session. ENDED: its work ended by itself. GIVEN_UP: its process was killed, and another
run may continue its work."""
_COUNTED = {"preserve_rowcount": True}  # without it SQLAlchemy has no rowcount of an INSERT
_R, _D, _N, _S = operation_tables.run.c, operation_tables.captured_day.c, operation_tables.day_count.c, schema.session.c


class Heartbeat(NamedTuple):
    """The last heartbeat of a run.

    session: the epoch of its process's session, ENDED or GIVEN_UP. at: its time, UTC. worker: the process
    (runtime/workers.py); None once its session has ended, expired or is overdue.
    """

    session: int
    at: datetime
    worker: str | None = None


class Runs:
    """Reads and writes `sync_run`, `sync_captured_day` and `sync_day_count`."""

    def __init__(self, session: LedgerSession, sessions: Sessions) -> None:
        self._session = session
        self._sessions = sessions

    def begin(self, run_id: str, session: int) -> bool:
        """Store that a session works on a run, and delete old runs.

        Returns:
            False if the run was given up before: nothing is stored, and the process must end.
        """

        def work(connection: Connection) -> bool:
            self._sessions.require(connection, session)
            now = self._session.now()
            ended = sa.and_(_R.session == ENDED, _R.changed_at < now - times.seconds(ENDED_KEPT_SECONDS))
            silent = _R.session.not_in(schema.LIVE_EPOCHS)
            old = sa.or_(ended, sa.and_(silent, _R.changed_at < now - times.seconds(KEPT_SECONDS)))
            connection.execute(sa.delete(operation_tables.run).where(old, _R.run_id != run_id))
            row = {"session": session, "changed_at": now}
            new = self._session.upsert(operation_tables.run).values(run_id=run_id, **row)
            begun = new.on_conflict_do_update(index_elements=["run_id"], set_=row, where=_R.session != GIVEN_UP)
            return connection.execute(begun, execution_options=_COUNTED).rowcount == 1

        return self._session.database.write(work)

    def end(self, run_id: str) -> None:
        """Store that the work of a run ended by itself, so that its session is not expected to live."""
        ended = sa.update(operation_tables.run).where(_R.run_id == run_id, _R.session != GIVEN_UP)
        self._session.run(ended.values(session=ENDED, changed_at=self._session.now()))

    def give_up(self, run_id: str, seen: Heartbeat | None) -> bool:
        """Store that the process of a run was killed. If it is alive after all, its `begin` returns False.

        Args:
            run_id: Dagster's id of the run.
            seen: The heartbeat that the decision is based on, None if there was none.

        Returns:
            False if the run began, ended or is alive: nothing is changed.
        """

        def work(connection: Connection) -> bool:
            row = {"session": GIVEN_UP, "changed_at": self._session.now()}
            if seen is None:
                new = self._session.upsert(operation_tables.run).values(run_id=run_id, **row)
                given_up = new.on_conflict_do_nothing(index_elements=["run_id"])
                return connection.execute(given_up, execution_options=_COUNTED).rowcount == 1
            same = sa.and_(_R.run_id == run_id, _R.session == seen.session, _R.session.not_in(schema.LIVE_EPOCHS))
            return connection.execute(sa.update(operation_tables.run).where(same).values(row)).rowcount == 1

        return self._session.database.write(work)

    def heartbeats(self) -> Mapping[str, Heartbeat]:
        """Return the heartbeats of the last day, by run id."""
        joined = sa.select(operation_tables.run, _S.worker, _S.until, _S.live).outerjoin(
            schema.session, _S.epoch == _R.session
        )
        with self._session.database.read() as connection:
            now, silence = self._sessions.now(connection), times.seconds(SESSION_SECONDS)
            heartbeats: dict[str, Heartbeat] = {}
            for row in connection.execute(joined):
                beat_at = 0 if row.until is None else row.until - silence
                at = times.from_micros(max(row.changed_at, beat_at))
                heartbeats[row.run_id] = Heartbeat(
                    row.session, at, row.worker if row.live and beat_at + silence > now else None
                )
            return heartbeats

    def count_captured(self, table: str, rows: int) -> None:
        """Add to the rows captured today (UTC), 0 or more, and store that the table was captured now."""
        now = self._session.now()
        row = {"table_name": table, "day": times.day_of(now), "captured_rows": rows, "confirmed_at": now}
        self._session.run(self._session.put(operation_tables.captured_day, [row], added="captured_rows"))

    def add_day_counts(self, table: str, side: str, numbers: Mapping[str, int]) -> None:
        """Add to the numbers of today (UTC). side: of the asset, `d365` or `campaign`."""
        day = times.day_of(self._session.now())
        rows = [
            {"table_name": table, "day": day, "name": f"{side}/{name}", "number": number}
            for name, number in sorted(numbers.items())
            if number
        ]
        if rows:
            self._session.run(self._session.put(operation_tables.day_count, rows, added="number"))

    def day_counts(self, table: str, side: str, day: date | None = None) -> Counter[str]:
        """Return the numbers of a UTC day by name, of all days by default; those that are 0 are missing."""
        of_day = [_N.day == times.to_day_number(day)] if day else []
        wanted = sa.select(_N.name, sa.func.sum(_N.number).label("number")).where(_N.table_name == table, *of_day)
        rows = self._session.rows(wanted.where(_N.name.startswith(f"{side}/")).group_by(_N.name))
        return Counter({row.name.partition("/")[2]: int(row.number) for row in rows})

    def forget_confirmation(self, table: str) -> None:
        """Store that the table's last run failed, so that another run is due even without changes."""
        failed = sa.update(operation_tables.captured_day).where(_D.table_name == table).values(confirmed_at=None)
        self._session.run(failed)

    def confirmed_at(self, table: str) -> datetime | None:
        """Return when the table was last captured today (UTC), with or without rows; None if it was not."""
        today = times.day_of(self._session.now())
        wanted = sa.select(_D.confirmed_at).where(_D.table_name == table, _D.day == today)
        return times.instant(self._session.scalar(wanted))

    def first_captured_day(self, table: str) -> date | None:
        """Return the first UTC day on which the table was captured; None if it never was."""
        first = sa.select(sa.func.min(_D.day)).where(_D.table_name == table)
        number = self._session.scalar(first)
        return None if number is None else times.from_day_number(number)

    def captured_rows(self, table: str, day: date | None = None) -> int:
        """Return the number of rows captured on a UTC day, today by default."""
        number = times.to_day_number(day or datetime.now(UTC).date())
        wanted = sa.select(_D.captured_rows).where(_D.table_name == table, _D.day == number)
        return self._session.scalar(wanted) or 0
