"""Captures: a page of D365 rows and the position after it, stored together or not at all."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from sync_assets.ledger import rules, schema
from sync_assets.ledger.errors import TooManyDeletes
from sync_assets.ledger.feeds import Feeds
from sync_assets.ledger.model import PageResult, Position, State
from sync_assets.ledger.room import Tally

if TYPE_CHECKING:
    import polars as pl

    from sync_assets.ledger.pages import Page

_F = schema.feed.c
_MOVED = ", ".join(f"{name} = ?" for name in rules.Move._fields[:-1])
_MOVE = f"UPDATE sync_record SET {_MOVED}, reason = NULL, attempts = 0, not_before = NULL WHERE seq = ?"  # noqa: S608


class Captures(Feeds):
    def save_page(
        self,
        table: str,
        rows: "pl.DataFrame",
        deleted: Sequence[str],
        position: Position,
        expected_version: int | None,
        *,
        max_deletes: int | None = None,
    ) -> PageResult:
        """Store a page and the position after it in one transaction. A row that is no news is not written.

        rows: id (String), day (Date), payload (String: JSON of an insert), update_payload (String or null: JSON
        of an update where it differs), hash (Binary, 16 bytes, of the update form), refusal (String or null: why
        the transform refuses the row; its payload is not stored). Of an id that stands twice the last row counts.
        deleted: ids of rows that are gone, applied after the rows.
        expected_version: the feed's version that the page was read from, None before the first page.
        max_deletes: more records than that are not deleted between two ends of the feed: TooManyDeletes, and nothing
        of this page is written.
        FeedMoved if it is another or belongs to another full read; ValueError if rows are not as said above.
        """
        from sync_assets.ledger.pages import Page  # noqa: PLC0415 - `status` does without the weight of Polars

        page = Page(rows)
        gone = list(dict.fromkeys(deleted))

        def work(connection: Connection) -> PageResult:
            now = self._now()
            tally = Tally()
            version, resend = self._advance(connection, table, position, expected_version, now)
            new, changed, refused = self._store(connection, table, page, resend, now, tally)
            deleted = self._delete(connection, table, gone, now, tally)
            if deleted or position.end:
                self._guard(connection, table, deleted, max_deletes, position)
            self._count(connection, tally)
            return PageResult(
                new=new,
                changed=changed,
                unchanged=len(page.ids) - new - changed - refused,
                refused=refused,
                deleted=deleted,
                ignored_deletes=len(gone) - deleted,
                version=version,
            )

        return self._database.write(work)

    def _guard(
        self, connection: Connection, table: str, deleted: int, max_deletes: int | None, position: Position
    ) -> None:
        """Counts deletions over pages and interruptions, so that many small ones are noticed, too."""
        before = connection.execute(sa.select(_F.deletes).where(_F.table_name == table)).scalar() or 0
        if max_deletes is not None and deleted and before + deleted > max_deletes:
            raise TooManyDeletes(table, before + deleted, max_deletes)
        counted = 0 if position.end else before + deleted
        connection.execute(sa.update(schema.feed).where(_F.table_name == table).values(deletes=counted))

    def _store(
        self, connection: Connection, table: str, page: "Page", resend: bool, now: int, tally: Tally
    ) -> tuple[int, int, int]:
        """(new, changed, refused)"""
        if not page.ids:
            return 0, 0, 0
        differing = self._bulk.differing(connection, table, page.ids, page.hashes, everything=resend)
        known = {seq: index for index, seq in differing if seq is not None}
        fresh = [index for index, seq in differing if seq is None]
        moves: list[rules.Move] = []
        for stand in self._bulk.stands(connection, list(known)):
            move = rules.after_capture(stand, page.row(known.pop(stand.seq)), resend=resend, now=now)
            if move is not None:
                moves.append(move)
                tally.move(stand, move.state, move.day)
        self._bulk.for_each(connection, _MOVE, moves)
        # What is left had a record a moment ago: its delete was acknowledged between the two queries.
        fresh += known.values()
        failed = 0
        if fresh:
            records = page.records(sorted(fresh), table, now)
            self._bulk.insert(connection, records)
            for state, day, number in records.group_by("state", "day").len().iter_rows():
                tally.add(table, state, day, number)
                failed += number if state == State.FAILED else 0
        refused = sum(move.refusal is not None for move in moves)
        return len(fresh) - failed, len(moves) - refused, refused + failed

    def _delete(self, connection: Connection, table: str, ids: list[str], now: int, tally: Tally) -> int:
        """How many of the ids had a record whose row was still thought to be there."""
        seqs = self._bulk.find(connection, table, ids) if ids else []
        moves: list[rules.Move] = []
        forgotten: list[int] = []
        for stand in self._bulk.stands(connection, seqs):
            if rules.forgotten(stand):
                forgotten.append(stand.seq)
                tally.remove(stand)
            elif (move := rules.after_delete(stand, now=now)) is not None:
                moves.append(move)
                tally.move(stand, move.state, move.day)
        self._bulk.for_each(connection, _MOVE, moves)
        self._bulk.for_seqs(connection, "DELETE FROM sync_record", forgotten)
        return len(moves) + len(forgotten)
