"""Read the acknowledged state of records that an audit compares, and let those that differ be sent again.

An audit (audit/record_audit.py) compares what Campaign holds with the rows of Dynamics 365. Only a record that is
synced and in scope has a state that Campaign must hold; nothing is concluded about the others.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import sqlalchemy as sa

from sync_assets.ledger.model import OTHER, BlockReason, State
from sync_assets.ledger.records.dependency_status import DependencyStatus
from sync_assets.ledger.repositories.notes import Facts
from sync_assets.ledger.rules.predicates import DISCONNECTED, IN_CAMPAIGN
from sync_assets.ledger.rules.record_state import RecordState
from sync_assets.ledger.storage import schema
from sync_assets.ledger.storage.session import Repository, writes
from sync_assets.ledger.storage.transaction import Transaction

_COMPARABLE = IN_CAMPAIGN & ~DISCONNECTED
_R = schema.record.c
_STATES = f"""
    SELECT id, seq, state, out_of_scope, CASE WHEN {_COMPARABLE} THEN acked_hash END, refusable, held_refusable
    FROM sync_record
    WHERE table_name = :table AND id IN :records
"""  # noqa: S608 - constants
_DIFFERS = f"""
    UPDATE sync_record SET acked_hash = :other, payload = NULL, update_payload = NULL,
        state = {State.WAITING:d}, block_reason = {BlockReason.REFETCH_REQUIRED:d} WHERE seq IN :seqs
"""  # noqa: S608 - constants
_LINKED = "UPDATE sync_link SET acked_id = ?, acked_incarnation = NULL WHERE seq = ? AND attribute = ?"
_HOLDS = "UPDATE sync_record SET held_refusable = ? WHERE seq = ? AND acked_hash = ?"
_AT_ONCE = 500


class AuditedState(NamedTuple):
    """The state of a record in the ledger.

    hash: of what Campaign must hold; None if the record is not to be compared. word: its state, as users see it.
    refusable, held_refusable: as of model.Claimed.
    """

    seq: int
    hash: bytes | None
    word: str
    refusable: int | None
    held_refusable: int | None


@dataclass(eq=False)
class Audits(Repository):
    """Reads and writes `sync_record` for audits, and their progress."""

    _dependencies: DependencyStatus
    _progress: Facts

    def states(self, table: str, ids: Collection[str]) -> dict[str, AuditedState]:
        """Return the states of those ids that have a record."""
        with self._session.read() as transaction:
            return self._states(transaction, table, list(ids))

    def _states(self, transaction: Transaction, table: str, ids: Sequence[str]) -> dict[str, AuditedState]:
        found: dict[str, AuditedState] = {}
        for start in range(0, len(ids), _AT_ONCE):
            rows = transaction.run(_STATES, table=table, records=list(ids[start : start + _AT_ONCE]))
            for id_, seq, state, out_of_scope, acked, *refusable in rows:
                word = "out of scope" if out_of_scope and state == State.SYNCED else State(state).word
                found[id_] = AuditedState(seq, None if acked is None else bytes(acked), word, *refusable)
        return found

    def synced_below(self, table: str, id_: str, limit: int) -> list[str]:
        """Return the ids below this one of records that Campaign must hold, the highest first, up to `limit`.

        SQLite's index of ids has another order, so there each call reads all records of the table.
        """
        below = sa.select(_R.id).where(_R.table_name == table, _R.id < id_, schema.holds(_COMPARABLE))
        return self._session.column(below.order_by(_R.id.desc()).limit(limit))

    @writes
    def store_held(self, transaction: Transaction, found: Sequence[tuple[int, int, bytes]]) -> None:
        """Store what records hold in attributes that Campaign may refuse in updates: (hash of it, seq, acked hash)."""
        transaction.for_each(_HOLDS, sorted(found, key=lambda row: row[1]))

    @writes
    def store_page(
        self,
        transaction: Transaction,
        table: str,
        progress: Callable[[int], Mapping[str, Any]],
        hashes: Mapping[str, bytes],
        links: Mapping[str, Mapping[str, str | None]],
    ) -> int:
        """Let records be sent again that Campaign does not hold as it acknowledged them, and store the progress.

        Return the number of these records.

        Campaign's state counts as not known, so the row is read again, and sent as an update: with the attributes and
        links that updates send. An update that finds no record becomes an insert.

        Args:
            progress: receives the number of records that are sent again; returns facts about the audit, by name.
            hashes: by id, the acknowledged hash with which the record was compared. A record that has another one, or
                another state, by now is left alone.
            links: by id and attribute, our id of the record that a link of Campaign's record leads to; None for none.
        """
        differ: list[RecordState] = []
        if hashes:
            self._dependencies.lock_linked_records(transaction)
            seqs = sorted(state.seq for state in self._states(transaction, table, list(hashes)).values())
            locked = transaction.states_of(seqs)
            states = self._states(transaction, table, [record.id for record in locked])
            differ = [record for record in locked if states[record.id].hash == hashes[record.id]]
        seqs = [record.seq for record in differ]
        transaction.run(_DIFFERS, seqs=seqs, other=OTHER)
        transaction.count(table, State.SYNCED, -len(seqs))
        transaction.count(table, State.WAITING, len(seqs))
        of_links = ((record.seq, links.get(record.id, {})) for record in differ)
        linked = [(held, seq, name) for seq, wrong in of_links for name, held in wrong.items()]
        transaction.for_each(_LINKED, linked)
        self._dependencies.reevaluate(transaction, transaction.states_of(seqs))
        self._progress.put(transaction, table, progress(len(differ)))
        return len(differ)
