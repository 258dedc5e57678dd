"""`rejects`: lists of records that are rejected, tried again, orphaned or waiting. Ids and reasons, no values."""

import csv
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
import typer
from msgspec import UNSET, UnsetType
from msgspec.structs import replace
from rich.text import Text

from sync_assets.checks.refused_attributes import refused_attributes as refused
from sync_assets.commands.terminal import Json, OptionalTable, Parts, open_runtime, plain_table, print_document
from sync_assets.commands.values import builtins, check_tables, plain
from sync_assets.config.models import TableConfig
from sync_assets.config.values import CONTACT
from sync_assets.foreign_text import cleaned
from sync_assets.ledger import Ledger
from sync_assets.ledger.records.blocked_records import LISTED
from sync_assets.ledger.report_values import OrphanedRecord, Reject, Retry, WaitingRecord
from sync_assets.ledger.times import iso


class RefusedRecord(msgspec.Struct, frozen=True):
    """A record that differs, or perhaps differs, in one or more of the attributes that Campaign refuses in updates."""

    table: str
    id: str
    reason: str
    attributes: list[str]


class RejectsDocument(msgspec.Struct, frozen=True):
    """The document of `rejects --json`: one of these lists, by option."""

    rejects: list[Reject] | UnsetType = UNSET
    retried: list[Retry] | UnsetType = UNSET
    orphaned: list[OrphanedRecord] | UnsetType = UNSET
    waiting: list[WaitingRecord] | UnsetType = UNSET
    refused_attributes: list[RefusedRecord] | UnsetType = UNSET


Record = Reject | Retry | OrphanedRecord | WaitingRecord | RefusedRecord
COLUMNS = {
    "rejects": ("table", "id", "reason", "since", "attempts", "retryable"),
    "retried": ("table", "id", "reason", "since", "attempts", "next_attempt"),
    "orphaned": ("table", "id", "reason", "since"),
    "waiting": ("table", "id", "reason", "since", "parents"),
    "refused_attributes": ("table", "id", "reason", "attributes"),
}
"""By kind of list: the columns of CSV."""
_EMPTY_LISTS = {
    "rejects": "No record is rejected.",
    "retried": "No record is tried again.",
    "orphaned": "No record is orphaned.",
    "waiting": "No record waits.",
    "refused_attributes": "No record differs in an attribute that Campaign refuses in updates.",
}


def command(  # noqa: PLR0913 - an option for each list
    table: OptionalTable = None,
    orphaned: Annotated[
        bool, typer.Option("--orphaned", help="List orphaned records: they lack a parent that they need.")
    ] = False,
    retried: Annotated[
        bool, typer.Option("--retried", help="List pending records whose last answer named no cause.")
    ] = False,
    waiting: Annotated[
        bool, typer.Option("--waiting", help="List waiting records, with the parents that they wait for.")
    ] = False,
    refused_attributes: Annotated[
        bool,
        typer.Option("--refused-attributes", help="List records in step but for what Campaign refuses in updates."),
    ] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print comma-separated values.")] = False,
    as_json: Json = False,
) -> None:
    """List the rejected records: id, reason, since when, attempts."""
    named = {"orphaned": orphaned, "waiting": waiting, "retried": retried, "refused_attributes": refused_attributes}
    if sum(named.values()) > 1:
        names = ", ".join(f"--{name.replace('_', '-')}" for name in named)
        raise typer.BadParameter(f"{names} are lists of their own: name one of them.")
    if as_csv and as_json:
        raise typer.BadParameter("--csv and --json are two forms: name one of them.")
    runtime = open_runtime()
    check_tables(runtime.config, [table])
    kind = next((name for name, chosen in named.items() if chosen), "rejects")
    tables = [one for one in runtime.config.tables if table in (None, one.table)]
    records: Any = records_but_for(runtime.ledger, tables) if refused_attributes else LISTS[kind](runtime.ledger, table)
    if not as_csv:
        print_document(RejectsDocument(**{kind: records}), as_json, show)
        return
    writer = csv.DictWriter(sys.stdout, COLUMNS[kind], lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    for record in cleaned(records):
        attributes = " ".join(record.attributes) if isinstance(record, RefusedRecord) else ""
        writer.writerow(builtins(record) | {"parents": _parents(record), "attributes": attributes})


def rejects(ledger: Ledger, table: str | None) -> list[Reject]:
    """Return the rejected records and opt-outs: ids and reasons, never their content."""
    opt_outs = ledger.opt_outs.refused() if table in (None, CONTACT) else []
    parents = ledger.blocked.rejected_with_parent()
    rows = [*ledger.reports.rejects(table), *opt_outs]
    for number, row in enumerate(rows):
        if parent := parents.get((row.table, row.id)):
            too = (
                f"{row.reason.rstrip('.')}. Its {parent} is rejected, too: correct that first, then retry this record."
            )
            rows[number] = replace(row, reason=too)
    return rows


def retried_records(ledger: Ledger, table: str | None) -> list[Retry]:
    """Return the pending records whose requests got no answer that names a cause: ids and reasons."""
    return [replace(row, reason=row.reason or "no answer") for row in ledger.reports.retried_records(table)]


def records_but_for(ledger: Ledger, tables: Sequence[TableConfig]) -> list[RefusedRecord]:
    """Return the records that are in step but for refused attributes, or not known to be; at most LISTED of a table."""
    records = list[RefusedRecord]()
    for config in tables:
        attributes = refused(ledger, config)
        named = f"{'one or more of ' if len(attributes) > 1 else ''}{', '.join(attributes)}"
        for id_, known in ledger.reports.records_but_for(config.table, LISTED) if attributes else ():
            reason = f"{'differs' if known else 'perhaps differs'} in {named}: refused in updates"
            records.append(RefusedRecord(config.table, id_, reason, attributes))
    return records


LISTS = {
    "rejects": rejects,
    "retried": retried_records,
    "orphaned": lambda ledger, table: ledger.blocked.orphans(table),
    "waiting": lambda ledger, table: ledger.blocked.waiting(table),
}


def _parents(record: Record) -> str:
    parents = record.parents if isinstance(record, WaitingRecord) else ()
    return "; ".join(f"{to.table} {to.id} {to.state}" for to in parents)


def show(document: RejectsDocument) -> Parts:
    """Show the list that the document has: the records below the reason that they share."""
    kind = next(kind for kind in COLUMNS if getattr(document, kind) is not UNSET)
    by_reason: dict[tuple[str, str], list[Record]] = {}  # thousands may share one long reason
    for record in getattr(document, kind):
        by_reason.setdefault((record.table, record.reason), []).append(record)
    if not by_reason:
        yield _EMPTY_LISTS[kind]
    columns = [column for column in COLUMNS[kind][3:] if column not in ("retryable", "parents", "attributes")]
    titles = ["  id", *(column.replace("_", " ") for column in columns)]
    for (name, reason), alike in by_reason.items():
        why = f"waiting for {reason}" if kind == "waiting" else reason
        yield Text.assemble((f"{name}: ", "bold"), why, no_wrap=False)
        rows: list[list[str | int | None]] = []
        for record in alike:
            if isinstance(record, WaitingRecord):
                parents = f": {_parents(record)}" if record.parents else ""
                yield f"  {record.id} since {iso(record.since)}{parents}"
            else:
                values = (getattr(record, column) for column in columns)  # None: of the next attempt
                rows.append([f"  {record.id}", *("now" if value is None else plain(value) for value in values)])
        if rows:
            yield plain_table(*titles, rows=rows, numbers=("attempts",))
