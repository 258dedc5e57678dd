"""Check that a ledger agrees with its own rules: states, totals, and the rows that belong to records. Reads only.

Here: the comparison. States are computed by the pure rules that also place a record after each change of it.

Each batch is a snapshot and a transaction of its own, so a check holds up neither workers nor SQLite's write-ahead log,
and its memory does not grow with the ledger. What is under way at that moment is left out: a claim marks a record and
re-evaluates no other one, and children of rows that a read may yet return are re-evaluated at its end.
"""

from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import sqlalchemy as sa

from sync_assets.config.values import CONTACT
from sync_assets.ledger.model import State
from sync_assets.ledger.records.dependency_status import BATCH, DependencyStatus, leaving
from sync_assets.ledger.records.hold_records import HoldRecords
from sync_assets.ledger.report_values import Inconsistency
from sync_assets.ledger.rules.predicates import CLAIMED
from sync_assets.ledger.rules.record_state import RecordState, reevaluate
from sync_assets.ledger.storage import operation_tables, schema
from sync_assets.ledger.storage.session import Repository
from sync_assets.ledger.storage.transaction import Transaction

SHOWN = 3
"""Most records of an inconsistency whose numbers are kept."""
_R, _T, _F = schema.record.c, schema.tally.c, schema.feed.c
_MISPLACED = "records are in another state than the rules compute"
_WRONG = (
    *(
        (table, sa.not_(sa.and_(*checks)), "rows contain what the database refuses")
        for table in (schema.record, schema.link)
        if (checks := [one.sqltext for one in table.constraints if isinstance(one, sa.CheckConstraint)])
    ),
    *(
        (table, ~sa.exists().where(_R.seq == table.c.seq), "rows have no record")
        for table in (schema.link, schema.possible_link, schema.collected)
    ),
)
"""Conditions that no row meets."""
_CLAIMED = f"SELECT seq FROM sync_record WHERE seq IN :seqs AND {CLAIMED}"  # noqa: S608 - constants


@dataclass(eq=False)
class Consistency(Repository):
    """Reads all records, and the rows that belong to them."""

    _dependencies: DependencyStatus
    _hold_records: HoldRecords

    def check(self, progress: Callable[[int], None] = lambda records: None) -> list[Inconsistency]:
        """Compare each record with the pure rules, the totals with the records, and look for rows without a record.

        progress: called with the number of records checked so far.
        """
        found: dict[tuple[str, str], Inconsistency] = {}
        for one in self._all(progress):
            about = one.table, one.problem
            before = found.get(about) or Inconsistency(*about, 0, ())
            seqs = (*before.seqs, *one.seqs)[:SHOWN]
            found[about] = Inconsistency(*about, before.rows + one.rows, seqs)
        return sorted(found.values())

    def _all(self, progress: Callable[[int], None]) -> Iterator[Inconsistency]:
        with self._snapshot() as transaction:
            yield from _holds(transaction)
            if not self._session.database.sqlite:  # by an index, records would be read in another order than on disk
                transaction.execute(sa.text("SET LOCAL enable_seqscan = on"))
            yield from _totals(transaction)
        done, after, more = 0, -1, True
        while more:
            with self._snapshot() as transaction:
                batch = sa.select(_R.seq).where(_R.seq > after).order_by(_R.seq).limit(BATCH)
                seqs = list(transaction.execute(batch).scalars())
                more = len(seqs) == BATCH
                until = seqs[-1] if more else (1 << 63) - 1
                yield from _rows(transaction, after, until)
                yield from self._states(transaction, self._dependencies.states(transaction, seqs))
            done, after = done + len(seqs), until
            progress(done)

    @contextmanager
    def _snapshot(self) -> Generator[Transaction]:
        """Open a read transaction whose queries all see the same state of the ledger."""
        with self._session.read() as transaction:
            if not self._session.database.sqlite:
                transaction.execute(sa.text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
            yield transaction

    def _states(self, transaction: Transaction, records: Sequence[RecordState]) -> Iterator[Inconsistency]:
        """Yield the records of a batch whose state, block reason or hold is another one than the rules compute."""
        seqs = [record.seq for record in records]
        links, former, parents = self._dependencies.links_and_parents(transaction, seqs, lock=False)
        stored, reasons = self._hold_records.reasons(transaction, records, links, former)
        claimed = _claimed(transaction, {*seqs, *(parent.seq for parent in parents.values())})
        under_way = {key for key, parent in parents.items() if parent.seq in claimed}
        being_read = sa.select(_F.table_name).where(sa.or_(_F.orphans_due, ~_F.complete))
        paused = sa.select(operation_tables.maintenance.c.table_name)  # its end re-evaluates their children
        may_come = {*transaction.execute(being_read).scalars(), *transaction.execute(paused).scalars()}
        found = self._dependencies.by_parents(transaction, records, links, parents)
        dependencies = self._dependencies.with_children_and_holds(transaction, records, found, reasons)
        any_claimed = transaction.execute(sa.select(_R.seq).where(schema.holds(CLAIMED)).limit(1)).first() is not None
        keys = [(record.table_name, record.id) for record in leaving(records, found) if any_claimed]
        children = {key: self._dependencies.children(transaction, [key]) for key in keys}
        of_claimed = {key for key, seqs_of in children.items() if _claimed(transaction, seqs_of)}
        for record in records:
            key = (record.table_name, record.id)
            named = [(link.parent_table, id_) for link in links[record.seq] for id_ in (link.parent_id, link.acked_id)]
            undecided = (one in under_way or (one[1] and one not in parents and one[0] in may_come) for one in named)
            if record.seq in claimed or key in of_claimed or any(undecided):
                continue
            if reasons.get(key, frozenset()) != stored.get(key, frozenset()):
                yield Inconsistency(record.table_name, "records belong to other persons under a hold", 1, (record.seq,))
            status = dependencies[record.seq]
            where = reevaluate(record, status)
            if where is None or (*where, status.orphaned) != (record.state, record.block_reason, record.orphaned):
                yield Inconsistency(record.table_name, _MISPLACED, 1, (record.seq,))


def _claimed(transaction: Transaction, seqs: Collection[int]) -> set[int]:
    """Return those of the records that are claimed."""
    return {row[0] for row in transaction.run(_CLAIMED, seqs=sorted(seqs))}


def _totals(transaction: Transaction) -> Iterator[Inconsistency]:
    """Yield the totals that differ from the number of records, with the difference."""
    counted = sa.select(_R.table_name, _R.state, sa.func.count()).group_by(_R.table_name, _R.state)
    stored = sa.select(_T.table_name, _T.state, _T.records)
    numbers, totals = (
        {(table, state): number for table, state, number in transaction.execute(query)} for query in (counted, stored)
    )
    for table, state in sorted({*numbers, *totals}):
        if difference := totals.get((table, state), 0) - numbers.get((table, state), 0):
            yield Inconsistency(table, f"{State(state).name.lower()} records are miscounted", abs(difference), ())


def _rows(transaction: Transaction, after: int, until: int) -> Iterator[Inconsistency]:
    """Yield rows that contradict the schema, or have no record, in a range of seqs."""
    for table, wrong, problem in _WRONG:
        seq = table.c.seq
        found = sa.select(sa.func.count(), sa.func.min(seq)).where(seq > after, seq <= until, wrong)
        number, first = transaction.execute(found).one()
        if number:
            yield Inconsistency(table.name, problem, number, (first,))


def _holds(transaction: Transaction) -> Iterator[Inconsistency]:
    """Yield holds without a record of the person."""
    hold, of_hold = schema.hold.c, schema.hold_record.c
    covered = sa.exists().where(of_hold.person == hold.id, of_hold.table_name == CONTACT, of_hold.id == hold.id)
    held = transaction.execute(sa.select(hold.id, covered)).all()
    if missing := len(held) - len(transaction.find(CONTACT, [id_ for id_, is_covered in held if is_covered])):
        yield Inconsistency(schema.hold.name, "holds have no record", missing, ())
