"""The two flows of a table, each as one function without Dagster: capture the table, and push its pending records.

Both begin with the checks that they need, so that nothing is written while the table's set-up is wrong.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Self

from sync_assets.audit.existing_records import Existing, first_load
from sync_assets.audit.record_list import RecordList
from sync_assets.bulk_load.decision import Way, way_of
from sync_assets.bulk_load.load_run import LoadProgress, LoadRun
from sync_assets.bulk_load.update_run import UpdateRun, refuse_in_updates, update_is_due
from sync_assets.campaign.addressing import refused_in_updates
from sync_assets.campaign.client import NotPublished
from sync_assets.campaign.metadata import Resource
from sync_assets.capture.backlog_limit import backlog_is_full
from sync_assets.capture.context import CaptureResult
from sync_assets.capture.page_preparation import columns_by_attribute, guarded_attributes
from sync_assets.capture.table_capture import Capture
from sync_assets.checks import known_types, rules
from sync_assets.checks.health import values_kept
from sync_assets.checks.opt_out_columns import typologies
from sync_assets.checks.preflight import (
    EXAMINE_SECONDS,
    Ready,
    campaign_findings,
    findings_since_capture,
    preflight,
    set_up,
    target_finding,
    types_in,
    types_note,
    types_of,
)
from sync_assets.checks.rules import Finding, NotReady, require
from sync_assets.config.models import Config, TableConfig
from sync_assets.config.values import CONTACT
from sync_assets.dataverse.client import SetUpRefused
from sync_assets.errors import SyncAssetsError
from sync_assets.ledger import Ledger
from sync_assets.ledger.model import Load, LoadState
from sync_assets.ledger.prepared_page import ColumnGuard
from sync_assets.mapping.mapping_changes import configuration_text, differences, earlier_mapping
from sync_assets.mapping.unlabelled_options import unknown_codes_warning
from sync_assets.push.claimed_records import ClaimedRecords
from sync_assets.push.dispatcher import push
from sync_assets.push.target import PushResult, Target
from sync_assets.runtime.context import Runtime
from sync_assets.runtime.ledger_access import RunOptions
from sync_assets.words import counted

CONFIRM = timedelta(hours=1)
"""Interval in which today's partition of a quiet table is confirmed, so that its freshness policy does not fail."""


@dataclass(frozen=True, slots=True)
class Captured:
    """The result of a capture, with the findings on the table's set-up.

    mapping_changes: what changed since the last complete read, if it was the configuration. notes: that, accepted
    changes of the target, and options without a label.
    """

    findings: list[Finding]
    result: CaptureResult
    mapping_changes: list[str]
    notes: list[str]


@dataclass(frozen=True, slots=True)
class Pushed:
    """The result of a push, with the metadata of its resource, the findings, and notes about Campaign's records.

    opt_outs: number of opt-outs written beside the records, by kind.
    """

    resource: Resource
    findings: list[Finding]
    result: PushResult
    notes: list[str]
    opt_outs: Mapping[str, int] = field(default_factory=dict[str, int])


@dataclass(slots=True)
class RunOutcome:
    """The result of the flows of one run or of several, for the command that started them.

    Attributes:
        problems: Errors that prevented a flow.
        stopped: Reasons why a flow ended before its work was done.
        notes: Warnings and automatic actions, each of them once.
        counts: Number of unchanged rows that captures skipped, and of opt-outs, by kind.
    """

    problems: list[SyncAssetsError] = field(default_factory=list[SyncAssetsError])
    stopped: list[str] = field(default_factory=list[str])
    notes: list[str] = field(default_factory=list[str])
    counts: Counter[str] = field(default_factory=Counter[str])

    def note(self, texts: Iterable[str]) -> None:
        """Add notes that are not among them yet."""
        self.notes = list(dict.fromkeys([*self.notes, *texts]))

    def add(self, outcome: Self) -> None:
        """Add the result of another run."""
        self.problems += outcome.problems
        self.stopped = list(dict.fromkeys([*self.stopped, *outcome.stopped]))
        self.note(outcome.notes)
        self.counts.update(outcome.counts)


class MappingsTakeTurns(SyncAssetsError):
    """Raised when two mappings of a table have alternated within a day, and the other one is used again."""

    def __init__(self, table: str, last: datetime) -> None:
        super().__init__(
            f"{table}: this mapping was in use until {last:%Y-%m-%d %H:%M} UTC, then another one, and both took turns "
            "before. Two configurations on one ledger read and send every row anew each time.",
            "Give each configuration its ledger (SYNC_ASSETS_LEDGER_URL). If it is one configuration that was changed "
            "back and forth: `sync-assets sync --accept-mapping`, once.",
        )


class LoadUnderWay(SyncAssetsError):
    """Raised if a table is to have another target while files for the present one may still be imported."""

    def __init__(self, table: str) -> None:
        super().__init__(
            f"{table}: a load by file to its former resource or key has not ended.",
            f"Let it end with the former configuration, or `sync-assets loads abandon {table}`.",
        )


SET_UP = (NotReady, NotPublished, SetUpRefused, MappingsTakeTurns, LoadUnderWay)
"""Errors of a table that last until a person corrects its set-up: the configuration, a system's model, a privilege in
Dynamics 365. Campaign's refusal of access is none of them, since it holds for all tables as a rule."""


async def is_unchanged(runtime: Runtime, config: TableConfig) -> bool:
    """Return True if the table was read to its end by this mapping, and its set-up passes all findings."""
    try:
        async with asyncio.timeout(EXAMINE_SECONDS):
            ready = await set_up(runtime, config)
    except (SyncAssetsError, TimeoutError):
        return False
    feed = await asyncio.to_thread(runtime.ledger.feeds.feed, config.table)
    passed = not any(finding.stops for finding in ready.findings)
    return passed and feed is not None and feed.complete and feed.fingerprint == ready.mapping.fingerprint


async def capture_table(
    runtime: Runtime, config: TableConfig, *, limited: bool = False, seconds: float = float("inf")
) -> Captured:
    """Capture the table's changes into the ledger. Raises subclasses of SyncAssetsError.

    limited: pause once too many records are pending (`CaptureResult.paused`); the caller pushes and captures again.
    seconds: pause after this time, too, once a page was stored.
    """
    async with runtime.d365() as d365, runtime.campaign() as campaign:
        ready = await preflight(
            config, d365, campaign, runtime.config.targets, runtime.config.captured_opt_outs(config.table)
        )
        ledger = await asyncio.to_thread(lambda: runtime.ledger)
        runtime.access.check_not_older()
        findings, notes = await asyncio.to_thread(
            _check_and_store, runtime.use, runtime.settings.beside, ledger, config, ready
        )
        accepted = runtime.use.accept_mapping
        notes += await asyncio.to_thread(_store_mapping, ledger, config, ready.mapping.fingerprint, accepted=accepted)
        texts = await asyncio.to_thread(ledger.mappings.configurations, config.table, ready.mapping.fingerprint)
        earlier = [earlier_mapping(text, ready.table, ready.resource, runtime.config.targets) for text in texts]
        session = await asyncio.to_thread(lambda: runtime.session)
        await asyncio.to_thread(refuse_in_updates, runtime.config, ledger, config)
        due = await asyncio.to_thread(_due, ledger, config) if texts else 0
        bits = await asyncio.to_thread(ledger.emptied.bits, config.table, columns_by_attribute(ready.mapping))
        result = await Capture(
            ledger,
            d365,
            ready.table,
            ready.mapping,
            session.epoch,
            apply_deletes=config.apply_deletes,
            max_delete_share=runtime.config.guardrails.max_delete_share,
            is_full=lambda: limited and backlog_is_full(ledger, config),
            until=time.monotonic() + seconds,
            progress=lambda so_far: runtime.progress(f"capturing {config.table}", so_far.rows),
            earlier=earlier,
            guard=ColumnGuard(bits, guarded_attributes(ready.mapping), runtime.config.guardrails.max_emptied_share),
            refused=refused_in_updates(await asyncio.to_thread(ledger.dialect.facts, config.resource)),
            opt_outs_compared=runtime.config.opt_out.direction == "campaign_to_d365",
        ).run()
        changes = differences(texts[0], config) if texts else []
        kept = await asyncio.to_thread(ledger.emptied.kept, config.table) if result.rows else {}
        if kept:
            fields = [field for field in ready.mapping.fields if field.attribute.path in kept]
            secured = [field.column.name for field in fields if field.column.secured]
            notes.append(values_kept(config.table, kept, secured))
        if config.table == CONTACT:
            notes += await asyncio.to_thread(typologies, runtime.config, ledger, said=True)
        if changes:
            due = max(0, await asyncio.to_thread(_due, ledger, config) - due)
            read, sent = counted(result.rows, "row", "were"), counted(due, "record", "are")
            cost = f"{read} read again, {sent} to be sent or deleted"
            notes.append(f"{config.table}: the mapping changed: {'; '.join(changes)}. {cost}.")
        if texts and not result.paused:
            await asyncio.to_thread(ledger.mappings.settle, config.table, ready.mapping.fingerprint)
        for note in notes:
            runtime.use.announce(note)
        await asyncio.to_thread(ledger.feeds.confirm, config.table, result.rows)
        if warning := unknown_codes_warning(config.table, result.unknown_codes):
            notes.append(warning)
        return Captured([*findings, types_note(ready)], result, changes, notes)


def _due(ledger: Ledger, config: TableConfig) -> int:
    counts = ledger.reports.counts()[config.table]
    return counts.pending + counts.waiting


def _check_and_store(
    use: RunOptions, types_beside: Path, ledger: Ledger, config: TableConfig, ready: Ready
) -> tuple[list[Finding], list[str]]:
    """Store a table's types and target. Return all findings, and a note if another target was accepted.

    Raises NotReady if a type or the target changed.
    """
    notes: list[str] = []
    now = types_of(ready.mapping)
    findings = [*ready.findings, *findings_since_capture(ledger, config, now)]
    for at, finding in enumerate(findings):
        if use.accept_mapping and finding.check == rules.TARGET.name and not finding.passed:
            notes.append(f"{config.table}: {finding.message}. Accepted.")
            findings[at] = rules.TARGET.finding(True, finding.message, finding.numbers)
    require(config.table, findings)
    if ledger.targets.target(config.table) != (config.resource, config.key):
        if ledger.loads.unfinished(config.table):
            raise LoadUnderWay(config.table)
        ledger.targets.change_target(config.table, config.resource, config.key)
    if use.may_create:  # a plan writes nothing
        known_types.remember(types_beside, ready.mapping)
    if ledger.types.facts(config.table) != now:
        ledger.types.note(config.table, now)
    return findings, notes


def _store_mapping(ledger: Ledger, config: TableConfig, fingerprint: str, *, accepted: bool) -> list[str]:
    """Store the mapping of the table. After a change every row is read again. Return a note if one is due.

    Raises MappingsTakeTurns.
    """
    table, feed = config.table, ledger.feeds.feed(config.table)
    if feed and feed.fingerprint == fingerprint and ledger.mappings.is_in_use(table, fingerprint):
        return []  # as nearly always: without a write
    last = ledger.mappings.change_mapping(
        table,
        feed.fingerprint if feed else None,
        fingerprint,
        configuration_text(config),
        accepted=accepted,
    )
    if last and not accepted:
        raise MappingsTakeTurns(table, last)
    return [str(MappingsTakeTurns(table, last))] if last else []


async def push_table(runtime: Runtime, config: TableConfig, seconds: float | None = None) -> Pushed:
    """Send the table's pending records, for `seconds` at most. Works while Dynamics 365 is unreachable."""
    async with runtime.campaign() as campaign:
        resource = await campaign.resource(config.api, config.resource)
        ledger = await asyncio.to_thread(lambda: runtime.ledger)
        runtime.access.check_not_older()
        changed = await asyncio.to_thread(findings_since_capture, ledger, config, types_in(config, resource))
        findings = require(config.table, [*campaign_findings(config, resource), *changed])
        session = await asyncio.to_thread(lambda: runtime.session)
        target = Target.of(runtime.config, config, resource)
        listing = RecordList(ledger, campaign, config)
        load = await asyncio.to_thread(ledger.loads.unfinished, config.table)
        existing = Existing(known=True) if load else await first_load(runtime, listing, resource, seconds)
        if not existing.known:
            nothing = PushResult(calls=Counter(read=existing.calls), stopped=existing.stopped)
            return Pushed(resource, findings, nothing, existing.notes)
        await asyncio.to_thread(refuse_in_updates, runtime.config, ledger, config)
        way = UpdateRun if load and load.kind == "update" else LoadRun
        by_file = await _by_file(way(runtime, target, resource, listing), seconds, load)
        reads, notes = existing.calls + by_file.calls, [*existing.notes, *by_file.notes]
        if by_file.holds_back:
            nothing = PushResult(calls=Counter(read=reads), stopped=by_file.stopped)
            nothing.inserted, nothing.loads = by_file.acknowledged, by_file.advanced
            return Pushed(resource, findings, nothing, notes)
        counts = await asyncio.to_thread(ledger.reports.counts)
        activity = f"sending {config.table}"
        runtime.progress.expect(activity, counts[config.table].pending)
        result = await push(
            ClaimedRecords(ledger, target, session.epoch, runtime.worker.session_is_valid),
            campaign,
            concurrency=runtime.config.guardrails.concurrency,
            progress=partial(runtime.progress, activity),
            seconds=seconds,
            parent_keys=runtime.parent_keys,
        )
        result.calls["read"] += reads
        result.inserted, result.loads = result.inserted + by_file.acknowledged, by_file.advanced
        result.stopped = result.stopped or by_file.stopped
        planned = runtime.use.plan is not None  # a plan names neither opt-outs nor the daily file of updates
        ended = result.stopped or planned
        if not ended and await asyncio.to_thread(_only_updates_are_due, runtime.config, ledger, config):
            updated = await UpdateRun(runtime, target, resource, listing).run(seconds, begin=True)
            result.calls["read"] += updated.calls
            result.stopped, result.loads = updated.stopped, result.loads or updated.advanced
            notes += updated.notes
    due = 0 if planned else await asyncio.to_thread(opt_outs_due, runtime.config, ledger, config)
    opt_outs = await _write_opt_outs(runtime, result) if due else {}
    return Pushed(resource, findings, result, notes + target.warnings(result), opt_outs)


async def _by_file(run: LoadRun, seconds: float | None, load: Load | None) -> LoadProgress:
    """Carry the table's load by file on, or begin one if its first inserts go by file.

    Raises NotReady if a parent's target changed: a workflow that is started now finds no parent by the new key, and
    Campaign hides a record without a link that it requires.
    """
    ledger, config = run.runtime.ledger, run.target.config
    if load is None:
        way = await asyncio.to_thread(way_of_first_inserts, run.runtime.config, ledger, config)
        if way == "later":
            note = f"{config.table}: nothing is sent before its first read is complete: see bulk_load.above."
            return LoadProgress(holds_back=True, notes=[note])
        if way == "rest":
            return LoadProgress()
    if load is None or load.state <= LoadState.READY:
        require(config.table, [await asyncio.to_thread(target_finding, ledger, one) for one in run.target.parents])
    return await run.run(seconds, begin=load is None)


def way_of_first_inserts(overall: Config, ledger: Ledger, config: TableConfig) -> Way:
    """Return how the table's first inserts go that are pending now."""
    settings = overall.bulk_load
    if settings is None or not settings.workflows.get(config.table):
        return "rest"
    feed, counts = ledger.feeds.feed(config.table), ledger.reports.counts(config.table)[config.table]
    last, is_read = ledger.loads.last(config.table), feed is not None and feed.complete
    continues = last is not None and last.more
    if is_read and not continues and counts.pending <= settings.above:
        return "rest"  # as nearly always, without counting
    first_inserts = ledger.loads.first_inserts(config.table)
    return way_of(first_inserts, settings.above, continues=continues, may_grow=not is_read and not counts.synced)


def opt_outs_due(overall: Config, ledger: Ledger, config: TableConfig) -> int:
    """Return how many opt-outs a push of the table writes beside the records, with direction d365_to_campaign.

    They are those of contacts that the filter excludes: no record carries them, and Campaign keeps the profile. In
    other directions opt-outs have their own flows.
    """
    opt_out = overall.opt_out
    if config.table != CONTACT or opt_out.direction != "d365_to_campaign":
        return 0
    return ledger.opt_outs.left(opt_out.attributes).due


def is_due(overall: Config, ledger: Ledger, config: TableConfig) -> bool:
    """Return True if a push of the table would send something now."""
    if ledger.loads.unfinished(config.table) or _may_be_sent(overall, ledger, config):
        return True
    return opt_outs_due(overall, ledger, config) > 0 or update_is_due(overall, ledger, config)


def _may_be_sent(overall: Config, ledger: Ledger, config: TableConfig) -> bool:
    due = ledger.reports.next_due(config.table)  # at earliest now, so that the time is read afterwards
    is_due = due is not None and due <= datetime.now(UTC)
    return is_due and way_of_first_inserts(overall, ledger, config) != "later"


def _only_updates_are_due(overall: Config, ledger: Ledger, config: TableConfig) -> bool:
    return not _may_be_sent(overall, ledger, config) and update_is_due(overall, ledger, config)


async def _write_opt_outs(runtime: Runtime, result: PushResult) -> Mapping[str, int]:
    """Decide and write what `opt_outs_due` counts; return the number written by kind. A problem is the push's."""
    from sync_assets.opt_out.changes import Changes  # noqa: PLC0415 - most pushes need none

    changes = Changes(runtime)
    await changes.settle()
    if changes.failed:
        raise changes.failed[0]
    deciding = changes.deciding.problem if changes.deciding else None
    result.stopped = result.stopped or deciding or next((applied.problem for applied in changes.written.values()), None)
    return changes.counts
