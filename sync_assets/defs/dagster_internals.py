"""Read check results, freshness states and sensor ticks through private APIs of Dagster; each function states why.

Elsewhere only `history.py` and `launching/` import private names of Dagster. It may change any of these APIs;
`test_dagster_internals.py` calls each on a real instance and fails with its name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple

import dagster as dg
from dagster._core.definitions.asset_checks.asset_check_evaluation import AssetCheckEvaluationTargetMaterializationData
from dagster._core.definitions.freshness import FreshnessState
from dagster._core.errors import DagsterUserCodeProcessError
from dagster._core.scheduler.instigation import TickStatus
from dagster._core.storage.asset_check_execution_record import (
    COMPLETED_ASSET_CHECK_EXECUTION_RECORD_STATUSES,
    AssetCheckExecutionRecord,
    AssetCheckExecutionRecordStatus,
)
from dagster_shared.error import SerializableErrorInfo

CheckRecord = AssetCheckExecutionRecord
"""A result of an asset check. evaluation, event: None if the run ended before it evaluated the check."""


def latest_answers(
    instance: dg.DagsterInstance, keys: Sequence[dg.AssetCheckKey]
) -> dict[dg.AssetCheckKey, CheckRecord]:
    """Return the latest completed result of each check; checks without one are missing.

    If a check is planned in a run that goes on, or that died before evaluating it, the result before that is returned.

    Reason: no public method reads the results of asset checks.
    """
    storage = instance.event_log_storage
    latest = dict(storage.get_latest_asset_check_execution_by_key(keys))
    for key, record in list(latest.items()):
        if record.status == AssetCheckExecutionRecordStatus.PLANNED:
            done = storage.get_asset_check_execution_history(
                key, limit=1, status=COMPLETED_ASSET_CHECK_EXECUTION_RECORD_STATUSES
            )
            del latest[key]
            latest.update((key, record) for record in done)
    return latest


Materialization = AssetCheckEvaluationTargetMaterializationData


class Last(NamedTuple):
    """The last materialisation of an asset.

    target: as a check result names it. partition, version: its partition and data version. at: when it was stored, UTC.
    """

    target: Materialization
    partition: str
    version: str
    at: datetime


def last_materializations(instance: dg.DagsterInstance, keys: Iterable[dg.AssetKey]) -> dict[dg.AssetKey, Last]:
    """Return the last materialisation of each asset that has one."""
    found = dict[dg.AssetKey, Last]()
    for record in instance.get_asset_records([*keys]):
        if (last := record.asset_entry.last_materialization_record) and (made := last.asset_materialization):
            found[record.asset_entry.asset_key] = Last(
                Materialization(storage_id=last.storage_id, run_id=last.run_id, timestamp=last.timestamp),
                made.partition or "",
                (made.tags or {}).get("dagster/data_version", ""),
                datetime.fromtimestamp(last.timestamp, UTC),
            )
    return found


def shown_answers(
    instance: dg.DagsterInstance, keys: Sequence[dg.AssetCheckKey], materializations: Mapping[dg.AssetKey, Last]
) -> dict[dg.AssetCheckKey, CheckRecord]:
    """Return the result that the UI shows for each check, as of the asset's last materialisation.

    Checks without one are missing: a run plans them, or died, or the asset was materialised since by another run.

    Reason: as that of `latest_answers`.
    """
    newest = instance.event_log_storage.get_latest_asset_check_execution_by_key(keys)

    def is_current(check: dg.AssetCheckKey, record: CheckRecord) -> bool:
        if check.asset_key not in materializations:
            return True
        about, last = record.evaluation, materializations[check.asset_key].target
        about = about and about.target_materialization_data
        return last.run_id == record.run_id or bool(about and about.storage_id == last.storage_id)

    completed = COMPLETED_ASSET_CHECK_EXECUTION_RECORD_STATUSES
    return {key: record for key, record in newest.items() if record.status in completed and is_current(key, record)}


def evaluations(instance: dg.DagsterInstance, results: Iterable[dg.AssetCheckResult]) -> list[dg.AssetCheckEvaluation]:
    """Convert check results into events about the last materialisations, to be reported without their steps.

    Reason: a result without a run that names no materialisation is compared by time, which SQLite stores in seconds:
    Dagster would show it as not evaluated if both happened in one second. The class that names one is private.
    """
    results = list(results)
    last = last_materializations(instance, {result.asset_key for result in results if result.asset_key})
    return [
        dg.AssetCheckEvaluation(
            asset_key=key,
            check_name=str(result.check_name),
            passed=bool(result.passed),
            severity=result.severity,
            metadata=dict(result.metadata),
            description=result.description,
            target_materialization_data=last[key].target if key in last else None,
        )
        for result in results
        if (key := result.asset_key)
    ]


def freshness(
    instance: dg.DagsterInstance, keys: Sequence[dg.AssetKey]
) -> dict[dg.AssetKey, tuple[Literal["late", "warning"], datetime]]:
    """Return the assets whose freshness policy fails (`late`) or warns (`warning`), and since when (UTC).

    Reason: no public method reads the freshness states that Dagster's daemon stores.
    """
    records = instance.get_freshness_state_records(keys)
    return {
        key: ("late" if record.freshness_state == FreshnessState.FAIL else "warning", record.updated_at.astimezone(UTC))
        for key, record in records.items()
        if record.freshness_state in (FreshnessState.FAIL, FreshnessState.WARN)
    }


class SensorFailed(DagsterUserCodeProcessError):
    """Raised by a tick that failed. Its text is one line of ours, with the cause and the remedy.

    Reason: of any other exception Dagster stores and shows its own and our traceback; of this one the given text alone.
    """

    def __init__(self, text: str) -> None:
        shown = SerializableErrorInfo(text, [], type(self).__name__)
        super().__init__(text, user_code_process_error_infos=[shown])


def most_runs(instance: dg.DagsterInstance) -> int | None:
    """Return how many runs the instance's queue starts at a time; None if there is no queue, or no limit.

    Reason: no public method reads the settings of the queue.
    """
    queue = instance.get_concurrency_config().run_queue_config
    return queue.max_concurrent_runs if queue and queue.max_concurrent_runs >= 0 else None


def slot_is_wanted(instance: dg.DagsterInstance) -> bool:
    """Return True if all slots of the queue are taken, and another run waits for one."""
    status, slots = dg.DagsterRunStatus, most_runs(instance)
    if slots is None:
        return False
    taken = [status.STARTING, status.STARTED, status.CANCELING]
    try:
        waiting = instance.get_runs_count(dg.RunsFilter(statuses=[status.QUEUED]))
        return waiting > 0 and instance.get_runs_count(dg.RunsFilter(statuses=taken)) >= slots
    except Exception:  # noqa: BLE001  any of Dagster's storages: its outage ends no run
        return False


_FINISHED = (TickStatus.SKIPPED, TickStatus.SUCCESS, TickStatus.FAILURE)


def failed_ticks(
    instance: dg.DagsterInstance, names: Iterable[str], location: str | None = None
) -> dict[str, tuple[Any, datetime]]:
    """Return the last finished ticks that failed, by the names of the running sensors.

    Each with the begin (UTC) of the last tick that did not fail; of the failed one itself, if none is stored.

    location: the code location of the sensors; None: any, and of several the one whose sensor ticked last.

    Reason: no public method lists the sensors of an instance, or their ticks.
    """
    if instance.schedule_storage is None:  # an instance without this storage cannot run sensors
        return {}

    def last(state: Any, *statuses: TickStatus) -> Any:
        ticks = instance.get_ticks(state.instigator_origin_id, state.selector_id, limit=1, statuses=[*statuses])
        return ticks[0] if ticks else None

    watched, newest = frozenset(names), dict[str, tuple[Any, Any]]()
    for state in instance.all_instigator_state():
        name, place = state.instigator_name, state.origin.repository_origin.code_location_origin.location_name
        if state.instigator_type.value != "SENSOR" or name not in watched or location not in (None, place):
            continue
        tick = last(state, *_FINISHED)
        if tick and (name not in newest or tick.timestamp >= newest[name][0].timestamp):
            newest[name] = tick, state
    return {
        name: (tick, datetime.fromtimestamp((last(state, *_FINISHED[:2]) or tick).timestamp, UTC))
        for name, (tick, state) in newest.items()
        if tick.status == TickStatus.FAILURE and state.status.value != "STOPPED"
    }
