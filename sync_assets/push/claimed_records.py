"""The claims of one push: records that its session has claimed, their queue, and outcomes not stored yet.

All ledger calls go through one thread, off the event loop and in order: outcomes that were flushed before a claim are
stored when that claim is made.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

from sync_assets.campaign.addressing import KEY
from sync_assets.campaign.client import CallCounter
from sync_assets.ledger.model import Claimed, Outcome

if TYPE_CHECKING:
    from sync_assets.ledger import Ledger
    from sync_assets.push.target import Target

_log = logging.getLogger(__name__)

STORE_RECORDS = 500
STORE_SECONDS = 0.5
"""Outcomes are stored after STORE_RECORDS records or STORE_SECONDS seconds, whichever comes first: a crash loses no
more outcomes than that.
"""

OTHERS = 3
"""How many other acknowledged records are looked up to test whether Campaign finds records by the key."""

_T = TypeVar("_T")


def acknowledged_others(ledger: Ledger, table: str, ids: Sequence[str]) -> list[str]:
    """Return the ids of up to OTHERS acknowledged records of a table, `ids` (at least one) excluded."""
    sample = ledger.reports.sample_synced(table, OTHERS + len(ids), len(ids[0]))
    return [other for other in sample if other not in ids][:OTHERS]


class ClaimedRecords:
    """Claim records of one table, and store their outcomes in batches.

    session: epoch of the process's session. session_is_valid: returns False once others may be given its claims.
    `calls` counts the engine calls made so far, `stored_calls` those that the ledger has stored. Times are in seconds.
    """

    def __init__(
        self, ledger: Ledger, target: Target, session: int, session_is_valid: Callable[[], bool] = lambda: True
    ) -> None:
        self._ledger, self.target, self._session = ledger, target, session
        self.session_is_valid = session_is_valid
        self._table = target.config.table
        self._outcomes: list[Outcome] = []
        self._full = asyncio.Event()
        self._storing = asyncio.Lock()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="push-ledger")
        self.calls = CallCounter()
        self.stored_calls: Counter[str] = Counter()
        self.take_findings: Callable[[], Mapping[str, Mapping[str, str]]] = dict[str, dict[str, str]]
        """Returns the findings to store before the next outcomes, which may rely on them; see `note_dialect`."""
        self.without_outcome = 0
        """Records claimed and without an outcome so far."""
        self.idle = asyncio.Event()
        """Set when `without_outcome` falls to 0."""

    async def claim(self, limit: int) -> list[Claimed]:
        """Claim up to `limit` pending records of the table."""
        config, opt_outs = self.target.config, self.target.opt_outs
        options = {"limit": limit, "opt_outs": opt_outs, "target": (config.resource, config.key)}
        records = await self._call(self._ledger.claims.claim, self._table, self._session, **options)
        self.without_outcome += len(records)
        if self.without_outcome:
            self.idle.clear()
        return records

    async def others(self, id: str) -> list[str]:
        """Return the ids of up to OTHERS acknowledged records of the table, `id` excluded."""
        return await self._call(acknowledged_others, self._ledger, self._table, [id])

    async def dialect(self, resource: str, key: str) -> dict[str, str]:
        """Return the stored findings about a Campaign resource (premise -> finding).

        Findings that were made with another key attribute than `key` are deleted from the ledger; then the result is
        empty.
        """
        findings = await self._call(self._ledger.dialect.facts, resource)
        if findings.get(KEY, key) == key:
            return findings
        await self._call(self._ledger.dialect.forget, resource)
        return {}

    async def note_dialect(self, resource: str, findings: Mapping[str, str]) -> None:
        """Store further findings about a Campaign resource (premise -> finding)."""
        for premise, finding in findings.items():
            _log.debug("A premise was found out", extra={"resource": resource, "premise": premise, "found": finding})
        await self._call(self._ledger.dialect.note, resource, findings)

    async def send_links_again(self, attribute: str) -> None:
        """Make every record that was acknowledged with this link pending, so that the link is sent again."""
        await self.flush()
        await self._call(self._ledger.links.send_links_again, self._table, attribute)

    async def reinsert(self, record: Claimed) -> None:
        """Store that a record, which Campaign does not have any more, is about to be inserted again."""
        await self._call(self._ledger.claims.reinsert, self._session, record.seq)

    def add_outcome(self, outcome: Outcome) -> None:
        """Record the outcome of a claimed record; it is stored with the next batch."""
        self._outcomes.append(outcome)
        self.without_outcome -= 1
        if not self.without_outcome:
            self.idle.set()
        if len(self._outcomes) >= STORE_RECORDS:
            self._full.set()

    async def keep_storing(self, stored: Callable[[], None]) -> None:
        """Store outcomes in batches, by number and by time, until cancelled; call `stored` after each batch."""
        while True:
            with suppress(TimeoutError):
                # Not asyncio.wait_for: that of Python 3.11 may swallow the cancellation of this task.
                async with asyncio.timeout(STORE_SECONDS):
                    await self._full.wait()
            await self.flush()
            stored()

    async def flush(self) -> None:
        """Store all findings, outcomes and counted calls.

        Once begun it runs to its end, even if the caller is cancelled meanwhile.
        """
        await asyncio.shield(asyncio.ensure_future(self._store()))

    async def _store(self) -> None:
        async with self._storing:
            self._full.clear()
            outcomes, self._outcomes = self._outcomes, []
            calls = self.calls.take()
            counts = {(self._table, kind): count for kind, count in calls.items()}
            try:
                for resource, findings in self.take_findings().items():
                    await self.note_dialect(resource, findings)
                if not outcomes and not calls:
                    return
                await self._call(self._ledger.claims.acknowledge, self._session, outcomes, counts)
            except Exception:
                self._outcomes[:0] = outcomes
                self.calls.put_back(calls)
                raise
            self.stored_calls.update(calls)

    async def give_up(self) -> None:
        """Store all outcomes, then release the records that are still claimed, and stop the ledger thread.

        The outcome of a released record stays unknown: it may have been sent.
        """
        try:
            await self.flush()
            if self.without_outcome:
                await self.release()
        finally:
            self._thread.shutdown(wait=False)

    async def release(self) -> None:
        """Release the records of the table that this session has claimed, by an earlier push too."""
        await self._call(self._ledger.claims.release, self._table, self._session)

    async def _call(self, work: Callable[..., _T], *args: object, **options: object) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, lambda: work(*args, **options))


BATCH_SECONDS = 0.5
"""A claim takes about as many records as are sent in this time, so that a killed process leaves few unknown
outcomes.
"""
MAX_BATCH = 1000
WAIT_FOR_RETRY_SECONDS = 20.0
"""Seconds that a push waits for a record that is to be retried, before it leaves the record to the next push."""
OVERDUE_SECONDS = 5.0
"""Seconds beyond its retry time for which a push still waits for a record. If no claim has returned the record by then,
it is no longer to be sent, or another worker has it. Longer than an outcome takes to be stored: the ledger counts the
wait from then on.
"""


class RecordQueue:
    """Claimed records for `senders` senders (tasks of the push), and the records that are put off."""

    def __init__(self, claims: ClaimedRecords, senders: int) -> None:
        self._claims, self._senders = claims, senders
        self._queue: asyncio.Queue[Claimed | None] = asyncio.Queue()
        self._low = 0  # more records are claimed when the queue is down to this length
        self._is_low = asyncio.Event()
        self._finished = 0  # records with an outcome, or given back
        self._retry_at: dict[int, float] = {}  # seq -> time of the monotonic clock
        self._ending = asyncio.Event()

    @property
    def put_off(self) -> int:
        """The number of records that are tried again later."""
        return len(self._retry_at)

    @property
    def ended(self) -> bool:
        """True once `end` was called."""
        return self._ending.is_set()

    async def fill(self) -> None:
        """Claim records until none is left that may be sent now or within WAIT_FOR_RETRY_SECONDS, or until `end`."""
        batch, claimed_at, finished, quiet = self._senders, time.monotonic(), 0, False
        while not self._ending.is_set():
            asked = time.monotonic()
            records = await self._claims.claim(batch)
            for record in records:
                self._retry_at.pop(record.seq, None)
                self._queue.put_nowait(record)
            if records:
                quiet, self._low = False, batch // 2
                while self._queue.qsize() > self._low and not self._ending.is_set():
                    self._is_low.clear()
                    await self._is_low.wait()
                now = time.monotonic()
                rate = (self._finished - finished) / max(now - claimed_at, 1e-3)
                claimed_at, finished = now, self._finished
                batch = min(MAX_BATCH, max(self._senders, int(rate * BATCH_SECONDS)))
            elif self._claims.without_outcome:
                with suppress(TimeoutError):
                    async with asyncio.timeout(1.0):
                        await self._claims.idle.wait()
            elif not quiet:
                quiet = True  # claim once more: sent records may have changed meanwhile, or have unblocked others
                await self._claims.flush()
            else:
                self._retry_at = {seq: at for seq, at in self._retry_at.items() if asked - at < OVERDUE_SECONDS}
                wait = min(self._retry_at.values(), default=float("inf")) - time.monotonic()
                if wait > WAIT_FOR_RETRY_SECONDS:
                    return
                quiet = False
                with suppress(TimeoutError):
                    async with asyncio.timeout(max(wait, 0.05)):
                        await self._ending.wait()

    async def take(self) -> Claimed | None:
        """Wait for the next record. None: no record follows."""
        record = await self._queue.get()
        if self._queue.qsize() <= self._low:
            self._is_low.set()
        return record

    def add_outcome(self, outcome: Outcome) -> None:
        """Record the outcome of a taken record, and when it may be tried again."""
        self._finished += 1
        if outcome.retry_after_seconds is not None:
            self._retry_at[outcome.seq] = time.monotonic() + outcome.retry_after_seconds
        self._claims.add_outcome(outcome)

    def end(self) -> None:
        """Claim no more records."""
        self._ending.set()
        self._is_low.set()
        self._claims.idle.set()

    def dismiss_senders(self) -> None:
        """Make each sender's next `take` return None once the queue is empty."""
        for _ in range(self._senders):
            self._queue.put_nowait(None)

    def left(self) -> list[Claimed]:
        """Remove and return all records that no sender took."""
        records: list[Claimed] = []
        while not self._queue.empty():
            if record := self._queue.get_nowait():
                records.append(record)
        return records
