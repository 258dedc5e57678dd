"""`loads`: show first loads by file, give one up, or write a sample file for Campaign's activity Load file."""

import asyncio
from contextlib import suppress
from datetime import datetime
from typing import Annotated

import msgspec
import typer

from sync_assets.audit.record_list import RecordList
from sync_assets.bulk_load.file_rows import SAMPLES, FileColumns, lines_of
from sync_assets.bulk_load.files import connected, remove_files
from sync_assets.bulk_load.load_run import CARRIED_ON, LoadRun, settings_of
from sync_assets.bulk_load.update_run import UpdateRun
from sync_assets.campaign.client import CampaignClient
from sync_assets.campaign.workflows import IMPORT, NoWorkflow, stop, workflow_status
from sync_assets.commands.plan_document import LoadStatus, load_status
from sync_assets.commands.terminal import Json, OneTable, Parts, fail, open_runtime, print_document, progress
from sync_assets.commands.values import check_tables
from sync_assets.config.bulk_load import MEGABYTE, BulkLoad
from sync_assets.config.environment import SftpSettings
from sync_assets.config.models import Config
from sync_assets.errors import SyncAssetsError
from sync_assets.ledger import Ledger
from sync_assets.ledger.model import LinkTo, Load, LoadEnd, LoadRow, LoadState
from sync_assets.ledger.records.loads import LoadMoved
from sync_assets.push.target import Target
from sync_assets.runtime import interruptible
from sync_assets.runtime.clients import Clients
from sync_assets.runtime.context import Runtime
from sync_assets.words import counted

STOP_SECONDS = 60.0
"""How long `abandon` waits until the workflow has stopped."""

app = typer.Typer(name="loads", help="Show first loads by file.", add_completion=False)


class LoadedFile(msgspec.Struct, frozen=True):
    """A file of a load. bytes: as uploaded."""

    name: str
    rows: int
    bytes: int


class LoadDocument(LoadStatus, frozen=True, kw_only=True):
    """A load by file.

    Attributes:
        records: Records in its files.
        missing: Records that Campaign did not hold as written; of an update, those that still differ; null before.
        files: Those of an unfinished load.
    """

    table: str
    records: int
    began: datetime
    started: datetime | None
    ended: datetime | None
    ended_as: LoadEnd | None
    missing: int | None
    files: list[LoadedFile]


class LoadsDocument(msgspec.Struct, frozen=True):
    """The document of `loads --json`.

    Attributes:
        given_up: the table of `loads abandon`
        outcome: what becomes of its records, as a sentence
    """

    loads: list[LoadDocument]
    given_up: str | None = None
    outcome: str | None = None


@app.callback(invoke_without_command=True)
def list_command(context: typer.Context, as_json: Json = False) -> None:
    """List each load by file with its files and state."""
    if context.invoked_subcommand is None:
        print_document(listed(open_runtime().ledger), as_json, show)


@app.command("abandon")
def abandon_command(table: OneTable, as_json: Json = False) -> None:
    """Stop the table's import workflow, delete its files, list Campaign's records, and let the others go by REST."""
    runtime = open_runtime()
    with progress(runtime.progress):
        document = interruptible.run(abandon(runtime, table))
    print_document(document, as_json, show)


@app.command("sample")
def sample_command(
    table: OneTable,
    output: Annotated[str, typer.Option("--output", help="The file to write.", show_default="TABLE.tsv")] = "",
) -> None:
    """Write a file of two lines for the activity Load file, which reads the columns from it."""
    name = output or f"{table}.tsv"
    runtime = open_runtime()
    text = interruptible.run(sample(runtime.clients, runtime.config, table))
    try:
        with open(name, "xb") as file:
            file.write(text)
    except OSError as error:
        fail(f"{name} cannot be written: {error.strerror}.")
    typer.echo(f"{name} is written: its first line names the columns, its second line has a value for each.")


def listed(ledger: Ledger, given_up: str | None = None, outcome: str | None = None) -> LoadsDocument:
    """Return all loads, the oldest first."""
    return LoadsDocument([_document(ledger, load) for load in ledger.loads.all()], given_up, outcome)


async def abandon(runtime: Runtime, table: str) -> LoadsDocument:
    """Give a load up: its workflow will not run any more. Raises SyncAssetsError if that cannot be made sure."""
    loads = runtime.ledger.loads
    load = await asyncio.to_thread(loads.unfinished, table)
    settings = settings_of(runtime.config, load)
    if load is None:
        check_tables(runtime.config, [table])
        removed = await asyncio.to_thread(_remove_unknown, runtime.settings.sftp(), settings, table)
        text = f"{counted(removed, 'file', 'were')} removed of loads that this ledger does not have."
        return listed(runtime.ledger, table, text)
    async with runtime.campaign() as campaign:
        if load.commanded_at:
            with suppress(NoWorkflow):  # it was deleted
                await _stopped(campaign, load)
        try:
            load = await asyncio.to_thread(loads.end, load, "abandoned")
        except LoadMoved:
            raise SyncAssetsError(
                f"{table}: another process carried its load on meanwhile, so it was not given up.",
                "`sync-assets loads` shows how far it is. If it is not done, end the other process, and repeat.",
            ) from None
        with connected(runtime.settings.sftp()) as sftp:  # no other process writes one any more
            remove_files(sftp, settings, table, load.name)
        if table not in [config.table for config in runtime.config.tables]:  # nothing of it can be listed
            await asyncio.to_thread(loads.finish, load)
            return listed(runtime.ledger, table, "The table is not configured any more, so nothing of it is sent.")
        config = runtime.config.table(table)
        resource = await campaign.resource(config.api, config.resource)
        target = Target.of(runtime.config, config, resource)
        way = UpdateRun if load.kind == "update" else LoadRun
        done = await way(runtime, target, resource, RecordList(runtime.ledger, campaign, config)).run(None)
        if done.stopped or done.holds_back:
            raise SyncAssetsError(
                done.stopped or f"{table}: {CARRIED_ON}",
                "The load is given up; the next sync lists Campaign's records.",
            )
        ended = await asyncio.to_thread(loads.last, table, load.kind)
    return listed(runtime.ledger, table, outcome(ended or load))


def outcome(load: Load) -> str:
    """Return what becomes of the records of a load that was given up and is done. Pure."""
    missing = counted(load.missing or 0, "record")
    if load.kind == "insert" and load.commanded_at is None:
        return "Its import workflow was never started: the next sync sends its records."
    if not load.missing:
        return "Campaign holds all that its files brought."
    if load.kind == "update":
        return f"Another day's file brings what Campaign does not hold yet of {missing}."
    return (
        f"Campaign does not hold {missing} of its files. They go by REST when its import workflow cannot write them "
        "any more: `sync-assets status` names the time."
    )


async def _stopped(client: CampaignClient, load: Load) -> None:
    """Stop a workflow, and wait until it is not at work. Raises SyncAssetsError if it goes on."""
    give_up_at = asyncio.get_running_loop().time() + STOP_SECONDS
    await stop(client, load.workflow, IMPORT)
    while (status := await workflow_status(client, load.workflow, IMPORT)) in ("started", "warning"):
        if asyncio.get_running_loop().time() > give_up_at:
            raise SyncAssetsError(
                f"Workflow {load.workflow} was commanded to stop, and is still {status}.",
                "Stop it in Campaign (its emergency stop, if it must be), and repeat.",
            )
        await asyncio.sleep(0.2)


def _remove_unknown(server: SftpSettings, settings: BulkLoad, table: str) -> int:
    """Remove the files of loads that the ledger does not have; return their number, and raise if there are none."""
    with connected(server) as sftp:
        removed = remove_files(sftp, settings, table)
    if not removed:
        raise SyncAssetsError(f"{table} has no unfinished load by file.", "`sync-assets loads` lists them.")
    return len(removed)


async def sample(clients: Clients, mapped: Config, table: str) -> bytes:
    """Return a file with the header of a table and a synthetic line."""
    check_tables(mapped, [table])
    config = mapped.table(table)
    async with clients.campaign() as campaign:
        resource = await campaign.resource(config.api, config.resource)
    columns = FileColumns.of(config, resource, Target.of(mapped, config, resource).opt_outs)
    key = "00000000-0000-0000-0000-000000000001"
    others = {"enumeration": ""}
    values = {name: (SAMPLES | others).get(kind, "text") for name, kind in columns.types.items()}
    links = tuple(LinkTo(name, key, keyed=True) for name in columns.links)
    lines, _ = lines_of([LoadRow(1, key, msgspec.json.encode(values).decode(), links, ())], columns)
    return columns.header + lines


def _document(ledger: Ledger, load: Load) -> LoadDocument:
    files = ledger.loads.files(load.table) if load.state != LoadState.DONE else []
    return LoadDocument(
        *load_status(load),
        table=load.table,
        records=load.records,
        began=load.began_at,
        started=load.commanded_at,
        ended=load.ended_at,
        ended_as=load.ended_as,
        missing=load.missing,
        files=[LoadedFile(file.name, file.rows, file.size) for file in files],
    )


def show(document: LoadsDocument) -> Parts:
    """Show a line for each load, and one for each file of those that are not done."""
    if document.outcome:
        yield f"{document.given_up}: {document.outcome}"
    for load in document.loads:
        left = "not imported" if load.kind == "insert" else "left for another day"
        records = counted(load.records, "record") + (f", {load.missing:,} {left}" if load.missing else "")
        yield f"{load.table} {load.load}: {load.kind}, {load.state}, {records}, workflow {load.workflow}"
        if load.problem:
            yield f"  {load.problem}"
        for file in load.files:
            yield f"  {file.name}: {counted(file.rows, 'row')}, {file.bytes / MEGABYTE:,.1f} MB"
    if not document.loads:
        yield "No table was loaded by file."
