"""Write the days of `results` to their store, delete old ones, and write those anew whose ids went since."""

import re
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import polars as pl

from sync_assets.config.models import Config
from sync_assets.errors import SyncAssetsError
from sync_assets.ledger import Ledger
from sync_assets.ledger.repositories.record_history import HISTORY, PRUNED
from sync_assets.ledger.repositories.results import ResultName
from sync_assets.results.stores import Store
from sync_assets.results.tables import day_of

ROW_GROUP = 100_000
_DAY = re.compile(r"day=(\d{4}-\d\d-\d\d)/")
PREVIEW = 5


class Written(NamedTuple):
    """The file of a day. size: bytes. head: its first rows."""

    file: str
    rows: int
    size: int
    head: pl.DataFrame


def folder(config: Config) -> str:
    """Return `results.to`; a relative folder as seen from the folder of the configuration file."""
    assert config.results
    to, line = config.results.to, config.line_of("results", "to")
    return to if "://" in to else str((Path(line[0]).parent if line else Path()) / to)


def write_day(ledger: Ledger, store: Store, name: ResultName, day: date, keep_days: int) -> Written:
    """Write a day (UTC) in place of the file that it has. Raises SyncAssetsError if the ledger lacks it."""
    if day < (first := _first_whole(ledger, name, keep_days)):
        raise SyncAssetsError(
            f"The ledger keeps the history of {first} and later, not of {day}.", "Choose a later day."
        )
    changes, file = ledger.results.changes(name, day), _file_of(name, day)
    with store.writing(file) as opened:
        day_of(ledger, name, day).sink_parquet(opened, row_group_size=ROW_GROUP)
        size = opened.seek(0, 2)
        opened.seek(0)
        rows = pl.scan_parquet(opened).select(pl.len()).collect().item()
        opened.seek(0)
        head = pl.read_parquet(opened, n_rows=PREVIEW)
    ledger.results.note_written(name, day, changes)
    return Written(f"{store.root.rstrip('/')}/{file}", rows, size, head)


def write_anew(ledger: Ledger, store: Store, name: ResultName, keep_days: int) -> list[date]:
    """Delete the days that are older than `keep_days`, write those anew of which ids went, and return the latter."""
    first, found = first_kept(keep_days), (_DAY.search(file) for file in store.names(name))
    stored = {date.fromisoformat(one[1]) for one in found if one}
    for day in sorted(day for day in stored if day < first):
        store.delete(_file_of(name, day))
    whole = _first_whole(ledger, name, keep_days)
    due = [day for day in ledger.results.due(name) if day in stored and day >= whole]
    for day in due:
        write_day(ledger, store, name, day, keep_days)
    return due


def _file_of(name: ResultName, day: date) -> str:
    return f"{name}/day={day}/{name}.parquet"


def first_kept(keep_days: int) -> date:
    """Return the first day whose file is kept."""
    return datetime.now(UTC).date() - timedelta(days=keep_days - 1)


def _first_whole(ledger: Ledger, name: ResultName, keep_days: int) -> date:
    """Return the first kept day of which no history was deleted, as it is while `results` is not configured."""
    pruned = None if name == "decisions" else ledger.events.facts(HISTORY).get(PRUNED)
    kept = first_kept(keep_days)
    return max(kept, date.fromisoformat(pruned) + timedelta(days=1)) if pruned else kept
