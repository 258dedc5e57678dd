"""Reports as tables for people."""

from typing import Any

from rich.console import Console
from rich.table import Table

from sync_assets_tests.bench.stage import Report


def show(reports: list[Report], machine: dict[str, Any]) -> None:
    console = Console(width=160) if not Console().is_terminal else Console()
    console.print(", ".join(f"{name.replace('_', ' ')}: {value}" for name, value in machine.items()))
    for report in reports:
        console.print(_results(report))
        for note in report.notes:
            console.print(f"[yellow]{note}[/]")
    targets = _table("targets", "", "value", "wanted", "met")
    for target in (target for report in reports for target in report.targets):
        wanted = f"{'≤' if target.most else '≥'} {target.wanted:g} {target.unit}"
        met = "[green]met[/]" if target.met else "[red]not met[/]"
        targets.add_row(target.name, f"{_number(target.value)} {target.unit}", wanted, met)
    if targets.rows:
        console.print(targets)


def _results(report: Report) -> Table:
    cpu = f"CPU µs/{report.unit[:-1]}"
    table = _table(report.bench, "", f"{report.unit}/s", "min-max", cpu, "database's", "peak MB", "also")
    for result in report.results:
        table.add_row(
            result.name,
            _number(result.rate),
            f"{_number(min(result.rates))}-{_number(max(result.rates))}",
            f"{result.cpu_micros:,.1f}" if result.cpu_micros else "",
            f"{result.database_micros:,.1f}" if result.database_micros else "",
            f"{result.peak_mb:,.0f}" if result.peak_mb else "",
            ", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in result.details.items()),
        )
    return table


def _table(title: str, *names: str) -> Table:
    table = Table(title=title, title_justify="left")
    for name in names:
        table.add_column(name, justify="left" if name in ("", "also") else "right")
    return table


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
