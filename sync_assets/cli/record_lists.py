"""Print lists of records, rejected, tried again, orphaned or waiting: as text, as JSON or as CSV. Ids, no values."""

from __future__ import annotations

import csv
import sys
from typing import Any, Literal

from rich.text import Text

from sync_assets.cli.tables import plain_console, plain_table, print_table
from sync_assets.foreign_text import cleaned, json_text
from sync_assets.operations import status
from sync_assets.runtime.context import Runtime

Kind = Literal["rejects", "retried", "orphaned", "waiting"]
COLUMNS: dict[Kind, tuple[str, ...]] = {
    "rejects": ("table", "id", "reason", "since", "attempts", "retryable"),
    "retried": ("table", "id", "reason", "since", "attempts", "next_attempt"),
    "orphaned": ("table", "id", "reason", "since"),
    "waiting": ("table", "id", "reason", "since", "parents"),
}
"""Columns of CSV, and the keys of each record in JSON."""


def print_records(runtime: Runtime, kind: Kind, table: str | None, form: Literal["text", "json", "csv"]) -> None:
    """Print the records of a table, or of all."""
    listed, show = {
        "rejects": (status.rejects, show_rejects),
        "retried": (status.retried_records, show_retried),
        "orphaned": (status.orphans, show_orphans),
        "waiting": (status.waiting, show_waiting),
    }[kind]
    found = listed(runtime, table)
    if form == "json":
        print(json_text({kind: found}))  # noqa: T201
    elif form == "csv":
        _print_csv(kind, found)
    else:
        show({kind: cleaned(found)})


def _print_csv(kind: Kind, records: list[dict[str, Any]]) -> None:
    writer = csv.DictWriter(sys.stdout, COLUMNS[kind], lineterminator="\n")
    writer.writeheader()
    for record in records:
        writer.writerow({**cleaned(record), **({"parents": _parents(record)} if "parents" in record else {})})


def _parents(record: dict[str, Any]) -> str:
    return "; ".join(f"{to['table']} {to['id']} {to['state']}" for to in record["parents"])


def show_waiting(document: dict[str, Any]) -> None:
    """Print waiting records below the reason that they share, each with the parents that it waits for."""
    console = plain_console()
    if not document["waiting"]:
        console.print("No record waits.")
        return
    for (name, reason), same in _by_reason(document["waiting"]).items():
        console.print(Text.assemble((f"{name}: ", "bold"), f"waiting for {reason}"), highlight=False)
        for record in same:
            parents = f": {_parents(record)}" if record["parents"] else ""
            line = f"  {record['id']} since {record['since']}{parents}"
            console.print(line, highlight=False, soft_wrap=True)


def show_rejects(document: dict[str, Any]) -> None:
    if not document["rejects"]:
        plain_console().print("No record is rejected.")
        return
    console = plain_console()
    for (name, reason), same in _by_reason(document["rejects"]).items():
        console.print(Text.assemble((f"{name}: ", "bold"), reason), highlight=False)
        table = plain_table("  id", "since", "attempts", numbers=("attempts",), whole=("  id", "since"))
        for reject in same:
            table.add_row(f"  {reject['id']}", reject["since"], str(reject["attempts"]))
        print_table(table)


def show_retried(document: dict[str, Any]) -> None:
    """Print pending records whose requests failed below the reason that they share."""
    console = plain_console()
    if not document["retried"]:
        console.print("No record is tried again.")
        return
    for (name, reason), same in _by_reason(document["retried"]).items():
        console.print(Text.assemble((f"{name}: ", "bold"), reason), highlight=False)
        times = ("  id", "since", "next attempt")
        table = plain_table("  id", "since", "attempts", "next attempt", numbers=("attempts",), whole=times)
        for one in same:
            table.add_row(f"  {one['id']}", one["since"] or "-", str(one["attempts"]), one["next_attempt"] or "now")
        console.print(table)


def show_orphans(document: dict[str, Any]) -> None:
    if not document["orphaned"]:
        plain_console().print("No record is orphaned.")
        return
    console = plain_console()
    for (name, reason), same in _by_reason(document["orphaned"]).items():
        console.print(Text.assemble((f"{name}: ", "bold"), reason), highlight=False)
        table = plain_table("  id", "since", whole=("  id", "since"))
        for orphan in same:
            table.add_row(f"  {orphan['id']}", orphan["since"])
        print_table(table)


def _by_reason(rejects: list[dict[str, Any]]) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """Group rejected records by table and reason, in their order: thousands may share one long reason."""
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for reject in rejects:
        found.setdefault((reject["table"], reject["reason"]), []).append(reject)
    return found
