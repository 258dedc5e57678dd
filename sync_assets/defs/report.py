"""Define the asset `report/daily_sync`: the last fourteen days as tables, and numbers that Dagster plots.

All numbers are totals of the ledger, except the states at the end of a day: each report stores these in its metadata,
for the next one.

Invariant: the page holds numbers and names of tables only, no ids or values of records.
"""

# No `from __future__ import annotations`: Dagster reads the annotation of `context` at run time.

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any, cast

import dagster as dg

from sync_assets.config.models import Config
from sync_assets.defs.asset_keys import REPORT, campaign_key, key_of
from sync_assets.defs.resources import LEDGER, bound, resource_names
from sync_assets.defs.results import metadata
from sync_assets.defs.run_errors import failing
from sync_assets.defs.tables import asset_metadata
from sync_assets.defs.tables.asset_metadata import CALLS, DAYS
from sync_assets.defs.tables.table_work import LATENCIES
from sync_assets.ledger.report_values import Counts
from sync_assets.ledger.repositories.reports import CountKind
from sync_assets.runtime.context import Runtime
from sync_assets.words import counted

DAYS_KEY = "days"
"""Metadata key under which a report stores its days for the next report."""

Numbers = dict[str, float]
"""The numbers of one UTC day, by name. A number that is not known is missing: latencies of a day without engine calls,
`waiting` and `pending` of a day without a report."""
Days = dict[date, Numbers]


def report_asset(runtime: Runtime) -> dg.AssetsDefinition:
    """Define the asset. `definitions.py` schedules it daily."""
    # It depends on no particular day, so on the last partition. It has no dependency on opt-out assets: as long as they
    # were never materialised, the UI would show a warning when the report is materialised.
    last = dg.LastPartitionMapping()
    keys = [campaign_key(config, runtime) for config in runtime.config.in_link_order]

    @dg.asset(
        key=key_of(REPORT, runtime),
        group_name=runtime.installation.group("report"),
        deps=[dg.AssetDep(key, partition_mapping=last) for key in keys],
        kinds={"markdown"},
        owners=list(runtime.config.owners.report),
        description=f"The last {DAYS} days: changes captured, pushed, waiting, rejected, opt-outs by direction, "
        "Campaign's latency, engine calls against the budget. The page is in its metadata (report); the numbers of "
        "yesterday are plotted. Made every morning; materialise it to see today so far.",
        metadata=asset_metadata.code(runtime.config, make_report),
        freshness_policy=dg.FreshnessPolicy.time_window(
            fail_window=timedelta(hours=30), warn_window=timedelta(hours=25)
        ),
        required_resource_keys=resource_names(runtime, [LEDGER]),
    )
    def daily_sync(context: dg.AssetExecutionContext) -> dg.MaterializeResult[Any]:
        with bound(runtime, context.resources, [LEDGER]) as run_runtime, failing("report"):
            return dg.MaterializeResult(metadata=make_report(run_runtime, context.instance, datetime.now(UTC)))

    return daily_sync


def make_report(runtime: Runtime, instance: dg.DagsterInstance, now: datetime) -> dict[str, Any]:
    """Return the report's metadata: the page, numbers of yesterday and of now, and the days for the next report."""
    event = instance.get_latest_materialization_event(key_of(REPORT, runtime))
    stored = event.asset_materialization.metadata.get(DAYS_KEY) if event and event.asset_materialization else None
    days = collect(runtime, now, cast("Mapping[str, Any]", stored.value) if stored else {})
    counts = runtime.ledger.reports.counts()
    yesterday, today = days[now.date() - timedelta(days=1)], days[now.date()]
    kept = {
        day.isoformat(): {name: numbers[name] for name in ("waiting", "pending") if name in numbers}
        for day, numbers in days.items()
    }
    values = {
        "report": dg.MetadataValue.md(page(runtime.config, days, counts, now)),
        **{f"{name}_yesterday": number for name, number in yesterday.items()},
        "pending_now": today["pending"],
        "waiting_now": today["waiting"],
        "rejected_now": sum(count.rejected for count in counts.values()),
        "engine_calls_by_day": asset_metadata.calls_by_day(runtime, now),
        DAYS_KEY: kept,
    }
    return metadata(values)


# --- Numbers ----------------------------------------------------------------------------------------------------------


def window(now: datetime) -> list[date]:
    """Return the days of a report made at `now` (UTC), oldest first; the last one is today."""
    return [now.date() - timedelta(days=age) for age in range(DAYS - 1, -1, -1)]


def collect(runtime: Runtime, now: datetime, stored: Mapping[str, Any]) -> Days:
    """Return the numbers of all days of the window. stored: the days that the last report stored."""
    kinds: tuple[CountKind, ...] = ("d365", "campaign", "opt_outs", "engine_calls")
    by_kind = [runtime.ledger.counts.by_day(kind, window(now)[0], now.date()) for kind in kinds]
    days = {
        day: _numbers(*(Counter(by_day.get(day)) for by_day in by_kind)) | stored.get(str(day), {})
        for day in window(now)
    }
    counts = runtime.ledger.reports.counts().values()
    waiting = sum(count.waiting for count in counts)
    days[now.date()] |= {"waiting": waiting, "pending": sum(count.pending for count in counts)}
    return days


def _numbers(captured: Counter[str], pushed: Counter[str], opt_outs: Counter[str], calls: Counter[str]) -> Numbers:
    """Return the numbers of a day of which the ledger has these."""
    medians = {name: _median(pushed, f"{name}/") for name in LATENCIES}
    return {
        "captured": captured["new"] + captured["changed"] + captured["deleted"],
        "pushed": pushed["inserted"] + pushed["updated"] + pushed["deleted"],
        "rejected": captured["validation_errors"] + pushed["rejected"],
        "opt_outs_to_d365": opt_outs["to_d365"],
        "opt_outs_to_campaign": opt_outs["to_campaign"],
        **{name: calls[kind] for name, kind in CALLS.items()},
        "engine_calls": calls.total(),
        **{name: median for name, median in medians.items() if median is not None},
    }


def _median(counts: Mapping[str, int], prefix: str) -> float | None:
    """Return the median of a latency that pushes had, each weighted by its engine calls; None if there were none."""
    values = sorted(
        (float(name.removeprefix(prefix)), calls) for name, calls in counts.items() if name.startswith(prefix)
    )
    half = sum(calls for _, calls in values) / 2
    for value, calls in values:
        half -= calls
        if half <= 0:
            return value
    return None


# --- Page -------------------------------------------------------------------------------------------------------------


def page(config: Config, days: Days, counts: Mapping[str, Counts], now: datetime) -> str:
    """Return the page in Markdown: sentences about two days, record states now, and a table of all days."""
    states = ("synced", "pending", "waiting", "rejected", "held")
    rows = [
        [table.table, table.resource, *(_number(getattr(counts[table.table], state)) for state in states)]
        for table in config.in_link_order
    ]
    parts = [
        f"**{now:%Y-%m-%d %H:%M} UTC.** Days are those of UTC; the last one is not over.",
        f"**Yesterday:** {_summary(config, days[now.date() - timedelta(days=1)])}",
        f"**Today so far:** {_summary(config, days[now.date()])}",
        "**Records now**",
        _markdown(("table", "resource", *states), rows, texts=2),
        "**Day by day**",
        _table(config, days),
    ]
    return "\n\n".join(parts) + "\n"


def _summary(config: Config, day: Numbers) -> str:
    captured, pushed, calls = int(day["captured"]), int(day["pushed"]), int(day["engine_calls"])
    text = f"{counted(captured, 'change')} captured, {counted(pushed, 'record')} pushed, {day['rejected']:,} rejected"
    if config.opt_out.active:
        opt_outs = counted(int(day["opt_outs_to_d365"]), "opt-out")
        text += f", {opt_outs} written to Dynamics 365 and {day['opt_outs_to_campaign']:,} to Campaign"
    budget = config.guardrails.engine_calls_per_day
    return f"{text}, {calls:,} engine calls" + (f" of {budget:,} ({calls / budget:.0%})." if budget else ".")


def _table(config: Config, days: Days) -> str:
    columns = {"captured": "captured", "pushed": "pushed", "rejected": "rejected", "waiting": "waiting"}
    if config.opt_out.active:
        columns |= {"opt_outs_to_d365": "opt-outs to D365", "opt_outs_to_campaign": "to Campaign"}
    columns |= {"latency_p50_ms": "median ms", "latency_p95_ms": "95 % ms"}
    columns |= CALLS | {"engine_calls": "all calls"}
    budget = config.guardrails.engine_calls_per_day
    rows = [
        [day.isoformat(), *(_number(numbers.get(name)) for name in columns)]
        + ([f"{numbers['engine_calls'] / budget:.0%}"] if budget else [])
        for day, numbers in reversed(days.items())
    ]
    return _markdown(("day", *columns.values(), *(["of the budget"] if budget else [])), rows, texts=1)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}"


def _markdown(names: Sequence[str], rows: Iterable[Sequence[str]], *, texts: int) -> str:
    """Return a Markdown table. The first `texts` columns are left-aligned texts, the others right-aligned numbers."""
    lines = [names, ["---" if at < texts else "---:" for at in range(len(names))], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
