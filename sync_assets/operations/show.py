"""Documents as tables for people, on standard output."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

COLUMNS = ("pending", "waiting", "failed", "held", "synced")


def _table(*columns: str, numbers: tuple[str, ...] = ()) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        table.add_column(
            column, justify="right" if column in numbers else "left", overflow="fold", no_wrap=column in ("id", "since")
        )
    return table


def show_status(document: dict[str, Any]) -> None:
    """Tables with their counts, then engine calls and opt-outs."""
    table = _table("table", "resource", *COLUMNS, "feed", numbers=COLUMNS)
    for name, counts in document["tables"].items():
        feed = counts["feed"]
        position = feed["position_saved_at"] or "never captured"
        state = position if feed["complete"] or not feed["position_saved_at"] else f"{position} (first read goes on)"
        table.add_row(name, counts["resource"], *(f"{counts[column]:,}" for column in COLUMNS), state)
    console = Console()
    console.print(table)
    for name, counts in document["tables"].items():
        for what, number in counts.get("waiting_for", {}).items():
            console.print(f"{name}: {number:,} wait for {what}", highlight=False)
    calls = ", ".join(f"{count:,} {kind}" for kind, count in document["engine_calls"].items())
    console.print(f"engine calls: {calls}")


def show_rejects(document: dict[str, Any]) -> None:
    if not document["rejects"]:
        Console().print("No record is refused.")
        return
    table = _table("table", "id", "since", "attempts", "reason", numbers=("attempts",))
    for reject in document["rejects"]:
        table.add_row(reject["table"], reject["id"], reject["since"], str(reject["attempts"]), reject["reason"])
    Console().print(table)


def show_diagnosis(document: dict[str, Any]) -> None:
    styles = {"ok": "green", "warn": "yellow", "fail": "bold red"}
    console = Console(soft_wrap=True)
    for line in document["checks"]:
        console.print(f"[{styles[line['outcome']]}]{line['outcome']:<4}[/] ", end="")
        console.print(f"{line['what']}: {line['message']}", markup=False, highlight=False)
