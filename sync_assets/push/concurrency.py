"""Adapt the number of requests in flight: raise it while the server keeps pace, lower it when it throttles or slows.

Pure, except for `RequestSlots`, which makes tasks wait for a free slot. Campaign publishes no rate limits
(docs/dev/references/campaign.md 10), so its capacity is measured: the time of an answer is compared with the best time
of the last minute, and an answer 429, 502, 503 or 504, or a lost one, halves the number at once.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import Counter, deque

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


class RequestSlots:
    """An async context manager that lets `limiter.limit` tasks in; the others wait, first come, first served."""

    def __init__(self, limiter: Limiter) -> None:
        self.limiter = limiter
        self.inside = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def __aenter__(self) -> None:
        if self.inside >= self.limiter.limit:
            turn = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            try:
                await turn  # `_leave` has counted this task
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():
                    self._leave()
                raise
        else:
            self.inside += 1

    async def __aexit__(self, *_: object) -> None:
        self._leave()

    def _leave(self) -> None:
        self.inside -= 1
        while self._waiting and self.inside < self.limiter.limit:
            turn = self._waiting.popleft()
            if not turn.done():
                self.inside += 1
                turn.set_result(None)


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
