"""Log of all requests to the sandbox, in order. Tests read it through the admin interface."""

from __future__ import annotations

from collections import Counter, deque
from datetime import UTC, datetime
from typing import Literal

import msgspec

System = Literal["d365", "login", "campaign", "ims", "sftp", "workflow"]
Engine = Literal["insert", "update", "delete", "read"]


def now_text() -> str:
    """Return the time now as the journal stores it: UTC, ISO 8601 with milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Entry(msgspec.Struct, kw_only=True):
    """One request. Holds no headers and no bodies, so no secrets.

    Attributes:
        system: That received it; `workflow` for a run of an import workflow, which is no request.
        method: HTTP method, or SFTP operation in lower case.
        path: With the query.
        status: Of the answer; 0 if the connection was cut without an answer.
        ms: Milliseconds until the answer was sent, including injected delays.
        engine: Kind of engine call; None if the request did not reach the system's engine.
        key: Of the record, from URL or body; None if the request is not about a known record.
        fault: Kind of the injected fault that determined the answer.
        began: When the request arrived, in nanoseconds of a monotonic clock.
        answered: Just before the answer was sent, by the same clock; None if it was not. So a request that a client
            sends because of an answer has `began` >= that answer's `answered`.
        at: UTC time of the entry, made after the answer.
        n: Serial number, set by the journal.
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
    """The newest `size` entries, and counts of all requests."""

    def __init__(self, size: int = 200_000) -> None:
        self._entries: deque[Entry] = deque(maxlen=size)
        self._n = 0
        self.requests: Counter[str] = Counter()
        """Requests by system, since the start or the last `clear()`."""
        self.engine_calls: Counter[tuple[str, str]] = Counter()
        """Engine calls by (system, kind of engine call), since the start or the last `clear()`."""

    @property
    def last(self) -> int:
        """Return the serial number of the newest entry; 0 before the first."""
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
        """Return the entries after serial number `since`, of one system or of all, oldest first."""
        newest_first: list[Entry] = []
        for entry in reversed(self._entries):
            if entry.n <= since:
                break
            if system is None or entry.system == system:
                newest_first.append(entry)
        newest_first.reverse()
        return newest_first

    def clear(self) -> None:
        """Remove entries and counts. Serial numbers continue, so that an earlier `since` stays valid."""
        self._entries.clear()
        self.requests.clear()
        self.engine_calls.clear()
