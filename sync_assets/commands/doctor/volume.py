"""`doctor`: engine calls of the first load and of a day, against the guardrails; records that Campaign holds before."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, TypeVar

from sync_assets.audit.existing_records import begun
from sync_assets.audit.record_comparison import may_sort
from sync_assets.audit.record_list import RecordList, pages_for
from sync_assets.campaign.addressing import Addressing
from sync_assets.campaign.client import CampaignClient
from sync_assets.commands.doctor.line import Line, failed
from sync_assets.commands.estimate_calls import INITIAL_RECORDS
from sync_assets.config.models import TableConfig
from sync_assets.dataverse.client import DataverseClient
from sync_assets.dataverse.metadata import MODIFIED, Table
from sync_assets.dataverse.row_counts import MOST_COUNTED, Interval, count_rows
from sync_assets.errors import SyncAssetsError
from sync_assets.plurals import counted
from sync_assets.runtime.context import Runtime
from sync_assets.task_group import run_together
from sync_assets.validation.guardrails import projected_calls

if TYPE_CHECKING:
    from sync_assets.campaign.metadata import Resource

DAY = timedelta(days=1)
Answer = TypeVar("Answer")


async def volume_lines(
    tables: Sequence[tuple[TableConfig, Table, Addressing]],
    d365: DataverseClient,
    synced: Mapping[str, int],
    per_day: int | None,
) -> list[Line]:
    """Return the estimates.

    Args:
        tables: those that can be synchronised, and how Campaign's records are addressed.
        synced: records that Campaign holds, by table; empty if the ledger is not usable.
        per_day: `engine_calls_per_day`; None: no limit.
    """
    if not tables:
        return []
    lately = Interval(datetime.now(UTC) - DAY).condition(MODIFIED)
    rows, changed = await run_together(
        run_together(*(_or_none(d365.record_count(config.table)) for config, _, _ in tables)),
        run_together(*(_or_none(count_rows(d365, table, lately)) for _, table, _ in tables)),
    )
    names = [config.table for config, _, _ in tables]
    lines = [first_load(dict(zip(names, rows, strict=True)), synced, per_day)]
    costs = {
        config.table: None if count is None else projected_calls(addressing, {"update": count.number})
        for (config, _, addressing), count in zip(tables, changed, strict=True)
    }
    capped = [name for name, count in zip(names, changed, strict=True) if count and count.at_least]
    return [*lines, a_day(costs, capped, per_day)]


def first_load(rows: Mapping[str, int | None], synced: Mapping[str, int], per_day: int | None) -> Line:
    """Return the estimate of the first load; an insert is one call.

    rows: by Dynamics 365's count, None if it gives none.
    """
    what = "estimate of the first load"
    left = {table: max(0, number - synced.get(table, 0)) for table, number in rows.items() if number is not None}
    unknown = _unknown(rows)
    calls = sum(left.values())
    if not calls:
        return Line("ok", what, f"nothing is left to be sent{unknown}" if left else f"not known{unknown}")
    text = (
        f"at most {calls:,} engine calls ({_listed(left)}), one for each row that Campaign does not hold yet{unknown}"
    )
    if per_day:
        days = -(-calls // per_day)
        text += f"; at {per_day:,} calls a day (engine_calls_per_day) that takes {counted(days, 'day')}"
    if calls <= INITIAL_RECORDS:
        return Line("ok", what, text)
    return Line(
        "warn", what, f"{text}. Campaign takes {INITIAL_RECORDS:,} records in an initial sync: narrow it with "
        "`filters`, or ask Adobe first. Spread it with engine_calls_per_day; stop Campaign's own processes meanwhile"
    )  # fmt: skip


def a_day(costs: Mapping[str, int | None], capped: Sequence[str], per_day: int | None) -> Line:
    """Return the estimate of a day.

    Args:
        costs: engine calls by table for the rows of the last 24 hours; None: unknown.
        capped: tables with more rows than Dynamics 365 counts.
    """
    what = "estimate of engine calls per day"
    known = {table: number for table, number in costs.items() if number is not None}
    calls, unknown = sum(known.values()), _unknown(costs)
    if not known:
        return Line("ok", what, f"not known{unknown}")
    least = "at least" if capped else "about"
    text = f"{least} {calls:,}, for rows that were modified in the last 24 hours ({_listed(known)}){unknown}"
    if capped:
        text += f"; Dynamics 365 counts {MOST_COUNTED:,} rows at most, more were modified of {', '.join(capped)}"
    if per_day is None:
        return Line("ok", what, f"{text}; no limit is set (engine_calls_per_day)")
    if calls <= per_day:
        return Line("ok", what, f"{text}; engine_calls_per_day is {per_day:,}")
    return Line(
        "warn", what, f"{text}; engine_calls_per_day is {per_day:,}: if every day is like this one, the backlog grows. "
        "Raise it as far as your Campaign package allows, or narrow the tables with `filters`"
    )  # fmt: skip


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
    return f"; Dynamics 365 does not tell for {', '.join(missing)}" if missing else ""


async def existing_lines(
    runtime: Runtime, config: TableConfig, campaign: CampaignClient, resource: Resource
) -> list[Line]:
    """Return the line of a table; none once its first load has begun.

    Costs one engine call, or more if the list has more than one page.
    """
    what, ledger = f"{config.table}: records in Campaign before the first load", runtime.ledger
    under_way = await asyncio.to_thread(ledger.rebuilds.rebuild, config.table)
    if under_way is not None:
        return [Line("ok", what, f"the list is under way, {counted(under_way.records, 'record', 'were')} compared")]
    if await asyncio.to_thread(begun, ledger, config):
        return []
    listing = RecordList(runtime, campaign, config, sorts=may_sort(config))
    try:
        look = await listing.look(resource)
        records = await listing.count() if look.page.next else len(look.page.records)
    except SyncAssetsError as error:
        return failed(what, error)
    cost = f"(asked with {counted(listing.calls, 'engine call')})"
    if not look.lists:
        return [Line("ok", what, f"no {config.resource} carries an id of Dynamics 365 {cost}")]
    some = "some carry ids of Dynamics 365" if listing.ours(look.page) else "some may carry ids of Dynamics 365"
    message = (
        f"Campaign holds {counted(records, 'record')} of {config.resource}, {some}: the first load begins with "
        f"{counted(pages_for(records), 'read')} and sends only what differs {cost}"
    )
    return [Line("ok", what, message)]
