"""SQL on Dagster's storage, for what Dagster has no API: the only module that reads and writes its tables.

Dagster deletes events by run only, and with those of a run the ones by which a partition counts as materialised. It
never removes answers of checks, events without a run, the SQLite database of a deleted run, or the pages that SQLite no
longer uses. Each name of Dagster's that is used here is private; a test of this module fails if one of them moves.

Events that must outlive their run become events without a run, as those that sensors report.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, suppress
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import dagster as dg
import sqlalchemy as sa
from dagster._core.instance import RUNLESS_RUN_ID
from dagster._core.storage.event_log.schema import (
    AssetCheckExecutionsTable,
    AssetEventTagsTable,
    SqlEventLogStorageTable,
)
from dagster._core.storage.event_log.sql_event_log import SqlEventLogStorage
from dagster._core.storage.event_log.sqlite.sqlite_event_log import SqliteEventLogStorage
from sqlalchemy.engine import Connection

LASTING = ("ASSET_MATERIALIZATION", "ASSET_OBSERVATION", "FRESHNESS_STATE_CHANGE")
"""Types of events of which the last one counts: for a partition, or for the asset."""
ANSWERED = ("SUCCEEDED", "FAILED")
AT_ONCE = 500
"""Rows, or runs, of one transaction: Dagster waits seconds for a lock on its databases."""
ORPHAN_AGE = timedelta(days=1)
REBUILD_FREE_SHARE, REBUILD_FREE_BYTES, REBUILD_MOST_BYTES = 0.25, 1_000_000, 500_000_000
"""A SQLite file is rebuilt if more than that share and so many bytes of it are unused. While it is, Dagster cannot
write; a file with more content than the last figure would take too long."""
BUSY_SECONDS = 5.0

_E, _T, _C = SqlEventLogStorageTable.c, AssetEventTagsTable.c, AssetCheckExecutionsTable.c
Connect = Callable[[], AbstractContextManager[Connection]]


class Last(NamedTuple):
    """The last row of a partition, or of a day where there is no partition. `of`: what it is the last one of."""

    row_id: int
    of: tuple[str, ...]
    partition: str | None
    day: date | None


class History:
    """The events and checks that a Dagster instance has stored."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self._instance = instance
        self._storage = sql_storage(instance)

    # --- Events --------------------------------------------------------------------------------------------------

    def kept_events(self, days_since: datetime) -> set[int]:
        """The events that outlive their runs: the last one of each partition; without partitions, the last one of each
        day since `days_since`, and of the asset.
        """
        of_day = sa.case((_E.partition.is_(None), sa.func.date(_E.timestamp)))
        query = (
            sa.select(sa.func.max(_E.id), _E.asset_key, _E.dagster_event_type, _E.partition, of_day)
            .where(_E.asset_key.is_not(None), _E.dagster_event_type.in_(LASTING))
            .group_by(_E.asset_key, _E.dagster_event_type, _E.partition, of_day)
        )
        with self._storage.index_connection() as connection:
            rows = connection.execute(query).fetchall()
        return to_keep((Last(row[0], (row[1], row[2]), row[3], _day(row[4])) for row in rows), days_since.date())

    def release(self, run_ids: Collection[str], kept: Collection[int]) -> None:
        """Take the kept events of these runs out of them, so that they stay when the runs are deleted."""
        of_runs = sa.select(_E.id).where(_E.run_id.in_(run_ids), _E.dagster_event_type.in_(LASTING))
        with self._storage.index_connection() as connection:
            wanted = [row_id for (row_id,) in connection.execute(of_runs).fetchall() if row_id in kept]
        for some in _batches(wanted):
            with self._storage.index_connection() as connection:
                events = connection.execute(sa.select(_E.id, _E.event).where(_E.id.in_(some))).fetchall()
                for row_id, event in events:
                    released = {"run_id": RUNLESS_RUN_ID, "event": without_run(event)}
                    connection.execute(sa.update(SqlEventLogStorageTable).where(_E.id == row_id).values(released))

    def prune_events(self, before: datetime, kept: Collection[int], runs: Collection[str]) -> int:
        """Delete events that are older than `before`, belong to none of `runs` and are not kept. Returns how many."""
        deleted = 0
        for old in self._old(_E.id, _E.run_id, _E.timestamp < _naive(before), kept, runs):
            with self._storage.index_connection() as connection:
                connection.execute(sa.delete(AssetEventTagsTable).where(_T.event_id.in_(old)))
                connection.execute(sa.delete(SqlEventLogStorageTable).where(_E.id.in_(old)))
            deleted += len(old)
        self._prune_copies(before)
        return deleted

    def _prune_copies(self, before: datetime) -> None:
        """SQLite has events without a run twice, in the index and in a database of their own, which nothing reads."""
        storage = self._storage
        if isinstance(storage, SqliteEventLogStorage) and Path(storage.path_for_shard(RUNLESS_RUN_ID)).exists():
            with storage.run_connection(RUNLESS_RUN_ID) as connection:
                connection.execute(sa.delete(SqlEventLogStorageTable).where(_E.timestamp < _naive(before)))

    # --- Checks --------------------------------------------------------------------------------------------------

    def kept_checks(self, days_since: datetime) -> dict[int, int | None]:
        """The answers that outlive their runs, each with its event: the last one of each check, and of each day since
        `days_since`."""
        of_day = sa.func.date(_C.evaluation_event_timestamp)
        query = (
            sa.select(sa.func.max(_C.id), _C.asset_key, _C.check_name, of_day)
            .where(_C.execution_status.in_(ANSWERED))
            .group_by(_C.asset_key, _C.check_name, of_day)
        )
        with self._storage.index_connection() as connection:
            rows = connection.execute(query).fetchall()
            kept = to_keep((Last(row[0], (row[1], row[2]), None, _day(row[3])) for row in rows), days_since.date())
            found: dict[int, int | None] = {}
            for some in _batches(sorted(kept)):
                events = sa.select(_C.id, _C.evaluation_event_storage_id).where(_C.id.in_(some))
                found |= {row[0]: row[1] for row in connection.execute(events)}
        return found

    def prune_checks(self, before: datetime, kept: Collection[int], runs: Collection[str]) -> int:
        """The same as `prune_events` of what checks answered, or never did."""
        deleted = 0
        for old in self._old(_C.id, _C.run_id, _C.evaluation_event_timestamp < _naive(before), kept, runs):
            with self._storage.index_connection() as connection:
                connection.execute(sa.delete(AssetCheckExecutionsTable).where(_C.id.in_(old)))
            deleted += len(old)
        return deleted

    def _old(
        self,
        row_id: sa.Column[int],
        run: sa.Column[str],
        is_old: sa.ColumnElement[bool],
        kept: Collection[int],
        runs: Collection[str],
    ) -> Iterator[list[int]]:
        """The ids of old rows that are not kept and belong to none of `runs`, in batches."""
        last = 0
        while True:
            query = sa.select(row_id, run).where(row_id > last, is_old).order_by(row_id).limit(AT_ONCE)
            with self._storage.index_connection() as connection:
                rows = connection.execute(query).fetchall()
            if not rows:
                return
            last = rows[-1][0]
            if old := [one for one, run_id in rows if one not in kept and (not run_id or run_id not in runs)]:
                yield old

    # --- Files of SQLite -----------------------------------------------------------------------------------------

    def remove_databases(self, runs: Collection[str], now: datetime) -> int:
        """Remove the databases that belong to none of `runs` and are not quite new. Returns how many."""
        if not isinstance(self._storage, SqliteEventLogStorage):
            return 0
        removed = 0
        for run_id in self._storage.get_all_run_ids():
            file = Path(self._storage.path_for_shard(run_id))
            # One that is held open where that forbids it, as on Windows, is removed the next time.
            with suppress(OSError):
                if run_id not in runs and _age(file, now) > ORPHAN_AGE:
                    remove_database(file)
                    removed += 1
        return removed

    def remove_database_of(self, run_id: str) -> None:
        """Remove the database of a deleted run, which Dagster leaves behind without its events."""
        if isinstance(self._storage, SqliteEventLogStorage):
            with suppress(OSError):
                remove_database(Path(self._storage.path_for_shard(run_id)))

    def compact(self) -> int:
        """Give unused pages of SQLite's files back to the disk. Safe while Dagster works: it reads on, and waits with
        what it writes. Returns how many bytes."""
        return sum(rebuilt(file) for file in self._shared_files())

    def _shared_files(self) -> list[Path]:
        """Of all databases but those of runs. None where the storage is no SQLite on disk."""
        connects: list[Connect] = [self._storage.index_connection]
        for name in ("run_storage", "schedule_storage"):
            connect = getattr(unwrapped(getattr(self._instance, name), name), "connect", None)
            connects += [connect] if connect else []
        files: list[Path] = []
        for connect in connects:
            with connect() as connection:
                if connection.dialect.name == "sqlite":
                    _, _, file = connection.execute(sa.text("PRAGMA database_list")).one()
                    files += [Path(file)] if file else []
        if isinstance(self._storage, SqliteEventLogStorage):
            files.append(Path(self._storage.path_for_shard(RUNLESS_RUN_ID)))
        return files


def to_keep(lasts: Iterable[Last], days_since: date) -> set[int]:
    """All that are the last ones of partitions; of days those since `days_since`, and the last one of all. Pure."""
    kept: set[int] = set()
    newest: dict[tuple[str, ...], int] = {}
    for last in lasts:
        if last.partition is None:
            newest[last.of] = max(newest.get(last.of, 0), last.row_id)
        if last.partition is not None or (last.day and last.day >= days_since):
            kept.add(last.row_id)
    return kept | set(newest.values())


def without_run(event: str) -> str:
    """A stored event as one without a run. Pure."""
    return json.dumps({**json.loads(event), "run_id": RUNLESS_RUN_ID})


def rebuilt(file: Path) -> int:
    """Rebuild a SQLite file if much of it is unused. Returns how many bytes that gave back: 0 if it was not worth it,
    or if Dagster would not let go of it."""
    if not file.exists():
        return 0
    before = file.stat().st_size
    with suppress(sqlite3.OperationalError), closing(_open(file)) as database:
        page, pages, free = (
            int(database.execute(f"PRAGMA {name}").fetchone()[0])
            for name in ("page_size", "page_count", "freelist_count")
        )
        if free * page < REBUILD_FREE_BYTES or free < pages * REBUILD_FREE_SHARE:
            return 0
        if (pages - free) * page > REBUILD_MOST_BYTES:
            return 0
        database.execute("VACUUM")
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return max(0, before - file.stat().st_size)


def remove_database(file: Path) -> None:
    """Remove a SQLite file with its log."""
    for end in ("-wal", "-shm", ""):
        file.with_name(file.name + end).unlink(missing_ok=True)


def sql_storage(instance: dg.DagsterInstance) -> SqlEventLogStorage:
    """The storage of events. All that Dagster has are of this kind, in SQLite, in PostgreSQL and in memory."""
    storage = unwrapped(instance.event_log_storage, "event_log_storage")
    assert isinstance(storage, SqlEventLogStorage)
    return storage


def unwrapped(storage: Any, name: str) -> Any:
    """The storage itself: Dagster wraps one for all purposes into one for each."""
    inner = getattr(storage, "_storage", None)
    return storage if inner is None else getattr(inner, name)


def _open(file: Path) -> sqlite3.Connection:
    return sqlite3.connect(file, timeout=BUSY_SECONDS, isolation_level=None)


def _age(file: Path, now: datetime) -> timedelta:
    return now - datetime.fromtimestamp(file.stat().st_mtime, UTC)


def _naive(moment: datetime) -> datetime:
    """As Dagster stores it: UTC without a time zone."""
    return moment.astimezone(UTC).replace(tzinfo=None)


def _day(value: Any) -> date | None:
    """SQLite gives a date as text."""
    return date.fromisoformat(value) if isinstance(value, str) else value


def _batches(rows: Sequence[int]) -> Iterator[Sequence[int]]:
    for begin in range(0, len(rows), AT_ONCE):
        yield rows[begin : begin + AT_ONCE]
