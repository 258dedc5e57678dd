"""Keep one client within Campaign's limits, which all processes of a ledger share.

The limits are the guardrails concurrency, calls_per_second, engine_calls_per_hour and engine_calls_per_day. Each part
is reserved in the ledger ahead of its use (slots for a session, starts of calls, calls in blocks), so that no request
waits for the ledger, and released when it is not needed. The shared numbers are stored by
ledger/repositories/call_limits.py.

Invariant: the parts of all workers never exceed a limit: a worker takes more only after another one has released its
part.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from sync_assets.campaign.client import BudgetSpent, CallCounter
from sync_assets.config.models import Guardrails
from sync_assets.http.client import Observer
from sync_assets.runtime.workers import WorkerSession, worker_id

if TYPE_CHECKING:
    from sync_assets.campaign.dialect import Operation
    from sync_assets.ledger import Ledger

POLL_SECONDS = 0.5
"""Interval of ledger queries while requests are made: how soon slots move from one worker to another."""
IDLE_SECONDS = 2.0
"""A worker without requests for this long releases everything."""
TURN_SECONDS = 10.0
"""If there are more workers than slots, the slots rotate after this time."""
AHEAD_SECONDS = 1.0
"""Starts are reserved at most this far ahead."""
LATE_SECONDS = 0.1
"""A start missed by more is dropped: made up for later, it would coincide with other workers' calls."""
FIRST_BLOCK, LARGEST_BLOCK = 8, 500
"""Calls reserved at once: twice as many if the last block was used within a second."""

OpenLedger = Callable[[], "Ledger"]
OpenSession = Callable[[], WorkerSession]


def fair_shares(total: int, wanted: Mapping[str, int], turn: int = 0) -> dict[str, int]:
    """Compute how many of `total` slots each worker gets. Pure.

    A worker gets what it wants if that fits, else an equal part of what the others leave. Slots that no worker wants
    are distributed as well. turn: rotates which workers get a slot if there are too few.
    """
    names = sorted(wanted)
    first = turn % len(names) if names else 0
    names = names[first:] + names[:first]
    shares, left = dict.fromkeys(names, 0), total
    for most in (wanted, dict.fromkeys(names, total)):
        open_ = [name for name in names if shares[name] < most[name]]
        while left and open_:
            each = max(1, left // len(open_))
            for name in open_:
                more = min(each, most[name] - shares[name], left)
                shares[name] += more
                left -= more
            open_ = [name for name in open_ if shares[name] < most[name]]
    return shares


class Slots:
    """An async context manager that lets `limit()` tasks in; the others wait, first come, first served.

    A task that leaves lets others in. Call `wake` after the limit has risen otherwise.
    """

    def __init__(self, limit: Callable[[], int]) -> None:
        self.limit = limit
        self.inside = 0
        self.waiting: deque[asyncio.Future[None]] = deque()

    async def __aenter__(self) -> None:
        if not self.waiting and self.inside < self.limit():
            self.inside += 1
            return
        turn = asyncio.get_running_loop().create_future()
        self.waiting.append(turn)
        try:
            await turn  # `wake` has counted this task
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self._leave()
            raise

    async def __aexit__(self, *_: object) -> None:
        self._leave()

    def _leave(self) -> None:
        self.inside -= 1
        self.wake()

    def wake(self) -> None:
        """Let in as many of the waiting tasks as the limit allows."""
        while self.waiting and self.inside < self.limit():
            turn = self.waiting.popleft()
            if not turn.done():
                self.inside += 1
                turn.set_result(None)


class SharedSlots(Slots):
    """One worker's share of the requests in flight of all workers. For one event loop; `close` releases all slots.

    Waiting for a slot raises LedgerError if the ledger fails. idle: called when all slots are released.
    """

    def __init__(self, session: OpenSession, total: int, idle: Callable[[], Awaitable[None]] | None) -> None:
        super().__init__(self._granted_now)
        self._open_session, self._total, self._idle = session, total, idle
        self._session: WorkerSession | None = None
        self._owner = worker_id()
        self._limit = 0
        self._most = 0  # most requests in flight or waiting since the last query
        self._used_at = 0.0
        self._keeper: asyncio.Task[None] | None = None
        self._closing = asyncio.Event()
        self._recorded = (0, 0)  # (wanted, slots) as stored in the ledger

    async def __aenter__(self) -> None:
        if self._keeper is None or self._keeper.done():
            self._keeper = asyncio.create_task(self._keep())
        self._most = max(self._most, self.inside + len(self.waiting) + 1)
        await super().__aenter__()

    async def __aexit__(self, *_: object) -> None:
        self._used_at = time.monotonic()
        self._leave()

    async def close(self) -> None:
        """Release all slots."""
        self._closing.set()
        if self._keeper:
            await asyncio.gather(self._keeper, return_exceptions=True)

    def _granted_now(self) -> int:
        return self._limit if self._session is not None and self._session.is_valid() else 0

    async def _keep(self) -> None:
        """Keep a fair share of the slots until they are not needed any more."""
        try:
            while not await self._given_back():
                await self._renew()
                self.wake()
                with suppress(TimeoutError):
                    async with asyncio.timeout(POLL_SECONDS):
                        await self._closing.wait()
        except Exception as error:  # noqa: BLE001  raised in every request that waits for a slot
            self._limit = 0
            while self.waiting:
                turn = self.waiting.popleft()
                if not turn.done():
                    turn.set_exception(error)

    async def _given_back(self) -> bool:
        idle = not self.inside and not self.waiting
        leaving = self._recorded != (0, 0) and time.monotonic() - self._used_at > IDLE_SECONDS
        if not (self._closing.is_set() or (idle and leaving)):
            return False
        self._limit = 0
        if self._idle:
            await self._idle()
        await asyncio.to_thread(lambda: self._open_session().ledger.limits.release_slots(self._owner))
        self._recorded = (0, 0)
        return self._closing.is_set() or not self.waiting

    async def _renew(self) -> None:
        self._session = session = await asyncio.to_thread(self._open_session)
        ledger = session.ledger
        workers = {worker.owner: worker for worker in await asyncio.to_thread(ledger.limits.workers)}
        own = workers.pop(self._owner, None)
        if self._limit and own is None:
            self._limit = 0  # our session has expired
        # Up to twice as many as were used, in powers of two: room to grow, without a change for each request.
        wanted = min(self._total, 1 << self._most.bit_length())
        self._most = self.inside + len(self.waiting)
        turn = int(time.time() // TURN_SECONDS)
        others = {worker.owner: worker.wanted for worker in workers.values()}
        share = fair_shares(self._total, {**others, self._owner: wanted}, turn)[self._owner]
        self._limit = min(self._limit, share)  # requests in flight beyond that may finish, but no more start
        slots = max(share, self.inside)
        if own and (own.wanted, own.slots) == (wanted, slots):
            self._limit = min(slots, share)
            return
        granted = await asyncio.to_thread(
            ledger.limits.lease_slots, self._owner, session.epoch, wanted=wanted, slots=slots, total=self._total
        )
        self._recorded = (wanted, granted)
        self._limit = min(granted, share)


class SharedRate:
    """Rate limit of one worker's calls, so that those of all workers together keep to `per_second`."""

    def __init__(self, ledger: OpenLedger, per_second: float) -> None:
        self._ledger, self._per_second = ledger, per_second
        self._starts: deque[float] = deque()  # monotonic clock
        self._last = 0.0
        self._waiting = 0
        self._turn = asyncio.Lock()

    async def turn(self) -> None:
        """Wait until the next call may start."""
        self._waiting += 1
        try:
            async with self._turn:
                while self._starts and self._starts[0] < time.monotonic() - LATE_SECONDS:
                    self._starts.popleft()
                if not self._starts:
                    calls = max(1, min(self._waiting, int(self._per_second * AHEAD_SECONDS)))
                    first = await asyncio.to_thread(
                        lambda: self._ledger().limits.reserve_starts(calls, self._per_second)
                    )
                    now = time.monotonic()
                    self._starts.extend(now + first + n / self._per_second for n in range(calls))
                start = max(self._starts.popleft(), self._last + 1 / self._per_second)
                await asyncio.sleep(start - time.monotonic())
                self._last = time.monotonic()
        finally:
            self._waiting -= 1


class CallBudget:
    """The engine calls that one worker has reserved from the budgets of the hour and the day."""

    def __init__(self, ledger: OpenLedger, per_day: int | None, per_hour: int | None) -> None:
        self._ledger, self._per_day, self._per_hour = ledger, per_day, per_hour
        self._hour, self._left = 0, 0
        self._block, self._reserved_at = FIRST_BLOCK, 0.0
        self._turn = asyncio.Lock()

    async def take(self) -> int:
        """Take one reserved call; return the UTC hour that it counts for. Raises BudgetSpent."""
        async with self._turn:
            if not self._left or self._hour != _hour():
                await self._return_rest()  # of an earlier hour: they still count against the day's budget
                await self._reserve()
            self._left -= 1
            return self._hour

    def give_back(self, hour: int) -> None:
        """Return a call that was taken but not made."""
        if hour == self._hour:
            self._left += 1

    async def return_rest(self) -> None:
        """Return the reserved calls that were not used to the ledger."""
        async with self._turn:
            await self._return_rest()

    async def _return_rest(self) -> None:
        left, self._left = self._left, 0
        if left:
            await asyncio.to_thread(lambda: self._ledger().limits.return_calls(self._hour, left))

    async def _reserve(self) -> None:
        now = time.monotonic()
        quick = now - self._reserved_at < 1.0
        self._block = min(LARGEST_BLOCK, self._block * 2) if quick else max(FIRST_BLOCK, self._block // 2)
        self._reserved_at = now
        block = await asyncio.to_thread(
            lambda: self._ledger().limits.reserve_calls(self._block, per_day=self._per_day, per_hour=self._per_hour)
        )
        if block.spent:
            raise BudgetSpent(block.spent)
        if block.hour != self._hour:
            await self._return_rest()  # calls of the earlier hour that were given back meanwhile
            self._hour = block.hour
        self._left += block.calls


class SharedLimits:
    """All limits for one Campaign client. Must be closed."""

    def __init__(
        self, session: OpenSession, guardrails: Guardrails, begin: Callable[[], object] = lambda: None
    ) -> None:
        """session: opens the session, before the first request. begin: called before the first engine call."""
        self._begin, self._beginning = begin, asyncio.Lock()
        self._has_begun = False

        def ledger() -> Ledger:
            return session().ledger

        per_second = guardrails.calls_per_second
        per_day, per_hour = guardrails.engine_calls_per_day, guardrails.engine_calls_per_hour
        self._rate = SharedRate(ledger, per_second) if per_second else None
        self._budget = CallBudget(ledger, per_day, per_hour) if per_day or per_hour else None
        idle = self._budget.return_rest if self._budget else None
        self._slots = SharedSlots(session, guardrails.concurrency, idle)

    @asynccontextmanager
    async def admitted(self) -> AsyncGenerator[Observer]:
        """Enter around one request: wait for a slot and the rate limit, and take a call. Raises BudgetSpent."""
        if not self._has_begun:
            async with self._beginning:
                if not self._has_begun:
                    await asyncio.to_thread(self._begin)
                    self._has_begun = True
        calls = CallCounter()
        async with self._slots:
            if self._rate:
                await self._rate.turn()
            hour = await self._budget.take() if self._budget else 0
            try:
                yield calls.observe
            finally:
                if self._budget and not calls.total:
                    self._budget.give_back(hour)

    @asynccontextmanager
    async def slot(self) -> AsyncGenerator[None]:
        """Enter around one request that is no engine call, such as one for metadata: wait for a slot only."""
        async with self._slots:
            yield

    async def close(self) -> None:
        """Release everything. Call it when no request is under way."""
        await self._slots.close()


# --- Counts and budgets -----------------------------------------------------------------------------------------------


async def count_calls(ledger: Ledger, table: str, calls: Mapping[Operation, int]) -> None:
    """Add engine calls of a table, by kind, to the ledger's counts."""
    if calls:
        await asyncio.to_thread(ledger.counts.add, "engine_calls", table, calls)


def calls_today(ledger: Ledger) -> int:
    """Return the engine calls of the current UTC day, of all processes that share the ledger."""
    return ledger.counts.numbers("engine_calls", datetime.now(UTC).date()).total()


def calls_left(ledger: Ledger, guardrails: Guardrails) -> int | None:
    """Return the engine calls left in the budgets of this UTC day and hour, without those reserved; None: no limit."""
    limits = (guardrails.engine_calls_per_day, guardrails.engine_calls_per_hour)
    if limits == (None, None):
        return None
    return min(max(0, limit - used) for limit, used in zip(limits, ledger.limits.calls_taken(), strict=True) if limit)


def _hour() -> int:
    return int(time.time() // 3600)
