"""Report waiting and orphaned records, with the reasons and parents that block them. Reads only."""

from collections import defaultdict
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from sync_assets.ledger.model import BlockReason, Loss, State
from sync_assets.ledger.report_values import LOST, WAITING_FOR, OrphanedRecord, ParentState, WaitingRecord
from sync_assets.ledger.rules import predicates
from sync_assets.ledger.storage import schema
from sync_assets.ledger.storage.session import Repository

STATES: dict[int, str] = {
    State.SYNCED: "out of scope",
    State.HELD: "held by a privacy hold",
    State.EXCLUDED: "excluded: its person was deleted",
}
"""The state of a parent that a record waits for, as shown to users, where that is not its word."""

_R = schema.record.c
_SAME_SHORT_ID = sa.text(f"{schema.short_id('parent.id')} = {schema.short_id('sync_link.parent_id')}")
_L = schema.link.c
_P = schema.record.alias("parent")
_JOINED = sa.and_(_SAME_SHORT_ID, _P.c.table_name == _L.parent_table, _P.c.id == _L.parent_id)
_BLOCKS = sa.or_(
    sa.and_(
        _L.required == 1,
        sa.or_(_P.c.seq.is_(None), schema.holds(~predicates.ACKNOWLEDGED | predicates.OUTCOME_UNKNOWN, _P)),
    ),
    sa.and_(_L.keyed == 1, schema.holds(predicates.BACKLOG & ~predicates.ACKNOWLEDGED, _P)),
)
"""SQL condition: a waiting child waits for this parent."""
_WAITING, _REFETCH_REQUIRED = schema.holds(predicates.WAITING), schema.holds(predicates.REFETCH_REQUIRED)
LISTED = 10_000
"""Most waiting records that are listed."""
_AT_ONCE = 500
"""Values per IN condition: far below the limits of both databases."""
_MOST_COUNTED = 10_000
"""Most waiting records whose parents are counted: a first load may have millions."""


class BlockedRecords(Repository):
    """Reads of waiting and orphaned records."""

    def waiting_reasons(self, table: str) -> dict[BlockReason, int]:
        """Count the waiting records of the table by block reason."""
        waiting = sa.select(_R.block_reason, sa.func.count()).where(_WAITING, _R.table_name == table)
        return {BlockReason(reason): number for reason, number in self._session.rows(waiting.group_by(_R.block_reason))}

    def oldest_waiting(self, table: str) -> datetime | None:
        """Return when the waiting record that changed first did so; None if none waits."""
        oldest = sa.select(sa.func.min(_R.changed_at)).where(_WAITING, _R.table_name == table)
        return self._session.scalar(oldest)

    def waiting_parents(self, table: str) -> list[tuple[str, str, int]]:
        """Return what records of the table wait for, as (parent table, state of the parent, number of records).

        The most frequent first. Counts at most _MOST_COUNTED of the waiting records.
        """
        waiting = (
            sa.select(_R.seq)
            .where(_WAITING, _R.table_name == table, schema.holds(predicates.BLOCKED_BY_PARENT))
            .limit(_MOST_COUNTED)
            .subquery()
        )
        by_state = (
            sa.select(_L.parent_table, _P.c.state, sa.func.count())
            .select_from(waiting)
            .join(schema.link, _L.seq == waiting.c.seq)
            .outerjoin(_P, _JOINED)
            .where(_BLOCKS)
            .group_by(_L.parent_table, _P.c.state)
        )
        parents = [(name, _in_words(state), number) for name, state, number in self._session.rows(by_state)]
        return sorted(parents, key=lambda parent: (-parent[2], parent[0], parent[1]))

    def waiting(self, table: str | None = None, limit: int = LISTED) -> list[WaitingRecord]:
        """Return up to `limit` waiting records of a table, or of all tables, in the order of their first capture."""
        waiting = sa.select(_R.seq, _R.table_name, _R.id, _R.block_reason, _R.changed_at)
        waiting = waiting.where(_WAITING, schema.only(_R.table_name, table))
        blocked = sa.select(_L.seq, _L.parent_table, _L.parent_id, _P.c.state).outerjoin(_P, _JOINED).where(_BLOCKS)
        with self._session.read() as transaction:
            rows = transaction.execute(waiting.order_by(_R.seq).limit(limit)).all()
            parents: defaultdict[int, list[ParentState]] = defaultdict(list)
            for start in range(0, len(rows), _AT_ONCE):
                seqs = [row.seq for row in rows[start : start + _AT_ONCE] if predicates.BLOCKED_BY_PARENT(row)]
                for seq, of, id_, state in transaction.execute(blocked.where(_L.seq.in_(seqs)).order_by(_L.attribute)):
                    parents[seq].append(ParentState(of, id_, _in_words(state)))
        return [
            WaitingRecord(
                row.table_name, row.id, row.changed_at, WAITING_FOR[BlockReason(row.block_reason)], parents[row.seq]
            )
            for row in rows
        ]

    def orphans(self, table: str | None = None, id: str | None = None) -> list[OrphanedRecord]:
        """Return the orphaned records of a table, or of all tables, in the order of their first capture.

        id: only the record with this id.
        """
        orphaned = (
            sa.select(
                *(_R.seq, _R.table_name, _R.id, _R.failed_since, _R.acked_hash),
                *(_L.parent_table, _L.parent_id, _L.parent_loss, _P.c.orphaned.label("parent_orphaned")),
            )
            .join(schema.link, _L.seq == _R.seq)
            .outerjoin(_P, _JOINED)
            .where(
                schema.holds(predicates.ORPHANED),
                _L.required == 1,
                schema.only(_R.table_name, table),
                schema.only(_R.id, id),
            )
            .where(sa.or_(_P.c.seq.is_(None), schema.holds(predicates.NO_PARENT, _P)))
        )
        # If a record has lost several parents, report the one with the most specific reason.
        rows = {row.seq: row for row in sorted(self._session.rows(orphaned), key=_loss)}
        return [_orphaned(row) for _, row in sorted(rows.items())]

    def rejected_with_parent(self) -> dict[tuple[str, str], str]:
        """Return, by table and id, the records that Campaign rejected and whose parent is rejected: the parent's table.

        Campaign may refuse a child since it does not show the parent, which it acknowledged before.
        """
        refused = (
            sa.select(_R.table_name, _R.id, _L.parent_table)
            .join(schema.link, _L.seq == _R.seq)
            .join(_P, _JOINED)
            .where(schema.holds(predicates.REJECTED & predicates.REFUSED_BY_CAMPAIGN))
            .where(schema.holds(predicates.REJECTED, _P))
        )
        return {(table, id_): parent for table, id_, parent in self._session.rows(refused)}

    def ids_to_refetch(self, table: str, limit: int = 1000) -> list[str]:
        """Return the ids of records whose row must be read again (BlockReason.REFETCH_REQUIRED), up to `limit`."""
        ids = sa.select(_R.id).where(_WAITING, _R.table_name == table, _REFETCH_REQUIRED)
        return list(self._session.column(ids.limit(limit)))


def _orphaned(row: Any) -> OrphanedRecord:
    kept, reason = row.acked_hash is not None, LOST[_loss(row)].format(parent=row.parent_table)
    reason += "; Campaign keeps it as it was, hidden if that parent is deleted there" if kept else ""
    return OrphanedRecord(row.table_name, row.id, reason, row.failed_since, kept)


def _loss(row: Any) -> Loss:
    if row.parent_id is None:
        return Loss.NONE_NAMED
    return Loss.ORPHANED if row.parent_orphaned else Loss(row.parent_loss)


def _in_words(state: int | None) -> str:
    return "not captured" if state is None else STATES.get(state) or State(state).word
