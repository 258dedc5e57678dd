"""Dagster's runs as the ledger sees them: does the process of a run still live, and how many rows came on which day."""

from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from sync_assets.ledger import times
from sync_assets.ledger.repositories.base import Repository
from sync_assets.ledger.storage import schema

KEPT_SECONDS, ENDED_KEPT_SECONDS = 86_400.0, 300.0
ENDED, GIVEN_UP = "", "given up"
"""Instead of a run's worker: its work ended by itself; its process was killed, and other runs go on in its place."""
_COUNTED = {"preserve_rowcount": True}  # SQLAlchemy forgets how many rows an INSERT wrote unless asked
_R, _D = schema.run.c, schema.captured_day.c


class Heartbeat(NamedTuple):
    """`owner`: the worker that executes the run (runtime/workers.py), ENDED or GIVEN_UP. `at`: its last sign of
    life."""

    owner: str
    at: datetime


class Runs(Repository):
    def beat(self, run_id: str, owner: str) -> bool:
        """Note that the process of a run lives. What earlier runs have left is removed.

        Returns:
            False if the run was given up meanwhile: then nothing is noted, and the process has to end.
        """

        def work(connection: Connection) -> bool:
            now = self._now()
            row = {"owner": owner, "beat_at": now}
            ended = sa.and_(_R.owner == ENDED, _R.beat_at < now - times.seconds(ENDED_KEPT_SECONDS))
            old = sa.or_(_R.beat_at < now - times.seconds(KEPT_SECONDS), ended)
            connection.execute(sa.delete(schema.run).where(old))
            new = self._upsert(schema.run).values(run_id=run_id, **row)
            noted = new.on_conflict_do_update(index_elements=["run_id"], set_=row, where=_R.owner != GIVEN_UP)
            return connection.execute(noted, execution_options=_COUNTED).rowcount == 1

        return self._database.write(work)

    def end_beats(self, run_id: str) -> None:
        """Note that the work of a run ended by itself, so that no more signs of life come."""

        def work(connection: Connection) -> None:
            mine = sa.and_(_R.run_id == run_id, _R.owner != GIVEN_UP)
            connection.execute(sa.update(schema.run).where(mine).values(owner=ENDED, beat_at=self._now()))

        self._database.write(work)

    def give_up_run(self, run_id: str, seen: Heartbeat | None) -> bool:
        """Note that the process of a run was killed. One that lives all the same learns it from its next `beat`.

        Args:
            seen: The heartbeat by which that was decided, None if there was none.

        Returns:
            False if the process gave another sign of life meanwhile: then nothing is noted.
        """

        def work(connection: Connection) -> bool:
            if seen is None:
                row = {"run_id": run_id, "owner": GIVEN_UP, "beat_at": self._now()}
                new = self._upsert(schema.run).values(**row).on_conflict_do_nothing(index_elements=["run_id"])
                return connection.execute(new, execution_options=_COUNTED).rowcount == 1
            same = sa.and_(_R.run_id == run_id, _R.owner == seen.owner, _R.beat_at == times.to_micros(seen.at))
            given_up = sa.update(schema.run).where(same).values(owner=GIVEN_UP, beat_at=self._now())
            return connection.execute(given_up).rowcount == 1

        return self._database.write(work)

    def heartbeats(self) -> Mapping[str, Heartbeat]:
        """By run id, of the last day."""
        with self._database.read() as connection:
            rows = connection.execute(sa.select(schema.run))
            return {row.run_id: Heartbeat(row.owner, times.from_micros(row.beat_at)) for row in rows}

    def count_captured(self, table: str, rows: int) -> None:
        """Add rows, if any came, to those captured today (UTC), and note that the table was captured now."""

        def work(connection: Connection) -> None:
            now = self._now()
            key = {"table_name": table, "day": times.to_day_number(times.from_micros(now).date())}
            new = self._upsert(schema.captured_day).values(**key, captured_rows=rows, confirmed_at=now)
            changed = {"captured_rows": _D.captured_rows + new.excluded.captured_rows, "confirmed_at": now}
            connection.execute(new.on_conflict_do_update(index_elements=["table_name", "day"], set_=changed))

        self._database.write(work)

    def forget_confirmation(self, table: str) -> None:
        """Note that the table's last run failed: one is due, whether anything changes or not."""
        failed = sa.update(schema.captured_day).where(_D.table_name == table).values(confirmed_at=None)
        self._database.write(lambda connection: connection.execute(failed) and None)

    def confirmed_at(self, table: str) -> datetime | None:
        """When the table was last captured today (UTC), whether that brought rows or not; None if it was not."""
        number = times.to_day_number(times.from_micros(self._now()).date())
        wanted = sa.select(_D.confirmed_at).where(_D.table_name == table, _D.day == number)
        with self._database.read() as connection:
            moment = connection.execute(wanted).scalar()
            return None if moment is None else times.from_micros(moment)

    def captured_rows(self, table: str, day: date | None = None) -> int:
        """Rows that were captured on a UTC day, today by default."""
        number = times.to_day_number(day or datetime.now(UTC).date())
        wanted = sa.select(_D.captured_rows).where(_D.table_name == table, _D.day == number)
        with self._database.read() as connection:
            return connection.execute(wanted).scalar() or 0
