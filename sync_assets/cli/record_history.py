"""`sync-assets history`: the command, and its document as text for people. Imports are lazy."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sync_assets.foreign_text import cleaned, json_text
from sync_assets.plurals import counted

if TYPE_CHECKING:
    from sync_assets.runtime.context import Runtime

OFF = "No history is kept: write `history: {days: 14}` in the configuration, and later syncs keep it."


def register(app: typer.Typer, open_runtime: Callable[[], Runtime]) -> None:
    """Add the command. open_runtime: opens the runtime that is closed at the end."""

    @app.command()
    def history(
        record: Annotated[
            str | None, typer.Argument(metavar="ID", help="A D365 id; all records if left out.", show_default=False)
        ] = None,
        table: Annotated[str | None, typer.Option("--table", help="Only this mapped table.")] = None,
        limit: Annotated[int, typer.Option("--limit", min=1, max=100_000, help="Entries at most.")] = 50,
        as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.")] = False,
    ) -> None:
        """What became of records, the newest first: operation, outcome, reason and run, no values; for a contact also
        its opt-out decisions. Kept if `history` is configured."""
        from sync_assets.operations.record_history import history as run  # noqa: PLC0415

        document = run(open_runtime(), record, table, limit)
        if as_json:
            typer.echo(json_text(document))
        else:
            show_history(cleaned(document))


def show_history(document: dict[str, Any]) -> None:
    """Print the entries, then the opt-out decisions, each as one line."""
    from sync_assets.cli.tables import print_line  # noqa: PLC0415
    from sync_assets.operations.explanation_sections import decision_line  # noqa: PLC0415

    if document["kept_days"] is None:
        print_line(OFF)
    elif not document["history"]:
        print_line(f"There is no entry. Entries are kept for {counted(document['kept_days'], 'day')}.")
    for one in document["history"]:
        reason = f": {one['reason']}" if one["reason"] else ""
        print_line(f"{one['at']} {one['table']} {one['id']} {one['operation']}: {one['outcome']}{_run(one)}{reason}")
    for one in document["decisions"]:
        print_line(f"opt-out decision: {decision_line(one)}")


def _run(entry: dict[str, Any]) -> str:
    """Return the beginning of the run's id, as Dagster's UI shows it."""
    return f" (run {entry['run'][:8]})" if entry["run"] else ""
