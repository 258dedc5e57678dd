"""`plan`: rehearse the next `sync` on a scratch ledger, and report what it will do and cost. Writes nothing.

The capture is the real one, which only reads from Dynamics 365, and so are the list of Campaign's existing records and
the rules for sending; the order of steps is that of sync.py. Rejections by Campaign are not foreseen.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any

from sync_assets.campaign.client import CampaignRefused
from sync_assets.commands.plan_existing_records import ExistingPlanned
from sync_assets.config.models import TableConfig
from sync_assets.dataverse.client import D365Refused
from sync_assets.dataverse.page_parser import BadPage
from sync_assets.errors import SyncAssetsError
from sync_assets.flows import capture_table
from sync_assets.ledger import Ledger
from sync_assets.ledger.errors import with_them
from sync_assets.ledger.model import NO_ORPHANS, OrphansOfDeletes
from sync_assets.ledger.scratch import scratch_ledger
from sync_assets.ledger.times import iso
from sync_assets.mapping.unlabelled_options import unknown_codes_warning
from sync_assets.operations.inventory import Inventory
from sync_assets.operations.status import CALL_KINDS, held_back, refused_attributes, refused_updates, waiting_for
from sync_assets.plurals import counted
from sync_assets.push.rehearsal import Rehearsal
from sync_assets.push.target import Target
from sync_assets.runtime import interruptible
from sync_assets.runtime.context import Runtime
from sync_assets.runtime.parent_keys import ParentKeys
from sync_assets.validation.guardrails import check_configuration, check_limits
from sync_assets.validation.preflight import NotReady
from sync_assets.validation.schema_drift import target_finding


@dataclass(frozen=True, slots=True)
class Planned:
    """The result of a plan.

    Attributes:
        document: what `plan --json` prints; its `notes` are for people.
        problems: why a table could not be planned, which stops `sync` as well.
        empty: True if no table could be planned.
    """

    document: dict[str, Any]
    problems: list[SyncAssetsError]
    empty: bool = False


def plan(runtime: Runtime, inventory: Inventory | None = None) -> Planned:
    """Rehearse a sync of all mapped tables.

    inventory: counts the records of Campaign that the sync would list. Raises SyncAssetsError as `sync` would, with
    nothing written.
    """
    runtime.settings.require("d365", "campaign")
    check_configuration(runtime.config, runtime.config.tables)
    with scratch_ledger(runtime.settings.ledger_url, runtime.cipher) as ledger:
        runtime.check_addresses(ledger)
        paused = _end_maintenance(ledger)
        rehearsed = replace(runtime, _ledger=ledger, _session=None, accept_mapping=True)
        try:
            planned = interruptible.run(_Plan(rehearsed, ledger, inventory, runtime.accept_mapping).run())
        finally:
            rehearsed.end_session()
    planned.document["notes"] += paused
    return planned


def _end_maintenance(ledger: Ledger) -> list[str]:
    """End all maintenance in the scratch ledger, and return notes about it: tables are planned as if it had ended."""
    paused = ledger.maintenance.in_maintenance()
    for table in paused:
        ledger.maintenance.end(table)
    return [
        f"{table} is in maintenance since {iso(since)}: what is planned of it goes after `sync-assets maintenance off "
        f"{table}`."
        for table, since in paused.items()
    ]


@dataclass(slots=True)
class _Plan:
    runtime: Runtime
    ledger: Ledger
    inventory: Inventory | None = None
    accepted: bool = False
    rehearsals: dict[str, Rehearsal] = field(default_factory=dict[str, Rehearsal])
    troubled: dict[str, SyncAssetsError] = field(default_factory=dict[str, SyncAssetsError])
    unknown_codes: dict[str, str] = field(default_factory=dict[str, str])
    orphans: dict[str, OrphansOfDeletes] = field(default_factory=dict[str, OrphansOfDeletes])
    existing: ExistingPlanned = field(init=False)

    def __post_init__(self) -> None:
        self.existing = ExistingPlanned(self.runtime, self.inventory)

    async def run(self) -> Planned:
        tables = self.runtime.config.in_link_order
        keys = ParentKeys()
        self.rehearsals = {
            config.table: Rehearsal(Target.linked(self.runtime.config, config), keys) for config in tables
        }
        async with self.inventory.opened() if self.inventory else nullcontext():
            for config in tables:
                await self._capture_and_push(config)
            await self._push_the_rest([config for config in tables if config.table not in self.troubled])
        if self.inventory:
            await asyncio.to_thread(self.inventory.add_reads_of_opt_outs, self.ledger)
        return Planned(self._document(), list(self.troubled.values()), len(self.troubled) == len(tables))

    async def _capture_and_push(self, config: TableConfig) -> None:
        """Rehearse one run as `sync` starts it: capture the table, and send what is pending then."""
        try:
            await asyncio.to_thread(check_limits, self.runtime, config, reading=True)
            target = await asyncio.to_thread(target_finding, self.ledger, config)
            if not (target.passed or self.accepted):
                raise NotReady(config.table, [target])
            captured = await capture_table(self.runtime, config)
        except (NotReady, D365Refused, BadPage, CampaignRefused) as error:
            self.troubled[config.table] = error
        else:
            for note in captured.notes:
                self.runtime.announce(note)
            if warning := unknown_codes_warning(config.table, captured.result.unknown_codes):
                self.unknown_codes[config.table] = warning
            if any(captured.result.orphans) and not captured.result.held_back:
                self.orphans[config.table] = captured.result.orphans
            await self._push(config)

    async def _push(self, config: TableConfig) -> int:
        self.rehearsals[config.table].calls["read"] += await self.existing.find_out(config)
        activity = f"planning {config.table}"
        pending = self.ledger.reports.counts().get(config.table)
        self.runtime.totals[activity] = self.rehearsals[config.table].done + (pending.pending if pending else 0)
        progress = partial(self.runtime.progress, activity)
        return await self.rehearsals[config.table].push(self.ledger, progress)

    async def _push_the_rest(self, tables: Sequence[TableConfig]) -> None:
        refetched: dict[str, list[str]] = {}
        while True:
            moved = sum([await self._push(config) for config in tables])
            for config in tables:
                to_refetch = self.ledger.blocked.ids_to_refetch(config.table)
                if to_refetch and to_refetch != refetched.get(config.table):
                    refetched[config.table] = to_refetch
                    moved += 1
                    await self._capture_and_push(config)
            if not moved or not any(counts.pending for counts in self.ledger.reports.counts().values()):
                return

    # --- result -------------------------------------------------------------------------------------------------------

    def _document(self) -> dict[str, Any]:
        total: dict[str, int] = dict.fromkeys(CALL_KINDS, 0)
        for rehearsal in self.rehearsals.values():
            for kind in CALL_KINDS:
                total[kind] += rehearsal.calls[kind]
        tables = {config.table: self._table(config) for config in self.runtime.config.tables}
        return {
            "tables": tables,
            "engine_calls": total,
            "budget": self._budget(sum(total.values())),
            "opt_out": self._opt_out_counts(),
            "notes": [
                *self.unknown_codes.values(),
                *held_back({"tables": tables}),
                *(f"{table}: its deletions go ahead{with_them(orphans)}." for table, orphans in self.orphans.items()),
                *self._assumed_deletes(),
                *self._unknown_outcomes(),
                *(
                    refused_updates(config.table, left_out)
                    for config in self.runtime.config.tables
                    if (left_out := refused_attributes(self.runtime, config))
                ),
                *self.existing.notes,
                *self._opt_outs(),
            ],
        }

    def _opt_out_counts(self) -> dict[str, int] | None:
        """Return the opt-outs that the next sync decides or writes, by what is due; None without opt-out flows."""
        if not self.runtime.config.opt_out.active:
            return None
        left = asdict(self.ledger.opt_outs.left(self.runtime.config.opt_out.attributes))
        return {kind: number for kind, number in left.items() if not kind.startswith("unconfirmed")}

    def _opt_outs(self) -> list[str]:
        """Return a note on the number of opt-outs that are due.

        How they are decided depends on both sides' values at that moment.
        """
        if not self.runtime.config.opt_out.active:
            return []
        due = self.ledger.opt_outs.left(self.runtime.config.opt_out.attributes).due
        told = (
            f"{counted(due, 'opt-out')} would be due for a decision, at one read and one update each at most; "
            if due
            else ""
        )
        return [
            f"{told}opt-out files on the SFTP are not looked at, and what follows from them is not in these numbers."
        ]

    def _table(self, config: TableConfig) -> dict[str, Any]:
        rehearsal, counts = self.rehearsals[config.table], self.ledger.reports.counts().get(config.table)
        feed = self.ledger.feeds.feed(config.table)
        orphans = self.orphans.get(config.table) or (feed.orphans if feed else NO_ORPHANS)
        return {
            "resource": config.resource,
            "insert": rehearsal.inserted,
            "update": rehearsal.updated,
            "delete": rehearsal.deleted,
            "unchanged": counts.synced - len(rehearsal.settled) if counts else 0,
            "pending": counts.pending if counts else 0,
            "waiting": counts.waiting if counts else 0,
            "waiting_for": waiting_for(self.runtime, config.table),
            "held": counts.held if counts else 0,
            "failed": counts.failed if counts else 0,
            "orphaned": counts.orphaned if counts else 0,
            "deletes_held_back": feed.deletes if feed else 0,
            "deletes_following": orphans.deleted,
            "deletes_orphaning": orphans.kept,
            "uncertain": rehearsal.outcomes_unknown,
            "problem": str(self.troubled[config.table]) if config.table in self.troubled else None,
            "engine_calls": {kind: rehearsal.calls[kind] for kind in CALL_KINDS},
        }

    def _budget(self, calls: int) -> dict[str, int] | None:
        """Return the guardrail engine_calls_per_day, and how much of the plan fits into today; None without a limit."""
        limit = self.runtime.config.guardrails.engine_calls_per_day
        if limit is None:
            return None
        used, left = self.runtime.calls_today, self.runtime.calls_left_today or 0
        return {"engine_calls_per_day": limit, "used_today": used, "left_today": left, "fits_today": min(calls, left)}

    def _assumed_deletes(self) -> list[str]:
        """Return a note for each table with deletes of which Campaign has not shown yet whether it takes the key."""
        return [
            f"{config.table}: no delete has shown yet whether Campaign deletes by the key. Its deletes are counted as "
            "two calls each, and finding out as two more; they cost one each if it does."
            for config in self.runtime.config.tables
            if self.rehearsals[config.table].deleted
            and Target.of(config).addressing(self.ledger.dialect.found(config.resource)).key_in_delete is None
        ]

    def _unknown_outcomes(self) -> list[str]:
        uncertain = sum(rehearsal.outcomes_unknown for rehearsal in self.rehearsals.values())
        if not uncertain:
            return []
        return [
            f"{counted(uncertain, 'record', 'were')} sent before without an answer: each may cost a call more or less, "
            "since only Campaign knows whether it took them."
        ]
