"""Store the cursor of each table's change feed, its replay of some days, and which session captures the table.

Here: cursors and the feed's version alone. Captured rows are stored by captures.py, deletions by deletions.py.

Invariant: a cursor only moves by compare and set on the feed's version (`FeedMoved` otherwise), so that two captures of
a table cannot overwrite each other.
"""

from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import sqlalchemy as sa

from sync_assets.ledger.errors import FeedMoved, MappingReplaced
from sync_assets.ledger.feed import Feed, FeedKind, Position, Replay
from sync_assets.ledger.repositories.notes import MappingChanges
from sync_assets.ledger.storage import schema
from sync_assets.ledger.storage.session import Repository, writes
from sync_assets.ledger.storage.transaction import Transaction

_F = schema.feed.c
_COLUMNS = (_F.table_name, *(_F[field.name] for field in fields(Feed)[1:]))
_DELTA_LINK = sa.case((_F.complete, _F.link))
"""The feed's link, if it returns changes; NULL during a full read."""
CAPTURED = "captured"
"""The number of rows captured on a day, in `sync_day_count`."""
LARGEST_PAGE = 5_000
"""Rows: Dataverse's own limit of a page."""
_SEVERAL = sa.and_(_F.link.is_not(None), sa.or_(~_F.complete, _F.kept_link.is_not(None)))  # ended after several
_GROWN = _F.page_size + _F.page_size // 10 + 1


class PageRead(NamedTuple):
    """What the read that returned a page demands of its rows.

    resend: send them again, even if they are unchanged. replay: compare fields that updates leave out, too. bound: the
    highest seq when a repeated full read began; None in any other read. ends: the page is the last one available.
    """

    resend: bool = False
    replay: bool = False
    bound: int | None = None
    ends: bool = False

    @property
    def full(self) -> bool:
        """True in a repeated full read."""
        return self.bound is not None


@dataclass(eq=False)
class Feeds(Repository):
    """Reads and writes `sync_feed`."""

    _mappings: MappingChanges

    def feed(self, table: str) -> Feed | None:
        """Return the table's feed; None before its first page."""
        rows = self._session.rows(sa.select(*_COLUMNS).where(_F.table_name == table))
        return next((Feed(*row) for row in rows), None)

    def reset(
        self,
        transaction: Transaction,
        table: str,
        expected_version: int,
        *,
        resend: bool = False,
        replay: bool = False,
        expired: bool = False,
    ) -> Feed:
        """Begin a new full read, without a link. Which records an earlier one returned is forgotten.

        Args:
            expected_version: the feed's version as read.
            resend: send each row of this read again, even if it is unchanged.
            replay: send a row of this read also if only fields differ that updates leave out.
            expired: no earlier link is valid any more. If False, the feed's link is kept: after the read it returns
                the changes that happened meanwhile.

        Raises:
            FeedMoved: the stored version is another.
        """
        newest = transaction.execute(sa.select(sa.func.max(schema.record.c.seq))).scalar()
        transaction.execute(sa.delete(schema.seen).where(schema.seen.c.table_name == table))
        changes = {
            "read_bound": newest or 0,
            "link": None,
            "complete": False,
            "resend": resend,
            "replay": replay,
            "saved_at": self._session.now(),
            "kept_link": sa.null() if expired else sa.func.coalesce(_F.kept_link, _DELTA_LINK),
            "kept_kind": sa.null() if expired else sa.func.coalesce(_F.kept_kind, sa.case((_F.complete, "delta"))),
            "kept_due": False,
        }
        return _move(transaction, table, expected_version, changes)

    reset_feed = writes(reset)

    @writes
    def keep_link(
        self,
        transaction: Transaction,
        table: str,
        expected_version: int | None,
        link: str | None,
        kind: FeedKind | None,
        fingerprint: str,
    ) -> Feed:
        """Store a link from before the rows of a full read, whose changes are captured after it; None removes it.

        Args:
            expected_version: the feed's version as read; None before the first page of the table.
            link: the link to keep.
            kind: see Feed.kept_link.
            fingerprint: of the selected columns, for a feed that is created by this call.

        Raises:
            FeedMoved: the stored version is another.
        """
        kept = {"kept_link": link, "kept_kind": kind, "kept_due": False}
        now = self._session.now()
        if expected_version is not None:
            return _move(transaction, table, expected_version, {**kept, "saved_at": now, "polled_at": now})
        return self._begin(transaction, table, Position(None, fingerprint), now, **kept)

    @writes
    def shrink_pages(
        self, transaction: Transaction, table: str, expected_version: int | None, rows: int, fingerprint: str
    ) -> Feed:
        """Request pages of `rows` rows from now on.

        A link of a next page is bound to the page size of its read, so a read under way begins again. The other
        arguments, and what is raised: as of `keep_link`.
        """
        if expected_version is None:
            return self._begin(transaction, table, Position(None, fingerprint), self._session.now(), page_size=rows)
        feed = _move(transaction, table, expected_version, {"page_size": rows})
        if feed.link is not None and not feed.complete:
            feed = self.reset(transaction, table, feed.version, resend=feed.resend, replay=feed.replay)
        under_way = feed.complete and feed.kept_link is not None and not feed.kept_due
        if under_way or feed.kept_kind == "page":
            changes = {"link": feed.kept_link} if under_way else {}
            feed = _move(transaction, table, feed.version, {**changes, "kept_link": None, "kept_kind": None})
        if feed.days is not None:
            feed = _move(transaction, table, feed.version, {"days": feed.days._replace(link=None)})
        return feed

    @writes
    def note_poll(self, transaction: Transaction, table: str, expected_version: int, link: str | None = None) -> Feed:
        """Record a poll that found no changes. link: a fresh delta link that replaces the stored one.

        Without a link the version does not change, so concurrent polls do not conflict. FeedMoved if the stored version
        is another.
        """
        now = self._session.now()
        if link is None:
            return _change(transaction, table, expected_version, {"polled_at": now})
        changes = {"polled_at": now, "saved_at": now, "link": link}
        return _move(transaction, table, expected_version, changes)

    @writes
    def confirm(self, transaction: Transaction, table: str, rows: int | None) -> None:
        """Store that a capture of so many rows is complete, or, for None, that the last run failed: another is due."""
        now = self._session.now()
        confirmed = {"confirmed_at": None if rows is None else now}
        transaction.execute(sa.update(schema.feed).where(_F.table_name == table).values(confirmed))
        if rows is not None:
            transaction.add_numbers(now, d365={(table, CAPTURED): rows})

    @writes
    def approve_deletes(self, transaction: Transaction, table: str) -> bool:
        """Approve the deletions that the guard holds back, and those of their children.

        Returns:
            False if the table has no feed yet.
        """
        changed = sa.update(schema.feed).where(_F.table_name == table).values(deletes_approved=True)
        return transaction.execute(changed).rowcount == 1

    def locked(self, transaction: Transaction, table: str) -> Feed | None:
        """Return the table's feed, as `feed`, and lock it until the transaction ends."""
        stored = sa.select(*_COLUMNS).where(_F.table_name == table).with_for_update()
        row = transaction.execute(stored).one_or_none()
        return None if row is None else Feed(*row)

    def read_again(self, transaction: Transaction, table: str, *, resend: bool) -> None:
        """Begin a full read of a table; one that was never captured has yet to be read. resend: see `reset_feed`."""
        if (feed := self.locked(transaction, table)) is not None:
            self.reset(transaction, table, feed.version, resend=resend)

    def advance(
        self, transaction: Transaction, table: str, cursor: Position | Replay | None, expected_version: int | None
    ) -> tuple[Feed, PageRead]:
        """Store the cursor after a page; return the feed, and the read that the page belongs to.

        Call it first in a transaction: it locks the feed, which serialises the captures of a table.

        Args:
            cursor: the place in the feed. For rows read beside it, which move the version alone: the replay that they
                belong to, with the link of its next page, None if it has ended; or None for rows read by id.
            expected_version: the feed's version as read; None before its first page.

        Raises:
            FeedMoved: the stored version is another.
            MappingReplaced: the page is the first one under a mapping that does not count any more.
        """
        if not isinstance(cursor, Position):
            if expected_version is None:
                raise ValueError("rows beside a feed need the feed's version")
            days = {"days": cursor if cursor.link else None} if cursor else {}
            read = PageRead(resend=bool(cursor and cursor.resend), replay=cursor is not None)
            return _move(transaction, table, expected_version, days), read
        position, now = cursor, self._session.now()
        if expected_version is None:
            return self._begin(transaction, table, position, now), PageRead(ends=position.end)
        before = self.locked(transaction, table)
        if before is None:
            raise FeedMoved(table)
        is_first = before.fingerprint != position.fingerprint
        if is_first and self._mappings.is_forgotten(transaction, table, position.fingerprint):
            raise MappingReplaced(table)
        changes = {
            "link": position.link,
            "fingerprint": position.fingerprint,
            "saved_at": now,
            "polled_at": now,
            **_kept(position, full=not before.complete),
        }
        if position.end and not before.complete:
            changes |= {"complete": True, "orphans_due": True, "resend": False, "replay": False, "read_bound": None}
        read = PageRead(before.resend, before.replay, before.read_bound, position.end)
        return _move(transaction, table, expected_version, changes), read

    def _begin(self, transaction: Transaction, table: str, position: Position, now: int, **kept: Any) -> Feed:
        """Create the feed of a table. FeedMoved if another capture has created it."""
        new = transaction.insert_into(schema.feed).values(
            table_name=table,
            link=position.link,
            fingerprint=position.fingerprint,
            complete=position.end,
            resend=False,
            deletes_approved=False,
            deletes=0,
            orphans_due=position.end,
            version=1,
            saved_at=now,
            polled_at=now,
            **kept,
        )
        row = transaction.execute(new.on_conflict_do_nothing().returning(*_COLUMNS)).one_or_none()
        if row is None:
            raise FeedMoved(table)
        return Feed(*row)

    def drop_replay_in(self, transaction: Transaction, table: str) -> None:
        """Delete the table's replay of some days, since the whole table is read anyway."""
        replayed = sa.update(schema.feed).where(_F.table_name == table, _F.days.is_not(None))
        transaction.execute(replayed.values(days=None, version=_F.version + 1))

    drop_replay = writes(drop_replay_in)
    """The same, in a transaction of its own."""


def _kept(position: Position, *, full: bool) -> dict[str, Any]:
    """Return the changes of the feed's kept link that follow from a page. full: of a full read."""
    if position.end and not position.again:
        # During a full read of a single page nothing can have changed.
        one_page = _F.link.is_(None)
        return {
            "kept_link": sa.case((~one_page, _F.kept_link)),
            "kept_kind": sa.case((~one_page, _F.kept_kind)),
            "kept_due": sa.and_(~one_page, _F.kept_link.is_not(None)),
            "page_size": sa.case((sa.and_(_SEVERAL, _F.page_size < LARGEST_PAGE), _GROWN), else_=_F.page_size),
        }
    if full and not position.end:
        return {}
    # A delta read of several pages: the link of the first page returns the changes made meanwhile.
    return {
        "kept_link": sa.func.coalesce(_F.kept_link, _F.link),
        "kept_kind": sa.func.coalesce(_F.kept_kind, "delta"),
        "kept_due": position.end,
    }


def _move(transaction: Transaction, table: str, expected: int, changes: dict[str, Any]) -> Feed:
    """Change the feed and raise its version, see `_change`."""
    return _change(transaction, table, expected, {**changes, "version": _F.version + 1})


def _change(transaction: Transaction, table: str, expected: int, changes: dict[str, Any]) -> Feed:
    """Compare and set: change the feed if its version is the expected one, else raise FeedMoved."""
    changed = sa.update(schema.feed).where(_F.table_name == table, _F.version == expected)
    row = transaction.execute(changed.values(changes).returning(*_COLUMNS)).one_or_none()
    if row is None:
        raise FeedMoved(table)
    return Feed(*row)
