"""Store the report of a certification in the ledger, beside the findings of pushes, and read it again.

Each premise is stored with its resource or table; when the run ended, and by which version, with `NAME`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version

from sync_assets.audit.certification.premise_result import PremiseResult
from sync_assets.audit.certification.subject import PREFIX
from sync_assets.config.models import Config
from sync_assets.ledger import Ledger
from sync_assets.ledger.times import iso

NAME = "(certification)"
"""The name under which the ledger stores what belongs to no resource: a lease, and the marks below."""
BEGAN, CERTIFIED_AT, VERSION = "began", "certified_at", "version"
CERTIFIED = "certified "
"""Beginning of the premises that only the report has."""
_NOT_WORKABLE = "not workable: "


@dataclass(frozen=True, slots=True)
class NotWorkable:
    """A premise that the last certification found not workable. about: resource or table; empty for a whole system."""

    system: str
    about: str
    premise: str
    found: str


@dataclass(frozen=True, slots=True)
class StoredReport:
    """What the ledger has of certifications.

    Attributes:
        at: When the last one ended (UTC); None if none did.
        version: Of the program that certified; None for one by a commit that did not store it.
        not_workable: The premises that are not workable, by the tables and resources that are mapped now.
        began: When one began that has not ended normally: it is under way, was killed, or failed.
    """

    at: datetime | None
    version: str | None
    not_workable: tuple[NotWorkable, ...]
    began: datetime | None


def store(ledger: Ledger, results: Iterable[PremiseResult], at: datetime) -> None:
    """Store a report. It replaces the former ones of the same resources and tables."""
    reports: dict[str, dict[str, str]] = {}
    for result in results:
        premise = f"{CERTIFIED}{result.system}: {result.premise}"
        reports.setdefault(result.about or NAME, {})[premise] = f"{result.outcome}: {result.found}"
    for about, report in reports.items():
        if former := [one for one in ledger.dialect.found(about) if one.startswith(CERTIFIED)]:
            ledger.dialect.forget(about, *former)
        ledger.dialect.note(about, report)
    ledger.dialect.note(NAME, {CERTIFIED_AT: at.isoformat(timespec="seconds"), VERSION: version("sync-assets")})


def stored_report(ledger: Ledger, config: Config) -> StoredReport:
    """Return what the ledger has of the last certification."""
    marks = ledger.dialect.found(NAME)
    names = dict.fromkeys(name for table in config.in_link_order for name in (table.table, table.resource))
    wrong = [
        NotWorkable(system, "" if about == NAME else about, premise, found.removeprefix(_NOT_WORKABLE))
        for about in (NAME, *names)
        for known, found in sorted(ledger.dialect.found(about).items())
        if known.startswith(CERTIFIED) and found.startswith(_NOT_WORKABLE)
        for system, _, premise in [known.removeprefix(CERTIFIED).partition(": ")]
    ]
    return StoredReport(_time(marks.get(CERTIFIED_AT)), marks.get(VERSION), tuple(wrong), _time(marks.get(BEGAN)))


def unfinished(report: StoredReport, config: Config) -> str | None:
    """Return the sentences on a certification that has not ended normally; None without one."""
    if report.began is None:
        return None
    resources = ", ".join(f"{table.resource} ({table.key})" for table in config.in_link_order)
    return (
        f"A certification began at {iso(report.began)} and has not ended normally: it is under way, was killed, or "
        f"failed. These resources may still hold its records: {resources}. Their keys begin with {PREFIX}; Dynamics "
        "365 has no such rows. Once no `certify` is under way, run `sync-assets certify` again: it deletes them."
    )


def _time(stored: str | None) -> datetime | None:
    return datetime.fromisoformat(stored) if stored else None
