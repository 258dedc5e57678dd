"""The document of `sync-assets history` as text for people. Imports are lazy."""

from __future__ import annotations

from typing import Any

from sync_assets.plurals import counted

OFF = "No history is kept: write `history: {days: 14}` in the configuration, and later syncs keep it."


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
