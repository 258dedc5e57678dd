"""PKeys of the records that this process has listed, on disk for as long as the process lives."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from typing import Any


class ListedKeys:
    """Which PKey stands for which of our ids, by resource. To be closed.

    PKeys are not to be stored (Adobe, Campaign Standard APIs, "Must-read"), so they live in a private file of SQLite's
    that goes with this object.
    """

    def __init__(self) -> None:
        self._file = sqlite3.connect("", check_same_thread=False)
        columns = "resource TEXT, pkey TEXT, id TEXT, PRIMARY KEY (resource, pkey)"
        self._file.execute(f"CREATE TABLE keys ({columns}) WITHOUT ROWID")
        self.complete: set[str] = set()
        """Resources all of whose records were listed."""

    def close(self) -> None:
        self._file.close()

    def add(self, resource: str, records: Iterable[tuple[str, Mapping[str, Any]]]) -> None:
        """records: with our ids, as `RecordList.ours` gives them."""
        rows = ((resource, str(record.get("PKey") or ""), id_) for id_, record in records)
        self._file.executemany("INSERT OR REPLACE INTO keys VALUES (?, ?, ?)", rows)

    def id_of(self, resource: str, pkey: str) -> str | None:
        found = self._file.execute("SELECT id FROM keys WHERE resource = ? AND pkey = ?", (resource, pkey)).fetchone()
        return found[0] if found else None

    def repeated(self, resource: str) -> int:
        """How many of the records carry an id that another one carries, too."""
        counts = "SELECT count(*) - count(DISTINCT id) FROM keys WHERE resource = ?"
        return int(self._file.execute(counts, (resource,)).fetchone()[0])

    def forget(self, resource: str) -> None:
        self._file.execute("DELETE FROM keys WHERE resource = ?", (resource,))
        self.complete.discard(resource)
