"""Store which opt-out export files a poll of the SFTP folder found, and which of them are processed.

Invariant: a file is identified by name, size and time of modification, so a file that is still being written, or was
written again under the same name, is another file at each poll.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from sync_assets.ledger import times
from sync_assets.ledger.repositories.opt_out_rows import OptOutRows
from sync_assets.ledger.storage import opt_out_tables
from sync_assets.ledger.storage.session import LedgerSession

_F = opt_out_tables.opt_out_file.c
POLL, RESTART = "/profiles", "/restart"
"""Events stored with the files, under names that no file can have: polls of profiles, restarts of the export."""
_ALL = sa.select(*_F).where(_F.name.not_in((POLL, RESTART))).order_by(_F.modified_at, _F.name, _F.size)


class FileState(IntEnum):
    """The state of a file. The numbers are stored, so they never change their meaning."""

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
    state: FileState = FileState.SEEN
    done_at: datetime | None = None
    reason: str | None = None

    @property
    def partition(self) -> str:
        """Its partition key: a file that is written again has another one. Dagster rejects keys with three dots."""
        return f"{self.name.replace('...', '…')}@{self.modified:%Y-%m-%dT%H:%M:%SZ}"


class OptOutFiles:
    """Reads and writes `sync_opt_out_file`."""

    def __init__(self, session: LedgerSession, rows: OptOutRows) -> None:
        self._session = session
        self._rows = rows

    def note_files(self, listed: Iterable[tuple[str, datetime, int]]) -> list[OptOutFile]:
        """Store the result of a poll of the folder.

        Files of earlier polls that are missing now, or changed, are deleted unless they are done.

        Args:
            listed: (name, time of modification, size in bytes) of all files that match the pattern.

        Returns:
            The listed files with their states, the oldest first.
        """
        files = {(name, times.to_micros(modified), size) for name, modified, size in listed}

        def work(connection: Connection) -> list[OptOutFile]:
            now = self._session.now()
            before = connection.execute(_ALL).all()
            known = {(row.name, row.modified_at, row.size): row for row in before}
            at = [_F.name == sa.bindparam("n"), _F.modified_at == sa.bindparam("m"), _F.size == sa.bindparam("s")]
            left = [key for key, row in known.items() if key not in files and row.state != FileState.DONE]
            if left:
                missing = [{"n": name, "m": modified, "s": size} for name, modified, size in left]
                connection.execute(sa.delete(opt_out_tables.opt_out_file).where(*at), missing)
            for key in files:
                name, modified, size = key
                if key in known:
                    file = [_F.name == name, _F.modified_at == modified, _F.size == size]
                    seen_at = min(known[key].seen_at, now)  # the clock may have been set back since
                    seen = sa.update(opt_out_tables.opt_out_file).where(*file).values(seen_at=seen_at, looked_at=now)
                    connection.execute(seen)
                else:
                    values = {"name": name, "modified_at": modified, "size": size, "state": 0}
                    new = self._session.upsert(opt_out_tables.opt_out_file).values(**values, seen_at=now, looked_at=now)
                    connection.execute(new.on_conflict_do_nothing())
            rows = connection.execute(_ALL).all()
            return [_file(row) for row in rows if (row.name, row.modified_at, row.size) in files]

        return self._session.database.write(work)

    def files(self) -> list[OptOutFile]:
        """Return all stored files, the oldest first."""
        return [_file(row) for row in self._session.rows(_ALL)]

    def file_done(self, file: OptOutFile, counts: Mapping[str, int]) -> None:
        """Store that a file was processed completely. counts: added to today's opt-out counts."""
        self._end(file, FileState.DONE, None, counts)

    def file_refused(self, file: OptOutFile, reason: str) -> None:
        """Store that a file was rejected as a whole."""
        self._end(file, FileState.REJECTED, reason, {})

    def _end(self, file: OptOutFile, state: FileState, reason: str | None, counts: Mapping[str, int]) -> None:
        def work(connection: Connection) -> None:
            now = self._session.now()
            ended = {"state": int(state), "done_at": now, "reason": reason}
            new = self._session.upsert(opt_out_tables.opt_out_file).values(
                name=file.name,
                modified_at=times.to_micros(file.modified),
                size=file.size,
                seen_at=times.to_micros(file.seen_at),
                looked_at=times.to_micros(file.looked_at),
                **ended,
            )
            connection.execute(new.on_conflict_do_update(index_elements=["name", "modified_at", "size"], set_=ended))
            self._rows.add_counts(connection, counts)

        self._session.database.write(work)

    def retry_files(self) -> int:
        """Make rejected files due for processing again; return how many."""

        def work(connection: Connection) -> int:
            again = sa.update(opt_out_tables.opt_out_file).where(_F.state == FileState.REJECTED.value)
            return connection.execute(again.values(state=FileState.SEEN.value, reason=None, done_at=None)).rowcount

        return self._session.database.write(work)

    def last_noted(self, event: str) -> datetime | None:
        """Return when an event (POLL or RESTART) was last stored."""
        return times.instant(self._session.scalar(sa.select(sa.func.max(_F.modified_at)).where(_F.name == event)))

    def note(self, event: str, moment: datetime) -> None:
        """Store an event (POLL or RESTART); only the last one is kept, and none of the future.

        A time in the future is that of a clock that was set back since.
        """

        def work(connection: Connection) -> None:
            at = times.to_micros(moment)
            other = sa.or_(_F.modified_at < at, _F.modified_at > max(at, self._session.now()))
            connection.execute(sa.delete(opt_out_tables.opt_out_file).where(_F.name == event, other))
            values = {"name": event, "modified_at": at, "size": 0, "seen_at": at, "looked_at": at, "state": 1}
            connection.execute(
                self._session.upsert(opt_out_tables.opt_out_file).values(values).on_conflict_do_nothing()
            )

        self._session.database.write(work)


def _file(row: sa.Row[tuple[object, ...]]) -> OptOutFile:
    done = row.done_at
    return OptOutFile(
        name=row.name,
        modified=times.from_micros(row.modified_at),
        size=row.size,
        seen_at=times.from_micros(row.seen_at),
        looked_at=times.from_micros(row.looked_at),
        state=FileState(row.state),
        done_at=times.instant(done),
        reason=row.reason,
    )
