"""Delete this project's old runs, events and check results from the Dagster instance (`prune_history`).

Kept: the last event of each partition, so that it counts as materialised for good; of assets without partitions, and of
each check, the last one of each day, and after `FAILED_FACTOR` times the retention only the very last one. So the
history grows by some kilobytes a day, however much changes.

Runs are read and deleted by Dagster's public methods. What these cannot do is SQL here, and nowhere else: keep an event
of a deleted run, and delete events without a run, check results and the SQLite database of a deleted run (measured in
docs/dev/decisions/dagster-history.md). All names imported from `dagster._core` are private; a test of this module fails
if one of them changes.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

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

from sync_assets.commands.history import prune_records
from sync_assets.defs.asset_keys import all_keys
from sync_assets.defs.partitions import LEDGER_TAG, is_foreign, today
from sync_assets.ledger import Ledger
from sync_assets.runtime.configuration import Configuration

FAILED_FACTOR = 4
"""Failed runs are kept this many times as long as others."""
KEPT_EVENT_TYPES = ("ASSET_MATERIALIZATION", "ASSET_OBSERVATION", "FRESHNESS_STATE_CHANGE")
"""Event types of which Dagster needs the last event of each partition, or of the asset."""
COMPLETED_STATUSES = ("SUCCEEDED", "FAILED")
"""Execution statuses of completed checks."""
BATCH_ROWS = 500
"""Rows of one transaction: few, since Dagster waits only seconds for a lock on its databases."""
ORPHAN_AGE = timedelta(days=1)
"""The database of an unknown run is removed only from this age on, since the run may be newer than the list of runs."""

_ENDED = {
    1: [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.CANCELED],
    FAILED_FACTOR: [dg.DagsterRunStatus.FAILURE],
}
_E, _T, _C = SqlEventLogStorageTable.c, AssetEventTagsTable.c, AssetCheckExecutionsTable.c


@dataclass(frozen=True, slots=True)
class ProjectScope:
    """The objects of the instance that belong to this project. The runs and events of other projects are never touched.

    Attributes:
        assets: Their events and check results, and runs of no other asset.
        jobs: Runs of these jobs.
        ledger: Its id, which the runs of sensors and of the command line have as a tag. Runs of another one are never
            touched.
        location: Name of the code location; None if the caller is in none. Runs of another one are never touched.
    """

    assets: frozenset[dg.AssetKey]
    jobs: frozenset[str] = frozenset()
    ledger: str = ""
    location: str | None = None

    def has(self, run: dg.DagsterRun) -> bool:
        """Return True if the run belongs to this project."""
        if run.remote_job_origin is None:
            return run.tags.get(LEDGER_TAG) == self.ledger
        if self.location is None or is_foreign(run, self.ledger, self.location):
            return False
        selected = {*(run.asset_selection or ()), *(check.asset_key for check in run.asset_check_selection or ())}
        return selected <= self.assets if selected else run.job_name in self.jobs


def prune_project(
    configuration: Configuration,
    ledger: Ledger,
    instance: dg.DagsterInstance,
    jobs: Collection[str] = (),
    location: str | None = None,
) -> Counter[str]:
    """Delete old runs and events of the project, by `prune_history`, and old history of records.

    jobs, location: see ProjectScope; without them, the runs of the command line are deleted.
    """
    owned = ProjectScope(all_keys(configuration), frozenset(jobs), ledger.systems.identity(), location)
    deleted = prune_history(instance, owned, configuration.config.runs.keep_days, datetime.now(UTC))
    deleted["records"] = prune_records(configuration.config, ledger)
    return deleted


def prune_daily(configuration: Configuration, ledger: Ledger, instance: dg.DagsterInstance) -> None:
    """Delete what `sync` left in the history, unless that was tried today (UTC) for this ledger."""
    name = f"sync_assets/pruned/{ledger.systems.identity()}"
    if instance.run_storage.get_cursor_values({name}).get(name) != today():
        instance.run_storage.set_cursor_values({name: today()})
        prune_project(configuration, ledger, instance)


def prune_history(instance: dg.DagsterInstance, owned: ProjectScope, keep_days: int, now: datetime) -> Counter[str]:
    """Delete runs that ended more than `keep_days` ago, and events and check results of that age without a run.

    Failed runs are deleted after `FAILED_FACTOR` times `keep_days`. Ticks are deleted by Dagster itself (`retention` in
    `dagster.yaml`). Safe while Dagster works; can be stopped and repeated at any moment.

    Returns:
        The number of deleted runs by status, of `events` and `checks`.
    """
    storage = StoredEvents(instance, owned.assets)
    before, days_since = now - timedelta(days=keep_days), now - timedelta(days=keep_days * FAILED_FACTOR)
    kept, deleted, deleted_runs = storage.kept_events(days_since), Counter[str](), set[str]()
    for factor, statuses in _ENDED.items():
        filters = dg.RunsFilter(statuses=statuses, updated_before=now - timedelta(days=keep_days * factor))
        for run in [run for run in instance.get_runs(filters) if owned.has(run)]:
            storage.detach(run.run_id, kept)
            instance.delete_run(run.run_id)
            # Output stored elsewhere (S3, for example) may be protected from deletion: that storage has its retention.
            with suppress(Exception):
                instance.compute_log_manager.delete_logs(prefix=[run.run_id])
            deleted[run.status.value.lower()] += 1
            deleted_runs.add(run.run_id)
    existing = set(instance.get_run_ids())
    deleted["checks"] = storage.delete_checks(before, storage.kept_checks(days_since), existing)
    deleted["events"] = storage.delete_events(before, kept)
    storage.remove_databases(existing, deleted_runs, now)
    return deleted


class StoredEvents:
    """The stored events and check results of some assets on a Dagster instance, which may have others.

    Invariant: events that must outlive their run become events without a run, as sensors report them.
    """

    def __init__(self, instance: dg.DagsterInstance, assets: Iterable[dg.AssetKey]) -> None:
        self._instance, self._storage = instance, sql_storage(instance)
        keys = [key.to_string() for key in assets]
        self._lasting = sa.and_(_E.asset_key.in_(keys), _E.dagster_event_type.in_(KEPT_EVENT_TYPES))
        self._events, self._checks = _E.asset_key.in_(keys), _C.asset_key.in_(keys)

    def kept_events(self, days_since: datetime) -> set[int]:
        """Return the ids of events that must outlive their runs.

        Of each asset and event type: the last event of each partition; of events without a partition, the last one of
        each day since `days_since`, and the last one of all.
        """
        columns, without = (_E.asset_key, _E.dagster_event_type), sa.and_(self._lasting, _E.partition.is_(None))
        recent = sa.and_(without, _E.timestamp >= _midnight(days_since))
        return {
            *self._last(_E.id, self._lasting, *columns, _E.partition),
            *self._last(_E.id, recent, *columns, sa.func.date(_E.timestamp)),
        }

    def kept_checks(self, days_since: datetime) -> set[int]:
        """Return the ids of check results that must outlive their runs and their events.

        Of each check: the last result of each day since `days_since`, and the last one of all.
        """
        answered, at = sa.and_(self._checks, _C.execution_status.in_(COMPLETED_STATUSES)), _C.evaluation_event_timestamp
        recent, columns = sa.and_(answered, at >= _midnight(days_since)), (_C.asset_key, _C.check_name)
        return {*self._last(_C.id, answered, *columns), *self._last(_C.id, recent, *columns, sa.func.date(at))}

    def detach(self, run_id: str, kept: Collection[int]) -> None:
        """Turn the kept events of a run into events without a run, so that they stay when the run is deleted."""
        of_run = sa.select(_E.id).where(_E.run_id == run_id, _E.dagster_event_type.in_(KEPT_EVENT_TYPES))
        for batch in _batches([row[0] for row in self._rows(of_run) if row[0] in kept]):
            with self._storage.index_connection() as connection:
                for row_id, event in connection.execute(sa.select(_E.id, _E.event).where(_E.id.in_(batch))).fetchall():
                    detached = {"run_id": RUNLESS_RUN_ID, "event": without_run(event)}
                    connection.execute(sa.update(SqlEventLogStorageTable).where(_E.id == row_id).values(detached))

    def delete_events(self, before: datetime, kept: Collection[int]) -> int:
        """Delete events without a run that are older than `before`, but the kept ones. Return how many.

        SQLite has copies of them in a database of their own, which nothing reads.
        """
        old = sa.and_(self._events, _E.run_id == RUNLESS_RUN_ID, _E.timestamp < _naive(before))
        ids = [row[0] for row in self._rows(sa.select(_E.id).where(old)) if row[0] not in kept]
        for batch in _batches(ids):
            with self._storage.index_connection() as connection:
                connection.execute(sa.delete(AssetEventTagsTable).where(_T.event_id.in_(batch)))
                connection.execute(sa.delete(SqlEventLogStorageTable).where(_E.id.in_(batch)))
        if isinstance(self._storage, SqliteEventLogStorage) and self._file(RUNLESS_RUN_ID).exists():
            with self._storage.run_connection(RUNLESS_RUN_ID) as connection:
                connection.execute(sa.delete(SqlEventLogStorageTable).where(old))
        return len(ids)

    def delete_checks(self, before: datetime, kept: Collection[int], runs: Collection[str]) -> int:
        """Delete check results that are older than `before` and belong to none of `runs`, but the kept ones.

        Among them are checks that never completed. Return how many.
        """
        old = sa.and_(self._checks, _C.evaluation_event_timestamp < _naive(before))
        rows = self._rows(sa.select(_C.id, _C.run_id).where(old))
        ids = [row_id for row_id, run_id in rows if row_id not in kept and not (run_id and run_id in runs)]
        for batch in _batches(ids):
            with self._storage.index_connection() as connection:
                connection.execute(sa.delete(AssetCheckExecutionsTable).where(_C.id.in_(batch)))
        return len(ids)

    def remove_databases(self, existing: Collection[str], deleted: Collection[str], now: datetime) -> None:
        """Remove the SQLite databases of the runs that are gone, and from ORPHAN_AGE on those of unknown runs."""
        if not isinstance(self._storage, SqliteEventLogStorage):
            return
        for run_id in set(self._storage.get_all_run_ids()) - set(existing):
            file = self._file(run_id)
            with suppress(OSError):  # the next call removes it
                if run_id in deleted or now - datetime.fromtimestamp(file.stat().st_mtime, UTC) > ORPHAN_AGE:
                    for end in ("-wal", "-shm", ""):
                        file.with_name(file.name + end).unlink(missing_ok=True)

    def _file(self, run_id: str) -> Path:
        assert isinstance(self._storage, SqliteEventLogStorage)
        return Path(self._storage.path_for_shard(run_id))

    def _last(self, row_id: Any, where: Any, *group: Any) -> list[int]:
        """Return the id of the last row of each group."""
        return [row[0] for row in self._rows(sa.select(sa.func.max(row_id)).where(where).group_by(*group))]

    def _rows(self, query: sa.Executable) -> Sequence[Any]:
        with self._storage.index_connection() as connection:
            return connection.execute(query).fetchall()


def without_run(event: str) -> str:
    """Convert a stored event (JSON) into one without a run. Pure."""
    return json.dumps({**json.loads(event), "run_id": RUNLESS_RUN_ID})


def sql_storage(instance: dg.DagsterInstance) -> SqlEventLogStorage:
    """Return the event log storage. All of Dagster's are SQL storages: SQLite, PostgreSQL, in memory."""
    storage = unwrapped(instance.event_log_storage, "event_log_storage")
    assert isinstance(storage, SqlEventLogStorage)
    return storage


def unwrapped(storage: Any, name: str) -> Any:
    """Return the storage inside Dagster's wrapper: Dagster wraps one storage of all purposes into one for each."""
    inner = getattr(storage, "_storage", None)
    return storage if inner is None else getattr(inner, name)


def _naive(moment: datetime) -> datetime:
    """Return a time as Dagster stores it: UTC without a time zone."""
    return moment.astimezone(UTC).replace(tzinfo=None)


def _midnight(moment: datetime) -> datetime:
    return _naive(moment).replace(hour=0, minute=0, second=0, microsecond=0)


def _batches(rows: Sequence[int]) -> Iterator[Sequence[int]]:
    for begin in range(0, len(rows), BATCH_ROWS):
        yield rows[begin : begin + BATCH_ROWS]
