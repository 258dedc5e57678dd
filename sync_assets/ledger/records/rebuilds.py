"""Rebuilds: what Campaign holds already is found out, before a first load, or after the ledger was lost or restored.

A rebuild reads all rows of Dynamics 365 again and asks for all of them to be sent, so that none counts as acknowledged
by hearsay. Then Campaign's records are looked at page by page, and those that hold what they should are acknowledged
without a request. What is left is pending, as after any capture: a rebuild that is killed, or never ended, costs
requests and no record.
"""

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from sync_assets.ledger import times
from sync_assets.ledger.model import BlockReason, Claimed, Rebuild, State
from sync_assets.ledger.records.claims import CLAIM, claimable, claimed
from sync_assets.ledger.records.dependency_status import DependencyStatus
from sync_assets.ledger.records.feeds import Feeds
from sync_assets.ledger.storage import schema

_B = schema.rebuild.c
_R = schema.record.c


class Rebuilds(Feeds, DependencyStatus):
    def rebuild(self, table: str) -> Rebuild | None:
        """The one that is under way; None if none is."""
        with self._database.read() as connection:
            return _stored(connection, table)

    def begin_rebuild(self, table: str) -> Rebuild:
        """Begin one: the feed is read again from its beginning, and each row that it brings is to be sent. One that is
        under way goes on."""

        def work(connection: Connection) -> Rebuild:
            if (under_way := _stored(connection, table)) is not None:
                return under_way
            new = Rebuild(table)
            _begin(connection, table, captured=False)
            version = sa.select(schema.feed.c.version).where(schema.feed.c.table_name == table).with_for_update()
            if (known := connection.execute(version).scalar()) is not None:
                self._reset(connection, table, known, resend=True)
            connection.execute(sa.delete(schema.replay).where(schema.replay.c.table_name == table))
            return new

        return self._database.write(work)

    def begin_listing(self, table: str, *, captured: bool) -> Rebuild:
        """Begin to list what Campaign holds before the first insert, or go on with what is under way; nothing of the
        feed is read again. captured: all rows of Dynamics 365 are in the ledger."""

        def work(connection: Connection) -> Rebuild:
            under_way = _stored(connection, table)
            if under_way is None:
                _begin(connection, table, captured=captured)
            elif captured and not under_way.captured:
                moved = sa.update(schema.rebuild).where(_B.table_name == table).values(captured=True)
                connection.execute(moved)
            return _stored(connection, table) or Rebuild(table, captured)

        return self._database.write(work)

    def lease_listing(self, table: str, owner: str, seconds: float) -> bool:
        """Take the right to list the table's records in Campaign, or keep it longer; False if another owner has it.

        It only spares double calls: what is found out twice is settled once.
        """
        return self.lease_feed(_listed(table), owner, seconds)

    def release_listing(self, table: str, owner: str) -> None:
        """Give the right back; nothing happens if the owner has it no more."""
        self.release_feed(_listed(table), owner)

    def put_rebuild(self, rebuild: Rebuild) -> None:
        """Store how far it has come."""
        changes = {name: getattr(rebuild, name) for name in ("captured", "link", "records", "equal", "differing")}
        moved = sa.update(schema.rebuild).where(_B.table_name == rebuild.table)
        self._database.write(
            lambda connection: connection.execute(moved.values(**changes, unknown=rebuild.unknown)) and None
        )

    def end_rebuild(self, table: str) -> None:
        gone = sa.delete(schema.rebuild).where(_B.table_name == table)
        self._database.write(lambda connection: connection.execute(gone) and None)

    def claim_found(
        self, table: str, ids: list[str], *, owner: str, lease_seconds: float, remember: bool = True
    ) -> tuple[list[Claimed], int]:
        """Take those of the records that Campaign was found to hold of which it is to be found out what it holds; and
        how many of the ids the ledger does not know.

        Besides pending ones these are records that wait for a parent, were refused, are out of scope, or are held or
        excluded (if nothing is known of them in Campaign): a delete would leave them there if they were not known to be
        there, and what an older copy of the ledger says of their links may not hold any more. A record that is to leave
        Campaign is left alone, and so is one that waits for a parent which is out of scope: Campaign would be asked to
        delete it. update_payload is told also of a record that is to be sent as a whole: it was there before, so what
        is sent once only was sent.

        remember: ids that the ledger does not know are noted; should they come into scope, they are not inserted
        blindly (see `claim`).
        """

        def work(connection: Connection) -> tuple[list[Claimed], int]:
            now = self._now()
            known = self._bulk.find(connection, table, ids)
            if remember and (unknown := [id_ for id_ in ids if id_ not in known]):
                noted = self._upsert(schema.existing_record).values(
                    [{"table_name": table, "id": id_} for id_ in unknown]
                )
                connection.execute(noted.on_conflict_do_nothing())
            asked_for = sa.or_(
                sa.and_(_R.state == State.PENDING.value, _R.payload.is_not(None)),
                _R.state.in_([State.WAITING.value, State.FAILED.value]),
                sa.and_(_R.state == State.SYNCED.value, _R.withdrawn == 1),
                sa.and_(
                    _R.state.in_([State.HELD.value, State.EXCLUDED.value]),
                    _R.acked_hash.is_(None),
                    _R.uncertain == 0,
                ),
            )
            stays = sa.and_(
                _R.desired_hash.is_not(None),
                _R.gate.not_in([BlockReason.PARENT_UNAVAILABLE.value, BlockReason.CHILDREN_PENDING.value]),
            )
            names = ("seq", "id", "day", "payload", "update_payload", "desired_hash", "acked_hash")
            names += ("attempts", "uncertain", "resend", "gate")
            wanted = (
                sa.select(*(_R[name] for name in names if name != "resend"), sa.literal(0).label("resend"))
                .where(_R.seq.in_(list(known.values())), stays, asked_for, *claimable(now))
                .order_by(_R.seq)
                .with_for_update(skip_locked=True)
            )
            rows = connection.execute(wanted).all()
            seqs = [row.seq for row in rows]
            self._bulk.for_seqs(connection, CLAIM, seqs, owner, now + times.seconds(lease_seconds))
            # Nothing is sent, so no doubt begins where it is known what Campaign has: what is not to be sent would keep
            # it for ever, and its children wait. Where it was not known, the mark that it is there outlives a kill.
            known_to_hold = [row.seq for row in rows if row.acked_hash is not None and not row.uncertain]
            self._bulk.for_seqs(connection, "UPDATE sync_record SET uncertain = 0", known_to_hold)
            links = self._links_to_send(connection, seqs) if self._tied(connection) else {}
            return [claimed(row, links.get(row.seq, ()), ()) for row in rows], len(ids) - len(known)

        return self._database.write(work)


def _listed(table: str) -> str:
    """The lease's name beside that of the table's capture: no table of Dynamics 365 has a slash in its name."""
    return f"campaign/{table}"


def _begin(connection: Connection, table: str, *, captured: bool) -> None:
    counts = {"records": 0, "equal": 0, "differing": 0, "unknown": 0}
    connection.execute(sa.insert(schema.rebuild).values(table_name=table, captured=captured, **counts))


def _stored(connection: Connection, table: str) -> Rebuild | None:
    row = connection.execute(sa.select(schema.rebuild).where(_B.table_name == table)).one_or_none()
    if row is None:
        return None
    return Rebuild(row.table_name, row.captured, row.link, row.records, row.equal, row.differing, row.unknown)
