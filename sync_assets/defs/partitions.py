"""Daily partitions (UTC) of the table assets, dynamic partitions of opt-out files, and the tags of runs.

A row belongs to the partition of the day on which its change was captured; the rows of the first load belong to the
first day. Each export file has a partition; `opt_out/changes` has none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache

import dagster as dg
from sqlalchemy import exc

from sync_assets.config.installation import Installation
from sync_assets.errors import SyncAssetsError
from sync_assets.runtime.configuration import Configuration
from sync_assets.runtime.context import Runtime

TABLE_TAG = "sync/table"
"""Tag of every run of assets of this project: their tables, comma-separated, for display."""
INSTALLATION_TAG = "sync/installation"
"""Tag with the name of the installation, for display."""
LEDGER_TAG = ".dagster/sync_ledger"
"""Tag with the id of the ledger that a run works on. The UI hides it."""
FOLLOWS_TAG = ".dagster/sync_follows"
"""Tag of the run that follows all tables of an installation. The UI hides it."""
WORK = "opt-outs"
"""Used instead of a table in the tags of opt-out runs; the sensors request one at a time."""


@lru_cache(maxsize=8)
def opt_out_files(installation: str = "") -> dg.DynamicPartitionsDefinition:
    """Return the partitions of the export files of an installation, by its name."""
    return dg.DynamicPartitionsDefinition(name=Installation(installation).named("opt_out_files"))


def add_partition(instance: dg.DagsterInstance, partition: str, installation: str = "") -> None:
    """Add the partition of a file to the instance if it is missing.

    On SQLite, Dagster checks and inserts in two steps; another `sync` or a sensor may add the partition in between.
    """
    name = str(opt_out_files(installation).name)
    try:
        instance.add_dynamic_partitions(name, [partition])
    except exc.IntegrityError:
        if not instance.has_dynamic_partition(name, partition):
            raise


@lru_cache(maxsize=8)
def daily(start: date) -> dg.DailyPartitionsDefinition:
    """Return the partitions from `start` (`runs.start_date` of the configuration) to today, which is included."""
    return dg.DailyPartitionsDefinition(start_date=start.isoformat(), timezone="UTC", end_offset=1)


def today() -> str:
    """Return the key of today's partition (UTC), as in 2026-11-24."""
    return datetime.now(UTC).date().isoformat()


def last_day(start: date) -> Callable[[dg.ScheduleEvaluationContext], dg.RunRequest | dg.SkipReason]:
    """Return what requests the last whole day at a tick, from the day `start` on."""

    def requested(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        day = (context.scheduled_execution_time.astimezone(UTC) - timedelta(days=1)).date()
        return dg.RunRequest(partition_key=f"{day}") if day >= start else dg.SkipReason("No day is over yet.")

    return requested


def past_days(keys: Sequence[str]) -> tuple[date, date] | None:
    """Return the first and the last day of the partitions that lie before today; None if there are none.

    The partitions of a run are consecutive: Dagster gives it a range.
    """
    past = sorted(key for key in keys if key < today())
    return (date.fromisoformat(past[0]), date.fromisoformat(past[-1])) if past else None


def tables_of(run: dg.DagsterRun) -> set[str]:
    """Return the tables of a run, by its tag."""
    return set(run.tags.get(TABLE_TAG, "").split(", ")) - {""}


def installation_tags(configuration: Configuration) -> dict[str, str]:
    """Return INSTALLATION_TAG if the installation has a name."""
    return {INSTALLATION_TAG: name} if (name := configuration.installation.name) else {}


def run_tags(runtime: Runtime, *tables: str) -> dict[str, str]:
    """Return the tags of a run of these tables, else of the follower; of installation and ledger, which is opened."""
    tags = {TABLE_TAG: ", ".join(tables)} if tables else {FOLLOWS_TAG: "yes"}
    return tags | installation_tags(runtime) | {LEDGER_TAG: runtime.ledger.systems.identity()}


def is_foreign(run: dg.DagsterRun, ledger: str | None, location: str | None) -> bool:
    """Return True if a run belongs to another ledger or another code location; such runs are left alone.

    ledger, location: of the caller; None: not known, so that none is another one.
    """
    origin = run.remote_job_origin
    elsewhere = origin is not None and location is not None and origin.location_name != location
    return elsewhere or (ledger is not None and run.tags.get(LEDGER_TAG, ledger) != ledger)


def add_tags(context: dg.AssetExecutionContext | dg.OpExecutionContext, runtime: Runtime, *tables: str) -> None:
    """Add the tags for display and of the ledger to a run that Dagster's UI started, thus without tags.

    Each step of the run adds its own. No tables: it is the follower.
    """
    if {TABLE_TAG, FOLLOWS_TAG} & context.run.tags.keys() or not (
        run := context.instance.get_run_by_id(context.run_id)
    ):
        return
    tags = ({TABLE_TAG: ", ".join(tables)} if tables else {FOLLOWS_TAG: "yes"}) | installation_tags(runtime)
    for name, value in tags.items():
        tags[name] = ", ".join(dict.fromkeys([*run.tags.get(name, value).split(", "), *value.split(", ")]))
    with suppress(SyncAssetsError):  # the run reports it
        tags[LEDGER_TAG] = runtime.ledger.systems.identity()
    context.instance.add_run_tags(context.run_id, tags)
