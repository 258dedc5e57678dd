"""`replay`: captures a table again, as a whole or the days given. What that leaves pending the next `sync` sends."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from typing import Any

from sync_assets.capture.row_reads import capture_days
from sync_assets.commands.sync_runs import run_flow
from sync_assets.config.models import TableConfig
from sync_assets.defs.instance.command_line import dagster_instance
from sync_assets.defs.tables.active_runs import end_killed
from sync_assets.defs.tables.assets import d365_key
from sync_assets.errors import SyncAssetsError
from sync_assets.ledger import InMaintenance
from sync_assets.operations.status import COLUMNS, document, held_back, unknown_tables
from sync_assets.runtime.context import Runtime
from sync_assets.runtime.workers import release_dead

MOST_PARTITIONS = 366
"""Dagster notes every day of a run's range, with rows or not: of a wider one, only those that have some."""


@dataclass(frozen=True, slots=True)
class Replayed:
    """`document`: what `replay --json` prints. `problems`: why it could not be done to its end, `said`: what else
    somebody should know."""

    document: dict[str, Any]
    problems: list[SyncAssetsError]
    said: list[str]


def day(text: str | None, option: str) -> date | None:
    """A day as the user writes it; SyncAssetsError if it is none."""
    if text is None:
        return None
    try:
        if not re.fullmatch(r"\d{4}-\d{2}-\d{2}", text):
            raise ValueError(text)
        return date.fromisoformat(text)
    except ValueError:
        raise SyncAssetsError(f"`{option} {text}` is not a day.", "Write it as 2026-11-24.") from None


def replay(
    runtime: Runtime, table: str, first: date | None = None, last: date | None = None, *, force: bool = False
) -> Replayed:
    """Captures all rows again, or those last modified on the days given (UTC, both included; None: no limit there).

    A replay that was killed goes on where it was. force: what is captured is sent again, equal or not. Raises
    SyncAssetsError if it cannot begin.
    """
    config = replayable(runtime, table, first, last)
    with dagster_instance() as instance:
        release_dead(runtime.ledger)
        end_killed(instance, runtime.ledger, table)
        capture_again(
            runtime, config, (first, last), force, lambda: run_flow(runtime, config, instance, [d365_key(config)])
        )
    return _told(runtime, table)


def replayable(runtime: Runtime, table: str, first: date | None, last: date | None) -> TableConfig:
    """The table's configuration. Raises SyncAssetsError if it cannot be captured again, or not on such days."""
    if error := unknown_tables(runtime, [table]):
        raise error
    if first and last and first > last:
        raise SyncAssetsError(f"{first} is after {last}.", "--from is the first day, --to the last one.")
    if runtime.ledger.feed(table) is None:
        raise SyncAssetsError(
            f"{table} has never been captured, so there is nothing to replay.", "Run `sync-assets sync`."
        )
    if since := runtime.ledger.in_maintenance().get(table):
        raise InMaintenance(table, since)
    return runtime.config.table(table)


def capture_again(
    runtime: Runtime,
    config: TableConfig,
    days: tuple[date | None, date | None],
    force: bool,
    capture: Callable[[], None],
) -> None:
    """Ask the ledger for the rows of these days, or all, and capture them. None: no limit on that side."""
    first, last = days
    if first is None and last is None:
        runtime.ledger.replay_everything(config.table, resend=force)
        capture()
        return
    days = (first or date.min, last or date.max)
    capture_days(runtime.ledger, config.table, days, resend=force, capture=capture)


def _told(runtime: Runtime, table: str) -> Replayed:
    whole = document(runtime, {}, {})
    counts = whole["tables"][table]
    told = {"table": table, **{name: counts[name] for name in COLUMNS}}
    of_table = {"tables": {table: counts}}
    return Replayed(told, runtime.problems, [*runtime.warnings, *held_back(of_table), *runtime.stopped])
