"""How many requests may be in flight: up while the server keeps pace, down when it refuses or slows.

Pure but for `RequestSlots`, which makes workers wait for their turn. A server without published limits
(campaign-standard-api.md section 10) is asked how much it bears by watching it: the time of an answer is compared with
the best time of late, and a refusal (429, 503) or a lost answer halves the number at once.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter, deque

START = 8
SLACK_SECONDS = 0.05
"""Answers may take that much longer than twice the best time before that counts as slowing."""
BEST_SECONDS = 30.0
"""How long the best time of an answer is remembered, up to twice that: a server that is slower now for whatever reason
(our own load included) is the new normal after a minute, with `ceiling` as the last word."""


class Limiter:
    """The number of requests that may be in flight, between 1 and `ceiling`.

    Told of every answer. Rounds of as many answers as the limit end with a decision: one more (or, before the first
    trouble, twice as many) while answers stay quick, a tenth fewer when they slow.
    """

    def __init__(self, ceiling: int, start: int = START) -> None:
        self.ceiling = max(1, ceiling)
        self._limit = float(min(start, self.ceiling))
        self._doubling = True
        self._halved_at = -math.inf
        self._round: list[float] = []
        self._best = math.inf  # of this period
        self._best_before = math.inf  # of the period before
        self._period_began = -math.inf

    @property
    def limit(self) -> int:
        return int(self._limit)

    def answered(self, seconds: float, now: float) -> None:
        """An answer came after `seconds`; `now` is any monotonic clock."""
        self._note_best(seconds, now)
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

    def refused(self, seconds: float, now: float) -> None:
        """A refusal, or no answer, after `seconds`. Requests that left before the last halving don't halve again."""
        self._doubling = False
        self._round.clear()
        if now - seconds < self._halved_at:
            return
        self._halved_at = now
        self._limit = max(1.0, self._limit / 2)

    def _note_best(self, seconds: float, now: float) -> None:
        if now - self._period_began > BEST_SECONDS:
            self._period_began = now
            self._best_before, self._best = self._best, math.inf
        self._best = min(self._best, seconds)


class RequestSlots:
    """Lets as many workers through as the limiter allows at the moment; the others wait, first come, first served."""

    def __init__(self, limiter: Limiter) -> None:
        self.limiter = limiter
        self.inside = 0
        self.peak = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def __aenter__(self) -> None:
        if self.inside >= self.limiter.limit:
            turn = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            try:
                await turn  # whoever wakes us has counted us in
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():
                    self._leave()
                raise
        else:
            self._enter()

    async def __aexit__(self, *_: object) -> None:
        self._leave()

    def _enter(self) -> None:
        self.inside += 1
        self.peak = max(self.peak, self.inside)

    def _leave(self) -> None:
        self.inside -= 1
        while self._waiting and self.inside < self.limiter.limit:
            turn = self._waiting.popleft()
            if not turn.done():
                self._enter()
                turn.set_result(None)


class Latencies:
    """Times of answers in some hundred buckets of 5 % each, whatever their number."""

    def __init__(self) -> None:
        self._buckets: Counter[int] = Counter()

    def add(self, seconds: float) -> None:
        self._buckets[round(math.log(max(seconds, 1e-6)) * 20)] += 1

    def quantile(self, share: float) -> float | None:
        """Seconds that `share` of the answers stayed within (to 5 %), None without any."""
        left = share * sum(self._buckets.values())
        for bucket in sorted(self._buckets):
            left -= self._buckets[bucket]
            if left <= 0:
                return math.exp(bucket / 20)
        return None
