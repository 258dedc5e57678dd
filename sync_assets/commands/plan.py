"""`plan`: what the next `sync` would do and cost, of all records or of one. Writes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Annotated, Any

import typer

from sync_assets.audit.value_shape import value_text
from sync_assets.campaign.addressing import Addressing
from sync_assets.checks.guardrails import check_configuration
from sync_assets.commands.documents import fields
from sync_assets.commands.explain import Explained, explain
from sync_assets.commands.inventory import Inventory
from sync_assets.commands.rehearsal import SyncRehearsal
from sync_assets.commands.status import CALL_KINDS, held_back, refused_attributes, refused_updates, waiting_for
from sync_assets.commands.terminal import (
    AcceptMapping,
    Json,
    fail,
    let_sigterm_interrupt,
    number_table,
    on_interrupt,
    open_runtime,
    print_document,
    print_line,
    print_table,
    progress,
)
from sync_assets.config.models import TableConfig
from sync_assets.errors import SyncAssetsError
from sync_assets.ledger import Ledger
from sync_assets.ledger.errors import with_them
from sync_assets.ledger.model import NO_ORPHANS
from sync_assets.ledger.report_values import Counts
from sync_assets.ledger.scratch import scratch_ledger
from sync_assets.ledger.times import iso
from sync_assets.plurals import counted
from sync_assets.runtime import interruptible
from sync_assets.runtime.context import Runtime

app = typer.Typer(add_completion=False)

PLANNED = ("insert", "update", "delete", "unchanged", "pending", "waiting", "failed", "held")
OPT_OUTS_DUE = ("decide", "to_d365", "to_campaign", "refused", "held")


@app.command()
def command(
    diff: Annotated[
        str | None, typer.Option("--diff", metavar="ID", help="Only what changes in Campaign's record of this D365 id.")
    ] = None,
    show_values: Annotated[
        bool, typer.Option("--show-values", help="With --diff: show values, which are personal data.")
    ] = False,
    accept_mapping: AcceptMapping = False,
    as_json: Json = False,
) -> None:
    """Dry run: what the next sync would insert, update, delete, hold back, and the engine calls that it costs."""
    runtime = open_runtime()
    runtime.accept_mapping = accept_mapping
    if diff is not None:
        explained = explain(runtime, diff, show_values=show_values)
        print_document(record_diff(explained), as_json, show_diff)
        if explained.problems:
            fail(*explained.problems)
        return
    let_sigterm_interrupt()
    with on_interrupt("Nothing was written."), progress(runtime):
        _ = runtime.ledger  # says so at once if there is none
        planned = plan(runtime)
    if not planned.empty:
        print_document(planned.document, as_json, show)
    if planned.problems:
        fail(*planned.problems)


@dataclass(frozen=True, slots=True)
class Planned:
    """The result of a plan.

    Attributes:
        document: what `plan --json` prints; its `notes` are for people.
        problems: why a table could not be planned, which stops `sync` as well.
        empty: True if no table could be planned.
    """

    document: dict[str, Any]
    problems: list[SyncAssetsError]
    empty: bool = False


def plan(runtime: Runtime, inventory: Inventory | None = None) -> Planned:
    """Rehearse a sync of all mapped tables. Tables in maintenance are planned as if it had ended.

    inventory: counts the records of Campaign that the sync would list. Raises SyncAssetsError as `sync` would, with
    nothing written.
    """
    runtime.settings.require("d365", "campaign")
    check_configuration(runtime.config, runtime.config.tables)
    with scratch_ledger(runtime.settings.ledger_url, runtime.cipher) as ledger:
        runtime.check_addresses(ledger)
        paused = ledger.maintenance.in_maintenance()
        for table in paused:
            ledger.maintenance.end(table)
        rehearsed = replace(runtime, _ledger=ledger, _session=None, accept_mapping=True)
        rehearsal = SyncRehearsal(rehearsed, ledger, inventory, runtime.accept_mapping)
        try:
            interruptible.run(rehearsal.run())
            document = _document(rehearsed, ledger, rehearsal)
        finally:
            rehearsed.end_session()
    document["notes"] += [
        f"{table} is in maintenance since {iso(since)}: what is planned of it goes after `sync-assets maintenance off "
        f"{table}`."
        for table, since in paused.items()
    ]
    troubled = rehearsal.troubled
    return Planned(document, list(troubled.values()), len(troubled) == len(rehearsal.tables))


def _document(runtime: Runtime, ledger: Ledger, rehearsal: SyncRehearsal) -> dict[str, Any]:
    total = {kind: sum(one.calls[kind] for one in rehearsal.tables.values()) for kind in CALL_KINDS}
    tables = {config.table: _table(runtime, ledger, rehearsal, config) for config in runtime.config.tables}
    opt_out, limit = runtime.config.opt_out, runtime.config.guardrails.engine_calls_per_day
    budget = None
    if limit is not None:
        used, left = runtime.calls_today, runtime.calls_left_today or 0
        fits = min(sum(total.values()), left)
        budget = {"engine_calls_per_day": limit, "used_today": used, "left_today": left, "fits_today": fits}
    return {
        "tables": tables,
        "engine_calls": total,
        "budget": budget,
        "opt_out": fields(ledger.opt_outs.left(opt_out.attributes), *OPT_OUTS_DUE) if opt_out.active else None,
        "notes": [
            *rehearsal.unknown_codes.values(),
            *held_back({"tables": tables}),
            *(f"{table}: its deletions go ahead{with_them(orphans)}." for table, orphans in rehearsal.orphans.items()),
            *_notes(runtime, ledger, rehearsal),
        ],
    }


def _table(runtime: Runtime, ledger: Ledger, rehearsed: SyncRehearsal, config: TableConfig) -> dict[str, Any]:
    table, rehearsal = config.table, rehearsed.tables[config.table]
    counts, feed = ledger.reports.counts().get(table, Counts()), ledger.feeds.feed(table)
    orphans = rehearsed.orphans.get(table) or (feed.orphans if feed else NO_ORPHANS)
    return {
        "resource": config.resource,
        "insert": rehearsal.inserted,
        "update": rehearsal.updated,
        "delete": rehearsal.deleted,
        "unchanged": counts.synced - len(rehearsal.settled),
        **fields(counts, "pending", "waiting", "held", "failed", "orphaned"),
        "waiting_for": waiting_for(runtime, table),
        "deletes_held_back": feed.deletes if feed else 0,
        "deletes_following": orphans.deleted,
        "deletes_orphaning": orphans.kept,
        "uncertain": rehearsal.outcomes_unknown,
        "problem": str(rehearsed.troubled[table]) if table in rehearsed.troubled else None,
        "engine_calls": {kind: rehearsal.calls[kind] for kind in CALL_KINDS},
    }


def _notes(runtime: Runtime, ledger: Ledger, rehearsed: SyncRehearsal) -> Iterator[str]:
    config = runtime.config
    for table in config.tables:
        addressing = Addressing.configured(table, ledger.dialect.found(table.resource))
        if rehearsed.tables[table.table].deleted and addressing.key_in_delete is None:
            yield (
                f"{table.table}: no delete has shown yet whether Campaign deletes by the key. Its deletes are counted "
                "as two calls each, and finding out as two more; they cost one each if it does."
            )
    if uncertain := sum(one.outcomes_unknown for one in rehearsed.tables.values()):
        yield (
            f"{counted(uncertain, 'record', 'were')} sent before without an answer: each may cost a call more or less, "
            "since only Campaign knows whether it took them."
        )
    for table in config.tables:
        if left_out := refused_attributes(runtime, table):
            yield refused_updates(table.table, left_out)
    yield from rehearsed.notes
    if config.opt_out.active:
        due = ledger.opt_outs.left(config.opt_out.attributes).due
        calls = f"{counted(due, 'opt-out')} would be due for a decision, at one read and one update each at most; "
        files = "opt-out files on the SFTP are not looked at, and what follows from them is not in these numbers."
        yield f"{calls if due else ''}{files}"


def show(document: dict[str, Any]) -> None:
    """Print what would happen to the records, what it costs, and notes."""
    tables, kinds = document["tables"], tuple(document["engine_calls"])
    print_table(number_table("table", PLANNED, {name: [one[c] for c in PLANNED] for name, one in tables.items()}))
    print_line()
    costs = {name: [one["engine_calls"][kind] for kind in kinds] for name, one in tables.items()}
    costs = {name: [*calls, sum(calls)] for name, calls in costs.items()}
    print_table(number_table("engine calls", (*kinds, "in all"), costs))
    if document["opt_out"]:
        print_line()
        due = {"opt-outs": [document["opt_out"][column] for column in OPT_OUTS_DUE]}
        print_table(number_table("", OPT_OUTS_DUE, due))
    for name, one in tables.items():
        for reason, number in one["waiting_for"].items():
            print_line(f"{name}: {counted(number, 'record', 'wait')} for {reason}.")
        if one["orphaned"]:
            why = "a parent that they need is gone for good, or they name none."
            print_line(f"{name}: {one['orphaned']:,} orphaned: {why}")
    calls, budget = sum(document["engine_calls"].values()), document["budget"]
    if budget:
        left, per_day = calls - budget["fits_today"], budget["engine_calls_per_day"]
        days = counted(-(-left // max(1, per_day)), "more day")
        later = f"the other {left:,} take {days}" if left else "that is all of them"
        print_line(
            f"engine_calls_per_day is {per_day:,}, {budget['used_today']:,} were made today: {budget['fits_today']:,} "
            f"of {calls:,} fit today, {later}."
        )
    for note in document["notes"]:
        print_line(note)


# --- One record -------------------------------------------------------------------------------------------------------


def record_diff(explained: Explained) -> dict[str, Any]:
    """Return for each table the next request and the attributes that it changes; empty for a delete, and without one.

    A first insert sends all attributes; those without a value are left out.
    """
    document = explained.document
    tables = {name: _diff(one) for name, one in document["tables"].items()}
    return {"id": document["id"], "values": document["values"], "tables": tables}


def _diff(one: dict[str, Any]) -> dict[str, Any]:
    operation = one["next_sync"]
    return {
        "resource": one["resource"],
        "operation": operation,
        "reasons": one["reasons"],
        "changes": [
            {"attribute": way["attribute"], "campaign": way["campaign"], "mapped": way["mapped"]}
            for way in one["attributes"]
            if _is_sent(way, operation)
        ],
        "links": [
            {"attribute": link["attribute"], "campaign": link["campaign"], "parent": link["id"]}
            for link in one["links"]
            if operation == "insert" or (operation == "update" and link["equal"] is False)
        ],
    }


def _is_sent(way: dict[str, Any], operation: str | None) -> bool:
    if operation == "insert":
        return way["equal"] is not True and way["mapped"] not in (None, "", "empty")
    return operation == "update" and way["equal"] is False and way["apply_updates"]


def show_diff(document: dict[str, Any]) -> None:
    """Print what the next sync would change in Campaign's record."""
    for name, one in document["tables"].items():
        print_line(f"{name} {document['id']} -> {one['resource']}: {one['operation'] or 'no request'}")
        for reason in one["reasons"]:
            print_line(f"  {reason}")
        for change in one["changes"]:
            values = f"{value_text(change['campaign'])} -> {value_text(change['mapped'])}"
            print_line(f"  {change['attribute']}: {values}")
        for link in one["links"]:
            print_line(f"  {link['attribute']}: {link['campaign'] or '-'} -> {link['parent'] or '-'}")
