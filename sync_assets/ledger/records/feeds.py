"""Store the cursor of each table's change feed, and which session captures the table.

Here: the cursor and its version alone. Captured rows are stored by captures.py, deletions by deletions.py.

Invariant: a cursor only moves by compare and set on the feed's version (`FeedMoved` otherwise), so that two captures of
a table cannot overwrite each other.
"""

from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from sync_assets.ledger import times
from sync_assets.ledger.errors import FeedMoved, InMaintenance
from sync_assets.ledger.model import Feed, FeedKind, OrphansOfDeletes, Position
from sync_assets.ledger.repositories.maintenance import Maintenance
from sync_assets.ledger.repositories.sessions import Sessions
from sync_assets.ledger.storage import schema
from sync_assets.ledger.storage.session import LedgerSession

_F = schema.feed.c
_L = schema.lease.c
_PAGE: FeedKind = "page"
_DELTA = sa.and_(_F.kind == "delta", _F.link.is_not(None))
LARGEST_PAGE = 5_000
"""Rows: Dataverse's own limit of a page."""
_SEVERAL = sa.and_(_F.link.is_not(None), sa.or_(_F.kind == _PAGE, _F.kept_link.is_not(None)))  # ended after several
_GROWN = _F.page_size + _F.page_size // 10 + 1
_COUNTED = {"preserve_rowcount": True}  # else an INSERT has no rowcount


class ReadMode(NamedTuple):
    """How the rows of a read are to be captured.

    resend: send each row again, even if it is unchanged. replay: send it also if only fields differ that updates leave
    out. bound: the highest seq when a repeated full read began; None in any other read.
    """

    resend: bool = False
    replay: bool = False
    bound: int | None = None


class Feeds:
    """Reads and writes `sync_feed` and `sync_lease`."""

    def __init__(self, session: LedgerSession, sessions: Sessions, maintenance: Maintenance) -> None:
        self._session = session
        self._sessions = sessions
        self._maintenance = maintenance

    def feed(self, table: str) -> Feed | None:
        """Return the table's feed; None before its first page."""
        with self._session.database.read() as connection:
            return _stored(connection, table)

    def reset_feed(
        self, table: str, expected_version: int, *, resend: bool = False, replay: bool = False, expired: bool = False
    ) -> Feed:
        """Begin a new full read: read_id + 1, no link.

        Args:
            table: logical name in Dataverse.
            expected_version: the feed's version as read.
            resend: send each row of this read again, even if it is unchanged.
            replay: send a row of this read also if only fields differ that updates leave out.
            expired: no earlier link is valid any more. If False, the feed's link is kept: after the read it returns
                the changes that happened meanwhile.

        Raises:
            FeedMoved: the stored version is another.
        """

        def work(connection: Connection) -> Feed:
            return self.reset(connection, table, expected_version, resend=resend, replay=replay, expired=expired)

        return self._session.database.write(work)

    def keep_link(
        self, table: str, expected_version: int | None, link: str | None, kind: FeedKind | None, fingerprint: str
    ) -> Feed:
        """Store a link from before the rows of a full read, whose changes are captured after it; None removes it.

        Args:
            table: logical name in Dataverse.
            expected_version: the feed's version as read; None before the first page of the table.
            link: the link to keep.
            kind: see Feed.kept_link.
            fingerprint: of the selected columns, for a feed that is created by this call.

        Raises:
            FeedMoved: the stored version is another.
        """
        kept = {"kept_link": link, "kept_kind": kind, "kept_due": False}

        def work(connection: Connection) -> Feed:
            now = self._session.now()
            if expected_version is not None:
                return _move(connection, table, expected_version, {**kept, "saved_at": now, "polled_at": now})
            position = Position(None, "page", fingerprint)
            return self._begin(connection, table, position, now, **kept)

        return self._session.database.write(work)

    def shrink_pages(self, table: str, expected_version: int | None, rows: int, fingerprint: str) -> Feed:
        """Request pages of `rows` rows from now on.

        A link of a next page is bound to the page size of its read, so a read under way begins again.

        Args:
            table: logical name in Dataverse.
            expected_version: the feed's version as read; None before the first page of the table.
            rows: the new page size.
            fingerprint: of the selected columns, for a feed that is created by this call.

        Raises:
            FeedMoved: the stored version is another.
        """

        def work(connection: Connection) -> Feed:
            if expected_version is None:
                return self._begin(
                    connection, table, Position(None, "page", fingerprint), self._session.now(), page_size=rows
                )
            feed = _move(connection, table, expected_version, {"page_size": rows})
            if feed.kind == "page" and feed.link is not None:
                feed = self.reset(connection, table, feed.version, resend=feed.resend, replay=feed.replay)
            under_way = feed.kind == "delta" and feed.kept_link is not None and not feed.kept_due
            if under_way or feed.kept_kind == "page":
                changes = {"link": feed.kept_link} if under_way else {}
                feed = _move(connection, table, feed.version, {**changes, "kept_link": None, "kept_kind": None})
            connection.execute(sa.update(schema.replay).where(schema.replay.c.table_name == table).values(link=None))
            return feed

        return self._session.database.write(work)

    def note_poll(self, table: str, expected_version: int, link: str | None = None) -> Feed:
        """Record a poll that found no changes. link: a fresh delta link that replaces the stored one.

        Without a link the version does not change, so concurrent polls do not conflict. FeedMoved if the stored version
        is another.
        """

        def work(connection: Connection) -> Feed:
            now = self._session.now()
            if link is None:
                return _change(connection, table, expected_version, {"polled_at": now})
            changes = {"polled_at": now, "saved_at": now, "link": link, "kind": "delta"}
            return _move(connection, table, expected_version, changes)

        return self._session.database.write(work)

    def approve_deletes(self, table: str) -> bool:
        """Approve the deletions that the guard holds back, and those of their children.

        Returns:
            False if the table has no feed yet.
        """

        def work(connection: Connection) -> bool:
            changed = sa.update(schema.feed).where(_F.table_name == table).values(deletes_approved=True)
            return connection.execute(changed).rowcount == 1

        return self._session.database.write(work)

    def lease_feed(self, table: str, session: int) -> bool:
        """Take the lease to capture a table, or keep it; False if another live session holds it.

        The lease only avoids duplicate work; consistency is guarded by the feed's version. It also names other work
        that one session at a time does.

        Raises:
            InMaintenance: the table is in maintenance.
            SessionExpired: of the session.
        """

        def work(connection: Connection) -> bool:
            if since := self._maintenance.maintained_since(connection, table):
                raise InMaintenance(table, since)
            self._sessions.require(connection, session)
            new = self._session.upsert(schema.lease).values(name=table, session=session)
            taken = new.on_conflict_do_update(
                index_elements=["name"],
                set_={"session": session},
                where=(_L.session == session) | _L.session.not_in(schema.LIVE_EPOCHS),
            )
            return connection.execute(taken, execution_options=_COUNTED).rowcount == 1

        return self._session.database.write(work)

    def release_feed(self, table: str, session: int) -> None:
        """Release the capture lease, if this session still holds it."""
        lease = sa.delete(schema.lease).where(_L.name == table, _L.session == session)
        self._session.run(lease)

    def read_again(self, connection: Connection, table: str, *, resend: bool) -> None:
        """Begin a full read of a table; one that was never captured has yet to be read. resend: see `reset_feed`."""
        version = sa.select(_F.version).where(_F.table_name == table).with_for_update()
        if (known := connection.execute(version).scalar()) is not None:
            self.reset(connection, table, known, resend=resend)

    def reset(
        self,
        connection: Connection,
        table: str,
        expected_version: int,
        *,
        resend: bool,
        replay: bool = False,
        expired: bool = False,
    ) -> Feed:
        """See `reset_feed`. Also forgets which records an earlier full read returned."""
        newest = connection.execute(sa.select(sa.func.max(schema.record.c.seq))).scalar()
        connection.execute(sa.delete(schema.seen).where(schema.seen.c.table_name == table))
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
        return _move(connection, table, expected_version, changes)

    def advance(
        self, connection: Connection, table: str, position: Position, expected_version: int | None, now: int
    ) -> tuple[Feed, ReadMode]:
        """Store the cursor, and return the feed and how the rows read up to this cursor are to be captured.

        Call it first in a transaction: it locks the feed, which serialises the captures of a table.
        """
        if expected_version is None:
            return self._begin(connection, table, position, now), ReadMode()
        before = connection.execute(
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
        feed = _move(connection, table, expected_version, changes, read_id=position.read_id)
        return feed, ReadMode(before.resend, before.replay, before.read_bound) if before else ReadMode()

    def _begin(self, connection: Connection, table: str, position: Position, now: int, **kept: Any) -> Feed:
        """Create the feed of a table. FeedMoved if another capture has created it."""
        new = self._session.upsert(schema.feed).values(
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
        row = connection.execute(new.on_conflict_do_nothing().returning(schema.feed)).one_or_none()
        if row is None:
            raise _moved(connection, table, None)
        return _feed(row)

    def touch(self, connection: Connection, table: str, expected_version: int | None) -> Feed:
        """Raise the feed's version without moving its cursor, for rows read beside the feed."""
        if expected_version is None:
            raise ValueError("rows beside a feed need the feed's version")
        return _move(connection, table, expected_version, {})


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


def _stored(connection: Connection, table: str) -> Feed | None:
    row = connection.execute(sa.select(schema.feed).where(_F.table_name == table)).one_or_none()
    return None if row is None else _feed(row)


def _move(
    connection: Connection,
    table: str,
    expected: int,
    changes: dict[str, Any],
    read_id: int | None = None,
) -> Feed:
    """Change the feed and raise its version, see `_change`."""
    return _change(connection, table, expected, {**changes, "version": _F.version + 1}, read_id)


def _change(
    connection: Connection,
    table: str,
    expected: int,
    changes: dict[str, Any],
    read_id: int | None = None,
) -> Feed:
    """Compare and set: change the feed if its version (and full read) are those expected, else raise FeedMoved."""
    same = [_F.table_name == table, _F.version == expected]
    if read_id is not None:
        same.append(_F.read_id == read_id)
    row = connection.execute(sa.update(schema.feed).where(*same).values(changes).returning(schema.feed)).one_or_none()
    if row is None:
        raise _moved(connection, table, expected)
    return _feed(row)


def _moved(connection: Connection, table: str, expected: int | None) -> FeedMoved:
    stored = _stored(connection, table)
    return FeedMoved(table, expected, None if stored is None else stored.version)


def _feed(row: Any) -> Feed:
    return Feed(
        table=row.table_name,
        link=row.link,
        kind=row.kind,
        fingerprint=row.fingerprint,
        complete=row.complete,
        read_id=row.read_id,
        version=row.version,
        resend=row.resend,
        saved_at=times.from_micros(row.saved_at),
        polled_at=times.from_micros(row.polled_at),
        deletes_approved=row.deletes_approved,
        deletes=row.deletes,
        orphans=OrphansOfDeletes.stored(row.following),
        kept_link=row.kept_link,
        kept_kind=row.kept_kind,
        kept_due=row.kept_due,
        replay=row.replay,
        page_size=row.page_size,
    )
