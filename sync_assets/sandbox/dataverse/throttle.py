"""Service protection limits: number, execution time and concurrency of requests (docs/dev/references/dataverse.md 4).

Off unless a switch sets a limit. The same answers can be injected as faults.
"""

from __future__ import annotations

import math
import time
from collections import deque

from sync_assets.sandbox.asgi import Answer, Scope
from sync_assets.sandbox.dataverse.call import error_answer
from sync_assets.sandbox.dataverse.errors import DataverseError
from sync_assets.sandbox.dataverse.organization import Organization

NOMINAL_REQUESTS = 6000
NOMINAL_SECONDS = 1200.0
NOMINAL_CONCURRENT = 52


def refusal(kind: str, limit: float, window: float, retry_after: float) -> Answer:
    """Return the 429 of a limit. kind: `requests`, `time` (limit in seconds) or `concurrent`."""
    match kind:
        case "requests":
            code = "0x80072322"
            text = f"Number of requests exceeded the limit of {limit:.0f} over time window of {window:.0f} seconds."
        case "time":
            code = "0x80072321"
            text = (
                f"Combined execution time of incoming requests exceeded limit of {limit * 1000:,.0f} milliseconds over "
                f"time window of {window:.0f} seconds. Decrease number of concurrent requests or reduce the duration "
                "of requests and try again later."
            )
        case _:
            code = "0x80072326"
            text = f"Number of concurrent requests exceeded the limit of {limit:.0f}."
    answer = error_answer(DataverseError(429, code, text))
    return answer._replace(headers=[*answer.headers, (b"retry-after", str(math.ceil(retry_after)).encode())])


class Throttle:
    """Admission control of the Web API. Counts requests only while a limit is set."""

    def __init__(self, org: Organization) -> None:
        self._switches = org.switches
        self._running = 0
        self._started: deque[float] = deque()
        self._spent: deque[tuple[float, float]] = deque()
        """(end, seconds) of completed requests."""
        self._spent_sum = 0.0
        self._refused = 0
        """Refusals since the last admission. They increase the Retry-After."""

    def enter(self, scope: Scope) -> Answer | None:
        switches = self._switches
        now = time.monotonic()
        self._forget(now - switches.limit_window_seconds)
        window = switches.limit_window_seconds
        if switches.limit_concurrent is not None and self._running >= switches.limit_concurrent:
            return self._refuse(scope, "concurrent", switches.limit_concurrent, 1.0)
        if switches.limit_requests is not None:
            if len(self._started) >= switches.limit_requests:
                wait = self._started[0] + window - now if self._started else window
                return self._refuse(scope, "requests", switches.limit_requests, wait)
            self._started.append(now)
        if switches.limit_seconds is not None and self._spent_sum >= switches.limit_seconds:
            wait = self._spent[0][0] + window - now if self._spent else window
            return self._refuse(scope, "time", switches.limit_seconds, wait)
        self._refused = 0
        self._running += 1
        return None

    def leave(self, scope: Scope, seconds: float) -> None:
        self._running -= 1
        if self._switches.limit_seconds is not None:
            self._spent.append((time.monotonic(), seconds))
            self._spent_sum += seconds

    def headers(self) -> list[tuple[bytes, bytes]]:
        """Return the two headers of each answer. Without a limit, they show the documented one as unused."""
        requests, seconds = self._switches.limit_requests, self._switches.limit_seconds
        remaining = NOMINAL_REQUESTS if requests is None else max(0, requests - len(self._started))
        time_left = NOMINAL_SECONDS if seconds is None else max(0.0, seconds - self._spent_sum)
        return [
            (b"x-ms-ratelimit-burst-remaining-xrm-requests", str(remaining).encode()),
            (b"x-ms-ratelimit-time-remaining-xrm-requests", f"{time_left:,.2f}".encode()),
        ]

    def _refuse(self, scope: Scope, kind: str, limit: float, wait: float) -> Answer:
        self._refused += 1
        scope["state"]["fault"] = f"limit_{kind}"
        if self._switches.retry_after is not None:
            wait = self._switches.retry_after
        else:
            wait = max(1.0, wait) + min(60, self._refused // 10)
        return refusal(kind, limit, self._switches.limit_window_seconds, wait)

    def _forget(self, limit: float) -> None:
        while self._started and self._started[0] <= limit:
            self._started.popleft()
        while self._spent and self._spent[0][0] <= limit:
            self._spent_sum -= self._spent.popleft()[1]
