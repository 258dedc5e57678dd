"""What Dagster knows and has no public name for, each with the reason. Nothing else imports `dagster._core`.

Dagster may move any of these names; `test_dagster_internals.py` asks a real instance for each and fails by its name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, cast

import dagster as dg
from dagster._core.definitions.freshness import FreshnessState
from dagster._core.storage.asset_check_execution_record import (
    COMPLETED_ASSET_CHECK_EXECUTION_RECORD_STATUSES,
    AssetCheckExecutionRecord,
    AssetCheckExecutionRecordStatus,
)


@dataclass(frozen=True, slots=True)
class CheckAnswer:
    """What an asset check said, in which run and when. `evaluation`: None if its run died over it."""

    key: dg.AssetCheckKey
    run_id: str
    failed: bool
    at: datetime | None
    evaluation: dg.AssetCheckEvaluation | None


def latest_answers(
    instance: dg.DagsterInstance, keys: Sequence[dg.AssetCheckKey]
) -> dict[dg.AssetCheckKey, CheckAnswer]:
    """Each check's latest answer, the one before if a run is about to ask it again or died over it.

    Reason: no public method reads the answers of asset checks.
    """
    storage = instance.event_log_storage
    found = dict(storage.get_latest_asset_check_execution_by_key(keys))
    for key, record in list(found.items()):
        if record.status == AssetCheckExecutionRecordStatus.PLANNED:
            done = storage.get_asset_check_execution_history(
                key, limit=1, status=COMPLETED_ASSET_CHECK_EXECUTION_RECORD_STATUSES
            )
            del found[key]
            found.update((key, one) for one in done)
    return {key: _answer(record) for key, record in found.items()}


def _answer(record: AssetCheckExecutionRecord) -> CheckAnswer:
    return CheckAnswer(
        key=record.key,
        run_id=record.run_id,
        failed=record.status == AssetCheckExecutionRecordStatus.FAILED,
        at=datetime.fromtimestamp(record.event.timestamp, UTC) if record.event else None,
        evaluation=record.evaluation,
    )


def freshness(
    instance: dg.DagsterInstance, keys: Sequence[dg.AssetKey]
) -> dict[dg.AssetKey, tuple[Literal["late", "warning"], datetime]]:
    """The assets that are late by their freshness policy, or about to be, and since when.

    Reason: the state that the daemon keeps of a freshness policy has no public name.
    """
    states: Mapping[FreshnessState, Literal["late", "warning"]] = {
        FreshnessState.FAIL: "late",
        FreshnessState.WARN: "warning",
    }
    return {
        key: (states[record.freshness_state], record.updated_at.astimezone(UTC))
        for key, record in instance.get_freshness_state_records(keys).items()
        if record.freshness_state in states
    }


@dataclass(frozen=True, slots=True)
class Tick:
    """A finished tick of a sensor. `skipped`: its reason, if it asked for nothing."""

    at: datetime
    failed: bool
    skipped: str
    error: Any


def sensor_ticks(instance: dg.DagsterInstance, names: Iterable[str], most: int) -> dict[str, list[Tick]]:
    """The last finished ticks of each running sensor, the newest first. A stopped sensor has none; of several code
    locations with a sensor of one name the one that ticked last counts.

    Reason: no public method lists the sensors of an instance, or their ticks.
    """
    if instance.schedule_storage is None:  # where there is none, no sensor ticks
        return {}
    wanted, newest = frozenset(names), dict[str, list[Tick]]()
    running: dict[str, bool] = {}
    for state in instance.all_instigator_state():
        name = state.instigator_name
        if state.instigator_type.value != "SENSOR" or name not in wanted:
            continue
        found = instance.get_ticks(state.instigator_origin_id, state.selector_id, limit=most)
        ticks = [_tick(one) for one in found if one.status.value != "STARTED"]
        if ticks and (name not in newest or ticks[0].at > newest[name][0].at):
            newest[name], running[name] = ticks, state.status.value != "STOPPED"
    return {name: ticks for name, ticks in newest.items() if running[name]}


def _tick(tick: Any) -> Tick:
    return Tick(
        at=datetime.fromtimestamp(cast("float", tick.timestamp), UTC),
        failed=tick.status.value == "FAILURE",
        skipped=tick.tick_data.skip_reason or "",
        error=tick.error,
    )
