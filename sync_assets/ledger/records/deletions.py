"""Collect deleted and out-of-scope rows during a read, and carry the deletions out when the read is at its end.

A tombstone may be on any page, and the rows that a full read did not return are known only after its last page.

Invariant: no delete becomes pending before the read is at its end, so that the guard against mass deletions sees all
deletions at once. The guard limits the deletions of a day (24 hours until now), in however many reads they come.

What becomes of the children of a deleted record: rules/dependencies.py; for users docs/links-and-deletions.md.
"""

import json
from collections.abc import Mapping, Sequence
from decimal import Decimal
from functools import partial
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from sync_assets.ledger import times
from sync_assets.ledger.errors import TooManyDeletes
from sync_assets.ledger.model import NO_ORPHANS, Loss, Orphaned, OrphansOfDeletes, State
from sync_assets.ledger.records.dependency_status import DependencyStatus
from sync_assets.ledger.rules import transitions
from sync_assets.ledger.rules.dependencies import status_of_parents
from sync_assets.ledger.rules.record_state import RecordState
from sync_assets.ledger.storage import schema
from sync_assets.ledger.storage.session import LedgerSession, TotalsChange

GUARDED_ABOVE = 100
"""Number of records above which the guard limits the share of deletions (`max_delete_share`, docs/configuration.md)."""
BATCH = 5_000
MINUTE, DAY = times.seconds(60), times.seconds(86_400)

_F = schema.feed.c
_C = schema.collected.c
_D = schema.deletion.c
_T = schema.tally.c
_R = schema.record.c
_L = schema.link.c
# An orphan that is deleted in Campaign counted when its parent was deleted.
_UNCOUNTED = _R.orphaned != Orphaned.DELETED.value
_IS_DELETED = sa.and_(_C.out_of_scope == 0, sa.or_(_C.orphan == 0, _R.orphaned == Orphaned.KEPT.value))
_NEVER_SENT = sa.and_(_R.acked_hash.is_(None), _R.outcome_unknown == 0)
MOVED = ", ".join(f"{name} = ?" for name in transitions.DesiredUpdate._fields[:-1])
MOVE = f"UPDATE sync_record SET {MOVED}, reason = NULL, attempts = 0, not_before = NULL WHERE seq = ?"  # noqa: S608
_PUT_OUT_OF_SCOPE = """
    UPDATE sync_record SET out_of_scope = 1, state = ?, block_reason = ?, payload = CASE WHEN ? THEN payload END,
        update_payload = CASE WHEN ? THEN update_payload END,
        failed_since = CASE WHEN ? THEN coalesce(failed_since, ?) END,
        reason = CASE WHEN ? THEN NULL ELSE reason END, attempts = CASE WHEN ? THEN 0 ELSE attempts END
    WHERE seq = ?
"""  # a record that is rejected now has a validation error: RecordState.refused_by_campaign
_NO_LONGER_KEPT = "UPDATE sync_link SET keep_orphans = 0"
_LOST = "UPDATE sync_link SET parent_loss = ? WHERE parent_table = ? AND parent_id"
_IN_CAMPAIGN = "SELECT seq, table_name FROM sync_record"
_COUNTS = "AND (acked_hash IS NOT NULL OR outcome_unknown > 0) AND state <> 4 ORDER BY table_name"
NOT_COLLECTED = "seq NOT IN (SELECT seq FROM sync_collected WHERE table_name = ? AND orphan = 0)"
_DELETE_COLLECTED = (
    "DELETE FROM sync_collected WHERE orphan = 0 AND seq IN (SELECT seq FROM sync_record WHERE table_name = ? AND id"
)
_INSERT_SEEN = "INSERT INTO sync_seen (seq, table_name) SELECT seq, table_name FROM sync_record"
_MISSING = """
    INSERT INTO sync_collected (seq, table_name, out_of_scope)
    SELECT r.seq, r.table_name, ? FROM sync_record r
    WHERE {table} = ? AND r.seq <= ? AND r.desired_hash IS NOT NULL AND r.out_of_scope <= ?
        AND NOT EXISTS (SELECT 1 FROM sync_seen s WHERE s.seq = r.seq)
    ON CONFLICT (seq) DO UPDATE SET orphan = 0, out_of_scope = excluded.out_of_scope WHERE sync_collected.orphan = 1
"""
# In an organization that was restored from a backup such a row may be created again with a lower version.
_NO_VERSION = """
    UPDATE sync_record SET row_version = NULL
    WHERE seq IN (SELECT seq FROM sync_collected WHERE table_name = ?)
        AND NOT EXISTS (SELECT 1 FROM sync_seen s WHERE s.seq = sync_record.seq)
"""


class Deletions:
    """Reads and writes `sync_collected`, the collected deletions."""

    def __init__(self, session: LedgerSession, dependencies: DependencyStatus) -> None:
        self._session = session
        self._dependencies = dependencies

    def carry_out_deletes(self, table: str, max_share: float = 1.0) -> int:
        """Carry out the collected deletions of a table; return how many records are pending delete by that.

        Call it when a read is at its end.

        Args:
            table: logical name in Dataverse.
            max_share: the largest share (0 to 1) of a table's records that may be deleted in 24 hours without approval,
                if the table had more than GUARDED_ABOVE records then. It applies to the other tables whose records
                would be deleted with their parents, too.

        Raises:
            TooManyDeletes: the share is exceeded and was not approved. The deletions stay collected; records that
                Campaign never held are processed all the same.
        """
        while self._session.database.write(lambda connection: self._carry_out(connection, table, _NEVER_SENT)):
            pass  # nothing of these is in Campaign, so the guard does not apply
        self._find_orphans(table)
        orphans = self.count_orphans_of_deletes(table)
        deletes, allowed = self._session.database.write(
            lambda connection: self._guard(connection, table, max_share, orphans)
        )
        if allowed is not None:
            raise TooManyDeletes(table, deletes, orphans, allowed)
        while self._session.database.write(lambda connection: self._carry_out(connection, table)):
            pass
        done: dict[str, Any] = {"deletes": 0, "following": None, "deletes_approved": False}
        self._session.database.write(lambda connection: self._store_in_feed(connection, table, done))
        return deletes

    def count_orphans_of_deletes(self, table: str) -> OrphansOfDeletes:
        """Count, by table, the children in Campaign that the collected deletions of `table` would orphan.

        A child under a privacy hold does not count.
        """
        orphans = OrphansOfDeletes({}, {})
        becomes: dict[int, Orphaned] = {}
        with self._session.database.read() as connection:
            if not self.has_collected(connection, table) or not self._dependencies.has_links(connection):
                return NO_ORPHANS
            collected = (
                sa.select(_C.seq).join(schema.record, _R.seq == _C.seq).where(_C.table_name == table, _IS_DELETED)
            )
            seqs = list(connection.execute(collected.order_by(_C.seq)).scalars())
            for start in range(0, len(seqs), BATCH):
                self._find_orphans_of(connection, seqs[start : start + BATCH], becomes)
            seqs = sorted(becomes.keys() - set(seqs))
            for start in range(0, len(seqs), BATCH):
                rows = self._session.bulk.for_seqs(connection, _IN_CAMPAIGN, seqs[start : start + BATCH], also=_COUNTS)
                for seq, orphan_table in rows:
                    counts = orphans.deleted if becomes[seq] == Orphaned.DELETED else orphans.kept
                    counts[orphan_table] = counts.get(orphan_table, 0) + 1
        return orphans

    def _find_orphans_of(self, connection: Connection, deleted: Sequence[int], becomes: dict[int, Orphaned]) -> None:
        """Find the records that would become orphans if these records were deleted. Changes nothing.

        becomes: by seq; those found by earlier calls, to which the new ones and the deleted records are added.
        """
        becomes |= dict.fromkeys(deleted, Orphaned.DELETED)
        complete_tables, seqs = self._dependencies.read_to_their_end(connection), list(deleted)
        while seqs:
            level = self._dependencies.states(connection, seqs)
            seqs = sorted(self._dependencies.children(connection, ((record.table_name, record.id) for record in level)))
            links, _, known = self._dependencies.links_and_parents(connection, seqs, lock=False)
            parents = {
                key: parent._replace(orphaned=becomes.get(parent.seq, parent.orphaned)) for key, parent in known.items()
            }
            children = self._dependencies.states(connection, seqs)
            new = {
                child.seq: status_of_parents(child, links[child.seq], parents, complete_tables) for child in children
            }
            seqs = [
                child.seq
                for child in children
                if child.desired_hash and new[child.seq].orphaned > becomes.get(child.seq, child.orphaned)
            ]
            becomes |= {seq: new[seq].orphaned for seq in seqs}

    def _guard(
        self, connection: Connection, table: str, max_share: float, orphans: OrphansOfDeletes
    ) -> tuple[int, dict[str, int] | None]:
        """Compare the collected deletions with what is allowed.

        Deletions that are held back are stored with the feed: for `status`, and for an approval, which covers that
        number and no more.

        Returns:
            The number of collected deletions, and how many are allowed by table; None instead if they may be carried
            out.
        """
        deletes = (
            sa.select(sa.func.count(), sa.func.count().filter(_UNCOUNTED))
            .join(schema.record, _R.seq == _C.seq)
            .where(_C.table_name == table, _IS_DELETED)
        )
        collected, uncounted = connection.execute(deletes).one()
        numbers = {**orphans.deleted, table: uncounted}
        approved: dict[str, int] = {}
        feed = sa.select(_F.deletes_approved, _F.deletes, _F.following).where(_F.table_name == table)
        if (row := connection.execute(feed).one_or_none()) and row.deletes_approved:
            approved = {**OrphansOfDeletes.stored(row.following).deleted, table: row.deletes}
        share = Decimal(str(max_share))  # as it is written: a float makes 62.99 of 35 % of 180
        allowed: dict[str, int] = {}
        known: dict[str, int] = {}
        for name, number in numbers.items():
            done, known[name] = self._deleted_lately(connection, name)
            left = max(0, int(share * known[name]) - done)
            allowed[name] = number if known[name] <= GUARDED_ABOVE else left + approved.get(name, 0)
        passed = all(numbers[name] <= allowed[name] for name in numbers)
        if passed:
            for name, number in numbers.items():
                self._count_deletions(connection, name, number - approved.get(name, 0), known[name])
        following = json.dumps(orphans) if any(orphans) else None
        # What passed is approved, so that it passes and counts no second time if this process is killed now.
        held = {"deletes": uncounted, "following": following, "deletes_approved": passed and any(numbers.values())}
        self._store_in_feed(connection, table, held)
        return collected, None if passed else allowed

    def _deleted_lately(self, connection: Connection, table: str) -> tuple[int, int]:
        """Return how many deletions counted in the last day, and the most records that the table had meanwhile."""
        day = sa.select(sa.func.sum(_D.records), sa.func.max(_D.known))
        lately = day.where(_D.table_name == table, _D.at > self._session.now() - DAY)
        records, known = connection.execute(lately).one()
        return int(records or 0), max(self._record_count(connection, table), known or 0)

    def _count_deletions(self, connection: Connection, table: str, number: int, known: int) -> None:
        """Add to the deletions of this minute, and remove those of the day before."""
        if number <= 0:
            return
        now = self._session.now()
        connection.execute(sa.delete(schema.deletion).where(_D.table_name == table, _D.at <= now - DAY))
        minute = {"table_name": table, "at": now - now % MINUTE + MINUTE, "records": number, "known": known}
        new = self._session.upsert(schema.deletion).values(minute)
        more = {"records": _D.records + new.excluded.records}
        connection.execute(new.on_conflict_do_update(index_elements=["table_name", "at"], set_=more))

    def _record_count(self, connection: Connection, table: str) -> int:
        """Return the number of the table's records."""
        counted = sa.select(sa.func.sum(_T.records)).where(_T.table_name == table, _T.state != State.TOMBSTONE.value)
        return int(connection.execute(counted).scalar() or 0)

    def _store_in_feed(self, connection: Connection, table: str, changes: Mapping[str, Any]) -> None:
        """Store values in the table's feed, if they differ."""
        differs = sa.or_(*(_F[name].is_distinct_from(value) for name, value in changes.items()))
        connection.execute(sa.update(schema.feed).where(_F.table_name == table, differs).values(changes))

    def _carry_out(self, connection: Connection, table: str, *only: sa.ColumnElement[bool]) -> bool:
        """Carry out one batch of collected deletions that meet the conditions `only`; False if none is left."""
        self._dependencies.lock_linked_records(connection)
        batch = (
            sa.select(_C.seq, _C.out_of_scope, _C.orphan)
            .where(_C.table_name == table, *only)
            .order_by(_C.seq)
            .limit(BATCH)
        )
        if only:
            batch = batch.join(schema.record, _R.seq == _C.seq)
        rows = connection.execute(batch).all()
        orphans = [row.seq for row in rows if row.orphan]
        gone = [row for row in rows if not row.orphan]
        seqs = {out_of_scope: [row.seq for row in gone if row.out_of_scope == out_of_scope] for out_of_scope in (0, 1)}
        tally = TotalsChange()
        self.mark_deleted_or_out_of_scope(connection, seqs[0], tally, out_of_scope=False)
        self.mark_deleted_or_out_of_scope(connection, seqs[1], tally, out_of_scope=True)
        self._session.bulk.for_seqs(connection, _NO_LONGER_KEPT, orphans, also="AND keep_orphans = 2")
        self._dependencies.reevaluate(connection, self._session.bulk.states_of(connection, orphans), (), tally)
        self._session.bulk.for_seqs(connection, "DELETE FROM sync_collected", [row.seq for row in rows])
        self._session.count(connection, tally)
        return bool(rows)

    def mark_deleted_or_out_of_scope(
        self, connection: Connection, seqs: Sequence[int], tally: TotalsChange, *, out_of_scope: bool
    ) -> None:
        """Mark records as pending delete or, if `out_of_scope`, as out of scope: Campaign then keeps what it holds.

        Records that Campaign never held are purged.
        """
        now = self._session.now()
        moves: list[transitions.DesiredUpdate] = []
        moved: list[RecordState] = []
        left: list[tuple[int, int, bool, bool, bool, int, bool, bool, int]] = []
        forgotten: list[RecordState] = []
        for record in self._session.bulk.states_of(connection, seqs):
            if transitions.is_purgeable(record):
                forgotten.append(record)
                tally.remove(record)
            elif out_of_scope:
                where = transitions.after_leaving_scope(record)
                keep = where.state != State.SYNCED
                fails = where.state == State.REJECTED
                stuck = fails or where.state == State.ORPHANED
                columns = (where.state.value, where.block_reason.value, keep, keep, stuck, now, fails, fails)
                left.append((*columns, record.seq))
                moved.append(record._replace(state=where.state, block_reason=where.block_reason, out_of_scope=1))
                tally.move(record, where.state)
            elif (move := transitions.after_delete(record, now=now)) is not None:
                moves.append(move)
                moved.append(transitions.after_update(record, move))
                tally.move(record, move.state)
        self._session.bulk.for_each(connection, MOVE, moves)
        self._session.bulk.for_each(connection, _PUT_OUT_OF_SCOPE, left)
        self._session.bulk.for_seqs(connection, "DELETE FROM sync_record", [record.seq for record in forgotten])
        if self._dependencies.has_links(connection):
            self._dependencies.reevaluate(connection, moved, forgotten, tally)

    # --- orphans ------------------------------------------------------------------------------------------------------

    def _find_orphans(self, table: str) -> None:
        """Re-evaluate the children that wait for rows of the table: those that the full read did not return never come.

        Done once per full read; rows of later changes re-evaluate their children by themselves.
        """
        due = sa.select(_F.read_id).where(_F.table_name == table, _F.orphans_due, _F.complete)
        waiting = (
            sa.select(_R.seq)
            .join(schema.link, _L.seq == _R.seq)
            .where(schema.STUCK, sa.text("state = 2 AND block_reason = 2"), _L.parent_table == table)
            .distinct()
        )
        read_id = self._session.scalar(due)
        if read_id is None:
            return
        # Wait for transactions that re-evaluate children now: they may have read that the feed is not complete.
        self._session.database.write(
            lambda connection: self._dependencies.lock_linked_records(connection, first_links=True)
        )
        seqs = sorted(self._session.column(waiting))
        for start in range(0, len(seqs), BATCH):
            batch = seqs[start : start + BATCH]
            self._session.database.write(partial(self._reevaluate_orphans, seqs=batch))
        same = sa.update(schema.feed).where(_F.table_name == table, _F.read_id == read_id)
        self._session.run(same.values(orphans_due=False))

    def _reevaluate_orphans(self, connection: Connection, seqs: Sequence[int]) -> None:
        self._dependencies.lock_linked_records(connection, first_links=True)
        tally = TotalsChange()
        self._dependencies.reevaluate(connection, self._session.bulk.states_of(connection, seqs), (), tally)
        self._session.count(connection, tally)

    def mark_lost(self, connection: Connection, table: str, ids: Sequence[str], loss: Loss) -> None:
        """Store with the links of children why these rows of the table are unavailable, for `orphans`."""
        self._session.bulk.for_ids(connection, _LOST, ids, loss.value, table)

    # --- collecting ---------------------------------------------------------------------------------------------------

    def collect(self, connection: Connection, table: str, seqs: Sequence[int]) -> int:
        """Collect the deletes of records whose rows were not deleted so far; return how many are new."""
        select_seq = "SELECT seq FROM sync_record"
        open_ = f"AND desired_hash IS NOT NULL AND {NOT_COLLECTED}"
        collected = [row[0] for row in self._session.bulk.for_seqs(connection, select_seq, seqs, table, also=open_)]
        if collected:
            noted = [{"seq": seq, "table_name": table, "out_of_scope": 0, "orphan": 0} for seq in collected]
            new = self._session.upsert(schema.collected)
            connection.execute(new.on_conflict_do_update(index_elements=["seq"], set_={"orphan": 0}), noted)
        return len(collected)

    def has_collected(self, connection: Connection, table: str) -> bool:
        return bool(connection.execute(sa.select(sa.exists().where(_C.table_name == table))).scalar())

    def discard_collected_deletes(self, connection: Connection, table: str, ids: Sequence[str]) -> None:
        """Remove these rows from the collected deletions: a later page returned them."""
        self._session.bulk.for_record_ids(connection, _DELETE_COLLECTED, ids, table, also=")")

    def discard_collected_orphans(self, connection: Connection, seqs: Sequence[int]) -> None:
        """Remove these records from the collected orphans: a full read decides about them anew."""
        self._session.bulk.for_seqs(connection, "DELETE FROM sync_collected", seqs, also="AND orphan = 1")
        self._session.bulk.for_seqs(connection, _NO_LONGER_KEPT, seqs, also="AND keep_orphans = 2")

    def note_seen(self, connection: Connection, table: str, seqs: Sequence[int], ids: Sequence[str]) -> None:
        """Store that the full read under way has returned these records, by seq and by id."""
        seen = [*seqs, *self._session.bulk.find(connection, table, ids).values()]
        self._session.bulk.for_seqs(connection, _INSERT_SEEN, seen, also="ON CONFLICT (seq) DO NOTHING")

    def note_missing(self, connection: Connection, table: str, bound: int, *, out_of_scope: bool) -> None:
        """Collect the records that a complete full read did not return.

        Args:
            connection: of the transaction.
            table: logical name in Dataverse.
            bound: the highest seq when the read began; later records are not compared with it.
            out_of_scope: treat them as out of scope. If False they are to be deleted, and with them the records that
                Campaign kept when their rows went out of scope.
        """
        values = (int(out_of_scope), table, bound, int(not out_of_scope))
        # Read by seq, the order on disk, unless most records are of other tables: by the index of ids each record is on
        # another page, which takes two to four times as long. The expression keeps the database from using the index.
        in_order = self._record_count(connection, table) * 4 > bound
        missing = _MISSING.replace("{table}", "(r.table_name || '')" if in_order else "r.table_name")
        self._session.execute(connection, missing, values)
        self._session.execute(connection, _NO_VERSION, (table,))
        connection.execute(sa.delete(schema.seen).where(schema.seen.c.table_name == table))
