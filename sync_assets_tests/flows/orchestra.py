"""Dagster as tests drive it: the program's definitions on a real instance, sensor ticks and runs one at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from functools import cached_property
from typing import Any

import dagster as dg
from dagster._core.definitions.sensor_definition import SensorExecutionData

from sync_assets.definitions import build_definitions
from sync_assets.ledger import Feed
from sync_assets.operations.instance import dagster_instance
from sync_assets.partitions import TABLE_TAG
from sync_assets.runtime import Runtime
from sync_assets_tests.program import Program

CONTACT, PROFILE = dg.AssetKey(["d365", "contact"]), dg.AssetKey(["campaign", "profile"])


@dataclass
class Run:
    """A finished run, as its event log has it."""

    instance: dg.DagsterInstance
    run_id: str
    success: bool

    def _events(self, kind: dg.DagsterEventType) -> list[dg.DagsterEvent]:
        entries = self.instance.all_logs(self.run_id, of_type=kind)
        return [entry.dagster_event for entry in entries if entry.dagster_event]

    @property
    def checks(self) -> dict[str, bool]:
        """Check name -> passed."""
        found = self._events(dg.DagsterEventType.ASSET_CHECK_EVALUATION)
        return {event.asset_check_evaluation_data.check_name: event.asset_check_evaluation_data.passed for event in found}

    @property
    def steps(self) -> set[str]:
        return {str(event.step_key) for event in self._events(dg.DagsterEventType.STEP_START)}

    @property
    def errors(self) -> list[str]:
        failures = self._events(dg.DagsterEventType.STEP_FAILURE)
        return [str(event.step_failure_data.user_failure_data or event.step_failure_data.error) for event in failures]

    def days(self, key: dg.AssetKey) -> list[str]:
        """The partitions that were materialised, in order."""
        found = self._events(dg.DagsterEventType.ASSET_MATERIALIZATION)
        return [event.partition or "" for event in found if event.asset_key == key]

    def metadata(self, key: dg.AssetKey, partition: str) -> dict[str, Any]:
        """Of one materialisation: plain values, tables and links as they are."""
        for event in self._events(dg.DagsterEventType.ASSET_MATERIALIZATION):
            if event.asset_key == key and event.partition == partition:
                found = event.step_materialization_data.materialization.metadata
                return {name: value.value for name, value in found.items()}
        raise AssertionError(f"{partition} of {key} was not materialised")


@dataclass
class Orchestra:
    program: Program
    instance: dg.DagsterInstance
    _cursors: dict[str, str | None] = field(default_factory=dict[str, str | None])

    @cached_property
    def runtime(self) -> Runtime:
        return self.program.runtime()

    @cached_property
    def definitions(self) -> dg.Definitions:
        return build_definitions(self.runtime)

    def tick(self, sensor: str) -> SensorExecutionData:
        """One tick, with the cursor that the last one left."""
        with dg.build_sensor_context(
            instance=self.instance,
            cursor=self._cursors.get(sensor),
            repository_def=self.definitions.get_repository_def(),
            sensor_name=sensor,
        ) as context:
            [found] = [one for one in self.definitions.sensors or () if one.name == sensor]
            assert isinstance(found, dg.SensorDefinition)
            data = found.evaluate_tick(context)
        self._cursors[sensor] = data.cursor
        return data

    def execute(self, request: dg.RunRequest) -> Run:
        """The run that was asked for, in this process."""
        return self.materialize(
            *(request.asset_selection or ()), partition_key=request.partition_key, tags=dict(request.tags)
        )

    def materialize(self, *keys: dg.AssetKey, partition_key: str | None, tags: dict[str, str] | None = None) -> Run:
        job = self.definitions.resolve_implicit_global_asset_job_def()
        result = job.execute_in_process(
            instance=self.instance,
            asset_selection=list(keys),
            partition_key=partition_key,
            tags={TABLE_TAG: "contact", **(tags or {})},
            raise_on_error=False,
        )
        return Run(self.instance, result.run_id, result.success)

    def settle(self) -> None:
        """Runs what the sensors ask for, until they ask for nothing."""
        for _ in range(20):
            requests = [*(self.tick("d365_changes").run_requests or ()), *(self.tick("backlog").run_requests or ())]
            if not requests:
                return
            for request in requests:
                assert self.execute(request).success
        raise AssertionError("the sensors do not come to rest")

    @property
    def feed(self) -> Feed:
        feed = self.runtime.ledger.feed("contact")
        assert feed is not None
        return feed

    @property
    def pending(self) -> dict[str, int]:
        """Day -> records that are still to be sent."""
        return {day.isoformat(): count for day, count in self.runtime.ledger.pending_days("contact")}


@contextmanager
def orchestra(program: Program) -> Iterator[Orchestra]:
    """On an instance in the program's DAGSTER_HOME."""
    home = program.env["DAGSTER_HOME"]
    with dagster_instance_in(home) as instance:
        started = Orchestra(program, instance)
        try:
            yield started
        finally:
            started.runtime.close()


@contextmanager
def dagster_instance_in(home: str) -> Iterator[dg.DagsterInstance]:
    import os

    before = os.environ.get("DAGSTER_HOME")
    os.environ["DAGSTER_HOME"] = home
    try:
        with dagster_instance() as instance:
            yield instance
    finally:
        if before is None:
            del os.environ["DAGSTER_HOME"]
        else:
            os.environ["DAGSTER_HOME"] = before


def today() -> str:
    return datetime.now(UTC).date().isoformat()


def on(day: str) -> date:
    return date.fromisoformat(day)
