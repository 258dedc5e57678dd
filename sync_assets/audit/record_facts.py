"""Collect the facts about one record from both systems and the ledger, and conclude whether the systems are in step.

In step: nothing is left to do, and Campaign holds what the mapping makes of the row. A record that is out of scope is
in step, too: that is what the configuration demands of it. The conclusions are pure. commands/explain.py puts them into
a document, without values by default, and commands/explanation.py shows that.

Costs an engine call for the record, and one for each record that its links lead to. A table in which neither Dynamics
365 nor the ledger has the id is looked up in Campaign only if that holds for all tables.
"""

import asyncio
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple

import polars as pl

from sync_assets.audit.linked_records import LinkedRecords, Presence, presence
from sync_assets.campaign.addressing import among, group_of
from sync_assets.campaign.client import CampaignClient
from sync_assets.campaign.dialect import Operation, ResponseOutcome
from sync_assets.checks.preflight import Ready, preflight
from sync_assets.config.models import Config, TableConfig
from sync_assets.config.values import CONTACT
from sync_assets.dataverse.client import DataverseClient
from sync_assets.dataverse.metadata import ColumnType
from sync_assets.dataverse.page_parser import PageParser
from sync_assets.errors import SyncAssetsError
from sync_assets.http.redaction import redact
from sync_assets.ledger import Ledger
from sync_assets.ledger.model import BlockReason, State
from sync_assets.ledger.report_values import WAITING_FOR
from sync_assets.ledger.repositories.stored_records import RelatedState, StoredRecord
from sync_assets.ledger.times import clock, iso
from sync_assets.mapping.attribute_steps import MappedRow, map_row
from sync_assets.mapping.filters import filter_rows, rules_met
from sync_assets.mapping.merged_contacts import with_opt_outs
from sync_assets.mapping.refusable import updated_paths
from sync_assets.runtime.call_limits import count_calls
from sync_assets.runtime.context import Runtime
from sync_assets.words import counted

_ON_ITS_WAY = "`sync-assets sync` or the sensors capture it."


@dataclass(slots=True)
class RecordFacts:
    """The facts about an id in one table.

    Attributes:
        ready: the table's metadata and mapping; None if they could not be read.
        row: the row in Dynamics 365, a frame of one row or of none; None if it could not be read.
        mapped: the row as it is sent, regardless of the filter.
        record: Campaign's record.
        linked: our id of the record that each of its links leads to.
        reason: why Campaign did not show it.
        held_since: beginning of the privacy hold on the person that the record belongs to.
        kept: attributes whose column became empty at large, and whose value Campaign keeps.
        problem: why facts are missing.
        brought: attributes of opt-outs that merged contacts bring to the row, with its id.
        refused_in_updates: mapped attributes that Campaign refuses in updates, so that its record may differ in them.
    """

    config: TableConfig
    id: str
    stored: StoredRecord | None
    held_since: datetime | None = None
    orphan_reason: str | None = None
    kept: Sequence[str] = ()
    ready: Ready | None = None
    row: pl.DataFrame | None = field(default=None, repr=False)
    mapped: MappedRow | None = None
    passes: bool | None = None
    rules_met: Sequence[bool] = ()
    presence: Presence | Literal["not asked"] = "not asked"
    record: Mapping[str, Any] = field(default_factory=dict[str, Any], repr=False)
    linked: Mapping[str, str | None] = field(default_factory=dict[str, str | None])
    reason: str | None = None
    problem: str | None = None
    refused_in_updates: Sequence[str] = ()
    brought: Mapping[str, Collection[str]] = field(default_factory=dict[str, set[str]])

    @property
    def has_row(self) -> bool:
        """Return True if Dynamics 365 has the row."""
        return self.row is not None and not self.row.is_empty()

    @property
    def in_campaign(self) -> bool:
        """Return True if Campaign has the record, or several."""
        return self.presence in ("found", "several")

    @property
    def known(self) -> bool:
        """Return True if one of the two systems or the ledger has the record."""
        return self.has_row or self.stored is not None or self.in_campaign


async def record_facts(
    runtime: Runtime, id_: str, tables: Iterable[TableConfig], columns: Mapping[str, Sequence[str]]
) -> tuple[list[RecordFacts], Counter[Operation]]:
    """Collect the facts about an id, for each of the tables. Return also the engine calls that this took, by kind.

    columns: by table, those to be read besides the mapped.
    """
    ledger, calls = await asyncio.to_thread(lambda: runtime.ledger), Counter[Operation]()

    def stored_facts(config: TableConfig) -> RecordFacts:
        stored = ledger.stored.stored_record(config.table, id_)
        persons = [id_] if config.table == CONTACT else [] if stored is None else stored.persons
        held = [since for person in persons if (since := ledger.holds.held_since(person))]
        orphans = ledger.blocked.orphans(config.table, id_) if stored and stored.state == State.ORPHANED else []
        kept = ledger.emptied.kept_of(config.table, [id_]).get(id_, ())
        facts = RecordFacts(config, id_, stored, min(held, default=None), orphans[0].reason if orphans else None, kept)
        facts.brought = ledger.merged.opted_out([id_]) if config.carries_merged else {}
        return facts

    all_facts = [await asyncio.to_thread(stored_facts, config) for config in tables]
    try:
        async with runtime.d365() as d365, runtime.campaign() as campaign:
            calls = campaign.calls.made
            for facts in all_facts:
                await _read_row(runtime.config, d365, campaign, facts, columns.get(facts.config.table, ()))
            known = [facts for facts in all_facts if facts.known]
            for facts in known or all_facts:
                await _read_record(runtime.config, ledger, campaign, facts)
    except SyncAssetsError as error:  # a system that cannot be reached
        for facts in all_facts:
            facts.problem = facts.problem or str(error)
    return all_facts, calls


async def _read_row(
    overall: Config, d365: DataverseClient, campaign: CampaignClient, facts: RecordFacts, more: Sequence[str]
) -> None:
    """Read the row and map it. A problem of this table is stored; the other tables go on."""
    config = facts.config
    try:
        ready = await preflight(config, d365, campaign, overall.targets, overall.captured_opt_outs(config.table))
        mapping, known = ready.mapping, ready.table.columns
        extra: dict[str, ColumnType] = {known[name].select_name: known[name].type for name in more if name in known}
        types = mapping.column_types | extra
        parser = PageParser(types)
        rows = [parser.parse(head).rows async for head in d365.rows(ready.table, list(types), [facts.id])]
    except SyncAssetsError as error:
        facts.problem = str(error)
        return
    facts.ready, facts.row = ready, pl.concat(rows)
    if facts.has_row:
        facts.row = facts.row.head(1)
        facts.passes = not filter_rows(facts.row, mapping.row_filter)[0].is_empty()
        facts.rules_met = rules_met(facts.row, mapping.row_filter)
        as_sent = with_opt_outs(facts.row, mapping, facts.brought) if mapping.opt_outs_are_fields else facts.row
        facts.mapped = await asyncio.to_thread(map_row, as_sent, mapping)


async def _read_record(overall: Config, ledger: Ledger, campaign: CampaignClient, facts: RecordFacts) -> None:
    """Read the record in Campaign and where its links lead, and count the engine calls."""
    if facts.ready is None:
        return
    findings = await asyncio.to_thread(ledger.dialect.facts, facts.config.resource)
    facts.refused_in_updates = among(updated_paths(facts.config), findings)
    records = await LinkedRecords.opened(overall, ledger, campaign, facts.config, facts.ready.resource)
    try:
        record = await records.find(facts.id)
        facts.presence = presence(record)
        if not isinstance(record, ResponseOutcome):
            facts.record, facts.linked = record, await records.linked_ids(record)
        elif facts.presence != "missing":
            facts.reason = redact(record.reason, None)
    except SyncAssetsError as error:
        facts.presence, facts.reason = "unanswered", str(error)
    finally:
        await count_calls(ledger, facts.config.table, campaign.calls.take())


# --- Conclusions ------------------------------------------------------------------------------------------------------


class Reason(NamedTuple):
    """One sentence of a conclusion. in_step: True if it does not prevent the systems from being in step."""

    in_step: bool
    text: str


def agreement(facts: RecordFacts, differs: Sequence[str], more: Sequence[Reason]) -> tuple[bool | None, list[str]]:
    """Return whether both systems are in step, None if facts are missing, and the reasons.

    differs: attributes in which Campaign's record differs from what the mapping makes of the row. more: of opt-outs.
    """
    reasons = [*_of_ledger(facts), *(() if facts.problem else _of_systems(facts, differs)), *more]
    unanswered = None if facts.presence == "several" else facts.reason
    missing = [text for text in (facts.problem, unanswered) if text]
    texts = [reason.text for reason in reasons] + missing
    in_step = None if missing else all(reason.in_step for reason in reasons)
    return in_step, texts or ["Both systems are in step."]


def _of_ledger(facts: RecordFacts) -> Iterator[Reason]:
    stored = facts.stored
    if facts.held_since:
        since = iso(facts.held_since)
        yield Reason(False, f"Held: a privacy hold since {since}. Nothing about it is written to either system.")
    if stored is None:
        return
    if stored.deletion_collected:
        yield Reason(
            False,
            "Its deletion was captured and is not carried out yet: at the end of the read, or after `sync-assets "
            f"approve-deletes {stored.table}` if the guard holds it back.",
        )
    match stored.state:
        case State.PENDING:
            yield Reason(False, _pending(stored))
        case State.WAITING:
            yield Reason(False, f"Waiting for {WAITING_FOR[stored.block_reason]}.")
            yield from _blocking(stored)
        case State.REJECTED:
            retry = f"the cause, then `sync-assets retry {stored.table} --id {stored.id}`"
            correct = retry if _rejected_by_campaign(stored) else "the row or the mapping, then `sync-assets sync`"
            reason = (rejection(stored) or "no reason is stored").removesuffix(".")
            yield Reason(False, f"Rejected: {reason}. Correct {correct}.")
        case State.ORPHANED:
            yield Reason(False, f"Orphaned: {facts.orphan_reason or 'a parent that it needs is gone for good'}.")
        case State.EXCLUDED:
            for person in stored.persons:
                yield Reason(
                    False,
                    f"Excluded: it belongs to contact {person}, which had been deleted when its privacy hold was "
                    f"released. If the contact was restored, run `sync-assets hold release {person}`.",
                )
        case State.UNCONFIRMED | State.TOMBSTONE:
            deleted = stored.state == State.TOMBSTONE
            again = "Deleted in Campaign; it is deleted" if deleted else "Acknowledged; it is sent"
            at = clock(stored.unknown_until) if stored.unknown_until else "once"
            text = f"{again} once more at {at}, since an earlier request got no answer and may take effect until then."
            yield Reason(not (deleted and facts.in_campaign), text)
        case State.HELD if not facts.held_since:
            yield Reason(False, "Held: it belongs to a person under a privacy hold.")
        case _:
            pass


def rejection(stored: StoredRecord) -> str | None:
    """Return why the record was rejected, or why its last request failed; None if neither."""
    return (stored.reason if _rejected_by_campaign(stored) else stored.row_error) or stored.row_error


def _rejected_by_campaign(stored: StoredRecord) -> bool:
    return stored.row_error is None or stored.attempts > 0


def _pending(stored: StoredRecord) -> str:
    if stored.loading:
        return "Pending: it is in a load by file; nothing else is sent before that is verified: `sync-assets loads`."
    text = f"Pending: the {stored.operation} is to be sent."
    if stored.out_of_scope and stored.operation == "update":
        text = "Pending: its row is out of scope, so it is looked up, and at most its links are sent."
    if stored.attempts and stored.reason:
        since = f" since {clock(stored.failed_since)}" if stored.failed_since else ""
        text += f" {counted(stored.attempts, 'request')} got no answer that names a cause{since}: {stored.reason}."
    if stored.not_before and stored.not_before > datetime.now(UTC):
        text += f" The next one is sent at {clock(stored.not_before)}."
    return text


def _blocking(stored: StoredRecord) -> Iterator[Reason]:
    """Yield the parents or children that a waiting record waits for."""
    if stored.block_reason == BlockReason.CHILDREN_PENDING:
        for child in stored.children:
            yield Reason(False, f"Its child {described(child)}.")
    if stored.block_reason not in (BlockReason.PARENT_PENDING, BlockReason.PARENT_UNAVAILABLE):
        return
    for link in stored.links:
        if link.id is None or link.wanted:
            continue
        if link.parent is None:
            yield Reason(False, f"Its parent {link.table} {link.id} is not in the ledger: it was not captured.")
        else:
            yield Reason(False, f"Its parent {described(link.parent)}.")


def described(record: RelatedState) -> str:
    """Return a parent or child in words: table, id, state, reason."""
    reason = f" ({record.reason})" if record.reason and record.state in (State.REJECTED, State.PENDING) else ""
    return f"{record.table} {record.id} is {record.state.word}{reason}"


def _of_systems(facts: RecordFacts, differs: Sequence[str]) -> Iterator[Reason]:
    stored, presence = facts.stored, facts.presence
    resource = facts.config.resource
    if presence == "several":
        yield Reason(False, f"Several records of {resource} carry this {facts.config.key}: merge them in Campaign.")
    if not facts.has_row:
        yield from _without_row(facts)
    elif not facts.passes:
        yield from _filtered_out(facts)
    elif stored is None:
        yield Reason(False, f"The row is in scope and was not captured yet. {_ON_ITS_WAY}")
    elif stored.out_of_scope or stored.desired_hash is None:
        yield Reason(False, f"The row came into scope again, and that was not captured yet. {_ON_ITS_WAY}")
    elif facts.mapped and stored.desired_hash != facts.mapped.hash and not facts.kept:
        yield Reason(False, f"The row or the mapping changed since the last capture. {_ON_ITS_WAY}")
    acknowledged = (State.SYNCED, State.UNCONFIRMED)
    synced = stored is not None and stored.state in acknowledged and not stored.out_of_scope
    # The next sync sends changed rows anyway.
    unchanged = stored and facts.passes and facts.mapped and facts.mapped.hash == stored.acked_hash
    table = facts.config.table
    again = f" `sync-assets audit --table {table} --repair` lets it be sent again." if synced and unchanged else ""
    if facts.kept:
        yield Reason(
            False,
            f"Campaign keeps its {', '.join(facts.kept)}: the column became empty in more records than "
            f"max_emptied_share allows. `sync-assets approve-deletes {table}` empties them.",
        )
    if presence == "missing" and synced and facts.has_row:
        of_links = facts.ready.resource.attributes.values() if facts.ready else ()
        custom = (link for link in of_links if link.type == "link" and link.path.startswith("cus"))
        text = "Campaign acknowledged the record and does not show it: it was deleted there"
        if required := [link.path for link in custom if link.mandatory is not False]:
            text += f", or is hidden, since {' or '.join(required)} leads to no record; see `sync-assets doctor`"
        yield Reason(False, f"{text}.{again.replace('lets it', 'lets a deleted record')}")
    if others := [name for name in differs if name not in (*facts.kept, *facts.refused_in_updates)]:
        yield Reason(False, f"Campaign's record differs in {', '.join(others)}.{again}")
    if refused := [name for name in differs if name in facts.refused_in_updates and name not in facts.kept]:
        groups = ", ".join(dict.fromkeys(map(group_of, refused)))
        see = f" See `sync-assets rejects {table} --refused-attributes`." if synced else ""
        yield Reason(False, f"In step but for {', '.join(refused)}: Campaign refuses {groups} in updates.{see}")


def _without_row(facts: RecordFacts) -> Iterator[Reason]:
    stored, in_campaign = facts.stored, facts.in_campaign
    if stored is None:
        if in_campaign:
            yield Reason(
                False,
                "Only Campaign has it: Dynamics 365 has no such row, and the program leaves a record unchanged that "
                "its ledger does not have.",
            )
    elif stored.desired_hash is None or stored.deletion_collected:
        return  # a pending delete, or one that waits: the ledger's state tells
    elif stored.out_of_scope:
        kept = "Campaign keeps its record" if in_campaign else "Campaign has no record of it either"
        yield Reason(True, f"Out of scope: Dynamics 365 has no such row any more, and {kept}.")
    else:
        yield Reason(False, f"The row was deleted in Dynamics 365, and that was not captured yet. {_ON_ITS_WAY}")


def _filtered_out(facts: RecordFacts) -> Iterator[Reason]:
    stored, in_campaign = facts.stored, facts.in_campaign
    row_filter = facts.ready.mapping.row_filter if facts.ready else None
    rules = row_filter.rules if row_filter else ()
    missed = [
        f"rule {number} (`{rule.column.name}` {rule.operator})"
        for number, (rule, met) in enumerate(zip(rules, facts.rules_met, strict=True), 1)
        if not met
    ]
    deletes = bool(row_filter and row_filter.delete_filtered_out)
    text = f"Filtered out: the row does not meet {', '.join(missed)} of the table's filter"
    if stored is None:
        kept = "; Campaign has a record that the program leaves unchanged" if in_campaign else ""
        yield Reason(not (in_campaign and deletes), f"{text}{kept}.")
    elif stored.out_of_scope:
        kept = "Campaign keeps its record" if in_campaign else "Campaign has no record of it"
        yield Reason(True, f"{text}; {kept}.")
    elif stored.desired_hash is None or stored.deletion_collected:
        yield Reason(False, f"{text}; Campaign's record is to be deleted.")
    else:
        yield Reason(False, f"{text}, and that was not captured yet. {_ON_ITS_WAY}")
