"""Keep the PKeys of the Campaign records that this process has listed, in a temporary file."""

import sqlite3
from collections.abc import Iterable, Mapping
from typing import Any


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

    def forget(self, resource: str) -> None:
        """Delete the PKeys of a resource."""
        self._file.execute("DELETE FROM keys WHERE resource = ?", (resource,))
        self.complete.discard(resource)
