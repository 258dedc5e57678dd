"""The PKeys of records that others link to, in memory only: Adobe asks callers never to store them.

They come for nothing with the answers to the parents' own requests, else by one look-up each. A process keeps the most
recently used ones, for a while: a parent that another process deletes and makes again has another PKey.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from uuid import UUID

CAPACITY = 250_000
"""PKeys that are kept, some 250 bytes each."""
SECONDS = 900.0
"""How long one is believed."""


class ParentKeys:
    """(resource, our id) -> PKey. `clock`: any monotonic one, in seconds."""

    def __init__(self, capacity: int = CAPACITY, clock: Callable[[], float] = time.monotonic) -> None:
        self._capacity, self._clock = capacity, clock
        self._known: OrderedDict[tuple[str, bytes], tuple[bytes, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def remember(self, resource: str, id: str, pkey: str) -> None:
        entry = (resource, _packed(id))
        self._known[entry] = (pkey.encode(), self._clock() + SECONDS)
        self._known.move_to_end(entry)
        if len(self._known) > self._capacity:
            self._known.popitem(last=False)

    def get(self, resource: str, id: str) -> str | None:
        found = self._known.get((resource, _packed(id)))
        return found[0].decode() if found and self._clock() < found[1] else None

    def forget(self, resource: str, id: str) -> None:
        self._known.pop((resource, _packed(id)), None)


def _packed(id: str) -> bytes:
    """A GUID in 16 bytes."""
    try:
        return UUID(id).bytes
    except ValueError:
        return id.encode()
