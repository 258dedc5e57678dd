"""`history`: what became of records, run by run, and the opt-out decisions of a contact. No values."""

from datetime import UTC, datetime, timedelta
from typing import Annotated

import msgspec
import typer

from sync_assets.commands.terminal import Json, Parts, TableOption, open_runtime, print_document
from sync_assets.commands.values import check_tables, record_id, value_shape, value_text
from sync_assets.config.models import Config
from sync_assets.config.values import CONTACT
from sync_assets.ledger import Ledger
from sync_assets.ledger.repositories.record_history import HISTORY, PRUNED, HistoryEntry
from sync_assets.ledger.times import iso
from sync_assets.opt_out.decide import without_value
from sync_assets.words import counted

_WRITTEN = {"d365": "written to Dynamics 365", "campaign": "written to Campaign", None: "nothing to write"}


def command(
    record: Annotated[
        str | None,
        typer.Argument(metavar="ID", help="A record's id in Dynamics 365. Default: all records.", show_default=False),
    ] = None,
    table: TableOption = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=100_000, help="Maximum of entries.")] = 50,
    as_json: Json = False,
) -> None:
    """Show the outcome of each request for a record, the newest first: operation, reason and run, no values; for a
    contact also its opt-out decisions. The ledger keeps them if `history` or `results` is configured.
    """
    runtime = open_runtime()
    print_document(history(runtime.config, runtime.ledger, record, table, limit), as_json, show)


class ContactDecision(msgspec.Struct, frozen=True):
    """A decision about an opt-out. value: what both systems should hold, or its shape. write: the system written to."""

    decided_at: datetime
    attribute: str
    value: bool | str | None
    write: str | None
    reason: str
    source: str

    def __repr__(self) -> str:
        return f"ContactDecision({self.attribute} at {self.decided_at})"  # value and reason are personal data


class HistoryDocument(msgspec.Struct, frozen=True):
    """The document of `history --json`, the newest first. kept_days: null if no history is kept."""

    kept_days: int | None
    history: list[HistoryEntry]
    decisions: list[ContactDecision]


def history(config: Config, ledger: Ledger, id_text: str | None, table: str | None, limit: int) -> HistoryDocument:
    """Return the newest entries first, at most `limit`, and for one id the last opt-out decisions."""
    id_ = record_id(id_text, "The history of a record needs its") if id_text is not None else None
    check_tables(config, [table])
    entries = ledger.history.entries(id_, table, limit=limit)
    decisions: list[ContactDecision] = []
    if id_ is not None and table in (None, CONTACT):
        decisions = opt_out_decisions(ledger, id_)[:limit]
    return HistoryDocument(config.history_days, entries, decisions)


def opt_out_decisions(ledger: Ledger, contact: str, *, show_values: bool = False) -> list[ContactDecision]:
    """Return the decisions about a contact's opt-outs, the newest first."""
    return [
        ContactDecision(
            decision.decided_at,
            decision.attribute,
            decision.value if show_values else value_shape(decision.value),
            decision.write,
            decision.reason if show_values else without_value(decision.reason),
            decision.source,
        )
        for decision in ledger.opt_out_decisions.decisions(contact=contact)
    ]


def prune_records(config: Config, ledger: Ledger) -> int:
    """Delete entries older than `Config.history_days`, all of them if no history is kept; return how many."""
    before = datetime.now(UTC) - timedelta(days=config.history_days or 0)
    ledger.results.prune(before.date())
    if ledger.history.entries(limit=1):
        ledger.events.note(HISTORY, {PRUNED: str(before.date())})
    return ledger.history.prune_entries(before)


def show(document: HistoryDocument) -> Parts:
    """Show the entries, then the opt-out decisions, each as one line. A run is named as in Dagster's UI."""
    if document.kept_days is None:
        yield "No history is kept: write `history: {days: 14}` in the configuration, and later syncs keep it."
    elif not document.history:
        yield f"There is no entry. Entries are kept for {counted(document.kept_days, 'day')}."
    for entry in document.history:
        run = f" (run {entry.run_id[:8]})" if entry.run_id else ""
        reason = f": {entry.reason}" if entry.reason else ""
        yield f"{iso(entry.at)} {entry.table} {entry.id} {entry.operation}: {entry.outcome}{run}{reason}"
    for decision in document.decisions:
        yield f"opt-out decision: {decision_line(decision)}"


def decision_line(decision: ContactDecision) -> str:
    """Return an opt-out decision as a line."""
    return (
        f"{iso(decision.decided_at)} {decision.attribute}: {value_text(decision.value)}, "
        f"{_WRITTEN[decision.write]} ({decision.reason}; cause: {decision.source})"
    )
