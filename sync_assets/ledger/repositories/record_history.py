"""Store and read the history of records: per record and run the operation, its outcome and the reason. No values.

Nothing is stored unless `keep` was called. Invariant: an entry is stored in the transaction that stores the
outcome itself, so neither is ever stored without the other.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

import msgspec
import sqlalchemy as sa

from sync_assets.ledger.model import HistoryOperation, HistoryOutcome, Outcome, Result
from sync_assets.ledger.rules.record_state import RecordState
from sync_assets.ledger.rules.transitions import storable
from sync_assets.ledger.storage import operation_tables, schema
from sync_assets.ledger.storage.session import Repository
from sync_assets.ledger.storage.transaction import Transaction

HISTORY, PRUNED = "history", "pruned"
"""Subject and name of the fact that states the last day (UTC) of which entries were deleted."""
PRUNED_TOGETHER = 50_000
"""Entries deleted by one transaction: other writers of an SQLite ledger wait for it."""
_OUTCOMES: dict[Result, HistoryOutcome] = {
    "done": "acknowledged",
    "missing": "missing",
    "refused": "rejected",
    "later": "deferred",
    "unknown": "unknown",
}
_INSERT = """
    INSERT INTO sync_history (at, run_id, table_name, id, operation, outcome, reason, status, attempts, changed_at)
"""
# All entries are one parameter: a statement for each of them takes several times as long.
_ANSWERED = f"""
    {_INSERT} SELECT :now, :run_id, value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4,
        CAST(value ->> 5 AS bigint), CAST(value ->> 6 AS bigint), CAST(value ->> 7 AS bigint)
    FROM json_rows(:entries)
"""  # noqa: S608 - constants
_INVALID_ROWS = f"""
    {_INSERT} SELECT :now, :run_id, table_name, id, 'validate', 'rejected', validation_error, NULL, 0, changed_at
    FROM sync_record
    WHERE validation_error IS NOT NULL AND table_name = :table AND id IN :records
"""  # noqa: S608 - constants
_H = operation_tables.history.c


class HistoryEntry(msgspec.Struct, frozen=True, rename={"run_id": "run"}):
    """One entry. id: in Dynamics 365. run: of Dagster; none outside one.

    status: HTTP status of the last write. attempts: requests since the record changed, this one included; 0 without
    one. changed_at: when the program captured the change that was sent.
    """

    at: datetime
    table: str
    id: str
    operation: HistoryOperation
    outcome: HistoryOutcome
    reason: str | None
    run_id: str | None
    status: int | None
    attempts: int
    changed_at: datetime | None


@dataclass(eq=False)
class RecordHistory(Repository):
    """Reads and writes `sync_history`. kept: True if entries are stored."""

    _run_id: str | None = None
    kept: bool = False

    def keep(self, run_id: str | None) -> None:
        """Store entries from now on, as those of this Dagster run (None outside one)."""
        self.kept, self._run_id = True, run_id

    def answered(self, transaction: Transaction, records: Iterable[tuple[RecordState, Outcome]], now: int) -> None:
        """Store the outcomes of requests. Call it only if entries are `kept`. A request that was not sent has none."""
        entries = [
            (
                *(record.table_name, record.id, outcome.operation, _OUTCOMES[outcome.result], _reason(outcome)),
                *(outcome.status, record.attempts + (outcome.operation != "compare"), outcome.changed_at),
            )
            for record, outcome in records
            if outcome.result != "later" or outcome.reason is not None
        ]
        transaction.run(_ANSWERED, entries=entries, now=now, run_id=self._run_id)

    def invalid_rows(self, transaction: Transaction, table: str, ids: Sequence[str], now: int) -> None:
        """Store the validation errors of those of these records that have one. Call it only if entries are `kept`."""
        transaction.run(_INVALID_ROWS, records=list(ids), now=now, run_id=self._run_id, table=table)

    def entries(self, id: str | None = None, table: str | None = None, *, limit: int) -> list[HistoryEntry]:
        """Return the newest entries first, of one id, of one table, or of all."""
        columns = (_H.at, _H.table_name, _H.id, _H.operation, _H.outcome, _H.reason, _H.run_id)
        wanted = sa.select(*columns, _H.status, _H.attempts, _H.changed_at).where(
            schema.only(_H.id, id), schema.only(_H.table_name, table)
        )
        rows = self._session.rows(wanted.order_by(_H.number.desc()).limit(limit))
        return [HistoryEntry(*row) for row in rows]

    def prune_entries(self, before: datetime) -> int:
        """Delete the entries stored before a time; return how many. May be stopped and repeated."""

        def work(transaction: Transaction) -> int:
            oldest = sa.select(_H.number).where(_H.at < before).order_by(_H.at).limit(PRUNED_TOGETHER)
            return transaction.execute(sa.delete(operation_tables.history).where(_H.number.in_(oldest))).rowcount

        deleted = 0
        while pruned := self._session.write(work):
            deleted += pruned
        return deleted


def _reason(outcome: Outcome) -> str | None:
    return None if outcome.reason is None or outcome.result == "done" else storable(outcome.reason)
