"""What `doctor` estimates: engine calls of the first load and of a day, against the guardrails. Makes none itself."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from datetime import UTC, datetime, timedelta

from sync_assets.config.models import TableConfig
from sync_assets.dataverse.client import DataverseClient
from sync_assets.dataverse.metadata import Table
from sync_assets.dataverse.privileges import MOST_COUNTED, modified_since
from sync_assets.errors import SyncAssetsError
from sync_assets.operations.diagnosis_line import Line
from sync_assets.validation.guardrails import projected_calls

INITIAL_RECORDS = 15_000_000
"""Records of an initial sync, in all, that Adobe documents as the maximum (docs/references/campaign.md 14)."""
DAY = timedelta(days=1)


async def volume_lines(
    tables: Sequence[tuple[TableConfig, Table]],
    d365: DataverseClient,
    synced: Mapping[str, int],
    per_day: int | None,
) -> list[Line]:
    """tables: those that are fit to be synchronised. synced: records that Campaign holds, by table; none
    where the ledger can't tell. per_day: `engine_calls_per_day`."""
    if not tables:
        return []
    since = datetime.now(UTC) - DAY
    rows, changed = await asyncio.gather(
        asyncio.gather(*(_told(d365.record_count(config.table)) for config, _ in tables)),
        asyncio.gather(*(_told(modified_since(d365, table, since)) for _, table in tables)),
    )
    names = [config.table for config, _ in tables]
    lines = [first_load(dict(zip(names, rows, strict=True)), synced, per_day)]
    costs = {
        config.table: None if number is None else projected_calls(config, {"update": number})
        for (config, _), number in zip(tables, changed, strict=True)
    }
    capped = [name for name, number in zip(names, changed, strict=True) if number == MOST_COUNTED]
    return [*lines, a_day(costs, capped, per_day)]


def first_load(rows: Mapping[str, int | None], synced: Mapping[str, int], per_day: int | None) -> Line:
    """rows: as Dynamics 365 counts them, None where it does not. An insert is one call."""
    what = "estimate of the first load"
    left = {table: max(0, number - synced.get(table, 0)) for table, number in rows.items() if number is not None}
    unknown = _unknown(rows)
    calls = sum(left.values())
    if not calls:
        return Line("ok", what, f"nothing is left to be sent{unknown}" if left else f"not known{unknown}")
    told = (
        f"at most {calls:,} engine calls ({_listed(left)}), one for each row that Campaign does not hold yet{unknown}"
    )
    if per_day:
        days = -(-calls // per_day)
        told += f"; at {per_day:,} calls a day (engine_calls_per_day) that takes {days:,} day{'s' if days > 1 else ''}"
    if calls <= INITIAL_RECORDS:
        return Line("ok", what, told)
    return Line(
        "warn", what, f"{told}. Campaign takes {INITIAL_RECORDS:,} records in an initial sync: narrow it with "
        "`filters`, or ask Adobe first. Spread it with engine_calls_per_day; stop Campaign's own processes meanwhile"
    )  # fmt: skip


def a_day(costs: Mapping[str, int | None], capped: Sequence[str], per_day: int | None) -> Line:
    """costs: engine calls by table for the rows of the last 24 hours. capped: tables with more than are counted."""
    what = "estimate of engine calls per day"
    known = {table: number for table, number in costs.items() if number is not None}
    calls, unknown = sum(known.values()), _unknown(costs)
    if not known:
        return Line("ok", what, f"not known{unknown}")
    least = "at least" if capped else "about"
    told = f"{least} {calls:,}, for rows that were modified in the last 24 hours ({_listed(known)}){unknown}"
    if capped:
        told += f"; Dynamics 365 counts {MOST_COUNTED:,} rows at most, more were modified of {', '.join(capped)}"
    if per_day is None:
        return Line("ok", what, f"{told}; no limit is set (engine_calls_per_day)")
    if calls <= per_day:
        return Line("ok", what, f"{told}; engine_calls_per_day is {per_day:,}")
    return Line(
        "warn", what, f"{told}; engine_calls_per_day is {per_day:,}: if every day is like this one, the backlog grows. "
        "Raise it as far as your Campaign package allows, or narrow the tables with `filters`"
    )  # fmt: skip


async def _told(question: Awaitable[int | None]) -> int | None:
    """An estimate is worth no error: what is not told is not known."""
    try:
        return await question
    except SyncAssetsError:
        return None


def _listed(numbers: Mapping[str, int]) -> str:
    return ", ".join(f"{table} {number:,}" for table, number in numbers.items())


def _unknown(numbers: Mapping[str, int | None]) -> str:
    missing = [table for table, number in numbers.items() if number is None]
    return f"; Dynamics 365 does not tell for {', '.join(missing)}" if missing else ""
