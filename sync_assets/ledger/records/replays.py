"""Request replays of a table: of the rows modified on some days, or of the whole table, which is a full read.

A replay and its cursor are stored with the table's feed: a page of it moves both in one transaction, see feeds.py.
"""

from dataclasses import dataclass
from datetime import date

import sqlalchemy as sa

from sync_assets.ledger.feed import Feed, Replay
from sync_assets.ledger.records.feeds import Feeds
from sync_assets.ledger.storage import schema
from sync_assets.ledger.storage.session import Repository, writes
from sync_assets.ledger.storage.transaction import Transaction

_F = schema.feed.c
_C = schema.collected.c


@dataclass(eq=False)
class Replays(Repository):
    """Reads and writes the replays in `sync_feed`."""

    _feeds: Feeds

    @writes
    def ask_for_replay(
        self, transaction: Transaction, table: str, first: date, last: date, *, resend: bool = False
    ) -> Replay | None:
        """Request a replay of the rows last modified from `first` to `last`.

        Args:
            first: the first day, included; date.min for no lower bound.
            last: the last day, included; date.max for no upper bound.
            resend: send the rows again even if they are unchanged.

        Returns:
            The table's replay: an earlier one if there is one, which then goes on unchanged. None if the table was
            never captured, so that all its rows are still to be read.
        """
        asked = sa.update(schema.feed).where(_F.table_name == table, _F.days.is_(None))
        transaction.execute(asked.values(days=Replay(first, last, resend), version=_F.version + 1))
        return transaction.execute(sa.select(_F.days).where(_F.table_name == table)).scalar()

    @writes
    def replay_everything(self, transaction: Transaction, table: str, *, resend: bool = False) -> Feed | None:
        """Begin a full read that replays the whole table; a first load or a replay under way goes on.

        Until the read is complete, each row is sent if it differs, also if only in fields that updates leave out.

        Args:
            table: logical name in Dataverse.
            resend: send each row again even if it is unchanged.

        Returns:
            The feed; None if the table was never captured.
        """
        feed = self._feeds.locked(transaction, table)
        if feed is None:
            return None
        resend = resend or bool(feed.days and feed.days.resend)
        first_load = feed.read_bound is None and not feed.complete  # which sends all fields in any case
        if feed.complete or (resend and not feed.resend) or not (feed.replay or first_load):
            # A capture under way goes on with the full read when it comes to its next page.
            self._feeds.reset(transaction, table, feed.version, resend=resend or feed.resend, replay=True)
        self._feeds.drop_replay_in(transaction, table)
        return self._feeds.locked(transaction, table)

    def capture_wanted(self, table: str) -> bool:
        """Return True if a capture has work to do even if the feed has no changes.

        The work is a replay, deletions that were held back and are approved by now, orphans that the guard has not
        counted yet, a kept link to be polled for the changes during a read, or children that may have been orphaned
        while a table was in maintenance.
        """
        approved = sa.and_(_F.deletes_approved, _F.deletes > 0)
        orphans = sa.and_(_F.orphans_due, _F.complete)
        collected = sa.exists().where(_C.table_name == _F.table_name, _C.orphan == 1)
        uncounted = sa.and_(_F.complete, _F.deletes == 0, collected)
        wanted = sa.or_(_F.days.is_not(None), approved, _F.kept_due, orphans, uncounted)
        return self._session.scalar(sa.select(_F.table_name).where(_F.table_name == table, wanted)) is not None
