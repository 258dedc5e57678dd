"""Captures: a page of D365 rows and the position after it, stored together or not at all."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sqlalchemy.engine import Connection

from sync_assets.ledger.errors import RowsMoved
from sync_assets.ledger.model import LinkSpec, Loss, PageResult, Position, State
from sync_assets.ledger.records.deletions import MOVE, Deletions
from sync_assets.ledger.records.feeds import ReadMode
from sync_assets.ledger.repositories.base import TotalsChange
from sync_assets.ledger.repositories.opt_outs import CONTACT, OptOutRows
from sync_assets.ledger.rules import transitions
from sync_assets.ledger.rules.record_state import RecordState
from sync_assets.ledger.storage.bulk import Differing

if TYPE_CHECKING:
    import polars as pl

    from sync_assets.ledger.prepared_page import NewRecords, Page

LARGE_PAGE = 1000
"""Rows from which on SQLite's log is carried over beside, see Database.write."""

# Of records that no page of a full read brought: the links are as they were when their rows were last in scope.
_OTHER_LINKS = """
    SELECT l.seq FROM sync_link l JOIN sync_record r ON r.seq = l.seq
    WHERE r.table_name = ? AND l.attribute = ? AND (l.required <> ? OR l.keyed <> ?)
"""


class Captures(Deletions, OptOutRows):
    def save_page(
        self,
        table: str,
        rows: "pl.DataFrame | Page",
        deleted: Sequence[str],
        position: Position | None,
        expected_version: int | None,
        *,
        withdrawn: Sequence[str] = (),
        links: Sequence[LinkSpec] = (),
        opt_outs: "pl.DataFrame | None" = None,
        unread: Sequence[tuple[str, int]] = (),
        fingerprint: str = "",
        resend: bool = False,
        replay: bool = False,
        missing_are_deleted: bool = False,
        filtered_out: Sequence[str] = (),
    ) -> PageResult:
        """Store a page and the position after it in one transaction. A row that is no news is not written, but for the
        hash of its bytes.

        rows: id (String), day (Date), payload (String: JSON of an insert), update_payload (String or null: JSON
        of an update where it differs), hash (Binary, 16 bytes, of the update form), refusal (String or null: why
        the transform refuses the row; its payload is not stored), and for each of `links` a column (String or null:
        the parent's id) under its attribute's name. Of an id that stands twice the last row counts. Or all that as a
        pages.Page, made ready beforehand with the same links.
        deleted: ids of rows whose record Campaign is to delete, applied after the rows; see `carry_out_deletes`.
        withdrawn: ids of rows that are out of scope, whose record Campaign is to keep as it is; of a record that was
        never sent nothing is kept.
        unread: (id, row hash) of further rows of the page, none of them in `rows`, which `same_rows` has named.
        opt_outs: what the rows say of opt-outs, see OptOutRows._opt_outs_captured; None if that is nobody's business.
        position: None leaves it where it is (rows read again beside the feed, by the rules of `fingerprint`).
        expected_version: the feed's version that the page was read from, None before the first page.
        resend: these rows are sent again, equal or not. replay: also those of which only fields differ that are not
        updated. Both also if the feed says so of the read under way.
        filtered_out: those of the deleted and withdrawn ids whose rows are in Dynamics 365, but outside of the filter.
        missing_are_deleted: what a full read did not bring is to be deleted when it is complete, else it is withdrawn.
        rows may have a row_hash and an insert_only_hash (Int64) as well. FeedMoved if the version is another or belongs
        to another full read; RowsMoved if one that is unread has to be read after all; ValueError if rows are not as
        said above.
        """
        from sync_assets.ledger.prepared_page import Page  # noqa: PLC0415 - `status` does without the weight of Polars

        page = rows if isinstance(rows, Page) else Page(rows, links)
        gone = list(dict.fromkeys(deleted))

        def work(connection: Connection) -> PageResult:
            now = self._now()
            tally = TotalsChange()
            if position is None:
                feed, reading = self._touch(connection, table, expected_version, fingerprint), ReadMode()
            else:
                feed, reading = self._advance(connection, table, position, expected_version, now)
            again = resend or reading.resend
            whole = page.insert_only and (replay or reading.replay)
            bound = reading.bound
            self._take_turns(connection, tied=bool(links))
            left = self._bulk.same_rows(connection, table, *zip(*unread, strict=True)) if unread else []
            if len(left) < len(unread):
                raise RowsMoved(table)
            there = self._bulk.differing(connection, table, page, everything=again or whole)
            resent = {seq for _, seq in there.differing} if again else set[int]()
            if whole:
                resent |= self._otherwise_inserted(connection, page, there.differing)
            new, changed, refused, moved = self._store(connection, table, page, there, resent, now, tally)
            deletes = self._delete(connection, table, gone, tally)
            self._withdraw(connection, table, withdrawn, tally)
            if bound is not None:
                self._see(connection, table, [*there.known, *(seq for _, seq in left)], withdrawn)
            # None that is unread is thought to be gone.
            self._let_come_back(connection, table, [*page.ids, *withdrawn], gone)
            if bound is not None and position and position.complete:
                self._miss(connection, table, bound, withdraw=not missing_are_deleted)
            if links or self._tied(connection):
                self._mark_lost(connection, table, [*gone, *withdrawn], Loss.DELETED)
                self._mark_lost(connection, table, filtered_out, Loss.FILTERED_OUT)
                self._tie(connection, table, page, moved, everything=bound is not None, tally=tally)
                if bound is not None and position and position.complete:
                    self._tie_the_rest(connection, table, links, tally)
            self._count(connection, tally)
            if table == CONTACT:
                if opt_outs is not None:
                    self._opt_outs_captured(connection, opt_outs)
                self._forget_opt_outs(connection, gone)
            return PageResult(
                new=new,
                changed=changed,
                unchanged=len(page.ids) + len(unread) - new - changed - refused,
                refused=refused,
                deleted=deletes,
                ignored_deletes=len(gone) - deletes,
                version=feed.version,
                feed=feed,
            )

        return self._database.write(work, large=len(page.ids) >= LARGE_PAGE)

    def same_rows(self, table: str, ids: Sequence[str], row_hashes: Sequence[int]) -> list[int]:
        """Indexes of the rows that Dynamics 365 sent just so when it sent them last: `save_page` would find no news in
        them. Only if all rows of the table were read by the same rules since (Feed.read_as)."""
        with self._database.read() as connection:
            return [index for index, _ in self._bulk.same_rows(connection, table, ids, row_hashes)]

    def new_page(self, table: str, rows: "pl.DataFrame", links: Sequence[LinkSpec] = ()) -> "Page":
        """A page for `save_page` whose rows are likely to be new, as they are in a first load: in the order in which
        they are found soonest, and packed. What is done here, the transaction need not do. As the time of their change
        counts when they were packed, a moment before they are stored."""
        from sync_assets.ledger.prepared_page import Page  # noqa: PLC0415 - see save_page

        page = Page(rows, links, self._bulk.in_order)
        page.new = self._new(table, page, range(len(page.ids)), self._now())
        return page

    def _new(self, table: str, page: "Page", indexes: Sequence[int], now: int) -> "NewRecords":
        from sync_assets.ledger.prepared_page import NewRecords  # noqa: PLC0415 - see save_page

        records = page.records(indexes, table, now)
        numbers = records.group_by("state", "day").len().rows()
        return NewRecords(table, records["id"].to_list(), numbers, self._bulk.pack(records))

    def _store(
        self,
        connection: Connection,
        table: str,
        page: "Page",
        there: Differing,
        resend: set[int],
        now: int,
        tally: TotalsChange,
    ) -> tuple[int, int, int, list[str]]:
        """(new, changed, refused, ids of all of them). resend: seqs of records that are sent again, equal or not."""
        fresh = list(there.fresh)
        known = {seq: index for index, seq in there.differing}
        moves: list[transitions.DesiredUpdate] = []
        ids: list[str] = []
        to_insert: list[tuple[int | None, int]] = []
        for record in self._bulk.stands(connection, list(known)):
            row = page.row(known.pop(record.seq))
            move = transitions.after_capture(record, row, resend=record.seq in resend, now=now)
            if move is not None:
                if page.insert_only and transitions.sends_all(record, move):
                    to_insert.append((row.insert_only_hash, record.seq))
                moves.append(move)
                ids.append(record.id)
                tally.move(record, move.state, move.day)
        self._bulk.for_each(connection, MOVE, moves)
        self._bulk.for_each(connection, "UPDATE sync_record SET insert_only_hash = ? WHERE seq = ?", to_insert)
        moved = {move.seq for move in moves}
        sent = [(page.row_hashes[index], seq) for index, seq in there.resent if seq not in moved]
        self._bulk.for_each(connection, "UPDATE sync_record SET row_hash = ? WHERE seq = ?", sent)
        # What is left had a record a moment ago: its delete was acknowledged between the two queries.
        fresh += known.values()
        failed = 0
        if fresh:
            made = page.new
            if made is None or made.table != table or len(fresh) < len(page.ids):
                made = self._new(table, page, sorted(fresh), now)
            self._bulk.insert(connection, made.packed)
            ids += made.ids
            for state, day, number in made.numbers:
                tally.add(table, state, day, number)
                failed += number if state == State.FAILED else 0
        refused = sum(move.refusal is not None for move in moves)
        return len(fresh) - failed, len(moves) - refused, refused + failed, ids

    def _otherwise_inserted(self, connection: Connection, page: "Page", known: Sequence[tuple[int, int]]) -> set[int]:
        """Seqs of records that Campaign acknowledged and that hold other values in fields that are not updated, as far
        as is known. known: (index, seq) of rows of the page."""
        acknowledged = "SELECT seq, insert_only_hash FROM sync_record"
        found = self._bulk.for_seqs(
            connection, acknowledged, [seq for _, seq in known], also="AND acked_hash IS NOT NULL"
        )
        sent: dict[int, int | None] = dict(found)
        return {seq for index, seq in known if seq in sent and sent[seq] != page.insert_only_hashes[index]}

    def _delete(self, connection: Connection, table: str, ids: list[str], tally: TotalsChange) -> int:
        """How many of the ids had a record whose row was still thought to be there."""
        seqs = list(self._bulk.find(connection, table, ids).values())
        never_sent = [record.seq for record in self._bulk.stands(connection, seqs) if transitions.forgotten(record)]
        self._let_go(connection, never_sent, tally, withdraw=False)
        return len(never_sent) + self._collect(connection, table, seqs)

    def _withdraw(self, connection: Connection, table: str, ids: Sequence[str], tally: TotalsChange) -> None:
        seqs = list(self._bulk.find(connection, table, ids).values())
        self._let_go(connection, seqs, tally, withdraw=True)

    def _let_come_back(self, connection: Connection, table: str, ids: Sequence[str], gone: Sequence[str]) -> None:
        """No earlier page's tombstone holds for the rows of this one."""
        if self._has_collected(connection, table):
            deleted = set(gone)
            self._come_back(connection, table, [id_ for id_ in ids if id_ not in deleted])

    def _tie(
        self,
        connection: Connection,
        table: str,
        page: "Page",
        moved: list[str],
        *,
        everything: bool,
        tally: TotalsChange,
    ) -> None:
        """Store the links of rows that are news (in a full read of all rows: the links' configuration may have
        changed), and put those records and their neighbours where they belong."""
        seqs = self._bulk.find(connection, table, page.ids if everything else moved)
        if not seqs:
            return
        stands: list[RecordState] = self._bulk.stands(connection, sorted(seqs.values()))
        left = self._neighbours(connection, stands) if everything else set[int]()  # links may go with the configuration
        in_doubt = [record.seq for record in stands if record.uncertain]
        self._put_links(connection, page.links, {seqs[id_]: ids for id_, ids in page.parents(seqs)}, in_doubt)
        self._regate(connection, stands, (), tally, also=left)

    def _tie_the_rest(self, connection: Connection, table: str, links: Sequence[LinkSpec], tally: TotalsChange) -> None:
        """Records that Campaign keeps while their rows are out of scope follow a changed cardinality, too: otherwise
        the first one whose parent goes would be hidden."""
        for link in links:
            required, keyed = int(link.required), int(link.keyed)
            statement = _OTHER_LINKS if self._database.sqlite else _OTHER_LINKS.replace("?", "%s")
            other = connection.exec_driver_sql(statement, (table, link.attribute, required, keyed)).scalars().all()
            changed = "UPDATE sync_link SET required = ?, keyed = ? WHERE seq = ? AND attribute = ?"
            self._bulk.for_each(connection, changed, [(required, keyed, seq, link.attribute) for seq in other])
            self._regate(connection, self._bulk.stands(connection, sorted(other)), (), tally)
