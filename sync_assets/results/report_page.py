"""Write the page of `sync-assets report --html`: the sections of the daily report for 30 days, each with a plot.

Altair, which is Polars' `DataFrame.plot`, draws the plots, and vl-convert turns them into SVG. The page is one file
without scripts, and its policy forbids a browser to fetch anything. Colours are variables of report_page.html, so that
plots follow light and dark.

Invariant: each text is escaped, and there is no id and no value of a record.
"""

import re
from collections.abc import Mapping
from datetime import datetime
from html import escape
from pathlib import Path
from string import Template
from typing import Any

import altair as alt
import polars as pl
import vl_convert

from sync_assets.audit import daily_report
from sync_assets.audit.daily_report import Days, Section, cell_text, within
from sync_assets.checks.rules import Rows
from sync_assets.config.models import Config
from sync_assets.ledger import Ledger
from sync_assets.ledger.report_values import Counts

DAYS = 30
_TEMPLATE = Template(Path(__file__).with_suffix(".html").read_text("utf-8"))
_WIDTH, _HEIGHT = 860, 190
"""Pixels of a plot: its width, and its height if it has a bar for each day."""
_TEXTS = {"labelColor": "currentColor", "labelFontSize": 14}
_LINES = dict.fromkeys(("gridColor", "domainColor", "tickColor"), "var(--line)")
_CONFIG: dict[str, Any] = {
    "font": "system-ui, sans-serif",
    "background": "transparent",
    "view": {"stroke": None},
    "axis": _TEXTS | _LINES,
    "axisBand": {"grid": False},
    "legend": _TEXTS | {"orient": "top", "title": None},
}
_DAY = "utcFormat(toDate(datum.value), '%-d %b')"
_MARK = re.compile(r'(<path aria-label="([^"]*)" role="graphics-symbol" aria-roledescription="bar"[^>]*)/>')


def report_page(config: Config, ledger: Ledger, now: datetime) -> str:
    """Return the page as HTML. now: in UTC."""
    days, counts = daily_report.collect(ledger, now, {}, DAYS), ledger.reports.counts()
    calls = daily_report.calls_by_day(config.guardrails, ledger, now, DAYS)
    changes = {"captured": ("captured", "pale"), "sent to Campaign": ("pushed", "plain")}
    opt_outs = {"to Dynamics 365": ("opt_outs_to_d365", "plain"), "to Campaign": ("opt_outs_to_campaign", "pale")}
    kinds: dict[str, str] = dict(zip(daily_report.KINDS, ("plain", "pale", "warn", "grey"), strict=True))
    sections = [
        _by_day("Records changed, by day", days, changes, "beside"),
        daily_report.speed(ledger, now, DAYS),
        Section("Engine calls of Campaign, by day", calls, kinds),
        *([_by_day("Opt-outs written, by day", days, opt_outs)] if config.opt_out.active else []),
        *daily_report.sections_now(config, ledger, counts),
    ]
    seconds = ledger.counts.numbers("seconds", min(days), max(days))
    return _TEMPLATE.substitute(
        period=f"{min(days):%-d %B %Y} to {now:%-d %B %Y, %H:%M}",
        tiles=_tiles(config, days, list(counts.values()), [within(seconds, part) for part in (0.95, 0.5)]),
        sections="\n".join(_section(section, [str(day) for day in days]) for section in sections),
    )


def _by_day(title: str, days: Days, columns: Mapping[str, tuple[str, str]], bars: Any = "stacked") -> Section:
    """Return a section of some numbers of the days that have any. columns: name -> the number and its colour."""
    rows = [(str(day), *(int(numbers[of]) for of, _ in columns.values())) for day, numbers in reversed(days.items())]
    names = Rows(("day", *columns), [row for row in rows if any(row[1:])])
    return Section(title, names, {name: colour for name, (_, colour) in columns.items()}, bars)


def _tiles(config: Config, days: Days, counts: list[Counts], speeds: list[str]) -> str:
    """Return the numbers at the top. speeds: in which time 95 % and half of the changes reached Campaign."""
    names = ("captured", "pushed", "engine_calls", "opt_outs_to_d365", "opt_outs_to_campaign")
    captured, pushed, calls, to_d365, to_campaign = (int(sum(one[name] for one in days.values())) for name in names)
    in_scope, synced = sum(one.records - one.excluded for one in counts), sum(one.synced for one in counts)
    budget, most = config.guardrails.engine_calls_per_day, max(one["engine_calls"] for one in days.values())
    of_scope = f"of {in_scope:,} records in scope"
    tiles = [
        # Rounded down: only all of them are 100 %.
        ("Records in step", f"{synced * 1000 // in_scope / 10:g} %" if in_scope else "–", f"{synced:,} {of_scope}"),
        ("Changes sent", f"{pushed:,}", f"of {captured:,} captured"),
        ("95 % in Campaign within", speeds[0], f"half of them within {speeds[1]}" if calls else ""),
        ("Rejected now", f"{sum(one.rejected for one in counts):,}", of_scope),
        ("Engine calls", f"{calls:,}", f"at most {most / budget:.0%} of a day's budget" if budget else ""),
    ]
    if config.opt_out.active:
        directions = f"{to_d365:,} to Dynamics 365, {to_campaign:,} to Campaign"
        tiles.append(("Opt-outs written", f"{to_d365 + to_campaign:,}", directions))
    return "\n".join(f"<div><dt>{name}</dt><dd><b>{value}</b>{more}</dd></div>" for name, value, more in tiles)


def _section(section: Section, days: list[str]) -> str:
    """Return a section: its plot, and the table of its values. days: all of the page's, the oldest first."""
    title, numeric = escape(section.title), [at >= section.texts for at in range(len(section.rows.names))]

    def line(tag: str, cells: Any) -> str:
        parts = (
            f"<{tag}{' class=n' * number}>{escape(cell_text(cell))}"
            for cell, number in zip(cells, numeric, strict=True)
        )
        return f"<tr>{''.join(parts)}"

    table = "\n".join([line("th scope=col", section.rows.names), *(line("td", row) for row in section.rows.rows)])
    label = f'<svg role="img" aria-label="{title}. The table below has the values." '
    plot = _plot(section, days).replace("<svg ", label, 1)
    values = f"<details><summary>Values</summary><div><table>{table}</table></div></details>"
    shown = f"<figure>{plot}</figure>" if plot else f"<p>{'None.' if section.rows.rows else section.empty}</p>"
    return f"<section><h2>{title}</h2>{shown}{values if section.rows.rows else ''}</section>"


def _plot(section: Section, days: list[str]) -> str:
    """Return the plot as SVG: a bar for each day, or a horizontal bar for each other row; empty if all would be 0."""
    plotted, by_day = section.plotted, section.rows.names[0] == "day"
    parts = [
        {"row": row, "kind": kind, "order": order, "number": int(number), "text": f"{row}, {kind}: {number:,}"}
        for line in section.rows.rows
        for row in [", ".join(map(cell_text, line[: section.texts]))]
        for order, (kind, number) in enumerate(zip(plotted, line[section.texts :], strict=False))
    ]
    if not any(part["number"] for part in parts):
        return ""
    shares, beside = section.bars == "shares", section.bars == "beside"
    number: dict[str, Any] = {
        "title": None,
        "stack": None if beside else "normalize" if shares else "zero",
        "axis": alt.Axis(format="%" if shares else ",d", tickMinStep=0.25 if shares else 1, tickCount=4),
    }
    x, y = alt.X("number:Q", **number), alt.Y("row:N", title=None, sort=None, axis=alt.Axis(labelLimit=_WIDTH // 2))
    if by_day:
        axis = alt.Axis(labelExpr=_DAY, labelAngle=0, labelOverlap=True)
        x, y = alt.X("row:O", title=None, scale=alt.Scale(domain=days), axis=axis), alt.Y("number:Q", **number)
    colours = alt.Scale(domain=[*plotted], range=[f"var(--{colour})" for colour in plotted.values()])
    color = alt.Color("kind:N", scale=colours, legend=alt.Legend() if len(plotted) > 1 else None)
    offset: dict[str, Any] = {"xOffset": alt.XOffset("kind:N", sort=[*plotted])} if beside else {}
    chart = pl.DataFrame(parts).plot.bar(x=x, y=y, color=color, description="text:N", order="order:Q", **offset)
    chart = chart.properties(width=_WIDTH, height=_HEIGHT if by_day else alt.Step(26)).configure(**_CONFIG)
    chart = chart.properties(autosize=alt.AutoSizeParams(type="fit-x", contains="padding"))
    return _MARK.sub(r"\1><title>\2</title></path>", vl_convert.vegalite_to_svg(chart.to_json()))
