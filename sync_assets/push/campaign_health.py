"""Decide whether Campaign itself fails or only single records, and how many requests may be in flight.

Campaign publishes no rate limits (docs/dev/references/campaign.md 10), so its capacity is measured: the time of an
answer is compared with the best time of the last minute, and an answer 429, 502, 503 or 504, or a lost one, halves the
number at once.
"""

import asyncio
import logging
import math
import time
from collections import Counter

from sync_assets.campaign.client import BudgetSpent
from sync_assets.campaign.dialect import ResponseOutcome
from sync_assets.campaign.records import Records
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
    """The failures and successes of one push."""

    def __init__(self, claims: ClaimedRecords) -> None:
        self._claims = claims
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
                    self._works = await records.answers()
                except HttpError:
                    self._works = False
                except (PushStopped, BudgetSpent):
                    return True
                self._tested_at = time.monotonic()
            return self._works

    async def key_works(self, records: Records, id: str) -> bool | None:
        """Return True if Campaign finds one of a few other acknowledged records by the key; None: no answer shows that.

        Tested until an answer shows it; True if there are no other records yet.
        """
        async with self._key_lock:
            if self._key_works is None:
                if not (others := await self._claims.others(id)):
                    return True
                works: bool | None = False
                for other in others:
                    response = await records.find(other)  # if that raises, the next call tests again
                    if not isinstance(response, ResponseOutcome):
                        works = True
                        break
                    if response.kind != "missing":
                        works = None
                self._key_works = works
            return self._key_works


_log = logging.getLogger(__name__)

START = 8
SLACK_SECONDS = 0.05
"""An answer counts as slow if it takes this much longer than twice the best time."""
BEST_SECONDS = 30.0
"""How long the best time of an answer is kept, in seconds; up to twice that. A server that is slower now for any
reason, our own load included, is the new normal after a minute; `ceiling` bounds the number in any case.
"""


class Limiter:
    """The number of requests that may be in flight, between 1 and `ceiling`.

    Call `answered` or `overloaded` for every request. After as many answers as the limit (one round) the limit changes:
    plus one (or doubled, until the first throttle or slow round) while answers are quick, minus a tenth when they are
    slow.
    """

    def __init__(self, ceiling: int) -> None:
        self.ceiling = max(1, ceiling)
        self._limit = float(min(START, self.ceiling))
        self._doubling = True
        self._halved_at = -math.inf
        self._round: list[float] = []
        self._best = math.inf  # of this period
        self._best_before = math.inf  # of the period before
        self._period_began = -math.inf

    @property
    def limit(self) -> int:
        """Return the number of requests that may be in flight now."""
        return int(self._limit)

    def answered(self, seconds: float, now: float) -> None:
        """Count an answer that took `seconds`; `now` is the time of any monotonic clock, in seconds."""
        if now - self._period_began > BEST_SECONDS:
            self._period_began = now
            self._best_before, self._best = self._best, math.inf
        self._best = min(self._best, seconds)
        self._round.append(seconds)
        if len(self._round) < self.limit:
            return
        typical = sorted(self._round)[len(self._round) // 2]
        self._round.clear()
        if typical > 2 * min(self._best, self._best_before) + SLACK_SECONDS:
            self._doubling = False
            self._limit = max(1.0, self._limit * 0.9)
        elif self._doubling:
            self._limit = min(self.ceiling, self._limit * 2)
        else:
            self._limit = min(self.ceiling, self._limit + 1)

    def overloaded(self, seconds: float, now: float) -> None:
        """Halve the limit after such an answer, or a lost one, which took `seconds`.

        Requests that were sent before the last halving do not halve the limit again.
        """
        self._doubling = False
        self._round.clear()
        if now - seconds < self._halved_at:
            return
        self._halved_at = now
        self._limit = max(1.0, self._limit / 2)
        _log.debug("Requests in flight are halved", extra={"limit": self.limit})


class Latencies:
    """A histogram of answer times in a few hundred buckets of 5 % each, whatever the number of answers."""

    def __init__(self) -> None:
        self._buckets: Counter[int] = Counter()

    def add(self, seconds: float) -> None:
        self._buckets[round(math.log(max(seconds, 1e-6)) * 20)] += 1

    def quantile(self, share: float) -> float | None:
        """Return the seconds within which `share` (0 to 1) of the answers came, to 5 %; None without answers."""
        left = share * sum(self._buckets.values())
        for bucket in sorted(self._buckets):
            left -= self._buckets[bucket]
            if left <= 0:
                return math.exp(bucket / 20)
        return None
