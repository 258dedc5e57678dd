"""Read one record with everything that the ledger stores about it: state, links, children, holds. No payload.

Reads only; used to explain a record, so each call may take a few queries.
"""

from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from sync_assets.ledger.model import END_OF_TIME, BlockReason, Operation, State
from sync_assets.ledger.rules.dependencies import Link, is_acknowledged, stands
from sync_assets.ledger.storage import schema
from sync_assets.ledger.storage.session import Repository
from sync_assets.ledger.storage.transaction import SELECT_STATE, Transaction

SHOWN = 20
"""Most children that are named."""
_R, _L, _H, _C = schema.record.c, schema.link.c, schema.hold_record.c, schema.collected.c
_COLUMNS = (
    *(_R.table_name, _R.id, _R.state, _R.block_reason, schema.OPERATION, _R.desired_hash, _R.acked_hash),
    *(_R.changed_at, _R.acked_at, _R.failed_since, _R.not_before, schema.SESSION_UNTIL, _R.unknown_until, _R.attempts),
    *(_R.outcome_unknown > 0, _R.out_of_scope > 0, _R.validation_error, _R.reason),
)
"""The columns of a StoredRecord, up to its reason."""


@dataclass(frozen=True, slots=True)
class RelatedState:
    """The state of a parent or a child. reason: of its rejection, or why its last request failed."""

    table: str
    id: str
    state: State
    block_reason: BlockReason
    reason: str | None


@dataclass(frozen=True, slots=True)
class StoredLink:
    """A link as captured, and what Campaign acknowledged of it.

    keyed: False for a plain attribute with the parent's key. wanted: Campaign's record should hold the link now.
    acknowledged: it does, as far as Campaign acknowledged. parent: None if the ledger has no record of the parent.
    """

    attribute: str
    table: str
    id: str | None
    required: bool
    keyed: bool
    wanted: bool
    acknowledged: bool
    parent: RelatedState | None


@dataclass(frozen=True, slots=True)
class StoredRecord:
    """One record of the ledger.

    operation: of the next request, if one is due. desired_hash: None if the record must not exist in Campaign.
    acked_hash: None if Campaign acknowledged nothing. changed_at: when the desired state changed last. not_before:
    the next request is sent no earlier. leased_until: end of the session of a worker that may be sending it.
    loading: it is in an unfinished load by file; not_before and leased_until are None then.
    outcome_unknown: the answer to the last request was lost. out_of_scope: Dynamics 365 has no such row, or the
    filter excludes it, and Campaign keeps what it holds. row_error: the validation error of the row. reason: of the
    last rejection, or why the last request failed. deletion_collected: a read found it deleted, and the deletion is
    not carried out yet. children: the first SHOWN of them; child_states: the number of all by state. persons: ids
    of the held or excluded persons that it belongs to.
    """

    table: str
    id: str
    state: State
    block_reason: BlockReason
    operation: Operation
    desired_hash: bytes | None
    acked_hash: bytes | None
    changed_at: datetime
    acked_at: datetime | None
    failed_since: datetime | None
    not_before: datetime | None
    leased_until: datetime | None
    unknown_until: datetime | None
    attempts: int
    outcome_unknown: bool
    out_of_scope: bool
    row_error: str | None
    reason: str | None
    loading: bool = False
    deletion_collected: bool = False
    links: tuple[StoredLink, ...] = ()
    children: tuple[RelatedState, ...] = ()
    child_states: Counter[State] = field(default_factory=Counter[State])
    persons: tuple[str, ...] = ()


class StoredRecords(Repository):
    """Reads single records."""

    def stored_record(self, table: str, id: str) -> StoredRecord | None:
        """Return the record of a table with this id, in lower case; None without one."""
        with self._session.read() as transaction:
            seq = transaction.find(table, [id]).get(id)
            if seq is None:
                return None
            row = transaction.execute(sa.select(*_COLUMNS).where(_R.seq == seq)).one_or_none()
            if row is None:
                return None
            stored = self._record(transaction, seq, *row)
            if stored.leased_until != END_OF_TIME:
                return stored
            return replace(stored, not_before=None, leased_until=None, loading=True)

    def _record(
        self, transaction: Transaction, seq: int, table: str, id: str, state: int, block_reason: int, *columns: Any
    ) -> StoredRecord:
        collected = sa.select(_C.seq).where(_C.seq == seq, _C.orphan == 0)
        persons = sa.select(_H.person).distinct().where(_H.table_name == table, _H.id == id)
        children, child_states = self._children(transaction, table, id)
        return StoredRecord(
            table,
            id,
            State(state),
            BlockReason(block_reason),
            *columns,
            deletion_collected=transaction.execute(collected).first() is not None,
            links=self._links(transaction, seq),
            children=children,
            child_states=child_states,
            persons=tuple(sorted(transaction.execute(persons).scalars())),
        )

    def _links(self, transaction: Transaction, seq: int) -> tuple[StoredLink, ...]:
        columns = [_L[name] for name in Link._fields]
        rows = transaction.execute(
            sa.select(*columns).where(_L.seq == seq, _L.parent_table != "").order_by(_L.attribute)
        ).all()
        return tuple(self._link(transaction, Link(*row)) for row in rows)

    def _link(self, transaction: Transaction, link: Link) -> StoredLink:
        seqs = transaction.find_all([(link.parent_table, link.parent_id)] if link.parent_id else [])
        parent = next(iter(transaction.states_of(seqs, SELECT_STATE)), None)
        return StoredLink(
            attribute=link.attribute,
            table=link.parent_table,
            id=link.parent_id,
            required=bool(link.required),
            keyed=bool(link.keyed),
            wanted=stands(parent),
            acknowledged=link.acked_id is not None and is_acknowledged(link, parent, wanted=True),
            parent=next((_state(row) for row in transaction.execute(_related().where(_R.seq.in_(seqs)))), None),
        )

    def _children(
        self, transaction: Transaction, table: str, id: str
    ) -> tuple[tuple[RelatedState, ...], Counter[State]]:
        child = sa.and_(_L.parent_table == table, _L.parent_id == id)
        seqs = sa.select(_L.seq).distinct().where(child).subquery()
        joined = _related().join(seqs, seqs.c.seq == _R.seq)
        first = transaction.execute(joined.order_by(_R.table_name, _R.seq).limit(SHOWN)).all()
        counted = sa.select(_R.state, sa.func.count()).join(seqs, seqs.c.seq == _R.seq).group_by(_R.state)
        numbers = Counter({State(state): number for state, number in transaction.execute(counted)})
        return tuple(map(_state, first)), numbers


def _related() -> sa.Select[Any, Any, Any, Any, Any, Any]:
    return sa.select(_R.table_name, _R.id, _R.state, _R.block_reason, _R.validation_error, _R.reason)


def _state(row: Any) -> RelatedState:
    return RelatedState(
        row.table_name, row.id, State(row.state), BlockReason(row.block_reason), row.reason or row.validation_error
    )
