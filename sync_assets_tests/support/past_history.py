"""A history of the past, written through Dagster's storage: copies of one real run, at other times, of other days."""

# No `from __future__ import annotations`: Dagster looks at the type of `context` itself.

import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._core.events.log import EventLogEntry

from sync_assets.cli.instance import PACKAGED
from sync_assets.defs.history import ProjectScope
from sync_assets.defs.partitions import LEDGER_TAG, TABLE_TAG
from sync_assets_tests.support.orchestra import job_origin

FIRST = date(2026, 1, 1)
DAILY = dg.DailyPartitionsDefinition(start_date=FIRST.isoformat(), timezone="UTC", end_offset=1)
ROWS, RECORDS, AUDIT = dg.AssetKey("rows"), dg.AssetKey("records"), dg.AssetKey("audit")
READY = dg.AssetCheckKey(ROWS, "ready")
THEIRS = dg.AssetKey("their_rows")
"""An asset of another project on the instance."""
OWNED = ProjectScope(frozenset({ROWS, RECORDS, AUDIT}), jobs=frozenset({"sync"}), ledger="ours")
"""What of this history belongs to the project."""


@dg.multi_asset(
    specs=[dg.AssetSpec(key, partitions_def=DAILY) for key in (ROWS, RECORDS)],
    check_specs=[dg.AssetCheckSpec(READY.name, asset=ROWS)],
)
def work(context: dg.AssetExecutionContext) -> Iterator[Any]:
    for key in (ROWS, RECORDS):
        context.log_event(dg.AssetMaterialization(key, partition=context.partition_key, metadata={"so far": 1}))
        context.add_asset_metadata({"rows": 1, "more": "x" * 2000}, asset_key=key, partition_key=context.partition_key)
        checks = [dg.AssetCheckResult(passed=True, check_name=READY.name)] if key == ROWS else []
        yield dg.MaterializeResult(asset_key=key, check_results=checks)


@dataclass
class Past:
    """Writes into `instance`. `runs`: those that were written, in order."""

    instance: dg.DagsterInstance
    runs: list[str] = field(default_factory=list[str])

    @cached_property
    def _template(self) -> list[EventLogEntry]:
        with dg.DagsterInstance.ephemeral() as instance:
            done = dg.materialize([work], instance=instance, partition_key=FIRST.isoformat())
            return list(instance.all_logs(done.run_id))

    def run(
        self,
        at: datetime,
        status: dg.DagsterRunStatus = dg.DagsterRunStatus.SUCCESS,
        location: str | None = None,
        *,
        theirs: bool = False,
        ledger: str = "ours",
    ) -> str:
        """A run of that day's partition which ended a second after `at`.

        location: the code location from which it was launched; None: by the command line. theirs: of another project.
        ledger: the id of its ledger.
        """
        run_id, day = str(uuid.uuid4()), at.date().isoformat()
        status_before = dg.DagsterRunStatus.STARTED
        tags = {} if theirs else {TABLE_TAG: "contact", LEDGER_TAG: ledger}
        origin = job_origin(location) if location else None
        job = "their_job" if theirs else "sync"
        started = dg.DagsterRun(job, run_id=run_id, status=status_before, tags=tags, remote_job_origin=origin)
        self.instance.run_storage.add_historical_run(started, at.replace(tzinfo=None))
        for number, entry in enumerate(self._template):
            text = dg.serialize_value(entry).replace(FIRST.isoformat(), day)
            if theirs:
                text = text.replace('"rows"', '"their_rows"').replace('"records"', '"their_records"')
            if status is dg.DagsterRunStatus.FAILURE:
                text = text.replace("PIPELINE_SUCCESS", "PIPELINE_FAILURE")
            moved = dg.deserialize_value(text, EventLogEntry)
            copied = moved._replace(run_id=run_id, timestamp=at.timestamp() + number / len(self._template))
            self.instance.event_log_storage.store_event(copied)
            event = copied.dagster_event
            if event and event.event_type_value in ("PIPELINE_SUCCESS", "PIPELINE_FAILURE"):
                ended = (at + timedelta(seconds=1)).replace(tzinfo=None)
                self.instance.run_storage.handle_run_event(run_id, event, ended)
        self.runs.append(run_id)
        return run_id

    def report(self, at: datetime, event: dg.AssetMaterialization | dg.AssetCheckEvaluation) -> None:
        """An event without a run, as sensors report it."""
        with dg.DagsterInstance.ephemeral() as instance:
            instance.report_runless_asset_event(event)
            [entry] = instance.all_logs("")
        self.instance.event_log_storage.store_event(entry._replace(timestamp=at.timestamp()))


def moment(day: int, hour: float = 0.0) -> datetime:
    """On the day with that number, from 0."""
    return datetime.combine(FIRST, time(), UTC) + timedelta(days=day, hours=hour)


def partition(day: int) -> str:
    return moment(day).date().isoformat()


@contextmanager
def empty_past(home: Path) -> Iterator[Past]:
    """Open an empty instance with SQLite, as the program configures it."""
    shutil.copy(PACKAGED, home / "dagster.yaml")
    with dg.DagsterInstance.from_config(str(home)) as instance:
        yield Past(instance)
