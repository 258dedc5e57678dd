"""`status`: records by state, change feeds, engine calls, opt-outs, from the ledger. `sync` prints the same document.

Here also: the sentences on what a person must know of a table, which `plan` and `sync` print as well.
"""

import time
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
import typer
from msgspec.structs import asdict
from rich.console import Console

from sync_assets.audit.record_audit import Rotation, rotations
from sync_assets.checks.health import values_kept
from sync_assets.checks.refused_attributes import in_step_but_for, refused_attributes, refused_updates
from sync_assets.commands.plan_document import LoadStatus, TableState, load_status
from sync_assets.commands.terminal import Json, Parts, kinds, open_runtime, plain_table, print_document
from sync_assets.commands.values import fields
from sync_assets.config.models import Config, TableConfig
from sync_assets.config.opt_out import Direction
from sync_assets.ledger import Ledger
from sync_assets.ledger.errors import with_them
from sync_assets.ledger.feed import NO_ORPHANS, Feed, OrphansOfDeletes
from sync_assets.ledger.report_values import WAITING_FOR, Counts, PlannedLeft, Retried
from sync_assets.ledger.repositories.opt_out_files import FileState
from sync_assets.ledger.times import clock, iso
from sync_assets.runtime.context import Runtime
from sync_assets.runtime.systems import OtherSystems
from sync_assets.runtime.workers import REMEDY, killed_runs
from sync_assets.words import counted

COLUMNS = ("pending", "waiting", "rejected", "held", "orphaned", "synced")
"""States of records, in the order of display."""
CALL_KINDS = ("insert", "update", "delete", "read")


WATCH_SECONDS = 2.0


def command(
    watch: Annotated[bool, typer.Option("--watch", help="Repeat every two seconds until Ctrl-C.")] = False,
    as_json: Json = False,
) -> None:
    """Show each table's records by state, the cursor of its change feed, and today's engine calls."""
    if watch and as_json:
        raise typer.BadParameter("--json prints one document: leave out --watch.")
    runtime = open_runtime(any_ledger=True)
    if not watch:
        print_document(status(runtime), as_json, show)
        return
    console = Console()
    try:
        while True:
            if console.is_terminal:
                console.clear()
            print_document(status(runtime), as_json, show)
            console.file.flush()
            time.sleep(WATCH_SECONDS)
    except KeyboardInterrupt:
        return


class FeedStatus(msgspec.Struct, frozen=True):
    """The change feed of a table. complete: its first read has ended."""

    position_saved_at: datetime | None
    polled_at: datetime | None
    complete: bool


class TableStatus(TableState, frozen=True, kw_only=True):
    """A table: the number of its records by state, and what a person must know of them.

    Attributes:
        unconfirmed: Synced records that are sent once more by `unconfirmed_until`.
        retried: Pending records whose requests failed.
        waiting_for: Waiting records by reason.
        kept_values: Emptied values that the guard keeps in Campaign, by attribute.
        deletes_following: Children that the held back deletions would delete, by table.
        deletes_orphaning: Children that they would orphan, by table.
        refused_in_updates: Attributes that updates leave out.
        updated_by_file: Those of them that `bulk_load.updates` brings.
        in_step_but_for: Synced records that differ in these, and those of which that is not known.
        comparison_due: Campaign's records are still to be compared; `synced` is what was acknowledged before.
        problem: Of `sync` alone: why the table could not go on.
    """

    synced: int
    excluded: int
    unconfirmed: int
    unconfirmed_until: datetime | None
    retried: Retried | None
    refused_in_updates: list[str]
    updated_by_file: list[str]
    comparison_due: bool
    maintenance_since: datetime | None
    feed: FeedStatus
    problem: str | msgspec.UnsetType | None = msgspec.UNSET


class OptOutStatus(msgspec.Struct, frozen=True):
    """Opt-outs: what was done, from `files_processed` to `rejected_rows`, and what is left.

    Attributes:
        last_file_at: When the newest processed file was written.
        due: Still to be decided or written.
        rejected: By the side that was to be written.
        held: Under a privacy hold.
        unconfirmed: Synced, and compared once more by `unconfirmed_until`.
    """

    direction: Direction
    files_processed: int
    to_d365: int
    to_campaign: int
    rejected_rows: int
    last_file_at: datetime | None
    due: int
    rejected: int
    held: int
    unconfirmed: int
    unconfirmed_until: datetime | None
    files_waiting: int
    files_rejected: int


class Overview(msgspec.Struct, frozen=True):
    """What `sync` and `status` print in common: tables by name, engine calls by kind, opt-outs."""

    tables: dict[str, TableStatus]
    engine_calls: dict[str, int]
    opt_out: OptOutStatus


class KilledRunStatus(msgspec.Struct, frozen=True):
    """A run whose process was killed, which a sensor or `sync` will mark failed."""

    run_id: str
    last_sign_of_life: datetime
    message: str


class Status(Overview, frozen=True):
    """The document of `status --json`. engine_calls: of the current UTC day. audits: the daily ones, by table."""

    killed_runs: list[KilledRunStatus]
    audits: dict[str, Rotation]


class SyncDocument(Overview, frozen=True):
    """The document of `sync --json`. engine_calls: of this invocation.

    Attributes:
        unchanged: Rows read that changed no record.
        plan: With `--plan`, what is left of it.
    """

    seconds: float
    unchanged: int
    problems: list[str]
    plan: PlannedLeft | msgspec.UnsetType = msgspec.UNSET


def status(runtime: Runtime) -> Status:
    """Return the records by state, feeds, today's engine calls and opt-outs.

    With the use `any_ledger` it works with a ledger of other systems as well, and announces it.
    """
    today = datetime.now(UTC).date()
    try:
        runtime.access.check_addresses(runtime.ledger)
    except OtherSystems as error:
        runtime.use.announce(str(error))
    calls, opt_outs = (runtime.ledger.counts.numbers(kind, today) for kind in ("engine_calls", "opt_outs"))
    killed = [KilledRunStatus(run.run_id, run.since, f"{run} {REMEDY}") for run in killed_runs(runtime.ledger)]
    of_both = asdict(overview(runtime.config, runtime.ledger, calls, opt_outs))
    return Status(**of_both, killed_runs=killed, audits=rotations(runtime.config, runtime.ledger))


def overview(overall: Config, ledger: Ledger, calls: Mapping[str, int], opt_outs: Mapping[str, int]) -> Overview:
    """Return counts per mapped table, the feed's position, engine calls by kind, and opt-outs by kind."""
    tables = dict[str, TableStatus]()
    all_counts, paused = ledger.reports.counts(), ledger.maintenance.in_maintenance()
    for config in overall.tables:
        table, counts, feed = config.table, all_counts[config.table], ledger.feeds.feed(config.table)
        refused = refused_attributes(ledger, config)
        tables[table] = TableStatus(
            **table_state(ledger, config, counts, feed),
            **fields(counts, "synced", "excluded", "unconfirmed"),
            unconfirmed_until=ledger.reports.unconfirmed_until(table) if counts.unconfirmed else None,
            retried=ledger.reports.retried(table) if counts.pending else None,
            refused_in_updates=refused,
            updated_by_file=overall.bulk_load.updated(table, refused) if overall.bulk_load else [],
            comparison_due=ledger.rebuilds.rebuild(table) is not None and ledger.loads.unfinished(table) is None,
            maintenance_since=paused.get(table),
            feed=FeedStatus(feed.saved_at, feed.polled_at, feed.complete) if feed else FeedStatus(None, None, False),
        )
    files, left = ledger.opt_out_files.files(), ledger.opt_outs.left(overall.opt_out.attributes)
    opt_out = OptOutStatus(
        direction=overall.opt_out.direction,
        **{kind: opt_outs.get(kind, 0) for kind in ("files_processed", "to_d365", "to_campaign", "rejected_rows")},
        last_file_at=max((file.modified for file in files if file.state == FileState.DONE), default=None),
        **{kind: getattr(left, kind) for kind in ("due", "rejected", "held", "unconfirmed", "unconfirmed_until")},
        files_waiting=sum(file.state == FileState.SEEN for file in files),
        files_rejected=sum(file.state == FileState.REJECTED for file in files),
    )
    return Overview(tables, {kind: calls.get(kind, 0) for kind in CALL_KINDS}, opt_out)


def table_state(
    ledger: Ledger, config: TableConfig, counts: Counts, feed: Feed | None, orphans: OrphansOfDeletes | None = None
) -> dict[str, Any]:
    """Return the values of a TableState. orphans: of deletions that go ahead, in place of those that are held back."""
    table, orphans = config.table, orphans or (feed.orphans if feed else NO_ORPHANS)
    load = ledger.loads.unfinished(table)
    loading = ledger.loads.loading(load) if load else 0
    reasons = ledger.blocked.waiting_reasons(table) if counts.waiting else {}
    return {
        "resource": config.resource,
        **fields(counts, "waiting", "rejected", "held", "orphaned"),
        "pending": max(0, counts.pending - loading),  # what ended in between is neither
        "loading": load.records if load and load.kind == "update" else loading,
        "load": load and LoadStatus(*load_status(load)),
        "waiting_for": {WAITING_FOR[reason]: number for reason, number in sorted(reasons.items())},
        "deletes_held_back": feed.deletes if feed else 0,
        "kept_values": ledger.emptied.kept(table),
        "deletes_following": orphans.deleted,
        "deletes_orphaning": orphans.kept,
        "in_step_but_for": in_step_but_for(ledger, config),
    }


def held_back(tables: Mapping[str, TableState]) -> list[str]:
    """Return a line for each table whose deletions the guard holds back, or whose emptied values Campaign keeps."""
    return [values_kept(name, table.kept_values) for name, table in tables.items() if table.kept_values] + [
        f"{name}: {counted(table.deletes_held_back, 'deletion', 'are')} held back"
        f"{with_them(OrphansOfDeletes(table.deletes_following, table.deletes_orphaning))}: more than "
        f"max_delete_share allows. If that is right, `sync-assets approve-deletes {name}`, else look at Dynamics 365."
        for name, table in tables.items()
        if table.deletes_held_back
    ]


def loading(tables: Mapping[str, TableState]) -> Iterator[str]:
    """Yield a line for each table with an unfinished load by file."""
    for name, table in tables.items():
        if load := table.load:
            yield (
                f"{name}: {counted(table.loading, 'record', 'are')} loading by file; {load.kind} by workflow "
                f"{load.workflow}, {load.state} since {clock(load.since)}. `sync-assets loads` lists the files."
                + (f" {load.problem}" if load.problem else "")
            )


def unconfirmed(document: Overview) -> Iterator[str]:
    """Yield a line for each table, and one for opt-outs, that are sent once more at the horizon of lost answers."""
    counts = [(f"{name}: ", "record", "sent", table) for name, table in document.tables.items()]
    for name, one, again, part in (*counts, ("", "opt-out", "compared", document.opt_out)):
        if part.unconfirmed_until:
            yield (
                f"{name}{counted(part.unconfirmed, one, 'are')} {again} once more by "
                f"{clock(part.unconfirmed_until)}, since answers to earlier requests were lost."
            )


def retried(document: Overview) -> Iterator[str]:
    """Yield what `retries_of` does of each table."""
    return retries_of({name: table.retried for name, table in document.tables.items()})


def retries_of(by_table: Mapping[str, Retried | None]) -> Iterator[str]:
    """Yield a line for each table with records that are tried again since no answer named a cause."""
    for name, retries in by_table.items():
        if retries:
            due = f"at {clock(retries.next_attempt)}" if retries.next_attempt else "with the next sync"
            for_long = f" since {clock(retries.since)}" if retries.since else ""
            yield (
                f"{name}: {counted(retries.records, 'record')} got no answer that names a cause{for_long}; the "
                f"next attempt is {due}. `sync-assets rejects {name} --retried` lists them. First: {retries.reason}"
            )


def comparison_due(table: str) -> str:
    """Return the sentence on a table whose records in Campaign are still to be compared."""
    return (
        f"{table}: the comparison with Campaign's records is due. Until its end, `synced` counts what was acknowledged "
        "before, perhaps by another Campaign. `sync-assets sync` does it, and sends what is missing or differs."
    )


def in_maintenance(document: Overview, tables: Iterable[str]) -> list[str]:
    """Return a line for each of the tables that is in maintenance."""
    return [
        f"{table} is in maintenance since {iso(since)}: nothing of it is captured or sent. `sync-assets maintenance "
        f"off {table}` ends that."
        for table in tables
        if (since := document.tables[table].maintenance_since)
    ]


def show(document: Overview) -> Parts:
    """Print tables with their counts, their change feeds, then engine calls and opt-outs. Fits 80 columns."""
    tables, times = document.tables, ("position saved", "last asked")
    rows = ([name, table.resource, *(getattr(table, column) for column in COLUMNS)] for name, table in tables.items())
    yield plain_table("table", "resource", *COLUMNS, rows=rows, numbers=COLUMNS)
    yield ""
    feeds: list[list[str | None]] = []
    for name, feed in ((name, table.feed) for name, table in tables.items()):
        state = "" if feed.complete else "first read goes on" if feed.position_saved_at else "never captured"
        feeds.append([name, *(at and iso(at) for at in (feed.position_saved_at, feed.polled_at)), state])
    yield plain_table("change feed", *times, "", rows=feeds)
    yield ""
    yield from _lines(document)


def _lines(document: Overview) -> Iterator[str]:
    tables = document.tables
    for name, table in tables.items():
        for reason, number in table.waiting_for.items():
            yield f"{name}: {counted(number, 'record', 'wait')} for {reason}"
        if table.excluded:
            yield f"{name}: {table.excluded:,} excluded: of a contact that was gone when its privacy hold was released"
    if isinstance(document, Status):
        yield from (run.message for run in document.killed_runs)
    for lines in (in_maintenance(document, tables), held_back(tables), retried(document), unconfirmed(document)):
        yield from lines
    yield from loading(tables)
    yield from (comparison_due(name) for name, table in tables.items() if table.comparison_due)
    for name, table in tables.items():
        if table.orphaned:
            listed = f"`sync-assets rejects {name} --orphaned` lists them; each is sent once it has a parent in scope."
            yield f"{orphaned_sentence(name, table.orphaned)} {listed}"
        if table.refused_in_updates:
            yield refused_updates(name, table.refused_in_updates, table.in_step_but_for, table.updated_by_file)
    if isinstance(document, Status):
        yield from (f"{name}: {one.text(tables[name].resource)}" for name, one in document.audits.items())
        yield f"engine calls: {kinds(document.engine_calls)}"
    yield from _opt_out_lines(document.opt_out)
    if isinstance(document, SyncDocument):  # at the end, what it did
        waiting = counted(sum(table.waiting for table in tables.values()), "record")
        yield (
            f"Ended after {document.seconds:,} s: {kinds(document.engine_calls)} sent; "
            f"{counted(document.unchanged, 'unchanged row')} skipped; {waiting} waiting."
        )


def _opt_out_lines(opt_out: OptOutStatus) -> Iterator[str]:
    """Yield lines on opt-outs; none if they are disabled, or ordinary fields and nothing else is left to write."""
    if opt_out.direction == "disabled":
        return
    if opt_out.direction == "d365_to_campaign" and not (opt_out.due or opt_out.rejected or opt_out.held):
        return
    last = f"the newest of {iso(opt_out.last_file_at)}" if opt_out.last_file_at else "none was ever taken"
    yield (
        f"opt-outs ({opt_out.direction}): {opt_out.to_d365:,} written to Dynamics 365, {opt_out.to_campaign:,} to "
        f"Campaign, {counted(opt_out.files_processed, 'file')} with {counted(opt_out.rejected_rows, 'rejected row')}; "
        f"{last}"
    )
    for number, text in (
        (opt_out.due, "are due: run `sync-assets sync`, or start the sensors"),
        (opt_out.rejected, "are rejected: see `sync-assets rejects`"),
        (opt_out.held, "are kept back by a privacy hold"),
    ):
        if number:
            yield f"opt-outs: {number:,} {text}"
    if opt_out.files_waiting or opt_out.files_rejected:
        yield f"opt-out files: {opt_out.files_waiting:,} waiting, {opt_out.files_rejected:,} rejected as a whole"


def orphaned_sentence(table: str, number: int) -> str:
    """Return the sentence that says how many records of a table are orphaned, and why."""
    return f"{table}: {number:,} orphaned: a parent that they need is gone for good, or they name none."
