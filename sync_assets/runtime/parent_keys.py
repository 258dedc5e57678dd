"""Cache the PKeys of parent records in memory: Adobe asks callers never to store them.

They are part of the responses to the parents' own requests; otherwise each costs one look-up. A process keeps the most
recently added ones, for a limited time. A parent that is deleted and inserted again, by any process, has another PKey,
so each is kept for one incarnation.
"""

import time
from collections import OrderedDict
from collections.abc import Callable

CAPACITY = 250_000
"""Most PKeys kept, about 250 bytes each."""
SECONDS = 900.0
"""How long a PKey is used."""

Parent = tuple[int, int]
"""The number of the parent's record in the ledger, and its incarnation in Campaign."""


class ParentKeys:
    """Maps parents to their PKeys. clock: a monotonic one, in seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._known: OrderedDict[Parent, tuple[bytes, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def remember(self, parent: Parent, pkey: str) -> None:
        """Store a PKey, and drop the oldest one beyond the capacity."""
        self._known[parent] = (pkey.encode(), self._clock() + SECONDS)
        self._known.move_to_end(parent)
        if len(self._known) > CAPACITY:
            self._known.popitem(last=False)

    def get(self, parent: Parent) -> str | None:
        """Return the PKey; None if it is missing or too old."""
        cached = self._known.get(parent)
        return cached[0].decode() if cached and self._clock() < cached[1] else None

    def forget(self, parent: Parent) -> None:
        """Remove a PKey that turned out to be wrong."""
        self._known.pop(parent, None)
