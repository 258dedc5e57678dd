"""Incidents: what is wrong now, and which of it is to be notified. Pure.

They are found in the state of the Dagster instance by `defs/alerts.py`, and killed runs in the ledger.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from sync_assets.runtime.heartbeat import REMEDY, KilledRun

BACKLOG = "backlog_is_young"
Kind = Literal["run", "check", "freshness", "sensor"]


@dataclass(frozen=True, slots=True)
class Incident:
    """One thing that is wrong.

    Attributes:
        id: The same as long as it lasts.
        kind: Of the object: check, run, sensor, asset.
        what: As a sentence without a full stop.
        since: When it began, UTC.
        said: Why, in our own words; empty if the text is foreign, which may quote a record.
        remedy: What to do.
        path: Of the page of the UI that shows it.
        asset: The asset, or the work of the step, that it is about; empty for sensors and killed runs.
        run_id: The run that failed, or in which the check was evaluated; empty if there is none.
        warns: True if it is only a warning.
        check: The name of the check; empty for other kinds.
    """

    id: str
    kind: Kind
    what: str
    since: datetime
    said: str
    remedy: str
    path: str
    asset: str = ""
    run_id: str = ""
    warns: bool = False
    check: str = ""


def open_incidents(
    found: Iterable[Incident], *, warnings: bool, paused: frozenset[str] = frozenset()
) -> list[Incident]:
    """Return the incidents to notify, the longest first.

    A run that failed because of a failed check is one incident, the check's. Stale data and the backlog of a table in
    maintenance are no incidents.

    Args:
        found: All incidents.
        warnings: Include checks that only warn, and data that is only late.
        paused: Assets of tables in maintenance.
    """
    wanted = [one for one in found if (warnings or not one.warns) and not (one.asset in paused and _may_wait(one))]
    checks = [one for one in wanted if one.kind == "check"]
    wanted = [one for one in wanted if not (one.kind == "run" and any(_caused_by(check, one) for check in checks))]
    return sorted(wanted, key=lambda one: (one.since, one.id))


def _may_wait(one: Incident) -> bool:
    return one.kind == "freshness" or one.check == BACKLOG


def _caused_by(check: Incident, step: Incident) -> bool:
    """Return True if the step failed because of the check.

    The check may be of another asset: a capture checks Campaign's side as well.
    """
    return (check.run_id, check.asset) == (step.run_id, step.asset) or bool(check.said and check.said in step.said)


def failed_check(asset: str, name: str, run_id: str, since: datetime, said: str, *, warns: bool) -> Incident:
    """Return the incident of a check whose latest result is a failure."""
    return Incident(
        id=f"check {asset} {name}",
        kind="check",
        what=f"{'Check (a warning)' if warns else 'Check'} {name} of {asset} does not hold",
        since=since,
        said=said,
        remedy=f"Put that right; the next run of {asset} or of its checks asks again. `sync-assets doctor` asks "
        "both systems now.",
        path=f"assets/{asset}?view=checks",
        asset=asset,
        run_id=run_id,
        warns=warns,
        check=name,
    )


def run_incident_id(step: str) -> str:
    return f"run {step}"


def failed_step(step: str, of: str, run_id: str, since: datetime, said: str) -> Incident:
    """Return the incident of the last failure of a step that has not succeeded since. of: what the step works on."""
    return Incident(
        id=run_incident_id(step),
        kind="run",
        what=f"The run {run_id[:8]} of {of} failed",
        since=since,
        said=said,
        remedy="Nothing is lost: what is pending goes with the next run. See the run's events in the UI, and "
        "`sync-assets doctor`.",
        path=f"runs/{run_id}",
        asset=of,
        run_id=run_id,
    )


def stale_asset(asset: str, since: datetime, *, warns: bool) -> Incident:
    """Return the incident of an asset that was not materialised as often as its freshness policy requires."""
    return Incident(
        id=f"freshness {asset}",
        kind="freshness",
        what=f"{asset} is {'late' if warns else 'stale'}",
        since=since,
        said="It was not materialised as often as its freshness policy wants.",
        remedy="Start its sensor, or look at the sensor's last tick; `sync-assets doctor` says what cannot be reached.",
        path=f"assets/{asset}",
        asset=asset,
        warns=warns,
    )


def failed_sensor(name: str, since: datetime, said: str) -> Incident:
    """Return the incident of a sensor whose ticks have failed since a time."""
    return Incident(
        id=f"sensor {name}",
        kind="sensor",
        what=f"The sensor {name} fails",
        since=since,
        said=said,
        remedy="Put that right; the sensor tries again by itself. `sync-assets doctor` asks both systems now.",
        path="automation",
    )


def killed_run(run: KilledRun) -> Incident:
    """Return the incident of a run that still counts as started although its process was killed."""
    return Incident(
        id=f"killed {run.run_id}",
        kind="run",
        what=f"The process of run {run.run_id[:8]} was killed",
        since=run.since,
        said="The run still counts as started.",
        remedy=REMEDY,
        path=f"runs/{run.run_id}",
    )
