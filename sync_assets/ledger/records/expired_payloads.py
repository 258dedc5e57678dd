"""Erase payloads of unconfirmed records whose horizon passed without a push: their rows are read again first."""

from dataclasses import dataclass

import sqlalchemy as sa

from sync_assets.ledger.model import BlockReason, State
from sync_assets.ledger.records.dependency_status import DependencyStatus
from sync_assets.ledger.storage import schema
from sync_assets.ledger.storage.session import Repository
from sync_assets.ledger.storage.transaction import Transaction

_R = schema.record.c
_AT_ONCE = 1000
"""Records per transaction."""
_ERASE = f"""
    UPDATE sync_record SET payload = NULL, update_payload = NULL, outcome_unknown = 1, unknown_until = NULL,
        block_reason = {BlockReason.REFETCH_REQUIRED.value}
"""  # noqa: S608 - constant


@dataclass(eq=False)
class ExpiredPayloads(Repository):
    """Writes unconfirmed records whose horizon has passed."""

    _dependencies: DependencyStatus

    def erase(self) -> int:
        """Erase these payloads; return how many."""
        number = 0
        while self._session.scalar(self._due().limit(1)) is not None:
            number += self._session.write(self._erase)
        return number

    def _due(self) -> sa.Select[tuple[int]]:
        past = sa.and_(schema.UNKNOWN_DUE, _R.unknown_until <= self._session.now())
        return sa.select(_R.seq).where(past, _R.state == State.UNCONFIRMED.value, _R.payload.is_not(None))

    def _erase(self, transaction: Transaction) -> int:
        self._dependencies.lock_linked_records(transaction)
        due = transaction.execute(self._due().order_by(_R.seq).limit(_AT_ONCE).with_for_update())
        seqs = [row.seq for row in due]
        transaction.for_seqs(_ERASE, seqs)
        self._dependencies.reevaluate(transaction, transaction.states_of(seqs))
        self._session.erased = self._session.erased or bool(seqs)
        return len(seqs)
