"""Incidents of numbers above a configured threshold, which are warnings. Pure; defs/alerts.py reads the numbers.

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
    """Return an incident of each number above its threshold. notified: ids of incidents that a channel knows."""
    incidents: list[Incident] = []
    for name, subject, value, since, detail, asset in measured:
        above, id_ = getattr(thresholds, name), f"threshold {name} {subject}"
        if above is not None and value > above * (ENDS_BELOW if id_ in notified else 1):
            title, remedy = (text.format(subject=subject, limit=above) for text in _TEXTS[name])
            path = f"assets/{asset}" if asset else ""
            incidents.append(Incident(id_, "threshold", title, since, detail, remedy, path, asset, warns=True))
    return incidents
