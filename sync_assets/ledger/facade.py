"""Combine all repositories of the ledger in one class, `Ledger`, which the rest of the program uses."""

from collections.abc import Callable
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

from sync_assets.ledger.records.audits import Audits
from sync_assets.ledger.records.blocked_records import BlockedRecords
from sync_assets.ledger.records.captured_rows import CapturedRows
from sync_assets.ledger.records.captures import Captures
from sync_assets.ledger.records.claims import Claims
from sync_assets.ledger.records.consistency import Consistency
from sync_assets.ledger.records.deletions import Deletions
from sync_assets.ledger.records.dependency_status import DependencyStatus
from sync_assets.ledger.records.emptied_columns import EmptiedColumns
from sync_assets.ledger.records.feeds import Feeds
from sync_assets.ledger.records.hold_records import HoldRecords
from sync_assets.ledger.records.loads import Loads
from sync_assets.ledger.records.planned import Planned
from sync_assets.ledger.records.privacy_holds import Holds
from sync_assets.ledger.records.rebuilds import Rebuilds
from sync_assets.ledger.records.replays import Replays
from sync_assets.ledger.records.stored_links import StoredLinks
from sync_assets.ledger.records.targets import Targets
from sync_assets.ledger.repositories.call_limits import CallLimits
from sync_assets.ledger.repositories.leases import Leases
from sync_assets.ledger.repositories.maintenance import Maintenance
from sync_assets.ledger.repositories.merged_contacts import MergedContacts
from sync_assets.ledger.repositories.notes import Facts, MappingChanges, Systems
from sync_assets.ledger.repositories.opt_out_decisions import OptOutDecisions
from sync_assets.ledger.repositories.opt_out_files import OptOutFiles
from sync_assets.ledger.repositories.opt_out_rows import OptOutRows
from sync_assets.ledger.repositories.opt_outs import OptOuts
from sync_assets.ledger.repositories.record_history import RecordHistory
from sync_assets.ledger.repositories.reports import DayCounts, Reports
from sync_assets.ledger.repositories.results import Results
from sync_assets.ledger.repositories.sessions import Runs, Sessions
from sync_assets.ledger.repositories.stored_records import StoredRecords
from sync_assets.ledger.storage.database import Database
from sync_assets.ledger.storage.migrate import migrate
from sync_assets.ledger.storage.payload_cipher import PayloadCipher
from sync_assets.ledger.storage.session import HORIZON_SECONDS, Clock, LedgerSession

REWRITTEN_UP_TO = 128 * 1024 * 1024
"""Most bytes of an SQLite ledger that is vacuumed after payloads were erased: about half a million synced records, half
a second. For larger ledgers use PostgreSQL, whose autovacuum does that by itself."""


class Ledger:
    """The desired and acknowledged state of every record, and the cursor of each change feed.

    Its parts are repositories; each method of one is a transaction of its own. Threads may share one instance. Any
    number of processes may have the same ledger open.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        *,
        cipher: PayloadCipher | None = None,
        horizon_seconds: float = HORIZON_SECONDS,
        alone: bool = False,
    ) -> None:
        """alone: the database is a copy that no other process uses."""
        session = LedgerSession(database, clock, cipher=cipher, horizon_seconds=horizon_seconds, alone=alone)
        hold_records = HoldRecords(session)
        opt_out_rows, self.opt_out_decisions = OptOutRows(session), OptOutDecisions(session)
        self.merged = MergedContacts(session, opt_out_rows, self.opt_out_decisions)
        dependencies = DependencyStatus(session, StoredLinks(session), hold_records, opt_out_rows)
        self._session = session
        self.sessions = Sessions(session)
        self.types = Facts(session, "types")
        self.maintenance = Maintenance(session, self.types)
        self.leases = Leases(session, self.sessions, self.maintenance)
        self.history = RecordHistory(session)

        # Captured rows
        self.mappings = MappingChanges(session)
        self.feeds = Feeds(session, self.mappings)
        self.deletions = Deletions(session, dependencies)
        self.emptied = EmptiedColumns(session, dependencies)
        rows = CapturedRows(session, self.emptied, self.history)
        self.captures = Captures(
            session, self.sessions, self.feeds, rows, self.deletions, dependencies, opt_out_rows, self.merged
        )
        self.replays = Replays(session, self.feeds)
        self.dialect = Facts(session, "dialect")
        self.targets = Targets(session, self.feeds, dependencies, self.dialect)

        # Requests to Campaign, and their outcomes
        self.planned = Planned(session)
        self.claims = Claims(
            session, self.sessions, self.maintenance, dependencies, opt_out_rows, self.history, self.planned
        )
        self.links = dependencies
        self.blocked = BlockedRecords(session)
        self.limits = CallLimits(session, self.sessions)
        self.rebuilds = Rebuilds(session, self.sessions, self.feeds, self.claims)
        self.loads = Loads(session, self.sessions, self.maintenance, dependencies, self.claims, self.planned)
        self.audit_progress = Facts(session, "audit")
        self.audits = Audits(session, dependencies, self.audit_progress)

        # Privacy holds and opt-outs
        self.holds = Holds(session, hold_records, dependencies, opt_out_rows)
        self.opt_outs = OptOuts(session, self.sessions, opt_out_rows, self.opt_out_decisions, self.merged)
        self.opt_out_files = OptOutFiles(session)

        # Operations
        self.runs = Runs(session, self.sessions)
        self.systems = Systems(session)
        self.migrations = Facts(session, "migration")
        self.events = Facts(session, "events")
        self.stored = StoredRecords(session)
        self.reports = Reports(session)
        self.results = Results(session)
        self.counts = DayCounts(session)
        self.check = Consistency(session, dependencies, hold_records).check

    made = False
    """True if `open` created the ledger."""

    def remember_numbers(self, remember: Callable[[int], None]) -> None:
        """Call `remember` with the ledger's number (see `number`) after each change of it."""
        self._session.remember = remember

    @property
    def database(self) -> Database:
        """The database, for benchmarks and tests. Everything else calls the methods of the repositories."""
        return self._session.database

    @property
    def where(self) -> str:
        """The file, or host and database, to be shown to users. Holds no password."""
        return self._session.database.location

    @classmethod
    def open(
        cls,
        url: str,
        *,
        clock: Clock = lambda: datetime.now(UTC),
        cipher: PayloadCipher | None = None,
        horizon_seconds: float = HORIZON_SECONDS,
    ) -> Self:
        """Open the ledger; create it or upgrade its schema if necessary.

        Args:
            url: an SQLAlchemy URL, `sqlite:///path` or `postgresql+psycopg://...`.
            clock: returns the current time with a time zone.
            cipher: encrypts payloads; None stores them as they are.
            horizon_seconds: in which a request without an answer may take effect.

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
        ledger = cls(database, clock, cipher=cipher, horizon_seconds=horizon_seconds)
        ledger.made = made
        return ledger

    def close(self) -> None:
        """Close the ledger. SQLite: also vacuum away erased payloads, if nothing is pending and the file is small."""
        if self._session.erased and not any(counts.pending for counts in self.reports.counts().values()):
            self._session.database.rewrite(REWRITTEN_UP_TO)
        self._session.database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
