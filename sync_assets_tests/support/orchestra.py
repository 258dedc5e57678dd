"""Drive Dagster from tests: the project's definitions on a real instance, with single sensor ticks and runs."""

import asyncio
import re
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any

import dagster as dg
import pytest
from dagster._core.definitions.data_version import CachingStaleStatusResolver, StaleStatus
from dagster._core.definitions.sensor_definition import SensorExecutionData
from dagster._core.instance.ref import InstanceRef
from dagster._core.loader import LoadingContextForTest
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin

from sync_assets.defs.build import build_definitions
from sync_assets.defs.dagster_internals import SensorFailed
from sync_assets.defs.partitions import LEDGER_TAG, TABLE_TAG, run_tags, today
from sync_assets.flows import capture_table, push_table
from sync_assets.ledger.feed import Feed
from sync_assets.runtime.context import Runtime
from sync_assets_tests.support.ledgers import feed_of
from sync_assets_tests.support.program import Program

CONTACT, PROFILE = dg.AssetKey(["d365", "contact"]), dg.AssetKey(["campaign", "profile"])
AUDIT = dg.AssetKey(["campaign", "profile_audit"])
RANGE_START, RANGE_END = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"
"""Tags by which Dagster gives a run several partitions."""
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
"""As `sync` runs. To word each event for a terminal that shows none takes a tenth of a run."""


def job_origin(location: str) -> RemoteJobOrigin:
    """Return the origin of a run that was launched from this code location."""
    return RemoteJobOrigin(RemoteRepositoryOrigin(RegisteredCodeLocationOrigin(location), "__repository__"), "sync")


@dataclass
class Run:
    """A finished run, read from its event log."""

    instance: dg.DagsterInstance
    run_id: str
    success: bool

    def _events(self, kind: dg.DagsterEventType) -> list[dg.DagsterEvent]:
        entries = self.instance.all_logs(self.run_id, of_type=kind)
        return [entry.dagster_event for entry in entries if entry.dagster_event]

    @property
    def checks(self) -> dict[str, bool]:
        """Return, by check name, True if it passed. `ready`, which each asset has, is prefixed by the asset's key."""
        result = self._events(dg.DagsterEventType.ASSET_CHECK_EVALUATION)
        evaluations = [event.asset_check_evaluation_data for event in result]
        return {
            f"{one.asset_key.to_user_string()} ready" if one.check_name == "ready" else one.check_name: one.passed
            for one in evaluations
        }

    def check(self, name: str, key: dg.AssetKey | None = None) -> dg.AssetCheckEvaluation:
        """Return the last evaluation of a check. key: the asset, if several assets have a check of this name."""
        result = self._events(dg.DagsterEventType.ASSET_CHECK_EVALUATION)
        evaluations = [event.asset_check_evaluation_data for event in result]
        return [one for one in evaluations if one.check_name == name and key in (None, one.asset_key)][-1]

    @property
    def checked(self) -> set[str]:
        """Return the runs whose materialisations the checks refer to."""
        result = self._events(dg.DagsterEventType.ASSET_CHECK_EVALUATION)
        targets = [event.asset_check_evaluation_data.target_materialization_data for event in result]
        return {target.run_id for target in targets if target}

    @property
    def steps(self) -> set[str]:
        return {str(event.step_key) for event in self._events(dg.DagsterEventType.STEP_START)}

    @property
    def errors(self) -> list[str]:
        failures = self._events(dg.DagsterEventType.STEP_FAILURE)
        return [str(event.step_failure_data.user_failure_data or event.step_failure_data.error) for event in failures]

    def days(self, key: dg.AssetKey) -> list[str]:
        """Return the materialised partitions of an asset, in order."""
        result = self._events(dg.DagsterEventType.ASSET_MATERIALIZATION)
        return [event.partition or "" for event in result if event.asset_key == key]

    def metadata(self, key: dg.AssetKey, partition: str | None = None) -> dict[str, Any]:
        """Return the metadata values of the last materialisation. partition: None for assets without partitions."""
        for event in reversed(self._events(dg.DagsterEventType.ASSET_MATERIALIZATION)):
            if event.asset_key == key and event.partition == partition:
                result = event.step_materialization_data.materialization.metadata
                return {name: value.value for name, value in result.items()}
        raise AssertionError(f"{partition} of {key} was not materialised")


@dataclass
class Orchestra:
    """The project's definitions on one instance (`in_memory`), in the code location `location`."""

    program: Program
    instance: dg.DagsterInstance
    location: str = "ours"
    _cursors: dict[str, str | None] = field(default_factory=dict[str, str | None])

    @cached_property
    def runtime(self) -> Runtime:
        self.program.make_ledger()
        return self.program.runtime()

    @cached_property
    def definitions(self) -> dg.Definitions:
        return build_definitions(self.runtime)

    def tick(self, sensor: str) -> SensorExecutionData:
        """Evaluate one tick as the daemon does: with the last cursor; reports its events and applies its partitions.

        Uses the context class of the code server, since Dagster's context for tests has no dynamic partitions.
        """
        repository = self.definitions.get_repository_def()
        in_memory = InstanceRef.from_dir(str(self.program.home))  # never opened, since the instance is passed as well
        with dg.SensorEvaluationContext(
            self.instance.get_ref() if self.instance.is_persistent else in_memory,
            last_tick_completion_time=None,
            last_run_key=None,
            cursor=self._cursors.get(sensor),
            repository_name=repository.name,
            repository_def=repository,
            sensor_name=sensor,
            instance=self.instance,
            code_location_origin=RegisteredCodeLocationOrigin(self.location),
        ) as context:
            data = repository.get_sensor_def(sensor).evaluate_tick(context)
        self._cursors[sensor] = data.cursor
        for event in data.asset_events:
            self.instance.report_runless_asset_event(event)
        for request in data.dynamic_partitions_requests or ():
            if isinstance(request, dg.AddDynamicPartitionsRequest):
                self.instance.add_dynamic_partitions(request.partitions_def_name, request.partition_keys)
            else:
                for key in request.partition_keys:
                    self.instance.delete_dynamic_partition(request.partitions_def_name, key)
        return data

    def asked(self, sensor: str) -> list[dg.RunRequest]:
        """Evaluate one tick, and return the requested runs; none if it fails."""
        with suppress(SensorFailed):
            return list(self.tick(sensor).run_requests or ())
        return []

    def failure(self, sensor: str) -> str:
        """Evaluate one tick that fails, and return its message."""
        with pytest.raises(SensorFailed) as failed:
            self.tick(sensor)
        return str(failed.value)

    def execute(self, request: dg.RunRequest) -> Run:
        """Execute a requested run in this process: of a job without assets, or of the assets that it selects."""
        if not request.asset_selection:
            return self.job(str(request.job_name), request.tags)
        return self.run_selection(
            request.asset_selection or (), request.asset_check_keys, request.partition_key, dict(request.tags)
        )

    def materialize(self, key: dg.AssetKey, partition: str | None = None, **tags: str) -> Run:
        """Materialise one asset with its checks, as in the UI. partition: default today, unless `tags` set it."""
        return self.run_selection([key], None, partition if tags or partition else today(), tags)

    def materialize_unpartitioned(self, key: dg.AssetKey, config: Mapping[str, Any] | None = None) -> Run:
        """Materialise an asset without partitions, as in the UI. config: as in the launchpad."""
        name = "__".join(key.path)
        return self.run_selection([key], None, None, {}, {"ops": {name: {"config": config}}} if config else None)

    def materialize_all(self, *keys: dg.AssetKey, tags: Mapping[str, str], force: bool = False) -> Run:
        """Materialise several assets of one op, for the partitions in the tags. force: as in the launchpad."""
        config = {"ops": {"sync_contact": {"config": {"force": force}}}}
        return self.run_selection(keys, None, None, tags, config)

    def run_selection(
        self,
        keys: Sequence[dg.AssetKey],
        checks: Sequence[dg.AssetCheckKey] | None,
        partition_key: str | None,
        tags: Mapping[str, str],
        config: Mapping[str, Any] | None = None,
    ) -> Run:
        job = self.definitions.resolve_implicit_global_asset_job_def().get_subset(
            asset_selection=set(keys), asset_check_selection=None if checks is None else set(checks)
        )
        result = job.execute_in_process(
            instance=self.instance,
            partition_key=partition_key,
            run_config={**(config or {}), **QUIET},
            tags={**({} if TABLE_TAG in tags else run_tags(self.runtime, "contact")), **tags},
            raise_on_error=False,
        )
        return Run(self.instance, result.run_id, result.success)

    def under_way(
        self,
        tags: Mapping[str, str],
        status: dg.DagsterRunStatus = dg.DagsterRunStatus.STARTED,
        location: str | None = None,
        ledger: str | None = None,
    ) -> dg.DagsterRun:
        """Add a run with these tags and this status to the instance, without executing it.

        location: the code location from which it was launched; None: by the command line. ledger: its id; None: ours.
        """
        tags = {LEDGER_TAG: ledger or self.runtime.ledger.systems.identity(), **tags}
        origin = job_origin(location) if location else None
        run = dg.DagsterRun("by_hand", run_id=str(uuid.uuid4()), status=status, tags=tags, remote_job_origin=origin)
        return self.instance.add_run(run)

    def stale(self, key: dg.AssetKey) -> StaleStatus:
        """Return whether an asset is out of date, as Dagster's UI shows it."""
        graph, context = self.definitions.resolve_asset_graph(), LoadingContextForTest(self.instance)
        return CachingStaleStatusResolver(self.instance, graph, context).get_status(key)

    def job(self, name: str, tags: Mapping[str, str] | None = None) -> Run:
        """Execute a job, as a schedule or a user of the UI does."""
        job = self.definitions.resolve_job_def(name)
        result = job.execute_in_process(
            instance=self.instance, raise_on_error=False, tags=dict(tags or {}), run_config=QUIET
        )
        return Run(self.instance, result.run_id, result.success)

    def later(self, sensor: str, **time: float) -> None:
        """Simulate that this time has passed since the sensor's last tick, by moving all times in its cursor back."""
        back = timedelta(**time)

        def moved(result: re.Match[str]) -> str:
            return (datetime.fromisoformat(result[0]) - back).isoformat()

        moment = r'(?<=")\d{4}-\d\d-\d\dT[\d:.]+(Z|[+]00:00)(?=")'
        self._cursors[sensor] = re.sub(moment, moved, self._cursors[sensor] or "")

    def capture(self) -> None:
        """Capture the first table without Dagster, for tests that need it but are not about it. So is `push`."""
        asyncio.run(capture_table(self.runtime, self.runtime.config.tables[0]))

    def push(self) -> None:
        asyncio.run(push_table(self.runtime, self.runtime.config.tables[0]))

    def reload(self) -> None:
        """Read the program's configuration again."""
        self.runtime.close()
        for name in ("runtime", "definitions"):
            self.__dict__.pop(name, None)

    def settle(self) -> None:
        """Execute the runs that the table sensors request until none is requested."""
        for _ in range(20):
            requests = [*self.asked("d365_changes"), *self.asked("backlog")]
            if not requests:
                return
            for request in requests:
                assert self.execute(request).success
        raise AssertionError("the sensors do not come to rest")

    @property
    def feed(self) -> Feed:
        return feed_of(self.runtime.ledger)

    @property
    def pending(self) -> int:
        """Return the number of pending records."""
        return self.runtime.ledger.reports.backlog("contact")


def shown(instance: dg.DagsterInstance, key: dg.AssetCheckKey) -> str:
    """Return the status that the UI shows for a check, as its GraphQL server computes it."""
    storage = instance.event_log_storage
    record = storage.get_latest_asset_check_execution_by_key([key])[key]
    current = asyncio.run(record.targets_latest_materialization(LoadingContextForTest(instance)))
    return record.status.value if current else "not evaluated"


@contextmanager
def in_memory(program: Program) -> Iterator[Orchestra]:
    """Yield an orchestra on a Dagster instance in memory: events in SQLite's files take two thirds of a run's time."""
    with dg.DagsterInstance.ephemeral() as instance:
        started = Orchestra(program, instance)
        yield started
        started.runtime.close()
