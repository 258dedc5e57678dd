"""Keep PKeys for a time: of parents in memory, of listed records in a temporary file. Adobe asks never to store them.

Those of parents are part of the responses to the parents' own requests; otherwise each costs one look-up. A process
keeps the most recently added ones, for a limited time. A parent that is deleted and inserted again, by any process, has
another PKey, so each is kept for one incarnation.
"""

import sqlite3
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from typing import Any

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


class ListedKeys:
    """Maps (resource, PKey) to the Dynamics 365 id. Must be closed.

    PKeys must not be stored (Adobe, Campaign Standard APIs, "Must-read"), so they are kept in a private temporary file
    of SQLite that is deleted with this object.
    """

    def __init__(self) -> None:
        self._file = sqlite3.connect("", check_same_thread=False)
        columns = "resource TEXT, pkey TEXT, id TEXT, PRIMARY KEY (resource, pkey)"
        self._file.execute(f"CREATE TABLE keys ({columns}) WITHOUT ROWID")
        self.complete: set[str] = set()
        """Resources whose records were all listed."""

    def close(self) -> None:
        self._file.close()

    def add(self, resource: str, records: Iterable[tuple[str, Mapping[str, Any]]]) -> None:
        """Add records with their Dynamics 365 ids, as `RecordList.ours` yields them."""
        rows = ((resource, str(record.get("PKey") or ""), id_) for id_, record in records)
        self._file.executemany("INSERT OR REPLACE INTO keys VALUES (?, ?, ?)", rows)

    def id_of(self, resource: str, pkey: str) -> str | None:
        """Return the Dynamics 365 id of a record; None if it was not listed."""
        row = self._file.execute("SELECT id FROM keys WHERE resource = ? AND pkey = ?", (resource, pkey)).fetchone()
        return row[0] if row else None

    def repeated(self, resource: str) -> int:
        """Return how many records have an id that another record has, too, not counting one per id."""
        counts = "SELECT count(*) - count(DISTINCT id) FROM keys WHERE resource = ?"
        return int(self._file.execute(counts, (resource,)).fetchone()[0])

    def lacking(self, resource: str, ids: Iterable[str]) -> list[str]:
        """Return those of the ids that no listed record has. Slow the first time: makes an index."""
        self._file.execute("CREATE INDEX IF NOT EXISTS by_id ON keys (resource, id)")
        listed = "SELECT 1 FROM keys WHERE resource = ? AND id = ?"
        return [id_ for id_ in ids if self._file.execute(listed, (resource, id_)).fetchone() is None]

    def forget(self, resource: str) -> None:
        """Delete the PKeys of a resource."""
        self._file.execute("DELETE FROM keys WHERE resource = ?", (resource,))
        self.complete.discard(resource)
