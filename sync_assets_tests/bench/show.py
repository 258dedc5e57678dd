"""Reports as tables for people."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from sync_assets_tests.bench.stage import Report


def show(reports: list[Report], machine: dict[str, Any]) -> None:
    console = Console(width=160) if not Console().is_terminal else Console()
    console.print(", ".join(f"{name.replace('_', ' ')}: {value}" for name, value in machine.items()))
    for report in reports:
        if report.results and not report.tables:
            console.print(_results(report))
        for title, rows in report.tables.items():
            console.print(_rows(f"{report.bench}: {title}", rows))
        for note in report.notes:
            console.print(f"[yellow]{note}[/]")
    if any(report.targets for report in reports):
        console.print(_targets(reports))


def _results(report: Report) -> Table:
    table = Table(title=report.bench, title_justify="left")
    for name in (
        "",
        f"{report.unit}/s",
        "min-max",
        "of the limit",
        f"CPU µs/{report.unit[:-1]}",
        "database's",
        "peak MB",
        "also",
    ):
        table.add_column(name, justify="left" if name in ("", "also") else "right")
    for result in report.results:
        said = result.document()
        share = f"{said['share_of_limit']:.1%}" if "share_of_limit" in said else ""
        also = ", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in result.told.items())
        table.add_row(
            result.name,
            _number(result.rate),
            f"{_number(min(result.rates))}-{_number(max(result.rates))}",
            share,
            f"{result.cpu_micros:,.1f}" if result.cpu_micros else "",
            f"{result.database_micros:,.1f}" if result.database_micros else "",
            f"{result.peak_mb:,.0f}" if result.peak_mb else "",
            also,
        )
    return table


def _rows(title: str, rows: list[dict[str, Any]]) -> Table:
    """A table with a column for each name that a row has."""
    table = Table(title=title, title_justify="left")
    names = list(dict.fromkeys(name for row in rows for name in row))
    for name in names:
        table.add_column(name.replace("_", " "), justify="left" if isinstance(rows[0].get(name), str) else "right")
    for row in rows:
        table.add_row(*(_cell(row.get(name)) for name in names))
    return table


def _cell(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: ""}[value]
    return value if isinstance(value, str) else f"{value:,.10g}"


def _targets(reports: list[Report]) -> Table:
    table = Table(title="targets", title_justify="left")
    for name in ("", "value", "wanted", "met"):
        table.add_column(name, justify="left" if not name else "right")
    for target in (target for report in reports for target in report.targets):
        wanted = f"{'≤' if target.most else '≥'} {target.wanted:g} {target.unit}"
        table.add_row(target.name, f"{_number(target.value)} {target.unit}", wanted,
                      "[green]met[/]" if target.met else "[red]not met[/]")  # fmt: skip
    return table


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
