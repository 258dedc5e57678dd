"""Replays: days of a table that are to be captured again, until the last of their pages is in.

One at a time for each table. The replay of a whole table is a full read of its feed, see `feeds`.
"""

from dataclasses import replace
from datetime import date

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from sync_assets.ledger import times
from sync_assets.ledger.errors import FeedMoved
from sync_assets.ledger.model import Feed, Replay
from sync_assets.ledger.records.feeds import Feeds
from sync_assets.ledger.storage import schema

_P = schema.replay.c
_F = schema.feed.c


class Replays(Feeds):
    def replay(self, table: str) -> Replay | None:
        """What is asked for or under way; None if nothing is."""
        with self._database.read() as connection:
            return _stored(connection, table)

    def ask_for_replay(self, table: str, first: date, last: date, *, resend: bool = False) -> Replay:
        """Ask for the rows last modified on these days, both included; date.min and date.max leave a side open.

        resend: they are sent again, equal or not. Returns what stands now: another replay if one is under way.
        """

        def work(connection: Connection) -> Replay:
            new = self._upsert(schema.replay).values(
                table_name=table,
                first_day=times.to_day_number(first),
                last_day=times.to_day_number(last),
                resend=resend,
            )
            connection.execute(new.on_conflict_do_nothing())
            stored = _stored(connection, table)
            if stored is None:
                raise AssertionError("the replay was just written")
            return stored

        return self._database.write(work)

    def replayed(self, read: Replay, fingerprint: str, link: str | None) -> Replay | None:
        """A page that `read` asked for is in the ledger: what is to be read next, None after the last one.

        link: of the next page, None: that was the last one. FeedMoved if another capture has gone on with it. A page
        is stored before its replay goes on, so a death between the two repeats that page.
        """

        def work(connection: Connection) -> Replay | None:
            same = [
                _P.table_name == read.table,
                _P.first_day == times.to_day_number(read.first),
                _P.last_day == times.to_day_number(read.last),
                _P.resend == read.resend,
                _P.link.is_not_distinct_from(read.link),
            ]
            if link is None:
                moved = connection.execute(sa.delete(schema.replay).where(*same))
            else:
                changes = {"fingerprint": fingerprint, "link": link}
                moved = connection.execute(sa.update(schema.replay).where(*same).values(changes))
            if moved.rowcount != 1:
                raise FeedMoved(read.table)
            return None if link is None else replace(read, fingerprint=fingerprint, link=link)

        return self._database.write(work)

    def drop_replay(self, table: str) -> None:
        """The whole table is read anyway: no days need to be."""
        gone = sa.delete(schema.replay).where(_P.table_name == table)
        self._database.write(lambda connection: connection.execute(gone))

    def replay_everything(self, table: str, *, resend: bool = False) -> Feed | None:
        """Begin a full read; a first load that is under way goes on, and so does a replay. None if the table was never
        captured.

        Until it is complete, each row that it brings is sent if it differs, also in fields that are not updated.
        resend: equal or not.
        """
        while (feed := self.feed(table)) is not None:
            asked = self.replay(table)
            resend = resend or bool(asked and asked.resend)
            try:
                first_load = feed.read_id == 1 and not feed.complete  # which sends all fields anyway
                if feed.complete or (resend and not feed.resend) or not (feed.replay or first_load):
                    feed = self.reset_feed(table, feed.version, resend=resend or feed.resend, replay=True)
            except FeedMoved:
                continue  # a capture is under way, and goes on with the full read when it comes to its next page
            self.drop_replay(table)
            return feed
        return None

    def capture_wanted(self, table: str) -> bool:
        """Whether a capture has something to do even if the feed has no news: a replay, deletions that were held back
        and are approved by now, a link that is to be asked what changed while a read went on, or children that may have
        lost their parent while a table was in maintenance."""
        approved = sa.and_(_F.deletes_approved, _F.deletes > 0)
        orphans = sa.and_(_F.orphans_due, _F.complete)
        feed = sa.select(_F.table_name).where(_F.table_name == table, sa.or_(approved, _F.kept_due, orphans))
        asked = sa.select(_P.table_name).where(_P.table_name == table)
        with self._database.read() as connection:
            return any(connection.execute(one).first() is not None for one in (feed, asked))


def _stored(connection: Connection, table: str) -> Replay | None:
    row = connection.execute(sa.select(schema.replay).where(_P.table_name == table)).one_or_none()
    if row is None:
        return None
    return Replay(
        table=row.table_name,
        first=times.from_day_number(row.first_day),
        last=times.from_day_number(row.last_day),
        resend=row.resend,
        fingerprint=row.fingerprint,
        link=row.link,
    )
