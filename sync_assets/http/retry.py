"""Retry rules of all requests: which answers are repeated, after how long, and how often.

Also the shared throttle, and the types of the functions that admit, guard and count each try of a request.

Every number of seconds and tries of repetitions stands here. `RetryTransport` repeats a single request; the clients of
both systems and the capture repeat what an answer of the system itself asks for.
"""

import asyncio
import email.utils
import logging
import random
import re
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from sync_assets.http.transport import HttpError, Unavailable

_log = logging.getLogger(__name__)

RETRY_STATUS = frozenset({429, 502, 503, 504})
LOST_BEHIND_GATEWAY = frozenset({502, 504})
"""Statuses of a gateway that got no response from the system: the request's outcome is unknown."""
GATEWAY_REFUSALS = frozenset({401, 403, 429, 503})
"""Statuses of a gateway that did not forward the request to the system."""

LONGEST_RETRY_AFTER = 900.0
"""Most seconds of a `Retry-After` that are respected, so that a date in the far future does not stop a process."""
PATIENCE = 120.0
"""Seconds of retries of a request, unless one of the following is named."""
METADATA_PATIENCE = 7.0
"""The same of Campaign's metadata, which is fetched first: a mistyped URL should fail soon."""
POLL_PATIENCE = 8.0
"""The same of a poll of a change feed: the next poll is soon."""
PAGE_PATIENCE = 90.0
"""The same of a page that gets no answer, or a gateway's answer: about two timeouts. Then a smaller one is tried."""
ANOTHER_OUTAGE = 180.0
"""Seconds after a failure's next attempt was due, from which on a further failure counts as the first of an outage.

More than a table whose system is silent takes to fail: 60 s without an answer, after 30 s of looking for the cause.
"""
PAGE_TRIES = 3
"""Tries of a page that Dynamics 365 answers with status 500."""
UPDATE_TRIES = 4
"""Tries of an update of a $batch that fails with 500, 502 or 504; then it counts as refused."""
REPEATS = 3
"""Repetitions of a request whose answer is not that of Campaign's engine."""
LOG_SECONDS = 30.0
"""Seconds between two log lines that say that a system does not answer."""
SIGN_IN_TRIES = 4
SIGN_IN_LONGEST_WAIT = 30.0
"""Seconds of a `Retry-After` that a sign-in waits for; after a longer one it ends, and the caller may come again."""

_SECONDS = re.compile(r"[0-9]+(?:\.[0-9]+)?")


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Parse a `Retry-After` header (a number or a date) to seconds, at most LONGEST_RETRY_AFTER.

    None without a header, or if it is invalid. A date in the past is 0.
    """
    value = headers.get("retry-after", "").strip()
    if _SECONDS.fullmatch(value):
        return min(float(value), LONGEST_RETRY_AFTER)
    try:
        seconds = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
    return min(max(0.0, seconds), LONGEST_RETRY_AFTER)


def backoff(attempt: int, asked: float | None = None) -> float:
    """Return the seconds to wait before the next attempt: doubling from 0.5 up to 30, with 30 % jitter.

    asked: the seconds of a `Retry-After`, which then count instead.
    """
    if asked is not None:
        return asked + random.uniform(0, 0.25)  # noqa: S311
    return min(30.0, 0.5 * 2 ** min(attempt, 10)) * random.uniform(0.7, 1.3)  # noqa: S311


Observer = Callable[[str, int | None, float], None]
"""Called after each single request with its kind, its status (None: outcome unknown; 0: not sent) and its seconds.

Used to count calls.
"""


def is_lost(kind: str, status: int | None) -> bool:
    """Return True if a single request, as an Observer sees it, is a write without an answer: it may take effect."""
    return kind != "read" and (status is None or status in LOST_BEHIND_GATEWAY)


Guard = Callable[[], None]
"""Called right before each single request is sent, with no await in between; raises to prevent it."""

Admission = Callable[[], AbstractAsyncContextManager[Observer | None]]
"""Entered around each single request: waits until it may be sent, or raises. May return a further observer."""


@dataclass(slots=True)
class RequestOptions:
    """What is asked of the transports for one request, besides what travels: its extension `call`.

    kind: for the observers. repeat_unknown: repeat it also if its outcome is unknown; None: if it is a GET. patience:
    total seconds for retries, without the time until it is admitted; None: the endpoint's. guard, observer (besides the
    endpoint's), admission: of each single request.
    """

    kind: str = ""
    repeat_unknown: bool | None = None
    patience: float | None = None
    guard: Guard | None = None
    observer: Observer | None = None
    admission: Admission | None = None
    attempt: int = field(default=0, init=False)
    give_up_at: float = field(default=0.0, init=False)
    """On the monotonic clock; set when the request arrives at the transport that repeats."""


class Outage:
    """Since when a system fails, shared by the endpoints of a process: an outage costs the patience once.

    since: the first failure since the system's last answer. due: when the request that failed last is to be repeated.
    Both by the monotonic clock.
    """

    def __init__(self) -> None:
        self.end()

    def end(self) -> None:
        """Count an answer."""
        self.since = self.due = float("-inf")

    def begin(self, now: float) -> float:
        """Count a failure; return when the outage that it belongs to began."""
        if now - self.due >= ANOTHER_OUTAGE:
            self.since = now
        return self.since

    def give_up(self, now: float, patience: float) -> None:
        """Let no request with this patience be repeated until the system answers."""
        self.since, self.due = min(self.since, now - patience), now


class Throttle:
    """The throttle that all tasks of a process share: a `Retry-After` stops all of them.

    until: end of the wait, monotonic clock.
    """

    def __init__(self) -> None:
        self.until = 0.0

    def hold(self, seconds: float) -> None:
        """Stop all requests for at least so many seconds."""
        self.until = max(self.until, time.monotonic() + seconds)

    async def passed(self, give_up_at: float = float("inf")) -> bool:
        """Wait until requests may be sent; False, at once, if that is later than `give_up_at` (monotonic clock)."""
        while (left := self.until - time.monotonic()) > 0:
            if self.until > give_up_at:
                return False
            await asyncio.sleep(min(left, 1.0))  # another task may extend the wait meanwhile
        return True


class Retries:
    """When requests to one system are repeated: what all its requests of a process share.

    transient: returns True for the status and body of an answer after which the request is repeated. patience: total
    seconds of repetitions, unless a call has its own. outage: of the system; a process sets that which its endpoints
    share. throttled: called with the status when all requests of this process begin to wait.
    """

    def __init__(self, name: str, transient: Callable[[int, bytes], bool]) -> None:
        self.name, self.patience, self.transient = name, PATIENCE, transient
        self.pause = Throttle()
        self.outage = Outage()
        self.throttled: Callable[[int], object] = lambda status: None
        self._tell_at = 0.0

    def wait_after(self, status: int, headers: Mapping[str, str], attempt: int) -> float:
        """Return the seconds until the next attempt. A gateway's refusal stops all requests of this process so long."""
        wait = backoff(attempt, retry_after(headers))
        if status in GATEWAY_REFUSALS:
            if self.pause.until <= time.monotonic():  # once for all requests in flight
                _log.warning(
                    "The server throttles, all requests of this process wait",
                    extra={"system": self.name, "status": status, "seconds": wait},
                )
                self.throttled(status)
            self.pause.hold(wait)
        return wait

    async def before_repeating(self, failure: HttpError, wait: float, call: RequestOptions, patience: float) -> None:
        """Wait before a request is sent again; raise its failure if that would be beyond the patience."""
        now = time.monotonic()
        repeat_until = min(call.give_up_at, self.outage.begin(now) + patience)
        if now + wait > repeat_until:
            self.outage.give_up(now, patience)
            raise failure
        self.outage.due = now + wait
        throttled = isinstance(failure, Unavailable) and failure.status in GATEWAY_REFUSALS  # logged by `wait_after`
        if now >= self._tell_at and not throttled:
            self._tell_at = now + LOG_SECONDS
            until = f"{datetime.now(UTC) + timedelta(seconds=repeat_until - now):%H:%M:%S} UTC"
            _log.warning(
                "The system does not answer, requests are repeated", extra={"system": self.name, "until": until}
            )
        about = {"operation": call.kind, "attempt": call.attempt, "seconds": wait}
        _log.debug("A request is repeated", extra={"system": self.name, **about})
        await asyncio.sleep(wait)
