"""Counts and records of the ledger as plain documents: what `status`, `sync` and `rejects` print."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sync_assets.errors import SyncAssetsError
from sync_assets.ledger.waiting import WAITING_FOR
from sync_assets.runtime import Runtime

CALL_KINDS = ("insert", "update", "delete", "read")


def unknown_tables(runtime: Runtime, names: Sequence[str]) -> SyncAssetsError | None:
    known = [config.table for config in runtime.config.tables]
    wrong = [name for name in names if name not in known]
    if not wrong:
        return None
    return SyncAssetsError(f"{', '.join(wrong)} is not a mapped table.", f"Mapped are: {', '.join(known)}.")


def status(runtime: Runtime) -> dict[str, Any]:
    """The document of `status --json` (contract.md section 1); engine calls are those of the current UTC day."""
    return document(runtime, runtime.ledger.engine_calls(datetime.now(UTC).date()))


def document(runtime: Runtime, calls: Mapping[str, int]) -> dict[str, Any]:
    """Counts per mapped table, the feed's position, engine calls by kind, opt-outs."""
    counts = runtime.ledger.counts()
    tables: dict[str, Any] = {}
    for config in runtime.config.tables:
        found, feed = counts.get(config.table), runtime.ledger.feed(config.table)
        tables[config.table] = {
            "resource": config.resource,
            "pending": found.pending if found else 0,
            "waiting": found.waiting if found else 0,
            "failed": found.failed if found else 0,
            "held": found.held if found else 0,
            "synced": found.synced if found else 0,
            "waiting_for": waiting_for(runtime, config.table) if found and found.waiting else {},
            "deletes_held_back": feed.deletes if feed else 0,
            "feed": {
                "position_saved_at": iso(feed.saved_at) if feed else None,
                "polled_at": iso(feed.polled_at) if feed else None,
                "complete": bool(feed and feed.complete and feed.kind == "delta"),
            },
        }
    return {
        "tables": tables,
        "engine_calls": {kind: calls.get(kind, 0) for kind in CALL_KINDS},
        "opt_out": {
            "files_processed": 0,
            "last_file_at": None,
            "to_d365": 0,
            "to_campaign": 0,
            "rejected_rows": 0,
        },
    }


def waiting_for(runtime: Runtime, table: str) -> dict[str, int]:
    """How many records of a table wait, by what for."""
    return {WAITING_FOR[gate]: number for gate, number in sorted(runtime.ledger.waiting_reasons(table).items())}


def held_back(document: Mapping[str, Any]) -> list[str]:
    """What to tell of deletions that the guard holds back."""
    return [
        f"{table}: {counts['deletes_held_back']:,} deletions are held back, more than max_delete_share allows. If that "
        f"is right, `sync-assets approve-deletes {table}`, else look at Dynamics 365."
        for table, counts in document["tables"].items()
        if counts["deletes_held_back"]
    ]


def rejects(runtime: Runtime, table: str | None) -> list[dict[str, Any]]:
    """The refused records: ids and reasons, never their content."""
    return [
        {
            "table": reject.table,
            "id": reject.id,
            "reason": reject.reason,
            "since": iso(reject.since),
            "attempts": reject.attempts,
            "retryable": reject.retryable,
        }
        for reject in runtime.ledger.rejects(table)
    ]


def retry(runtime: Runtime, table: str | None, record: str | None) -> dict[str, int]:
    """Makes refused records pending again: how many, and how many stay refused, since it is the mapping that refuses
    them."""
    retried = runtime.ledger.retry(table, record)
    left = [one for one in runtime.ledger.rejects(table) if not one.retryable and record in (None, one.id)]
    return {"retried": retried, "not_retryable": len(left)}


def iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
