"""What the sandbox was asked, in order: the evidence that tests read back through the admin interface."""

from __future__ import annotations

from collections import Counter, deque
from datetime import UTC, datetime
from typing import Literal

import msgspec

System = Literal["d365", "login", "campaign", "ims", "sftp"]
Engine = Literal["insert", "update", "delete", "read"]


def now_text() -> str:
    """The present moment as the journal writes it: UTC ISO 8601 with milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Entry(msgspec.Struct, kw_only=True):
    """One request. `n` is given by the journal; `status` 0 means that the connection was cut without an answer.

    `path` carries the query. `ms`: time until the answer was handed over, injected delays included.
    `engine` is set by the system itself, and only if the request reached its engine. `fault` names the injected
    fault that shaped the answer. `key`: of the record that the request is about, from address or body. Never holds
    headers or bodies, so no secret can be in it.

    `began` and `answered` are nanoseconds of one steady clock: when the request came in, and when its answer was about
    to be sent (None: never), before a client could know of it. So a request that a client sent because of an answer has
    `began` >= that answer's `answered`. `at` is the time of day when the entry was made, after the answer.
    """

    system: System
    method: str
    path: str
    status: int
    ms: float = 0.0
    engine: Engine | None = None
    key: str | None = None
    fault: str | None = None
    began: int = 0
    answered: int | None = None
    at: str = ""
    n: int = 0


class Journal:
    """A bounded list of entries, oldest dropped first, and counts that are not bounded."""

    def __init__(self, size: int = 200_000) -> None:
        self._entries: deque[Entry] = deque(maxlen=size)
        self._n = 0
        self.requests: Counter[str] = Counter()
        """requests by system, all since start or the last `clear()`"""
        self.engine_calls: Counter[tuple[str, str]] = Counter()
        """engine calls by (system, engine kind), likewise"""

    @property
    def last(self) -> int:
        """Serial number of the newest entry, 0 before the first."""
        return self._n

    def add(self, entry: Entry) -> None:
        self._n += 1
        entry.n = self._n
        if not entry.at:
            entry.at = now_text()
        self._entries.append(entry)
        self.requests[entry.system] += 1
        if entry.engine is not None:
            self.engine_calls[entry.system, entry.engine] += 1

    def entries(self, system: str | None = None, since: int = 0) -> list[Entry]:
        """Entries after serial number `since`, of one system or of all, oldest first."""
        newest_first: list[Entry] = []
        for entry in reversed(self._entries):
            if entry.n <= since:
                break
            if system is None or entry.system == system:
                newest_first.append(entry)
        newest_first.reverse()
        return newest_first

    def clear(self) -> None:
        """Forgets entries and counts; serial numbers go on, so that a remembered `since` stays valid."""
        self._entries.clear()
        self.requests.clear()
        self.engine_calls.clear()
