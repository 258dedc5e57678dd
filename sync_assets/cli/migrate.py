"""`migrate`: from Adobe's integration to this program, step by step (steps.py).

Nothing is written to either system before the last step.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated

import typer
from msgspec import convert

from sync_assets.cli.steps import Steps, run
from sync_assets.commands import terminal
from sync_assets.commands.inventory import Inventory
from sync_assets.commands.plan import plan
from sync_assets.commands.plan_document import PlanDocument, PlannedTable
from sync_assets.commands.status import CALL_KINDS, held_back
from sync_assets.commands.step_document import (
    INVENTORY,
    CountedTable,
    Details,
    OptOutCounts,
    PlannedRecords,
    StepCounts,
    StepResult,
)
from sync_assets.commands.terminal import Json
from sync_assets.commands.values import fields
from sync_assets.config.models import Config
from sync_assets.errors import SyncAssetsError
from sync_assets.words import counted

STEPS = {
    "doctor": "The set-up is checked",
    "switch_off": "Adobe's integration is switched off",
    "inventory": "Campaign's records, by their ids",
    "changes": "What the first sync would change in Campaign",
    "opt_outs": "Opt-outs on both sides",
    "cost": "What the first sync costs",
    "sync": "The first sync",
}
"""The steps in their order, with their titles. Their names are stored in ledgers."""


def switch_off_step(config: Config) -> StepResult:
    """Return what a person does in Adobe's integration and in Campaign before the first sync (docs/migration.md)."""
    export = (
        "Leave the workflow in Campaign that exports opt-outs to the SFTP running: this program reads its file."
        if config.opt_out.active
        else "Stop the workflow in Campaign that exports opt-outs to the SFTP: nothing reads its file any more."
    )
    items = [
        "Compare each mapping of Adobe's application with the configuration: keys, fields, replacements, filters, "
        "`apply_deletes`, `picklists`, `apply_updates`.",
        "Wait until the backlog of the workflow `Microsoft Dynamics 365 to Campaign` is 0, then stop it.",
        "Stop the workflow `Opt-In/Out`: two programs that write opt-outs may undo each other.",
        "Decide on the workflow `Campaign to Microsoft Dynamics 365`: it writes e-mail events to the timeline of "
        "contacts, which this program does not. It may go on; stop it if the events are not needed.",
        export,
        "Leave Adobe's mappings, credentials and application user in place until the migration is finished: with them "
        "you can go back.",
    ]
    return StepResult(details=Details(checklist=items), question="Is all of this done?")


def inventory_step(config: Config, inventory: Inventory) -> StepResult:
    """Return the counts by table. Ids that several records carry need a decision."""
    tables = {
        name: CountedTable(
            resource=config.table(name).resource,
            compared=counts.listing == "whole",
            **fields(counts, "records", *INVENTORY),
        )
        for name, counts in inventory.tables.items()
    }
    several = [table for table in tables.values() if table.twice]
    twice = [f"{counted(table.twice, 'id', 'are')} in several records of {table.resource}" for table in several]
    question = (
        f"{'; '.join(twice)}. Merge them in Campaign, and run `migrate` again. If they stay, Campaign chooses which "
        "record is updated, or rejects the update. Go on with them as they are?"
    )
    return StepResult(StepCounts(inventory=tables), question=question if twice else None)


def changes_step(inventory: Inventory, planned: Mapping[str, PlannedTable]) -> StepResult:
    """Return what the first sync would change. planned: by table. Updates and deletes need a decision."""
    changes = convert(planned, dict[str, PlannedRecords], from_attributes=True)
    changed = sum(table.update + table.delete for table in changes.values())
    question = f"{counted(changed, 'record')} of Campaign would change. Is that right?"
    differing = {name: dict(sorted(counts.attributes.items())) for name, counts in inventory.tables.items()}
    details = Details(
        samples={name: counts.samples for name, counts in inventory.tables.items() if counts.samples},
        values="shown" if inventory.show_values else "masked",
        notes=held_back(planned),
    )
    result = StepCounts(changes=changes, attributes={name: counts for name, counts in differing.items() if counts})
    return StepResult(result, details, question if changed else None)


def opt_outs_step(config: Config, inventory: Inventory) -> StepResult:
    """Return the opt-outs of contacts that both systems have. Writes to either system need a decision."""
    counts = {attribute: OptOutCounts(**counter) for attribute, counter in inventory.opt_outs.items()}
    d365, campaign = sum(one.to_d365 for one in counts.values()), sum(one.to_campaign for one in counts.values())
    question = (
        f"With direction {config.opt_out.direction} {counted(d365, 'opt-out')} would be written to Dynamics 365 and "
        f"{campaign:,} to Campaign. Is that right?"
    )
    result = StepCounts(direction=config.opt_out.direction, opt_outs=counts)
    files = "Export files on the SFTP were not read: the first sync processes those that are there."
    details = Details(notes=[files] if config.opt_out.active else ())
    return StepResult(result, details, question if d365 or campaign else None)


NEXT_STEPS = (
    "Start the sensors: run `sync-assets dev -m sync_assets.definitions` and switch them on in the UI, or set "
    "SYNC_ASSETS_AUTOSTART=1.",
    "When all is right, remove the mappings, the application user and the SFTP key of Adobe's integration.",
)
"""What a person does after the first sync."""


def command(
    yes: Annotated[bool, typer.Option("--yes", help="Confirm each step without a question.")] = False,
    go: Annotated[bool, typer.Option("--go", help="Run the first sync once all other steps are done.")] = False,
    from_start: Annotated[bool, typer.Option("--from-start", help="Start again at the first step.")] = False,
    show_values: Annotated[
        bool, typer.Option("--show-values", help="Show the values of the samples, which are personal data.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Migrate from Adobe's integration, step by step. Writes to neither system without --go. May be left and
    continued. Exit status 0: all steps are done; 2: a person must do or decide a step.
    """
    runtime = terminal.open_runtime(may_create=True)
    run(Migration(runtime, go=go, show_values=show_values), yes=yes, from_start=from_start, as_json=as_json)


@dataclass
class Migration(Steps):
    """The steps. show_values: True to put values into the samples, which then are for the terminal only."""

    name, subject, stored_as = "migrate", "migration", "adobe"
    titles = STEPS
    show_values: bool = field(kw_only=True, default=False)

    def make(self, name: str) -> StepResult:  # noqa: PLR0911 - a table of steps
        config = self.runtime.config
        match name:
            case "doctor":
                return self.doctor()
            case "switch_off":
                return switch_off_step(config)
            case "inventory":
                return inventory_step(config, self._survey[0])
            case "changes":
                inventory, planned = self._survey
                return changes_step(inventory, planned.tables)
            case "opt_outs":
                return opt_outs_step(config, self._survey[0])
            case "cost":
                inventory, planned = self._survey
                due = inventory.opt_out_calls
                cost = self.cost({kind: planned.engine_calls[kind] + due[kind] for kind in CALL_KINDS})
                return StepResult(StepCounts(cost=cost))
            case _:
                return self.first_sync(NEXT_STEPS)

    @cached_property
    def _survey(self) -> tuple[Inventory, PlanDocument]:
        """The inventory and the plan that it was made with, read once for all steps that report of them."""
        runtime = self.runtime
        runtime.access.check_not_older()
        inventory = Inventory(runtime, self.show_values)
        planned = plan(runtime, inventory)
        # A plan counts nothing in the ledger, but this command writes there anyway.
        for table, counts in inventory.tables.items():
            runtime.ledger.counts.add("engine_calls", table, {"read": counts.reads})
            self.calls["read"] += counts.reads
        if planned.problems:
            raise SyncAssetsError("\n".join(map(str, planned.problems)))
        if stopped := [table for table, counts in inventory.tables.items() if counts.listing == "stopped"]:
            raise SyncAssetsError(
                f"Campaign's records of {', '.join(stopped)} were not listed: that takes more engine calls than the "
                "budgets of `guardrails` leave now.",
                "Run `sync-assets migrate` again on the next UTC day, or raise the budget.",
            )
        assert planned.document  # a plan without one has problems
        return inventory, planned.document
