"""`rebuild`: after a ledger was lost, or restored from an older copy, find out what Campaign holds.

All rows of Dynamics 365 are read again, so that no record counts as acknowledged because of outdated data; then
Campaign's records are listed and compared, as before a first load (audit/existing_records.py). Nothing is written to
either system.
"""

import asyncio
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict
from typing import Annotated

import msgspec
import typer

from sync_assets.audit.existing_records import leased
from sync_assets.audit.record_comparison import Comparison
from sync_assets.audit.record_list import RecordList
from sync_assets.checks.guardrails import check_limits
from sync_assets.checks.preflight import campaign_findings, target_finding
from sync_assets.checks.rules import require
from sync_assets.commands import terminal
from sync_assets.commands.status import COLUMNS, held_back, overview
from sync_assets.commands.terminal import Json, NewLedger, Parts, number_table
from sync_assets.commands.values import Result, check_tables, fields
from sync_assets.config.models import Config, TableConfig
from sync_assets.errors import SyncAssetsError
from sync_assets.flows import capture_table
from sync_assets.ledger import Ledger
from sync_assets.ledger.model import Rebuild
from sync_assets.runtime import interruptible
from sync_assets.runtime.context import Runtime
from sync_assets.runtime.pkeys import ListedKeys

LOST_HOLDS = (
    "A rebuild finds no privacy holds: the next sync writes a contact whose hold the ledger lost. "
    "`sync-assets hold list` shows the holds that it has. Add the others first."
)


def command(
    table: Annotated[
        list[str] | None,
        typer.Argument(help="Mapped tables. Default: all.", show_default=False, autocompletion=terminal.mapped_tables),
    ] = None,
    new_ledger: NewLedger = False,
    as_json: Json = False,
) -> None:
    """Compare both systems after the ledger was lost or restored, so that the next sync sends only differences. Writes
    to neither system. May be killed and repeated; stop the sensors meanwhile.
    """
    runtime = terminal.open_runtime(may_create=True, new_ledger=new_ledger)
    with terminal.on_interrupt("Nothing is lost."), terminal.progress(runtime.progress):
        done = rebuild(runtime, table or [])
    terminal.finish(done, as_json, show)


class RebuiltTable(msgspec.Struct, frozen=True):
    """Numbers of a table: records of Campaign, as compared; then those of the ledger, by state.

    Attributes:
        unknown: They carry an id of no row in scope.
    """

    records: int
    equal: int
    differing: int
    unknown: int
    pending: int
    waiting: int
    rejected: int
    held: int
    orphaned: int
    synced: int


class RebuildDocument(msgspec.Struct, frozen=True):
    """The document of `rebuild --json`. engine_calls: of this invocation."""

    tables: dict[str, RebuiltTable]
    engine_calls: dict[str, int]


def rebuild(runtime: Runtime, only: Sequence[str] = ()) -> Result[RebuildDocument]:
    """Rebuild all mapped tables, or `only`, parents first. May be killed and repeated."""
    check_tables(runtime.config, only)
    tables = [config for config in runtime.config.in_link_order if not only or config.table in only]
    runtime.settings.require("d365", "campaign")
    runtime.access.accept_older(lambda: begin_anew(runtime.config, runtime.ledger))
    results: dict[str, Rebuild] = {}
    notes: list[str] = []
    problems: list[SyncAssetsError] = []
    with closing(ListedKeys()) as keys:  # the PKeys of all tables of this invocation
        for config in tables:
            try:
                check_limits(runtime, config, reading=True)
                result, further = interruptible.run(rebuild_table(runtime, config, keys))
            except SyncAssetsError as error:
                problems.append(error)
                break
            results[config.table] = result
            notes += further
    found = overview(runtime.config, runtime.ledger, runtime.clients.calls, {})
    compared = {
        table: msgspec.convert(asdict(counts) | fields(found.tables[table], *COLUMNS), RebuiltTable)
        for table, counts in results.items()
    }
    notes += [LOST_HOLDS, *held_back({table: found.tables[table] for table in results})]
    return Result(RebuildDocument(compared, found.engine_calls), problems, notes)


def begin_anew(overall: Config, ledger: Ledger) -> None:
    """Begin a rebuild of every table, also if one is under way. The next sync goes on with those that never end."""
    for config in overall.tables:
        ledger.rebuilds.end_rebuild(config.table)
        ledger.rebuilds.begin_rebuild(config.table)


async def rebuild_table(runtime: Runtime, config: TableConfig, keys: ListedKeys) -> tuple[Rebuild, list[str]]:
    """Rebuild one table, from where an earlier call stopped. Return the result, and notes for people."""
    ledger = await asyncio.to_thread(lambda: runtime.ledger)
    state, notes = await asyncio.to_thread(ledger.rebuilds.begin_rebuild, config.table), list[str]()
    feed = await asyncio.to_thread(ledger.feeds.feed, config.table)
    if not (feed and feed.complete):
        captured = await capture_table(runtime, config)
        if captured.result.held_back:
            notes.append(str(captured.result.held_back))
    async with runtime.campaign() as campaign:
        resource = await campaign.resource(config.api, config.resource)
        require(config.table, [*campaign_findings(config, resource), target_finding(ledger, config)])
        listing = RecordList(ledger, campaign, config)
        async with leased(runtime.worker, config.table) as session:
            if session is None:
                raise SyncAssetsError(
                    f"Another process lists the records of {config.resource}.", "Wait until it has ended, and repeat."
                )
            comparison = Comparison(runtime.config, runtime.progress, ledger, listing, resource, keys, session)
            result = await comparison.run(state)
        assert result is not None  # no time limit was passed
        return result.counts, notes + comparison.warnings


def show(document: RebuildDocument) -> Parts:
    """Show the counts of Campaign's records, then those of the ledger's."""
    tables = document.tables
    rows = {name: msgspec.structs.astuple(table) for name, table in tables.items()}
    yield number_table("table", RebuiltTable.__struct_fields__, rows)
    if any(table.unknown for table in tables.values()):
        yield "unknown: records of Campaign that carry an id, of no row in scope. They are left alone."
    if any(table.pending for table in tables.values()):
        yield "`sync-assets plan` shows what the next sync sends."
