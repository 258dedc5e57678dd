"""A Dagster instance in memory that stores the events of its runs once something reads them.

A run has some forty events, and reads for each of its checks: a third of the time of a `sync` of some records. Most
tests of `sync` never look at them. What a run reads is answered as if no run had been before it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import dagster as dg
from dagster._core.instance import InstanceType
from dagster._core.launcher.sync_in_memory_run_launcher import SyncInMemoryRunLauncher
from dagster._core.run_coordinator import DefaultRunCoordinator
from dagster._core.storage.event_log import InMemoryEventLogStorage
from dagster._core.storage.noop_compute_log_manager import NoOpComputeLogManager
from dagster._core.storage.root import TemporaryLocalArtifactStorage
from dagster._core.storage.runs import InMemoryRunStorage


class _LazyEvents(InMemoryEventLogStorage):
    def __init__(self) -> None:
        self._unread: list[dg.EventLogEntry] = []
        super().__init__()

    def store_event(self, event: dg.EventLogEntry) -> None:
        self._unread.append(event)

    @contextmanager
    def _connect(self) -> Iterator[Any]:
        unread, self._unread = self._unread, []
        for event in unread:
            super().store_event(event)
        with super()._connect() as connection:
            yield connection

    def fetch_materializations(self, *_: Any, **__: Any) -> dg.EventRecordsResult:
        return dg.EventRecordsResult([], cursor="", has_more=False)

    fetch_observations = fetch_materializations

    def get_asset_records(self, *_: Any, **__: Any) -> list[Any]:
        return []

    def get_latest_asset_check_execution_by_key(self, *_: Any, **__: Any) -> dict[dg.AssetCheckKey, Any]:
        return {}


def lazy_instance() -> dg.DagsterInstance:
    """Return what `dg.DagsterInstance.ephemeral` does, with another storage of events."""
    return dg.DagsterInstance(
        instance_type=InstanceType.EPHEMERAL,
        local_artifact_storage=TemporaryLocalArtifactStorage(),
        run_storage=InMemoryRunStorage(),
        event_storage=_LazyEvents(),
        compute_log_manager=NoOpComputeLogManager(),
        run_coordinator=DefaultRunCoordinator(),
        run_launcher=SyncInMemoryRunLauncher(),
    )
