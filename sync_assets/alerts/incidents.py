"""Incidents: open conditions; which of them are notified, and as which text. Pure.

They are found in the state of the Dagster instance by `defs/alerts.py`, and killed runs in the ledger. Texts have ids
and names and no personal data.

Each channel has its own memory, so that one that cannot be reached misses nothing, and no other sends anything twice.
An incident that ends before a channel could be notified is not sent. A notification without an answer may have been
delivered, so its incident is repeated after UNANSWERED_AFTER only.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Literal

import msgspec
from msgspec import structs

from sync_assets.foreign_text import one_line
from sync_assets.runtime.workers import REMEDY, KilledRun

BACKLOG = "backlog_is_young"
Kind = Literal["run", "check", "freshness", "sensor", "threshold"]


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


def open_incidents(incidents: Iterable[Incident], paused: frozenset[str] = frozenset()) -> list[Incident]:
    """Return the incidents to notify, the longest first.

    A run that failed because of a failed check is one incident, the check's. Stale data and the backlog of a table in
    maintenance are no incidents.

    Args:
        incidents: All incidents.
        paused: Assets of tables in maintenance.
    """
    chosen = [
        incident
        for incident in incidents
        if incident.asset not in paused or not (incident.kind == "freshness" or incident.check == BACKLOG)
    ]
    checks = [incident for incident in chosen if incident.kind == "check"]
    chosen = [incident for incident in chosen if not any(_caused_by(check, incident) for check in checks)]
    return sorted(chosen, key=lambda incident: (incident.since, incident.id))


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


DROPPED_AFTER = timedelta(days=7)
"""A failed run that was never repeated is dropped after this time."""
AGAIN_AFTER = timedelta(days=1)
"""After this time an incident that lasts is sent again."""
UNANSWERED_AFTER = timedelta(hours=1)
"""The same if the notification got no answer."""
MOST_SHOWN = 20
"""Incidents that one message lists; of the others it gives the number."""
_LONGEST = 600
"""Characters at most of a check's or run's own text."""
_RUN = run_incident_id("")


class Notified(msgspec.Struct, frozen=True):
    """The last notification of an incident on a channel: title, begin of the incident, time of the next one (UTC).

    warns: as the incident now is.
    """

    title: str
    since: datetime
    again_at: datetime
    warns: bool = False


Memory = dict[str, Notified]
"""Incident id -> the last notification on the channel."""


@dataclass(frozen=True, slots=True)
class Notifications:
    """The notifications of one channel.

    `new`: incidents sent for the first time. `lasting`: incidents that last. `resolved`: sent before, and over.
    """

    new: list[Incident] = field(default_factory=list[Incident])
    lasting: list[Incident] = field(default_factory=list[Incident])
    resolved: list[Notified] = field(default_factory=list[Notified])

    def __bool__(self) -> bool:
        return bool(self.new or self.lasting or self.resolved)


def notifications(
    now_wrong: Sequence[Incident], good: Mapping[str, datetime], notified: Mapping[str, Notified], now: datetime
) -> tuple[Notifications, Memory]:
    """Return the notifications for a channel, and its memory once they are delivered.

    A failed run is over when its step succeeds later; it is not over only because it is too old to be found among the
    runs.

    Args:
        good: when each step last succeeded.
        notified: the channel's memory.
    """
    new, again, memory = list[Incident](), list[Incident](), Memory()
    for incident in now_wrong:
        last = notified.get(incident.id)
        if last is None:
            new.append(incident)
            memory[incident.id] = Notified(incident.title, incident.since, now + AGAIN_AFTER, incident.warns)
        elif now >= last.again_at:
            again.append(replace(incident, since=last.since))
            memory[incident.id] = Notified(incident.title, last.since, now + AGAIN_AFTER, incident.warns)
        else:
            memory[incident.id] = structs.replace(last, warns=incident.warns)
    resolved: list[Notified] = []
    for id_, last in notified.items():
        if id_ in memory:
            continue
        last_good = good.get(id_.removeprefix(_RUN))
        if not id_.startswith(_RUN) or (last_good and last_good > last.since):
            resolved.append(last)
        elif now - last.since < DROPPED_AFTER:
            memory[id_] = last
    return Notifications(new, again, resolved), memory


def unanswered(memory: Memory, now: datetime) -> Memory:
    """Return the memory, see `notifications`, if what was sent now got no answer."""
    sent = {id_: notified for id_, notified in memory.items() if notified.again_at == now + AGAIN_AFTER}
    again_at = now + UNANSWERED_AFTER
    return memory | {id_: structs.replace(notified, again_at=again_at) for id_, notified in sent.items()}


# --- Text ------------------------------------------------------------------------------------------------------------


def subject(notices: Notifications) -> str:
    """Return one line: how many incidents, and the first of them."""
    counted = [
        f"{len(incidents)} {title}"
        for title, incidents in (("new", notices.new), ("lasting", notices.lasting), ("resolved", notices.resolved))
        if incidents
    ]
    first = [*notices.new, *notices.lasting, *notices.resolved][0]
    return f"sync_assets: {', '.join(counted)}: {first.title}"


def text(notices: Notifications, ui_url: str) -> str:
    """Return the whole message. ui_url: the address of the Dagster UI without a page; empty: no links."""
    lines = [*_wrong("New incidents", notices.new, ui_url), *_wrong("Lasting incidents", notices.lasting, ui_url)]
    if notices.resolved:
        lines.append("Resolved:")
        lines += [f"• {one_line(last.title)} (since {_moment(last.since)})." for last in notices.resolved[:MOST_SHOWN]]
        lines += _more(len(notices.resolved))
    return "\n".join(lines)


def _wrong(title: str, incidents: list[Incident], ui_url: str) -> Iterator[str]:
    if not incidents:
        return
    yield f"{title}:"
    for incident in incidents[:MOST_SHOWN]:
        detail = one_line(incident.detail)  # else a line of its own could pass for another incident
        detail = detail if len(detail) <= _LONGEST else f"{detail[:_LONGEST]} …"
        yield f"• {one_line(incident.title)}, since {_moment(incident.since)}. {detail}".rstrip()
        yield f"  Remedy: {incident.remedy}"
        if ui_url:
            yield f"  {ui_url}/{incident.path}"
    yield from _more(len(incidents))


def _more(number: int) -> Iterator[str]:
    if number > MOST_SHOWN:
        yield f"… and {number - MOST_SHOWN:,} more: `sync-assets alerts` lists them."


def _moment(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
