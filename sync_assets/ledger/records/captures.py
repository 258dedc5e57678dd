"""Store a captured page of D365 rows: records, deletions, links and opt-outs, with the cursor after the page.

Here: what a page changes. Its rows become records in captured_rows.py; deletions are carried out by deletions.py when
the read is at its end.

Invariant: a page and its cursor are stored in one transaction.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sync_assets.config.values import CONTACT
from sync_assets.ledger.feed import PageResult, Position, Replay
from sync_assets.ledger.model import LinkSpec, Loss
from sync_assets.ledger.records.captured_rows import CapturedRows
from sync_assets.ledger.records.deletions import NOT_COLLECTED, Deletions
from sync_assets.ledger.records.dependency_status import DependencyStatus
from sync_assets.ledger.records.emptied_columns import NOTHING_KEPT, Kept
from sync_assets.ledger.records.feeds import Feeds, PageRead
from sync_assets.ledger.repositories.merged_contacts import MergedContacts
from sync_assets.ledger.repositories.opt_out_rows import OptOutRows
from sync_assets.ledger.repositories.sessions import Sessions
from sync_assets.ledger.rules import transitions
from sync_assets.ledger.rules.predicates import UNANSWERED
from sync_assets.ledger.rules.record_state import RecordState
from sync_assets.ledger.storage.session import Repository
from sync_assets.ledger.storage.transaction import Transaction

if TYPE_CHECKING:
    from sync_assets.ledger.prepared_page import CapturedPage, LedgerPage

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
_PARENTS = "SELECT seq, attribute, parent_id FROM sync_link WHERE seq IN :seqs"
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
    _rows: CapturedRows
    _deletions: Deletions
    _dependencies: DependencyStatus
    _opt_outs: OptOutRows
    _merged: MergedContacts

    def save_page(
        self,
        table: str,
        page: "CapturedPage",
        cursor: Position | Replay | None,
        expected_version: int | None,
        *,
        session: int,
    ) -> PageResult:
        """Store a page and the cursor after it in one transaction.

        Of an unchanged row only its version is written, if that is another one.

        Args:
            page: the rows and deletions. Deletions are carried out later, see `carry_out_deletes`.
            cursor: after the page: see `Feeds.advance`. Rows of a replay are also sent if only fields differ that
                updates leave out, and with its `resend` even if they are unchanged. The feed may request both, too.
            expected_version: the feed's version when the page was read; None before the first page.

        Raises:
            FeedMoved: the feed's version is another.
            SessionExpired: of the session.
        """
        rows, links = page.rows, page.rows.links

        def work(transaction: Transaction) -> PageResult:
            self._sessions.require(transaction, session)
            feed, read = self._feeds.advance(transaction, table, cursor, expected_version)
            has_links = self._dependencies.lock_linked_records(transaction, first_links=bool(links))
            stored = self._rows.store(transaction, table, rows, read)
            self._store_deletions(transaction, table, page, read, [row.seq for row in stored.known])
            if has_links:
                self._deletions.mark_lost(transaction, table, [*page.deleted, *page.out_of_scope], Loss.DELETED)
                self._deletions.mark_lost(transaction, table, [*page.filtered_out], Loss.FILTERED_OUT)
                self._store_links(transaction, table, rows, stored.moved, stored.kept, everything=read.full)
                if read.full and read.ends:
                    self._apply_link_configuration(transaction, table, links)
            if table == CONTACT:
                self._store_opt_outs(transaction, page, again=read.full or read.replay)
            new, changed, invalid = stored.new, stored.changed, stored.invalid
            return PageResult(new, changed, len(rows.ids) - new - changed - invalid, invalid, feed)

        return self._session.write(work, large=len(rows.ids) >= LARGE_PAGE)

    def _store_opt_outs(self, transaction: Transaction, page: "CapturedPage", *, again: bool) -> None:
        """Store the opt-outs of a page of contacts. again: its rows are read again."""
        if page.merged is not None:
            self._merged.store_captured(transaction, page)
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

    # --- deletions ----------------------------------------------------------------------------------------------------

    def _store_deletions(
        self, transaction: Transaction, table: str, page: "CapturedPage", read: PageRead, known: Sequence[int]
    ) -> None:
        """Store which rows were deleted or left the scope, and which a full read returned. known: seqs of its rows."""
        self._delete(transaction, table, page.deleted)
        left = list(transaction.find(table, page.out_of_scope).values())
        self._deletions.mark_deleted_or_out_of_scope(transaction, left, out_of_scope=True, resend=read.resend)
        self._store_versions(transaction, table, page.filtered_out)
        if read.full:
            self._deletions.note_seen(transaction, table, known, page.out_of_scope)
        returned = {*page.rows.ids, *page.out_of_scope}.difference(page.deleted)
        self._deletions.discard_collected_deletes(transaction, table, returned)
        if read.bound is not None and read.ends:
            self._deletions.note_missing(transaction, table, read.bound, out_of_scope=not page.missing_are_deleted)

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

    # --- links --------------------------------------------------------------------------------------------------------

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
        unanswered = [record.seq for record in records if UNANSWERED(record)]
        acked = [record for record in records if record.acked_hash is not None and not record.orphaned]
        fixed = [seqs.pop(record.id) for record in acked if once and not record.resend]
        parents = {seqs[id_]: [*ids] for id_, ids in page.parents(seqs)}
        self._keep_links(transaction, page, parents, kept)
        if everything:
            self._deletions.discard_collected_orphans(transaction, [*parents])
        self._dependencies.stored_links.put_links(transaction, page.links, parents, unanswered, fixed)
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
