"""`move`: from Campaign Standard to Campaign v8, step by step (steps.py). For people: docs/moving-to-v8.md.

Steps before the switch run with the environment of the former Campaign, those after it with that of the new one: the
command sees by CAMPAIGN_URL which one is named. Nothing is written to either system before the last step.
"""

from contextlib import closing
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from sync_assets.cli.steps import PLANNED, StepResult, Steps, is_unfinished, numbers, run
from sync_assets.cli.sync import unfinished_text
from sync_assets.commands import terminal
from sync_assets.commands.accept_systems import FORMER, accept_systems, cost_text
from sync_assets.commands.plan import plan
from sync_assets.commands.status import overview
from sync_assets.commands.terminal import Json, Parts
from sync_assets.commands.values import fields
from sync_assets.errors import SyncAssetsError
from sync_assets.runtime.systems import same_address
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
    "Stop the workflow of Campaign Standard that exports opt-outs, and wait until it has ended.",
    "Stop the sensors, and run `sync-assets sync` once more: it processes the last export files.",
    "Let Adobe copy the records after that. Until the first sync on v8, opt-outs that people choose in Campaign "
    "Standard are lost: end its landing pages and deliveries.",
)
SET_UP = (
    "Filters: v8 publishes them without the prefix `by`, by their *Filter name in REST API*: correct `filter`.",
    "Links: a link with `style: key` needs `style: auto`, since v8 may not take the parent's key.",
    "SFTP: make the key, the folders and the known_hosts file of v8, and change CAMPAIGN_SFTP_HOST and the others.",
    "Workflows: make the export of opt-outs on v8, and correct `opt_out.export.workflow_id`.",
    "The variables of Campaign Standard: keep them in a file of their own for `hold verify ID --env-file FILE`, until "
    "Campaign Standard is shut down.",
)
NEXT_STEPS = ("Start the sensors again.", "Start the export of opt-outs on v8.")
LEFT = ("waiting", "rejected", "held", "synced")
UNCHECKED = "CAMPAIGN_URL names the new Campaign already, so this step cannot be checked any more. Was it done before?"


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
        return self._former or self._stored

    @property
    def _stored(self) -> str:
        self.runtime.access.check_not_older()
        if stored := self.runtime.ledger.systems.stored().get("campaign"):
            return stored.url
        raise SyncAssetsError("The ledger has synchronised with no Campaign yet.", "Run `sync-assets sync` first.")

    @property
    def _is_switched(self) -> bool:
        """Return True if the environment names another Campaign than the ledger."""
        return not same_address(self._stored, self.runtime.settings.campaign().url)

    @property
    def _former(self) -> str | None:
        """The address that the ledger's Campaign had before; None before the ledger moved to the one that is named."""
        return None if self._is_switched else self.runtime.ledger.migrations.facts(FORMER).get("url")

    def make(self, name: str) -> StepResult:
        """Make a step. Raises SyncAssetsError if it could not run."""
        match name:
            case "last_sync":
                return self._last_sync()
            case "holds":
                holds = [fields(hold, "id", "since", "records") for hold in self.runtime.ledger.holds.all()]
                question = f"{counted(len(holds), 'person', 'are')} on hold. Carry the requests out in both Campaigns, "
                question += "or release them after the move. Is that planned?"
                return StepResult({"holds": len(holds)}, {"holds": holds}, question if holds else None)
            case "accept":
                return self._accept()
            case "set_up":
                checked = self.doctor()
                return StepResult(
                    checked.result, {**checked.details, "checklist": SET_UP}, "Is all of this done?", checked.todo
                )
            case "cost":
                return self._cost()
            case _:
                return self.first_sync(NEXT_STEPS)

    def confirmed(self, name: str) -> None:
        if name == "accept":
            accept_systems(self.runtime, yes=True)

    def _last_sync(self) -> StepResult:
        details = {"checklist": LAST_SYNC}
        if self._is_switched or self._former:
            return StepResult(details=details, question=UNCHECKED)
        ledger, todo = self.runtime.ledger, list[str]()
        status = overview(self.runtime.config, ledger, {}, {})
        if is_unfinished(status):
            todo.append(f"Run `sync-assets sync`. Left: {unfinished_text(status) or 'the first read'}.")
        if at_work := tables_at_work(ledger):
            todo.append(f"Stop the sensors and their runs: {', '.join(sorted(at_work))} is at work.")
        left = {name: fields(table, *LEFT) for name, table in status.tables.items()}
        return StepResult({"tables": left}, details, "Is all of this done?", todo)

    def _accept(self) -> StepResult:
        if not self._is_switched:
            former, switch = self._former, "Name the new Campaign in the environment: CAMPAIGN_URL and its credentials."
            return StepResult({"former": former}, todo=() if former else [switch])
        document = accept_systems(self.runtime, yes=False)
        now = self.runtime.settings.campaign().url
        notes = [f"{self._stored} -> {now}", cost_text(document["comparison"])]
        return StepResult({"former": self._stored}, {"notes": notes}, f"Did {now} get the records of {self._stored}?")

    def _cost(self) -> StepResult:
        with closing(self.runtime.using(any_ledger=False, announce=lambda _: None)) as runtime:
            planned = plan(runtime)
        if planned.problems or not planned.document:
            raise SyncAssetsError("\n".join(map(str, planned.problems)))
        tables = {name: fields(table, *PLANNED) for name, table in planned.document.tables.items()}
        changed = sum(table["insert"] + table["update"] + table["delete"] for table in tables.values())
        question = f"{counted(changed, 'record')} of Campaign would be sent. Is that right?"
        result = {"tables": tables, **self.cost(planned.document.engine_calls)}
        return StepResult(result, {"notes": planned.document.notes}, question if changed else None)

    def body(self, step: str, result: dict[str, Any], details: dict[str, Any]) -> Parts:
        if tables := result.get("tables"):
            yield numbers("  table", PLANNED if step == "cost" else LEFT, tables)
        for hold in details.get("holds", ()):
            yield f"  {hold['id']}  since {hold['since']}  {counted(hold['records'], 'record')}"
