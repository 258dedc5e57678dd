"""`history`: what became of records, run by run, and the opt-out decisions of a contact; as a plain document."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from sync_assets.config.values import CONTACT
from sync_assets.ledger.times import iso
from sync_assets.operations.explain import opt_out_decisions
from sync_assets.operations.record_id import record_id
from sync_assets.operations.status import unknown_tables
from sync_assets.runtime.context import Runtime


def history(runtime: Runtime, given: str | None, table: str | None, limit: int) -> dict[str, Any]:
    """Return the newest entries first, at most `limit`, and for one id the last opt-out decisions.

    Args:
        runtime: of the process.
        given: a Dynamics 365 id as the user wrote it; None for all records.
        table: a mapped table; None for all.
        limit: most entries.

    Raises:
        SyncAssetsError: the id is none, or the table is not mapped.
    """
    id_ = record_id(given, "The history of a record needs its") if given is not None else None
    if table is not None and (error := unknown_tables(runtime, [table])):
        raise error
    kept = runtime.config.history
    entries = [
        {
            "at": iso(one.at),
            "table": one.table,
            "id": one.id,
            "operation": one.operation,
            "outcome": one.outcome,
            "reason": one.reason,
            "run": one.run_id,
        }
        for one in runtime.ledger.history.entries(id_, table, limit=limit)
    ]
    decisions: list[dict[str, Any]] = []
    if id_ is not None and table in (None, CONTACT):
        decisions = opt_out_decisions(runtime, id_, show_values=False)[:limit]
    return {"kept_days": kept.days if kept else None, "history": entries, "decisions": decisions}


def prune_records(runtime: Runtime) -> int:
    """Delete entries older than `history.days`, all of them if no history is configured; return how many."""
    kept, now = runtime.config.history, datetime.now(UTC)
    return runtime.ledger.history.prune_entries(now - timedelta(days=kept.days) if kept else now)
