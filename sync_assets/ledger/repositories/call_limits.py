"""Store Campaign's limits as shared by all processes of a ledger: requests in flight, rate limit, call budgets.

Here: the shared numbers. How a process uses its part, without a query for each request, is in runtime/call_limits.py.

Invariant: each number changes in one transaction, so that the parts of all processes never exceed a limit.
"""

from dataclasses import dataclass
from typing import NamedTuple

import sqlalchemy as sa

from sync_assets.ledger import times
from sync_assets.ledger.repositories.sessions import Sessions
from sync_assets.ledger.storage import operation_tables, schema
from sync_assets.ledger.storage.session import Repository, writes
from sync_assets.ledger.storage.transaction import Transaction

HOURS = 24
_CLOCK_WENT_BACK = 60.0
"""Seconds. A start reserved further ahead than that, and than ten calls, means that a clock was set back."""
_LOCK = 7_305_808_869_231_650_147
_W, _C, _N = operation_tables.worker.c, operation_tables.call_budget.c, operation_tables.day_count.c
_RATE = "calls_per_second"


class Worker(NamedTuple):
    """A process, or a part of one, that sends to Campaign.

    wanted: requests that it needs in flight. slots: requests that it may have in flight.
    """

    owner: str
    wanted: int
    slots: int


class CallBlock(NamedTuple):
    """Reserved engine calls, valid within one UTC hour.

    hour: hours since 1970. spent: if no call is left, the exhausted budget, "day" or "hour".
    """

    hour: int
    calls: int
    spent: str | None = None


@dataclass(eq=False)
class CallLimits(Repository):
    """Reads and writes `sync_worker`, `sync_call_rate` and `sync_call_budget`."""

    _sessions: Sessions

    def workers(self) -> list[Worker]:
        """Return the workers whose session is live, by owner."""
        live = sa.select(operation_tables.worker).where(_W.session.in_(schema.LIVE_EPOCHS)).order_by(_W.owner)
        return [Worker(row.owner, row.wanted, row.slots) for row in self._session.rows(live)]

    @writes
    def lease_slots(
        self, transaction: Transaction, owner: str, session: int, *, wanted: int, slots: int, total: int
    ) -> int:
        """Take up to `slots` of `total` requests in flight, as many as other workers leave free; return how many.

        Deletes workers whose session is not live. Raises SessionExpired.
        """
        self._sessions.require(transaction, session)
        transaction.lock(_LOCK)
        transaction.execute(sa.delete(operation_tables.worker).where(_W.session.not_in(schema.LIVE_EPOCHS)))
        others = sa.select(sa.func.coalesce(sa.func.sum(_W.slots), 0)).where(_W.owner != owner)
        granted = max(0, min(slots, total - int(transaction.execute(others).scalar_one())))
        row = {"owner": owner, "session": session, "wanted": wanted, "slots": granted}
        transaction.put(operation_tables.worker, [row])
        return granted

    def release_slots(self, owner: str) -> None:
        """Release all slots of a worker."""
        slots = sa.delete(operation_tables.worker).where(_W.owner == owner)
        self._session.run(slots)

    @writes
    def reserve_starts(self, transaction: Transaction, calls: int, per_second: float) -> float:
        """Reserve the next `calls` starts, 1 / `per_second` s apart; return the seconds from now to the first one."""
        interval = times.seconds(1 / per_second)
        transaction.lock(_LOCK)
        now, rate = self._session.now(), operation_tables.call_rate
        stored = transaction.execute(sa.select(rate.c.next_at).where(rate.c.name == _RATE)).scalar() or 0
        far = now + times.seconds(_CLOCK_WENT_BACK) + 10 * interval
        first = now if stored > far else max(now, stored)
        following = first + calls * interval
        transaction.put(rate, [{"name": _RATE, "next_at": following}])
        return (first - now) / times.seconds(1)

    @writes
    def reserve_calls(
        self, transaction: Transaction, calls: int, *, per_day: int | None, per_hour: int | None
    ) -> CallBlock:
        """Reserve up to `calls` engine calls of this hour's and this day's budget (UTC).

        At most a quarter of the remaining calls, so that no worker keeps the last ones from the others, and a killed
        worker loses few: the calls that it reserved stay counted, since they may have been made.
        """
        transaction.lock(_LOCK)
        hour = hour_of(self._session.now())
        day_taken, hour_taken = self._taken(transaction, hour)
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
            row = {"period": period, "number": number, "calls": taken + granted}
            transaction.put(operation_tables.call_budget, [row])
        old = sa.or_(
            sa.and_(_C.period == _DAY, _C.number < hour // HOURS - 1),
            sa.and_(_C.period == _HOUR, _C.number < hour - HOURS),
        )
        transaction.execute(sa.delete(operation_tables.call_budget).where(old))
        return CallBlock(hour, granted)

    @writes
    def return_calls(self, transaction: Transaction, hour: int, calls: int) -> None:
        """Return reserved calls that were not made to the budgets."""
        transaction.lock(_LOCK)
        for period, number in ((_DAY, hour // HOURS), (_HOUR, hour)):
            row = sa.and_(_C.period == period, _C.number == number)
            transaction.execute(sa.update(operation_tables.call_budget).where(row).values(calls=_C.calls - calls))

    def calls_taken(self) -> tuple[int, int]:
        """Return the engine calls made or reserved in this UTC day and hour (hour: only under a budget)."""
        with self._session.read() as transaction:
            return self._taken(transaction, hour_of(self._session.now()))

    def _taken(self, transaction: Transaction, hour: int) -> tuple[int, int]:
        """See `calls_taken`. Calls made before a budget was configured count, too: it may be set during a day."""
        day = hour // HOURS
        rows = transaction.execute(
            sa.select(_C.period, _C.calls).where(sa.tuple_(_C.period, _C.number).in_([(_DAY, day), (_HOUR, hour)]))
        )
        taken = {row.period: int(row.calls) for row in rows}
        made = sa.select(sa.func.sum(_N.number)).where(_N.kind == "engine_calls", _N.day == times.from_day_number(day))
        counted = transaction.execute(made).scalar()
        return max(taken.get(_DAY, 0), int(counted or 0)), taken.get(_HOUR, 0)


_DAY, _HOUR = "day", "hour"


def hour_of(micros: int) -> int:
    """Return the UTC hour of a time in microseconds, counted since 1970."""
    return micros // times.seconds(3600)
