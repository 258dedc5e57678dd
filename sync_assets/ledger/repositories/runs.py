"""Store heartbeats of Dagster runs, and numbers of captures and pushes by day.

Here: the stored values. When a silent run counts as killed is decided in runtime/heartbeat.py.
"""

from collections import Counter
from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from sync_assets.ledger import times
from sync_assets.ledger.storage import schema
from sync_assets.ledger.storage.session import LedgerSession

KEPT_SECONDS, ENDED_KEPT_SECONDS = 86_400.0, 300.0
ENDED, GIVEN_UP = "", "given up"
"""Stored in place of a run's worker. ENDED: its work ended by itself. GIVEN_UP: its process was killed, and another run
may continue its work."""
_COUNTED = {"preserve_rowcount": True}  # without it SQLAlchemy has no rowcount of an INSERT
_R, _D, _N = schema.run.c, schema.captured_day.c, schema.day_count.c


class Heartbeat(NamedTuple):
    """The last heartbeat of a run. owner: its worker (runtime/workers.py), ENDED or GIVEN_UP. at: its time, UTC."""

    owner: str
    at: datetime


class Runs:
    """Reads and writes `sync_run`, `sync_captured_day` and `sync_day_count`."""

    def __init__(self, session: LedgerSession) -> None:
        self._session = session

    def write_heartbeat(self, run_id: str, owner: str, *, first: bool = True) -> bool:
        """Store a heartbeat of a run, and delete old heartbeats of other runs.

        Args:
            run_id: Dagster's id of the run.
            owner: its worker.
            first: False if the worker has stored one before. If that was deleted since, it counts as given up.

        Returns:
            False if the run was given up meanwhile: nothing is stored, and the process must end.
        """

        def work(connection: Connection) -> bool:
            now = self._session.now()
            row = {"owner": owner, "beat_at": now}
            ended = sa.and_(_R.owner == ENDED, _R.beat_at < now - times.seconds(ENDED_KEPT_SECONDS))
            old = sa.or_(_R.beat_at < now - times.seconds(KEPT_SECONDS), ended)
            connection.execute(sa.delete(schema.run).where(old, _R.run_id != run_id))
            if not first:
                mine = sa.and_(_R.run_id == run_id, _R.owner != GIVEN_UP)
                return connection.execute(sa.update(schema.run).where(mine).values(row)).rowcount == 1
            new = self._session.upsert(schema.run).values(run_id=run_id, **row)
            noted = new.on_conflict_do_update(index_elements=["run_id"], set_=row, where=_R.owner != GIVEN_UP)
            return connection.execute(noted, execution_options=_COUNTED).rowcount == 1

        return self._session.database.write(work)

    def end_heartbeats(self, run_id: str) -> None:
        """Store that the work of a run ended by itself, so that no further heartbeats are expected."""

        def work(connection: Connection) -> None:
            mine = sa.and_(_R.run_id == run_id, _R.owner != GIVEN_UP)
            connection.execute(sa.update(schema.run).where(mine).values(owner=ENDED, beat_at=self._session.now()))

        self._session.database.write(work)

    def give_up_run(self, run_id: str, seen: Heartbeat | None) -> bool:
        """Store that the process of a run was killed.

        If it is alive after all, its next `write_heartbeat` returns False.

        Args:
            run_id: Dagster's id of the run.
            seen: The heartbeat that the decision is based on, None if there was none.

        Returns:
            False if another heartbeat was stored meanwhile: nothing is changed.
        """

        def work(connection: Connection) -> bool:
            if seen is None:
                row = {"run_id": run_id, "owner": GIVEN_UP, "beat_at": self._session.now()}
                new = self._session.upsert(schema.run).values(**row).on_conflict_do_nothing(index_elements=["run_id"])
                return connection.execute(new, execution_options=_COUNTED).rowcount == 1
            same = sa.and_(_R.run_id == run_id, _R.owner == seen.owner, _R.beat_at == times.to_micros(seen.at))
            given_up = sa.update(schema.run).where(same).values(owner=GIVEN_UP, beat_at=self._session.now())
            return connection.execute(given_up).rowcount == 1

        return self._session.database.write(work)

    def heartbeats(self) -> Mapping[str, Heartbeat]:
        """Return the heartbeats of the last day, by run id."""
        with self._session.database.read() as connection:
            rows = connection.execute(sa.select(schema.run))
            return {row.run_id: Heartbeat(row.owner, times.from_micros(row.beat_at)) for row in rows}

    def count_captured(self, table: str, rows: int) -> None:
        """Add to the rows captured today (UTC), 0 or more, and store that the table was captured now."""

        def work(connection: Connection) -> None:
            now = self._session.now()
            key = {"table_name": table, "day": times.to_day_number(times.from_micros(now).date())}
            new = self._session.upsert(schema.captured_day).values(**key, captured_rows=rows, confirmed_at=now)
            changed = {"captured_rows": _D.captured_rows + new.excluded.captured_rows, "confirmed_at": now}
            connection.execute(new.on_conflict_do_update(index_elements=["table_name", "day"], set_=changed))

        self._session.database.write(work)

    def add_day_counts(self, table: str, side: str, numbers: Mapping[str, int]) -> None:
        """Add to the numbers of today (UTC). side: of the asset, `d365` or `campaign`."""

        def work(connection: Connection) -> None:
            day = times.to_day_number(times.from_micros(self._session.now()).date())
            rows = [
                {"table_name": table, "day": day, "name": f"{side}/{name}", "number": number}
                for name, number in sorted(numbers.items())
                if number
            ]
            if rows:
                new = self._session.upsert(schema.day_count).values(rows)
                added = {"number": _N.number + new.excluded.number}
                keys = ["table_name", "day", "name"]
                connection.execute(new.on_conflict_do_update(index_elements=keys, set_=added))

        self._session.database.write(work)

    def day_counts(self, table: str, side: str, day: date) -> Counter[str]:
        """Return the numbers of a UTC day by name; those that are 0 are missing."""
        wanted = sa.select(_N.name, _N.number).where(_N.table_name == table, _N.day == times.to_day_number(day))
        with self._session.database.read() as connection:
            rows = connection.execute(wanted.where(_N.name.startswith(f"{side}/"))).all()
        return Counter({row.name.partition("/")[2]: row.number for row in rows})

    def forget_confirmation(self, table: str) -> None:
        """Store that the table's last run failed, so that another run is due even without changes."""
        failed = sa.update(schema.captured_day).where(_D.table_name == table).values(confirmed_at=None)
        self._session.database.write(lambda connection: connection.execute(failed) and None)

    def confirmed_at(self, table: str) -> datetime | None:
        """Return when the table was last captured today (UTC), with or without rows; None if it was not."""
        number = times.to_day_number(times.from_micros(self._session.now()).date())
        wanted = sa.select(_D.confirmed_at).where(_D.table_name == table, _D.day == number)
        with self._session.database.read() as connection:
            moment = connection.execute(wanted).scalar()
            return None if moment is None else times.from_micros(moment)

    def first_captured_day(self, table: str) -> date | None:
        """Return the first UTC day on which the table was captured; None if it never was."""
        first = sa.select(sa.func.min(_D.day)).where(_D.table_name == table)
        with self._session.database.read() as connection:
            number = connection.execute(first).scalar()
            return None if number is None else times.from_day_number(number)

    def captured_rows(self, table: str, day: date | None = None) -> int:
        """Return the number of rows captured on a UTC day, today by default."""
        number = times.to_day_number(day or datetime.now(UTC).date())
        wanted = sa.select(_D.captured_rows).where(_D.table_name == table, _D.day == number)
        with self._session.database.read() as connection:
            return connection.execute(wanted).scalar() or 0
