"""Print the document of `estimate` as tables for people, on standard output."""

from __future__ import annotations

from typing import Any

from sync_assets.cli.tables import plain_console, plain_table, print_table

_LOAD = ("rows", "in scope", "inserts", "reads", "calls")
_MONTH = ("inserts", "updates", "deletes", "reads", "calls")
_SIGNS = {"exact": "", "at most": "≤ ", "at least": "≥ "}


def show_estimate(document: dict[str, Any]) -> None:
    """Print the first load and a month by table, their sums, the budgets, and the assumptions."""
    tables, console = document["tables"], plain_console()
    load, month = plain_table("first load", *_LOAD, numbers=_LOAD), plain_table("a month", *_MONTH, numbers=_MONTH)
    for name, one in tables.items():
        load.add_row(name, _count(one["rows"]), _count(one["in_scope"]), *_first_load(one["first_load"]))
        month.add_row(name, *_usual(one["month"]))
    if len(tables) > 1:
        calls, usual = document["first_load"], document["month"]
        kinds = calls["engine_calls"]
        load.add_row("in all", "", "", *_figures(kinds["insert"], kinds["read"], calls["total"]), style="bold")
        kinds = usual["engine_calls"].values()
        month.add_row("in all", *_figures(*kinds, usual["total"]), style="bold")
    print_table(load)
    console.print()
    print_table(month)
    console.print()
    for line in (*_sums(document), "", *document["notes"]):
        console.print(line, highlight=False, soft_wrap=True)


def _first_load(load: dict[str, Any]) -> list[str]:
    if load["engine_calls"] is None:
        return ["?"] * 3
    sign, calls = _SIGNS[load["bound"]], load["engine_calls"]
    return [f"{sign}{number:,}" for number in (calls["insert"], calls["read"], load["total"])]


def _usual(month: dict[str, Any]) -> list[str]:
    sign, deletes = "≥ " if month["at_least"] else "", month["deletes"]
    return [
        f"{sign}{month['inserts']:,}",
        f"{sign}{month['updates']:,}",
        "?" if deletes is None else f"{deletes:,}",
        f"{month['engine_calls']['read']:,}",
        f"{sign}{month['total']:,}",
    ]


def _sums(document: dict[str, Any]) -> list[str]:
    load, month, total = document["first_load"], document["month"], document["sum"]
    lines: list[str] = []
    if load["total"]:
        pace = load["pace"]
        took = f"{load['hours']:,.1f} hours" if load["hours"] >= 0.1 else "less than a tenth of an hour"
        at = f"{took} at {pace['calls_per_hour']:,} an hour ({pace['source']})"
        if (load["days"] or 0) > 1:
            at = f"{load['days']:,} days within the budgets"
        lines.append(f"first load: {load['total']:,} engine calls, {at}")
    other = document["other_calls"]
    both = f", {month['with_other_calls']:,} with {other:,} of other sources" if other else ""
    lines.append(f"a month: {month['total']:,} engine calls{both}; busiest day {month['busiest_day']:,}")
    lines.append(f"first load and {document['months']:,} months: {total['with_first_load']:,} engine calls")
    so_far = document["month_so_far"]
    kinds = ", ".join(f"{number:,} {kind}" for kind, number in so_far["engine_calls"].items())
    lines.append(f"this month so far: {so_far['total']:,} ({kinds})")
    return lines


def _count(count: dict[str, Any] | None) -> str:
    return "?" if count is None else f"{'≥ ' if count['at_least'] else ''}{count['number']:,}"


def _figures(*numbers: int) -> list[str]:
    return [f"{number:,}" for number in numbers]
