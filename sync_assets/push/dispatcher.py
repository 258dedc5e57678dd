"""Send a table's pending records to Campaign, with many requests in flight.

A feeder claims records in batches ahead of the workers; workers deliver one record after the other (see delivery.py);
beside them, outcomes are stored in batches and leases are renewed (see claimed_records.py). However a push ends, no
record is lost: one that was not acknowledged stays pending.
"""

from __future__ import annotations

import asyncio
import logging
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

_log = logging.getLogger(__name__)

__all__ = ["PushResult", "Target", "push"]

BATCH_SECONDS = 0.5
"""A claim takes about as many records as are sent in this time, so that a killed process leaves few unknown
outcomes.
"""
MAX_BATCH = 1000
LINGER = 20.0
"""Seconds that a push waits for a record that is to be retried, before it leaves the record to the next push."""
GRACE = 5.0
"""Seconds that requests in flight get to end when a push is stopped."""
LAST_ANSWERS = 60.0
"""The same when the time of the push is up: a longer wait, so that no outcome stays unknown for that reason."""
FAILING = 30
"""Records in a row that Campaign fails on, without a success between, before a read tests whether Campaign works."""
WORKING_SECONDS = 5.0
"""Seconds for which the result of that test is valid."""
LOOK_AGAIN_SECONDS = 10.0
"""Seconds before a record whose insert was lost, and which is not found, is looked up once more."""

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
    run_is_valid: Callable[[], bool] = lambda: True,
) -> PushResult:
    """Send a table's pending records until no more can be sent now.

    An unreachable, refusing or throttling Campaign and a spent budget of engine calls end the push with
    `PushResult.stopped`.

    Args:
        owner: a name of this worker that no other worker ever has.
        days: only records of these days, both included.
        concurrency: requests in flight at most.
        lease_seconds: length of a lease; leases are renewed every quarter of it.
        progress: called now and then with the number of records done or rejected.
        stop: set it to end the push early, with `stopped`.
        seconds: after this time no further request is sent, and the push ends without `stopped`.
        parent_keys: the PKeys that this process keeps in memory, if it keeps any.
        run_is_valid: returns False once another worker may be given the claims of this one.

    Raises:
        LedgerError: the ledger failed.
    """
    claims = ClaimedRecords(ledger, target.table, owner, lease_seconds, days, target.opt_outs)
    keys = ParentKeys() if parent_keys is None else parent_keys
    return await _Push(claims, client, target, concurrency, progress, keys, run_is_valid).run(stop, seconds)


class _Stopped(Exception):
    """Raised by the guard to hold a request back once the push must end."""


class _Push:
    def __init__(
        self,
        claims: ClaimedRecords,
        client: CampaignClient,
        target: Target,
        concurrency: int,
        progress: Callable[[int], None] | None,
        parent_keys: ParentKeys,
        run_is_valid: Callable[[], bool],
    ) -> None:
        self._parent_keys, self._run_is_valid = parent_keys, run_is_valid
        self._claims, self._client, self._target = claims, client, target
        self._progress = progress
        self._concurrency = max(1, concurrency)
        self._result = PushResult()
        self._limiter = Limiter(self._concurrency)
        self._slots = RequestSlots(self._limiter)
        self._latencies = Latencies()
        self._in_flight = 0  # requests in flight
        self._peak = 0  # the highest number of them
        self._queue: asyncio.Queue[Claimed | None] = asyncio.Queue()
        self._low = 0  # the feeder claims again when the queue is down to this length
        self._queue_low = asyncio.Event()
        self._closed = 0  # records with an outcome, or given back
        self._stopping = asyncio.Event()
        self._put_off: dict[int, float] = {}  # seq -> when (monotonic clock) it may be tried again
        self._key_lock = asyncio.Lock()
        self._found_by_key: bool | None = None  # None: not tested yet
        self._failing = 0  # records in a row that Campaign failed on
        self._addressing: dict[str, Addressing] = {}  # by resource
        self._links: Links | None = None
        self._works_lock = asyncio.Lock()
        self._tested_at = -WORKING_SECONDS  # when a read last tested whether Campaign works
        self._works = True
        self._succeeded_at = time.monotonic()  # when Campaign last accepted or rejected a record

    # --- start and end ------------------------------------------------------------------------------------------------

    async def run(self, stop: asyncio.Event | None, seconds: float | None) -> PushResult:
        started = time.monotonic()
        await self._prepare()
        self._report_progress()
        feeder = asyncio.create_task(self._feed())
        workers = [asyncio.create_task(self._work()) for _ in range(self._concurrency)]
        helpers = [
            self._claims.keep_storing(self._report_progress),
            self._claims.keep_leases(),
            self._wait_for_stop(stop, seconds),
        ]
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
            self._report_progress()
        result = self._result
        result.calls = self._claims.stored_calls
        result.seconds = time.monotonic() - started
        result.latency_p50, result.latency_p95 = self._latencies.quantile(0.5), self._latencies.quantile(0.95)
        result.peak, result.put_off = self._peak, len(self._put_off)
        return result

    async def _prepare(self) -> None:
        """Load the stored findings about the resource and its parents."""
        for target in (self._target, *self._target.parents):
            known = await self._claims.dialect(target.resource, target.key)
            self._addressing[target.resource] = target.addressing(known)
        if self._target.links:
            parents = {one.resource: self._records(one, self._observe) for one in self._target.parents}
            self._links = Links(self._target.links, parents, self._parent_keys, self._claims.send_links_again)

    def _records(self, target: Target, observe: Observer) -> Records:
        addressing = self._addressing[target.resource]
        return Records(self._client, target.api, target.resource, target.key, observer=observe, addressing=addressing)

    async def _remember(self) -> None:
        """Store the findings that this push made."""
        for resource, addressing in self._addressing.items():
            if len(addressing.news) > (KEY in addressing.news):  # more than the key that findings belong to
                news, addressing.news = addressing.news, {}
                await self._claims.note_dialect(resource, news)

    async def _wind_up(
        self, feeder: asyncio.Task[None], workers: list[asyncio.Task[None]], helpers: list[asyncio.Task[None]]
    ) -> None:
        """Wait for requests in flight, give back records that were not sent, and store all outcomes."""
        self._end()
        await asyncio.wait([feeder])  # never cancelled: the records of a claim under way would keep their lease
        for _ in workers:
            self._queue.put_nowait(None)
        give_up_at = time.monotonic() + (GRACE if self._result.stopped else LAST_ANSWERS)
        while self._in_flight and time.monotonic() < give_up_at:  # workers without a request in flight can't send any
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
            await self._claims.give_up()

    def _stop(self, reason: str) -> None:
        """End the push before all is sent. The first reason is the one reported."""
        if not self._stopping.is_set():
            self._result.stopped = reason
        self._end()

    def _end(self) -> None:
        self._stopping.set()
        self._queue_low.set()
        self._claims.idle.set()

    async def _wait_for_stop(self, stop: asyncio.Event | None, seconds: float | None) -> None:
        try:
            async with asyncio.timeout(seconds):
                await (stop or asyncio.Event()).wait()
            self._stop("It was asked to stop.")
        except TimeoutError:
            self._end()
        await asyncio.Event().wait()

    def _report_progress(self) -> None:
        if self._progress:
            self._progress(self._result.done + self._result.refused)

    # --- claiming -----------------------------------------------------------------------------------------------------

    async def _feed(self) -> None:
        """Claim records ahead of the workers until none is left that may be sent now or within LINGER seconds."""
        if self._links:
            await self._check_links(self._links)
        batch, claimed_at, closed, quiet = self._concurrency, time.monotonic(), 0, False
        while not self._stopping.is_set():
            records = await self._claims.claim(batch)
            for record in records:
                self._put_off.pop(record.seq, None)
                self._queue.put_nowait(record)
            if records:
                quiet, self._low = False, batch // 2
                await self._wait_until_low()
                now = time.monotonic()
                rate = (self._closed - closed) / max(now - claimed_at, 1e-3)
                claimed_at, closed = now, self._closed
                batch = min(MAX_BATCH, max(self._concurrency, int(rate * BATCH_SECONDS)))
            elif self._claims.open:
                with suppress(TimeoutError):
                    async with asyncio.timeout(1.0):
                        await self._claims.idle.wait()
            elif not quiet:
                quiet = True  # claim once more: sent records may have changed meanwhile, or have unblocked others
                await self._claims.flush()
            else:
                wait = min(self._put_off.values(), default=float("inf")) - time.monotonic()
                if wait > LINGER:
                    return
                quiet = False
                with suppress(TimeoutError):
                    async with asyncio.timeout(max(wait, 0.05)):
                        await self._stopping.wait()

    async def _check_links(self, links: Links) -> None:
        """Verify the links of earlier pushes that never were; if that fails, the next push does it."""
        records = self._records(self._target, self._observe)
        with suppress(HttpError, BudgetSpent, _Stopped):
            await links.check_acknowledged(records, self._claims.one_acknowledged_link, self._guard)

    async def _wait_until_low(self) -> None:
        while self._queue.qsize() > self._low and not self._stopping.is_set():
            self._queue_low.clear()
            await self._queue_low.wait()

    # --- sending ------------------------------------------------------------------------------------------------------

    async def _work(self) -> None:
        lost = False

        def observe(kind: str, status: int | None, seconds: float) -> None:
            nonlocal lost
            # A POST counts whatever its answer: if the delivery ends without an outcome, the record may exist.
            lost = lost or status is None or (kind == "insert" and CallCounter.is_call(status))
            self._observe(kind, status, seconds)

        records = self._records(self._target, observe)
        while record := await self._queue.get():
            if self._queue.qsize() <= self._low:
                self._queue_low.set()
            began, lost = time.monotonic(), False
            try:
                async with self._slots:
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
        """Return True if Campaign finds one of a few other acknowledged records by the key.

        Tested once; True if there are no other records.
        """
        async with self._key_lock:
            if self._found_by_key is None:
                works = not (others := await self._claims.others(id))
                for other in others:
                    found = await records.find(other, self._guard)  # if that raises, the next call tests again
                    if works := not isinstance(found, ResponseOutcome) or found.kind != "missing":
                        break
                self._found_by_key = works
            return self._found_by_key

    def _guard(self) -> None:
        """Check, right before each request, that the push is not stopping and that the leases are valid."""
        if not self._stopping.is_set() and not (self._claims.leases_are_valid() and self._run_is_valid()):
            _log.warning("The leases were not renewed in time, the push stops", extra={"table": self._target.table})
            self._stop("The ledger did not renew our leases in time.")
        if self._stopping.is_set():
            raise _Stopped
        self._in_flight += 1
        self._peak = max(self._peak, self._in_flight)

    def _observe(self, kind: str, status: int | None, seconds: float) -> None:
        self._in_flight -= 1
        if CallCounter.is_call(status):
            self._claims.calls.add(kind)  # pyright: ignore[reportArgumentType] - records send nothing else
        if status in _SAYS_NOTHING:
            return
        if status in _NO_ANSWER:
            self._limiter.refused(seconds, time.monotonic())
        else:
            self._limiter.answered(seconds, time.monotonic())
            self._latencies.add(seconds)

    # --- outcomes -----------------------------------------------------------------------------------------------------

    async def _delivered(self, record: Claimed, delivery: Delivery, records: Records) -> None:
        result = self._result
        if delivery.exhausted and not await self._campaign_works(records):
            self._stop(f"Campaign fails on every request: {delivery.reason}")
            self._give_back(record)
            return
        if self._target.is_parent and delivery.operation_done == "deleted":
            self._parent_keys.forget(self._target.resource, record.id)
        elif self._target.is_parent and delivery.pkey:
            self._parent_keys.remember(self._target.resource, record.id, delivery.pkey)
        if delivery.result in {"done", "refused"}:
            self._failing, self._succeeded_at = 0, time.monotonic()
        else:
            await self._count_failure(record, delivery.reason, records)
        if delivery.operation_done:
            setattr(result, delivery.operation_done, getattr(result, delivery.operation_done) + 1)
        elif delivery.result == "refused":
            result.refused += 1
        self._close(record, delivery)

    async def _failed(
        self, record: Claimed, error: SyncAssetsError, began: float, records: Records, *, lost: bool
    ) -> None:
        """Handle a delivery that ended without an answer about the record.

        The push ends if the failure is permanent, or if retries have used up the client's patience and no other record
        has succeeded lately.
        """
        unanswered = isinstance(error, OutcomeUnknown)
        passing = unanswered or (isinstance(error, NotSent | Unavailable) and not isinstance(error, NotTrusted))
        now = time.monotonic()
        patient = unanswered and now - began < self._client.endpoint.patience  # a cut connection fails at once
        others_succeed = now - self._succeeded_at < (now - began) / 2
        if not passing or not (patient or others_succeed):
            self._stop(str(error))
            self._give_back(record, lost=lost)
        elif not unanswered:
            self._close(record, Delivery("unknown" if lost else "later", reason=str(error), wait=LINGER))
        elif record.attempts < len(WAITS):
            await self._count_failure(record, str(error), records)
            wait = LOOK_AGAIN_SECONDS if isinstance(error, StillUnknown) else WAITS[record.attempts]
            self._close(record, Delivery("unknown", reason=str(error), wait=wait))
        elif not await self._campaign_works(records):
            self._stop(str(error))
            self._give_back(record, lost=True)
        else:
            self._result.refused += 1
            self._close(record, Delivery("refused", reason=f"Campaign gave no answer, {record.attempts + 1} times."))

    async def _count_failure(self, record: Claimed, reason: str | None, records: Records) -> None:
        """Count a record that Campaign failed on; test Campaign after FAILING in a row.

        Only first attempts count: a record that is being retried may be bad itself.
        """
        if record.attempts == 0:
            self._failing += 1
            if self._failing >= FAILING and not await self._campaign_works(records):
                self._stop(f"Campaign fails on every record: {reason}")

    async def _campaign_works(self, records: Records) -> bool:
        """Return True if Campaign answers a read: then the failing records are bad, and the push goes on.

        Tested at most once in WORKING_SECONDS; True if the push is ending anyway.
        """
        async with self._works_lock:
            if time.monotonic() - self._tested_at >= WORKING_SECONDS:
                try:
                    self._works = await records.answers(self._guard)
                except HttpError:
                    self._works = False
                except (_Stopped, BudgetSpent):
                    return True
                self._tested_at = time.monotonic()
            return self._works

    def _give_back(self, record: Claimed, *, lost: bool = False) -> None:
        self._result.given_back += 1
        self._close(record, Delivery("unknown" if lost else "later"))

    def _close(self, record: Claimed, delivery: Delivery) -> None:
        self._closed += 1
        if delivery.wait is not None:
            self._put_off[record.seq] = time.monotonic() + delivery.wait
        self._claims.close(outcome(record, delivery))
