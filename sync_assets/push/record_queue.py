"""The queue between the ledger and the senders of a push: records are claimed in batches, ahead of the senders."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress

from sync_assets.ledger.model import Claimed, Outcome
from sync_assets.push.claimed_records import ClaimedRecords

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
                await self._wait_until_low()
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

    async def _wait_until_low(self) -> None:
        while self._queue.qsize() > self._low and not self._ending.is_set():
            self._is_low.clear()
            await self._is_low.wait()

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
