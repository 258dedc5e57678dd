"""Store which days of a table are to be captured again (replay), and the cursor of that read.

Here: replays of some days, one at a time per table. The replay of a whole table is a full read of its feed, see
feeds.py.
"""

from dataclasses import dataclass, replace
from datetime import date

import sqlalchemy as sa

from sync_assets.ledger.errors import FeedMoved
from sync_assets.ledger.model import Feed, Replay
from sync_assets.ledger.records.feeds import Feeds
from sync_assets.ledger.storage import schema
from sync_assets.ledger.storage.session import Repository, writes
from sync_assets.ledger.storage.transaction import Transaction

_P = schema.replay.c
_F = schema.feed.c


@dataclass(eq=False)
class Replays(Repository):
    """Reads and writes `sync_replay`."""

    _feeds: Feeds

    def replay(self, table: str) -> Replay | None:
        """Return the table's replay, requested or under way; None if there is none."""
        with self._session.read() as transaction:
            return _stored(transaction, table)

    @writes
    def ask_for_replay(
        self, transaction: Transaction, table: str, first: date, last: date, *, resend: bool = False
    ) -> Replay:
        """Request a replay of the rows last modified from `first` to `last`.

        Args:
            first: the first day, included; date.min for no lower bound.
            last: the last day, included; date.max for no upper bound.
            resend: send the rows again even if they are unchanged.

        Returns:
            The table's replay: an earlier one if there is one, which then goes on unchanged.
        """
        days = {"first_day": first, "last_day": last}
        transaction.add(schema.replay, {"table_name": table, **days, "resend": resend})
        stored = _stored(transaction, table)
        if stored is None:
            raise AssertionError("the replay was just written")
        return stored

    @writes
    def advance_replay(
        self, transaction: Transaction, read: Replay, fingerprint: str, link: str | None
    ) -> Replay | None:
        """Move the cursor of a replay after one of its pages was stored; end the replay after the last page.

        A page is stored before the cursor moves, so a process that dies between the two repeats that page.

        Args:
            read: the replay as it was when the page was read.
            fingerprint: of the columns that the link returns.
            link: of the next page; None if that was the last one.

        Returns:
            The replay as stored now; None if it ended.

        Raises:
            FeedMoved: another capture has moved the cursor.
        """
        same = [
            _P.table_name == read.table,
            _P.first_day == read.first,
            _P.last_day == read.last,
            _P.resend == read.resend,
            _P.link.is_not_distinct_from(read.link),
        ]
        if link is None:
            moved = transaction.execute(sa.delete(schema.replay).where(*same))
        else:
            changes = {"fingerprint": fingerprint, "link": link}
            moved = transaction.execute(sa.update(schema.replay).where(*same).values(changes))
        if moved.rowcount != 1:
            raise FeedMoved(read.table)
        return None if link is None else replace(read, fingerprint=fingerprint, link=link)

    def drop_replay(self, table: str) -> None:
        """Delete the table's replay of some days, since the whole table is read anyway."""
        replay = sa.delete(schema.replay).where(_P.table_name == table)
        self._session.write(lambda transaction: transaction.execute(replay))

    def replay_everything(self, table: str, *, resend: bool = False) -> Feed | None:
        """Begin a full read that replays the whole table; a first load or a replay under way goes on.

        Until the read is complete, each row is sent if it differs, also if only in fields that updates leave out.

        Args:
            table: logical name in Dataverse.
            resend: send each row again even if it is unchanged.

        Returns:
            The feed; None if the table was never captured.
        """
        while (feed := self._feeds.feed(table)) is not None:
            asked = self.replay(table)
            resend = resend or bool(asked and asked.resend)
            try:
                first_load = feed.read_id == 1 and not feed.complete  # which sends all fields in any case
                if feed.complete or (resend and not feed.resend) or not (feed.replay or first_load):
                    feed = self._feeds.reset_feed(table, feed.version, resend=resend or feed.resend, replay=True)
            except FeedMoved:
                continue  # a capture is under way, and goes on with the full read when it comes to its next page
            self.drop_replay(table)
            return feed
        return None

    def capture_wanted(self, table: str) -> bool:
        """Return True if a capture has work to do even if the feed has no changes.

        The work is a replay, deletions that were held back and are approved by now, a kept link to be polled for the
        changes during a read, or children that may have been orphaned while a table was in maintenance.
        """
        approved = sa.and_(_F.deletes_approved, _F.deletes > 0)
        orphans = sa.and_(_F.orphans_due, _F.complete)
        feed = sa.select(_F.table_name).where(_F.table_name == table, sa.or_(approved, _F.kept_due, orphans))
        asked = sa.select(_P.table_name).where(_P.table_name == table)
        with self._session.read() as transaction:
            return any(transaction.execute(query).first() is not None for query in (feed, asked))


def _stored(transaction: Transaction, table: str) -> Replay | None:
    row = transaction.execute(sa.select(schema.replay).where(_P.table_name == table)).one_or_none()
    return None if row is None else Replay(*row)
