"""Dagster's runs as the ledger sees them: does the process of a run still live, and how many rows came on which day."""

from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from sync_assets.ledger import schema, times
from sync_assets.ledger.room import Room

KEPT_SECONDS = 86_400.0
_R, _D = schema.run.c, schema.captured_day.c


class Heartbeat(NamedTuple):
    """`owner`: the worker that executes the run (ingress/workers.py). `at`: its last sign of life."""

    owner: str
    at: datetime


class Runs(Room):
    def beat(self, run_id: str, owner: str) -> None:
        """Note that the process of a run lives. What runs of days ago have left is removed."""

        def work(connection: Connection) -> None:
            row = {"owner": owner, "beat_at": self._now()}
            connection.execute(sa.delete(schema.run).where(_R.beat_at < self._now() - times.seconds(KEPT_SECONDS)))
            new = self._upsert(schema.run).values(run_id=run_id, **row)
            connection.execute(new.on_conflict_do_update(index_elements=["run_id"], set_=row))

        self._database.write(work)

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
