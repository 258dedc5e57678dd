"""Read failed steps, failed checks, stale assets and failing sensors from the Dagster instance, for alerts.

Which of these are notified is decided in `sync_assets.alerts.incidents`.

Invariant: the number of queries has a limit that does not depend on the number of runs, events and ticks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from typing import Any, NamedTuple, cast

import dagster as dg

from sync_assets.alerts.incidents import Incident, failed_check, failed_sensor, failed_step, stale_asset
from sync_assets.defs.dagster_internals import CheckAnswer, Tick, freshness, latest_answers, sensor_ticks
from sync_assets.defs.run_errors import CANNOT, SensorFailed

LOOK_BACK = timedelta(days=1)
MOST_RUNS, MOST_READ = 200, 40
"""Most failed runs that are listed, and most of these whose events are read, which is slower."""
MOST_TICKS = 50
"""Most ticks of a sensor that are read to find since when it has been failing."""


@dataclass(frozen=True, slots=True)
class Step:
    """The work of one step of a run: assets, or checks alone. `of`: name of the work, for messages."""

    of: str
    assets: tuple[dg.AssetKey, ...] = ()
    checks: tuple[dg.AssetCheckKey, ...] = ()


@dataclass(frozen=True, slots=True)
class Watched:
    """The objects of this project on the instance, which may have others: only these are read.

    Attributes:
        steps: By name of the step.
        fresh: Assets with a freshness policy.
        sensors: Names of sensors.
    """

    steps: Mapping[str, Step]
    fresh: Sequence[dg.AssetKey] = field(default_factory=list[dg.AssetKey])
    sensors: frozenset[str] = frozenset()

    @classmethod
    def of(cls, definitions: Iterable[dg.AssetsDefinition], sensors: Iterable[str] = ()) -> Watched:
        """Collect the objects from definitions of assets and asset checks, and from names of sensors."""
        steps: dict[str, Step] = {}
        fresh: list[dg.AssetKey] = []
        for one in definitions:
            keys, checks = tuple(sorted(one.keys)), tuple(sorted(one.check_keys))
            if keys:
                named = ", ".join(key.to_user_string() for key in keys)
            else:
                about = sorted({key.asset_key.to_user_string() for key in checks})
                named = f"the checks of {', '.join(about)}"
            steps[one.node_def.name] = Step(named, keys, checks)
            fresh += [spec.key for spec in one.specs if spec.freshness_policy]
        return cls(steps, fresh, frozenset(sensors))


class InstanceState(NamedTuple):
    """What is wrong on the instance, and when each step last succeeded."""

    wrong: list[Incident]
    good: dict[str, datetime]


def read_state(instance: dg.DagsterInstance, watched: Watched, now: datetime) -> InstanceState:
    """Read the present state of the watched objects. now: UTC."""
    assets = [key for step in watched.steps.values() for key in step.assets]
    answers = latest_answers(instance, [key for step in watched.steps.values() for key in step.checks])
    made = {
        record.asset_entry.asset_key: record.asset_entry.last_materialization.timestamp
        for record in instance.get_asset_records(assets)
        if record.asset_entry.last_materialization
    }
    done = {key: answer.at.timestamp() for key, answer in answers.items() if answer.at}
    good = {name: moment for name, step in watched.steps.items() if (moment := _last_good(step, made, done))}
    stale = freshness(instance, watched.fresh).items()
    wrong = [
        *_failed(instance, watched.steps, good, made, now),
        *_failed_checks(answers.values()),
        *(stale_asset(key.to_user_string(), since, warns=state == "warning") for key, (state, since) in stale),
        *_failed_sensors(instance, watched.sensors, now),
    ]
    return InstanceState(wrong, good)


def _last_good(
    step: Step, made: Mapping[dg.AssetKey, float], done: Mapping[dg.AssetCheckKey, float]
) -> datetime | None:
    """Return when the step last succeeded: one of its assets was materialised, or a check was evaluated.

    A check that failed was evaluated as well.
    """
    found = [made[key] for key in step.assets if key in made]
    if not step.assets:
        found = [done[key] for key in step.checks if key in done]
    return datetime.fromtimestamp(max(found), UTC) if found else None


def _failed_checks(answers: Iterable[CheckAnswer]) -> Iterator[Incident]:
    for answer in answers:
        result = answer.evaluation
        if answer.failed and result and answer.at:
            asset, warns = answer.key.asset_key.to_user_string(), result.severity == dg.AssetCheckSeverity.WARN
            yield failed_check(asset, answer.key.name, answer.run_id, answer.at, result.description or "", warns=warns)


def _failed_sensors(instance: dg.DagsterInstance, names: frozenset[str], now: datetime) -> Iterator[Incident]:
    """Yield the sensors whose last finished tick raised, or waited after one that did (`run_errors.CANNOT`)."""
    for name, ticks in sorted(sensor_ticks(instance, names, MOST_TICKS).items()):
        failed = list(takewhile(_failed_tick, ticks))
        if failed and failed[0].at > now - LOOK_BACK:
            yield failed_sensor(name, failed[-1].at, _message(failed[0]))


def _failed_tick(tick: Tick) -> bool:
    return tick.failed or tick.skipped.startswith(CANNOT)


def _message(tick: Tick) -> str:
    return tick.skipped.removeprefix(CANNOT).strip() if tick.skipped else _cause(tick.error)


def _cause(error: Any) -> str:
    """Return the line of a `SensorFailed`; of any other error only the type, since its text may quote a record."""
    cause = error
    while cause and cause.cause:
        cause = cause.cause
    if cause and cause.cls_name == SensorFailed.__name__:
        return cast("str", cause.message).partition(": ")[2].strip()
    return _type_of(error)


def _failed(
    instance: dg.DagsterInstance,
    steps: Mapping[str, Step],
    good: Mapping[str, datetime],
    made: Mapping[dg.AssetKey, float],
    now: datetime,
) -> Iterator[Incident]:
    """Yield the last failure of each step that has not succeeded since.

    A step of several assets has succeeded once all assets of the failed run were materialised: it may have failed for
    one of them, and later runs materialise the others without that one.
    """

    def is_over(name: str, run: dg.DagsterRun, at: datetime) -> bool:
        wanted = set(steps[name].assets) & (run.asset_selection or set())
        if len(wanted) < 2:
            return name in good and good[name] > at
        return all(made.get(key, 0.0) > at.timestamp() for key in wanted)

    failures = dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE], updated_after=now - LOOK_BACK)
    handled: set[str] = set()
    read = 0
    for record in instance.get_run_records(failures, limit=MOST_RUNS):
        run = record.dagster_run
        at = datetime.fromtimestamp(record.end_time, UTC) if record.end_time else record.update_timestamp
        ours = _steps_of(run, steps)
        undecided = {name for name in ours if name not in handled and not is_over(name, run, at)}
        if read == MOST_READ or (ours and not undecided):
            continue
        read += 1
        reasons = {name: why for name, why in _step_failures(instance, run.run_id) if name in steps}
        for name, why in (reasons or dict.fromkeys(undecided, "Its process ended before it was done.")).items():
            if name not in handled and not is_over(name, run, at):
                yield failed_step(name, steps[name].of, run.run_id, at, why)
            handled.add(name)


def _steps_of(run: dg.DagsterRun, steps: Mapping[str, Step]) -> set[str]:
    """Return the watched steps that a run was to execute, by its step keys or its selected assets."""
    if run.step_keys_to_execute:
        return steps.keys() & set(run.step_keys_to_execute)
    chosen = run.asset_selection or set()
    return {name for name, step in steps.items() if chosen & set(step.assets)}


def _step_failures(instance: dg.DagsterInstance, run_id: str) -> Iterator[tuple[str, str]]:
    """Yield (step, message) for each failed step of a run.

    The message is that of a `dg.Failure`; of any other error only the type, since its text may quote a record.
    """
    found = instance.get_records_for_run(run_id, of_type=dg.DagsterEventType.STEP_FAILURE).records
    for record in found:
        event = record.event_log_entry.dagster_event
        if event is None or event.step_key is None:
            continue
        failure: Any = event.step_failure_data
        ours = failure.user_failure_data
        yield event.step_key, (ours.description if ours and ours.description else _type_of(failure.error))


def _type_of(error: Any) -> str:
    """Return a sentence with the type of an error's first cause; empty if there is no error."""
    while error and error.cause:
        error = error.cause
    return f"It stopped at an error of the program: {cast('str', error.cls_name)}." if error else ""
