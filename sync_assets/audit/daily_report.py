"""Gather the numbers of the last fourteen days, and show them on the page of the daily report. No Dagster here.

All numbers are totals of the ledger, except the states at the end of a day: each report stores these for the next one.

Invariant: the page holds numbers and names of tables only, no ids or values of records.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

from sync_assets.checks.rules import Rows
from sync_assets.config.models import Config, Guardrails
from sync_assets.ledger import Ledger
from sync_assets.ledger.report_values import Counts
from sync_assets.ledger.repositories.reports import CountKind
from sync_assets.words import counted

KINDS = ("insert", "update", "delete", "read")
CALLS = {f"engine_calls_{kind}": kind for kind in KINDS}
"""Metadata key of a number of engine calls -> their kind."""
DAYS = 14
LATENCIES = {"latency_p50_ms": "latency_p50", "latency_p95_ms": "latency_p95"}
"""Metadata key -> attribute of the result of a push. The ledger counts engine calls of a day by these latencies."""

Numbers = dict[str, float]
"""The numbers of one UTC day, by name. A number that is not known is missing: latencies of a day without engine calls,
`waiting` and `pending` of a day without a report."""
Days = dict[date, Numbers]


def window(now: datetime) -> list[date]:
    """Return the days of a report made at `now` (UTC), oldest first; the last one is today."""
    return [now.date() - timedelta(days=age) for age in range(DAYS - 1, -1, -1)]


def collect(ledger: Ledger, now: datetime, stored: Mapping[str, Any]) -> Days:
    """Return the numbers of all days of the window. stored: the days that the last report stored."""
    kinds: tuple[CountKind, ...] = ("d365", "campaign", "opt_outs", "engine_calls")
    by_kind = [ledger.counts.by_day(kind, window(now)[0], now.date()) for kind in kinds]
    days = {
        day: _numbers(*(Counter(by_day.get(day)) for by_day in by_kind)) | stored.get(str(day), {})
        for day in window(now)
    }
    counts = ledger.reports.counts().values()
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


def calls_by_day(guardrails: Guardrails, ledger: Ledger, now: datetime | None = None) -> Rows:
    """Return Campaign engine calls of all tables in the last DAYS days, by day and kind, with the share of the budget.

    Days without calls are left out; the newest day is first.
    """
    today = (now or datetime.now(UTC)).date()
    by_day = ledger.counts.by_day("engine_calls", today - timedelta(days=DAYS - 1), today)
    budget = guardrails.engine_calls_per_day
    rows: list[tuple[str | int, ...]] = []
    for day, calls in sorted(by_day.items(), reverse=True):
        total = sum(calls.values())
        share = (f"{total / budget:.0%}",) if budget else ()
        rows.append((day.isoformat(), *(calls.get(kind, 0) for kind in KINDS), total, *share))
    return Rows(("day", *KINDS, "all", *(("of budget",) if budget else ())), rows)
