"""Push: sends what is pending in the ledger to Campaign, with many requests in flight.

A feeder claims records in batches ahead of the workers, workers deliver one record after the other (see delivery.py),
what became of them is stored in batches and leases are renewed beside that (see claimed_records.py). Whatever ends a
push, nothing is lost: what is not acknowledged stays pending.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import date
from typing import TYPE_CHECKING

from sync_assets.campaign.addressing import KEY, Addressing
from sync_assets.campaign.client import BudgetSpent, CallCounter, CampaignClient
from sync_assets.campaign.dialect import ResponseOutcome
from sync_assets.campaign.records import Records
from sync_assets.errors import SyncAssetsError
from sync_assets.http.client import HttpError, NotSent, NotTrusted, Observer, OutcomeUnknown, Unavailable
from sync_assets.ledger.model import Claimed
from sync_assets.push.claimed_records import ClaimedRecords
from sync_assets.push.concurrency import Latencies, Limiter, RequestSlots
from sync_assets.push.delivery import WAITS, Delivery, Denied, StillUnknown, deliver, outcome
from sync_assets.push.record_links import LinkNotKept, Links
from sync_assets.push.target import PushResult, Target
from sync_assets.runtime.parent_keys import ParentKeys

if TYPE_CHECKING:
    from sync_assets.ledger import Ledger

__all__ = ["PushResult", "Target", "push"]

BATCH_SECONDS = 0.5
"""A claim takes about as many records as were sent in that time, so that few are in doubt if we are killed."""
MAX_BATCH = 1000
LINGER = 20.0
"""Seconds that a push waits for a record which is to be tried again, before it leaves it to the next push."""
GRACE = 5.0
"""Seconds that requests in flight get to end when a push is stopped."""
LAST_ANSWERS = 60.0
"""The same when its time is up: none is to be in doubt for that."""
FAILING = 30
"""Records in a row that Campaign fails on, with none in between that it takes, until it is asked whether it works."""
WORKING_SECONDS = 5.0
"""How long the answer to that is believed."""
LOOK_AGAIN_SECONDS = 10.0
"""After a lost insert of a record that is not found: until it is looked for once more."""

_NO_ANSWER = frozenset({None, 429, 502, 503, 504})
_SAYS_NOTHING = frozenset({0, 401})


async def push(
    ledger: Ledger,
    client: CampaignClient,
    target: Target,
    *,
    owner: str,
    days: tuple[date, date] | None = None,
    concurrency: int = 64,
    lease_seconds: float = 180.0,
    progress: Callable[[int], None] | None = None,
    stop: asyncio.Event | None = None,
    seconds: float | None = None,
    parent_keys: ParentKeys | None = None,
    run_lasts: Callable[[], bool] = lambda: True,
) -> PushResult:
    """Sends what is pending of a table until nothing more can be sent now.

    owner: a name for this worker that no other one ever has. days: only records of these days, both included.
    progress: told now and then how many records are done or refused. stop: set it to end early. seconds: after these
    no further request is sent, and the push ends without `stopped`. parent_keys: of this process, if it has any.
    run_lasts: False once another worker may be given what this one holds.
    An unreachable, refusing or throttling Campaign ends the push with `stopped`, too, and so does a spent budget of
    engine calls; a ledger that fails raises (LedgerError).
    """
    holding = ClaimedRecords(ledger, target.table, owner, lease_seconds, days, target.opt_outs)
    keys = ParentKeys() if parent_keys is None else parent_keys
    return await _Push(holding, client, target, concurrency, progress, keys, run_lasts).run(stop, seconds)


class _Stopped(Exception):
    """Raised by the guard to keep a request back once the push is to end."""


class _Push:
    def __init__(
        self,
        holding: ClaimedRecords,
        client: CampaignClient,
        target: Target,
        concurrency: int,
        progress: Callable[[int], None] | None,
        parent_keys: ParentKeys,
        run_lasts: Callable[[], bool],
    ) -> None:
        self._parent_keys, self._run_lasts = parent_keys, run_lasts
        self._holding, self._client, self._target = holding, client, target
        self._progress = progress
        self._concurrency = max(1, concurrency)
        self._result = PushResult()
        self._limiter = Limiter(self._concurrency)
        self._gate = RequestSlots(self._limiter)
        self._latencies = Latencies()
        self._leaving = 0  # requests let go by the guard and not yet answered
        self._peak = 0  # the most of these
        self._queue: asyncio.Queue[Claimed | None] = asyncio.Queue()
        self._low = 0  # the queue is to be filled up when it is down to that
        self._runs_low = asyncio.Event()
        self._closed = 0  # records delivered, or given back
        self._stopping = asyncio.Event()
        self._put_off: dict[int, float] = {}  # seq -> when (monotonic clock) it may be tried again
        self._asking = asyncio.Lock()
        self._found_by_key: bool | None = None  # None: not asked yet
        self._failing = 0  # records in a row that Campaign failed on
        self._addressing: dict[str, Addressing] = {}  # by resource
        self._links: Links | None = None
        self._working = asyncio.Lock()
        self._worked_at = -WORKING_SECONDS  # when Campaign was last asked whether it works
        self._works = True
        self._good_at = time.monotonic()  # when Campaign last took or refused a record

    # --- the whole ----------------------------------------------------------------------------------------------------

    async def run(self, stop: asyncio.Event | None, seconds: float | None) -> PushResult:
        started = time.monotonic()
        await self._prepare()
        self._tell()
        feeder = asyncio.create_task(self._feed())
        workers = [asyncio.create_task(self._work()) for _ in range(self._concurrency)]
        helpers = [self._holding.keep_settling(self._tell), self._holding.keep_leases(), self._heed(stop, seconds)]
        tasks = [asyncio.create_task(helper) for helper in helpers]
        waiting = {feeder, *workers, *tasks}
        try:
            while not feeder.done():
                done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
        except asyncio.CancelledError:
            self._stop("It was interrupted.")
            raise
        finally:
            await self._wind_up(feeder, workers, tasks)
            self._tell()
        result = self._result
        result.calls = self._holding.stored_calls
        result.seconds = time.monotonic() - started
        result.latency_p50, result.latency_p95 = self._latencies.quantile(0.5), self._latencies.quantile(0.95)
        result.peak, result.put_off = self._peak, len(self._put_off)
        return result

    async def _prepare(self) -> None:
        """What was found out about the resources before."""
        for target in (self._target, *self._target.parents):
            known = await self._holding.dialect(target.resource, target.key)
            self._addressing[target.resource] = target.addressing(known)
        if self._target.links:
            parents = {one.resource: self._records(one, self._observe) for one in self._target.parents}
            self._links = Links(self._target.links, parents, self._parent_keys, self._holding.send_links_again)

    def _records(self, target: Target, observe: Observer) -> Records:
        addressing = self._addressing[target.resource]
        return Records(self._client, target.api, target.resource, target.key, observer=observe, addressing=addressing)

    async def _remember(self) -> None:
        """Stores what was found out on the way."""
        for resource, addressing in self._addressing.items():
            if len(addressing.news) > (KEY in addressing.news):  # more than which key they are about
                news, addressing.news = addressing.news, {}
                await self._holding.note_dialect(resource, news)

    async def _wind_up(
        self, feeder: asyncio.Task[None], workers: list[asyncio.Task[None]], helpers: list[asyncio.Task[None]]
    ) -> None:
        """Lets requests in flight end, gives back what was not sent, stores what is known."""
        self._end()
        await asyncio.wait([feeder])  # never cancelled: a claim that is under way would be forgotten
        for _ in workers:
            self._queue.put_nowait(None)
        give_up_at = time.monotonic() + (GRACE if self._result.stopped else LAST_ANSWERS)
        while self._leaving and time.monotonic() < give_up_at:  # the others wait for their turn to send, in vain
            await asyncio.wait(workers, timeout=0.05)
        for task in [*workers, *helpers]:
            task.cancel()
        await asyncio.gather(feeder, *workers, *helpers, return_exceptions=True)
        while not self._queue.empty():
            if record := self._queue.get_nowait():
                self._give_back(record)
        try:
            await self._remember()
        finally:
            await self._holding.give_up()

    def _stop(self, reason: str) -> None:
        """Ends the push before all is sent; the first reason is the one that is told."""
        if not self._stopping.is_set():
            self._result.stopped = reason
        self._end()

    def _end(self) -> None:
        self._stopping.set()
        self._runs_low.set()
        self._holding.idle.set()

    async def _heed(self, stop: asyncio.Event | None, seconds: float | None) -> None:
        try:
            async with asyncio.timeout(seconds):
                await (stop or asyncio.Event()).wait()
            self._stop("It was asked to stop.")
        except TimeoutError:
            self._end()
        await asyncio.Event().wait()

    def _tell(self) -> None:
        if self._progress:
            self._progress(self._result.done + self._result.refused)

    # --- claiming -----------------------------------------------------------------------------------------------------

    async def _feed(self) -> None:
        """Claims ahead of the workers until nothing is left that may be sent now or soon."""
        if self._links:
            await self._check_links(self._links)
        batch, claimed_at, closed, quiet = self._concurrency, time.monotonic(), 0, False
        while not self._stopping.is_set():
            records = await self._holding.claim(batch)
            for record in records:
                self._put_off.pop(record.seq, None)
                self._queue.put_nowait(record)
            if records:
                quiet, self._low = False, batch // 2
                await self._room()
                now = time.monotonic()
                rate = (self._closed - closed) / max(now - claimed_at, 1e-3)
                claimed_at, closed = now, self._closed
                batch = min(MAX_BATCH, max(self._concurrency, int(rate * BATCH_SECONDS)))
            elif self._holding.open:
                with suppress(TimeoutError):
                    async with asyncio.timeout(1.0):
                        await self._holding.idle.wait()
            elif not quiet:
                quiet = True  # look once more: what was sent may have changed meanwhile, or opened the way to others
                await self._holding.flush()
            else:
                wait = min(self._put_off.values(), default=float("inf")) - time.monotonic()
                if wait > LINGER:
                    return
                quiet = False
                with suppress(TimeoutError):
                    async with asyncio.timeout(max(wait, 0.05)):
                        await self._stopping.wait()

    async def _check_links(self, links: Links) -> None:
        """Looks at the links of earlier pushes, if that was never done; if it fails, the next push does it."""
        records = self._records(self._target, self._observe)
        with suppress(HttpError, BudgetSpent, _Stopped):
            await links.check_acknowledged(records, self._holding.one_acknowledged_link, self._guard)

    async def _room(self) -> None:
        while self._queue.qsize() > self._low and not self._stopping.is_set():
            self._runs_low.clear()
            await self._runs_low.wait()

    # --- sending ------------------------------------------------------------------------------------------------------

    async def _work(self) -> None:
        lost = False

        def observe(kind: str, status: int | None, seconds: float) -> None:
            nonlocal lost
            # a POST counts whatever its answer: if the delivery ends without an outcome, it may have made the record
            lost = lost or status is None or (kind == "insert" and CallCounter.is_call(status))
            self._observe(kind, status, seconds)

        records = self._records(self._target, observe)
        while record := await self._queue.get():
            if self._queue.qsize() <= self._low:
                self._runs_low.set()
            began, lost = time.monotonic(), False
            try:
                async with self._gate:
                    delivery = await deliver(record, records, self._guard, self._key_works, self._links)
            except _Stopped:
                self._give_back(record, lost=lost)
            except BudgetSpent as spent:
                self._stop(str(spent))
                self._give_back(record, lost=lost)
            except asyncio.CancelledError:
                self._give_back(record, lost=lost)
                raise
            except LinkNotKept as error:
                self._stop(str(error))
                self._give_back(record, lost=True)
            except (HttpError, Denied) as error:
                await self._failed(record, error, began, records, lost=lost)
            else:
                await self._delivered(record, delivery, records)

    async def _key_works(self, records: Records, id: str) -> bool:
        """Does Campaign find one of some other records that it acknowledged? Asked once; yes if there is no other."""
        async with self._asking:
            if self._found_by_key is None:
                works = not (others := await self._holding.others(id))
                for other in others:
                    found = await records.find(other, self._guard)  # if that raises, it is asked again
                    if works := not isinstance(found, ResponseOutcome) or found.kind != "missing":
                        break
                self._found_by_key = works
            return self._found_by_key

    def _guard(self) -> None:
        """Right before each request: is the push still on, the record still ours?"""
        if not self._stopping.is_set() and not (self._holding.leases_last() and self._run_lasts()):
            self._stop("The ledger did not renew our leases in time.")
        if self._stopping.is_set():
            raise _Stopped
        self._leaving += 1
        self._peak = max(self._peak, self._leaving)

    def _observe(self, kind: str, status: int | None, seconds: float) -> None:
        self._leaving -= 1
        if CallCounter.is_call(status):
            self._holding.calls.add(kind)  # pyright: ignore[reportArgumentType] - records send nothing else
        if status in _SAYS_NOTHING:
            return
        if status in _NO_ANSWER:
            self._limiter.refused(seconds, time.monotonic())
        else:
            self._limiter.answered(seconds, time.monotonic())
            self._latencies.add(seconds)

    # --- what became of it --------------------------------------------------------------------------------------------

    async def _delivered(self, record: Claimed, delivery: Delivery, records: Records) -> None:
        result = self._result
        if delivery.exhausted and not await self._campaign_works(records):
            self._stop(f"Campaign fails on every request: {delivery.reason}")
            self._give_back(record)
            return
        if self._target.is_parent and delivery.deed == "deleted":
            self._parent_keys.forget(self._target.resource, record.id)
        elif self._target.is_parent and delivery.pkey:
            self._parent_keys.remember(self._target.resource, record.id, delivery.pkey)
        if delivery.result in {"done", "refused"}:
            self._failing, self._good_at = 0, time.monotonic()
        else:
            await self._trouble(record, delivery.reason, records)
        if delivery.deed:
            setattr(result, delivery.deed, getattr(result, delivery.deed) + 1)
        elif delivery.result == "refused":
            result.refused += 1
        self._close(record, delivery)

    async def _failed(
        self, record: Claimed, error: SyncAssetsError, began: float, records: Records, *, lost: bool
    ) -> None:
        """No answer about the record. The push ends if our patience is spent and nobody else fares better."""
        unanswered = isinstance(error, OutcomeUnknown)
        passing = unanswered or (isinstance(error, NotSent | Unavailable) and not isinstance(error, NotTrusted))
        now = time.monotonic()
        patient = unanswered and now - began < self._client.endpoint.patience  # a cut connection is told at once
        others_fare_better = now - self._good_at < (now - began) / 2
        if not passing or not (patient or others_fare_better):
            self._stop(str(error))
            self._give_back(record, lost=lost)
        elif not unanswered:
            self._close(record, Delivery("unknown" if lost else "later", reason=str(error), wait=LINGER))
        elif record.attempts < len(WAITS):
            await self._trouble(record, str(error), records)
            wait = LOOK_AGAIN_SECONDS if isinstance(error, StillUnknown) else WAITS[record.attempts]
            self._close(record, Delivery("unknown", reason=str(error), wait=wait))
        elif not await self._campaign_works(records):
            self._stop(str(error))
            self._give_back(record, lost=True)
        else:
            self._result.refused += 1
            self._close(record, Delivery("refused", reason=f"Campaign gave no answer, {record.attempts + 1} times."))

    async def _trouble(self, record: Claimed, reason: str | None, records: Records) -> None:
        """Campaign failed on a record. Only first tries tell of its state: what is tried again may be bad itself."""
        if record.attempts == 0:
            self._failing += 1
            if self._failing >= FAILING and not await self._campaign_works(records):
                self._stop(f"Campaign fails on every record: {reason}")

    async def _campaign_works(self, records: Records) -> bool:
        """Does Campaign answer a read? Then the records are bad that it fails on, and the push goes on. Asked once in
        WORKING_SECONDS; yes if the push is to end anyway."""
        async with self._working:
            if time.monotonic() - self._worked_at >= WORKING_SECONDS:
                try:
                    self._works = await records.answers(self._guard)
                except HttpError:
                    self._works = False
                except (_Stopped, BudgetSpent):
                    return True
                self._worked_at = time.monotonic()
            return self._works

    def _give_back(self, record: Claimed, *, lost: bool = False) -> None:
        self._result.given_back += 1
        self._close(record, Delivery("unknown" if lost else "later"))

    def _close(self, record: Claimed, delivery: Delivery) -> None:
        self._closed += 1
        if delivery.wait is not None:
            self._put_off[record.seq] = time.monotonic() + delivery.wait
        self._holding.close(outcome(record, delivery))
