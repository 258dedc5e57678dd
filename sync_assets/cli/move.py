"""`move`: from Campaign Standard to Campaign v8, step by step (steps.py). For people: docs/moving-to-v8.md.

Steps before the switch run with the environment of the former Campaign, those after it with that of the new one: the
command sees by CAMPAIGN_URL which one is named. Nothing is written to either system before the last step.
"""

from contextlib import closing
from dataclasses import dataclass
from typing import Annotated

import typer
from msgspec import convert
from msgspec.structs import replace

from sync_assets.cli.steps import Steps, is_unfinished, run
from sync_assets.cli.sync import unfinished_text
from sync_assets.commands import terminal
from sync_assets.commands.accept_systems import accept_systems, cost_text
from sync_assets.commands.plan import plan
from sync_assets.commands.status import overview
from sync_assets.commands.step_document import (
    Details,
    LeftRecords,
    PlannedRecords,
    ShownHold,
    StepCounts,
    StepResult,
)
from sync_assets.commands.terminal import Json
from sync_assets.errors import SyncAssetsError
from sync_assets.runtime.systems import FORMER, same_address
from sync_assets.runtime.workers import tables_at_work
from sync_assets.words import counted

STEPS = {
    "last_sync": "The last sync with the former Campaign",
    "holds": "Privacy holds, while both Campaigns have the persons",
    "accept": "The ledger belongs to the new Campaign",
    "set_up": "The set-up of the new Campaign",
    "cost": "What the move lost, and what the first sync costs",
    "sync": "The first sync with the new Campaign",
}
LAST_SYNC = (
    "The workflow of Campaign Standard that exports opt-outs is stopped, its landing pages and deliveries are ended.",
    "The sensors are stopped, and `sync-assets sync` ran once after that.",
)
SET_UP = (
    "Filters: v8 publishes them without the prefix `by`; `filter` has their names.",
    "Links: none has `style: key`; v8 may not take the parent's key, `auto` finds that out.",
    "SFTP: v8 has the key and the folders, CAMPAIGN_SFTP_HOST and the known_hosts file are those of v8.",
    "Workflows: v8 has one that exports opt-outs; `opt_out.export.workflow_id` has its id.",
    "The variables of Campaign Standard are kept in a file, for `hold verify ID --env-file FILE`.",
)
NEXT_STEPS = ("Start the sensors, and the export of opt-outs on v8.",)


def command(
    yes: Annotated[bool, typer.Option("--yes", help="Confirm each step without a question.")] = False,
    go: Annotated[bool, typer.Option("--go", help="Run the first sync once all other steps are done.")] = False,
    from_start: Annotated[bool, typer.Option("--from-start", help="Start again at the first step.")] = False,
    as_json: Json = False,
) -> None:
    """Move from Campaign Standard to Campaign v8, step by step. Writes to neither system without --go. May be left and
    continued. Exit status 0: all steps are done; 2: a person must do or decide a step.
    """
    runtime = terminal.open_runtime(any_ledger=True)
    run(Move(runtime, go=go), yes=yes, from_start=from_start, as_json=as_json)


@dataclass
class Move(Steps):
    """The steps."""

    name, subject, stored_as = "move", "move", "move"
    titles = STEPS

    def version(self) -> str:
        """Return the address of the former Campaign. The configuration changes with the move."""
        now, _, former = self._addresses
        return former or now

    @property
    def _addresses(self) -> tuple[str, str, str | None]:
        """The ledger's Campaign, the environment's; the former one, if the ledger moved to the environment's."""
        self.runtime.access.check_not_older()
        stored, named = self.runtime.ledger.systems.stored().get("campaign"), self.runtime.settings.campaign().url
        if stored is None:
            raise SyncAssetsError("The ledger has synchronised with no Campaign yet.", "Run `sync-assets sync` first.")
        former = self.runtime.ledger.migrations.facts(FORMER).get("url")
        return stored.url, named, former if same_address(stored.url, named) else None

    def make(self, name: str) -> StepResult:
        match name:
            case "last_sync":
                return self._last_sync()
            case "holds":
                holds = [ShownHold(hold.id, hold.since, hold.records) for hold in self.runtime.ledger.holds.all()]
                question = (
                    "Are these requests carried out in both Campaigns, or only after the move?" if holds else None
                )
                return StepResult(StepCounts(holds=len(holds)), Details(holds=holds), question)
            case "accept":
                return self._accept()
            case "set_up":
                done = self.doctor()
                details = replace(done.details, checklist=SET_UP)
                return replace(done, details=details, question="Is all of this done?")
            case "cost":
                return self._cost()
            case _:
                return self.first_sync(NEXT_STEPS)

    def confirmed(self, name: str) -> None:
        if name == "accept":
            accept_systems(self.runtime, yes=True)

    def _last_sync(self) -> StepResult:
        ledger, todo, (now, named, former) = self.runtime.ledger, list[str](), self._addresses
        status = overview(self.runtime.config, ledger, {}, {})
        if former or not same_address(now, named):
            return StepResult(question=f"{named} is named already, so this cannot be checked: was it done before?")
        if is_unfinished(status):
            todo.append(f"Run `sync-assets sync`. Left: {unfinished_text(status) or 'the first read'}.")
        if at_work := tables_at_work(ledger):
            todo.append(f"Stop the sensors and their runs, which are at work: {', '.join(sorted(at_work))}.")
        left = convert(status.tables, dict[str, LeftRecords], from_attributes=True)
        return StepResult(StepCounts(left=left), Details(checklist=LAST_SYNC), "Is all of this done?", todo)

    def _accept(self) -> StepResult:
        now, named, former = self._addresses
        if same_address(now, named):
            todo = () if former else ("Name the new Campaign in the environment: CAMPAIGN_URL and its credentials.",)
            return StepResult(StepCounts(former=former), todo=todo)
        notes = [f"{now} -> {named}", cost_text(accept_systems(self.runtime, yes=False).comparison)]
        return StepResult(StepCounts(former=now), Details(notes=notes), f"Did {named} get the records of {now}?")

    def _cost(self) -> StepResult:
        with closing(self.runtime.using(any_ledger=False, announce=lambda _: None)) as runtime:
            planned = plan(runtime)
        if planned.problems or not planned.document:
            raise SyncAssetsError("\n".join(map(str, planned.problems)))
        changes = convert(planned.document.tables, dict[str, PlannedRecords], from_attributes=True)
        changed = sum(table.insert + table.update + table.delete for table in changes.values())
        question = f"{counted(changed, 'record')} of Campaign would be sent. Is that right?" if changed else None
        result = StepCounts(changes=changes, cost=self.cost(planned.document.engine_calls))
        return StepResult(result, Details(notes=planned.document.notes), question)
