"""`maintenance`: stop capture and push of tables while their data model is published."""

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from sync_assets.commands.terminal import NAMED, Json, Parts, open_runtime, print_document
from sync_assets.commands.values import check_tables
from sync_assets.config.models import Config
from sync_assets.ledger import Ledger
from sync_assets.ledger.times import iso
from sync_assets.words import counted

app = typer.Typer(
    name="maintenance",
    help="Maintenance: neither capture nor send tables while their data model is published.",
    no_args_is_help=True,
    add_completion=False,
)
Tables = Annotated[list[str], typer.Argument(metavar="TABLE...", help="Mapped tables.", show_default=False, **NAMED)]


@app.command("on")
def on_command(tables: Tables, as_json: Json = False) -> None:
    """Stop capture and push of these tables; the others go on as far as links allow."""
    runtime = open_runtime(may_create=True)
    print_document(on(runtime.config, runtime.ledger, tables), as_json, show)


@app.command("off")
def off_command(tables: Tables, as_json: Json = False) -> None:
    """Let these tables go on, with the present types of their columns and attributes."""
    runtime = open_runtime()
    print_document(off(runtime.config, runtime.ledger, tables), as_json, show)


@app.command("list")
def list_command(as_json: Json = False) -> None:
    """List the tables in maintenance, since when, and their pending records."""
    print_document(listed(open_runtime().ledger), as_json, show)


def on(mapped: Config, ledger: Ledger, tables: Sequence[str]) -> dict[str, Any]:
    """Begin maintenance of the tables: workers stop within a batch or a page."""
    check_tables(mapped, tables)
    begun = [table for table in dict.fromkeys(tables) if ledger.maintenance.begin(table)]
    return {"begun": begun, **listed(ledger)}


def off(mapped: Config, ledger: Ledger, tables: Sequence[str]) -> dict[str, Any]:
    """End maintenance of the tables, which may be mapped no longer, and accept the data model as it is."""
    paused = ledger.maintenance.in_maintenance()
    check_tables(mapped, [table for table in tables if table not in paused])
    ended = [table for table in dict.fromkeys(tables) if ledger.maintenance.end(table)]
    return {"ended": ended, **listed(ledger)}


def listed(ledger: Ledger) -> dict[str, Any]:
    """Return all tables in maintenance, with the time of its beginning and their pending records."""
    counts, paused = ledger.reports.counts(), ledger.maintenance.in_maintenance()
    tables = [{"table": table, "since": iso(at), "pending": counts[table].pending} for table, at in paused.items()]
    return {"maintenance": tables}


def show(document: dict[str, Any]) -> Parts:
    for table in document.get("begun", ()):
        yield f"{table}: nothing is captured or sent from now on; what is under way ends with its batch."
    for table in document.get("ended", ()):
        yield f"{table}: goes on with the next sync or tick of the sensors, with the data model as it is."
    for entry in document["maintenance"]:
        pending = counted(entry["pending"], "record", "are")
        yield f"{entry['table']} is in maintenance since {entry['since']}, {pending} pending."
    if not document["maintenance"]:
        yield "No table is in maintenance."
