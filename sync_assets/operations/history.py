"""`history`: what became of records, run by run, and the opt-out decisions of a contact; as a plain document."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from sync_assets.operations.record_id import record_id
from sync_assets.operations.status import iso, unknown_tables
from sync_assets.push.target import CONTACT
from sync_assets.runtime.context import Runtime


def history(runtime: Runtime, given: str | None, table: str | None, limit: int) -> dict[str, Any]:
    """Return the newest entries first, at most `limit`, and as many opt-out decisions if one contact is asked for.

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
        for one in runtime.ledger.history(id_, table, limit=limit)
    ]
    opt_outs = _opt_outs(runtime, id_, limit) if id_ is not None and table in (None, CONTACT) else []
    return {"kept_days": kept.days if kept else None, "history": entries, "opt_outs": opt_outs}


def prune_records(runtime: Runtime) -> int:
    """Delete entries older than `history.days`, all of them if no history is configured; return how many."""
    kept, now = runtime.config.history, datetime.now(UTC)
    return runtime.ledger.prune_entries(now - timedelta(days=kept.days) if kept else now)


def _opt_outs(runtime: Runtime, id_: str, limit: int) -> list[dict[str, Any]]:
    from sync_assets.opt_out.decision_log import decisions_of  # Polars  # noqa: PLC0415

    return [
        {
            "at": iso(one["decided_at"]),
            "attribute": one["attribute"],
            "opted_out": one["value"],
            "written": one["write"],
            "reason": one["reason"],
            "source": one["source"],
            "run": one["run"],
        }
        for one in decisions_of(runtime.store, id_, limit)
    ]
