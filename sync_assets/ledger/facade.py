"""Combine all repositories of the ledger into one class, `Ledger`, which the rest of the program uses."""

from collections.abc import Callable
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

from sync_assets.ledger.records.acknowledged_links import AcknowledgedLinks
from sync_assets.ledger.records.blocked_records import BlockedRecords
from sync_assets.ledger.records.captures import Captures
from sync_assets.ledger.records.claims import Claims
from sync_assets.ledger.records.deletions import Deletions
from sync_assets.ledger.records.dependency_status import DependencyStatus
from sync_assets.ledger.records.feeds import Feeds
from sync_assets.ledger.records.hold_records import HoldRecords
from sync_assets.ledger.records.privacy_holds import Holds
from sync_assets.ledger.records.rebuilds import Rebuilds
from sync_assets.ledger.records.replays import Replays
from sync_assets.ledger.records.targets import Targets
from sync_assets.ledger.repositories.adobe_migration import AdobeMigration
from sync_assets.ledger.repositories.call_limits import CallLimits
from sync_assets.ledger.repositories.dialect_findings import DialectFindings
from sync_assets.ledger.repositories.maintenance import Maintenance
from sync_assets.ledger.repositories.mapping_changes import MappingChanges
from sync_assets.ledger.repositories.opt_out_files import OptOutFiles
from sync_assets.ledger.repositories.opt_out_rows import OptOutRows
from sync_assets.ledger.repositories.opt_outs import OptOuts
from sync_assets.ledger.repositories.record_history import RecordHistory
from sync_assets.ledger.repositories.reports import Reports
from sync_assets.ledger.repositories.runs import Runs
from sync_assets.ledger.repositories.sessions import Sessions
from sync_assets.ledger.repositories.stored_records import StoredRecords
from sync_assets.ledger.repositories.systems import Systems
from sync_assets.ledger.storage.database import Database
from sync_assets.ledger.storage.migrate import migrate
from sync_assets.ledger.storage.payload_cipher import PayloadCipher
from sync_assets.ledger.storage.session import HORIZON_SECONDS, Clock, LedgerSession

REWRITTEN_UP_TO = 128 * 1024 * 1024
"""Most bytes of an SQLite ledger that is vacuumed after payloads were erased: about half a million synced records, half
a second. For larger ledgers use PostgreSQL, whose autovacuum does that by itself."""


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Ledger:
    """The desired and acknowledged state of every record, and the cursor of each change feed.

    A facade: each method is that of the repository which implements it. Threads may share one instance. Any number of
    processes may have the same ledger open.
    """

    def __init__(  # noqa: PLR0915 - a table of names
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
        sessions = Sessions(session)
        maintenance = Maintenance(session)
        feeds = Feeds(session, sessions, maintenance)
        hold_records = HoldRecords(session)
        dependencies = DependencyStatus(session, hold_records)
        opt_out_rows = OptOutRows(session)
        history = RecordHistory(session)
        deletions = Deletions(session, dependencies)
        captures = Captures(session, sessions, feeds, deletions, dependencies, opt_out_rows, history)
        claims = Claims(session, sessions, maintenance, dependencies, opt_out_rows, history)
        replays = Replays(session, feeds)
        rebuilds = Rebuilds(session, sessions, feeds, dependencies)
        targets = Targets(session, feeds, dependencies)
        holds = Holds(session, hold_records, dependencies, opt_out_rows)
        links = AcknowledgedLinks(session, dependencies)
        blocked = BlockedRecords(session)
        opt_outs = OptOuts(session, sessions, opt_out_rows)
        files = OptOutFiles(session, opt_out_rows)
        limits = CallLimits(session, sessions)
        dialect = DialectFindings(session)
        adobe_migration = AdobeMigration(session)
        mappings = MappingChanges(session)
        reports = Reports(session)
        runs = Runs(session, sessions)
        stored = StoredRecords(session)
        systems = Systems(session)
        self._session = session
        self._sessions = sessions

        # Sessions of workers
        self.open_session = sessions.open_session
        self.renew_session = sessions.renew_session
        self.end_session = sessions.end_session
        self.expire_sessions = sessions.expire_sessions
        self.sessions = sessions.sessions
        self.number = sessions.number
        self.raise_number = sessions.raise_number

        # Captured rows
        self.feed = feeds.feed
        self.reset_feed = feeds.reset_feed
        self.keep_link = feeds.keep_link
        self.shrink_pages = feeds.shrink_pages
        self.note_poll = feeds.note_poll
        self.approve_deletes = feeds.approve_deletes
        self.lease_feed = feeds.lease_feed
        self.release_feed = feeds.release_feed
        self.save_page = captures.save_page
        self.same_rows = captures.same_rows
        self.new_page = captures.new_page
        self.replay = replays.replay
        self.ask_for_replay = replays.ask_for_replay
        self.advance_replay = replays.advance_replay
        self.drop_replay = replays.drop_replay
        self.replay_everything = replays.replay_everything
        self.capture_wanted = replays.capture_wanted
        self.carry_out_deletes = deletions.carry_out_deletes
        self.count_orphans_of_deletes = deletions.count_orphans_of_deletes
        self.change_mapping = mappings.change_mapping
        self.target = targets.target
        self.count_sent = targets.count_sent
        self.change_target = targets.change_target

        # Requests to Campaign, and their outcomes
        self.claim = claims.claim
        self.release = claims.release
        self.acknowledge = claims.acknowledge
        self.count_calls = claims.count_calls
        self.retry = claims.retry
        self.acknowledged_links = links.acknowledged_links
        self.one_acknowledged_link = links.one_acknowledged_link
        self.send_links_again = links.send_links_again
        self.waiting_reasons = blocked.waiting_reasons
        self.oldest_waiting = blocked.oldest_waiting
        self.waiting_parents = blocked.waiting_parents
        self.waiting = blocked.waiting
        self.orphans = blocked.orphans
        self.ids_to_refetch = blocked.ids_to_refetch
        self.dialect = dialect.dialect
        self.note_dialect = dialect.note_dialect
        self.forget_dialect = dialect.forget_dialect
        self.workers = limits.workers
        self.lease_slots = limits.lease_slots
        self.release_slots = limits.release_slots
        self.reserve_starts = limits.reserve_starts
        self.reserve_calls = limits.reserve_calls
        self.return_calls = limits.return_calls
        self.calls_taken = limits.calls_taken
        self.busiest_hour = limits.busiest_hour

        # What Campaign holds already
        self.rebuild = rebuilds.rebuild
        self.begin_rebuild = rebuilds.begin_rebuild
        self.begin_listing = rebuilds.begin_listing
        self.lease_listing = rebuilds.lease_listing
        self.release_listing = rebuilds.release_listing
        self.put_rebuild = rebuilds.put_rebuild
        self.end_rebuild = rebuilds.end_rebuild
        self.claim_found = rebuilds.claim_found

        # Privacy holds, opt-outs
        self.hold = holds.hold
        self.add_to_hold = holds.add_to_hold
        self.end_hold = holds.end_hold
        self.holds = holds.holds
        self.held_since = holds.held_since
        self.records_of_hold = holds.records_of_hold
        self.is_known = holds.is_known
        self.related = holds.related
        self.store_stated_opt_outs = opt_outs.store_stated_opt_outs
        self.opt_outs_due = opt_outs.opt_outs_due
        self.opt_outs_of = opt_outs.opt_outs_of
        self.claim_opt_outs = opt_outs.claim_opt_outs
        self.release_opt_outs = opt_outs.release_opt_outs
        self.put_opt_outs = opt_outs.put_opt_outs
        self.retry_opt_outs = opt_outs.retry_opt_outs
        self.reconsider_opt_outs = opt_outs.reconsider_opt_outs
        self.opt_outs_left = opt_outs.opt_outs_left
        self.refused_opt_outs = opt_outs.refused_opt_outs
        self.opt_out_counts = opt_outs.opt_out_counts
        self.note_files = files.note_files
        self.files = files.files
        self.file_done = files.file_done
        self.file_refused = files.file_refused
        self.retry_files = files.retry_files
        self.last_noted = files.last_noted
        self.note = files.note

        # Operations
        self.begin_maintenance = maintenance.begin_maintenance
        self.end_maintenance = maintenance.end_maintenance
        self.in_maintenance = maintenance.in_maintenance
        self.known_types = maintenance.known_types
        self.note_types = maintenance.note_types
        self.begin_run = runs.begin_run
        self.end_run = runs.end_run
        self.give_up_run = runs.give_up_run
        self.heartbeats = runs.heartbeats
        self.count_captured = runs.count_captured
        self.forget_confirmation = runs.forget_confirmation
        self.confirmed_at = runs.confirmed_at
        self.captured_rows = runs.captured_rows
        self.first_captured_day = runs.first_captured_day
        self.add_day_counts = runs.add_day_counts
        self.day_counts = runs.day_counts
        self.keep_history = history.keep_history
        self.history = history.history
        self.prune_entries = history.prune_entries
        self.identity = systems.identity
        self.is_empty = systems.is_empty
        self.systems = systems.systems
        self.note_system = systems.note_system
        self.replace_system = systems.replace_system
        self.migration_steps = adobe_migration.migration_steps
        self.note_migration_step = adobe_migration.note_migration_step
        self.forget_migration_steps = adobe_migration.forget_migration_steps
        self.stored_record = stored.stored_record
        self.counts = reports.counts
        self.backlog = reports.backlog
        self.pending_operations = reports.pending_operations
        self.one_acknowledged = reports.one_acknowledged
        self.oldest_pending = reports.oldest_pending
        self.next_due = reports.next_due
        self.unconfirmed_until = reports.unconfirmed_until
        self.retried = reports.retried
        self.retried_records = reports.retried_records
        self.rejects = reports.rejects
        self.reject_reasons = reports.reject_reasons
        self.sample_synced = reports.sample_synced
        self.acked_hashes = reports.acked_hashes
        self.engine_calls = reports.engine_calls
        self.engine_calls_by_day = reports.engine_calls_by_day
        self.engine_calls_by_table = reports.engine_calls_by_table
        self.first_engine_calls = reports.first_engine_calls

    made = False
    """True if `open` created the ledger."""

    def remember_numbers(self, remember: Callable[[int], None]) -> None:
        """Call `remember` with the ledger's number (see `number`) after each change of it."""
        self._sessions.remember = remember

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
        clock: Clock = _utc_now,
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
        if self._session.erased and not any(counts.pending for counts in self.counts().values()):
            self._session.database.rewrite(REWRITTEN_UP_TO)
        self._session.database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
