"""Store the cursor of each table's change feed, and which session captures the table.

Here: the cursor and its version alone. Captured rows are stored by captures.py, deletions by deletions.py.

Invariant: a cursor only moves by compare and set on the feed's version (`FeedMoved` otherwise), so that two captures of
a table cannot overwrite each other.
"""

from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import sqlalchemy as sa

from sync_assets.ledger.errors import FeedMoved, InMaintenance
from sync_assets.ledger.model import Feed, FeedKind, Position, Replay
from sync_assets.ledger.repositories.maintenance import Maintenance
from sync_assets.ledger.repositories.sessions import Sessions
from sync_assets.ledger.storage import schema
from sync_assets.ledger.storage.session import Repository, writes
from sync_assets.ledger.storage.transaction import COUNTED, Transaction

_F = schema.feed.c
_L = schema.lease.c
_COLUMNS = (_F.table_name, *(_F[field.name] for field in fields(Feed)[1:]))
_PAGE: FeedKind = "page"
_DELTA = sa.and_(_F.kind == "delta", _F.link.is_not(None))
CAPTURED = "captured"
"""The number of rows captured on a day, in `sync_day_count`."""
LARGEST_PAGE = 5_000
"""Rows: Dataverse's own limit of a page."""
_SEVERAL = sa.and_(_F.link.is_not(None), sa.or_(_F.kind == _PAGE, _F.kept_link.is_not(None)))  # ended after several
_GROWN = _F.page_size + _F.page_size // 10 + 1


class ReadMode(NamedTuple):
    """How the rows of a read are to be captured.

    resend: send each row again, even if it is unchanged. replay: send it also if only fields differ that updates leave
    out. bound: the highest seq when a repeated full read began; None in any other read.
    """

    resend: bool = False
    replay: bool = False
    bound: int | None = None


@dataclass(eq=False)
class Feeds(Repository):
    """Reads and writes `sync_feed` and `sync_lease`."""

    _sessions: Sessions
    _maintenance: Maintenance

    def feed(self, table: str) -> Feed | None:
        """Return the table's feed; None before its first page."""
        with self._session.read() as transaction:
            return _stored(transaction, table)

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
        """Begin a new full read: read_id + 1, no link. Which records an earlier one returned is forgotten.

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
            "read_id": _F.read_id + 1,
            "read_bound": newest or 0,
            "link": None,
            "kind": "page",
            "complete": False,
            "resend": resend,
            "replay": replay,
            "saved_at": self._session.now(),
            "kept_link": sa.null() if expired else sa.func.coalesce(_F.kept_link, sa.case((_DELTA, _F.link))),
            "kept_kind": sa.null() if expired else sa.func.coalesce(_F.kept_kind, sa.case((_DELTA, _F.kind))),
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
        position = Position(None, "page", fingerprint)
        return self._begin(transaction, table, position, now, **kept)

    @writes
    def shrink_pages(
        self, transaction: Transaction, table: str, expected_version: int | None, rows: int, fingerprint: str
    ) -> Feed:
        """Request pages of `rows` rows from now on.

        A link of a next page is bound to the page size of its read, so a read under way begins again.

        Args:
            expected_version: the feed's version as read; None before the first page of the table.
            rows: the new page size.
            fingerprint: of the selected columns, for a feed that is created by this call.

        Raises:
            FeedMoved: the stored version is another.
        """
        if expected_version is None:
            return self._begin(
                transaction, table, Position(None, "page", fingerprint), self._session.now(), page_size=rows
            )
        feed = _move(transaction, table, expected_version, {"page_size": rows})
        if feed.kind == "page" and feed.link is not None:
            feed = self.reset(transaction, table, feed.version, resend=feed.resend, replay=feed.replay)
        under_way = feed.kind == "delta" and feed.kept_link is not None and not feed.kept_due
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
        changes = {"polled_at": now, "saved_at": now, "link": link, "kind": "delta"}
        return _move(transaction, table, expected_version, changes)

    @writes
    def confirm(self, transaction: Transaction, table: str, rows: int | None) -> None:
        """Store that a capture of so many rows is complete, or, for None, that the last run failed: another is due."""
        now = self._session.now()
        confirmed = {"confirmed_at": None if rows is None else now}
        transaction.execute(sa.update(schema.feed).where(_F.table_name == table).values(confirmed))
        if rows is not None:
            transaction.add_numbers(now, "d365", {(table, CAPTURED): rows})

    @writes
    def approve_deletes(self, transaction: Transaction, table: str) -> bool:
        """Approve the deletions that the guard holds back, and those of their children.

        Returns:
            False if the table has no feed yet.
        """
        changed = sa.update(schema.feed).where(_F.table_name == table).values(deletes_approved=True)
        return transaction.execute(changed).rowcount == 1

    @writes
    def lease_feed(self, transaction: Transaction, table: str, session: int) -> bool:
        """Take the lease to capture a table, or keep it; False if another live session holds it.

        The lease only avoids duplicate work; consistency is guarded by the feed's version. It also names other work
        that one session at a time does.

        Raises:
            InMaintenance: the table is in maintenance.
            SessionExpired: of the session.
        """
        if since := self._maintenance.maintained_since(transaction, table):
            raise InMaintenance(table, since)
        self._sessions.require(transaction, session)
        new = transaction.insert_into(schema.lease).values(name=table, session=session)
        taken = new.on_conflict_do_update(
            index_elements=["name"],
            set_={"session": session},
            where=(_L.session == session) | _L.session.not_in(schema.LIVE_EPOCHS),
        )
        return transaction.execute(taken, execution_options=COUNTED).rowcount == 1

    def release_feed(self, table: str, session: int) -> None:
        """Release the capture lease, if this session still holds it."""
        lease = sa.delete(schema.lease).where(_L.name == table, _L.session == session)
        self._session.run(lease)

    def read_again(self, transaction: Transaction, table: str, *, resend: bool) -> None:
        """Begin a full read of a table; one that was never captured has yet to be read. resend: see `reset_feed`."""
        version = sa.select(_F.version).where(_F.table_name == table).with_for_update()
        if (known := transaction.execute(version).scalar()) is not None:
            self.reset(transaction, table, known, resend=resend)

    def advance(
        self, transaction: Transaction, table: str, position: Position, expected_version: int | None, now: int
    ) -> tuple[Feed, ReadMode]:
        """Store the cursor, and return the feed and how the rows read up to this cursor are to be captured.

        Call it first in a transaction: it locks the feed, which serialises the captures of a table.
        """
        if expected_version is None:
            return self._begin(transaction, table, position, now), ReadMode()
        before = transaction.execute(
            sa.select(_F.resend, _F.replay, _F.read_bound, _F.complete).where(_F.table_name == table).with_for_update()
        ).one_or_none()
        changes = {
            "link": position.link,
            "kind": position.kind,
            "fingerprint": position.fingerprint,
            "complete": sa.true() if position.complete else _F.complete,
            "orphans_due": sa.true() if position.complete and before and not before.complete else _F.orphans_due,
            "resend": sa.false() if position.complete else _F.resend,
            "replay": sa.false() if position.complete else _F.replay,
            "read_bound": sa.null() if position.complete else _F.read_bound,
            "saved_at": now,
            "polled_at": now,
            **_kept(position),
        }
        feed = _move(transaction, table, expected_version, changes, read_id=position.read_id)
        return feed, ReadMode(before.resend, before.replay, before.read_bound) if before else ReadMode()

    def _begin(self, transaction: Transaction, table: str, position: Position, now: int, **kept: Any) -> Feed:
        """Create the feed of a table. FeedMoved if another capture has created it."""
        new = transaction.insert_into(schema.feed).values(
            table_name=table,
            link=position.link,
            kind=position.kind,
            fingerprint=position.fingerprint,
            complete=position.complete,
            resend=False,
            deletes_approved=False,
            deletes=0,
            orphans_due=position.complete,
            read_id=position.read_id,
            version=1,
            saved_at=now,
            polled_at=now,
            **kept,
        )
        row = transaction.execute(new.on_conflict_do_nothing().returning(*_COLUMNS)).one_or_none()
        if row is None:
            raise _moved(transaction, table, None)
        return Feed(*row)

    def touch(self, transaction: Transaction, table: str, expected_version: int | None, days: Replay | None) -> Feed:
        """Raise the feed's version without moving its cursor, for rows read beside the feed.

        days: the replay that the rows are of, with the link of the next page; without one the replay has ended.
        """
        if expected_version is None:
            raise ValueError("rows beside a feed need the feed's version")
        return _move(transaction, table, expected_version, {"days": days if days.link else None} if days else {})

    def drop_days(self, transaction: Transaction, table: str) -> None:
        """Delete the table's replay of some days, since the whole table is read anyway."""
        replayed = sa.update(schema.feed).where(_F.table_name == table, _F.days.is_not(None))
        transaction.execute(replayed.values(days=None, version=_F.version + 1))

    drop_replay = writes(drop_days)


def _kept(position: Position) -> dict[str, Any]:
    """Return the changes of the feed's kept link that follow from a page."""
    if position.end and not position.again:
        # During a full read of a single page nothing can have changed.
        one_page = _F.link.is_(None)
        return {
            "kept_link": sa.case((~one_page, _F.kept_link)),
            "kept_kind": sa.case((~one_page, _F.kept_kind)),
            "kept_due": sa.and_(~one_page, _F.kept_link.is_not(None)),
            "page_size": sa.case((sa.and_(_SEVERAL, _F.page_size < LARGEST_PAGE), _GROWN), else_=_F.page_size),
        }
    if position.kind == "page":
        return {}
    # A delta read of several pages: the link of the first page returns the changes made meanwhile.
    return {
        "kept_link": sa.func.coalesce(_F.kept_link, _F.link),
        "kept_kind": sa.func.coalesce(_F.kept_kind, _F.kind),
        "kept_due": position.end,
    }


def _stored(transaction: Transaction, table: str) -> Feed | None:
    row = transaction.execute(sa.select(*_COLUMNS).where(_F.table_name == table)).one_or_none()
    return None if row is None else Feed(*row)


def _move(
    transaction: Transaction, table: str, expected: int, changes: dict[str, Any], read_id: int | None = None
) -> Feed:
    """Change the feed and raise its version, see `_change`."""
    return _change(transaction, table, expected, {**changes, "version": _F.version + 1}, read_id)


def _change(
    transaction: Transaction, table: str, expected: int, changes: dict[str, Any], read_id: int | None = None
) -> Feed:
    """Compare and set: change the feed if its version (and full read) are those expected, else raise FeedMoved."""
    same = [_F.table_name == table, _F.version == expected]
    if read_id is not None:
        same.append(_F.read_id == read_id)
    row = transaction.execute(sa.update(schema.feed).where(*same).values(changes).returning(*_COLUMNS)).one_or_none()
    if row is None:
        raise _moved(transaction, table, expected)
    return Feed(*row)


def _moved(transaction: Transaction, table: str, expected: int | None) -> FeedMoved:
    stored = _stored(transaction, table)
    return FeedMoved(table, expected, None if stored is None else stored.version)
