"""`replay`: capture a table again, as a whole or some days. The next `sync` sends the records that are pending then."""

from datetime import date
from typing import Annotated, Any

import typer

from sync_assets.cli.instance import dagster_instance
from sync_assets.cli.sync_runs import run_flow
from sync_assets.commands import terminal
from sync_assets.commands.replay import capture_again, day, replayable
from sync_assets.commands.status import COLUMNS, held_back, overview
from sync_assets.commands.terminal import Json, OneTable, Parts
from sync_assets.commands.values import Result, fields
from sync_assets.defs.asset_keys import d365_key
from sync_assets.defs.tables.run_requests import end_killed
from sync_assets.flows import RunOutcome
from sync_assets.runtime.context import Runtime
from sync_assets.runtime.workers import release_dead
from sync_assets.words import counted


def command(
    table: OneTable,
    first: Annotated[str | None, typer.Option("--from", metavar="DAY", help="Rows modified on DAY or later.")] = None,
    last: Annotated[str | None, typer.Option("--to", metavar="DAY", help="Rows modified on DAY or earlier.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Send all rows; look up records out of scope.")] = False,
    as_json: Json = False,
) -> None:
    """Capture a table again: all rows, or those last modified on the days given (UTC, both included). The next sync, or
    the run `follow`, sends the records that are pending then. May be killed and repeated.
    """
    days = day(first, "--from"), day(last, "--to")
    runtime = terminal.open_runtime()
    with terminal.on_interrupt("Nothing is lost."), terminal.progress(runtime.progress):
        done = replay(runtime, table, *days, force=force)
    terminal.finish(done, as_json, show)


def replay(
    runtime: Runtime, table: str, first: date | None = None, last: date | None = None, *, force: bool = False
) -> Result[dict[str, Any]]:
    """Capture again all rows, or those last modified on the days given (UTC, both included; None: no limit there).

    A replay that was killed continues where it stopped. force: captured records are sent again even if unchanged.
    """
    runtime.settings.require("d365", "campaign")
    config = replayable(runtime.config, runtime.ledger, table, first, last)
    with dagster_instance() as instance:
        release_dead(runtime.ledger)
        end_killed(instance, runtime.ledger, table)
        outcome = RunOutcome()

        def capture() -> None:
            outcome.add(run_flow(runtime, config, instance, [d365_key(config, runtime)]))

        capture_again(runtime.access, config, (first, last), force, capture)
    counts = overview(runtime.config, runtime.ledger, {}, {}).tables[table]
    notes = [*outcome.notes, *held_back({table: counts}), *outcome.stopped]
    summary = {"table": table, **fields(counts, *COLUMNS)}
    return Result({} if outcome.problems else summary, outcome.problems, notes)


def show(document: dict[str, Any]) -> Parts:
    table, pending = document["table"], document["pending"]
    next_step = "`sync-assets sync` or the sensors send them." if pending else "There is nothing to send."
    yield f"{table} was captured again: {counted(pending, 'record', 'are')} pending. {next_step}"
