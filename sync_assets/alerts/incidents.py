"""Incidents: derive what is wrong now from the state of the Dagster instance and the ledger. Pure.

The state is read in `defs/alerts/dagster_state.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from sync_assets.runtime.heartbeat import REMEDY, KilledRun

BACKLOG = "backlog_is_young"
Kind = Literal["run", "check", "freshness", "sensor"]


@dataclass(frozen=True, slots=True)
class FailedStep:
    """The last failure of a step that has not succeeded since.

    `of`: its asset, or the asset that it checks. `said`: why, in our own words; empty if the text is foreign, which may
    quote a record.
    """

    step: str
    of: str
    run_id: str
    at: datetime
    said: str


@dataclass(frozen=True, slots=True)
class FailedCheck:
    """A check whose latest result is a failure. `error`: False if it only warns."""

    asset: str
    name: str
    run_id: str
    at: datetime
    error: bool
    said: str


@dataclass(frozen=True, slots=True)
class Stale:
    """An asset that was not materialised as often as its freshness policy requires."""

    asset: str
    at: datetime
    error: bool


@dataclass(frozen=True, slots=True)
class FailedSensor:
    """A sensor whose ticks have failed since `at`. `said`: why the last one failed, in our own words."""

    name: str
    at: datetime
    said: str


@dataclass(frozen=True, slots=True)
class InstanceState:
    """The state of the instance. Assets are named as in the UI, `d365/contact`.

    Attributes:
        good: when each step last succeeded.
        paused: assets of tables in maintenance.
        killed: runs that still count as started although their process was killed.
    """

    failed: list[FailedStep] = field(default_factory=list[FailedStep])
    checks: list[FailedCheck] = field(default_factory=list[FailedCheck])
    stale: list[Stale] = field(default_factory=list[Stale])
    sensors: list[FailedSensor] = field(default_factory=list[FailedSensor])
    good: Mapping[str, datetime] = field(default_factory=dict[str, datetime])
    paused: frozenset[str] = frozenset()
    killed: Sequence[KilledRun] = ()


@dataclass(frozen=True, slots=True)
class Incident:
    """One thing that is wrong. `id`: the same as long as it lasts. `path`: of the page of the UI that shows it."""

    id: str
    kind: Kind
    what: str
    since: datetime
    said: str
    remedy: str
    path: str


def run_incident_id(step: str) -> str:
    return f"run {step}"


def incidents(state: InstanceState, *, warnings: bool) -> list[Incident]:
    """Return all incidents, the longest first.

    `warnings`: include checks that only warn and data that is only late. A run that failed because of a failed check is
    one incident, the check's. Stale data and the backlog of a table in maintenance are no incidents.
    """
    checks = [
        check
        for check in state.checks
        if (check.error or warnings) and not (check.name == BACKLOG and check.asset in state.paused)
    ]
    found = [_of_check(check) for check in checks]
    found += [_of_step(step) for step in state.failed if not any(_caused_by(check, step) for check in checks)]
    found += [_of_age(one) for one in state.stale if (one.error or warnings) and one.asset not in state.paused]
    found += [_of_sensor(one) for one in state.sensors]
    found += [_of_killed(one) for one in state.killed]
    return sorted(found, key=lambda incident: (incident.since, incident.id))


def _caused_by(check: FailedCheck, step: FailedStep) -> bool:
    """Return True if the step failed because of the check.

    The check may be of another asset: a capture checks Campaign's side as well.
    """
    return (check.run_id, check.asset) == (step.run_id, step.of) or bool(check.said and check.said in step.said)


def _of_check(check: FailedCheck) -> Incident:
    return Incident(
        id=f"check {check.asset} {check.name}",
        kind="check",
        what=f"{'Check' if check.error else 'Check (a warning)'} {check.name} of {check.asset} does not hold",
        since=check.at,
        said=check.said,
        remedy=f"Put that right; the next run of {check.asset} or of its checks asks again. `sync-assets doctor` asks "
        "both systems now.",
        path=f"assets/{check.asset}?view=checks",
    )


def _of_step(step: FailedStep) -> Incident:
    return Incident(
        id=run_incident_id(step.step),
        kind="run",
        what=f"The run {step.run_id[:8]} of {step.of} failed",
        since=step.at,
        said=step.said,
        remedy="Nothing is lost: what is pending goes with the next run. See the run's events in the UI, and "
        "`sync-assets doctor`.",
        path=f"runs/{step.run_id}",
    )


def _of_age(stale: Stale) -> Incident:
    return Incident(
        id=f"freshness {stale.asset}",
        kind="freshness",
        what=f"{stale.asset} is {'stale' if stale.error else 'late'}",
        since=stale.at,
        said="It was not materialised as often as its freshness policy wants.",
        remedy="Start its sensor, or look at the sensor's last tick; `sync-assets doctor` says what cannot be reached.",
        path=f"assets/{stale.asset}",
    )


def _of_sensor(sensor: FailedSensor) -> Incident:
    return Incident(
        id=f"sensor {sensor.name}",
        kind="sensor",
        what=f"The sensor {sensor.name} fails",
        since=sensor.at,
        said=sensor.said,
        remedy="Put that right; the sensor tries again by itself. `sync-assets doctor` asks both systems now.",
        path="automation",
    )


def _of_killed(run: KilledRun) -> Incident:
    return Incident(
        id=f"killed {run.run_id}",
        kind="run",
        what=f"The process of run {run.run_id[:8]} was killed",
        since=run.since,
        said="The run still counts as started.",
        remedy=REMEDY,
        path=f"runs/{run.run_id}",
    )
