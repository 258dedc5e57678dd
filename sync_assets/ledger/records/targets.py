"""Store each table's target in Campaign, the resource and the key attribute, which its acknowledgements are about.

A record that one resource acknowledged is not in another one, and a request by one key finds no record that was sent
with another. So under a new target nothing of the table counts as acknowledged: each row is read and sent again, after
the records that the new target holds were listed. The former target's records stay as they are.

Invariant: a target and the records that it replaces change in one transaction.
"""

from dataclasses import dataclass

import sqlalchemy as sa

from sync_assets.ledger.model import BlockReason, State
from sync_assets.ledger.records.dependency_status import DependencyStatus
from sync_assets.ledger.records.feeds import Feeds
from sync_assets.ledger.repositories.notes import Facts
from sync_assets.ledger.storage import operation_tables, schema
from sync_assets.ledger.storage.session import Repository, writes
from sync_assets.ledger.storage.transaction import Transaction

_R = schema.record.c
_L = schema.link.c
_T = operation_tables.target.c


@dataclass(eq=False)
class Targets(Repository):
    """Reads and writes `sync_target`."""

    _feeds: Feeds
    _dependencies: DependencyStatus
    _dialect: Facts

    def target(self, table: str) -> tuple[str, str] | None:
        """Return the resource and the key attribute of a table's acknowledgements; None before its first capture."""
        with self._session.read() as transaction:
            return stored_target(transaction, table)

    def count_sent(self, table: str) -> tuple[int, int]:
        """Count the table's records that Campaign holds, or may hold, and the links of other records to them."""
        records = sa.select(sa.func.count()).where(_R.table_name == table, schema.PERHAPS_SENT)
        links = sa.select(sa.func.count()).where(_L.parent_table == table, _L.keyed == 1, _L.acked_id.is_not(None))
        with self._session.read() as transaction:
            return transaction.execute(records).scalar_one(), transaction.execute(links).scalar_one()

    @writes
    def change_target(self, transaction: Transaction, table: str, resource: str, key: str) -> None:
        """Store a table's target. If it replaces another one, no record of the table counts as acknowledged any more.

        The outcomes of requests under way are dropped; the next capture reads all rows; Campaign's records are listed
        before the first insert; children are linked again once their parents are acknowledged.
        """
        replaces = stored_target(transaction, table) is not None
        row = {"table_name": table, "resource": resource, "key": key}
        transaction.put(operation_tables.target, [row])
        if replaces:
            self._forget_acknowledged(transaction, table)
            for listed in (schema.rebuild, schema.existing_record):
                transaction.execute(sa.delete(listed).where(listed.c.table_name == table))
            self._dialect.delete(transaction, resource)
            self._feeds.read_again(transaction, table, resend=False)

    def _forget_acknowledged(self, transaction: Transaction, table: str) -> None:
        """Forget what Campaign acknowledged of a table's records, and the payloads made for the former target.

        Records that are synced wait for the row that the next capture reads, and their children for them: there may be
        millions, and what the rules compute is known. All others are re-evaluated, and a record out of scope is purged:
        nothing sends it again. A request without an answer stays unknown until its horizon: the table may get its
        former target back before that.
        """
        self._dependencies.lock_linked_records(transaction)
        ours, synced = _R.table_name == table, _R.state == State.SYNCED.value
        in_scope = _R.out_of_scope == 0
        others = sa.select(_R.seq).where(ours, sa.not_(synced & in_scope), schema.PERHAPS_SENT).order_by(_R.seq)
        changed = list(transaction.execute(others).scalars())
        of_children = sa.select(_L.seq).where(_L.parent_table == table)
        not_synced = sa.select(_R.seq).where(_R.seq.in_(of_children), ~synced).order_by(_R.seq)
        also = transaction.execute(not_synced).scalars().all()
        linked = of_children.where(_L.required == 1, _L.keyed == 1, _L.parent_id.is_not(None))
        _wait(transaction, BlockReason.PARENT_PENDING, _R.seq.in_(linked), synced, in_scope)
        # The answers of these were about the former target.
        answered = _R.state.in_([State.UNCONFIRMED.value, State.TOMBSTONE.value]) | (
            (_R.state == State.REJECTED.value) & _R.validation_error.is_(None)
        )
        _wait(transaction, BlockReason.REFETCH_REQUIRED, ours, (synced & in_scope) | answered, schema.PERHAPS_SENT)
        ours_in_scope = sa.select(_R.seq).where(ours, in_scope)
        possible = schema.possible_link
        transaction.execute(sa.delete(possible).where(possible.c.seq.in_(ours_in_scope)))
        unlinked = sa.update(schema.link).where(_L.acked_id.is_not(None)).values(acked_id=None, acked_incarnation=None)
        transaction.execute(unlinked.where(_L.seq.in_(ours_in_scope)))
        transaction.execute(unlinked.where(_L.parent_table == table, _L.keyed == 1))
        nothing = ("acked_hash", "acked_at", "payload", "update_payload", "insert_only_hash", "reason")
        columns = dict.fromkeys((*nothing, "not_before", "session"))
        horizon = self._session.now() + self._session.horizon
        unknown = sa.case((_R.session.is_not(None), horizon), else_=_R.unknown_until)
        zero = dict.fromkeys(("outcome_unknown", "resend", "reinsert_sent", "attempts"), 0)
        forgotten = sa.update(schema.record).where(ours, schema.PERHAPS_SENT)
        transaction.execute(forgotten.values({**columns, **zero, "unknown_until": unknown}))
        self._dependencies.reevaluate(transaction, transaction.states_of(changed), also=also, collect_orphans=True)


def _wait(transaction: Transaction, block_reason: BlockReason, *of: sa.ColumnElement[bool] | sa.TextClause) -> None:
    """Let records wait."""
    numbers = sa.select(_R.table_name, _R.state, sa.func.count()).where(*of).group_by(_R.table_name, _R.state)
    for table, state, number in transaction.execute(numbers).all():
        transaction.count(table, State(state), -number)
        transaction.count(table, State.WAITING, number)
    waits = {"state": State.WAITING.value, "block_reason": block_reason.value}
    transaction.execute(sa.update(schema.record).where(*of).values(waits))


def stored_target(transaction: Transaction, table: str) -> tuple[str, str] | None:
    """See `Targets.target`."""
    row = transaction.execute(sa.select(_T.resource, _T.key).where(_T.table_name == table)).one_or_none()
    return None if row is None else (row.resource, row.key)
