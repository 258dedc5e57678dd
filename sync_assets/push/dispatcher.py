"""Send a table's pending records to Campaign, with many requests in flight.

Records are claimed in batches ahead of the senders (tasks that deliver one record after the other, delivery.py), and
outcomes are stored in batches (claimed_records.py). However a push ends, no record is lost: one that was not
acknowledged stays pending.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sync_assets.campaign.addressing import KEY, Addressing
from sync_assets.campaign.client import BudgetSpent, CallCounter, CampaignClient
from sync_assets.campaign.first_requests import FirstRequests
from sync_assets.campaign.records import Records
from sync_assets.errors import SyncAssetsError
from sync_assets.http.retry import Observer, is_lost
from sync_assets.http.transport import HttpError, NotSent, NotTrusted, OutcomeUnknown, Unavailable
from sync_assets.ledger.model import Claimed
from sync_assets.push.campaign_health import CampaignHealth, Latencies, Limiter
from sync_assets.push.claimed_records import WAIT_FOR_RETRY_SECONDS, ClaimedRecords, RecordQueue
from sync_assets.push.delivery import Sender, StillUnknown
from sync_assets.push.delivery_result import Delivery, outcome, retry_wait
from sync_assets.push.record_links import LinkNotKept, Links
from sync_assets.push.target import PushResult, PushStopped
from sync_assets.runtime.call_limits import Slots
from sync_assets.runtime.pkeys import ParentKeys
from sync_assets.words import counted

if TYPE_CHECKING:
    from sync_assets.config.models import TableConfig

_log = logging.getLogger(__name__)

GRACE = 5.0
"""Seconds that requests in flight get to end when a push is stopped."""
LAST_ANSWERS = 60.0
"""The same when the time of the push is up: a longer wait, so that no outcome stays unknown for that reason."""
RETRY_SECONDS = WAIT_FOR_RETRY_SECONDS
"""Seconds before the next attempt of a record while Campaign is overloaded or not reachable: the longest wait for which
the queue does not leave the record to the next push.
"""

_OVERLOADED = frozenset({None, 429, 502, 503, 504})
_SAYS_NOTHING = frozenset({0, 401})


async def push(
    claims: ClaimedRecords,
    client: CampaignClient,
    *,
    concurrency: int = 64,
    progress: Callable[[int], None] | None = None,
    seconds: float | None = None,
    parent_keys: ParentKeys | None = None,
) -> PushResult:
    """Send a table's pending records until no more can be sent now.

    An unreachable, refusing or throttling Campaign and a spent budget of engine calls end the push with
    `PushResult.stopped`.

    Args:
        claims: of the table's records; without any so far.
        client: of the Campaign that they are sent to.
        concurrency: requests in flight at most.
        progress: called now and then with the number of records done or rejected.
        seconds: after this time no further request is sent, and the push ends without `stopped`.
        parent_keys: the PKeys that this process keeps in memory, if it keeps any.

    Raises:
        LedgerError: the ledger failed.
    """
    keys = ParentKeys() if parent_keys is None else parent_keys
    return await _Push(claims, client, concurrency, progress, keys).run(seconds)


@dataclass(slots=True)
class _Answers:
    """The answers to the requests of one delivery.

    lost: without an outcome of the delivery the record may be in Campaign. unanswered: a write may still take effect.
    status: of HTTP, of the last write; None: it got no answer, or there was none.
    """

    lost: bool = False
    unanswered: bool = False
    status: int | None = None

    def note(self, kind: str, status: int | None) -> None:
        # A POST counts whatever its answer: if the delivery ends without an outcome, the record may exist.
        self.lost = self.lost or status is None or (kind == "insert" and CallCounter.is_call(status))
        self.unanswered = self.unanswered or is_lost(kind, status)
        if kind != "read":
            self.status = status or None

    def unknown_or_later(self, reason: str | None = None, wait: float | None = None) -> Delivery:
        """Return the delivery of a record without an answer about it."""
        return Delivery("unknown" if self.lost else "later", reason=reason, wait=wait)


class _Push:
    def __init__(
        self,
        claims: ClaimedRecords,
        client: CampaignClient,
        concurrency: int,
        progress: Callable[[int], None] | None,
        parent_keys: ParentKeys,
    ) -> None:
        self._parent_keys, self._session_is_valid = parent_keys, claims.session_is_valid
        self._claims, self._client, self._target = claims, client, claims.target
        claims.take_findings = self._take_findings
        self._progress = progress
        self._concurrency = max(1, concurrency)
        self._result = PushResult()
        self._limiter = Limiter(self._concurrency)
        self._slots = Slots(lambda: self._limiter.limit)
        self._latencies = Latencies()
        self._in_flight = 0  # requests in flight
        self._peak = 0  # the highest number of them
        self._queue = RecordQueue(claims, self._concurrency)
        self._health = CampaignHealth(claims)
        self._resources: dict[str, tuple[Addressing, FirstRequests]] = {}
        self._links: Links | None = None

    # --- start and end ------------------------------------------------------------------------------------------------

    async def run(self, seconds: float | None) -> PushResult:
        started = time.monotonic()
        await self._prepare()
        self._report_progress()
        feeder = asyncio.create_task(self._queue.fill())
        senders = [asyncio.create_task(self._send_records()) for _ in range(self._concurrency)]
        helpers = (self._claims.keep_storing(self._report_progress), self._end_after(seconds))
        tasks = [asyncio.create_task(helper) for helper in helpers]
        waiting = {feeder, *senders, *tasks}
        try:
            while not feeder.done():
                done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
        except asyncio.CancelledError:
            self._stop("It was interrupted.")
            raise
        finally:
            await self._wind_up(feeder, senders, tasks)
            self._report_progress()
        result = self._result
        if kept := self._resources[self._target.config.resource][1].kept:
            result.stopped = " ".join(filter(None, (_kept_text(self._target.config, kept), result.stopped)))
        result.calls = self._claims.stored_calls
        result.seconds = time.monotonic() - started
        result.latency_p50, result.latency_p95 = self._latencies.quantile(0.5), self._latencies.quantile(0.95)
        result.peak, result.put_off = self._peak, self._queue.put_off
        return result

    async def _prepare(self) -> None:
        await self._claims.release()
        for config in (self._target.config, *self._target.parents):
            known = await self._claims.dialect(config.resource, config.key)
            self._resources[config.resource] = Addressing.configured(config, known), FirstRequests()
        self._resources[self._target.config.resource][0].may_hide = self._target.may_hide
        if self._target.links:
            parents = {parent.resource: self._records(parent, self._observe) for parent in self._target.parents}
            self._links = Links(self._target.links, parents, self._parent_keys, self._claims.send_links_again)

    def _records(self, config: TableConfig, observe: Observer) -> Records:
        addressing, first = self._resources[config.resource]
        return Records(self._client, config, addressing, observe, self._guard, first)

    def _take_findings(self) -> dict[str, dict[str, str]]:
        """Return the findings that are not stored yet (resource -> premise -> finding), which then count as stored."""
        taken: dict[str, dict[str, str]] = {}
        for resource, (addressing, _) in self._resources.items():
            if len(addressing.news) > (KEY in addressing.news):  # more than the key that findings belong to
                taken[resource], addressing.news = addressing.news, {}
        return taken

    async def _wind_up(
        self, feeder: asyncio.Task[None], senders: list[asyncio.Task[None]], helpers: list[asyncio.Task[None]]
    ) -> None:
        """Wait for requests in flight, give back records that were not sent, and store all outcomes."""
        self._queue.end()
        give_up_at = time.monotonic() + (GRACE if self._result.stopped else LAST_ANSWERS)
        await asyncio.wait([feeder])  # never cancelled: the records of a claim under way would stay claimed
        self._queue.dismiss_senders()
        while self._in_flight and time.monotonic() < give_up_at:  # senders without a request in flight can't send any
            await asyncio.wait(senders, timeout=0.05)
        for task in [*senders, *helpers]:
            task.cancel()
        await asyncio.gather(feeder, *senders, *helpers, return_exceptions=True)
        for record in self._queue.left():
            self._give_back(record, _Answers())
        await self._claims.give_up()

    def _stop(self, reason: str) -> None:
        """End the push before all is sent. The first reason is the one reported."""
        if not self._queue.ended:
            self._result.stopped = reason
        self._queue.end()

    async def _end_after(self, seconds: float | None) -> None:
        if seconds is not None:
            await asyncio.sleep(seconds)
            self._queue.end()

    def _report_progress(self) -> None:
        if self._progress:
            self._progress(self._result.done + self._result.rejected)

    # --- sending ------------------------------------------------------------------------------------------------------

    async def _send_records(self) -> None:
        answers = _Answers()

        def observe(kind: str, status: int | None, seconds: float) -> None:
            answers.note(kind, status)
            self._observe(kind, status, seconds)

        async def reinsert(again: Claimed) -> None:
            nonlocal record
            await self._claims.reinsert(again)
            record = again._replace(reinsert_sent=True)

        records = self._records(self._target.config, observe)
        sender = Sender(records, self._health.key_works, reinsert, self._links, self._target.requires_parent)
        while record := await self._queue.take():
            began, answers = time.monotonic(), _Answers()
            try:
                async with self._slots:
                    delivery = await sender.deliver(record)
            except PushStopped:
                self._give_back(record, answers)
            except BudgetSpent as spent:
                self._stop(str(spent))
                self._give_back(record, answers)
            except asyncio.CancelledError:
                self._give_back(record, answers)
                raise
            except LinkNotKept as error:
                self._stop(str(error))
                answers.lost = True
                self._give_back(record, answers)
            except HttpError as error:
                await self._failed(record, error, began, records, answers)
            else:
                if delivery.stop:
                    self._stop(delivery.stop)
                if delivery.stop and delivery.result == "later":
                    self._give_back(record, answers)
                else:
                    await self._delivered(record, delivery, records, answers)

    def _guard(self) -> None:
        """Check, right before each request, that the push is not stopping and that the session is valid."""
        if not self._queue.ended and not self._session_is_valid():
            table = self._target.config.table
            _log.warning("The leases were not renewed in time, the push stops", extra={"table": table})
            self._stop("The ledger did not renew our leases in time.")
        if self._queue.ended:
            raise PushStopped
        self._in_flight += 1
        self._peak = max(self._peak, self._in_flight)

    def _observe(self, kind: str, status: int | None, seconds: float) -> None:
        self._in_flight -= 1
        self._claims.calls.observe(kind, status, seconds)
        if status in _SAYS_NOTHING:
            return
        if status in _OVERLOADED:
            self._limiter.overloaded(seconds, time.monotonic())
        else:
            self._limiter.answered(seconds, time.monotonic())
            self._latencies.add(seconds)

    # --- outcomes -----------------------------------------------------------------------------------------------------

    async def _delivered(self, record: Claimed, delivery: Delivery, records: Records, answers: _Answers) -> None:
        result = self._result
        if self._target.is_parent and delivery.pkey and delivery.operation_done != "deleted":
            self._parent_keys.remember(delivery.incarnation_of(record), delivery.pkey)
        if delivery.result in {"done", "refused", "missing"}:
            self._health.succeeded()
        else:
            await self._count_failure(record, delivery.reason, records)
        if delivery.operation_done:
            setattr(result, delivery.operation_done, getattr(result, delivery.operation_done) + 1)
            result.not_found += delivery.operation_done == "deleted" and not (answers.status and answers.status < 300)
        elif delivery.result == "refused":
            result.rejected += 1
        self._add_outcome(record, delivery, answers)

    async def _failed(
        self, record: Claimed, error: SyncAssetsError, began: float, records: Records, answers: _Answers
    ) -> None:
        """Handle a delivery that ended without an answer about the record.

        The push ends if the failure is permanent, or if retries have used up the client's patience, no other record has
        succeeded lately, and more than this record fails.
        """
        succeeded = self._health.succeeded_since(began)
        if isinstance(error, OutcomeUnknown):
            await self._count_failure(record, str(error), records)
            # A cut connection fails at once.
            is_patient = time.monotonic() - began < self._client.endpoint.patience
            if not (is_patient or succeeded) and await self._health.hangs(record.attempts, records):
                self._stop(str(error))
            wait = error.wait if isinstance(error, StillUnknown) else retry_wait(record.attempts)
            answers.lost = True
            self._add_outcome(record, answers.unknown_or_later(str(error), wait), answers)
        elif isinstance(error, NotSent | Unavailable) and not isinstance(error, NotTrusted) and succeeded:
            self._add_outcome(record, answers.unknown_or_later(str(error), RETRY_SECONDS), answers)
        else:
            self._stop(str(error))
            self._give_back(record, answers)

    async def _count_failure(self, record: Claimed, reason: str | None, records: Records) -> None:
        if await self._health.fails_on_all(record.attempts, records):
            self._stop(f"Campaign fails on every record: {reason}")

    def _give_back(self, record: Claimed, answers: _Answers) -> None:
        self._result.given_back += 1
        self._add_outcome(record, answers.unknown_or_later(), answers)

    def _add_outcome(self, record: Claimed, delivery: Delivery, answers: _Answers) -> None:
        self._queue.add_outcome(outcome(record, delivery, unanswered=answers.unanswered, status=answers.status))


def _kept_text(config: TableConfig, kept: Collection[str]) -> str:
    """Return the text about records that Campaign kept after a DELETE, and whose rows and records are gone here."""
    return (
        f"Campaign answered that it deleted {counted(len(kept), 'record')} of {config.table}, and kept what it deleted "
        f"likewise: {', '.join(sorted(kept))}. No later request deletes them: delete them in Campaign; `sync-assets "
        f"audit --table {config.table}` counts those that are left as without a row."
    )
