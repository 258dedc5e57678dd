"""`status`: records by state, change feeds, engine calls, opt-outs, from the ledger. `sync` prints the same document.

Here also: the sentences on what a person must know of a table, which `plan`, `sync` and `doctor` print as well.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.console import Console

from sync_assets.campaign.addressing import among
from sync_assets.checks.health import values_kept
from sync_assets.commands.terminal import Json, Parts, kinds, open_runtime, plain_table, print_document, print_parts
from sync_assets.commands.values import fields, plain
from sync_assets.config.models import TableConfig
from sync_assets.ledger.errors import with_them
from sync_assets.ledger.model import OrphansOfDeletes
from sync_assets.ledger.report_values import WAITING_FOR
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
    runtime = open_runtime()
    if not watch:
        print_document(status(runtime), as_json, show)
        return
    console = Console()
    try:
        while True:
            if console.is_terminal:
                console.clear()
            print_parts(show(status(runtime)))
            console.file.flush()
            time.sleep(WATCH_SECONDS)
    except KeyboardInterrupt:
        return


def status(runtime: Runtime) -> dict[str, Any]:
    """Return the document of `status --json` (docs/commands.md); engine calls are those of the current UTC day.

    Works with a ledger of other systems as well, and announces it.
    """
    today = datetime.now(UTC).date()
    runtime.any_ledger = True
    try:
        runtime.check_addresses(runtime.ledger)
    except OtherSystems as error:
        runtime.announce(str(error))
    calls, opt_outs = (runtime.ledger.counts.numbers(kind, today) for kind in ("engine_calls", "opt_outs"))
    return document(runtime, calls, opt_outs) | {
        "killed_runs": [  # until a sensor or `sync` has marked them failed
            {"run_id": run.run_id, "last_sign_of_life": iso(run.since), "message": f"{run} {REMEDY}"}
            for run in killed_runs(runtime.ledger)
        ]
    }


def document(runtime: Runtime, calls: Mapping[str, int], opt_outs: Mapping[str, int]) -> dict[str, Any]:
    """Return counts per mapped table, the feed's position, engine calls by kind, and opt-outs by kind."""
    ledger, tables = runtime.ledger, dict[str, Any]()
    all_counts, paused = ledger.reports.counts(), ledger.maintenance.in_maintenance()
    for config in runtime.config.tables:
        table, counts = config.table, all_counts[config.table]
        feed = ledger.feeds.feed(table)
        unconfirmed_until = ledger.reports.unconfirmed_until(table) if counts.unconfirmed else None
        retries = ledger.reports.retried(table) if counts.pending else None
        tables[table] = {
            "resource": config.resource,
            **fields(counts, *COLUMNS, "excluded", "unconfirmed"),
            "unconfirmed_until": plain(unconfirmed_until),
            "retried": fields(retries, *retries._fields) if retries else None,
            "waiting_for": waiting_for(runtime, table) if counts.waiting else {},
            "deletes_held_back": feed.deletes if feed else 0,
            "kept_values": ledger.emptied.kept(table),
            "deletes_following": feed.orphans.deleted if feed else {},
            "deletes_orphaning": feed.orphans.kept if feed else {},
            "refused_in_updates": refused_attributes(runtime, config),
            "maintenance_since": plain(paused.get(table)),
            "feed": {
                "position_saved_at": iso(feed.saved_at) if feed else None,
                "polled_at": iso(feed.polled_at) if feed else None,
                "complete": bool(feed and feed.complete),
            },
        }
    return {
        "tables": tables,
        "engine_calls": {kind: calls.get(kind, 0) for kind in CALL_KINDS},
        "opt_out": _opt_outs(runtime, opt_outs),
    }


OPT_OUT_KINDS = ("files_processed", "to_d365", "to_campaign", "rejected_rows")


def _opt_outs(runtime: Runtime, counts: Mapping[str, int]) -> dict[str, Any]:
    """Return the counts of opt-outs.

    `due`: still to be decided or written; `rejected`: by the side that was to be written; `held`: under a
    privacy hold; `unconfirmed`: synced, and compared once more at the horizon of a lost answer; files by state;
    `last_file_at`: when the newest processed file was written.
    """
    files, left = runtime.ledger.opt_out_files.files(), runtime.ledger.opt_outs.left(runtime.config.opt_out.attributes)
    done = [file.modified for file in files if file.state == FileState.DONE]
    return {
        "direction": runtime.config.opt_out.direction,
        **{kind: counts.get(kind, 0) for kind in OPT_OUT_KINDS},
        "last_file_at": iso(max(done)) if done else None,
        **fields(left, "due", "rejected", "held", "unconfirmed", "unconfirmed_until"),
        "files_waiting": sum(file.state == FileState.SEEN for file in files),
        "files_rejected": sum(file.state == FileState.REJECTED for file in files),
    }


def waiting_for(runtime: Runtime, table: str) -> dict[str, int]:
    """Return how many records of a table are waiting, by block reason in words."""
    return {
        WAITING_FOR[reason]: number for reason, number in sorted(runtime.ledger.blocked.waiting_reasons(table).items())
    }


def held_back(document: Mapping[str, Any]) -> list[str]:
    """Return a line for each table whose deletions the guard holds back, or whose emptied values Campaign keeps."""
    kept = {table: counts["kept_values"] for table, counts in document["tables"].items() if counts.get("kept_values")}
    return [values_kept(table, values) for table, values in kept.items()] + [
        f"{table}: {counted(counts['deletes_held_back'], 'deletion', 'are')} held back"
        f"{with_them(OrphansOfDeletes(counts['deletes_following'], counts['deletes_orphaning']))}: more than "
        "max_delete_share allows. If that is right, "
        f"`sync-assets approve-deletes {table}`, else look at Dynamics 365."
        for table, counts in document["tables"].items()
        if counts["deletes_held_back"]
    ]


def unconfirmed(document: Mapping[str, Any]) -> list[str]:
    """Return a line for each table, and one for opt-outs, that are sent once more at the horizon of lost answers."""
    lines = [
        f"{table}: {counted(counts['unconfirmed'], 'record', 'are')} sent once more by "
        f"{clock(datetime.fromisoformat(counts['unconfirmed_until']))}, since answers to earlier requests were lost."
        for table, counts in document["tables"].items()
        if counts.get("unconfirmed_until")
    ]
    if until := document["opt_out"].get("unconfirmed_until"):
        lines.append(
            f"{counted(document['opt_out']['unconfirmed'], 'opt-out', 'are')} compared once more by "
            f"{clock(datetime.fromisoformat(until))}, since answers to earlier requests were lost."
        )
    return lines


def retried(document: Mapping[str, Any]) -> list[str]:
    """Return a line for each table with records that are tried again since no answer named a cause."""
    lines: list[str] = []
    for table, counts in document["tables"].items():
        if retries := counts.get("retried"):
            at, since = retries["next_attempt"], retries["since"]
            due = f"at {clock(datetime.fromisoformat(at))}" if at else "with the next sync"
            for_long = f" since {clock(datetime.fromisoformat(since))}" if since else ""
            lines.append(
                f"{table}: {counted(retries['records'], 'record')} got no answer that names a cause{for_long}; the "
                f"next attempt is {due}. `sync-assets rejects {table} --retried` lists them. First: {retries['reason']}"
            )
    return lines


def refused_attributes(runtime: Runtime, config: TableConfig) -> list[str]:
    """Return the attributes of a table that updates leave out, contrary to its mapping: Campaign refuses them there."""
    mapped = [field.to for field in config.fields.values() if field.apply_updates]
    return among(mapped, runtime.ledger.dialect.facts(config.resource))


def refused_updates(table: str, attributes: Sequence[str]) -> str:
    """Return the sentence on the attributes of a table that updates leave out."""
    return (
        f"{table}: Campaign takes no update of {', '.join(attributes)}: sent when a record is created, never changed "
        f"afterwards. `apply_updates: false` in the mapping saves the calls for their changes. Once Campaign takes "
        f"them, `sync-assets replay {table} --force` tries again and sends all."
    )


def in_maintenance(document: Mapping[str, Any], tables: Sequence[str]) -> list[str]:
    """Return a line for each of the tables that is in maintenance."""
    return [
        f"{table} is in maintenance since {since}: nothing of it is captured or sent. `sync-assets maintenance off "
        f"{table}` ends that."
        for table in tables
        if (since := document["tables"][table]["maintenance_since"])
    ]


def show(document: dict[str, Any]) -> Parts:
    """Print tables with their counts, their change feeds, then engine calls and opt-outs. Fits 80 columns."""
    tables, times = document["tables"], ("position saved", "last asked")
    rows = ([name, table["resource"], *(table[column] for column in COLUMNS)] for name, table in tables.items())
    yield plain_table("table", "resource", *COLUMNS, rows=rows, numbers=COLUMNS)
    yield ""
    feeds = plain_table("change feed", *times, "")
    for name, feed in ((name, table["feed"]) for name, table in tables.items()):
        state = "" if feed["complete"] else "first read goes on"
        state = state if feed["position_saved_at"] else "never captured"
        feeds.add_row(name, feed["position_saved_at"] or "-", feed["polled_at"] or "-", state)
    yield feeds
    yield ""
    yield from _lines(document)


def _lines(document: dict[str, Any]) -> Iterator[str]:
    tables = document["tables"]
    for name, counts in tables.items():
        for reason, number in counts.get("waiting_for", {}).items():
            yield f"{name}: {counted(number, 'record', 'wait')} for {reason}"
        if counts.get("excluded"):
            why = "excluded: of a contact that was gone when its privacy hold was released"
            yield f"{name}: {counts['excluded']:,} {why}"
    yield from (run["message"] for run in document.get("killed_runs", ()))
    for lines in (in_maintenance(document, list(tables)), held_back(document), retried(document)):
        yield from lines
    yield from unconfirmed(document)
    for name, counts in tables.items():
        if counts["orphaned"]:
            yield (
                f"{name}: {counts['orphaned']:,} orphaned: a parent that they need is gone for good, or they name "
                f"none. `sync-assets rejects {name} --orphaned` lists them; each is sent once it has a parent "
                "in scope."
            )
        if left_out := counts.get("refused_in_updates"):
            yield refused_updates(name, left_out)
    if "seconds" not in document:
        yield f"engine calls: {kinds(document['engine_calls'])}"
    yield from _opt_out_lines(document["opt_out"])
    if "seconds" in document:  # of a `sync`: at the end, what it did
        waiting = counted(sum(table["waiting"] for table in tables.values()), "record")
        yield (
            f"Ended after {document['seconds']:,} s: {kinds(document['engine_calls'])} sent; "
            f"{counted(document['unchanged'], 'unchanged row')} skipped; {waiting} waiting."
        )


def _opt_out_lines(data: dict[str, Any]) -> Iterator[str]:
    """Yield lines on opt-outs; none if they are disabled, or ordinary fields and nothing else is left to write."""
    if data["direction"] == "disabled":
        return
    open_kinds = any(data[kind] for kind in ("due", "rejected", "held"))
    if data["direction"] == "d365_to_campaign" and not open_kinds:
        return
    last = f"the newest of {data['last_file_at']}" if data["last_file_at"] else "none was ever taken"
    yield (
        f"opt-outs ({data['direction']}): {data['to_d365']:,} written to Dynamics 365, {data['to_campaign']:,} to "
        f"Campaign, {counted(data['files_processed'], 'file')} with {counted(data['rejected_rows'], 'rejected row')}; "
        f"{last}"
    )
    for kind, text in (
        ("due", "are due: run `sync-assets sync`, or start the sensors"),
        ("rejected", "are rejected: see `sync-assets rejects`"),
        ("held", "are kept back by a privacy hold"),
    ):
        if data[kind]:
            yield f"opt-outs: {data[kind]:,} {text}"
    if data["files_waiting"] or data["files_rejected"]:
        yield f"opt-out files: {data['files_waiting']:,} waiting, {data['files_rejected']:,} rejected as a whole"
