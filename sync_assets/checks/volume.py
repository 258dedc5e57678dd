"""Findings about volume for `doctor`: engine calls of the first load and of a day, against the guardrails."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

from sync_assets.campaign.addressing import Addressing
from sync_assets.checks.guardrails import projected_calls
from sync_assets.checks.rules import Finding, ok, warn
from sync_assets.config.models import TableConfig
from sync_assets.dataverse.client import DataverseClient
from sync_assets.dataverse.metadata import MODIFIED, Table
from sync_assets.dataverse.row_counts import Interval, count_rows
from sync_assets.errors import SyncAssetsError
from sync_assets.task_group import run_together

INITIAL_RECORDS = 15_000_000
"""Records of an initial sync, at most, by Adobe's documentation (docs/dev/references/campaign.md 14)."""


async def volume(
    tables: Sequence[tuple[TableConfig, Table, Addressing]],
    d365: DataverseClient,
    synced: Mapping[str, int],
    per_day: int | None,
) -> list[Finding]:
    """Return rough estimates, all tables together; `estimate` computes them by table.

    Args:
        tables: those that can be synchronised, and how Campaign's records are addressed.
        d365: the client.
        synced: records that Campaign holds, by table; empty if the ledger is not usable.
        per_day: `engine_calls_per_day`; None: no limit.
    """
    if not tables:
        return []
    last_day = Interval(datetime.now(UTC) - timedelta(days=1)).condition(MODIFIED)
    try:
        rows, changed = await run_together(
            run_together(*(d365.record_count(config.table) for config, _, _ in tables)),
            run_together(*(count_rows(d365, table, last_day) for _, table, _ in tables)),
        )
    except SyncAssetsError as error:
        return [ok("estimates", f"not known: {error}")]
    load = sum(
        max(0, (count or 0) - synced.get(config.table, 0)) for count, (config, _, _) in zip(rows, tables, strict=True)
    )
    day = sum(
        projected_calls(addressing, {"update": count.number})
        for (_, _, addressing), count in zip(tables, changed, strict=True)
    )
    return [first_load(load), a_day(day, per_day, at_least=any(count.at_least for count in changed))]


def first_load(calls: int) -> Finding:
    """Return the estimate of the first load."""
    title = "estimate of the first load"
    text = f"about {calls:,} engine calls, one for each row that Dynamics 365 counts and that is not synced"
    if calls <= INITIAL_RECORDS:
        return ok(title, text)
    text += (
        f". Campaign takes {INITIAL_RECORDS:,} records in an initial sync: narrow it with `filters`, or ask Adobe "
        "first. Spread it with engine_calls_per_day; stop Campaign's own processes meanwhile"
    )
    return warn(title, text)


def a_day(calls: int, per_day: int | None, *, at_least: bool) -> Finding:
    """Return the estimate of a day like the last one. at_least: Dynamics 365 did not count all modified rows."""
    title, number = "estimate of engine calls per day", f"{'at least ' if at_least else ''}{calls:,}"
    text = f"{number}, for rows that were modified in the last 24 hours; engine_calls_per_day is {per_day or 'not set'}"
    if per_day is None or calls <= per_day:
        return ok(title, text)
    text += (
        ": if every day is like this one, the backlog grows. Raise it as far as your Campaign package allows, or "
        "narrow the tables with `filters`"
    )
    return warn(title, text)
