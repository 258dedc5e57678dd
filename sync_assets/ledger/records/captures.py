"""Store a captured page of D365 rows: records, deletions, links and opt-outs, with the cursor after the page.

Here: what a page changes. How a row changes its record is computed by rules/transitions.py; deletions are carried out
by deletions.py when the read is at its end.

Invariant: a page and its cursor are stored in one transaction.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from sync_assets.config.values import CONTACT
from sync_assets.json_members import without
from sync_assets.ledger.model import ANY_ATTRIBUTE, LinkSpec, Loss, PageResult, Position, Replay, State
from sync_assets.ledger.records.deletions import MOVED, NOT_COLLECTED, Deletions
from sync_assets.ledger.records.dependency_status import DependencyStatus
from sync_assets.ledger.records.emptied_columns import NOTHING_KEPT, EmptiedColumns, Kept
from sync_assets.ledger.records.feeds import Feeds
from sync_assets.ledger.repositories.opt_out_rows import OptOutRows
from sync_assets.ledger.repositories.record_history import RecordHistory
from sync_assets.ledger.repositories.sessions import Sessions
from sync_assets.ledger.rules import transitions
from sync_assets.ledger.rules.predicates import ACKNOWLEDGED, KEEPS_VALUES, PERHAPS_SENT, UNANSWERED
from sync_assets.ledger.rules.record_state import RecordState
from sync_assets.ledger.storage.session import Repository
from sync_assets.ledger.storage.transaction import StoredRow, Transaction

if TYPE_CHECKING:
    import polars as pl

    from sync_assets.ledger.prepared_page import CapturedPage, EarlierRow, LedgerPage

LARGE_PAGE = 1000
"""Rows from which a page is a large transaction for SQLite's write-ahead log, see Database.write."""

# Links of a table whose configuration changed, on records that no page of a full read returned.
_OTHER_LINKS = """
    SELECT l.seq FROM sync_link l JOIN sync_record r ON r.seq = l.seq
    WHERE r.table_name = :table AND l.attribute = :attribute
        AND (l.parent_table = '' OR l.required <> :required OR l.keyed <> :keyed OR l.keep_orphans <> :keep_orphans)
"""
_CHANGE_LINK = """
    UPDATE sync_link SET parent_table = coalesce(nullif(parent_table, ''), ?), required = ?, keyed = ?, keep_orphans = ?
    WHERE seq = ? AND attribute = ?
"""
_MOVE = f"""
    UPDATE sync_record SET {", ".join(f"{name} = ?" for name in MOVED)}, changed_at = ?, payload = ?,
        update_payload = ?, refusable = ?, reason = NULL, not_before = NULL
    WHERE seq = ?
"""  # noqa: S608 - constants
_PARENTS = "SELECT seq, attribute, parent_id FROM sync_link WHERE seq IN :seqs"
_EARLIER = f"""
    SELECT seq, acked_hash, left_attributes, {UNANSWERED | KEEPS_VALUES} FROM sync_record
    WHERE seq IN :seqs AND {PERHAPS_SENT | KEEPS_VALUES}
"""  # noqa: S608 - constants
_INSERT_ONLY = f"SELECT seq, insert_only_hash FROM sync_record WHERE seq IN :seqs AND {ACKNOWLEDGED}"  # noqa: S608
_NEWER = "SELECT id, row_version FROM sync_record WHERE table_name = :table AND id IN :records AND row_version > :above"
_KNOWN = f"""
    SELECT id, row_version FROM sync_record
    WHERE table_name = :table AND id IN :records AND desired_hash IS NOT NULL AND {NOT_COLLECTED}
"""  # noqa: S608


@dataclass(eq=False)
class Captures(Repository):
    """Writes captured pages."""

    _sessions: Sessions
    _feeds: Feeds
    _deletions: Deletions
    _dependencies: DependencyStatus
    _opt_outs: OptOutRows
    _history: RecordHistory
    _emptied: EmptiedColumns

    def save_page(
        self,
        table: str,
        page: "CapturedPage",
        position: Position | None,
        expected_version: int | None,
        *,
        session: int,
        days: Replay | None = None,
        missing_are_deleted: bool = False,
        max_emptied_share: float = 1.0,
    ) -> PageResult:
        """Store a page and the cursor after it in one transaction.

        Of an unchanged row only its version is written, if that is another one.

        Args:
            page: the rows and deletions. Deletions are carried out later, see `carry_out_deletes`.
            position: the cursor after the page. None leaves it where it is, for rows that were read outside the feed.
            expected_version: the feed's version when the page was read; None before the first page.
            days: the replay that the rows are of, see `Feeds.touch`. They are also sent if only fields differ that
                updates leave out, and with its `resend` even if they are unchanged. The feed may request both, too.
            missing_are_deleted: when a full read is complete, the rows that it did not return are deleted. If False
                they are out of scope.
            max_emptied_share: see `EmptiedColumns.guard`.

        Raises:
            FeedMoved: the feed's version is another.
            SessionExpired: of the session.
        """
        rows, links = page.rows, page.rows.links
        not_wanted = [*page.deleted, *page.out_of_scope]

        def work(transaction: Transaction) -> PageResult:
            self._sessions.require(transaction, session)
            now = self._session.now()
            if position is None:
                feed, reading = self._feeds.touch(transaction, table, expected_version, days), None
            else:
                feed, reading = self._feeds.advance(transaction, table, position, expected_version, now)
            again = bool((reading and reading.resend) or (days and days.resend))
            whole = rows.insert_only and bool((reading and reading.replay) or days)
            bound = reading and reading.read_bound
            last_page = position is not None and position.end
            self._dependencies.lock_linked_records(transaction, first_links=bool(links))
            stored = transaction.stored_rows(table, rows, everything=again or whole)
            resent = {row.seq for row in stored} if again else set[int]()
            if whole:
                resent |= self._otherwise_inserted(transaction, rows, stored)
            earlier = self._under_earlier_mapping(transaction, rows, stored) if rows.after_change else {}
            full = bound is not None
            kept = self._emptied.guard(transaction, table, rows, stored, resent, max_emptied_share, full=full)
            new, changed, invalid, moved = self._store(transaction, table, rows, stored, resent, earlier, kept, now)
            if invalid and self._history.kept:
                self._history.invalid_rows(transaction, table, moved, now)
            self._delete(transaction, table, page.deleted)
            left = list(transaction.find(table, page.out_of_scope).values())
            self._deletions.mark_deleted_or_out_of_scope(transaction, left, out_of_scope=True)
            self._store_versions(transaction, table, page.filtered_out)
            if bound is not None:
                self._deletions.note_seen(transaction, table, [row.seq for row in stored], page.out_of_scope)
            still_there = {*rows.ids, *page.out_of_scope}.difference(page.deleted)
            self._deletions.discard_collected_deletes(transaction, table, sorted(still_there))
            if bound is not None and last_page:
                self._deletions.note_missing(transaction, table, bound, out_of_scope=not missing_are_deleted)
            if links or self._dependencies.has_links(transaction):
                self._deletions.mark_lost(transaction, table, not_wanted, Loss.DELETED)
                self._deletions.mark_lost(transaction, table, [*page.filtered_out], Loss.FILTERED_OUT)
                self._store_links(transaction, table, rows, moved, kept, everything=full)
                if bound is not None and last_page:
                    self._apply_link_configuration(transaction, table, links)
            if table == CONTACT:
                self._store_opt_outs(transaction, page, again=full or days is not None)
            return PageResult(
                new=new,
                changed=changed,
                unchanged=len(rows.ids) - new - changed - invalid,
                invalid=invalid,
                feed=feed,
            )

        return self._session.write(work, large=len(rows.ids) >= LARGE_PAGE)

    def _store_opt_outs(self, transaction: Transaction, page: "CapturedPage", *, again: bool) -> None:
        """Store the opt-outs of a page of contacts. again: its rows are read again."""
        if page.opt_outs is None:
            self._opt_outs.reconsider_returned(transaction, page.rows.ids)
        elif page.opt_outs_compared:
            self._opt_outs.compare_captured(transaction, page.opt_outs, again=again)
        else:
            self._opt_outs.apply_captured(
                transaction, page.opt_outs, [*page.filtered_out], are_fields=page.opt_outs_are_fields
            )
        self._opt_outs.forget(transaction, page.deleted)

    def row_versions(self, table: str, ids: Sequence[str], *, above: int) -> dict[str, int]:
        """Return by id the versions captured last, of those of the ids for which it is higher than `above`."""
        with self._session.read() as transaction:
            newer = transaction.run(_NEWER, records=list(ids), table=table, above=above)
        return {row[0]: row[1] for row in newer}

    def ids_to_read(self, table: str, versions: Mapping[str, int | None], deleted: Sequence[str]) -> list[str]:
        """Return the ids of changes that are not captured yet, as far as versions show.

        Args:
            versions: of changed rows, by id.
            deleted: ids of tombstones. Those without a record, or of a record that is to be deleted, are captured.
        """
        ids = [*versions, *deleted]
        with self._session.read() as transaction:
            known = transaction.run(_KNOWN, records=ids, table=table)
        stored: dict[str, int | None] = {row[0]: row[1] for row in known}
        changed = [id_ for id_, version in versions.items() if version is None or (stored.get(id_) or -1) < version]
        return list(dict.fromkeys([*changed, *(id_ for id_ in deleted if id_ in stored)]))

    def _encrypted(self, records: "pl.DataFrame") -> "pl.DataFrame":
        encrypt, ids = self._session.cipher.encrypt_column, records["id"]
        return records.with_columns(encrypt(records[name], ids) for name in ("payload", "update_payload"))

    def _store(
        self,
        transaction: Transaction,
        table: str,
        page: "LedgerPage",
        stored: Sequence[StoredRow],
        resend: set[int],
        earlier: Mapping[int, "EarlierRow"],
        kept: Mapping[int, Kept],
        now: int,
    ) -> tuple[int, int, int, list[str]]:
        """Insert and update the records of a page's rows.

        Args:
            stored: those of the rows that have a record.
            resend: seqs of records that are sent again even if their row is unchanged.
            earlier: by seq the rows under the mapping with which Campaign acknowledged them.
            kept: by seq, the values that Campaign keeps.

        Returns:
            The numbers of new, changed and invalid rows, and the ids of all these.
        """
        cipher = self._session.cipher
        known = {row.seq: row.at for row in stored if row.differs and not kept.get(row.seq, NOTHING_KEPT).unapplied}
        values: list[tuple[Any, ...]] = []
        ids: list[str] = []
        to_insert: list[tuple[int | None, int]] = []
        invalid, acknowledged = 0, 0
        for record in transaction.states_of(list(known)):
            row = page.row(known.pop(record.seq))
            # A payload whose key is lost counts as changed, and is replaced.
            before = record._replace(payload=cipher.decrypt_if_possible(record.payload, record.id))
            again = record.seq in resend
            if (under := earlier.get(record.seq)) and transitions.holds_acknowledged(record, row) and not again:
                if under.difference is None:
                    before = before._replace(acked_hash=row.hash)
                else:
                    row = row._replace(update_payload=under.difference)
            if keeps := kept.get(record.seq):
                row = row._replace(
                    payload=row.payload and without(row.payload, *keeps.attributes),
                    update_payload=row.update_payload and without(row.update_payload, *keeps.attributes),
                )
            move = transitions.after_capture(before, row, resend=again, now=now)
            if move is not None:
                assert move.desired_hash == row.hash
                assert not move.out_of_scope, "its row is in scope"
                acknowledged += before.acked_hash != record.acked_hash
                invalid += move.validation_error is not None
                if page.insert_only and transitions.sends_all(record, move):
                    to_insert.append((row.insert_only_hash, record.seq))
                payloads = (row.payload, row.update_payload) if move.has_payload else (None, None)
                encrypted = [cipher.encrypt(payload, record.id) for payload in payloads]
                values.append((*attrgetter(*MOVED)(move), now, *encrypted, row.refusable, record.seq))
                ids.append(record.id)
                transaction.move(record, move.state)
        transaction.for_each(_MOVE, values)
        transaction.for_each("UPDATE sync_record SET insert_only_hash = ? WHERE seq = ?", to_insert)
        versions = [(page.row_versions[row.at], row.seq) for row in stored if row.other_version]
        transaction.for_each("UPDATE sync_record SET row_version = ? WHERE seq = ?", versions)
        # Records left in `known` were purged between the two queries, when their delete was acknowledged: insert them.
        existing = {row.at for row in stored}.difference(known.values())
        fresh = [index for index in range(len(page.ids)) if index not in existing]
        failed = 0
        if fresh:
            records = self._encrypted(page.records(fresh, table, now))
            transaction.insert_records(records)
            ids += records["id"].to_list()
            for state, number in records.group_by("state").len().rows():
                transaction.count(table, state, number)
                failed += number if state == State.REJECTED else 0
        changed = len(values) - invalid - acknowledged
        return len(fresh) - failed, changed, invalid + failed, ids

    def _under_earlier_mapping(
        self, transaction: Transaction, page: "LedgerPage", stored: Sequence[StoredRow]
    ) -> dict[int, "EarlierRow"]:
        """Return by seq the rows under the mapping with which Campaign acknowledged them, and store left attributes."""
        at = {row.seq: row.at for row in stored}
        rows: dict[int, EarlierRow] = {}
        left: list[tuple[str | None, int]] = []
        for seq, acked_hash, left_attributes, unknown in transaction.run(_EARLIER, seqs=list(at)):
            row = acked_hash and page.earlier_row(at[seq], bytes(acked_hash), left_attributes)
            now_left: str | None = left_attributes
            if row:
                rows[seq], now_left = row, row.left_attributes
            elif acked_hash and acked_hash.hex() != page.hashes[at[seq]]:
                now_left = ANY_ATTRIBUTE
            if unknown:
                now_left = page.perhaps_left(now_left)
            if now_left != left_attributes:
                left.append((now_left, seq))
        transaction.for_each("UPDATE sync_record SET left_attributes = ? WHERE seq = ?", left)
        return rows

    def _otherwise_inserted(
        self, transaction: Transaction, page: "LedgerPage", stored: Sequence[StoredRow]
    ) -> set[int]:
        """Return the seqs of acknowledged records whose insert-only fields differ, or whose values were not stored."""
        sent: dict[int, int | None] = dict(transaction.run(_INSERT_ONLY, seqs=[row.seq for row in stored]))
        return {row.seq for row in stored if row.seq in sent and sent[row.seq] != page.insert_only_hashes[row.at]}

    def _delete(self, transaction: Transaction, table: str, ids: Sequence[str]) -> None:
        """Collect the deletes of these ids. Records that Campaign never held are purged at once."""
        seqs = list(transaction.find(table, ids).values())
        never_sent = [record.seq for record in transaction.states_of(seqs) if transitions.is_purgeable(record)]
        self._deletions.mark_deleted_or_out_of_scope(transaction, never_sent, out_of_scope=False)
        self._deletions.collect(transaction, table, seqs)

    def _store_versions(self, transaction: Transaction, table: str, versions: Mapping[str, int | None]) -> None:
        """Store the versions of rows outside the filter with their records."""
        seqs = transaction.find(table, [*versions])
        values = [(versions[id_], seq, versions[id_]) for id_, seq in seqs.items()]
        differs = "UPDATE sync_record SET row_version = ? WHERE seq = ? AND (row_version = ?) IS NOT TRUE"
        transaction.for_each(differs, values)

    def _store_links(
        self,
        transaction: Transaction,
        table: str,
        page: "LedgerPage",
        moved: list[str],
        kept: Mapping[int, Kept],
        *,
        everything: bool,
    ) -> None:
        """Store the links of changed rows, and re-evaluate these records with their parents and children.

        everything: of all rows, as in a full read, since the configuration of the links may have changed. Links that do
        not apply updates stay as they are if the record is acknowledged, unless it is sent again or orphaned.
        """
        once = not all(link.apply_updates for link in page.links)  # then the hash does not cover the lookups
        seqs = transaction.find(table, page.ids if everything or once else moved)
        seqs = {id_: seq for id_, seq in seqs.items() if not kept.get(seq, NOTHING_KEPT).unapplied}
        if not seqs:
            return
        records: list[RecordState] = transaction.states_of(sorted(seqs.values()))
        # A link may no longer be configured.
        former_neighbours = self._dependencies.neighbours(transaction, records) if everything else set[int]()
        in_doubt = [record.seq for record in records if UNANSWERED(record)]
        acked = [record for record in records if record.acked_hash is not None and not record.orphaned]
        fixed = [seqs.pop(record.id) for record in acked if once and not record.resend]
        parents = {seqs[id_]: [*ids] for id_, ids in page.parents(seqs)}
        self._keep_links(transaction, page, parents, kept)
        if everything:
            self._deletions.discard_collected_orphans(transaction, [*parents])
        self._dependencies.stored_links.put_links(transaction, page.links, parents, in_doubt, fixed)
        self._dependencies.hold_records.captured(transaction, table, [*seqs])
        self._dependencies.reevaluate(transaction, records, also=former_neighbours, collect_orphans=everything)

    def _keep_links(
        self,
        transaction: Transaction,
        page: "LedgerPage",
        parents: Mapping[int, list[str | None]],
        kept: Mapping[int, Kept],
    ) -> None:
        """Put the stored parents in place of those of links whose value Campaign keeps."""
        names = [link.attribute for link in page.links]
        # Of a link that was not mapped for a time, the parent is the acknowledged one.
        for seq, name, parent in transaction.run(_PARENTS, seqs=[seq for seq in parents if seq in kept]):
            if name in names and name in kept[seq].attributes:
                parents[seq][names.index(name)] = parent

    def _apply_link_configuration(self, transaction: Transaction, table: str, links: Sequence[LinkSpec]) -> None:
        """Apply changed settings of links to records that the full read did not return, and re-evaluate these."""
        for link in links:
            now = {name: int(getattr(link, name)) for name in ("required", "keyed", "keep_orphans")}
            other = [row[0] for row in transaction.run(_OTHER_LINKS, table=table, attribute=link.attribute, **now)]
            changes = [(link.parent_table, *now.values(), seq, link.attribute) for seq in other]
            transaction.for_each(_CHANGE_LINK, changes)
            states = transaction.states_of(sorted(other))
            self._dependencies.reevaluate(transaction, states, collect_orphans=True)
