"""Delete old events and check results from Dagster's storage by SQL. The only module that accesses Dagster's tables.

Needed because Dagster has no API for it: Dagster deletes events only with their run, and with them those by which a
partition counts as materialised. It never deletes check results, events without a run, the SQLite database of a deleted
run, or unused pages of SQLite files. All names imported from `dagster._core` are private; a test of this module fails
if one of them changes.

Invariant: events that must outlive their run are turned into events without a run, as sensors report them.
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
"""Event types of which Dagster needs the last event of each partition, or of the asset."""
ANSWERED = ("SUCCEEDED", "FAILED")
"""Execution statuses of completed checks."""
AT_ONCE = 500
"""Rows of one transaction: few, since Dagster waits only seconds for a lock on its databases."""
ORPHAN_AGE = timedelta(days=1)
"""The database of an unknown run is removed only from this age on, since the run may be newer than the list of runs."""
REBUILD_FREE_SHARE, REBUILD_FREE_BYTES, REBUILD_MOST_BYTES = 0.25, 1_000_000, 500_000_000
"""A SQLite file is rebuilt if at least this share and this number of bytes of it are unused. Dagster cannot write
meanwhile; a file with more used bytes than the last number would take too long."""
BUSY_SECONDS = 5.0
"""How long a rebuild waits for a lock on the file."""

_E, _T, _C = SqlEventLogStorageTable.c, AssetEventTagsTable.c, AssetCheckExecutionsTable.c
Connect = Callable[[], AbstractContextManager[Connection]]


class Last(NamedTuple):
    """The last row of a partition, or of a day if it has no partition.

    Attributes:
        row_id: Primary key of the row.
        of: The group that it is the last row of: asset and event type, or asset and check.
        partition: None if the row has none.
        day: The UTC day of the row; None if it has a partition or no time.
    """

    row_id: int
    of: tuple[str, ...]
    partition: str | None
    day: date | None


class History:
    """The stored events and check results of some assets on a Dagster instance, which may have others."""

    def __init__(self, instance: dg.DagsterInstance, assets: Iterable[dg.AssetKey]) -> None:
        self._instance = instance
        self._assets = [key.to_string() for key in assets]
        self._storage = sql_storage(instance)

    # --- Events --------------------------------------------------------------------------------------------------

    def kept_events(self, days_since: datetime) -> set[int]:
        """Return the ids of events that must outlive their runs.

        Of each asset and event type: the last event of each partition; of events without a partition, the last one of
        each day since `days_since`, and the last one of all.
        """
        of_day = sa.case((_E.partition.is_(None), sa.func.date(_E.timestamp)))
        query = (
            sa.select(sa.func.max(_E.id), _E.asset_key, _E.dagster_event_type, _E.partition, of_day)
            .where(_E.asset_key.in_(self._assets), _E.dagster_event_type.in_(LASTING))
            .group_by(_E.asset_key, _E.dagster_event_type, _E.partition, of_day)
        )
        with self._storage.index_connection() as connection:
            rows = connection.execute(query).fetchall()
        return to_keep((Last(row[0], (row[1], row[2]), row[3], _day(row[4])) for row in rows), days_since.date())

    def release(self, run_ids: Collection[str], kept: Collection[int]) -> None:
        """Detach the kept events from these runs, so that they stay when the runs are deleted."""
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
        """Delete events older than `before` that belong to none of `runs` and are not kept.

        Args:
            before: Time limit, with a time zone.
            kept: Ids of events to keep.
            runs: Ids of all existing runs.

        Returns:
            The number of deleted events.
        """
        deleted = 0
        for old in self._old(_E.id, _E.run_id, self._events(before), kept, runs):
            with self._storage.index_connection() as connection:
                connection.execute(sa.delete(AssetEventTagsTable).where(_T.event_id.in_(old)))
                connection.execute(sa.delete(SqlEventLogStorageTable).where(_E.id.in_(old)))
            deleted += len(old)
        self._prune_copies(before)
        return deleted

    def _prune_copies(self, before: datetime) -> None:
        """Delete old events from SQLite's database of events without a run: copies of the index that nothing reads."""
        storage = self._storage
        if isinstance(storage, SqliteEventLogStorage) and Path(storage.path_for_shard(RUNLESS_RUN_ID)).exists():
            with storage.run_connection(RUNLESS_RUN_ID) as connection:
                connection.execute(sa.delete(SqlEventLogStorageTable).where(self._events(before)))

    def _events(self, before: datetime) -> sa.ColumnElement[bool]:
        return sa.and_(_E.asset_key.in_(self._assets), _E.timestamp < _naive(before))

    # --- Checks --------------------------------------------------------------------------------------------------

    def kept_checks(self, days_since: datetime) -> dict[int, int | None]:
        """Return the ids of check results that must outlive their runs, each with the id of its event (None: no event).

        Of each check: the last result of each day since `days_since`, and the last one of all.
        """
        of_day = sa.func.date(_C.evaluation_event_timestamp)
        query = (
            sa.select(sa.func.max(_C.id), _C.asset_key, _C.check_name, of_day)
            .where(_C.asset_key.in_(self._assets), _C.execution_status.in_(ANSWERED))
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
        """Delete check results, also of checks that never completed, in the same way as `prune_events`."""
        deleted = 0
        is_old = sa.and_(_C.asset_key.in_(self._assets), _C.evaluation_event_timestamp < _naive(before))
        for old in self._old(_C.id, _C.run_id, is_old, kept, runs):
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
        """Yield, in batches, the ids of old rows that are not kept and belong to none of `runs`."""
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
        """Remove the SQLite databases of runs that no longer exist, from ORPHAN_AGE on. Return how many."""
        if not isinstance(self._storage, SqliteEventLogStorage):
            return 0
        removed = 0
        for run_id in self._storage.get_all_run_ids():
            file = Path(self._storage.path_for_shard(run_id))
            # On Windows a file that is open cannot be removed; the next call removes it.
            with suppress(OSError):
                if run_id not in runs and _age(file, now) > ORPHAN_AGE:
                    remove_database(file)
                    removed += 1
        return removed

    def remove_database_of(self, run_id: str) -> None:
        """Remove the SQLite database of a deleted run: Dagster deletes its events, but not the file."""
        if isinstance(self._storage, SqliteEventLogStorage):
            with suppress(OSError):
                remove_database(Path(self._storage.path_for_shard(run_id)))

    def compact(self) -> int:
        """Rebuild SQLite files with many unused pages. Return the number of bytes given back to the disk.

        Safe while Dagster works: reads go on, writes wait.
        """
        return sum(rebuilt(file) for file in self._shared_files())

    def _shared_files(self) -> list[Path]:
        """Return the instance's SQLite files except those of single runs; none if the storage is not SQLite on disk."""
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
    """Return the rows to keep: the last ones of partitions, of days since `days_since`, and of each group. Pure."""
    kept: set[int] = set()
    newest: dict[tuple[str, ...], int] = {}
    for last in lasts:
        if last.partition is None:
            newest[last.of] = max(newest.get(last.of, 0), last.row_id)
        if last.partition is not None or (last.day and last.day >= days_since):
            kept.add(last.row_id)
    return kept | set(newest.values())


def without_run(event: str) -> str:
    """Convert a stored event (JSON) into one without a run. Pure."""
    return json.dumps({**json.loads(event), "run_id": RUNLESS_RUN_ID})


def rebuilt(file: Path) -> int:
    """Rebuild a SQLite file if much of it is unused.

    Returns:
        The number of bytes given back to the disk: 0 if little is unused, if the file is too large, or if Dagster holds
        a lock on it for longer than BUSY_SECONDS.
    """
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
    """Remove a SQLite file with its write-ahead log."""
    for end in ("-wal", "-shm", ""):
        file.with_name(file.name + end).unlink(missing_ok=True)


def sql_storage(instance: dg.DagsterInstance) -> SqlEventLogStorage:
    """Return the event log storage. All of Dagster's are SQL storages: SQLite, PostgreSQL, in memory."""
    storage = unwrapped(instance.event_log_storage, "event_log_storage")
    assert isinstance(storage, SqlEventLogStorage)
    return storage


def unwrapped(storage: Any, name: str) -> Any:
    """Return the storage inside Dagster's wrapper: Dagster wraps one storage of all purposes into one for each."""
    inner = getattr(storage, "_storage", None)
    return storage if inner is None else getattr(inner, name)


def _open(file: Path) -> sqlite3.Connection:
    return sqlite3.connect(file, timeout=BUSY_SECONDS, isolation_level=None)


def _age(file: Path, now: datetime) -> timedelta:
    return now - datetime.fromtimestamp(file.stat().st_mtime, UTC)


def _naive(moment: datetime) -> datetime:
    """Return a time as Dagster stores it: UTC without a time zone."""
    return moment.astimezone(UTC).replace(tzinfo=None)


def _day(value: Any) -> date | None:
    """Return the day of a SQL result, which is text from SQLite and a date from PostgreSQL."""
    return date.fromisoformat(value) if isinstance(value, str) else value


def _batches(rows: Sequence[int]) -> Iterator[Sequence[int]]:
    for begin in range(0, len(rows), AT_ONCE):
        yield rows[begin : begin + AT_ONCE]
