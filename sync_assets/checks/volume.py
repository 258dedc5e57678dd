"""Findings about volume for `doctor`: engine calls of the first load and of a day, against the guardrails."""

from collections.abc import Awaitable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from sync_assets.campaign.addressing import Addressing
from sync_assets.checks.guardrails import projected_calls
from sync_assets.checks.rules import Finding, ok, warn
from sync_assets.config.models import TableConfig
from sync_assets.dataverse.client import DataverseClient
from sync_assets.dataverse.metadata import MODIFIED, Table
from sync_assets.dataverse.row_counts import MOST_COUNTED, Interval, count_rows
from sync_assets.errors import SyncAssetsError
from sync_assets.task_group import run_together
from sync_assets.words import counted

INITIAL_RECORDS = 15_000_000
"""Records of an initial sync, at most, by Adobe's documentation (docs/dev/references/campaign.md 14)."""
Answer = TypeVar("Answer")


async def volume(
    tables: Sequence[tuple[TableConfig, Table, Addressing]],
    d365: DataverseClient,
    synced: Mapping[str, int],
    per_day: int | None,
) -> list[Finding]:
    """Return the estimates.

    Args:
        tables: those that can be synchronised, and how Campaign's records are addressed.
        d365: the client.
        synced: records that Campaign holds, by table; empty if the ledger is not usable.
        per_day: `engine_calls_per_day`; None: no limit.
    """
    if not tables:
        return []
    last_day = Interval(datetime.now(UTC) - timedelta(days=1)).condition(MODIFIED)
    rows, changed = await run_together(
        run_together(*(_or_none(d365.record_count(config.table)) for config, _, _ in tables)),
        run_together(*(_or_none(count_rows(d365, table, last_day)) for _, table, _ in tables)),
    )
    names = [config.table for config, _, _ in tables]
    costs = {
        config.table: None if count is None else projected_calls(addressing, {"update": count.number})
        for (config, _, addressing), count in zip(tables, changed, strict=True)
    }
    capped = [name for name, count in zip(names, changed, strict=True) if count and count.at_least]
    return [first_load(dict(zip(names, rows, strict=True)), synced, per_day), a_day(costs, capped, per_day)]


def first_load(rows: Mapping[str, int | None], synced: Mapping[str, int], per_day: int | None) -> Finding:
    """Return the estimate of the first load; an insert is one call.

    rows: by Dynamics 365's count, None if it gives none.
    """
    title, unknown = "estimate of the first load", _unknown(rows)
    missing = {table: max(0, number - synced.get(table, 0)) for table, number in rows.items() if number is not None}
    calls = sum(missing.values())
    if not calls:
        return ok(title, f"nothing is left to be sent{unknown}" if missing else f"not known{unknown}")
    text = f"at most {calls:,} engine calls ({_listed(missing)}), one for each row that is not synced{unknown}"
    if per_day:
        days = -(-calls // per_day)
        text += f"; at {per_day:,} calls a day (engine_calls_per_day) that takes {counted(days, 'day')}"
    if calls <= INITIAL_RECORDS:
        return ok(title, text)
    text += (
        f". Campaign takes {INITIAL_RECORDS:,} records in an initial sync: narrow it with `filters`, or ask Adobe "
        "first. Spread it with engine_calls_per_day; stop Campaign's own processes meanwhile"
    )
    return warn(title, text)


def a_day(costs: Mapping[str, int | None], capped: Sequence[str], per_day: int | None) -> Finding:
    """Return the estimate of a day.

    Args:
        costs: engine calls by table for the rows of the last 24 hours; None: unknown.
        capped: tables with more rows than Dynamics 365 counts.
        per_day: `engine_calls_per_day`; None: no limit.
    """
    title, unknown = "estimate of engine calls per day", _unknown(costs)
    known = {table: number for table, number in costs.items() if number is not None}
    calls = sum(known.values())
    if not known:
        return ok(title, f"not known{unknown}")
    least = "at least" if capped else "about"
    text = f"{least} {calls:,}, for rows that were modified in the last 24 hours ({_listed(known)}){unknown}"
    if capped:
        text += f"; Dynamics 365 counts {MOST_COUNTED:,} rows at most, more were modified of {', '.join(capped)}"
    if per_day is None:
        return ok(title, f"{text}; no limit is set (engine_calls_per_day)")
    text += f"; engine_calls_per_day is {per_day:,}"
    if calls <= per_day:
        return ok(title, text)
    text += (
        ": if every day is like this one, the backlog grows. Raise it as far as your Campaign package allows, or "
        "narrow the tables with `filters`"
    )
    return warn(title, text)


async def _or_none(question: Awaitable[Answer]) -> Answer | None:
    """Return the answer, or None if it fails: an estimate is not worth an error."""
    try:
        return await question
    except SyncAssetsError:
        return None


def _listed(numbers: Mapping[str, int]) -> str:
    return ", ".join(f"{table} {number:,}" for table, number in numbers.items())


def _unknown(numbers: Mapping[str, int | None]) -> str:
    missing = [table for table, number in numbers.items() if number is None]
    return f"; Dynamics 365 gives no count for {', '.join(missing)}" if missing else ""
