"""Store which opt-out export files a poll of the SFTP folder found, and which of them are processed.

Invariant: a file is identified by name, size and time of modification, so a file that is still being written, or was
written again under the same name, is another file at each poll.
"""

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from datetime import datetime
from enum import Enum
from typing import Any

import sqlalchemy as sa

from sync_assets.config.values import CONTACT
from sync_assets.ledger import times
from sync_assets.ledger.storage import opt_out_tables
from sync_assets.ledger.storage.session import Repository, writes
from sync_assets.ledger.storage.transaction import Transaction

_F = opt_out_tables.opt_out_file.c
_ALL = sa.select(*_F).order_by(_F.modified_at, _F.name, _F.size)


class FileState(Enum):
    """The state of a file."""

    SEEN = 0
    DONE = 1
    REJECTED = 2  # rejected as a whole, until it is retried or written again


@dataclass(frozen=True, slots=True)
class OptOutFile:
    """An export file. seen_at, looked_at: when it was first and last listed with this size and time.

    done_at: when it was processed or rejected. reason: why it is rejected.
    """

    name: str
    modified: datetime
    size: int
    seen_at: datetime
    looked_at: datetime
    done_at: datetime | None = None
    reason: str | None = None

    @property
    def state(self) -> FileState:
        ended = FileState.DONE if self.reason is None else FileState.REJECTED
        return FileState.SEEN if self.done_at is None else ended

    @property
    def partition(self) -> str:
        """Its partition key: a file that is written again has another one. Dagster rejects keys with three dots."""
        return f"{self.name.replace('...', '…')}@{self.modified:%y%m%dT%H%M%SZ}"


class OptOutFiles(Repository):
    """Reads and writes `sync_opt_out_file`."""

    @writes
    def note_files(self, transaction: Transaction, listed: Sequence[tuple[str, datetime, int]]) -> list[OptOutFile]:
        """Store the result of a poll of the folder.

        Files of earlier polls that are missing now, or changed, are deleted unless they are done.

        Args:
            listed: (name, time of modification, size in bytes) of all files that match the pattern.

        Returns:
            The listed files with their states, the oldest first.
        """
        now, keys = times.from_micros(self._session.now()), set(listed)
        known = {(file.name, file.modified, file.size): file for file in self._files(transaction)}
        left = [key for key, file in known.items() if key not in keys and file.state != FileState.DONE]
        of_keys = sa.tuple_(_F.name, _F.modified_at, _F.size).in_(left)
        transaction.execute(sa.delete(opt_out_tables.opt_out_file).where(of_keys))
        files = [known.get(key) or OptOutFile(*key, seen_at=now, looked_at=now) for key in sorted(keys)]
        # The clock may have been set back since a file was first seen.
        rows = [self._row(file) | {"seen_at": min(file.seen_at, now), "looked_at": now} for file in files]
        transaction.put(opt_out_tables.opt_out_file, rows)
        return [file for file in self._files(transaction) if (file.name, file.modified, file.size) in keys]

    @staticmethod
    def _files(transaction: Transaction) -> list[OptOutFile]:
        return [OptOutFile(*row) for row in transaction.execute(_ALL)]

    @staticmethod
    def _row(file: OptOutFile) -> dict[str, Any]:
        return dict(zip(_F.keys(), astuple(file), strict=True))

    def files(self) -> list[OptOutFile]:
        """Return all stored files, the oldest first."""
        with self._session.read() as transaction:
            return self._files(transaction)

    @writes
    def end_file(
        self, transaction: Transaction, file: OptOutFile, counts: Mapping[str, int], reason: str | None = None
    ) -> None:
        """Store that a file was processed completely or, for a reason, rejected as a whole.

        counts: added to today's opt-out counts.
        """
        ended = replace(file, done_at=times.from_micros(self._session.now()), reason=reason)
        transaction.put(opt_out_tables.opt_out_file, [self._row(ended)])
        numbers = {(CONTACT, name): number for name, number in counts.items()}
        transaction.add_numbers(self._session.now(), opt_outs=numbers)

    @writes
    def retry_files(self, transaction: Transaction) -> int:
        """Make rejected files due for processing again; return how many."""
        again = sa.update(opt_out_tables.opt_out_file).where(_F.reason.is_not(None))
        return transaction.execute(again.values(reason=None, done_at=None)).rowcount
