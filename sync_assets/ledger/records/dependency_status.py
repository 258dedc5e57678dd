"""Re-evaluate records by their parents, children and privacy holds, many records per statement.

Every transaction that changes records, by a capture or an acknowledgement, calls `reevaluate`: it evaluates the records
with their children and parents, and goes on along the links until no state changes. So a child becomes pending once its
parent is acknowledged, and the delete of a parent once its last child is deleted or unlinked.

Here: reading and writing. The dependency status is computed by rules/dependencies.py, the state by
rules/record_state.py.

Invariant: transactions that change linked records run one at a time (`lock_linked_records`), since they reach the same
records in different orders and would deadlock. The first links of a ledger are stored while no other such transaction
runs, which would not see them. The records are locked as well, against concurrent claims.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from sync_assets.config.values import CONTACT
from sync_assets.ledger.model import END_OF_TIME_MICROS, LinkTo, Orphaned, State
from sync_assets.ledger.records.hold_records import HoldRecords, ReasonsByRecord, is_excluded, is_held
from sync_assets.ledger.records.stored_links import ACKNOWLEDGED_KEYED, UNLINK_ONE, StoredLinks
from sync_assets.ledger.repositories.opt_out_rows import OptOutRows
from sync_assets.ledger.rules import predicates
from sync_assets.ledger.rules.dependencies import FormerParent, Key, Link, is_acknowledged, stands, status_of_parents
from sync_assets.ledger.rules.record_state import Dependencies, RecordState, reevaluate
from sync_assets.ledger.storage import operation_tables, schema
from sync_assets.ledger.storage.session import Repository, writes
from sync_assets.ledger.storage.transaction import SELECT_STATE, Transaction, by_first

_LOCK = 6_090_275_134_511_382_749  # of an advisory lock; any number that no other lock uses

_FORMER = (
    f"SELECT seq, attribute, parent_table, acked_id FROM sync_link WHERE seq IN :seqs AND {predicates.MOVED}",  # noqa: S608
    "SELECT seq, attribute, parent_table, parent_id FROM sync_possible_link WHERE seq IN :seqs",
)
_STORE_STATE = f"""
    UPDATE sync_record SET state = :state, block_reason = :block_reason, orphaned = :orphaned,
        failed_since = CASE WHEN :failed THEN coalesce(failed_since, :now) END,
        not_before = CASE WHEN not_before = {END_OF_TIME_MICROS} AND :state = {State.PENDING:d} THEN not_before END,
        payload = CASE WHEN :keep THEN payload END, update_payload = CASE WHEN :keep THEN update_payload END,
        reason = CASE WHEN :rejected AND state <> {State.REJECTED:d} THEN NULL ELSE reason END,
        attempts = CASE WHEN :rejected AND state <> {State.REJECTED:d} THEN 0 ELSE attempts END
    WHERE seq IN :seqs
"""  # a record rejected by re-evaluation has a validation error: REFUSED_BY_CAMPAIGN  # noqa: S608
_LEAVING = f"""
    SELECT seq FROM sync_record WHERE table_name = :table AND id IN :records AND {predicates.MUST_NOT_EXIST}
"""  # noqa: S608
BATCH = 5_000
_R, _L = schema.record.c, schema.link.c


_CHILDREN = (
    "SELECT seq FROM sync_link WHERE parent_table = :table AND parent_id IN :ids",
    f"SELECT seq FROM sync_link WHERE {predicates.MOVED} AND parent_table = :table AND acked_id IN :ids",  # noqa: S608 - constants
    "SELECT seq FROM sync_possible_link WHERE parent_table = :table AND parent_id IN :ids",
)
_OF_CHILD = f"l JOIN sync_record c ON c.seq = l.seq WHERE {predicates.HOLDS_PARENT.of('c')}"
_LINKED_PARENTS = (
    f"""
    SELECT l.parent_id FROM sync_link {_OF_CHILD} AND {predicates.BINDS.of("l")}
        AND (l.acked_id = l.parent_id OR {predicates.UNANSWERED.of("c")})
        AND l.parent_table = :table AND l.parent_id IN :ids
    """,  # noqa: S608
    f"""
    SELECT l.acked_id FROM sync_link {_OF_CHILD} AND {predicates.BINDS.of("l")} AND {predicates.MOVED.of("l")}
        AND l.parent_table = :table AND l.acked_id IN :ids
    """,  # noqa: S608
    f"SELECT l.parent_id FROM sync_possible_link {_OF_CHILD} AND l.parent_table = :table AND l.parent_id IN :ids",  # noqa: S608
)
_KEEP_UNTIL_GUARDED = """
    UPDATE sync_link SET keep_orphans = 2 WHERE seq IN :seqs AND required = 1 AND keep_orphans = 0
"""
_COLLECT = """
    INSERT INTO sync_collected (seq, table_name, out_of_scope, orphan) SELECT seq, table_name, 0, 1 FROM sync_record
    WHERE seq IN :seqs ON CONFLICT (seq) DO NOTHING
"""
_SEND_AGAIN = "UPDATE sync_record SET resend = 1 WHERE seq IN :seqs"
_AS_IN_CAMPAIGN = """
    UPDATE sync_link SET parent_id = acked_id
    WHERE seq IN :seqs AND coalesce(parent_id, '') <> coalesce(acked_id, '')
"""
_FORGET_INCARNATION = "UPDATE sync_link SET acked_incarnation = NULL WHERE seq IN :seqs"
_DELETE_LINKS = "DELETE FROM sync_link WHERE seq IN :seqs", "DELETE FROM sync_possible_link WHERE seq IN :seqs"
_HAS_LINKS = "SELECT EXISTS (SELECT 1 FROM sync_link UNION ALL SELECT 1 FROM sync_hold_record)"


@dataclass(eq=False)
class DependencyStatus(Repository):
    """Reads and writes `sync_link`, and re-evaluates records."""

    stored_links: StoredLinks
    hold_records: HoldRecords
    opt_outs: OptOutRows

    def has_links(self, transaction: Transaction) -> bool:
        """Return True if there are links or held records: most ledgers of contacts alone have none."""
        return transaction.is_true(_HAS_LINKS)

    def lock_linked_records(self, transaction: Transaction, *, first_links: bool = False) -> bool:
        """Serialise transactions that change linked records. Call it before a transaction locks its first record.

        first_links: True if this transaction may store the ledger's first links or holds.

        Returns:
            True if there are links or held records, or if this transaction may store the first ones.
        """
        linked = first_links or self.has_links(transaction)
        if self._session.alone:
            return linked
        transaction.lock(_LOCK, shared=not linked)
        if not linked and self.has_links(transaction):  # the first ones were stored before the lock was taken
            transaction.lock(_LOCK)
            return True
        return linked

    def links_to_send(self, transaction: Transaction, seqs: Sequence[int]) -> dict[int, tuple[LinkTo, ...]]:
        """Return by seq the links to be sent with these records: those to parents that stand in Campaign."""
        links = self.stored_links.links(transaction, seqs)
        parents = self._parents(transaction, links, lock=False)
        links_by_seq: dict[int, list[LinkTo]] = defaultdict(list)
        for link in links:
            parent = parents.get((link.parent_table, link.parent_id or ""))
            wanted = stands(parent) or not link.keyed
            done = is_acknowledged(link, parent, wanted=wanted)
            incarnation = (parent.seq, parent.incarnation) if parent and stands(parent) else None
            to = link.parent_id if wanted else None
            links_by_seq[link.seq].append(LinkTo(link.attribute, to, bool(link.keyed), done, incarnation))
        return {seq: tuple(sent) for seq, sent in links_by_seq.items()}

    # --- acknowledged links -------------------------------------------------------------------------------------------

    def acknowledged_links(self, table: str, ids: Sequence[str]) -> dict[str, dict[str, str]]:
        """Return the acknowledged keyed links of these records: id -> attribute -> the parent's id."""
        links: dict[str, dict[str, str]] = defaultdict(dict)
        with self._session.read() as transaction:
            for start in range(0, len(ids), BATCH):
                id_of = {seq: id_ for id_, seq in transaction.find(table, ids[start : start + BATCH]).items()}
                for link in self.stored_links.links(transaction, list(id_of), ACKNOWLEDGED_KEYED):
                    links[id_of[link.seq]][link.attribute] = str(link.parent_id)
        return dict(links)

    def send_links_again(self, table: str, attribute: str) -> int:
        """Make all records of the table that were acknowledged with this link pending, to send their links again.

        Call it when Campaign was found to store no link for this attribute, before another one is acknowledged.

        Returns:
            The number of records; each is pending for an update of its links alone.
        """
        total = 0
        while sent := self._unlink(table, attribute):
            total += sent
        return total

    @writes
    def _unlink(self, transaction: Transaction, table: str, attribute: str) -> int:
        """Do one batch of `send_links_again`; return its number of records."""
        self.lock_linked_records(transaction)
        acknowledged = (_L.attribute == attribute, _L.keyed == 1, _L.acked_id == _L.parent_id)
        links = sa.select(_L.seq).join(schema.record, _R.seq == _L.seq).where(_R.table_name == table, *acknowledged)
        seqs = list(transaction.execute(links.order_by(_L.seq).limit(BATCH)).scalars())
        transaction.run(UNLINK_ONE, seqs=seqs, attribute=attribute)
        self.reevaluate(transaction, transaction.states_of(seqs))
        return len(seqs)

    # --- re-evaluation ------------------------------------------------------------------------------------------------

    def reevaluate(
        self,
        transaction: Transaction,
        changed: Iterable[RecordState],
        removed: Iterable[RecordState] = (),
        *,
        also: Iterable[int] = (),
        collect_orphans: bool = False,
    ) -> None:
        """Re-evaluate changed records and, along the links, every record whose state depends on them.

        Args:
            changed: records that this transaction changed or created.
            removed: records that it purged; their links are deleted here.
            also: seqs of further records whose dependencies changed.
            collect_orphans: True if no deletion that the guard let pass is the cause. Orphans that would be deleted by
                it are collected like deleted rows, and kept until then (`carry_out_deletes`).
        """
        removed = list(removed)
        changed = [*changed, *removed]
        seqs = self.neighbours(transaction, changed) | {record.seq for record in changed} | set(also)
        self._delete_links(transaction, removed)
        while seqs:
            moved, purged = self._reevaluate_once(transaction, sorted(seqs), collect_orphans=collect_orphans)
            seqs = self.neighbours(transaction, [*moved, *purged])
            transaction.purge(purged)
            self._delete_links(transaction, purged)
            # A held record may have been made by its hold, so that its contact may exist in Dynamics 365.
            deleted = [record for record in purged if record.desired_hash is None and record.state != State.HELD]
            self.opt_outs.forget(transaction, [record.id for record in deleted if record.table_name == CONTACT])

    def _delete_links(self, transaction: Transaction, removed: Iterable[RecordState]) -> None:
        seqs = [record.seq for record in removed]
        for statement in _DELETE_LINKS:
            transaction.run(statement, seqs=seqs)

    def neighbours(self, transaction: Transaction, records: Sequence[RecordState]) -> set[int]:
        """Return the seqs of the children of these records, and of those parents that are pending delete."""
        children = self.children(transaction, [_key(record) for record in records])
        # A parent depends on its children only while it must not exist in Campaign.
        return children | self.leaving_parents(transaction, records)

    def leaving_parents(self, transaction: Transaction, records: Sequence[RecordState]) -> set[int]:
        """Return the seqs of those parents of these records, now or formerly, that must not exist in Campaign."""
        seqs = [record.seq for record in records]
        named = [*self.stored_links.links(transaction, seqs), *self.former_parents(transaction, seqs)]
        keys = by_first((link.parent_table, link.parent_id) for link in named if link.parent_id)
        return {row[0] for table, ids in keys for row in transaction.run(_LEAVING, records=ids, table=table)}

    def children(self, transaction: Transaction, keys: Iterable[Key]) -> set[int]:
        """Return the seqs of these records' children, by D365's lookups and by links that Campaign may hold."""
        return {
            row[0]
            for table, ids in by_first(keys)
            for statement in _CHILDREN
            for row in transaction.run(statement, ids=ids, table=table)
        }

    def former_parents(self, transaction: Transaction, seqs: Sequence[int]) -> list[FormerParent]:
        """Return the parents that the lookups no longer name, and that Campaign's records are or may be linked to."""
        return [FormerParent(*row) for select in _FORMER for row in transaction.run(select, seqs=list(seqs))]

    def _parents(
        self, transaction: Transaction, links: Iterable[Link | FormerParent], *, lock: bool = True
    ) -> dict[Key, RecordState]:
        """Return the records of the parents that these links name."""
        seqs = transaction.find_all((link.parent_table, link.parent_id) for link in links if link.parent_id)
        records = transaction.states_of(seqs) if lock else self.states(transaction, seqs)
        return {_key(record): record for record in records}

    def states(self, transaction: Transaction, seqs: Sequence[int]) -> list[RecordState]:
        """Read records without a lock."""
        return transaction.states_of(seqs, SELECT_STATE)

    def _reevaluate_once(
        self, transaction: Transaction, seqs: Sequence[int], *, collect_orphans: bool
    ) -> tuple[list[RecordState], list[RecordState]]:
        """Re-evaluate these records once, without following the links.

        Returns:
            The records whose state or hold reasons changed, as they are now, and those that are to be purged.
        """
        records = transaction.states_of(seqs)
        # Campaign keeps an out-of-scope record as it is, its links included, unless a late request may still insert it.
        out_of_scope = (record for record in records if record.out_of_scope and not record.outcome_unknown)
        kept = [one.seq for one in out_of_scope if predicates.ACKNOWLEDGED(one) or not predicates.LATE_REQUEST(one)]
        transaction.run(_AS_IN_CAMPAIGN, seqs=kept)
        dependencies, new_owner = self._dependencies_of(transaction, records, collect_orphans=collect_orphans)
        records = self._no_longer_excluded(transaction, records, dependencies)
        moved: list[RecordState] = []
        purged: list[RecordState] = []
        new_orphans: list[int] = []
        for record in records:
            orphaned = dependencies[record.seq].orphaned
            where = reevaluate(record, dependencies[record.seq])
            if where is None:
                purged.append(record)
            elif (*where, orphaned) != (record.state, record.block_reason, record.orphaned):
                transaction.move(record, where.state)
                moved.append(record._replace(state=where.state, block_reason=where.block_reason, orphaned=orphaned))
                if orphaned == Orphaned.KEPT != record.orphaned:
                    new_orphans.append(record.seq)
        self._store_states(transaction, moved)
        # New orphans are sent whole, with all links, once they have a parent again: nothing waits for them, so Campaign
        # may remove their links, and them, with a parent at any time.
        transaction.run(_FORGET_INCARNATION, seqs=new_orphans)
        transaction.run(_SEND_AGAIN, seqs=new_orphans)
        done = {record.seq for record in (*moved, *purged)}
        changed = [*moved, *(record for record in records if _key(record) in new_owner and record.seq not in done)]
        return changed, purged

    def _dependencies_of(
        self, transaction: Transaction, records: Sequence[RecordState], *, collect_orphans: bool
    ) -> tuple[dict[int, Dependencies], set[Key]]:
        """Return the dependencies of these records by seq, and the records whose hold reasons changed."""
        links, former, parents = self.links_and_parents(transaction, [record.seq for record in records])
        reasons, new_owner = self.hold_records.follow(transaction, records, links, former)
        found = self.by_parents(transaction, records, links, parents)
        if collect_orphans:
            self._collect_orphans(transaction, records, found)
        return self.with_children_and_holds(transaction, records, found, reasons), new_owner

    def by_parents(
        self,
        transaction: Transaction,
        records: Sequence[RecordState],
        links: Mapping[int, Sequence[Link]],
        parents: Mapping[Key, RecordState],
    ) -> dict[int, Dependencies]:
        """Return the part of the dependencies of these records, by seq, that follows from their parents."""
        read = self.read_to_their_end(transaction) if links else set[str]()
        return {record.seq: status_of_parents(record, links.get(record.seq, ()), parents, read) for record in records}

    def with_children_and_holds(
        self,
        transaction: Transaction,
        records: Sequence[RecordState],
        found: Mapping[int, Dependencies],
        reasons: ReasonsByRecord,
    ) -> dict[int, Dependencies]:
        """Return the dependencies of these records by seq. found: of their parents. reasons: hold reasons by record."""
        with_children = self.with_linked_children(transaction, leaving(records, found))
        dependencies: dict[int, Dependencies] = {}
        for record in records:
            of_record = reasons.get(_key(record), frozenset())
            dependencies[record.seq] = found[record.seq]._replace(
                held=is_held(of_record), has_children=_key(record) in with_children, excluded=is_excluded(of_record)
            )
        return dependencies

    def _collect_orphans(
        self, transaction: Transaction, records: Sequence[RecordState], statuses: dict[int, Dependencies]
    ) -> None:
        """Collect those of the records that Campaign holds and that became orphans to be deleted, and keep them."""
        held = (record for record in records if predicates.MAY_EXIST(record) and not predicates.MUST_NOT_EXIST(record))
        new = [record.seq for record in held if statuses[record.seq].orphaned == Orphaned.DELETED]
        transaction.run(_KEEP_UNTIL_GUARDED, seqs=new)
        transaction.run(_COLLECT, seqs=new)
        statuses |= {seq: statuses[seq]._replace(orphaned=Orphaned.KEPT) for seq in new}

    def links_and_parents(
        self, transaction: Transaction, seqs: Sequence[int], *, lock: bool = True
    ) -> tuple[dict[int, list[Link]], dict[int, list[FormerParent]], dict[Key, RecordState]]:
        """Return the links of these records, their former parents, and the records of all parents."""
        links: dict[int, list[Link]] = defaultdict(list)
        for link in self.stored_links.links(transaction, seqs):
            links[link.seq].append(link)
        former: dict[int, list[FormerParent]] = defaultdict(list)
        for parent in self.former_parents(transaction, seqs) if links else ():
            former[parent.seq].append(parent)
        named = (link for by_record in (links, former) for of_record in by_record.values() for link in of_record)
        return links, former, self._parents(transaction, named, lock=lock)

    def _no_longer_excluded(
        self, transaction: Transaction, records: Sequence[RecordState], dependencies: Mapping[int, Dependencies]
    ) -> list[RecordState]:
        """Mark records that are no longer excluded for a resend: Campaign may have deleted them with the person."""
        free = {
            record.seq
            for record in records
            if record.state == State.EXCLUDED
            and record.desired_hash
            and not (dependencies[record.seq].held or dependencies[record.seq].excluded)
        }
        transaction.run(_SEND_AGAIN, seqs=sorted(free))
        return [record._replace(resend=1) if record.seq in free else record for record in records]

    def _store_states(self, transaction: Transaction, moved: Iterable[RecordState]) -> None:
        """Store the state and block reason of these records."""
        now = self._session.now()
        alike: dict[tuple[int, int, int], list[int]] = defaultdict(list)
        for record in moved:
            alike[record.state, record.block_reason, record.orphaned].append(record.seq)
        for (state, block_reason, orphaned), seqs in alike.items():
            transaction.run(
                _STORE_STATE,
                seqs=seqs,
                state=state,
                block_reason=block_reason,
                orphaned=orphaned,
                failed=state in (State.REJECTED, State.ORPHANED),
                rejected=state == State.REJECTED,
                keep=state not in (State.SYNCED, State.TOMBSTONE, *predicates.UNSENT_STATES),
                now=now,
            )

    def read_to_their_end(self, transaction: Transaction) -> set[str]:
        """Return the tables that are completely read and not in maintenance: rows without a record do not exist."""
        paused = sa.select(operation_tables.maintenance.c.table_name)
        complete = sa.select(schema.feed.c.table_name).where(
            schema.feed.c.complete, schema.feed.c.table_name.not_in(paused)
        )
        return set(transaction.execute(complete).scalars())

    def with_linked_children(self, transaction: Transaction, records: Iterable[RecordState]) -> set[Key]:
        """Return those of the records that Campaign may hold links to from children."""
        return {
            (table, row[0])
            for table, ids in by_first(map(_key, records))
            for statement in _LINKED_PARENTS
            for row in transaction.run(statement, ids=ids, table=table)
        }


def leaving(records: Iterable[RecordState], found: Mapping[int, Dependencies]) -> list[RecordState]:
    """Return those of the records that Campaign may hold and must not. found: what follows from their parents."""
    becomes = (record._replace(orphaned=found[record.seq].orphaned) for record in records)
    return [record for record in becomes if predicates.MAY_EXIST(record) and predicates.MUST_NOT_EXIST(record)]


def _key(record: RecordState) -> Key:
    return record.table_name, record.id
