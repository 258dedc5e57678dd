"""Store a captured page of D365 rows: records, deletions, links and opt-outs, with the cursor after the page.

Here: what a page changes. How a row changes its record is computed by rules/transitions.py; deletions are carried out
by deletions.py when the read is at its end.

Invariant: a page and its cursor are stored in one transaction.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy.engine import Connection

from sync_assets.config.values import CONTACT
from sync_assets.ledger.model import ANY_ATTRIBUTE, LinkSpec, Loss, PageResult, Position, State
from sync_assets.ledger.records.deletions import MOVE, NOT_COLLECTED, Deletions
from sync_assets.ledger.records.dependency_status import DependencyStatus
from sync_assets.ledger.records.feeds import Feeds, ReadMode
from sync_assets.ledger.repositories.opt_out_rows import OptOutRows
from sync_assets.ledger.repositories.record_history import RecordHistory
from sync_assets.ledger.repositories.sessions import Sessions
from sync_assets.ledger.rules import transitions
from sync_assets.ledger.rules.record_state import RecordState
from sync_assets.ledger.storage.bulk import StoredRow
from sync_assets.ledger.storage.session import LedgerSession, TotalsChange

if TYPE_CHECKING:
    import polars as pl

    from sync_assets.ledger.prepared_page import CapturedPage, EarlierRow, LedgerPage

LARGE_PAGE = 1000
"""Rows from which a page is a large transaction for SQLite's write-ahead log, see Database.write."""

# Links of a table whose configuration changed, on records that no page of a full read returned.
_OTHER_LINKS = """
    SELECT l.seq FROM sync_link l JOIN sync_record r ON r.seq = l.seq
    WHERE r.table_name = ? AND l.attribute = ?
        AND (l.parent_table = '' OR l.required <> ? OR l.keyed <> ? OR l.keep_orphans <> ?)
"""
_CHANGE_LINK = """
    UPDATE sync_link SET parent_table = coalesce(nullif(parent_table, ''), ?), required = ?, keyed = ?, keep_orphans = ?
    WHERE seq = ? AND attribute = ?
"""
_VERSIONS = "SELECT id, row_version FROM sync_record WHERE table_name = ? AND id"
_EXISTING = f"AND desired_hash IS NOT NULL AND {NOT_COLLECTED}"


class Captures:
    """Writes captured pages."""

    def __init__(
        self,
        session: LedgerSession,
        sessions: Sessions,
        feeds: Feeds,
        deletions: Deletions,
        dependencies: DependencyStatus,
        opt_outs: OptOutRows,
        history: RecordHistory,
    ) -> None:
        self._session = session
        self._sessions = sessions
        self._feeds = feeds
        self._deletions = deletions
        self._dependencies = dependencies
        self._opt_outs = opt_outs
        self._history = history

    def save_page(
        self,
        table: str,
        page: "CapturedPage",
        position: Position | None,
        expected_version: int | None,
        *,
        session: int,
        resend: bool = False,
        replay: bool = False,
        missing_are_deleted: bool = False,
    ) -> PageResult:
        """Store a page and the cursor after it in one transaction.

        Of an unchanged row only its version is written, if that is another one.

        Args:
            table: logical name in Dataverse.
            page: the rows and deletions. Deletions are carried out later, see `carry_out_deletes`.
            position: the cursor after the page. None leaves it where it is, for rows that were read outside the feed.
            expected_version: the feed's version when the page was read; None before the first page.
            session: epoch of the session that captures.
            resend: send the rows again even if they are unchanged. Also if the feed requests it for the read under way.
            replay: send rows also if only fields differ that updates leave out. Also if the feed requests it.
            missing_are_deleted: when a full read is complete, the rows that it did not return are deleted. If False
                they are out of scope.

        Raises:
            FeedMoved: the feed's version is another, or belongs to another full read.
            SessionExpired: of the session.
            ValueError: the columns of the rows are not those of CapturedPage, or an id occurs twice.
        """
        from sync_assets.ledger.prepared_page import LedgerPage  # noqa: PLC0415 - Polars is slow to import

        rows = page.rows if isinstance(page.rows, LedgerPage) else LedgerPage(page.rows, page.links)
        deleted = list(dict.fromkeys(page.deleted))
        not_wanted = [*deleted, *page.out_of_scope]

        def work(connection: Connection) -> PageResult:
            self._sessions.require(connection, session)
            now = self._session.now()
            tally = TotalsChange()
            if position is None:
                feed, reading = self._feeds.touch(connection, table, expected_version), ReadMode()
            else:
                feed, reading = self._feeds.advance(connection, table, position, expected_version, now)
            again = resend or reading.resend
            whole = rows.insert_only and (replay or reading.replay)
            bound = reading.bound
            last_page = position is not None and position.complete
            self._dependencies.lock_linked_records(connection, first_links=bool(page.links))
            stored = self._session.bulk.stored_rows(connection, table, rows, everything=again or whole)
            resent = {row.seq for row in stored} if again else set[int]()
            if whole:
                resent |= self._otherwise_inserted(connection, rows, stored)
            earlier = self._under_earlier_mapping(connection, rows, stored) if rows.after_change else {}
            new, changed, invalid, moved = self._store(connection, table, rows, stored, resent, earlier, now, tally)
            if invalid and self._history.kept:
                self._history.invalid_rows(connection, table, moved, now)
            deletes = self._delete(connection, table, deleted, tally)
            self._put_out_of_scope(connection, table, page.out_of_scope, tally)
            self._store_versions(connection, table, page.filtered_out)
            if bound is not None:
                self._deletions.note_seen(connection, table, [row.seq for row in stored], page.out_of_scope)
            self._drop_collected(connection, table, [*rows.ids, *page.out_of_scope], deleted)
            if bound is not None and last_page:
                self._deletions.note_missing(connection, table, bound, out_of_scope=not missing_are_deleted)
            if page.links or self._dependencies.has_links(connection):
                self._deletions.mark_lost(connection, table, not_wanted, Loss.DELETED)
                self._deletions.mark_lost(connection, table, [*page.filtered_out], Loss.FILTERED_OUT)
                self._store_links(connection, table, rows, moved, everything=bound is not None, tally=tally)
                if bound is not None and last_page:
                    self._apply_link_configuration(connection, table, page.links, tally)
            self._session.count(connection, tally)
            if table == CONTACT:
                if page.opt_outs is None:
                    self._opt_outs.reconsider_returned(connection, rows.ids)
                else:
                    self._opt_outs.apply_captured(
                        connection, page.opt_outs, [*page.filtered_out], are_fields=page.opt_outs_are_fields
                    )
                self._opt_outs.forget(connection, deleted)
            return PageResult(
                new=new,
                changed=changed,
                unchanged=len(rows.ids) - new - changed - invalid,
                invalid=invalid,
                deleted=deletes,
                version=feed.version,
                feed=feed,
            )

        return self._session.database.write(work, large=len(rows.ids) >= LARGE_PAGE)

    def row_versions(self, table: str, ids: Sequence[str], *, above: int) -> dict[str, int]:
        """Return by id the versions captured last, of those of the ids for which it is higher than `above`."""
        with self._session.database.read() as connection:
            newer = self._session.bulk.for_record_ids(
                connection, _VERSIONS, ids, table, above, also="AND row_version > ?"
            )
        return {row[0]: row[1] for row in newer}

    def ids_to_read(self, table: str, versions: Mapping[str, int | None], deleted: Sequence[str]) -> list[str]:
        """Return the ids of changes that are not captured yet, as far as versions show.

        Args:
            table: logical name in Dataverse.
            versions: of changed rows, by id.
            deleted: ids of tombstones. Those without a record, or of a record that is to be deleted, are captured.
        """
        ids = [*versions, *deleted]
        with self._session.database.read() as connection:
            known = self._session.bulk.for_record_ids(connection, _VERSIONS, ids, table, table, also=_EXISTING)
        stored: dict[str, int | None] = {row[0]: row[1] for row in known}
        changed = [id_ for id_, version in versions.items() if version is None or (stored.get(id_) or -1) < version]
        return list(dict.fromkeys([*changed, *(id_ for id_ in deleted if id_ in stored)]))

    def _encrypted(self, records: "pl.DataFrame") -> "pl.DataFrame":
        encrypt, ids = self._session.cipher.encrypt_column, records["id"]
        return records.with_columns(encrypt(records[name], ids) for name in ("payload", "update_payload"))

    def _encrypted_move(self, move: transitions.DesiredUpdate, id_: str) -> tuple[Any, ...]:
        encrypt = self._session.cipher.encrypt
        payloads = {"payload": encrypt(move.payload, id_), "update_payload": encrypt(move.update_payload, id_)}
        return move._replace(**payloads)

    def _store(
        self,
        connection: Connection,
        table: str,
        page: "LedgerPage",
        stored: Sequence[StoredRow],
        resend: set[int],
        earlier: Mapping[int, "EarlierRow"],
        now: int,
        tally: TotalsChange,
    ) -> tuple[int, int, int, list[str]]:
        """Insert and update the records of a page's rows.

        Args:
            connection: of the transaction.
            table: logical name in Dataverse.
            page: the rows.
            stored: those of the rows that have a record.
            resend: seqs of records that are sent again even if their row is unchanged.
            earlier: by seq the rows under the mapping with which Campaign acknowledged them.
            now: microseconds since 1970.
            tally: receives the changes of the totals.

        Returns:
            The numbers of new, changed and invalid rows, and the ids of all these.
        """
        cipher = self._session.cipher
        known = {row.seq: row.at for row in stored if row.differs}
        moves: list[transitions.DesiredUpdate] = []
        ids: list[str] = []
        to_insert: list[tuple[int | None, int]] = []
        acknowledged: list[tuple[bytes, int]] = []
        for record in self._session.bulk.states_of(connection, list(known)):
            row = page.row(known.pop(record.seq))
            # A payload whose key is lost counts as changed, and is replaced.
            before = record._replace(payload=cipher.decrypt_if_possible(record.payload, record.id))
            again = record.seq in resend
            if (under := earlier.get(record.seq)) and transitions.holds_acknowledged(record, row) and not again:
                if under.difference is None:
                    before = before._replace(acked_hash=row.hash)
                else:
                    row = row._replace(update_payload=under.difference)
            move = transitions.after_capture(before, row, resend=again, now=now)
            if move is not None:
                if before.acked_hash != record.acked_hash:
                    acknowledged.append((row.hash, record.seq))
                if page.insert_only and transitions.sends_all(record, move):
                    to_insert.append((row.insert_only_hash, record.seq))
                moves.append(move)
                ids.append(record.id)
                tally.move(record, move.state)
        encrypted = [self._encrypted_move(move, id_) for move, id_ in zip(moves, ids, strict=True)]
        self._session.bulk.for_each(connection, MOVE, encrypted)
        self._session.bulk.for_each(connection, "UPDATE sync_record SET acked_hash = ? WHERE seq = ?", acknowledged)
        self._session.bulk.for_each(connection, "UPDATE sync_record SET insert_only_hash = ? WHERE seq = ?", to_insert)
        versions = [(page.row_versions[row.at], row.seq) for row in stored if row.other_version]
        self._session.bulk.for_each(connection, "UPDATE sync_record SET row_version = ? WHERE seq = ?", versions)
        # Records left in `known` were purged between the two queries, when their delete was acknowledged: insert them.
        existing = {row.at for row in stored}.difference(known.values())
        fresh = [index for index in range(len(page.ids)) if index not in existing]
        failed = 0
        if fresh:
            records = self._encrypted(page.records(fresh, table, now))
            self._session.bulk.insert(connection, records)
            ids += records["id"].to_list()
            for state, number in records.group_by("state").len().rows():
                tally.add(table, state, number)
                failed += number if state == State.REJECTED else 0
        invalid = sum(move.validation_error is not None for move in moves)
        changed = len(moves) - invalid - len(acknowledged)
        return len(fresh) - failed, changed, invalid + failed, ids

    def _under_earlier_mapping(
        self, connection: Connection, page: "LedgerPage", stored: Sequence[StoredRow]
    ) -> dict[int, "EarlierRow"]:
        """Return by seq the rows under the mapping with which Campaign acknowledged them, and store left attributes."""
        at = {row.seq: row.at for row in stored}
        columns = "SELECT seq, acked_hash, left_attributes FROM sync_record"
        acknowledged = self._session.bulk.for_seqs(connection, columns, list(at), also="AND acked_hash IS NOT NULL")
        rows: dict[int, EarlierRow] = {}
        left: list[tuple[str | None, int]] = []
        for seq, acked_hash, left_attributes in acknowledged:
            row = page.earlier_row(at[seq], bytes(acked_hash), left_attributes)
            if row is not None:
                rows[seq] = row
            now_left = row.left_attributes if row else ANY_ATTRIBUTE
            if now_left != left_attributes and (row or acked_hash.hex() != page.hashes[at[seq]]):
                left.append((now_left, seq))
        self._session.bulk.for_each(connection, "UPDATE sync_record SET left_attributes = ? WHERE seq = ?", left)
        return rows

    def _otherwise_inserted(self, connection: Connection, page: "LedgerPage", stored: Sequence[StoredRow]) -> set[int]:
        """Return the seqs of acknowledged records whose insert-only fields differ, or whose values were not stored."""
        acknowledged = "SELECT seq, insert_only_hash FROM sync_record"
        hashes = self._session.bulk.for_seqs(
            connection, acknowledged, [row.seq for row in stored], also="AND acked_hash IS NOT NULL"
        )
        sent: dict[int, int | None] = dict(hashes)
        return {row.seq for row in stored if row.seq in sent and sent[row.seq] != page.insert_only_hashes[row.at]}

    def _delete(self, connection: Connection, table: str, ids: list[str], tally: TotalsChange) -> int:
        """Collect the deletes of these ids; return how many had a record whose row was not deleted so far.

        Records that Campaign never held are purged at once.
        """
        seqs = list(self._session.bulk.find(connection, table, ids).values())
        never_sent = [
            record.seq for record in self._session.bulk.states_of(connection, seqs) if transitions.is_purgeable(record)
        ]
        self._deletions.mark_deleted_or_out_of_scope(connection, never_sent, tally, out_of_scope=False)
        return len(never_sent) + self._deletions.collect(connection, table, seqs)

    def _put_out_of_scope(self, connection: Connection, table: str, ids: Sequence[str], tally: TotalsChange) -> None:
        """Mark the records of these ids as out of scope."""
        seqs = list(self._session.bulk.find(connection, table, ids).values())
        self._deletions.mark_deleted_or_out_of_scope(connection, seqs, tally, out_of_scope=True)

    def _store_versions(self, connection: Connection, table: str, versions: Mapping[str, int | None]) -> None:
        """Store the versions of rows outside the filter with their records."""
        seqs = self._session.bulk.find(connection, table, [*versions])
        values = [(versions[id_], seq, versions[id_]) for id_, seq in seqs.items()]
        differs = "UPDATE sync_record SET row_version = ? WHERE seq = ? AND (row_version = ?) IS NOT TRUE"
        self._session.bulk.for_each(connection, differs, values)

    def _drop_collected(self, connection: Connection, table: str, ids: Sequence[str], deleted: Sequence[str]) -> None:
        """Remove the rows of this page from the collected deletions, unless the page itself deletes them."""
        if self._deletions.has_collected(connection, table):
            deleted_here = set(deleted)
            self._deletions.discard_collected_deletes(
                connection, table, [id_ for id_ in ids if id_ not in deleted_here]
            )

    def _store_links(
        self,
        connection: Connection,
        table: str,
        page: "LedgerPage",
        moved: list[str],
        *,
        everything: bool,
        tally: TotalsChange,
    ) -> None:
        """Store the links of changed rows, and re-evaluate these records with their parents and children.

        everything: of all rows, as in a full read, since the configuration of the links may have changed. Links that do
        not apply updates stay as they are if the record is acknowledged, unless it is sent again or orphaned.
        """
        once = not all(link.apply_updates for link in page.links)  # then the hash does not cover the lookups
        seqs = self._session.bulk.find(connection, table, page.ids if everything or once else moved)
        if not seqs:
            return
        records: list[RecordState] = self._session.bulk.states_of(connection, sorted(seqs.values()))
        # A link may no longer be configured.
        former_neighbours = self._dependencies.neighbours(connection, records) if everything else set[int]()
        in_doubt = [record.seq for record in records if record.outcome_unknown or record.unknown_until]
        acked = [record for record in records if record.acked_hash is not None and not record.orphaned]
        kept = [seqs.pop(record.id) for record in acked if once and not record.resend]
        parents = {seqs[id_]: ids for id_, ids in page.parents(seqs)}
        if everything:
            self._deletions.discard_collected_orphans(connection, [*parents])
        self._dependencies.stored_links.put_links(connection, page.links, parents, in_doubt, kept)
        self._dependencies.reevaluate(
            connection, records, (), tally, also=former_neighbours, collect_orphans=everything
        )

    def _apply_link_configuration(
        self, connection: Connection, table: str, links: Sequence[LinkSpec], tally: TotalsChange
    ) -> None:
        """Apply changed settings of links to records that the full read did not return, and re-evaluate these."""
        for link in links:
            values = int(link.required), int(link.keyed), int(link.keep_orphans)
            others = self._session.execute(connection, _OTHER_LINKS, (table, link.attribute, *values))
            other = others.scalars().all()
            changes = [(link.parent_table, *values, seq, link.attribute) for seq in other]
            self._session.bulk.for_each(connection, _CHANGE_LINK, changes)
            states = self._session.bulk.states_of(connection, sorted(other))
            self._dependencies.reevaluate(connection, states, (), tally, collect_orphans=True)
