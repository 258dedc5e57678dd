"""Notifications as text: what, since when, the remedy, and the page in the UI. Ids and names, no personal data."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from sync_assets.alerts.incidents import Incident
from sync_assets.alerts.notifications import Notifications
from sync_assets.foreign_text import one_line

SHOWN = 20
"""Incidents that one message lists; of the others it gives the number."""
_LONGEST = 600
"""Characters at most of a check's or run's own text."""


def subject(notices: Notifications) -> str:
    """Return one line: how many incidents, and the first of them."""
    counted = [
        f"{len(those)} {what}"
        for what, those in (("new", notices.new), ("lasting", notices.again), ("solved", notices.solved))
        if those
    ]
    first = [*(incident.what for incident in (*notices.new, *notices.again)), *(one.what for one in notices.solved)]
    return f"sync_assets: {', '.join(counted)}: {first[0]}"


def text(notices: Notifications, ui_url: str) -> str:
    """Return the whole message. ui_url: the address of the Dagster UI without a page; empty: no links."""
    lines = [*_wrong("New trouble", notices.new, ui_url), *_wrong("Still so", notices.again, ui_url)]
    if notices.solved:
        lines.append("Solved:")
        lines += [
            f"• {one_line(one.what)} (since {_moment(one.since)}): that is over." for one in notices.solved[:SHOWN]
        ]
        lines += _more(len(notices.solved))
    return "\n".join(lines)


def _wrong(title: str, those: list[Incident], ui_url: str) -> Iterator[str]:
    if not those:
        return
    yield f"{title}:"
    for incident in those[:SHOWN]:
        said = one_line(incident.said)  # else a line of its own could pass for another incident
        said = said if len(said) <= _LONGEST else f"{said[:_LONGEST]} …"
        yield f"• {one_line(incident.what)}, since {_moment(incident.since)}. {said}".rstrip()
        yield f"  What to do: {incident.remedy}"
        if ui_url:
            yield f"  {ui_url}/{incident.path}"
    yield from _more(len(those))


def _more(number: int) -> Iterator[str]:
    if number > SHOWN:
        yield f"… and {number - SHOWN:,} more: `sync-assets alerts` lists them."


def _moment(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
