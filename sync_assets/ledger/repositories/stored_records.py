"""Read one record with everything that the ledger stores about it: state, links, children, holds. No payload.

Reads only; used to explain a record, so each call may take a few queries.
"""

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from sync_assets.ledger import times
from sync_assets.ledger.model import BlockReason, Operation, Orphaned, State
from sync_assets.ledger.rules.dependencies import Link, is_acknowledged, stands
from sync_assets.ledger.rules.record_state import RecordState
from sync_assets.ledger.storage import schema
from sync_assets.ledger.storage.bulk import SELECT_STATE
from sync_assets.ledger.storage.session import Repository

SHOWN = 20
"""Most children that are named."""
_R, _L, _H = schema.record.c, schema.link.c, schema.hold_record.c


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
    outcome_unknown: the answer to the last request was lost. out_of_scope: Dynamics 365 has no such row, or the
    filter excludes it, and Campaign keeps what it holds. row_error: the validation error of the row. reason: of the
    last rejection, or why the last request failed. deletion_collected: a read found it deleted, and the deletion is
    not carried out yet. children: the first SHOWN of them; child_states: the number of all by state. persons: ids
    of the held persons that it belongs to.
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
    deletion_collected: bool = False
    links: tuple[StoredLink, ...] = ()
    children: tuple[RelatedState, ...] = ()
    child_states: Counter[State] = field(default_factory=Counter[State])
    persons: tuple[str, ...] = ()


class StoredRecords(Repository):
    """Reads single records."""

    def stored_record(self, table: str, id: str) -> StoredRecord | None:
        """Return the record of a table with this id, in lower case; None without one."""
        with self._session.database.read() as connection:
            seq = self._session.bulk.find(connection, table, [id]).get(id)
            if seq is None:
                return None
            select = sa.select(schema.record, schema.SESSION_UNTIL).where(_R.seq == seq)
            row = connection.execute(select).one_or_none()
            return None if row is None else self._record(connection, row)

    def _record(self, connection: Connection, row: Any) -> StoredRecord:
        collected = sa.select(schema.collected.c.seq).where(
            schema.collected.c.seq == row.seq, schema.collected.c.orphan == 0
        )
        persons = sa.select(_H.hold_id).distinct().where(_H.table_name == row.table_name, _H.id == row.id)
        children, child_states = self._children(connection, row.table_name, row.id)
        unwanted = row.desired_hash is None or row.orphaned == Orphaned.DELETED  # as in claims.claimed
        return StoredRecord(
            table=row.table_name,
            id=row.id,
            state=State(row.state),
            block_reason=BlockReason(row.block_reason),
            operation="delete" if unwanted else "insert" if row.acked_hash is None else "update",
            desired_hash=row.desired_hash and bytes(row.desired_hash),
            acked_hash=row.acked_hash and bytes(row.acked_hash),
            changed_at=times.from_micros(row.changed_at),
            acked_at=times.instant(row.acked_at),
            failed_since=times.instant(row.failed_since),
            not_before=times.instant(row.not_before),
            leased_until=times.instant(row.session_until),
            unknown_until=times.instant(row.unknown_until),
            attempts=row.attempts,
            outcome_unknown=bool(row.outcome_unknown),
            out_of_scope=bool(row.out_of_scope),
            row_error=row.validation_error,
            reason=row.reason,
            deletion_collected=connection.execute(collected).first() is not None,
            links=self._links(connection, row.seq),
            children=children,
            child_states=child_states,
            persons=tuple(sorted(connection.execute(persons).scalars())),
        )

    def _links(self, connection: Connection, seq: int) -> tuple[StoredLink, ...]:
        columns = [_L[name] for name in Link._fields]
        rows = connection.execute(
            sa.select(*columns).where(_L.seq == seq, _L.parent_table != "").order_by(_L.attribute)
        ).all()
        return tuple(self._link(connection, Link(*row)) for row in rows)

    def _link(self, connection: Connection, link: Link) -> StoredLink:
        seqs = self._session.bulk.find(connection, link.parent_table, [link.parent_id]) if link.parent_id else {}
        rows = self._session.bulk.for_seqs(connection, SELECT_STATE, list(seqs.values()))
        parent = RecordState(*rows[0]) if rows else None
        return StoredLink(
            attribute=link.attribute,
            table=link.parent_table,
            id=link.parent_id,
            required=bool(link.required),
            keyed=bool(link.keyed),
            wanted=stands(parent),
            acknowledged=link.acked_id is not None and is_acknowledged(link, parent, wanted=True),
            parent=self._parent(connection, link.parent_table, link.parent_id),
        )

    def _parent(self, connection: Connection, table: str, id: str | None) -> RelatedState | None:
        seq = self._session.bulk.find(connection, table, [id]).get(id) if id else None
        row = connection.execute(_related().where(_R.seq == seq)).one_or_none() if seq is not None else None
        return None if row is None else _state(row)

    def _children(self, connection: Connection, table: str, id: str) -> tuple[tuple[RelatedState, ...], Counter[State]]:
        child = sa.and_(_L.parent_table == table, _L.parent_id == id)
        seqs = sa.select(_L.seq).distinct().where(child).subquery()
        joined = _related().join(seqs, seqs.c.seq == _R.seq)
        first = connection.execute(joined.order_by(_R.table_name, _R.seq).limit(SHOWN)).all()
        counted = sa.select(_R.state, sa.func.count()).join(seqs, seqs.c.seq == _R.seq).group_by(_R.state)
        numbers = Counter({State(state): number for state, number in connection.execute(counted)})
        return tuple(map(_state, first)), numbers


def _related() -> sa.Select[Any, Any, Any, Any, Any, Any]:
    return sa.select(_R.table_name, _R.id, _R.state, _R.block_reason, _R.validation_error, _R.reason)


def _state(row: Any) -> RelatedState:
    return RelatedState(
        row.table_name, row.id, State(row.state), BlockReason(row.block_reason), row.reason or row.validation_error
    )
