"""What is asked of the transports for a request besides what travels: who admits, guards and counts each try."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field

from sync_assets.http.retry import LOST_BEHIND_GATEWAY

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
class Call:
    """What is asked of the transports for one request, besides what travels: its extension `call`.

    kind: for the observers. repeat_unknown: repeat it also if its outcome is unknown. patience: total seconds for
    retries; the time until it is admitted does not count. guard, observer, admission: of each single request.
    """

    kind: str
    repeat_unknown: bool
    patience: float
    guard: Guard | None = None
    observer: Observer | None = None
    admission: Admission | None = None
    give_up_at: float = field(default=0.0, init=False)
    """On the monotonic clock; set when the request arrives at the transport that repeats."""
