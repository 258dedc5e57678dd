"""Cache the PKeys of parent records in memory: Adobe asks callers never to store them.

They are part of the responses to the parents' own requests; otherwise each costs one look-up. A process keeps the most
recently added ones, for a limited time: a parent that another process deletes and inserts again has another PKey.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from uuid import UUID

CAPACITY = 250_000
"""Most PKeys kept, about 250 bytes each."""
SECONDS = 900.0
"""How long a PKey is used."""


class ParentKeys:
    """Maps (resource, Dynamics 365 id) to the PKey. clock: a monotonic one, in seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._known: OrderedDict[tuple[str, bytes], tuple[bytes, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def remember(self, resource: str, id: str, pkey: str) -> None:
        """Store a PKey, and drop the oldest one beyond the capacity."""
        entry = (resource, _packed(id))
        self._known[entry] = (pkey.encode(), self._clock() + SECONDS)
        self._known.move_to_end(entry)
        if len(self._known) > CAPACITY:
            self._known.popitem(last=False)

    def get(self, resource: str, id: str) -> str | None:
        """Return the PKey; None if it is missing or too old."""
        found = self._known.get((resource, _packed(id)))
        return found[0].decode() if found and self._clock() < found[1] else None

    def forget(self, resource: str, id: str) -> None:
        """Remove a PKey that turned out to be wrong."""
        self._known.pop((resource, _packed(id)), None)


def _packed(id: str) -> bytes:
    """Return a GUID as 16 bytes; any other id as UTF-8."""
    try:
        return UUID(id).bytes
    except ValueError:
        return id.encode()
