"""Certify a stage tenant: remove leftovers, try all premises, remove the synthetic records, store what was found.

A mark in the ledger is stored before the first write and removed after the last record is gone, so the next run finds
what a killed run left. Children are created last and deleted first: Campaign hides a child without its parent for good.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from urllib.parse import urlsplit

from sync_assets.audit.certification import campaign_premises, dynamics_premises
from sync_assets.audit.certification.synthetic_record import PREFIX, ROWS, NotCreated, PremiseResult, Subject
from sync_assets.audit.existing_records import leased
from sync_assets.campaign import addressing
from sync_assets.campaign.addressing import CERTIFIED, NOT_WORKABLE
from sync_assets.campaign.client import CampaignClient, CampaignRefused
from sync_assets.checks.link_findings import unfilled_links
from sync_assets.checks.rules import Finding, ok, warn
from sync_assets.config.bulk_load import BulkLoad
from sync_assets.config.models import Config
from sync_assets.errors import SyncAssetsError
from sync_assets.http.transport import OutcomeUnknown
from sync_assets.ledger import Ledger
from sync_assets.ledger.errors import SESSION_SECONDS
from sync_assets.ledger.times import iso
from sync_assets.mapping.refusable import updated_paths
from sync_assets.push.record_links import KEY_IN_LINK, link_targets
from sync_assets.runtime.call_limits import calls_left, count_calls
from sync_assets.runtime.configuration import Configuration
from sync_assets.runtime.context import Runtime

CALLS_PER_TABLE = 60
"""Engine calls that the probes of one table take at most."""
CALLS_PER_FILE = 120
"""And those of its file."""

FileProbe = Callable[[Runtime, Subject], Awaitable[None]]

PATIENCE = 30.0
"""Seconds for which a failing request to Campaign is repeated: a longer failure is none of the premises."""

NAME = "(certification)"
"""The name under which the ledger stores what belongs to no resource: a lease, and the marks below."""
BEGAN, CERTIFIED_AT, VERSION = "began", "certified_at", "version"
STAGE = "-mkt-stage"
"""The end of the name of a stage tenant. Source:
https://experienceleague.adobe.com/docs/campaign-standard/using/working-with-apis/about-campaign-standard-apis/setting-up-api-access.html
"""
CREATED, REMOVED = "a synthetic record is made", "the synthetic record is removed"
_OF_KEYS = (addressing.KEY_FOUND, addressing.KEY_IN_URL, addressing.KEY_IN_DELETE, addressing.KEY_UNIQUE)
_FOUND_ANEW = (*_OF_KEYS, addressing.DELETE_ANSWER)
"""Findings that a certification replaces, also by none."""
_PACE = "Requests in flight adapt to latency and throttling; guardrails set calls_per_second and budgets."
_LAYOUT = "Rows that cannot be read are rejected one by one, with the reason."
_NAMES = "name and internalName, which Campaign rewrites, are refused as `key`."
_NOT_TRIED = (
    ("Campaign's pace", "a load on the tenant is needed", _PACE),
    ("the layout of the opt-out export", "the file is needed", _LAYOUT),
    ("names stay as they are sent", "names are no keys here", _NAMES),
)
"""Premises that no probe can try without harm to the tenant, or that are tried elsewhere."""


async def certify(runtime: Runtime, by_file: FileProbe | None = None) -> "Certification":
    """Try every premise on both systems.

    by_file: tries the way by file.

    Raises:
        SyncAssetsError: another certification is under way, a system is out of reach or refuses access, or the budget
            may not suffice, so that records could not be deleted today. Records that were created by then are deleted
            if Campaign can be reached, else by the next run.
    """
    ledger, config = await asyncio.to_thread(lambda: runtime.ledger), runtime.config
    settings = config.bulk_load or BulkLoad()
    files = len(settings.workflows) + len(settings.update_workflows)
    most = CALLS_PER_TABLE * len(config.tables) + CALLS_PER_FILE * files
    left = calls_left(ledger, config.guardrails)
    if left is not None and left < most:
        raise SyncAssetsError(
            f"A certification takes up to {most:,} engine calls, and the guardrails leave {left:,} for now.",
            "Nothing was written. Run it again when more calls are left, or raise the budget.",
        )
    async with leased(runtime.worker, NAME) as session, runtime.d365() as d365, runtime.campaign() as campaign:
        if session is None:
            raise SyncAssetsError(
                "Another `sync-assets certify` works with this ledger.",
                f"Wait for its end; if it was killed on another machine, for {SESSION_SECONDS:.0f} seconds.",
            )
        campaign.endpoint.patience = PATIENCE
        done = Certification(runtime, ledger, campaign, by_file)
        done.results += await dynamics_premises.organisation(d365, config)
        for table in config.in_link_order:
            done.results += await dynamics_premises.table(d365, ledger, table)
        await done.try_campaign()
        done.results += [result for subject in done.subjects for result in subject.results]
        done.results += [PremiseResult("Campaign", "", *premise, outcome="not tried") for premise in _NOT_TRIED]
        done.at = datetime.now(UTC)
        await asyncio.to_thread(done.store)
        return done


@dataclass(slots=True)
class Certification:
    """The probes of Campaign, and the result of a certification.

    Attributes:
        subjects: parents before their children.
        results: one for each premise and resource.
        calls: engine calls by kind.
        left: resources in which a synthetic record is left.
        at: when it ended (UTC).
    """

    runtime: Runtime
    ledger: Ledger
    campaign: CampaignClient
    by_file: FileProbe | None = None
    subjects: list[Subject] = field(default_factory=list[Subject])
    results: list[PremiseResult] = field(default_factory=list[PremiseResult])
    calls: Counter[str] = field(default_factory=Counter[str])
    left: list[str] = field(default_factory=list[str])
    at: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def workable(self) -> bool:
        return not self.left and all(result.outcome != "not workable" for result in self.results)

    async def try_campaign(self) -> None:
        """Remove leftovers, try everything, remove the records again, also after an error."""
        now = datetime.now(UTC)
        former = await asyncio.to_thread(lambda: self.ledger.dialect.facts(NAME).get(BEGAN))
        if former is None:
            await asyncio.to_thread(self.ledger.dialect.note, NAME, {BEGAN: now.isoformat()})
        by_table: dict[str, Subject] = {}
        for config in self.runtime.config.in_link_order:
            resource = await self.campaign.resource(config.api, config.resource)
            links = link_targets(self.runtime.config, config, resource)
            parents = {link.to: by_table[link.table] for link in config.links}
            nothing_known = addressing.Addressing.configured(config, {})
            subject = Subject(self.campaign, config, resource, links, nothing_known, now, parents)
            subject.rows = ROWS if former else 0
            by_table[config.table] = subject
            self.subjects.append(subject)
        if not await self._remove_all(datetime.fromisoformat(former) if former else None):
            return
        for subject in self.subjects:
            subject.rows = 0
        try:
            await self._try_all()
        except BaseException:
            with suppress(SyncAssetsError):
                await self._remove_all(now)  # the mark stays: an answer may still be on its way
            raise
        if await self._remove_all(None):
            await asyncio.to_thread(self.ledger.dialect.forget, NAME, BEGAN)

    async def _try_all(self) -> None:
        """Create the records, parents first; try the premises; delete the records as a push does, children first."""
        alive: list[Subject] = []
        for subject in self.subjects:
            not_filled, perhaps = unfilled_links(subject.config, subject.resource)
            if any(parent not in alive for parent in subject.parents.values()):
                subject.report(CREATED, "a parent could not be made", "See the parent's lines.", "not workable")
            elif not_filled or perhaps:  # it would be hidden, and could not be removed
                names = ", ".join(not_filled or perhaps)
                found = f"{names} is {'' if not_filled else 'perhaps '}required, and not among the `links`"
                way = f"Nothing was written to {subject.config.resource}. Map the link, or publish it as 0 or 1, then "
                subject.report(CREATED, found, f"{way}certify again.", "not workable" if not_filled else "not tried")
            elif await self._created(subject):
                alive.append(subject)
        for subject in alive:
            await self._probe(subject, "keys in URLs", campaign_premises.key_in_urls(subject))
            await self._probe(subject, campaign_premises.TAKEN, campaign_premises.key_taken(subject))
            await self._probe(subject, campaign_premises.IN_BODY, campaign_premises.key_in_body(subject))
            settings, table = self.runtime.config.bulk_load, subject.config
            files = settings.updated(table.table, updated_paths(table)) if settings else ()
            values = campaign_premises.values(subject, self.runtime.config.opt_out, files)
            await self._probe(subject, "values", values)
            await self._probe(subject, "links", campaign_premises.links(subject))
            if self.by_file:
                await self._probe(subject, "a file", self.by_file(self.runtime, subject))
        for subject in reversed(alive):
            if any(subject in child.parents.values() for child in alive if child.made):
                continue  # a child is left, which Campaign would hide without its parent
            await self._probe(subject, campaign_premises.DELETE, campaign_premises.key_in_delete(subject))
            if subject.made:
                await self._remove(subject, None)

    async def _created(self, subject: Subject) -> bool:
        try:
            await subject.create()
        except NotCreated as error:
            way = "Every insert may be rejected like this. Correct the cause, or map the attribute that is missing."
            subject.report(CREATED, f"refused: {error}", way, "not workable")
            return False
        finally:
            await self._count(subject)
        subject.report(CREATED, f"made, with an id that begins with {PREFIX}", "It is deleted in the end.")
        return True

    async def _probe(self, subject: Subject, premise: str, probe: Awaitable[None]) -> None:
        """Try one group of premises. A rejected or unknown answer is a finding, and does not stop the others."""
        try:
            await probe
        except NotCreated as error:
            subject.report(CREATED, f"refused, once more: {error}", "Run it again.", "not workable")
        except (OutcomeUnknown, CampaignRefused) as error:
            subject.report(premise, str(error), "Run it again.", "not workable")
        finally:
            await self._count(subject)

    async def _remove_all(self, since: datetime | None) -> bool:
        """Remove the synthetic records, children first. The parents of a child that is left stay, too."""
        self.left = []
        kept: set[str] = set()
        for subject in reversed(self.subjects):
            removed = subject.config.table not in kept and await self._remove(subject, since)
            if not removed:
                kept.update(link.table for link in subject.config.links)
            if not removed or subject.hidden:
                self.left.append(subject.config.resource)
                way = f"Delete the records in Campaign whose {subject.config.key} begins with {PREFIX}."
                subject.report(REMOVED, "a record is left", way, "not workable")
        return not self.left

    async def _remove(self, subject: Subject, since: datetime | None) -> bool:
        try:
            return await subject.remove(since)
        finally:
            await self._count(subject)

    async def _count(self, subject: Subject) -> None:
        """Store the engine calls made since the last time as those of the subject's table."""
        calls = self.campaign.calls.take()
        self.calls.update(calls)
        await count_calls(self.ledger, subject.config.table, calls)

    def store(self) -> None:
        """Store the findings as a push does, so that it need not find them out; and the report, in place of the former.

        Each premise is stored with its resource or table; when the run ended, and by which version, with `NAME`.
        """
        dialect = self.ledger.dialect
        for subject in self.subjects:
            resource, findings = subject.config.resource, subject.addressing.findings
            if addressing.KEY_IN_URL not in findings:
                continue  # no record was made, so nothing was found out
            if dialect.facts(resource).get(addressing.KEY, subject.config.key) != subject.config.key:
                dialect.forget(resource)  # they were made with another key
            else:
                dialect.forget(resource, *_FOUND_ANEW, *((KEY_IN_LINK,) if KEY_IN_LINK in findings else ()))
            dialect.note(resource, findings)
        reports: dict[str, dict[str, str]] = {}
        for result in self.results:
            premise = f"{CERTIFIED}{result.system}: {result.premise}"
            reports.setdefault(result.about or NAME, {})[premise] = f"{result.outcome}: {result.found}"
        for about, report in reports.items():
            if former := [finding for finding in dialect.facts(about) if finding.startswith(CERTIFIED)]:
                dialect.forget(about, *former)
            dialect.note(about, report)
        dialect.note(NAME, {CERTIFIED_AT: self.at.isoformat(timespec="seconds"), VERSION: version("sync-assets")})


def premises_not_workable(config: Config, ledger: Ledger) -> list[tuple[str, str, str]]:
    """Return the premises that the last certification found not workable: of which system or name, premise, text."""
    names = dict.fromkeys(name for table in config.in_link_order for name in (table.table, table.resource))
    return [
        (system if about == NAME else about, premise, finding.removeprefix(NOT_WORKABLE))
        for about in (NAME, *names)
        for known, finding in sorted(ledger.dialect.facts(about).items())
        if known.startswith(CERTIFIED) and finding.startswith(NOT_WORKABLE)
        for system, _, premise in [known.removeprefix(CERTIFIED).partition(": ")]
    ]


def certification_findings(configuration: Configuration, ledger: Ledger) -> list[Finding]:
    """Return a finding for the last certification of these systems, and one for each premise that is not workable."""
    title, findings = "certification", list[Finding]()
    marks = ledger.dialect.facts(NAME)
    tables = configuration.config.in_link_order
    way = "`sync-assets certify` tries it again, and names what to change"
    not_workable = [
        warn(f"{title} of {system}: {premise}", f"{text}. {way}")
        for system, premise, text in premises_not_workable(configuration.config, ledger)
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
    elif tenant_of(configuration.settings.links()[1] or "").endswith(STAGE):
        text = "never. `sync-assets certify` finds out how both systems behave, with synthetic records"
        findings.append(warn(title, text))
    else:
        findings.append(ok(title, f"never: `sync-assets certify` is for a stage tenant (…{STAGE})"))
    return [*findings, *not_workable]


def tenant_of(campaign_url: str) -> str:
    return urlsplit(campaign_url).path.strip("/").rpartition("/")[2]
