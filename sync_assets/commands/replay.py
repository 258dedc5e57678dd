"""Replay: choose the days of a table that are captured again, and store the request in the ledger.

The caller captures: the command `replay` (cli/replay.py) by a Dagster run of its own, the job in its run.
"""

import re
from collections.abc import Callable
from datetime import UTC, date, datetime

from sync_assets.campaign.addressing import APART, IN_UPDATES, not_in_patch
from sync_assets.capture.queries import capture_days
from sync_assets.commands.values import check_tables
from sync_assets.config.models import Config, TableConfig
from sync_assets.errors import SyncAssetsError
from sync_assets.ledger import Ledger
from sync_assets.ledger.errors import InMaintenance
from sync_assets.runtime.ledger_access import LedgerAccess


def day(text: str | None, option: str) -> date | None:
    """Return a day that a user wrote (YYYY-MM-DD). Raises SyncAssetsError if it is none."""
    if text is None:
        return None
    try:
        if not re.fullmatch(r"\d{4}-\d{2}-\d{2}", text):
            raise ValueError(text)
        return date.fromisoformat(text)
    except ValueError:
        raise SyncAssetsError(f"`{option} {text}` is not a day.", "Write it as 2026-11-24.") from None


def replayable(config: Config, ledger: Ledger, table: str, first: date | None, last: date | None) -> TableConfig:
    """Return the table's configuration. Raises SyncAssetsError if these days of it cannot be captured again."""
    check_tables(config, [table])
    if first and last and first > last:
        raise SyncAssetsError(f"{first} is after {last}.", "--from is the first day, --to the last one.")
    today = datetime.now(UTC).date()
    if future := [f"{option} {day}" for option, day in (("--from", first), ("--to", last)) if day and day > today]:
        raise SyncAssetsError(
            f"`{' '.join(future)}` is in the future: today is {today} (UTC).", "Write a day up to today."
        )
    if ledger.feeds.feed(table) is None:
        raise SyncAssetsError(
            f"{table} has never been captured, so there is nothing to replay.", "Run `sync-assets sync`."
        )
    if since := ledger.maintenance.in_maintenance().get(table):
        raise InMaintenance(table, since)
    return config.table(table)


def capture_again(
    ledger: LedgerAccess,
    config: TableConfig,
    days: tuple[date | None, date | None],
    force: bool,
    capture: Callable[[], None],
) -> None:
    """Request the rows of these days, or all, from the ledger, and capture them. A day None: no limit on that side."""
    if force:  # the next updates try again the attributes that Campaign refused in updates
        dialect = ledger.opened().dialect
        if refused := not_in_patch(dialect.facts(config.resource)):
            dialect.forget(
                config.resource, *(f"{premise}{name}" for name in refused for premise in (IN_UPDATES, APART))
            )
    first, last = days
    if first is None and last is None:
        ledger.opened().replays.replay_everything(config.table, resend=force)
        capture()
        return
    days = (first or date.min, last or date.max)
    capture_days(ledger, config.table, days, resend=force, capture=capture)
