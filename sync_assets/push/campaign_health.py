"""Decide whether Campaign itself fails, or only the records that are sent to it."""

from __future__ import annotations

import asyncio
import time

from sync_assets.campaign.client import BudgetSpent
from sync_assets.campaign.dialect import ResponseOutcome
from sync_assets.campaign.records import Records
from sync_assets.http.client import Guard
from sync_assets.http.transport import HttpError
from sync_assets.push.claimed_records import ClaimedRecords
from sync_assets.push.target import PushStopped

FAILING = 30
"""Records in a row that Campaign fails on, without a success between, before a read tests whether Campaign works."""
HANGING = 3
"""The same for records that got no answer for as long as the client repeats a request."""
WORKING_SECONDS = 5.0
"""Seconds for which the result of that test is valid."""


class CampaignHealth:
    """The failures and successes of one push. `guard` is called before each request that tests Campaign."""

    def __init__(self, claims: ClaimedRecords, guard: Guard) -> None:
        self._claims, self._guard = claims, guard
        self._failing = 0  # records in a row that Campaign failed on
        self._succeeded_at = time.monotonic()
        self._works_lock, self._key_lock = asyncio.Lock(), asyncio.Lock()
        self._tested_at = -WORKING_SECONDS
        self._works = True
        self._key_works: bool | None = None  # None: not tested yet

    def succeeded(self) -> None:
        """Note that Campaign accepted or rejected a record."""
        self._failing, self._succeeded_at = 0, time.monotonic()

    def succeeded_since(self, began: float) -> bool:
        """Return True if a record succeeded in the later half of the time since `began` (monotonic clock)."""
        now = time.monotonic()
        return now - self._succeeded_at < (now - began) / 2

    async def fails_on_all(self, attempts: int, records: Records) -> bool:
        """Count a record that Campaign failed on; return True if FAILING in a row failed and a read fails, too.

        Only first attempts count: a record that is being retried may be bad itself.
        """
        if attempts:
            return False
        self._failing += 1
        return self._failing >= FAILING and not await self.works(records)

    async def hangs(self, attempts: int, records: Records) -> bool:
        """Return True if a record that got no answer, after `attempts` others, shows that Campaign gives none at all.

        A single record may hang, and must not stop those behind it; records with earlier attempts come last anyway.
        """
        return attempts > 0 or self._failing >= HANGING or not await self.works(records)

    async def works(self, records: Records) -> bool:
        """Return True if Campaign answers a read: then the failing records are bad, and the push goes on.

        Tested at most once in WORKING_SECONDS; True if the push is ending anyway.
        """
        async with self._works_lock:
            if time.monotonic() - self._tested_at >= WORKING_SECONDS:
                try:
                    self._works = await records.answers(self._guard)
                except HttpError:
                    self._works = False
                except (PushStopped, BudgetSpent):
                    return True
                self._tested_at = time.monotonic()
            return self._works

    async def key_works(self, records: Records, id: str) -> bool:
        """Return True if Campaign finds one of a few other acknowledged records by the key.

        Tested once; True if there are no other records yet.
        """
        async with self._key_lock:
            if self._key_works is None:
                if not (others := await self._claims.others(id)):
                    return True
                works = False
                for other in others:
                    found = await records.find(other, self._guard)  # if that raises, the next call tests again
                    if works := not isinstance(found, ResponseOutcome) or found.kind != "missing":
                        break
                self._key_works = works
            return self._key_works
