"""Render the report as markdown: sentences about two days, charts, record states now, and a table of all days.

Invariant: the page holds numbers and names of tables only, no ids or values of records.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta

from sync_assets.config.models import Config
from sync_assets.defs.report.charts import Series, bars
from sync_assets.defs.report.days import Day, Days
from sync_assets.defs.tables.asset_metadata import KINDS
from sync_assets.ledger import Counts
from sync_assets.plurals import counted

BLUE, GREEN, YELLOW, RED, VIOLET = "#3b82f6", "#22a06b", "#e2a336", "#d24235", "#7c5cdb"
COLORS = {"insert": BLUE, "update": GREEN, "delete": RED, "read": YELLOW}


def page(config: Config, days: Days, counts: Mapping[str, Counts], now: datetime) -> str:
    """Return the whole page.

    Args:
        config: The whole configuration.
        days: The days of the report, oldest first.
        counts: Records by state, by table.
        now: UTC.
    """
    parts = [
        f"**{now:%Y-%m-%d %H:%M} UTC.** Days are those of UTC; the last one is not over.",
        *_sentences(config, days, now),
        _pictures(config, days),
        "**What stands where now**",
        _states(config, counts),
        "**Day by day**",
        _table(config, days),
    ]
    return "\n\n".join(parts) + "\n"


def _sentences(config: Config, days: Days, now: datetime) -> list[str]:
    yesterday, today = days[now.date() - timedelta(days=1)], days[now.date()]
    return [f"**Yesterday:** {_summary(config, yesterday)}", f"**Today so far:** {_summary(config, today)}"]


def _summary(config: Config, day: Day) -> str:
    text = (
        f"{counted(day.captured, 'change')} captured, {counted(day.pushed, 'record')} pushed, {day.refused:,} refused"
    )
    if config.opt_out.active:
        text += f", {counted(day.to_d365, 'opt-out')} written to Dynamics 365 and {day.to_campaign:,} to Campaign"
    budget = config.guardrails.engine_calls_per_day
    text += f", {day.all_calls:,} engine calls" + (f" of {budget:,} ({day.all_calls / budget:.0%})" if budget else "")
    return text + "."


def _pictures(config: Config, days: Days) -> str:
    labels = [str(day.day) for day in days]
    numbers = list(days.values())

    def picture(title: str, series: Sequence[Series], limit: float | None = None) -> str:
        return f"![{title}, by day]({bars(title, labels, series, limit)})"

    pictures = [
        picture("Changes captured", [Series("from Dynamics 365", BLUE, [day.captured for day in numbers])]),
        picture("Records pushed", [Series("to Campaign", GREEN, [day.pushed for day in numbers])]),
        picture(
            "Not through",
            [
                Series("refusals", RED, [day.refused for day in numbers]),
                Series("waiting at the report", YELLOW, [day.waiting for day in numbers]),
            ],
        ),
        picture(
            "Campaign's answers, ms",
            [
                Series("median", BLUE, [day.latency_p50 for day in numbers]),
                Series("up to the 95 % mark", VIOLET, [_more(day) for day in numbers]),
            ],
        ),
        picture(
            "Engine calls",
            [Series(kind, COLORS[kind], [day.calls.get(kind, 0) for day in numbers]) for kind in KINDS],
            config.guardrails.engine_calls_per_day,
        ),
    ]
    if config.opt_out.active:
        pictures.append(
            picture(
                "Opt-outs written",
                [
                    Series("to Dynamics 365", BLUE, [day.to_d365 for day in numbers]),
                    Series("to Campaign", GREEN, [day.to_campaign for day in numbers]),
                ],
            )
        )
    return " ".join(pictures)


def _more(day: Day) -> float | None:
    """Return by how much the 95th percentile exceeds the median, since the chart stacks the two."""
    if day.latency_p50 is None or day.latency_p95 is None:
        return None
    return max(0.0, day.latency_p95 - day.latency_p50)


def _states(config: Config, counts: Mapping[str, Counts]) -> str:
    rows = [
        (one.table, one.resource, *map(_number, (c.synced, c.pending, c.waiting, c.failed, c.held)))
        for one in config.in_link_order
        for c in (counts.get(one.table, Counts()),)
    ]
    return _markdown(("now", "in Campaign", "in step", "pending", "waiting", "rejected", "held"), rows, texts=2)


def _table(config: Config, days: Days) -> str:
    budget = config.guardrails.engine_calls_per_day
    opt_outs = config.opt_out.active
    names = ["day", "captured", "pushed", "refusals", "waiting"]
    names += ["opt-outs to D365", "to Campaign"] if opt_outs else []
    names += ["median ms", "95 % ms", *KINDS, "all calls"] + (["of the budget"] if budget else [])
    rows: list[list[str]] = []
    for day, one in reversed(days.items()):
        row = [day.isoformat(), *map(_number, (one.captured, one.pushed, one.refused, one.waiting))]
        row += map(_number, (one.to_d365, one.to_campaign)) if opt_outs else []
        row += map(
            _number, (one.latency_p50, one.latency_p95, *(one.calls.get(kind, 0) for kind in KINDS), one.all_calls)
        )
        rows.append(row + ([f"{one.all_calls / budget:.0%}"] if budget else []))
    return _markdown(names, rows, texts=1)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}"


def _markdown(names: Sequence[str], rows: Iterable[Sequence[str]], *, texts: int) -> str:
    """Return a markdown table. The first `texts` columns are left-aligned texts, the others right-aligned numbers."""
    lines = [names, ["---" if at < texts else "---:" for at in range(len(names))], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
