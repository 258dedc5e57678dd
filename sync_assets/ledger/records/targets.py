"""Store each table's target in Campaign, the resource and the key attribute, which its acknowledgements are about.

A record that one resource acknowledged is not in another one, and a request by one key finds no record that was sent
with another. So under a new target nothing of the table counts as acknowledged: each row is read and sent again, after
the records that the new target holds were listed. The former target's records stay as they are.

Invariant: a target and the records that it replaces change in one transaction.
"""

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from sync_assets.ledger.model import BlockReason, State
from sync_assets.ledger.records.dependency_status import DependencyStatus
from sync_assets.ledger.records.feeds import Feeds
from sync_assets.ledger.storage import operation_tables, schema
from sync_assets.ledger.storage.session import LedgerSession, TotalsChange

_R = schema.record.c
_L = schema.link.c
_T = operation_tables.target.c
_SENT = sa.or_(_R.acked_hash.is_not(None), _R.outcome_unknown > 0, _R.unknown_until.is_not(None))
_IN_STEP = sa.and_(_R.state == State.SYNCED.value, _R.out_of_scope == 0, _SENT)


class Targets:
    """Reads and writes `sync_target`."""

    def __init__(self, session: LedgerSession, feeds: Feeds, dependencies: DependencyStatus) -> None:
        self._session = session
        self._feeds = feeds
        self._dependencies = dependencies

    def target(self, table: str) -> tuple[str, str] | None:
        """Return the resource and the key attribute of a table's acknowledgements; None before its first capture."""
        with self._session.database.read() as connection:
            return stored_target(connection, table)

    def count_sent(self, table: str) -> tuple[int, int]:
        """Count the table's records that Campaign holds, or may hold, and the links of other records to them."""
        records = sa.select(sa.func.count()).where(_R.table_name == table, _SENT)
        links = sa.select(sa.func.count()).where(_L.parent_table == table, _L.keyed == 1, _L.acked_id.is_not(None))
        with self._session.database.read() as connection:
            return connection.execute(records).scalar_one(), connection.execute(links).scalar_one()

    def change_target(self, table: str, resource: str, key: str) -> None:
        """Store a table's target. If it replaces another one, no record of the table counts as acknowledged any more.

        The outcomes of requests under way are dropped; the next capture reads all rows; Campaign's records are listed
        before the first insert; children are linked again once their parents are acknowledged.
        """

        def work(connection: Connection) -> None:
            replaces = stored_target(connection, table) is not None
            row = {"table_name": table, "resource": resource, "key": key}
            connection.execute(self._session.put(operation_tables.target, [row]))
            if replaces:
                self._forget_acknowledged(connection, table)
                for listed in (schema.rebuild, schema.existing_record):
                    connection.execute(sa.delete(listed).where(listed.c.table_name == table))
                connection.execute(
                    sa.delete(operation_tables.dialect).where(operation_tables.dialect.c.resource == resource)
                )
                self._feeds.read_again(connection, table, resend=False)

        self._session.database.write(work, large=True)

    def _forget_acknowledged(self, connection: Connection, table: str) -> None:
        """Forget what Campaign acknowledged of a table's records, and the payloads made for the former target.

        A record out of scope, which nothing sends again, keeps its links and those of its children. Records that are
        synced wait for the row that the next capture reads; all others are re-evaluated. A request without an answer
        stays unknown until its horizon: the table may get its former target back before that.
        """
        self._dependencies.lock_linked_records(connection)
        tally = TotalsChange()
        ours = _R.table_name == table
        in_step = connection.execute(sa.select(sa.func.count()).where(ours, _IN_STEP)).scalar_one()
        tally.add(table, State.SYNCED, -in_step)
        tally.add(table, State.WAITING, in_step)
        others = sa.select(_R.seq).where(ours, _R.state != State.SYNCED.value, _SENT).order_by(_R.seq)
        changed = list(connection.execute(others).scalars())
        in_scope = sa.select(_R.seq).where(ours, _R.out_of_scope == 0)
        possible = schema.possible_link
        connection.execute(sa.delete(possible).where(possible.c.seq.in_(in_scope)))
        unlinked = sa.update(schema.link).where(_L.acked_id.is_not(None)).values(acked_id=None, acked_incarnation=None)
        connection.execute(unlinked.where(_L.seq.in_(in_scope)))
        kept = sa.select(_R.id).where(ours, _R.out_of_scope == 1)
        connection.execute(unlinked.where(_L.parent_table == table, _L.keyed == 1, _L.acked_id.not_in(kept)))
        nothing = ("acked_hash", "acked_at", "payload", "update_payload", "insert_only_hash", "reason")
        waits = {"state": State.WAITING.value, "block_reason": BlockReason.REFETCH_REQUIRED.value}
        columns = dict.fromkeys((*nothing, "not_before", "session"))
        horizon = self._session.now() + self._session.horizon
        unknown = sa.case((_R.session.is_not(None), horizon), else_=_R.unknown_until)
        changes = {name: sa.case((_IN_STEP, value), else_=_R[name]) for name, value in waits.items()}
        zero = dict.fromkeys(("outcome_unknown", "resend", "attempts"), 0)
        connection.execute(
            sa.update(schema.record).where(ours, _SENT).values({**columns, **changes, **zero, "unknown_until": unknown})
        )
        pending = sa.select(_L.seq).join(schema.record, _R.seq == _L.seq)
        children_pending = pending.where(_L.parent_table == table, schema.PENDING).distinct()
        also = connection.execute(children_pending).scalars().all()
        states = self._session.bulk.states_of(connection, changed)
        self._dependencies.reevaluate(connection, states, (), tally, also, collect_orphans=True)
        self._session.count(connection, tally)


def stored_target(connection: Connection, table: str) -> tuple[str, str] | None:
    """See `Targets.target`."""
    row = connection.execute(sa.select(_T.resource, _T.key).where(_T.table_name == table)).one_or_none()
    return None if row is None else (row.resource, row.key)
