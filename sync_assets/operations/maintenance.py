"""`maintenance`: tables that are neither captured nor sent for a while; as plain documents and as text for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console

from sync_assets.ledger.times import iso
from sync_assets.operations.status import unknown_tables
from sync_assets.plurals import counted
from sync_assets.runtime.context import Runtime


def on(runtime: Runtime, tables: Sequence[str]) -> dict[str, Any]:
    """Begin maintenance of the tables: workers stop within a batch or a page.

    Raises SyncAssetsError for unknown tables.
    """
    _known(runtime, tables)
    begun = [table for table in dict.fromkeys(tables) if runtime.ledger.maintenance.begin(table)]
    return {"begun": begun, **listed(runtime)}


def off(runtime: Runtime, tables: Sequence[str]) -> dict[str, Any]:
    """End maintenance of the tables, and accept the data model as it is.

    A table that is no longer mapped may be named.
    """
    paused = runtime.ledger.maintenance.in_maintenance()
    _known(runtime, [table for table in tables if table not in paused])
    ended = [table for table in dict.fromkeys(tables) if runtime.ledger.maintenance.end(table)]
    return {"ended": ended, **listed(runtime)}


def listed(runtime: Runtime) -> dict[str, Any]:
    """Return all tables in maintenance, with the time of its beginning and their pending records."""
    counts = runtime.ledger.reports.counts()
    return {
        "maintenance": [
            {"table": table, "since": iso(since), "pending": found.pending if (found := counts.get(table)) else 0}
            for table, since in runtime.ledger.maintenance.in_maintenance().items()
        ]
    }


def show(document: dict[str, Any]) -> None:
    console = Console(markup=False, soft_wrap=True)
    for table in document.get("begun", ()):
        console.print(f"{table}: nothing is captured or sent from now on; what is under way ends with its batch.")
    for table in document.get("ended", ()):
        console.print(f"{table}: goes on with the next sync or tick of the sensors, with the data model as it is.")
    for one in document["maintenance"]:
        console.print(
            f"{one['table']} is in maintenance since {one['since']}, "
            f"{counted(one['pending'], 'record', 'are')} pending."
        )
    if not document["maintenance"]:
        console.print("No table is in maintenance.")


def _known(runtime: Runtime, tables: Sequence[str]) -> None:
    if error := unknown_tables(runtime, tables):
        raise error
