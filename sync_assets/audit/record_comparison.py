"""Compare the listed records of a Campaign resource with the ledger: acknowledge, update, or leave alone.

Two values are equal if value_comparison.py finds no difference: what Campaign rewrites by itself (case, blanks, formats
of telephone numbers) does not count. Links are compared by the record that they lead to. Opt-outs are stored as
statements of Campaign with their times of change, like those of an export file, so that older files add nothing new
(opt_outs.py).
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from itertools import compress
from typing import Any, NamedTuple

import msgspec

from sync_assets.audit.record_list import ListPage, Record, RecordList, is_of_the_list, pages_for
from sync_assets.audit.value_comparison import differing, emptied
from sync_assets.campaign.addressing import CAPITALS, EXISTING, KEY, LISTED, Addressing, refused_in_updates
from sync_assets.campaign.client import BudgetSpent, CampaignRefused
from sync_assets.campaign.metadata import Resource
from sync_assets.campaign.profile_opt_outs import statements
from sync_assets.config.models import Config, TableConfig
from sync_assets.config.values import CONTACT
from sync_assets.http.transport import Unavailable
from sync_assets.json_members import without
from sync_assets.ledger import Ledger, times
from sync_assets.ledger.model import OTHER, Claimed, LinkTo, Load, Outcome, Rebuild
from sync_assets.mapping.refusable import found_held, refusable
from sync_assets.runtime.call_limits import calls_left
from sync_assets.runtime.pkeys import ListedKeys
from sync_assets.runtime.progress import Progress

SOURCE = "what Campaign held when its records were listed"


class Compared(NamedTuple):
    """A record of Campaign (`held`, with our id) that was compared with the desired state of its row.

    differs: the attributes and links that an update would change. sent: the members of the payload.
    """

    id: str
    differs: Sequence[str]
    sent: dict[str, Any]
    held: Record


class ComparisonResult(NamedTuple):
    """How a comparison ended. ended_early: only records made since `RecordList.since` were listed."""

    counts: Rebuild
    ended_early: bool


PageObserver = Callable[
    [TableConfig, Sequence[Record], Sequence[tuple[str, Record]], Sequence[Compared]], Awaitable[None]
]
"""Receives each page of a comparison, (our id, record) for those that carry our id, and those that were compared.

After an interruption, records may come a second time.
"""


@dataclass(slots=True)
class Comparison:
    """The comparison of one resource's records with the ledger.

    overall: the whole configuration. session: the epoch that holds the lease. learnt: reads made for PKeys of parents.
    load: a load by file that has ended. Records that it imported with other values stay in it, as if missing.
    """

    overall: Config
    progress: Progress
    ledger: Ledger
    listing: RecordList
    resource: Resource
    keys: ListedKeys
    session: int
    observer: PageObserver | None = field(default=None, kw_only=True)
    load: Load | None = field(default=None, kw_only=True)
    learnt: int = 0
    warnings: list[str] = field(default_factory=list[str])

    @property
    def config(self) -> TableConfig:
        return self.listing.config

    async def run(
        self, state: Rebuild, first: ListPage | None = None, seconds: float | None = None
    ) -> ComparisonResult | None:
        """Compare the records that are left. Return None if the time was up before the end.

        state: how far an earlier comparison came. first: the first page of the list, if it was already read.
        """
        until = None if seconds is None else time.monotonic() + seconds
        for parent in parents_by_pkey(self.overall, self.config):
            listing = RecordList(self.ledger, self.listing.campaign, parent)
            self.learnt += await learn(self.overall, self.progress, self.keys, listing)
        result = await self._whole(state, None if state.link else first, until)
        if result is not None:
            if not result.ended_early:
                listed = {EXISTING: LISTED, KEY: self.config.key}
                await asyncio.to_thread(self.ledger.dialect.note, self.config.resource, listed)
            # Rows that the filter excludes bring opt-outs only for profiles that were listed before.
            opt_outs = self.config.filters and self.overall.captured_opt_outs(self.config.table)
            to_campaign = self.overall.opt_out.direction != "campaign_to_d365"
            again = bool(result.counts.unknown and opt_outs and to_campaign)
            await asyncio.to_thread(self.ledger.rebuilds.end_rebuild, self.config.table, read_again=again)
        return result

    async def reads_left(self, state: Rebuild | None, records: int) -> int:
        """Return the number of pages still to be read, of the list of `records` and of parents that were not listed."""
        left = pages_for(records) - (pages_for(state.records) if state and state.link else 0)
        for parent in parents_by_pkey(self.overall, self.config):
            if parent.resource not in self.keys.complete:
                left += pages_for(await RecordList(self.ledger, self.listing.campaign, parent).count())
        return max(0, left)

    async def _whole(self, state: Rebuild, first: ListPage | None, until: float | None) -> ComparisonResult | None:
        name, from_the_start, whole = self.config.resource, state.link is None, not state.records
        while True:
            if from_the_start:
                self.keys.forget(name)
            try:
                result = await self._compare(state, first, until)
            except (CampaignRefused, Unavailable) as error:
                sorts = self.listing.sorts
                if not is_of_the_list(error) or (from_the_start and not sorts):
                    raise
                # The stored link may have expired, or sorting takes too long, or the list is not sorted. Records that
                # were compared already are not compared again.
                self.listing.sorts = sorts and not from_the_start
                from_the_start, whole, first, state = True, True, None, Rebuild(self.config.table)
            else:
                break
        if result is None or result.ended_early:  # PKeys of records that were listed before stay as they are
            return result
        # Records listed before an interruption are not included; the resource's audit counts them all.
        if repeated := await asyncio.to_thread(self.keys.repeated, name):
            self.warnings.append(
                f"{repeated:,} records of {name} in Campaign carry a {self.config.key} that another one carries, too. "
                "No further one is made, and Campaign chooses which of them is updated. Merge them there, or delete "
                "what is too many."
            )
        parents = {to.resource for config in self.overall.tables for to in parents_by_pkey(self.overall, config)}
        if whole and name in parents:
            self.keys.complete.add(name)
        else:
            self.keys.forget(name)
        return result

    async def _compare(self, state: Rebuild, first: ListPage | None, until: float | None) -> ComparisonResult | None:
        ended_early = False
        start = first or (await self.listing.ask(state.link) if state.link else await self.listing.first())
        async with aclosing(self.listing.pages(start)) as pages:
            async for page in pages:
                ended_early = page.ends_early
                state, compared = await asyncio.to_thread(self._page, state, page)
                if self.observer:
                    await self.observer(self.config, page.records, self.listing.ours(page), compared)
                self.progress(f"comparing {self.config.table}", state.records)
                if page.next and until is not None and time.monotonic() > until:
                    return None
        return ComparisonResult(state, ended_early)

    def _page(self, state: Rebuild, page: ListPage) -> tuple[Rebuild, list[Compared]]:
        """Compare a page of records with the ledger; return the new state, and the compared records for an observer."""
        ours = dict(self.listing.ours(page))
        if capitals := any(record[self.config.key] != id_ for id_, record in ours.items()):
            self.ledger.dialect.note(self.config.resource, {KEY: self.config.key, CAPITALS: "yes"})
        self.keys.add(self.config.resource, self.listing.ours(page))
        findings = self.ledger.dialect.facts(self.config.resource)
        unique = Addressing.configured(self.config, findings).is_unique
        excluded = self.config.table == CONTACT and self.config.filters  # their opt-outs may be sent, see `run`
        remember = bool(capitals or not unique or excluded)  # a second record may come
        active = self.config.table == CONTACT and self.overall.opt_out.active
        names = self.overall.opt_out.attributes if active else ()
        claimed, unknown, loaded = self.ledger.rebuilds.claim_found(
            self.config.table, list(ours), self.session, remember=remember, opt_outs=names
        )
        written = _written(claimed, ours, loaded)
        if active:
            shown = [_without(record, written.get(id_, ())) for id_, record in ours.items()]
            self.ledger.opt_outs.store_stated(statements(shown, self.config.key, names), names, SOURCE, page.asked_at)
        left_out, whole = refused_in_updates(findings), claimed
        if left_out:
            claimed = [
                record._replace(update_payload=record.update and without(record.update, *left_out), resend=False)
                for record in claimed
            ]
        parents = {link.to: self.overall.table(link.table).resource for link in self.config.links}

        def id_of(link: LinkTo, pkey: str) -> str | None:
            # One that was mapped when a load began, and is not now, leads to the parent that the file named.
            return self.keys.id_of(parents[link.attribute], pkey) if link.attribute in parents else link.id

        outcomes = [found_to_hold(record, ours[record.id], self.resource, id_of) for record in claimed]
        began = self.load.began_at if self.load else None
        of_load = [one for one in zip(whole, outcomes, strict=True) if one[0].id in loaded]
        given_back = self._give_back(of_load, ours, left_out)
        kept = [record.seq not in given_back for record in whole]
        whole, claimed, outcomes = [*compress(whole, kept)], [*compress(claimed, kept)], [*compress(outcomes, kept)]
        for at, record in enumerate(whole):
            if record.id in loaded:
                own = {"inserted_opt_outs": written.get(record.id, ()), "inserted_at": began}
                outcomes[at] = outcomes[at]._replace(operation="insert", **own)
            held = self._held(record, ours[record.id], outcomes[at], left_out)
            if held != record.held_refusable:
                outcomes[at] = outcomes[at]._replace(held_refusable=held)
        self.ledger.claims.acknowledge(self.session, outcomes)
        differs_by_id, losses = dict[str, list[str]](), dict[str, list[str]]()
        for record, outcome in zip(claimed, outcomes, strict=True):
            if outcome.hash == OTHER:
                sent = _form(record)
                differs_by_id[record.id] = differing(sent, ours[record.id], self.resource)
                if names := emptied(differs_by_id[record.id], sent, self.resource):
                    losses[record.id] = names
        self.ledger.emptied.found_filled(self.config.table, losses)
        equal = sum(outcome.hash != OTHER for outcome in outcomes)
        state = replace(
            state,
            link=page.next,
            records=state.records + len(page.records),
            equal=state.equal + equal,
            differing=state.differing + len(outcomes) - equal + len(given_back),
            unknown=state.unknown + unknown,
        )
        self.ledger.rebuilds.put_rebuild(state)
        if self.observer is None:
            return state, []
        compared: list[Compared] = []
        for record, outcome in zip(claimed, outcomes, strict=True):
            sent = _form(record)
            differs = [*differs_by_id.get(record.id, ()), *_other_links(record, outcome)]
            compared.append(Compared(record.id, differs, sent, ours[record.id]))
        return state, compared

    def _give_back(
        self, loaded: Sequence[tuple[Claimed, Outcome]], ours: Mapping[str, Record], left_out: Sequence[str]
    ) -> set[int]:
        """Give the records back to the load that it imported with other values than those of their rows; return seqs.

        Fields that only inserts send are compared, too. A row that changed since the load began is left to its update.
        left_out: attributes that Campaign refuses in updates.
        """
        if self.load is None:
            return set()
        seqs, began = set[int](), times.to_micros(self.load.began_at)
        for record, outcome in loaded:
            form, links = msgspec.json.decode(without(record.payload, *left_out)), _other_links(record, outcome)
            if (record.changed_at or 0) < began and (links or differing(form, ours[record.id], self.resource)):
                seqs.add(record.seq)
        if seqs:
            self.ledger.loads.give_back(self.load, sorted(seqs))
        return seqs

    def _held(self, record: Claimed, listed: Record, outcome: Outcome, left_out: Sequence[str]) -> int | None:
        """Return the hash of what the record holds in attributes that Campaign may refuse in updates; None: none."""
        if record.refusable is None or (outcome.hash != OTHER and not left_out):
            return record.refusable
        differs = differing(_form(record), listed, self.resource)
        return found_held(record.refusable, record.held_refusable, differs=bool(refusable(differs, left_out)))


def _written(
    claimed: Sequence[Claimed], ours: Mapping[str, Record], loaded: Collection[str]
) -> dict[str, tuple[tuple[str, bool], ...]]:
    """Return by id the opt-outs that a load by file wrote, with their values.

    An opt-out that Dynamics 365 does not have is left out: a person may have made it since, so it is Campaign's.
    """
    written: dict[str, tuple[tuple[str, bool], ...]] = {}
    for record in claimed:
        if record.id in loaded:
            held = [(name, ours[record.id].get(name), wanted) for name, wanted in record.opt_outs]
            written[record.id] = tuple((name, bool(value)) for name, value, wanted in held if wanted or not value)
    return written


def _without(record: Record, opt_outs: Sequence[tuple[str, bool]]) -> Record:
    """Return a listed profile without opt-outs that are no statements of Campaign."""
    return {**record, **dict.fromkeys(name for name, _ in opt_outs)} if opt_outs else record


def _other_links(record: Claimed, outcome: Outcome) -> list[str]:
    """Return the links by which Campaign's record leads to another parent than its row names."""
    links = zip(record.links, outcome.links, strict=True)
    return [wanted.attribute for wanted, stored in links if wanted.keyed and wanted.id != stored.id]


def _form(record: Claimed) -> dict[str, Any]:
    """Return the members of the payload that an update sends."""
    return msgspec.json.decode(record.update or "{}")


async def learn(overall: Config, progress: Progress, keys: ListedKeys, listing: RecordList) -> int:
    """List a parent's resource for its PKeys, unless it was just listed; return the reads.

    Not if the list never fits into one day's budget: then links cannot be compared by it. PKeys are kept in one
    process, so the list must be read within one day. Raises BudgetSpent if it fits into a day, but not into the rest of
    today.
    """
    parent, guardrails = listing.config, overall.guardrails
    if parent.resource in keys.complete:
        return 0
    if (budget := guardrails.engine_calls_per_day) is not None:
        pages, left = pages_for(await listing.count()), await asyncio.to_thread(calls_left, listing.ledger, guardrails)
        if pages >= budget:
            return listing.calls
        if left is not None and pages > left:
            raise BudgetSpent("day")
    while True:
        seen, sorts = 0, listing.sorts
        try:
            async with aclosing(listing.pages(await listing.first())) as pages:
                async for page in pages:
                    await asyncio.to_thread(keys.add, parent.resource, listing.ours(page))
                    seen += len(page.records)
                    progress(f"listing {parent.table}", seen)
            break
        except (CampaignRefused, Unavailable) as error:
            if not sorts or not is_of_the_list(error):
                raise
            listing.sorts = False
    keys.complete.add(parent.resource)
    return listing.calls


def found_to_hold(
    record: Claimed, listed: Record, resource: Resource, id_of: Callable[[LinkTo, str], str | None]
) -> Outcome:
    """Return the outcome that Campaign's record amounts to.

    It acknowledges the present desired state if the record holds it, else a state that is not known (OTHER). Pure,
    except for `id_of`: (link, PKey) -> our id, None if the parent is not one of our records.
    """
    form = record.update
    equal = form is not None and not differing(msgspec.json.decode(form), listed, resource)
    links: list[LinkTo] = []
    for link in record.links:
        held: Any = listed.get(link.attribute)
        if not link.keyed:
            links.append(link._replace(id=str(held).lower() if held else None))
            continue
        pkey = str(held.get("PKey") or "") if isinstance(held, dict) else ""
        id_ = id_of(link, pkey) if pkey else None
        equal = equal and (id_ is not None or not pkey)  # a link to a record that is not ours must be replaced
        links.append(link._replace(id=id_))
    return Outcome(
        record.seq, "done", record.hash if equal else OTHER, links=tuple(links), changed_at=record.changed_at
    )


def parents_by_pkey(overall: Config, config: TableConfig) -> list[TableConfig]:
    """Return the tables whose records this table links to by their PKeys."""
    return [overall.table(link.table) for link in config.links if link.style != "join"]
