"""`plan`: what the next `sync` would do and cost, by table and by record. Writes to neither system.

A sync is rehearsed on a scratch ledger: the capture is the real one, which only reads from Dynamics 365, and so are the
list of Campaign's existing records, the decisions on opt-outs, the rules for sending and the order of steps
(`sync_steps.py`). Rejections by Campaign are not foreseen. A long list of existing records is not read but estimated.
The reads are engine calls; they are not in the ledger's count of the day.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, nullcontext, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from msgspec import UNSET

from sync_assets.audit.existing_records import Existing, existing_records, needless, shown
from sync_assets.audit.record_list import RecordList
from sync_assets.bulk_load.forecast import both_ways
from sync_assets.campaign.addressing import EXISTING, LISTED
from sync_assets.campaign.client import BudgetSpent, CampaignRefused
from sync_assets.campaign.metadata import Resource
from sync_assets.checks import rules
from sync_assets.checks.guardrails import check_configuration, check_limits, large_load
from sync_assets.checks.preflight import campaign_findings, target_finding
from sync_assets.checks.refused_attributes import updates_text
from sync_assets.checks.rules import NotReady
from sync_assets.commands import terminal
from sync_assets.commands.estimate_calls import hours, pace
from sync_assets.commands.inventory import Inventory
from sync_assets.commands.plan_changes import planned_changes, rejections
from sync_assets.commands.plan_document import PlanDocument, PlannedBudget, PlannedChange, PlannedTable
from sync_assets.commands.plan_file import PlanWriter
from sync_assets.commands.plan_loads import RehearsedLoads
from sync_assets.commands.plan_text import OPT_OUTS_DUE, show
from sync_assets.commands.status import (
    CALL_KINDS,
    comparison_due,
    held_back,
    loading,
    retries_of,
    table_state,
)
from sync_assets.commands.terminal import AcceptMapping, Json, TablesOption
from sync_assets.commands.values import Result, check_tables, fields
from sync_assets.config.models import TableConfig
from sync_assets.config.values import CONTACT
from sync_assets.dataverse.client import D365Refused
from sync_assets.dataverse.page_parser import BadPage
from sync_assets.errors import SyncAssetsError
from sync_assets.flows import SET_UP, capture_table, way_of_first_inserts
from sync_assets.ledger import Ledger
from sync_assets.ledger.errors import with_them
from sync_assets.ledger.feed import NO_ORPHANS, OrphansOfDeletes
from sync_assets.ledger.model import Claimed
from sync_assets.ledger.repositories.opt_outs import OptOutsLeft
from sync_assets.ledger.scratch import scratch_ledger
from sync_assets.ledger.times import iso
from sync_assets.mapping.unlabelled_options import unknown_codes_warning
from sync_assets.opt_out.rehearsal import rehearse_opt_outs
from sync_assets.push.rehearsal import Change, Rehearsal
from sync_assets.push.target import Target
from sync_assets.runtime import interruptible
from sync_assets.runtime.call_limits import calls_left, calls_today
from sync_assets.runtime.context import Runtime
from sync_assets.runtime.pkeys import ParentKeys
from sync_assets.sync_steps import sync_steps
from sync_assets.words import counted

MOST_READS = 2_000
"""The most engine calls that a plan spends on one list: a million records."""


def command(  # noqa: PLR0913 - an option for each
    table: TablesOption = None,
    changes: Annotated[
        bool, typer.Option("--changes", help="List the records and the attributes that differ: a read for each update.")
    ] = False,
    limit: Annotated[int, typer.Option("--limit", min=1, max=100_000, help="With --changes: maximum number.")] = 100,
    show_values: Annotated[
        bool, typer.Option("--show-values", help="With --changes: show the values, which are personal data.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option("--out", help="Write the plan to this new file, for `sync --plan`.")
    ] = None,
    accept_mapping: AcceptMapping = False,
    as_json: Json = False,
) -> None:
    """Show what the next sync would insert, update, delete and hold back, and its engine calls. Writes nothing."""
    if show_values and not changes:
        raise typer.BadParameter("--show-values shows the values of changes: add --changes.")
    runtime = terminal.open_runtime(may_create=out is not None, accept_mapping=accept_mapping)
    terminal.let_sigterm_interrupt()
    with terminal.on_interrupt("Nothing was written."), terminal.progress(runtime.progress):
        runtime.settings.require("d365", "campaign")  # a URL that is none belongs to no ledger
        runtime.access.check_not_older()  # opens the ledger: raises for one of other systems, or an older copy
        with closing(PlanWriter(out, runtime.ledger, runtime.settings.links())) if out else nullcontext() as writer:
            listed = limit if changes else 0
            planned = plan(runtime, only=table or (), listed=listed, show_values=show_values, writer=writer)
    if out and planned.document:
        begun = ", ".join(name for name in planned.document.tables if runtime.ledger.loads.unfinished(name))
        also = f" The load by file of {begun} has begun, and goes on." if begun else ""
        terminal.say(f"Wrote {out}. `sync-assets sync --plan {out}` sends the records that it names, no others.{also}")
    terminal.finish(planned, as_json, show)


def plan(
    runtime: Runtime,
    inventory: Inventory | None = None,
    *,
    only: Sequence[str] = (),
    listed: int = 0,
    show_values: bool = False,
    writer: PlanWriter | None = None,
) -> Result[PlanDocument | None]:
    """Rehearse a sync of all mapped tables, or of `only`. Tables in maintenance are planned as if it had ended.

    inventory: counts the records of Campaign that the sync would list. listed: the number of records that are listed.
    writer: of a file that is to hold the plan. Raises SyncAssetsError as `sync` would.
    """
    check_tables(runtime.config, only)
    runtime.settings.require("d365", "campaign")
    tables = [config for config in runtime.config.in_link_order if not only or config.table in only]
    check_configuration(runtime.config, tables)
    with scratch_ledger(runtime.settings.ledger_url, runtime.cipher) as ledger:
        runtime.access.check_addresses(ledger)
        paused = ledger.maintenance.in_maintenance()
        for table in paused:
            ledger.maintenance.end(table)
        failed = {config.table: ledger.reports.retried(config.table) for config in tables}
        due = [config.table for config in tables if ledger.rebuilds.rebuild(config.table)]
        use = replace(runtime.use, accept_mapping=True, may_create=False)
        with closing(replace(runtime, use=use, given=ledger)) as rehearsed:
            rehearsal = SyncRehearsal(rehearsed, ledger, inventory, runtime.use.accept_mapping, tables, listed)
            rehearsal.observer = writer and writer.add
            interruptible.run(rehearsal.run())
            changes, notes = dict[str, list[PlannedChange]](), list[str]()
            if listed:
                changed = rehearsal.changes
                found = planned_changes(rehearsed.clients, runtime.config, ledger, changed, show_values=show_values)
                changes, notes = interruptible.run(found)
            document = rehearsal.document(changes)
            feeds = {table: ledger.feeds.feed(table) for table in rehearsal.tables.keys() - rehearsal.problems.keys()}
            if writer and feeds:
                writer.write({table: feed.fingerprint for table, feed in sorted(feeds.items()) if feed})
    document.notes.extend([*notes, *map(comparison_due, due), *retries_of(failed)])
    document.notes.extend(
        f"{table} is in maintenance since {iso(since)}: what is planned of it goes after `sync-assets maintenance off "
        f"{table}`."
        for table, since in paused.items()
        if table in rehearsal.tables
    )
    problems, none = rehearsal.problems, rehearsal.problems.keys() >= rehearsal.tables.keys()
    of_tables = problems.keys() <= rehearsal.tables.keys()
    status = 2 if of_tables and not none and all(isinstance(one, SET_UP) for one in problems.values()) else 1
    return Result(None if none else document, list(problems.values()), status=status)


@dataclass(slots=True)
class SyncRehearsal:
    """The rehearsal of tables, on the runtime of the scratch ledger.

    inventory: receives the records of the whole lists, however long; None: a long list is estimated. accepted: True if
    a changed target is accepted. configs: the tables, parents first. listed: the length of `changes` at most. observer:
    of each Rehearsal. The results are by table; `notes` are on existing records.
    """

    runtime: Runtime
    ledger: Ledger
    inventory: Inventory | None
    accepted: bool
    configs: Sequence[TableConfig]
    listed: int = 0
    observer: Callable[[str, Claimed, str], None] | None = None
    changes: list[Change] = field(default_factory=list[Change])
    tables: dict[str, Rehearsal] = field(default_factory=dict[str, Rehearsal])
    problems: dict[str, SyncAssetsError] = field(default_factory=dict[str, SyncAssetsError])
    unknown_codes: dict[str, str] = field(default_factory=dict[str, str])
    mapping_changes: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    orphans: dict[str, OrphansOfDeletes] = field(default_factory=dict[str, OrphansOfDeletes])
    notes: list[str] = field(default_factory=list[str])
    resources: dict[str, Resource] = field(default_factory=dict[str, Resource])
    loads: RehearsedLoads = field(init=False)
    opt_outs_due: OptOutsLeft = field(default_factory=OptOutsLeft)

    def __post_init__(self) -> None:
        self.loads = RehearsedLoads(self.runtime.config, self.ledger)

    async def run(self) -> None:
        """Rehearse the steps of a sync."""
        config, keys = self.runtime.config, ParentKeys()
        for table in self.configs:
            self.tables[table.table] = Rehearsal(
                target=Target.of(config, table),
                parent_keys=keys,
                changes=self.changes,
                listed=self.listed,
                observer=self.observer,
            )
        async with self.inventory.opened() if self.inventory else nullcontext():
            steps = sync_steps(self.runtime, self.configs, self.problems, waits=False)
            while (step := await asyncio.to_thread(next, steps, None)) and step.of_table:
                if step.work == "capture":
                    with suppress(SyncAssetsError):
                        await capture_table(self.runtime, step.of_table)
                elif step.work == "push":
                    await self._push(step.of_table)
                else:
                    await self._capture_and_push(step.of_table)
            # Opt-outs are last. No file is read, and nothing moves once what is due was decided.
            opt_out = self.runtime.config.opt_out
            self.opt_outs_due = self.ledger.opt_outs.left(opt_out.attributes)
            if opt_out.direction != "disabled" and CONTACT in self.tables and not self.inventory:
                await self._decide_opt_outs()
        if self.inventory:
            await asyncio.to_thread(self.inventory.add_reads_of_opt_outs, self.ledger)

    async def _decide_opt_outs(self) -> None:
        """Rehearse the opt-outs, which `sync` decides and writes last. A problem belongs to no table."""
        left = await asyncio.to_thread(calls_left, self.ledger, self.runtime.config.guardrails)
        most = MOST_READS if left is None else min(MOST_READS, left)
        try:
            calls = await rehearse_opt_outs(self.runtime, most) if self.opt_outs_due.due else Counter[str]()
            self.tables[CONTACT].calls.update(calls)
            if self.runtime.config.opt_out.active:
                self.runtime.settings.sftp()
        except SyncAssetsError as error:
            self.problems["opt-outs"] = error

    async def _capture_and_push(self, config: TableConfig) -> None:
        """Rehearse one run as `sync` starts it: capture the table, and send what is pending then."""
        try:
            await asyncio.to_thread(check_limits, self.runtime, config, reading=True)
            async with self.runtime.campaign() as campaign:
                resource = await campaign.resource(config.api, config.resource)
            target = await asyncio.to_thread(target_finding, self.ledger, config)
            if not (target.passed or self.accepted):
                raise NotReady(config.table, [*campaign_findings(config, resource), target])
            self.resources[config.table] = resource
            self.tables[config.table].target = Target.of(self.runtime.config, config, resource)
            captured = await capture_table(self.runtime, config)
        except (*SET_UP, D365Refused, BadPage, CampaignRefused) as error:
            self.problems[config.table] = error
            return
        if hidden := [replace(one, outcome="fail") for one in captured.findings if one.check == rules.SHOWN.name]:
            self.problems[config.table] = NotReady(config.table, hidden)
            return
        changes = [*self.mapping_changes.get(config.table, []), *captured.mapping_changes]  # of its first capture only
        self.mapping_changes[config.table] = changes
        result = captured.result
        if warning := unknown_codes_warning(config.table, result.unknown_codes):
            self.unknown_codes[config.table] = warning
        if any(result.orphans) and not result.held_back:
            both = zip(self.orphans.get(config.table, NO_ORPHANS), result.orphans, strict=True)
            self.orphans[config.table] = OrphansOfDeletes(*(Counter(one) + Counter(other) for one, other in both))
        await self._push(config)

    async def _push(self, config: TableConfig) -> None:
        rehearsal = self.tables[config.table]
        rehearsal.calls["read"] += await self._list_existing(config)
        activity = f"planning {config.table}"
        self.runtime.progress.expect(activity, rehearsal.done + self.ledger.reports.counts()[config.table].pending)
        way = await asyncio.to_thread(way_of_first_inserts, self.runtime.config, self.ledger, config)
        rehearsal.by_file, before = way == "file", rehearsal.loaded
        unique = await asyncio.to_thread(self.loads.is_unique, config)
        await rehearsal.push(self.ledger, partial(self.runtime.progress, activity))
        if rehearsal.loaded > before:
            loaded, resource = rehearsal.loaded - before, self.resources.get(config.table)
            await asyncio.to_thread(self.loads.count, rehearsal, loaded, resource, unique=unique)

    async def _list_existing(self, config: TableConfig) -> int:
        """List what Campaign holds of a table, as `sync` does before it sends; return the reads that `sync` needs."""
        runtime, reads = self.runtime, 0
        if await asyncio.to_thread(needless, self.ledger, config):
            return 0
        left = await asyncio.to_thread(calls_left, self.ledger, runtime.config.guardrails)
        most = left if self.inventory else MOST_READS if left is None else min(MOST_READS, left)
        try:
            async with runtime.campaign() as campaign:
                resource = await campaign.resource(config.api, config.resource)
                listing, page = RecordList(self.ledger, campaign, config), self.inventory and self.inventory.page
                try:
                    existing = await existing_records(runtime, listing, resource, most=most, observer=page)
                finally:
                    reads = campaign.calls.total
        except BudgetSpent as error:
            self.notes.append(f"{config.table}: Campaign's existing records were not counted. {error.cause}")
            existing = Existing(known=False)
        if self.inventory:
            self.inventory.listed(config.table, reads, whole=existing.known)
        if existing.result:
            self.notes.append(
                f"{shown(config, existing.result)} This plan made {counted(reads, 'read')} to find that out."
            )
        if existing.result and (missing := self.ledger.rebuilds.unlisted(config.table)):
            rehearsal = self.tables[config.table]
            rehearsal.calls["insert"] += missing  # after an update that finds none
            rehearsal.inserted += missing
            rehearsal.updated -= missing
            self.notes.append(
                f"{config.table}: {counted(missing, 'acknowledged record', 'were')} not among them: each takes an "
                "update, which finds none, and an insert."
            )
        if existing.estimated is not None:
            self.notes.append(
                f"{config.table}: Campaign holds {counted(existing.estimated, 'record')} of {config.resource}, some "
                f"with ids of Dynamics 365. `sync` lists them first, by at most {existing.calls:,} reads; those that "
                f"have the mapped values cost no further call, so the inserts of this plan are an upper bound."
            )
        if not existing.known:  # only in the scratch ledger: the push is planned as if the list had been read
            self.ledger.rebuilds.end_rebuild(config.table)
            self.ledger.dialect.note(config.resource, {EXISTING: LISTED})
        return existing.calls

    def document(self, changes: Mapping[str, Sequence[PlannedChange]]) -> PlanDocument:
        """Return the document of `plan --json`. changes: by table, if they are listed."""
        runtime, guardrails, budget = self.runtime, self.runtime.config.guardrails, None
        calls = {kind: sum(table.calls[kind] for table in self.tables.values()) for kind in CALL_KINDS}
        total, opt_out, limit = sum(calls.values()), runtime.config.opt_out, guardrails.engine_calls_per_day
        configs = [config for config in runtime.config.tables if config.table in self.tables]
        tables = {config.table: self._table(config, changes.get(config.table, ())) for config in configs}
        if limit is not None:
            used, left = calls_today(runtime.ledger), max(0, limit - runtime.ledger.limits.calls_taken()[0])
            budget = PlannedBudget(limit, used, left, min(total, left))
        decided = opt_out.active and CONTACT in tables
        return PlanDocument(
            tables,
            engine_calls=calls,
            seconds=round(3600 * hours(total, guardrails), 1),
            calls_per_hour=pace(guardrails),
            budget=budget,
            opt_out=fields(self.opt_outs_due, *OPT_OUTS_DUE) if decided else None,
            notes=[
                *self.unknown_codes.values(),
                *held_back(tables),
                *(f"{table}: its deletions go ahead{with_them(orphans)}." for table, orphans in self.orphans.items()),
                *self._notes(configs, tables),
            ],
        )

    def _table(self, config: TableConfig, changes: Sequence[PlannedChange]) -> PlannedTable:
        table, rehearsal = config.table, self.tables[config.table]
        counts, feed = self.ledger.reports.counts()[table], self.ledger.feeds.feed(table)
        shown = [*changes, *rejections(self.ledger, table)][: self.listed] if self.listed else []
        return PlannedTable(
            **table_state(self.ledger, config, counts, feed, self.orphans.get(table)),
            insert=rehearsal.inserted,
            update=rehearsal.updated,
            delete=rehearsal.deleted,
            unchanged=counts.synced - rehearsal.settled.count(1),
            uncertain=rehearsal.outcomes_unknown,
            mapping_changes=self.mapping_changes.get(table, []),
            problem=str(self.problems[table]) if table in self.problems else None,
            engine_calls={kind: rehearsal.calls[kind] for kind in CALL_KINDS},
            by_file=self.loads.both_ways(rehearsal, self.resources.get(table)),
            changes=shown if self.listed else UNSET,
            changes_not_listed=rehearsal.done + counts.rejected - len(shown) if self.listed else UNSET,
        )

    def _notes(self, configs: Sequence[TableConfig], tables: Mapping[str, PlannedTable]) -> Iterator[str]:
        for table in configs:
            if self.tables[table.table].deleted and self.tables[table.table].key_in_delete == (None,):
                yield (
                    f"{table.table}: no delete has shown yet whether Campaign deletes by the key. Its deletes are "
                    "counted as two calls each, and finding out as two more; they cost one each if it does."
                )
        if uncertain := sum(table.outcomes_unknown for table in self.tables.values()):
            yield (
                f"It is not known whether Campaign holds {counted(uncertain, 'record')}, since an answer was lost, or "
                "a row to be sent again is out of scope: each may cost a call more or less."
            )
        for table in configs:
            if text := updates_text(self.runtime.config, self.ledger, table):
                yield text
        yield from large_load(sum(table.calls.total() for table in self.tables.values()))
        yield from self.notes
        yield from loading(tables)
        yield from (both_ways(name, table.by_file) for name, table in tables.items() if table.by_file)
        opt_out = self.runtime.config.opt_out
        if opt_out.active and CONTACT in self.tables:
            yield "The plan reads no opt-out files on the SFTP and polls no profiles: their opt-outs are not in it."
