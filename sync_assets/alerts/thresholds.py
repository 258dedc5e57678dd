"""Incidents of numbers that are above a configured threshold. Pure; the numbers are read by defs/alerts.py.

An incident that a channel was notified of ends only once its number is below nine tenths of the threshold, so that a
number which moves around the threshold is one incident.
"""

from collections.abc import Collection, Iterable
from datetime import datetime
from typing import Literal, NamedTuple

from sync_assets.alerts.incidents import Incident
from sync_assets.config.runs import Thresholds

ENDS_BELOW = 0.9
Name = Literal["pending_minutes", "rejected_share", "budget_share", "audit_differences"]
_TEXTS = {
    "pending_minutes": (
        "A change of {subject} is pending for more than {limit:g} minutes",
        "See the last run of `follow`, and `sync-assets doctor`.",
    ),
    "rejected_share": (
        "More than {limit:.4g} of the records of {subject} are rejected",
        "`sync-assets rejects {subject}` lists them; put them right in Dynamics 365.",
    ),
    "budget_share": (
        "More than {limit:.4g} of the budget of engine calls of this {subject} is spent",
        "At its end nothing is sent until the next {subject}: raise it, or see what is pending by `sync-assets plan`.",
    ),
    "audit_differences": (
        "The audit of {subject} found more differences than {limit:g}",
        "`sync-assets audit --table {subject}` lists them, with `--repair` the next sync sends what differs.",
    ),
}
"""Title and remedy by the name of the threshold."""


class Measured(NamedTuple):
    """A number to compare. subject: the table, or the period of the budget. detail: the number in words."""

    name: Name
    subject: str
    value: float
    since: datetime
    detail: str
    asset: str = ""


def exceeded(thresholds: Thresholds, measured: Iterable[Measured], notified: Collection[str]) -> list[Incident]:
    """Return an incident for each number above its threshold. notified: ids of incidents that a channel knows."""
    incidents: list[Incident] = []
    for one in measured:
        above = getattr(thresholds, one.name)
        if above is None:
            continue
        warning, *error = above
        id_ = f"threshold {one.name} {one.subject}"
        if one.value > warning * (ENDS_BELOW if id_ in notified else 1):
            title, remedy = (text.format(subject=one.subject, limit=warning) for text in _TEXTS[one.name])
            path = f"assets/{one.asset}" if one.asset else ""
            warns = not error or one.value <= error[0]
            incidents.append(
                Incident(id_, "threshold", title, one.since, one.detail, remedy, path, one.asset, warns=warns)
            )
    return incidents
