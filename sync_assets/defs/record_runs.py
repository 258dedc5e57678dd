"""Find the Dagster runs that changed a record: those of its table that were active when the ledger's record changed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import dagster as dg

from sync_assets.commands.explain import Explained
from sync_assets.defs.partitions import under_way_tag
from sync_assets.ledger.times import iso

SHOWN = 5
"""Most runs that are named."""
SEARCHED = 500
"""Most runs of a table that are searched, the newest first."""


def add_runs(explained: Explained, instance: dg.DagsterInstance) -> None:
    """Add to each table of the document the last runs that changed the record."""
    for table, moments in explained.moments.items():
        explained.document["tables"][table]["runs"] = record_runs(instance, table, moments)


def record_runs(instance: dg.DagsterInstance, table: str, moments: Sequence[datetime]) -> list[dict[str, Any]]:
    """Return the runs of a table that were active at these times, the newest first.

    moments: when the record was changed, acknowledged or rejected.
    """
    if not moments:
        return []
    wanted = dg.RunsFilter(tags={under_way_tag(table): "yes"}, updated_after=min(moments))
    found: list[dict[str, Any]] = []
    for record in instance.get_run_records(wanted, limit=SEARCHED):
        active = [at for at in moments if _is_active(record, at.timestamp())]
        if active:
            found.append(
                {
                    "run_id": record.dagster_run.run_id,
                    "job": record.dagster_run.job_name,
                    "status": record.dagster_run.status.value.lower(),
                    "started_at": _iso(record.start_time),
                    "ended_at": _iso(record.end_time),
                    "changed_at": sorted({iso(at) for at in active}),
                }
            )
    return found[:SHOWN]


def _is_active(record: dg.RunRecord, at: float) -> bool:
    started = record.start_time or record.create_timestamp.timestamp()
    return started <= at and (record.end_time is None or at <= record.end_time)


def _iso(seconds: float | None) -> str | None:
    return None if seconds is None else iso(datetime.fromtimestamp(seconds, UTC))
