"""Certify a stage tenant: remove leftovers, try all premises, remove the synthetic records, store what was found.

A mark in the ledger is stored before the first write and removed after the last record is gone, so the next run finds
what a killed run left. Children are created last and deleted first: Campaign hides a child without its parent for good.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from sync_assets.audit.certification import (
    dynamics_premises,
    key_premises,
    link_premises,
    report,
    value_premises,
)
from sync_assets.audit.certification.report import BEGAN, NAME, PREFIX, PremiseResult
from sync_assets.audit.certification.subject import Subject
from sync_assets.audit.certification.synthetic_records import NotCreated, create, remove
from sync_assets.audit.existing_records import leased
from sync_assets.campaign.addressing import (
    DELETE_ANSWER,
    DELETE_SEEN,
    KEY,
    KEY_FOUND,
    KEY_IN_DELETE,
    KEY_IN_URL,
    KEY_UNIQUE,
)
from sync_assets.campaign.client import CampaignClient, CampaignRefused
from sync_assets.config.models import TableConfig
from sync_assets.errors import SyncAssetsError
from sync_assets.http.transport import OutcomeUnknown
from sync_assets.ledger import Ledger
from sync_assets.ledger.errors import SESSION_SECONDS
from sync_assets.push.record_links import KEY_IN_LINK
from sync_assets.push.target import Target

if TYPE_CHECKING:
    from sync_assets.runtime.context import Runtime

CALLS_PER_TABLE = 60
"""Engine calls that the probes of one table take at most."""

PATIENCE = 30.0
"""Seconds for which a failing request to Campaign is repeated: a longer failure is none of the premises."""

CREATED, REMOVED = "a synthetic record is made", "the synthetic record is removed"
_FOUND_ANEW = (KEY_FOUND, KEY_IN_URL, KEY_IN_DELETE, KEY_UNIQUE, DELETE_ANSWER, DELETE_SEEN)
"""Findings that a certification replaces, also by none."""


class TooFewCalls(SyncAssetsError):
    """Raised when the budget may not suffice: records could then not be deleted today."""


class Busy(SyncAssetsError):
    """Raised when another certification holds the lease."""


@dataclass(slots=True)
class Certified:
    """The result of a certification.

    Attributes:
        at: when it ended (UTC).
        results: one for each premise and resource.
        calls: engine calls by kind.
        left: resources in which a synthetic record is left.
    """

    at: datetime
    results: list[PremiseResult] = field(default_factory=list[PremiseResult])
    calls: Counter[str] = field(default_factory=Counter[str])
    left: list[str] = field(default_factory=list[str])

    @property
    def workable(self) -> bool:
        return not self.left and all(result.outcome != "not workable" for result in self.results)


async def certify(runtime: Runtime) -> Certified:
    """Try every premise on both systems.

    Raises:
        Busy: another certification is under way.
        SyncAssetsError: a system is out of reach, refuses access, or the budget does not suffice. Records that were
            created by then are deleted if Campaign can be reached, else by the next run.
    """
    ledger = await asyncio.to_thread(lambda: runtime.ledger)
    _check_budget(runtime)
    async with leased(runtime, NAME) as session, runtime.d365() as d365, runtime.campaign() as campaign:
        if session is None:
            raise Busy(
                "Another `sync-assets certify` works with this ledger.",
                f"Wait for its end; if it was killed on another machine, for {SESSION_SECONDS:.0f} seconds.",
            )
        campaign.endpoint.patience = PATIENCE
        run = _Certification(runtime, ledger, campaign)
        done = Certified(datetime.now(UTC))
        done.results += await dynamics_premises.organisation(d365, runtime.config)
        for config in runtime.config.in_link_order:
            done.results += await dynamics_premises.table(d365, ledger, config)
        try:
            await run.campaign_premises()
        finally:
            done.calls = run.calls
        done.results += [result for subject in run.subjects for result in subject.results]
        done.results += _not_tried()
        done.left = run.left
        done.at = datetime.now(UTC)
        await asyncio.to_thread(_store, ledger, run.subjects, done)
        return done


def _check_budget(runtime: Runtime) -> None:
    left, most = runtime.calls_left, CALLS_PER_TABLE * len(runtime.config.tables)
    if left is not None and left < most:
        raise TooFewCalls(
            f"A certification takes up to {most:,} engine calls, and the guardrails leave {left:,} for now.",
            "Nothing was written. Run it again when more calls are left, or raise the budget.",
        )


@dataclass(slots=True)
class _Certification:
    """The probes of Campaign.

    Attributes:
        subjects: parents before their children.
        left: resources in which a synthetic record is left.
    """

    runtime: Runtime
    ledger: Ledger
    campaign: CampaignClient
    subjects: list[Subject] = field(default_factory=list[Subject])
    calls: Counter[str] = field(default_factory=Counter[str])
    left: list[str] = field(default_factory=list[str])

    async def campaign_premises(self) -> None:
        """Remove leftovers, try everything, remove the records again, also after an error."""
        began, now = await asyncio.to_thread(self._mark)
        for config in self.runtime.config.in_link_order:
            self.subjects.append(await self._subject(config, now))
        if not await self._remove_all(began):
            return
        try:
            await self._try_all()
        except BaseException:
            with suppress(SyncAssetsError):
                await self._remove_all(now)  # the mark stays: an answer may still be on its way
            raise
        if await self._remove_all(None):
            await asyncio.to_thread(self.ledger.dialect.forget, NAME, BEGAN)

    def _mark(self) -> tuple[datetime | None, datetime]:
        """Store that a run begins now; return when a run began that was killed, and now."""
        now = datetime.now(UTC)
        former = self.ledger.dialect.found(NAME).get(BEGAN)
        if former is None:
            self.ledger.dialect.note(NAME, {BEGAN: now.isoformat()})
        return (datetime.fromisoformat(former) if former else None), now

    async def _subject(self, config: TableConfig, now: datetime) -> Subject:
        resource = await self.campaign.resource(config.api, config.resource)
        target = Target.linked(self.runtime.config, config, resource)
        subject = Subject(self.campaign, config, resource, target, target.addressing({}), now)
        by_table = {one.config.table: one for one in self.subjects}
        subject.parents = {link.to: by_table[link.table] for link in config.links}
        return subject

    async def _try_all(self) -> None:
        """Create the records, parents first; try the premises; delete the records as a push does, children first."""
        alive: list[Subject] = []
        for subject in self.subjects:
            if any(parent not in alive for parent in subject.parents.values()):
                subject.report(CREATED, "a parent could not be made", "See the parent's lines.", "not workable")
            elif await self._created(subject):
                alive.append(subject)
        opt_out = self.runtime.config.opt_out
        for subject in alive:
            await self._probe(subject, "keys in URLs", key_premises.key_in_urls(subject))
            await self._probe(subject, key_premises.TAKEN, key_premises.key_taken(subject))
            await self._probe(subject, key_premises.IN_BODY, key_premises.key_in_body(subject))
            await self._probe(subject, "values", value_premises.values(subject, opt_out))
            await self._probe(subject, "links", link_premises.links(subject))
        for subject in reversed(alive):
            if any(subject in child.parents.values() for child in alive if child.made):
                continue  # a child is left, which Campaign would hide without its parent
            await self._probe(subject, key_premises.DELETE, key_premises.key_in_delete(subject))
            if subject.made:
                await self._remove(subject, None)

    async def _created(self, subject: Subject) -> bool:
        try:
            await create(subject)
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
            return await remove(subject, since)
        finally:
            await self._count(subject)

    async def _count(self, subject: Subject) -> None:
        """Store the engine calls made since the last time as those of the subject's table."""
        calls = self.campaign.calls.take()
        self.calls.update(calls)
        await self.runtime.count_calls(subject.config.table, calls)


def _not_tried() -> list[PremiseResult]:
    """Return the premises that no probe can try without harm to the tenant, or that are tried elsewhere."""

    def row(premise: str, found: str, program: str) -> PremiseResult:
        return PremiseResult("Campaign", "", premise, found, program, "not tried")

    return [
        row(
            "Campaign's pace",
            "a load on the tenant is needed",
            "Requests in flight adapt to latency and throttling; guardrails set calls_per_second and budgets.",
        ),
        row(
            "the layout of the opt-out export",
            "the file is needed",
            "Rows that cannot be read are rejected one by one, with the reason.",
        ),
        row(
            "names stay as they are sent",
            "names are no keys here",
            "name and internalName, which Campaign rewrites, are refused as `key`.",
        ),
    ]


def _store(ledger: Ledger, subjects: list[Subject], done: Certified) -> None:
    """Store the findings as a push does, so that it need not find them out; and the report's findings."""
    for subject in subjects:
        resource, found = subject.config.resource, subject.addressing.found
        if KEY_IN_URL not in found:
            continue  # no record was made, so nothing was found out
        if ledger.dialect.found(resource).get(KEY, subject.config.key) != subject.config.key:
            ledger.dialect.forget(resource)  # they were made with another key
        else:
            ledger.dialect.forget(resource, *_FOUND_ANEW, *((KEY_IN_LINK,) if KEY_IN_LINK in found else ()))
        ledger.dialect.note(resource, found)
    report.store(ledger, done.results, done.at)
