"""Combine all repositories of the ledger into one class, `Ledger`, which the rest of the program uses."""

from datetime import UTC, datetime
from types import TracebackType
from typing import Self

from sync_assets.ledger.records.acknowledged_links import AcknowledgedLinks
from sync_assets.ledger.records.blocked_records import BlockedRecords
from sync_assets.ledger.records.captures import Captures
from sync_assets.ledger.records.claims import Claims
from sync_assets.ledger.records.holds import Holds
from sync_assets.ledger.records.rebuilds import Rebuilds
from sync_assets.ledger.records.replays import Replays
from sync_assets.ledger.repositories.base import Clock
from sync_assets.ledger.repositories.call_limits import CallLimits
from sync_assets.ledger.repositories.dialect_findings import DialectFindings
from sync_assets.ledger.repositories.mapping_changes import MappingChanges
from sync_assets.ledger.repositories.opt_out_files import OptOutFiles
from sync_assets.ledger.repositories.opt_outs import OptOuts
from sync_assets.ledger.repositories.reports import Reports
from sync_assets.ledger.repositories.runs import Runs
from sync_assets.ledger.repositories.systems import Systems
from sync_assets.ledger.storage.database import Database
from sync_assets.ledger.storage.migrate import migrate

REWRITTEN_UP_TO = 128 * 1024 * 1024
"""Most bytes of an SQLite ledger that is vacuumed after payloads were erased: about half a million synced records, half
a second. For larger ledgers use PostgreSQL, whose autovacuum does that by itself."""


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Ledger(
    AcknowledgedLinks,
    CallLimits,
    Captures,
    Claims,
    DialectFindings,
    Holds,
    MappingChanges,
    OptOuts,
    OptOutFiles,
    Rebuilds,
    Replays,
    Reports,
    Runs,
    Systems,
    BlockedRecords,
):
    """The desired and acknowledged state of every record, and the cursor of each change feed.

    Threads may share one instance. Any number of processes may have the same ledger open; their clocks should agree
    within seconds, since leases end by them.
    """

    made = False
    """True if `open` created the ledger."""

    @property
    def where(self) -> str:
        """The file, or host and database, to be shown to users. Holds no password."""
        return self._database.location

    @classmethod
    def open(cls, url: str, *, clock: Clock = _utc_now) -> Self:
        """Open the ledger; create it or upgrade its schema if necessary.

        Args:
            url: an SQLAlchemy URL, `sqlite:///path` or `postgresql+psycopg://...`.
            clock: returns the current time with a time zone.

        Raises:
            LedgerError: the URL is wrong, the file can't be written, the server can't be reached, or a newer version
                has written the ledger.
        """
        database = Database(url)
        try:
            made = migrate(database)
        except BaseException:
            database.close()
            raise
        ledger = cls(database, clock)
        ledger.made = made
        return ledger

    def close(self) -> None:
        """Close the ledger. SQLite: also vacuum away erased payloads, if nothing is pending and the file is small."""
        if self._erased and not any(counts.pending for counts in self.counts().values()):
            self._database.rewrite(REWRITTEN_UP_TO)
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
