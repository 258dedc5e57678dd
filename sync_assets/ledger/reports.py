"""Reports: how much stands where. Each in milliseconds, however much is settled."""

from collections import Counter, defaultdict
from datetime import date, datetime

import sqlalchemy as sa

from sync_assets.ledger import schema, times
from sync_assets.ledger.claims import claimable
from sync_assets.ledger.model import Counts, Reject, State
from sync_assets.ledger.room import Room

_R = schema.record.c
_D = schema.pending_day.c
_T = schema.tally.c
_E = schema.engine_call.c


class Reports(Room):
    def counts(self) -> dict[str, Counts]:
        """Records by state for each table that has a feed or records."""
        # By owner first, since that is the order of the index of leases.
        leased = (
            sa.select(_R.table_name, sa.func.count())
            .where(schema.LEASED, _R.lease_until > self._now())
            .group_by(_R.lease_owner, _R.table_name)
        )
        with self._database.read() as connection:
            by_table: dict[str, dict[int, int]] = defaultdict(dict)
            for row in connection.execute(sa.select(schema.feed.c.table_name)):
                by_table[row.table_name] = {}
            for row in connection.execute(sa.select(schema.tally)):
                by_table[row.table_name][row.state] = row.records
            held: Counter[str] = Counter()
            for table, records in connection.execute(leased):
                held[table] += records
        return {
            table: Counts(
                pending=records.get(State.PENDING, 0),
                waiting=records.get(State.WAITING, 0),
                failed=records.get(State.FAILED, 0),
                held=records.get(State.HELD, 0),
                synced=records.get(State.SETTLED, 0),
                leased=held[table],
            )
            for table, records in sorted(by_table.items())
        }

    def pending_days(self, table: str) -> list[tuple[date, int]]:
        """Days with pending records and how many, oldest first."""
        days = sa.select(_D.day, _D.records).where(_D.table_name == table, _D.records > 0).order_by(_D.day)
        with self._database.read() as connection:
            return [(times.from_day_number(day), records) for day, records in connection.execute(days)]

    def one_acknowledged(self, table: str) -> str | None:
        """The id of some record that Campaign holds, None if there is none."""
        held = sa.select(_R.id).where(
            _R.table_name == table, _R.state == int(State.SETTLED), _R.acked_hash.is_not(None)
        )
        with self._database.read() as connection:
            return connection.execute(held.limit(1)).scalar()

    def oldest_pending(self, table: str) -> datetime | None:
        """When the pending record that has waited longest last changed; None if none is pending."""
        oldest = sa.select(sa.func.min(_R.changed_at)).where(_R.table_name == table, schema.PENDING)
        with self._database.read() as connection:
            return _instant(connection.execute(oldest).scalar())

    def next_due(self, table: str | None = None) -> datetime | None:
        """When the next pending record may be claimed: now if one may at once, None if none is pending."""
        now = self._now()
        with self._database.read() as connection:
            pending = sa.select(_T.table_name).where(_T.state == State.PENDING.value, _T.records > 0)
            if table is not None:
                pending = pending.where(_T.table_name == table)
            moments: list[int] = []
            for name in connection.execute(pending).scalars().all():
                of_table = sa.and_(_R.table_name == name, schema.PENDING)
                ready = sa.select(_R.seq).where(of_table, *claimable(now)).order_by(_R.changed_at).limit(1)
                if connection.execute(ready).first() is not None:
                    return times.from_micros(now)
                not_before, leased_until = sa.func.coalesce(_R.not_before, 0), sa.func.coalesce(_R.lease_until, 0)
                later = sa.case((not_before > leased_until, not_before), else_=leased_until)
                moment = connection.execute(sa.select(sa.func.min(later)).where(of_table)).scalar()
                if moment is not None:
                    moments.append(moment)
        return _instant(min(moments, default=None))

    def rejects(self, table: str | None = None) -> list[Reject]:
        """The refused records, in the order in which they were first seen."""
        refused = sa.select(_R.seq, _R.table_name, _R.id, _R.refusal, _R.reason, _R.failed_since, _R.attempts).where(
            schema.STUCK, sa.text("state = 3")
        )
        if table is not None:
            refused = refused.where(_R.table_name == table)
        with self._database.read() as connection:
            rows = sorted(connection.execute(refused).all())  # by seq; ORDER BY would tempt SQLite to read all
        return [
            Reject(
                table=row.table_name,
                id=row.id,
                reason=row.reason if row.refusal is None else row.refusal,
                since=times.from_micros(row.failed_since),
                attempts=row.attempts,
                retryable=row.refusal is None,
            )
            for row in rows
        ]

    def engine_calls(self, day: date, table: str | None = None) -> dict[str, int]:
        """Engine calls of a UTC day by kind, of one table or of all."""
        calls = sa.select(_E.kind, sa.func.sum(_E.calls)).where(_E.day == times.to_day_number(day))
        if table is not None:
            calls = calls.where(_E.table_name == table)
        with self._database.read() as connection:
            return {kind: int(number) for kind, number in connection.execute(calls.group_by(_E.kind))}

    def engine_calls_by_table(self, day: date) -> dict[str, dict[str, int]]:
        """Engine calls of a UTC day by table and kind."""
        calls = sa.select(schema.engine_call).where(_E.day == times.to_day_number(day))
        by_table: dict[str, dict[str, int]] = defaultdict(dict)
        with self._database.read() as connection:
            for row in connection.execute(calls):
                by_table[row.table_name][row.kind] = row.calls
        return dict(by_table)


def _instant(micros: int | None) -> datetime | None:
    return None if micros is None else times.from_micros(micros)
