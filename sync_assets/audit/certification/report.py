"""The report of a certification: the result of each premise, stored in the ledger beside the findings of pushes.

Each premise is stored with its resource or table; when the run ended, and by which version, with `NAME`.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from typing import Literal
from urllib.parse import urlsplit

from sync_assets.checks.rules import Finding, ok, warn
from sync_assets.ledger import Ledger
from sync_assets.ledger.times import iso
from sync_assets.runtime.context import Runtime

PREFIX = "5afe0000-ce27-4f1c-8000-"
"""The beginning of all synthetic ids. Dynamics 365 makes random or sequential GUIDs, which do not begin like this."""
NAME = "(certification)"
"""The name under which the ledger stores what belongs to no resource: a lease, and the marks below."""
BEGAN, CERTIFIED_AT, VERSION = "began", "certified_at", "version"
CERTIFIED = "certified "
"""Beginning of the premises that only the report has."""
STAGE = "-mkt-stage"
"""The end of the name of a stage tenant. Source:
https://experienceleague.adobe.com/docs/campaign-standard/using/working-with-apis/about-campaign-standard-apis/setting-up-api-access.html
"""
_NOT_WORKABLE = "not workable: "

Outcome = Literal["workable", "not workable", "not tried"]


@dataclass(frozen=True, slots=True)
class PremiseResult:
    """The result of one premise, a row of the report. Holds no values and no secrets.

    Attributes:
        system: where it was tried, `Campaign` or `Dynamics 365`.
        about: the resource or table; empty for a whole system.
        premise: a constant name, the same in each report.
        found: what the system did; for a premise that was not tried, why.
        program: what the program will do; for one that is not workable, what to change. Not stored.
    """

    system: str
    about: str
    premise: str
    found: str
    program: str
    outcome: Outcome = "workable"


def store(ledger: Ledger, results: Iterable[PremiseResult], at: datetime) -> None:
    """Store a report. It replaces the former ones of the same resources and tables."""
    reports: dict[str, dict[str, str]] = {}
    for result in results:
        premise = f"{CERTIFIED}{result.system}: {result.premise}"
        reports.setdefault(result.about or NAME, {})[premise] = f"{result.outcome}: {result.found}"
    for about, report in reports.items():
        if former := [finding for finding in ledger.dialect.findings(about) if finding.startswith(CERTIFIED)]:
            ledger.dialect.forget(about, *former)
        ledger.dialect.note(about, report)
    ledger.dialect.note(NAME, {CERTIFIED_AT: at.isoformat(timespec="seconds"), VERSION: version("sync-assets")})


def certification_findings(runtime: Runtime) -> list[Finding]:
    """Return a finding for the last certification of these systems, and one for each premise that is not workable."""
    ledger, title, findings = runtime.ledger, "certification", list[Finding]()
    marks = ledger.dialect.findings(NAME)
    tables = runtime.config.in_link_order
    names = dict.fromkeys(name for table in tables for name in (table.table, table.resource))
    way = "`sync-assets certify` tries it again, and names what to change"
    not_workable = [
        warn(f"{title} of {system if about == NAME else about}: {premise}", f"{text}. {way}")
        for about in (NAME, *names)
        for known, finding in sorted(ledger.dialect.findings(about).items())
        if known.startswith(CERTIFIED) and finding.startswith(_NOT_WORKABLE)
        for system, _, premise in [known.removeprefix(CERTIFIED).partition(": ")]
        for text in [finding.removeprefix(_NOT_WORKABLE)]
    ]
    if began := marks.get(BEGAN):
        resources = ", ".join(f"{table.resource} ({table.key})" for table in tables)
        text = (
            f"A certification began at {iso(datetime.fromisoformat(began))} and has not ended normally: it is under "
            f"way, was killed, or failed. These resources may still hold its records: {resources}. Their keys begin "
            f"with {PREFIX}; Dynamics 365 has no such rows. Once no `certify` is under way, run `sync-assets certify` "
            "again: it deletes them."
        )
        findings.append(warn(f"{title} under way", text))
    if at := marks.get(CERTIFIED_AT):
        by = f" by version {marks[VERSION]}" if VERSION in marks else ""
        workable = "" if not_workable else ", all workable"
        findings.append(ok(title, f"the last one ended {iso(datetime.fromisoformat(at))}{by}{workable}"))
    elif tenant_of(runtime.settings.links()[1] or "").endswith(STAGE):
        text = "never. `sync-assets certify` finds out how both systems behave, with synthetic records"
        findings.append(warn(title, text))
    else:
        findings.append(ok(title, f"never: `sync-assets certify` is for a stage tenant (…{STAGE})"))
    return [*findings, *not_workable]


def tenant_of(campaign_url: str) -> str:
    return urlsplit(campaign_url).path.strip("/").rpartition("/")[2]
