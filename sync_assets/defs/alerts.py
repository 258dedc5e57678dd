"""Define the sensor `alerts`, which checks the instance every half a minute and sends notifications to the channels.

It reads failed steps, failed checks, stale assets and failing sensors from the Dagster instance. Which of these are
notified is decided in `sync_assets.alerts.incidents`.

The cursor holds the notifications that each channel got. If a channel cannot be reached, its part of the cursor is
kept, so the next tick tries again; the other channels are not notified twice. A notification without an answer counts
as sent, and is repeated after an hour.

Invariant: the number of queries has a limit that does not depend on the number of runs, events and ticks.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, cast

import dagster as dg
import msgspec

from sync_assets.alerts.channels import NO_NEWS, notify_all, routed
from sync_assets.alerts.incidents import (
    Incident,
    Memory,
    failed_check,
    failed_sensor,
    failed_step,
    killed_run,
    open_incidents,
    stale_asset,
)
from sync_assets.alerts.thresholds import Measured, exceeded
from sync_assets.audit.record_audit import last_result
from sync_assets.config.runs import Thresholds
from sync_assets.defs.asset_keys import side_key
from sync_assets.defs.dagster_internals import SensorFailed, failed_ticks, freshness, latest_answers
from sync_assets.defs.partitions import is_foreign
from sync_assets.defs.run_errors import one_sentence
from sync_assets.defs.tables.checks import SIDES
from sync_assets.errors import SyncAssetsError
from sync_assets.ledger import Ledger
from sync_assets.ledger.times import iso
from sync_assets.runtime.configuration import Configuration
from sync_assets.runtime.context import Runtime
from sync_assets.runtime.workers import killed_runs
from sync_assets.words import counted

LOOK_SECONDS = 29
"""Seconds between two ticks; rounded up to 30 by the daemon's interval of 5 s."""
LOOK_BACK = timedelta(days=1)
MOST_RUNS, MOST_RUN_EVENTS = 2_000, 40
"""Most failed runs that are listed, of others as well, and most of ours whose events are read, which is slower."""

WITHOUT_ASSETS = ("follow", "watch", "log_export")
"""The jobs without assets that sensors or schedules start: such a job has failed if its last run did."""
BEGINS = timedelta(seconds=10)
"""A run of such a job that began earlier than this has not failed again."""


class AlertScope:
    """The objects of this project on the instance, which may have others: only these are read.

    Args:
        definitions: Of assets, or of checks alone.
        sensors: Names of sensors.
        jobs: Names of jobs.
        named: Returns a name in the installation.
    """

    def __init__(
        self,
        definitions: Iterable[dg.AssetsDefinition],
        sensors: Iterable[str] = (),
        jobs: Iterable[str] = (),
        named: Callable[[str], str] = str,
    ) -> None:
        self.steps = {definition.node_def.name: definition for definition in definitions}
        self.sensors, names = frozenset(sensors), frozenset(jobs)
        self.without_assets = names & {*map(named, WITHOUT_ASSETS)}
        self.jobs = names - self.without_assets

    def steps_of(self, run: dg.DagsterRun) -> set[str]:
        """Return the steps that a run was to execute, by its step keys, its selected assets and checks, or its job."""
        chosen = (run.asset_selection or set()) | (run.asset_check_selection or set())
        if run.step_keys_to_execute:
            return self.steps.keys() & set(run.step_keys_to_execute)
        if not chosen:
            return set(self.steps) if run.job_name in self.jobs else set()
        return {name for name, step in self.steps.items() if chosen & {*step.keys, *step.check_keys}}


def alert_sensor(runtime: Runtime, watched: AlertScope, default_status: dg.DefaultSensorStatus) -> dg.SensorDefinition:
    """Define the sensor."""

    @dg.sensor(
        name=runtime.installation.named("alerts"),
        minimum_interval_seconds=LOOK_SECONDS,
        default_status=default_status,
        description="Notifies about failed runs, checks and sensors and about stale data, and again when each is "
        "resolved.",
    )
    @one_sentence("alerts")
    def notify(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        memory = msgspec.json.decode(context.cursor, type=dict[str, Memory]) if context.cursor else {}
        now, origin = datetime.now(UTC), context.code_location_origin
        location = origin.location_name if origin else None
        notified = {id_ for of_channel in memory.values() for id_ in of_channel}
        incidents, ends = find_incidents(runtime, context.instance, watched, now, location, notified)
        url = runtime.settings.alerts().ui_url
        memory, lines = notify_all(routed(runtime, now), incidents, ends, memory, now, url)
        for line in lines:
            if not line.endswith(NO_NEWS):  # Dagster stores a file for each tick that logs a line
                context.log.info(line)
        return dg.SensorResult(skip_reason="; ".join(lines), cursor=msgspec.json.encode(memory).decode())

    return notify


def find_incidents(
    runtime: Runtime,
    instance: dg.DagsterInstance,
    watched: AlertScope,
    now: datetime,
    location: str | None = None,
    notified: Collection[str] = (),
) -> tuple[list[Incident], Mapping[str, datetime]]:
    """Return the incidents to notify, and when each step last succeeded.

    Alerts are sent also if the ledger cannot be read, which holds killed runs and the tables in maintenance.

    notified: ids of incidents that a channel was notified of.
    """
    paused, killed, identity = frozenset[str](), list[Incident](), None
    with suppress(SyncAssetsError):
        identity = runtime.ledger.systems.identity()
        names = runtime.ledger.maintenance.in_maintenance()
        tables = [config for config in runtime.config.tables if config.table in names]
        paused = frozenset(side_key(config, side, runtime).to_user_string() for config in tables for side in SIDES)
        killed = [killed_run(run) for run in killed_runs(runtime.ledger)]
        if runtime.config.alerts and (thresholds := runtime.config.alerts.thresholds) != Thresholds():
            killed += exceeded(thresholds, measured(runtime, runtime.ledger, names, now), notified)
    state = read_state(instance, watched, now, identity, location)
    return open_incidents([*state.incidents, *killed], paused), state.successes


def measured(
    configuration: Configuration, ledger: Ledger, paused: Collection[str], now: datetime
) -> Iterator[Measured]:
    """Yield the numbers for thresholds. paused: tables in maintenance, whose changes may be pending."""
    reports, guardrails = ledger.reports, configuration.config.guardrails
    for config in configuration.config.tables:
        table, asset = config.table, side_key(config, "campaign", configuration).to_user_string()
        counts, oldest = reports.counts(table)[table], reports.oldest_pending(table)
        if oldest and table not in paused:
            text = f"{counted(counts.pending, 'record')} pending; the oldest changed {iso(oldest)}."
            yield Measured("pending_minutes", table, (now - oldest) / timedelta(minutes=1), oldest, text, asset)
        text = f"{counts.rejected:,} of {counted(counts.records, 'record')}."
        yield Measured("rejected_share", table, counts.rejected / max(1, counts.records), now, text, asset)
        if (audit := last_result(ledger, table)).began_at:
            began, text = datetime.fromisoformat(audit.began_at), f"{counted(audit.differences, 'difference')}."
            yield Measured("audit_differences", table, audit.differences, began, text, asset)
    budgets = {"day": guardrails.engine_calls_per_day, "hour": guardrails.engine_calls_per_hour}
    for (period, budget), taken in zip(budgets.items(), ledger.limits.calls_taken(), strict=True):
        if budget:
            yield Measured("budget_share", period, taken / budget, now, f"{taken:,} of {budget:,} calls.")


# --- State of the instance --------------------------------------------------------------------------------------------


class InstanceState(NamedTuple):
    """The incidents of the instance, and when each step last succeeded."""

    incidents: list[Incident]
    successes: dict[str, datetime]


def read_state(
    instance: dg.DagsterInstance,
    watched: AlertScope,
    now: datetime,
    ledger: str | None = None,
    location: str | None = None,
) -> InstanceState:
    """Read the present state of the watched objects. now: UTC. ledger, location: ours; runs of others are ignored."""
    steps = watched.steps.values()
    answers = latest_answers(instance, [key for step in steps for key in step.check_keys])
    made_at = {
        record.asset_entry.asset_key: record.asset_entry.last_materialization.timestamp
        for record in instance.get_asset_records([key for step in steps for key in step.keys])
        if record.asset_entry.last_materialization
    }
    done = made_at | {key: answer.event.timestamp for key, answer in answers.items() if answer.event}
    # A step has succeeded once one of its assets was materialised, or a check was evaluated, though it failed.
    last_good = {
        name: datetime.fromtimestamp(max(times), UTC)
        for name, step in watched.steps.items()
        if (times := [done[key] for key in step.keys or step.check_keys if key in done])
    }
    stale = freshness(instance, [spec.key for step in steps for spec in step.specs if spec.freshness_policy]).items()

    def foreign(run: dg.DagsterRun) -> bool:
        return is_foreign(run, ledger, location)

    incidents = [
        *_failed(instance, watched, last_good, made_at, now, foreign),
        *_failed_without_assets(instance, watched.without_assets, last_good, now, foreign),
        *(
            failed_check(
                key.asset_key.to_user_string(),
                key.name,
                answer.run_id,
                datetime.fromtimestamp(answer.event.timestamp, UTC),
                result.description or "",
                warns=result.severity == dg.AssetCheckSeverity.WARN,
            )
            for key, answer in answers.items()
            if (result := answer.evaluation) and not result.passed and answer.event
        ),
        *(stale_asset(key.to_user_string(), since, warns=state == "warning") for key, (state, since) in stale),
        *_failed_sensors(instance, watched.sensors, now, location),
    ]
    return InstanceState(incidents, last_good)


def _failed_sensors(
    instance: dg.DagsterInstance, names: frozenset[str], now: datetime, location: str | None
) -> Iterator[Incident]:
    """Yield the sensors whose last finished tick failed, with the line of a `SensorFailed`.

    Of any other error only with its type, since its text may quote a record.
    """
    for name, (tick, since) in sorted(failed_ticks(instance, names, location).items()):
        if tick.timestamp > (now - LOOK_BACK).timestamp():
            of_ours = tick.error and tick.error.cls_name == SensorFailed.__name__
            yield failed_sensor(name, since, tick.error.message if of_ours else _type_of(tick.error))


def _failed(
    instance: dg.DagsterInstance,
    watched: AlertScope,
    last_good: Mapping[str, datetime],
    materialized: Mapping[dg.AssetKey, float],
    now: datetime,
    foreign: Callable[[dg.DagsterRun], bool],
) -> Iterator[Incident]:
    """Yield the last failure of each step that has not succeeded since.

    A step of several assets has succeeded once all assets of the failed run were materialised: it may have failed for
    one of them, and later runs materialise the others without that one.
    """
    steps = watched.steps

    def is_over(name: str, run: dg.DagsterRun, at: datetime) -> bool:
        assets = set(steps[name].keys) & (run.asset_selection or set())
        if len(assets) < 2:
            return name in last_good and last_good[name] > at
        return all(materialized.get(key, 0.0) > at.timestamp() for key in assets)

    failures = dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE], updated_after=now - LOOK_BACK)
    handled: set[str] = set()
    read = 0
    for record in instance.get_run_records(failures, limit=MOST_RUNS):
        run = record.dagster_run
        at = datetime.fromtimestamp(record.end_time, UTC) if record.end_time else record.update_timestamp
        undecided = {name for name in watched.steps_of(run) if name not in handled and not is_over(name, run, at)}
        if foreign(run) or read == MOST_RUN_EVENTS or not undecided:
            continue
        read += 1
        reasons = {name: why for name, why in _step_failures(instance, run.run_id) if name in steps}
        if not reasons and (run.asset_selection or run.step_keys_to_execute):
            reasons = dict.fromkeys(undecided, "Its process ended before it was done.")
        for name, why in reasons.items():
            if name not in handled and not is_over(name, run, at):
                yield failed_step(name, _work(steps[name]), run.run_id, at, why)
            handled.add(name)


def _failed_without_assets(
    instance: dg.DagsterInstance,
    jobs: frozenset[str],
    last_good: dict[str, datetime],
    now: datetime,
    foreign: Callable[[dg.DagsterRun], bool],
) -> Iterator[Incident]:
    """Yield the jobs whose last run failed; add to `last_good` when the others did not fail."""
    for job in sorted(jobs):
        for record in instance.get_run_records(dg.RunsFilter(job_name=job), limit=MOST_RUN_EVENTS):
            run, began, ended = record.dagster_run, record.start_time or now.timestamp(), record.end_time
            if foreign(run) or (not run.is_finished and now.timestamp() - began < BEGINS.total_seconds()):
                continue
            at = datetime.fromtimestamp(ended, UTC) if ended else now
            if run.status != dg.DagsterRunStatus.FAILURE:
                last_good[job] = at
            elif now - at < LOOK_BACK:
                why = next((why for _, why in _step_failures(instance, run.run_id)), "")
                yield failed_step(job, f"the job {job}", run.run_id, at, why or "Its process ended before it was done.")
            break


def _work(step: dg.AssetsDefinition) -> str:
    """Return the name of a step's work, for messages."""
    checked = {key.asset_key.to_user_string() for key in step.check_keys}
    assets = ", ".join(sorted(key.to_user_string() for key in step.keys))
    return assets or f"the checks of {', '.join(sorted(checked))}"


def _step_failures(instance: dg.DagsterInstance, run_id: str) -> Iterator[tuple[str, str]]:
    """Yield (step, message) for each failed step of a run.

    The message is that of a `dg.Failure`; of any other error only the type, since its text may quote a record.
    """
    records = instance.get_records_for_run(run_id, of_type=dg.DagsterEventType.STEP_FAILURE).records
    for record in records:
        event = record.event_log_entry.dagster_event
        if event is None or event.step_key is None:
            continue
        failure: Any = event.step_failure_data
        data = failure.user_failure_data
        yield event.step_key, (data.description if data and data.description else _type_of(failure.error))


def _type_of(error: Any) -> str:
    """Return a sentence with the type of an error's first cause; empty if there is no error."""
    while error and error.cause:
        error = error.cause
    return f"It stopped at an error of the program: {cast('str', error.cls_name)}." if error else ""
