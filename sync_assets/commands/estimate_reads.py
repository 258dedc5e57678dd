"""Read what an estimate of engine calls is computed from: rows in Dynamics 365, findings and calls in the ledger.

Makes no engine call, sends nothing to Campaign, and writes nothing.
"""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta

from sync_assets.audit.drift import SAMPLE
from sync_assets.audit.existing_records import begun
from sync_assets.commands.estimate_calls import WINDOW, Cost, History, Limits, Volume
from sync_assets.config.models import Config, TableConfig
from sync_assets.config.values import CONTACT
from sync_assets.dataverse.client import DataverseClient
from sync_assets.dataverse.metadata import CREATED, MODIFIED, Table
from sync_assets.dataverse.row_counts import Interval, RowCount, count_interval, count_rows
from sync_assets.ledger import Ledger
from sync_assets.mapping.filter_query import scope_query
from sync_assets.opt_out.parity import SAMPLE as OPT_OUT_SAMPLE
from sync_assets.push.record_links import sent_by_key
from sync_assets.push.target import Target
from sync_assets.task_group import run_together

DAY = timedelta(days=1)
DAY_QUERIES = 30
"""Queries at most for the rows of one day: enough for some 50,000."""


async def read_volumes(config: Config, ledger: Ledger, d365: DataverseClient, now: datetime) -> list[Volume]:
    """Return the volumes of all mapped tables, in their order. Raises D365Refused, HttpError, LedgerError."""
    return list(await run_together(*(_volume(config, table, ledger, d365, now) for table in config.tables)))


async def _volume(config: Config, table: TableConfig, ledger: Ledger, d365: DataverseClient, now: datetime) -> Volume:
    described = await d365.table(table.table)
    scope = scope_query(table.filters, described)
    (rows, in_scope), (created, modified) = await run_together(
        _sizes(d365, described, scope, now), _changes(d365, described, scope or "", now)
    )
    counts, feed = ledger.reports.counts().get(table.table), ledger.feeds.feed(table.table)
    captured = feed is not None and feed.complete
    missing = ledger.reports.pending_operations(table.table).get("insert", 0) if captured else 0
    opt_outs = config.opt_out if table.table == CONTACT and config.opt_out.active else None
    return Volume(
        table=table.table,
        resource=table.resource,
        rows=rows,
        in_scope=in_scope,
        created=created,
        modified=modified,
        cost=cost_of(config, table, ledger),
        settled=counts.records - counts.pending - counts.waiting if counts else 0,
        missing=missing + (counts.waiting if counts else 0) if captured else None,
        opt_outs=opt_outs is not None,
        listed=begun(ledger, table),
        passes_deletes=table.apply_deletes or bool(table.filters and table.filters.delete_filtered_out),
        history=_history(ledger, table.table, now),
        audited=SAMPLE + (OPT_OUT_SAMPLE if opt_outs else 0),
        poll_minutes=opt_outs.poll_profiles_minutes if opt_outs else None,
    )


async def _sizes(
    d365: DataverseClient, table: Table, scope: str | None, now: datetime
) -> tuple[RowCount | None, RowCount | None]:
    """Return the number of rows, and of rows in scope. More rows than a query counts are those of a snapshot."""
    rows = await count_rows(d365, table)
    if rows.at_least:
        snapshot = await d365.record_count(table.name)
        rows = RowCount(snapshot) if snapshot and snapshot >= rows.number else rows
    if scope is None:
        return rows, None
    if not scope:
        return rows, rows
    if CREATED in table.columns:
        return rows, await count_interval(d365, table, CREATED, Interval(), scope, now=now)
    return rows, await count_rows(d365, table, scope)


async def _changes(
    d365: DataverseClient, table: Table, scope: str, now: datetime
) -> tuple[list[RowCount] | None, list[RowCount]]:
    """Return the rows created, and those modified after the day of their creation, on each of the last WINDOW days."""
    days = days_before(now)

    async def created(day: Interval) -> RowCount:
        return await count_interval(d365, table, CREATED, day, scope, now=now, queries=DAY_QUERIES)

    async def modified(day: Interval) -> RowCount:
        earlier = Interval(end=day.begin).condition(CREATED) if CREATED in table.columns else ""
        return await count_interval(d365, table, MODIFIED, day, scope, earlier, now=now, queries=DAY_QUERIES)

    changed = list(await run_together(*map(modified, days)))
    if CREATED not in table.columns:
        return None, changed
    return list(await run_together(*map(created, days))), changed


def days_before(now: datetime) -> list[Interval]:
    """Return the last WINDOW times 24 hours, oldest first. The last one is open: Dynamics 365's clock may be ahead."""
    end = now.astimezone(UTC).replace(microsecond=0)
    days = [Interval(end - (n + 1) * DAY, end - n * DAY) for n in reversed(range(WINDOW))]
    return [*days[:-1], Interval(days[-1].begin)]


def cost_of(config: Config, table: TableConfig, ledger: Ledger) -> Cost:
    """Return what a change of a table's records costs, by the configuration and the ledger's findings."""
    target = Target.linked(config, table)
    addressing = target.addressing(ledger.dialect.found(target.resource))
    parents = {
        parent.resource: parent.addressing(ledger.dialect.found(parent.resource)).found for parent in target.parents
    }
    return Cost(
        update=addressing.update_calls,
        delete=addressing.delete_calls,
        found_out=addressing.key_in_url is not None,
        delete_found_out=addressing.key_in_delete is not None,
        looked_up=tuple(link.table for link in target.links if not sent_by_key(link, parents[link.resource])),
        verified=bool(target.links),
        proven=not addressing.needs_proof,
    )


def _history(ledger: Ledger, table: str, now: datetime) -> History | None:
    """Return the engine calls of the whole UTC days before today; None if there are no such days."""
    today = now.astimezone(UTC).date()
    first = ledger.reports.first_engine_calls().get(table)
    if first is None or first >= today:
        return None
    begin = max(first, today - WINDOW * DAY)
    calls = ledger.reports.engine_calls_by_table(begin, today - DAY).get(table, {})
    return History((today - begin).days, calls.get("update", 0), calls.get("delete", 0))


def read_limits(config: Config, ledger: Ledger) -> Limits:
    """Return the limits of the configuration, and the pace in the ledger."""
    guardrails, runs = config.guardrails, config.runs
    seconds = min(runs.linger, runs.longest_run_minutes * 60)
    return Limits(
        per_day=guardrails.engine_calls_per_day,
        per_hour=guardrails.engine_calls_per_hour,
        per_second=guardrails.calls_per_second,
        concurrency=guardrails.concurrency,
        runs_a_day=DAY.total_seconds() / max(1.0, seconds),
        busiest_hour=ledger.limits.busiest_hour(),
    )


def month_so_far(ledger: Ledger, now: datetime) -> Counter[str]:
    """Return the engine calls of the current UTC month by kind."""
    today = now.astimezone(UTC).date()
    by_day = ledger.reports.engine_calls_by_day(today.replace(day=1), today)
    return sum((Counter(calls) for calls in by_day.values()), Counter[str]())
