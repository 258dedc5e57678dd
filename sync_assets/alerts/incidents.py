"""Incidents: open conditions, and which of them are notified. Pure.

They are found in the state of the Dagster instance by `defs/alerts.py`, and killed runs in the ledger.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from sync_assets.runtime.heartbeat import REMEDY, KilledRun

BACKLOG = "backlog_is_young"
Kind = Literal["run", "check", "freshness", "sensor"]


@dataclass(frozen=True, slots=True)
class Incident:
    """A condition that needs attention.

    Attributes:
        id: Stays the same while the incident lasts.
        kind: Of the object: check, run, sensor, asset.
        title: A sentence without a full stop.
        since: When it began, UTC.
        detail: The reason, in our own words; empty if the text is foreign, which may quote a record.
        remedy: What to do.
        path: The path of the UI's page that shows it.
        asset: The asset, or the work of the failed step; empty for sensors and killed runs.
        run_id: The run that failed, or in which the check was evaluated; empty if there is none.
        warns: True if it is only a warning.
        check: The name of the check; empty for other kinds.
    """

    id: str
    kind: Kind
    title: str
    since: datetime
    detail: str
    remedy: str
    path: str
    asset: str = ""
    run_id: str = ""
    warns: bool = False
    check: str = ""


def open_incidents(
    incidents: Iterable[Incident], *, warnings: bool, paused: frozenset[str] = frozenset()
) -> list[Incident]:
    """Return the incidents to notify, the longest first.

    A run that failed because of a failed check is one incident, the check's. Stale data and the backlog of a table in
    maintenance are no incidents.

    Args:
        incidents: All incidents.
        warnings: Include checks that only warn, and data that is only late.
        paused: Assets of tables in maintenance.
    """
    chosen = [incident for incident in incidents if warnings or not incident.warns]
    chosen = [incident for incident in chosen if not (incident.asset in paused and _may_wait(incident))]
    checks = [incident for incident in chosen if incident.kind == "check"]
    chosen = [incident for incident in chosen if not any(_caused_by(check, incident) for check in checks)]
    return sorted(chosen, key=lambda incident: (incident.since, incident.id))


def _may_wait(incident: Incident) -> bool:
    return incident.kind == "freshness" or incident.check == BACKLOG


def _caused_by(check: Incident, incident: Incident) -> bool:
    """Return True if the incident is a failed step, and it failed because of the check.

    The check may be of another asset: a capture checks Campaign's side as well.
    """
    is_same = (check.run_id, check.asset) == (incident.run_id, incident.asset)
    return incident.kind == "run" and (is_same or bool(check.detail and check.detail in incident.detail))


def failed_check(asset: str, name: str, run_id: str, since: datetime, detail: str, *, warns: bool) -> Incident:
    """Return the incident of a check whose latest result is a failure."""
    return Incident(
        id=f"check {asset} {name}",
        kind="check",
        title=f"{'Check (a warning)' if warns else 'Check'} {name} of {asset} does not hold",
        since=since,
        detail=detail,
        remedy=f"Correct it; the next run of {asset} or of its checks evaluates it. `sync-assets doctor` checks "
        "both systems now.",
        path=f"assets/{asset}?view=checks",
        asset=asset,
        run_id=run_id,
        warns=warns,
        check=name,
    )


def run_incident_id(step: str) -> str:
    return f"run {step}"


def failed_step(step: str, work: str, run_id: str, since: datetime, detail: str) -> Incident:
    """Return the incident of the last failure of a step that has not succeeded since. work: its name."""
    return Incident(
        id=run_incident_id(step),
        kind="run",
        title=f"The run {run_id[:8]} of {work} failed",
        since=since,
        detail=detail,
        remedy="Nothing is lost: pending records are sent by the next run. See the run's events in the UI, and "
        "`sync-assets doctor`.",
        path=f"runs/{run_id}",
        asset=work,
        run_id=run_id,
    )


def stale_asset(asset: str, since: datetime, *, warns: bool) -> Incident:
    """Return the incident of an asset that was not materialised as often as its freshness policy requires."""
    return Incident(
        id=f"freshness {asset}",
        kind="freshness",
        title=f"{asset} is {'late' if warns else 'stale'}",
        since=since,
        detail="It was not materialised as often as its freshness policy requires.",
        remedy="Start its sensor, or look at the sensor's last tick; `sync-assets doctor` shows what is unreachable.",
        path=f"assets/{asset}",
        asset=asset,
        warns=warns,
    )


def failed_sensor(name: str, since: datetime, detail: str) -> Incident:
    """Return the incident of a sensor whose ticks have failed since a time."""
    return Incident(
        id=f"sensor {name}",
        kind="sensor",
        title=f"The sensor {name} fails",
        since=since,
        detail=detail,
        remedy="Correct it; the sensor tries again by itself. `sync-assets doctor` checks both systems now.",
        path="automation",
    )


def killed_run(run: KilledRun) -> Incident:
    """Return the incident of a run that still counts as started although its process was killed."""
    return Incident(
        id=f"killed {run.run_id}",
        kind="run",
        title=f"The process of run {run.run_id[:8]} was killed",
        since=run.since,
        detail="The run still counts as started.",
        remedy=REMEDY,
        path=f"runs/{run.run_id}",
    )
