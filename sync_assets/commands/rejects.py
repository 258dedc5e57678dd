"""`rejects`: lists of records that are rejected, tried again, orphaned or waiting. Ids and reasons, no values."""

import csv
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from rich.text import Text

from sync_assets.checks.refused_attributes import refused_attributes as refused
from sync_assets.commands.terminal import Json, OptionalTable, Parts, open_runtime, plain_table, print_document
from sync_assets.commands.values import check_tables, fields
from sync_assets.config.models import TableConfig
from sync_assets.config.values import CONTACT
from sync_assets.foreign_text import cleaned
from sync_assets.ledger import Ledger
from sync_assets.ledger.records.blocked_records import LISTED
from sync_assets.ledger.report_values import WAITING_FOR

Records = list[dict[str, Any]]

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
    if refused_attributes:
        document = records_but_for(runtime.ledger, [one for one in runtime.config.tables if table in (None, one.table)])
    else:
        document = LISTS[kind](runtime.ledger, table)
    if not as_csv:
        print_document({kind: document}, as_json, show)
        return
    writer = csv.DictWriter(sys.stdout, COLUMNS[kind], lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    joined = ({"parents": _parents(one), "attributes": " ".join(one.get("attributes", ()))} for one in document)
    writer.writerows(record | texts for record, texts in zip(cleaned(document), joined, strict=True))


def rejects(ledger: Ledger, table: str | None) -> Records:
    """Return the rejected records and opt-outs: ids and reasons, never their content."""
    opt_outs = ledger.opt_outs.refused() if table in (None, CONTACT) else []
    parents = ledger.blocked.rejected_with_parent()
    rows = [fields(reject, *COLUMNS["rejects"]) for reject in [*ledger.reports.rejects(table), *opt_outs]]
    for row in rows:
        if parent := parents.get((row["table"], row["id"])):
            reason = row["reason"].rstrip(".")
            row["reason"] = f"{reason}. Its {parent} is rejected, too: correct that first, then retry this record."
    return rows


def retried_records(ledger: Ledger, table: str | None) -> Records:
    """Return the pending records whose requests got no answer that names a cause: ids and reasons."""
    rows = [fields(record, *COLUMNS["retried"]) for record in ledger.reports.retried_records(table)]
    return [row | {"reason": row["reason"] or "no answer"} for row in rows]


def orphans(ledger: Ledger, table: str | None) -> Records:
    """Return the orphaned records, which are not sent, with the reasons. kept: Campaign holds the record."""
    return [fields(orphan, *COLUMNS["orphaned"], "kept") for orphan in ledger.blocked.orphans(table)]


def waiting_records(ledger: Ledger, table: str | None) -> Records:
    """Return the waiting records, at most blocked_records.LISTED, with what they wait for."""
    return [
        {
            **fields(record, "table", "id", "since"),
            "reason": WAITING_FOR[record.block_reason],
            "parents": [{"table": to.table, "id": to.id, "state": to.state_text} for to in record.parents],
        }
        for record in ledger.blocked.waiting(table)
    ]


def records_but_for(ledger: Ledger, tables: Sequence[TableConfig]) -> Records:
    """Return the records that are in step but for refused attributes, or not known to be; at most LISTED of a table."""
    records = list[dict[str, Any]]()
    for config in tables:
        attributes = refused(ledger, config)
        named = f"{'one or more of ' if len(attributes) > 1 else ''}{', '.join(attributes)}"
        for id_, known in ledger.reports.records_but_for(config.table, LISTED) if attributes else ():
            reason = f"{'differs' if known else 'perhaps differs'} in {named}: refused in updates"
            records.append({"table": config.table, "id": id_, "reason": reason, "attributes": attributes})
    return records


LISTS = {"rejects": rejects, "retried": retried_records, "orphaned": orphans, "waiting": waiting_records}


def _parents(record: dict[str, Any]) -> str:
    return "; ".join(f"{to['table']} {to['id']} {to['state']}" for to in record.get("parents", ()))


def show(document: dict[str, Records]) -> Parts:
    """Show the list, whose kind is the document's only key: the records below the reason that they share."""
    [(kind, records)] = document.items()
    if not records:
        yield _EMPTY_LISTS[kind]
    by_reason: dict[tuple[str, str], Records] = {}  # thousands may share one long reason
    for record in records:
        by_reason.setdefault((record["table"], record["reason"]), []).append(record)
    columns = [column for column in COLUMNS[kind][3:] if column not in ("retryable", "parents", "attributes")]
    titles = ["  id", *(column.replace("_", " ") for column in columns)]
    for (name, reason), alike in by_reason.items():
        why = f"waiting for {reason}" if kind == "waiting" else reason
        yield Text.assemble((f"{name}: ", "bold"), why, no_wrap=False)
        if kind == "waiting":
            parents = [f": {_parents(record)}" if record["parents"] else "" for record in alike]
            pairs = zip(alike, parents, strict=True)
            yield from (f"  {record['id']} since {record['since']}{text}" for record, text in pairs)
            continue
        rows = (
            [
                f"  {record['id']}",
                *("now" if name == "next_attempt" and not record[name] else record[name] for name in columns),
            ]
            for record in alike
        )
        yield plain_table(*titles, rows=rows, numbers=("attempts",))
