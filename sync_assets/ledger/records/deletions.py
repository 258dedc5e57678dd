"""Collect deleted and out-of-scope rows during a read, and carry the deletions out when the read is at its end.

A tombstone may be on any page, and the rows that a full read did not return are known only after its last page.

Invariant: no delete becomes pending before the read is at its end, so that the guard against mass deletions sees all
deletions at once. The guard limits the deletions of a day (24 hours until now), in however many reads they come.

What becomes of the children of a deleted record: rules/dependencies.py; for users docs/links-and-deletions.md.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from operator import attrgetter
from typing import Any

import sqlalchemy as sa

from sync_assets.ledger import times
from sync_assets.ledger.errors import TooManyDeletes
from sync_assets.ledger.feed import NO_ORPHANS, OrphansOfDeletes
from sync_assets.ledger.model import Loss, Orphaned, State
from sync_assets.ledger.records.dependency_status import DependencyStatus
from sync_assets.ledger.rules import transitions
from sync_assets.ledger.rules.dependencies import status_of_parents
from sync_assets.ledger.rules.predicates import MAY_EXIST, MAY_LACK_PARENT
from sync_assets.ledger.rules.record_state import RecordState
from sync_assets.ledger.storage import schema
from sync_assets.ledger.storage.session import Repository, writes
from sync_assets.ledger.storage.transaction import Transaction

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
_NEVER_SENT = schema.holds(~MAY_EXIST)
MOVED = (
    *("state", "block_reason", "desired_hash", "acked_hash", "validation_error"),
    *("failed_since", "resend", "outcome_unknown", "out_of_scope", "attempts"),
)
"""The columns of a RecordState that a captured row or its removal changes, besides the payloads."""
_REMOVE = f"""
    UPDATE sync_record SET {", ".join(f"{name} = ?" for name in MOVED)}, changed_at = coalesce(?, changed_at),
        payload = CASE WHEN ? THEN payload END, update_payload = CASE WHEN ? THEN update_payload END,
        reason = CASE WHEN ? THEN reason END, not_before = CASE WHEN ? THEN not_before END
    WHERE seq = ?
"""  # noqa: S608 - constants
_NO_LONGER_KEPT = "UPDATE sync_link SET keep_orphans = 0 WHERE seq IN :seqs AND keep_orphans = 2"
_LOST = "UPDATE sync_link SET parent_loss = :loss WHERE parent_table = :table AND parent_id IN :ids"
_IN_CAMPAIGN = f"""
    SELECT seq, table_name FROM sync_record WHERE seq IN :seqs AND {MAY_EXIST} AND state <> {State.HELD:d}
    ORDER BY table_name
"""  # noqa: S608 - constants
NOT_COLLECTED = "seq NOT IN (SELECT seq FROM sync_collected WHERE table_name = :table AND orphan = 0)"
_COLLECT = f"""
    INSERT INTO sync_collected (seq, table_name, out_of_scope) SELECT seq, table_name, 0 FROM sync_record
    WHERE seq IN :seqs AND desired_hash IS NOT NULL AND {NOT_COLLECTED}
    ON CONFLICT (seq) DO UPDATE SET orphan = 0
"""  # noqa: S608 - constants
_DISCARD_DELETES = """
    DELETE FROM sync_collected
    WHERE orphan = 0 AND seq IN (SELECT seq FROM sync_record WHERE table_name = :table AND id IN :records)
"""
_DISCARD_ORPHANS = "DELETE FROM sync_collected WHERE seq IN :seqs AND orphan = 1"
_CARRIED_OUT = "DELETE FROM sync_collected WHERE seq IN :seqs"
_INSERT_SEEN = """
    INSERT INTO sync_seen (seq, table_name) SELECT seq, table_name FROM sync_record WHERE seq IN :seqs
    ON CONFLICT (seq) DO NOTHING
"""
# Read by seq, the order on disk, unless most records are of other tables: by the index of ids each record is on another
# page, which takes two to four times as long. The expression keeps the database from using the index.
_MISSING, _MISSING_IN_ORDER = (
    f"""
    INSERT INTO sync_collected (seq, table_name, out_of_scope)
    SELECT r.seq, r.table_name, :out_of_scope FROM sync_record r
    WHERE {name} = :table AND r.seq <= :bound AND r.desired_hash IS NOT NULL AND r.out_of_scope <= :most
        AND NOT EXISTS (SELECT 1 FROM sync_seen s WHERE s.seq = r.seq)
    ON CONFLICT (seq) DO UPDATE SET orphan = 0, out_of_scope = excluded.out_of_scope WHERE sync_collected.orphan = 1
    """  # noqa: S608 - constants
    for name in ("r.table_name", "(r.table_name || '')")
)
# In an organization that was restored from a backup such a row may be created again with a lower version.
_NO_VERSION = """
    UPDATE sync_record SET row_version = NULL
    WHERE seq IN (SELECT seq FROM sync_collected WHERE table_name = :table)
        AND NOT EXISTS (SELECT 1 FROM sync_seen s WHERE s.seq = sync_record.seq)
"""


def record_count(transaction: Transaction, table: str) -> int:
    """Return the number of a table's records."""
    counted = sa.select(sa.func.sum(_T.records)).where(_T.table_name == table, _T.state != State.TOMBSTONE.value)
    return int(transaction.execute(counted).scalar() or 0)


def passed_lately(transaction: Transaction, now: int, table: str) -> dict[str, tuple[int, int]]:
    """Return, by attribute as in `sync_deletion`, what passed in the last day, and the most records that there were."""
    lately = sa.select(_D.attribute, sa.func.sum(_D.records), sa.func.max(_D.known))
    rows = transaction.execute(lately.where(_D.table_name == table, _D.at > now - DAY).group_by(_D.attribute))
    return {attribute: (int(records), int(known)) for attribute, records, known in rows}


def count_passed(transaction: Transaction, now: int, table: str, numbers: Mapping[str, int], known: int) -> None:
    """Add to what passed in this minute, by attribute, and remove what passed before the last day."""
    minute = {"table_name": table, "at": now - now % MINUTE + MINUTE, "known": known}
    rows = [{**minute, "attribute": name, "records": number} for name, number in sorted(numbers.items()) if number > 0]
    if rows:
        transaction.execute(sa.delete(schema.deletion).where(_D.table_name == table, _D.at <= now - DAY))
        transaction.put(schema.deletion, rows, added="records")


def allowed_of(records: int, max_share: float) -> int:
    """Return how many of a number of records a share allows."""
    return int(Decimal(str(max_share)) * records)  # as it is written: a float makes 62.99 of 35 % of 180


@dataclass(eq=False)
class Deletions(Repository):
    """Reads and writes `sync_collected`, the collected deletions."""

    _dependencies: DependencyStatus

    def carry_out_deletes(self, table: str, max_share: float = 1.0) -> int:
        """Carry out the collected deletions of a table; return how many records are pending delete by that.

        Call it when a read is at its end.

        Args:
            max_share: the largest share (0 to 1) of a table's records that may be deleted in 24 hours without approval,
                if the table had more than GUARDED_ABOVE records then. It applies to the other tables whose records
                would be deleted with their parents, too.

        Raises:
            TooManyDeletes: the share is exceeded and was not approved. The deletions stay collected; records that
                Campaign never held are processed all the same.
        """
        while self._session.write(lambda transaction: self._carry_out(transaction, table, _NEVER_SENT)):
            pass  # nothing of these is in Campaign, so the guard does not apply
        self._find_orphans(table)
        orphans = self.count_orphans_of_deletes(table)
        deletes, allowed = self._session.write(lambda transaction: self._guard(transaction, table, max_share, orphans))
        if allowed is not None:
            raise TooManyDeletes(table, deletes, orphans, allowed)
        while self._session.write(lambda transaction: self._carry_out(transaction, table)):
            pass
        done: dict[str, Any] = {"deletes": 0, "following": None, "deletes_approved": False}
        self._session.write(lambda transaction: self._store_in_feed(transaction, table, done))
        return deletes

    def count_orphans_of_deletes(self, table: str) -> OrphansOfDeletes:
        """Count, by table, the children in Campaign that the collected deletions of `table` would orphan.

        A child under a privacy hold does not count.
        """
        orphans = OrphansOfDeletes({}, {})
        becomes: dict[int, Orphaned] = {}
        with self._session.read() as transaction:
            if not self.has_collected(transaction, table) or not self._dependencies.has_links(transaction):
                return NO_ORPHANS
            deletes = sa.select(_C.seq).join(schema.record, _R.seq == _C.seq).where(_C.table_name == table, _IS_DELETED)
            seqs = list(transaction.execute(deletes.order_by(_C.seq)).scalars())
            for start in range(0, len(seqs), BATCH):
                self._find_orphans_of(transaction, seqs[start : start + BATCH], becomes)
            seqs = sorted(becomes.keys() - set(seqs))
            for start in range(0, len(seqs), BATCH):
                rows = transaction.run(_IN_CAMPAIGN, seqs=seqs[start : start + BATCH])
                for seq, orphan_table in rows:
                    counts = orphans.deleted if becomes[seq] == Orphaned.DELETED else orphans.kept
                    counts[orphan_table] = counts.get(orphan_table, 0) + 1
        return orphans

    def _find_orphans_of(self, transaction: Transaction, deleted: Sequence[int], becomes: dict[int, Orphaned]) -> None:
        """Find the records that would become orphans if these records were deleted. Changes nothing.

        becomes: by seq; those found by earlier calls, to which the new ones and the deleted records are added.
        """
        becomes |= dict.fromkeys(deleted, Orphaned.DELETED)
        complete_tables, seqs = self._dependencies.read_to_their_end(transaction), list(deleted)
        while seqs:
            level = self._dependencies.states(transaction, seqs)
            seqs = sorted(
                self._dependencies.children(transaction, ((record.table_name, record.id) for record in level))
            )
            links, _, known = self._dependencies.links_and_parents(transaction, seqs, lock=False)
            parents = {
                key: parent._replace(orphaned=becomes.get(parent.seq, parent.orphaned)) for key, parent in known.items()
            }
            children = self._dependencies.states(transaction, seqs)
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
        self, transaction: Transaction, table: str, max_share: float, orphans: OrphansOfDeletes
    ) -> tuple[int, dict[str, int] | None]:
        """Compare the collected deletions with what is allowed.

        Deletions that are held back are stored with the feed: for `status`, and for an approval, which covers that
        number and no more.

        Returns:
            The number of collected deletions, and how many are allowed by table; None instead if they may be carried
            out.
        """
        deletes = sa.select(sa.func.count(), sa.func.count().filter(_UNCOUNTED)).join(schema.record, _R.seq == _C.seq)
        collected, uncounted = transaction.execute(deletes.where(_C.table_name == table, _IS_DELETED)).one()
        numbers = {**orphans.deleted, table: uncounted}
        approved: dict[str, int] = {}
        feed = sa.select(_F.deletes_approved, _F.deletes, _F.following).where(_F.table_name == table)
        if (row := transaction.execute(feed).one_or_none()) and row.deletes_approved:
            approved = {**OrphansOfDeletes.stored(row.following).deleted, table: row.deletes}
        allowed: dict[str, int] = {}
        known: dict[str, int] = {}
        now = self._session.now()
        for name, number in numbers.items():
            done, before = passed_lately(transaction, now, name).get("", (0, 0))
            known[name] = max(record_count(transaction, name), before)
            left = max(0, allowed_of(known[name], max_share) - done)
            allowed[name] = number if known[name] <= GUARDED_ABOVE else left + approved.get(name, 0)
        passed = all(numbers[name] <= allowed[name] for name in numbers)
        if passed:
            for name, number in numbers.items():
                count_passed(transaction, now, name, {"": number - approved.get(name, 0)}, known[name])
        following = json.dumps(orphans) if any(orphans) else None
        # What passed is approved, so that it passes and counts no second time if this process is killed now.
        held = {"deletes": uncounted, "following": following, "deletes_approved": passed and any(numbers.values())}
        self._store_in_feed(transaction, table, held)
        return collected, None if passed else allowed

    def _store_in_feed(self, transaction: Transaction, table: str, changes: Mapping[str, Any]) -> None:
        """Store values in the table's feed, if they differ."""
        differs = sa.or_(*(_F[name].is_distinct_from(value) for name, value in changes.items()))
        transaction.execute(sa.update(schema.feed).where(_F.table_name == table, differs).values(changes))

    def _carry_out(self, transaction: Transaction, table: str, *only: sa.TextClause) -> bool:
        """Carry out one batch of collected deletions that meet the conditions `only`; False if none is left."""
        self._dependencies.lock_linked_records(transaction)
        collected = sa.select(_C.seq, _C.out_of_scope, _C.orphan).where(_C.table_name == table, *only)
        if only:
            collected = collected.join(schema.record, _R.seq == _C.seq)
        rows = transaction.execute(collected.order_by(_C.seq).limit(BATCH)).all()
        orphans = [row.seq for row in rows if row.orphan]
        gone = [row for row in rows if not row.orphan]
        seqs = {out_of_scope: [row.seq for row in gone if row.out_of_scope == out_of_scope] for out_of_scope in (0, 1)}
        self.mark_deleted_or_out_of_scope(transaction, seqs[0], out_of_scope=False)
        self.mark_deleted_or_out_of_scope(transaction, seqs[1], out_of_scope=True)
        transaction.run(_NO_LONGER_KEPT, seqs=orphans)
        self._dependencies.reevaluate(transaction, transaction.states_of(orphans))
        transaction.run(_CARRIED_OUT, seqs=[row.seq for row in rows])
        return bool(rows)

    def mark_deleted_or_out_of_scope(
        self, transaction: Transaction, seqs: Sequence[int], *, out_of_scope: bool, resend: bool = False
    ) -> None:
        """Mark records as pending delete or, if `out_of_scope`, as out of scope: Campaign then keeps what it holds.

        Records that Campaign never held are purged. resend: see `after_removal`.
        """
        now = self._session.now()
        moved: list[RecordState] = []
        purged: list[RecordState] = []
        values: list[tuple[Any, ...]] = []
        for record in transaction.states_of(seqs):
            if transitions.is_purgeable(record):
                purged.append(record)
            elif left := transitions.after_removal(record, out_of_scope=out_of_scope, now=now, resend=resend):
                assert left.acked_hash == record.acked_hash
                assert bool(left.out_of_scope) == out_of_scope, "a row is deleted or out of scope"
                moved.append(left)
                transaction.move(record, left.state)
                keeps_reason = out_of_scope and left.state != State.REJECTED
                keeps_delay = out_of_scope and left.state == State.PENDING
                kept = (left.has_payload, left.has_payload, keeps_reason, keeps_delay)
                values.append((*attrgetter(*MOVED)(left), None if out_of_scope else now, *kept, left.seq))
        transaction.for_each(_REMOVE, values)
        transaction.purge(purged)
        if self._dependencies.has_links(transaction):
            self._dependencies.reevaluate(transaction, moved)
            # The guard did not count these: Campaign may hold their children if it lost them itself.
            self._dependencies.reevaluate(transaction, [], purged, collect_orphans=True)

    # --- orphans ------------------------------------------------------------------------------------------------------

    def _find_orphans(self, table: str) -> None:
        """Re-evaluate the children that may lack a row of the table: what the full read did not return never comes.

        Not only those that wait for it: a child with a validation error or a hold, or that is deleted, becomes an
        orphan, too. Done once per full read; rows of later changes re-evaluate their children by themselves.
        """
        due = sa.select(_F.version).where(_F.table_name == table, _F.orphans_due, _F.complete)
        children = sa.select(_R.seq).join(schema.link, _L.seq == _R.seq).distinct()
        children = children.where(schema.holds(MAY_LACK_PARENT), _L.parent_table == table, _L.required == 1)
        version = self._session.scalar(due)
        if version is None:
            return
        # Wait for transactions that re-evaluate children now: they may have read that the feed is not complete.
        self._reevaluate_orphans([])
        seqs = sorted(self._session.column(children))
        for start in range(0, len(seqs), BATCH):
            self._reevaluate_orphans(seqs[start : start + BATCH])
        same = sa.update(schema.feed).where(_F.table_name == table, _F.version == version)
        self._session.run(same.values(orphans_due=False))

    @writes
    def _reevaluate_orphans(self, transaction: Transaction, seqs: Sequence[int]) -> None:
        self._dependencies.lock_linked_records(transaction, first_links=True)
        self._dependencies.reevaluate(transaction, transaction.states_of(seqs))

    def mark_lost(self, transaction: Transaction, table: str, ids: Sequence[str], loss: Loss) -> None:
        """Store with the links of children why these rows of the table are unavailable, for `orphans`."""
        transaction.run(_LOST, ids=list(ids), loss=loss.value, table=table)

    # --- collecting ---------------------------------------------------------------------------------------------------

    def collect(self, transaction: Transaction, table: str, seqs: Sequence[int]) -> None:
        """Collect the deletes of records whose rows were not deleted so far."""
        transaction.run(_COLLECT, seqs=list(seqs), table=table)

    def has_collected(self, transaction: Transaction, table: str) -> bool:
        return bool(transaction.execute(sa.select(sa.exists().where(_C.table_name == table))).scalar())

    def discard_collected_deletes(self, transaction: Transaction, table: str, ids: Collection[str]) -> None:
        """Remove these rows from the collected deletions: this page returned them."""
        if self.has_collected(transaction, table):
            transaction.run(_DISCARD_DELETES, records=list(ids), table=table)

    def discard_collected_orphans(self, transaction: Transaction, seqs: Sequence[int]) -> None:
        """Remove these records from the collected orphans: a full read decides about them anew."""
        transaction.run(_DISCARD_ORPHANS, seqs=list(seqs))
        transaction.run(_NO_LONGER_KEPT, seqs=list(seqs))

    def note_seen(self, transaction: Transaction, table: str, seqs: Sequence[int], ids: Sequence[str]) -> None:
        """Store that the full read under way has returned these records, by seq and by id."""
        seen = [*seqs, *transaction.find(table, ids).values()]
        transaction.run(_INSERT_SEEN, seqs=seen)

    def note_missing(self, transaction: Transaction, table: str, bound: int, *, out_of_scope: bool) -> None:
        """Collect the records that a complete full read did not return.

        Args:
            bound: the highest seq when the read began; later records are not compared with it.
            out_of_scope: treat them as out of scope. If False they are to be deleted, and with them the records that
                Campaign kept when their rows went out of scope.
        """
        values = {"out_of_scope": int(out_of_scope), "table": table, "bound": bound, "most": int(not out_of_scope)}
        in_order = record_count(transaction, table) * 4 > bound
        transaction.run(_MISSING_IN_ORDER if in_order else _MISSING, **values)
        transaction.run(_NO_VERSION, table=table)
        transaction.execute(sa.delete(schema.seen).where(schema.seen.c.table_name == table))
