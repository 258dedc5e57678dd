"""Gather the numbers of the report's days, and write the page of the daily report. No Dagster here.

All numbers are totals of the ledger, except the states at the end of a day: each report stores these for the next one.
`sync-assets report --html` shows the same sections with plots (results/report_page.py).

Invariant: the page holds numbers, names of tables and kinds of reasons only, no ids or values of records.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any, Literal, NamedTuple

from sync_assets.audit.record_audit import last_result
from sync_assets.checks.rules import Rows
from sync_assets.config.models import Config, Guardrails
from sync_assets.foreign_text import markdown, one_line
from sync_assets.ledger import Ledger
from sync_assets.ledger.records.claims import ALL_SECONDS
from sync_assets.ledger.report_values import Counts
from sync_assets.ledger.repositories.reports import CountKind
from sync_assets.words import counted, duration

KINDS = ("insert", "update", "delete", "read")
CALLS = {f"engine_calls_{kind}": kind for kind in KINDS}
"""Metadata key of a number of engine calls -> their kind."""
STATES = {"pending": "plain", "waiting": "pale", "rejected": "bad", "held": "warn", "orphaned": "grey"}
"""State of a record that is not in step -> its colour in a plot."""
AUDITED = {"in step but for": "pale", "differing": "warn", "missing": "bad", "hidden": "grey"}
WITHIN = {"within 10 s": 10.0, "1 min": 60.0, "5 min": 300.0, "1 h": 3600.0, "longer": float("inf")}
"""Column -> the most seconds from a change to Campaign; each is an end of a bucket of the ledger."""
DAYS = 14
LATENCIES = {"latency_p50_ms": "latency_p50", "latency_p95_ms": "latency_p95"}
"""Metadata key -> attribute of the result of a push. The ledger counts engine calls of a day by these latencies."""

Numbers = dict[str, float]
"""The numbers of one UTC day, by name. A number that is not known is missing: latencies of a day without engine calls,
`waiting` and `pending` of a day without a report."""
Days = dict[date, Numbers]


class Section(NamedTuple):
    """A part of the report.

    Attributes:
        title: what its numbers are.
        rows: the columns before the first plotted one are texts.
        plotted: the columns of the plot, side by side, each with its colour there (report_page.html).
        bars: of the same row: on each other, on each other as shares of their sum, or beside each other.
        empty: the sentence in place of the table if it has no rows.
    """

    title: str
    rows: Rows
    plotted: Mapping[str, str]
    bars: Literal["stacked", "shares", "beside"] = "stacked"
    empty: str = "None."

    @property
    def texts(self) -> int:
        """The number of columns of texts, which come first."""
        return self.rows.names.index(next(iter(self.plotted)))


def window(now: datetime, number: int = DAYS) -> list[date]:
    """Return the days of a report made at `now` (UTC), oldest first; the last one is today."""
    return [now.date() - timedelta(days=age) for age in range(number - 1, -1, -1)]


def collect(ledger: Ledger, now: datetime, stored: Mapping[str, Any], number: int = DAYS) -> Days:
    """Return the numbers of all days of the window. stored: the days that the last report stored."""
    kinds: tuple[CountKind, ...] = ("d365", "campaign", "opt_outs", "engine_calls")
    by_kind = [ledger.counts.by_day(kind, window(now, number)[0], now.date()) for kind in kinds]
    days = {
        day: _numbers(*(Counter(by_day.get(day)) for by_day in by_kind)) | stored.get(str(day), {})
        for day in window(now, number)
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


# --- Sections ---------------------------------------------------------------------------------------------------------


def sections_now(config: Config, ledger: Ledger, counts: Mapping[str, Counts]) -> list[Section]:
    """Return the sections on the present: states, rejections by reason, and the audit of each table that began last."""
    tables, shown = config.in_link_order, (*STATES, "synced")
    states = [(one.table, one.resource, *(getattr(counts[one.table], state) for state in shown)) for one in tables]
    reasons = [(one.table, *reason) for one in tables for reason in ledger.reports.reject_reasons(one.table)]
    audits: list[tuple[str | int, ...]] = []
    for one in tables:
        if (audit := last_result(ledger, one.table)).began_at:
            wrong = (audit.in_step_but_for, audit.differing, audit.missing.records, audit.hidden.records)
            audits.append((one.table, audit.began_at[:10], f"{audit.part:.0%} listed", *wrong, audit.equal))
    reasons.sort(key=lambda reason: -reason[2])
    differing, none = Rows(("table", "day", "part", *AUDITED, "equal"), audits), "No audit has run yet."
    return [
        Section("Records not in step, by state", Rows(("table", "resource", *shown), states), STATES),
        Section("Rejected records, by reason", Rows(("table", "reason", "records"), reasons), {"records": "bad"}),
        Section("Records that differ, by the last audit", differing, AUDITED, empty=none),
    ]


def speed(ledger: Ledger, now: datetime, number: int = DAYS) -> Section:
    """Return the section on the time from changes to Campaign, of the days on which some arrived, the newest first."""
    rows: list[tuple[str | int, ...]] = []
    by_day = ledger.counts.by_day("seconds", window(now, number)[0], now.date())
    for day, numbers in sorted(by_day.items(), reverse=True):
        columns = Counter[str]()
        for name, changes in numbers.items():
            if name != ALL_SECONDS:
                columns[next(column for column, most in WITHIN.items() if float(name) <= most)] += changes
        rows.append((day.isoformat(), *(columns[name] for name in WITHIN), within(numbers, 0.95)))
    colours = dict(zip(WITHIN, ("good", "fair", "pale", "warn", "bad"), strict=True))
    names = Rows(("day", *WITHIN, "95 % within"), rows)
    return Section("Time from a change to Campaign: share of each day's changes", names, colours, "shares")


def within(numbers: Mapping[str, int], share: float) -> str:
    """Return in which time this share of the changes reached Campaign, as text. numbers: by bucket of the ledger."""
    ends = sorted((float(name), changes) for name, changes in numbers.items() if name != ALL_SECONDS)
    left = share * sum(changes for _, changes in ends)
    end = next((end for end, number in ends if (left := left - number) <= 0), None)
    if end is None:
        return "–"
    if end == float("inf"):
        return "more than 24 h"
    return f"{end:.0f} s" if end < 60 else duration(timedelta(seconds=end)).removesuffix(" 0 min")


# --- Page -------------------------------------------------------------------------------------------------------------


def page(config: Config, days: Days, sections: Sequence[Section], now: datetime) -> str:
    """Return the page in Markdown: sentences about two days, a table of all days, and the sections."""
    parts = [
        f"**{now:%Y-%m-%d %H:%M} UTC.** Days are those of UTC; the last one is not over.",
        f"**Yesterday:** {_summary(config, days[now.date() - timedelta(days=1)])}",
        f"**Today so far:** {_summary(config, days[now.date()])}",
        "**Day by day**",
        _table(config, days),
    ]
    for section in sections:
        names, rows = section.rows
        cells = [[markdown(cell_text(cell)).replace("|", "\\|") for cell in row] for row in rows]
        table = _markdown(names, cells, texts=section.texts)
        parts += [f"**{section.title}**", table if rows else section.empty]
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


def cell_text(cell: str | int) -> str:
    """Return the text of a cell: a number with separators, a text of a server on one printable line."""
    return f"{cell:,}" if isinstance(cell, int) else one_line(cell)


def _markdown(names: Sequence[str], rows: Iterable[Sequence[str]], *, texts: int) -> str:
    """Return a Markdown table. The first `texts` columns are left-aligned texts, the others right-aligned numbers."""
    lines = [names, ["---" if at < texts else "---:" for at in range(len(names))], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def calls_by_day(guardrails: Guardrails, ledger: Ledger, now: datetime | None = None, number: int = DAYS) -> Rows:
    """Return Campaign engine calls of all tables in the last days, by day and kind, with the share of the budget.

    Days without calls are left out; the newest day is first.
    """
    days = window(now or datetime.now(UTC), number)
    by_day = ledger.counts.by_day("engine_calls", days[0], days[-1])
    budget = guardrails.engine_calls_per_day
    rows: list[tuple[str | int, ...]] = []
    for day, calls in sorted(by_day.items(), reverse=True):
        total = sum(calls.values())
        share = (f"{total / budget:.0%}",) if budget else ()
        rows.append((day.isoformat(), *(calls.get(kind, 0) for kind in KINDS), total, *share))
    return Rows(("day", *KINDS, "all", *(("of budget",) if budget else ())), rows)
