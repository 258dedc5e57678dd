"""Notices as text: what, since when, what to do, where to look. Ids and names, nobody's data."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from sync_assets.alerts.incidents import Incident
from sync_assets.alerts.notifications import Notifications

SHOWN = 20
"""Troubles that one message holds; of the others it gives the number."""
_LONGEST = 600
"""Characters of what a check or run said."""


def subject(notices: Notifications) -> str:
    """One line: how many, and the first of them."""
    counted = [
        f"{len(those)} {what}"
        for what, those in (("new", notices.new), ("lasting", notices.again), ("solved", notices.solved))
        if those
    ]
    first = [*(trouble.what for trouble in (*notices.new, *notices.again)), *(one.what for one in notices.solved)]
    return f"sync_assets: {', '.join(counted)}: {first[0]}"


def text(notices: Notifications, ui_url: str) -> str:
    """The whole message. ui_url: what stands before the pages of the Dagster UI; empty: no links."""
    lines = [*_wrong("New trouble", notices.new, ui_url), *_wrong("Still so", notices.again, ui_url)]
    if notices.solved:
        lines.append("Solved:")
        lines += [f"• {one.what} (since {_moment(one.since)}): that is over." for one in notices.solved[:SHOWN]]
        lines += _more(len(notices.solved))
    return "\n".join(lines)


def _wrong(title: str, those: list[Incident], ui_url: str) -> Iterator[str]:
    if not those:
        return
    yield f"{title}:"
    for trouble in those[:SHOWN]:
        said = trouble.said if len(trouble.said) <= _LONGEST else f"{trouble.said[:_LONGEST]} …"
        yield f"• {trouble.what}, since {_moment(trouble.since)}. {said}".rstrip()
        yield f"  What to do: {trouble.remedy}"
        if ui_url:
            yield f"  {ui_url}/{trouble.path}"
    yield from _more(len(those))


def _more(number: int) -> Iterator[str]:
    if number > SHOWN:
        yield f"… and {number - SHOWN:,} more: `sync-assets alerts` lists them."


def _moment(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
