"""Decide which notifications a channel gets, from the present incidents and those it was notified of before. Pure.

Also: a notification as text, with ids and names and no personal data.

Each channel has its own memory, so that one that cannot be reached misses nothing, and no other sends anything twice.
An incident that ends before a channel could be notified is not sent. A notification without an answer may have been
delivered, so its incident is repeated after UNANSWERED_AFTER only.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import msgspec
from msgspec import structs

from sync_assets.alerts.incidents import Incident, run_incident_id
from sync_assets.foreign_text import one_line

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
    """The last notification of an incident on a channel: title, begin of the incident, time of the next one (UTC)."""

    title: str
    since: datetime
    again_at: datetime


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
            memory[incident.id] = Notified(incident.title, incident.since, now + AGAIN_AFTER)
        elif now >= last.again_at:
            again.append(replace(incident, since=last.since))
            memory[incident.id] = Notified(incident.title, last.since, now + AGAIN_AFTER)
        else:
            memory[incident.id] = last
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
