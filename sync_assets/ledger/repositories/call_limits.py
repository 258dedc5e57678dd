"""What all processes of a ledger share of Campaign: requests in flight, calls a second, engine calls an hour and a day.

Here: the shared numbers, each changed in one transaction, so that their sum never exceeds the limit whichever process
asks. How a process spends its part, without asking the ledger for each request, is runtime/call_limits.py's.
"""

from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from sync_assets.ledger import times
from sync_assets.ledger.repositories.base import Repository
from sync_assets.ledger.storage import schema

HOURS = 24
_CLOCK_WENT_BACK = 60.0
"""Seconds. A start that is reserved for later than that, and than ten calls, came of a clock that has been set back."""
_TURN = 7_305_808_869_231_650_147
_W, _C, _E = schema.worker.c, schema.call_budget.c, schema.engine_call.c
_RATE = "calls_per_second"


class Worker(NamedTuple):
    """A process (or a part of one) that sends. wanted: requests that it would have in flight; slots: that it may."""

    owner: str
    wanted: int
    slots: int
    until: int


class CallBlock(NamedTuple):
    """Reserved engine calls, to be made within that UTC hour (hours since 1970). Without any: `spent` says which budget
    has none left, day or hour."""

    hour: int
    calls: int
    spent: str | None = None


class CallLimits(Repository):
    def workers(self) -> list[Worker]:
        """Workers whose lease has not run out, by owner."""
        with self._database.read() as connection:
            rows = connection.execute(sa.select(schema.worker).where(_W.until > self._now()).order_by(_W.owner))
            return [Worker(row.owner, row.wanted, row.slots, row.until) for row in rows]

    def lease_slots(self, owner: str, *, wanted: int, slots: int, total: int, seconds: float) -> int:
        """Hold up to `slots` of `total` requests in flight, as many as the others leave free; how many that are.

        The lease is renewed with it. Those that have run out are forgotten.
        """

        def work(connection: Connection) -> int:
            self._one_by_one(connection)
            now = self._now()
            connection.execute(sa.delete(schema.worker).where(_W.until <= now))
            others = sa.select(sa.func.coalesce(sa.func.sum(_W.slots), 0)).where(_W.owner != owner)
            granted = max(0, min(slots, total - int(connection.execute(others).scalar_one())))
            row = {"wanted": wanted, "slots": granted, "until": now + times.seconds(seconds)}
            new = self._upsert(schema.worker).values(owner=owner, **row)
            connection.execute(new.on_conflict_do_update(index_elements=["owner"], set_=row))
            return granted

        return self._database.write(work)

    def release_slots(self, owner: str) -> None:
        """Give all slots of a worker back."""
        gone = sa.delete(schema.worker).where(_W.owner == owner)
        self._database.write(lambda connection: connection.execute(gone) and None)

    def reserve_starts(self, calls: int, per_second: float) -> float:
        """Reserve the next `calls` starts, which are 1 / `per_second` apart; seconds from now until the first one."""
        interval = times.seconds(1 / per_second)

        def work(connection: Connection) -> float:
            self._one_by_one(connection)
            now, rate = self._now(), schema.call_rate
            stored = connection.execute(sa.select(rate.c.next_at).where(rate.c.name == _RATE)).scalar() or 0
            far = now + times.seconds(_CLOCK_WENT_BACK) + 10 * interval
            first = now if stored > far else max(now, stored)
            following = first + calls * interval
            new = self._upsert(rate).values(name=_RATE, next_at=following)
            connection.execute(new.on_conflict_do_update(index_elements=["name"], set_={"next_at": following}))
            return (first - now) / times.seconds(1)

        return self._database.write(work)

    def reserve_calls(self, calls: int, *, per_day: int | None, per_hour: int | None) -> CallBlock:
        """Reserve up to `calls` engine calls of this hour's and this day's budget (UTC).

        A quarter of what is left at most, so that no worker keeps the last ones from the others, and one that is killed
        takes few along: what it reserved stays spent, since it may have been sent.
        """

        def work(connection: Connection) -> CallBlock:
            self._one_by_one(connection)
            hour = self._hour()
            day_taken, hour_taken = self._taken(connection, hour)
            left = {
                name: max(0, limit - taken)
                for name, limit, taken in (("day", per_day, day_taken), ("hour", per_hour, hour_taken))
                if limit is not None
            }
            short = next((name for name, number in left.items() if not number), None)
            if short:
                return CallBlock(hour, 0, short)
            granted = min([calls, *(max(1, number // 4) for number in left.values())])
            for period, number, taken in ((_DAY, hour // HOURS, day_taken), (_HOUR, hour, hour_taken)):
                row = {"calls": taken + granted}
                new = self._upsert(schema.call_budget).values(period=period, number=number, **row)
                connection.execute(new.on_conflict_do_update(index_elements=["period", "number"], set_=row))
            old = sa.or_(
                sa.and_(_C.period == _DAY, _C.number < hour // HOURS - 1),
                sa.and_(_C.period == _HOUR, _C.number < hour - HOURS),
            )
            connection.execute(sa.delete(schema.call_budget).where(old))
            return CallBlock(hour, granted)

        return self._database.write(work)

    def return_calls(self, hour: int, calls: int) -> None:
        """Give reserved calls back that were not made."""

        def work(connection: Connection) -> None:
            self._one_by_one(connection)
            for period, number in ((_DAY, hour // HOURS), (_HOUR, hour)):
                row = sa.and_(_C.period == period, _C.number == number)
                connection.execute(sa.update(schema.call_budget).where(row).values(calls=_C.calls - calls))

        if calls > 0:
            self._database.write(work)

    def calls_taken(self) -> tuple[int, int]:
        """Engine calls that were made, or are reserved, of this UTC day and hour (of the hour: under a budget only)."""
        with self._database.read() as connection:
            return self._taken(connection, self._hour())

    def _taken(self, connection: Connection, hour: int) -> tuple[int, int]:
        """Calls that were counted while there was no budget count, too: it may have been set in the middle of a day."""
        day = hour // HOURS
        rows = connection.execute(
            sa.select(_C.period, _C.calls).where(
                sa.or_(
                    sa.and_(_C.period == _DAY, _C.number == day),
                    sa.and_(_C.period == _HOUR, _C.number == hour),
                )
            )
        )
        taken = {row.period: int(row.calls) for row in rows}
        counted = connection.execute(sa.select(sa.func.sum(_E.calls)).where(_E.day == day)).scalar()
        return max(taken.get(_DAY, 0), int(counted or 0)), taken.get(_HOUR, 0)

    def _hour(self) -> int:
        return hour_of(self._now())

    def _one_by_one(self, connection: Connection) -> None:
        """SQLite has one writer at a time anyway."""
        if not self._database.sqlite:
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_TURN})")


_DAY, _HOUR = "day", "hour"


def hour_of(micros: int) -> int:
    """The UTC hour of a moment, counted since 1970."""
    return micros // times.seconds(3600)
