"""The steps of `migrate`: their results, what a person must do or decide, and how they are shown.

Invariant: a step's `result` is stored in the ledger, so it holds counts and names of attributes only. What may hold ids
or values is in `details`, which are printed and not stored.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.text import Text

from sync_assets.checks.rules import Finding
from sync_assets.commands.estimate import duration
from sync_assets.commands.estimate_calls import calls_a_day, hours, pace
from sync_assets.commands.inventory import Inventory
from sync_assets.commands.plan_changes import change_text
from sync_assets.commands.status import CALL_KINDS, held_back
from sync_assets.commands.terminal import Parts, Table, kinds, plain_table
from sync_assets.commands.values import fields
from sync_assets.config.models import Config, Guardrails, OptOutConfig
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
PLANNED = ("insert", "update", "delete", "unchanged", "waiting", "rejected", "held")
"""Counts of a plan that are reported for each table."""
OPT_OUT_COUNTS = ("agree", "only_d365", "only_campaign", "to_d365", "to_campaign")
"""Counts that are reported for each opt-out, see `Inventory.opt_outs`."""


@dataclass(frozen=True, slots=True)
class StepResult:
    """The result of a step, which is stored, and details, which are printed only.

    question: what a person must confirm before the step is done. todo: what a person must do first; then the step is
    made again.
    """

    result: dict[str, Any] = field(default_factory=dict[str, Any])
    details: dict[str, Any] = field(default_factory=dict[str, Any])
    question: str | None = None
    todo: Sequence[str] = ()


def doctor_step(findings: Sequence[Finding]) -> StepResult:
    """Return the result of `doctor`: everything but its failures may be left as it is."""
    outcomes = Counter(finding.outcome for finding in findings)
    problems = [finding.document() for finding in findings if finding.outcome != "ok"]
    todo = ["Correct the failures, which `sync-assets doctor` shows."] if outcomes["fail"] else []
    return StepResult({name: outcomes[name] for name in ("ok", "warn", "fail")}, {"checks": problems}, todo=todo)


def checklist(opt_out: OptOutConfig) -> list[str]:
    """Return what a person does in Adobe's integration and in Campaign before the first sync (docs/migration.md)."""
    export = (
        "Leave the workflow in Campaign that exports opt-outs to the SFTP running: this program reads its file."
        if opt_out.active
        else "Stop the workflow in Campaign that exports opt-outs to the SFTP: nothing reads its file any more."
    )
    return [
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


def switch_off_step(config: Config) -> StepResult:
    items = checklist(config.opt_out)
    return StepResult({"items": len(items)}, {"checklist": items}, "Is all of this done?")


def inventory_step(config: Config, inventory: Inventory) -> StepResult:
    """Return the counts by table. Ids that several records carry need a decision."""
    tables = {
        name: {
            "resource": config.table(name).resource,
            "compared": counts.listing == "whole",
            **fields(counts, "records", *_INVENTORY),
            "without_id": counts.without_id if counts.listing == "whole" else None,
        }
        for name, counts in inventory.tables.items()
    }
    several = [table for table in tables.values() if table["twice"]]
    twice = [f"{counted(table['twice'], 'id', 'are')} in several records of {table['resource']}" for table in several]
    question = (
        f"{'; '.join(twice)}. Merge them in Campaign, and run `migrate` again. If they stay, Campaign chooses which "
        "record is updated, or rejects the update. Go on with them as they are?"
    )
    return StepResult({"tables": tables}, question=question if twice else None)


def changes_step(inventory: Inventory, plan: Mapping[str, Any]) -> StepResult:
    """Return what the first sync would change. plan: the document of `plan`. Updates and deletes need a decision."""
    tables = {
        name: {
            **{kind: plan["tables"][name][kind] for kind in PLANNED},
            "attributes": dict(sorted(counts.attributes.items())),
        }
        for name, counts in inventory.tables.items()
    }
    changed = sum(table["update"] + table["delete"] for table in tables.values())
    question = f"{counted(changed, 'record')} of Campaign would change. Is that right?"
    details = {
        "samples": {name: counts.samples for name, counts in inventory.tables.items() if counts.samples},
        "values": "shown" if inventory.show_values else "masked",
        "notes": held_back(plan),
    }
    return StepResult({"tables": tables}, details, question if changed else None)


def opt_outs_step(config: Config, inventory: Inventory) -> StepResult:
    """Return the opt-outs of contacts that both systems have. Writes to either system need a decision."""
    attributes = {name: {kind: counts[kind] for kind in OPT_OUT_COUNTS} for name, counts in inventory.opt_outs.items()}
    d365, campaign = (sum(counts[kind] for counts in attributes.values()) for kind in ("to_d365", "to_campaign"))
    question = (
        f"With direction {config.opt_out.direction} {counted(d365, 'opt-out')} would be written to Dynamics 365 and "
        f"{campaign:,} to Campaign. Is that right?"
    )
    result = {"direction": config.opt_out.direction, "attributes": attributes}
    files = "Export files on the SFTP were not read: the first sync processes those that are there."
    details = {"notes": [files] if config.opt_out.active else []}
    return StepResult(result, details, question if d365 or campaign else None)


def cost_step(inventory: Inventory, plan: Mapping[str, Any], guardrails: Guardrails) -> StepResult:
    """Return the engine calls of the first sync, by the plan and by the opt-outs that are due."""
    calls = {kind: plan["engine_calls"][kind] + inventory.opt_out_calls[kind] for kind in CALL_KINDS}
    total = sum(calls.values())
    needed = {"hours": round(hours(total, guardrails), 2), "calls_per_hour": pace(guardrails)}
    return StepResult({"engine_calls": calls, "total": total, **needed, "budget_a_day": calls_a_day(guardrails)})


LAST_COMMAND = "Run `sync-assets migrate --go`, or `sync-assets sync`: both make the first sync."
NEXT_STEPS = (
    "Start the sensors: run `sync-assets dev -m sync_assets.definitions` and switch them on in the UI, or set "
    "SYNC_ASSETS_AUTOSTART=1.",
    "When all is right, remove the mappings, the application user and the SFTP key of Adobe's integration.",
)
"""What a person does after the first sync."""


# --- For people -------------------------------------------------------------------------------------------------------


def show_step(step: dict[str, Any], *, confirmed: bool = False) -> Parts:
    """Show a step: its result, and what a person must do or confirm, or has confirmed by an option."""
    done = f" (done {step['done_at']})" if step["done_at"] else ""
    yield Text(f"Step {step['number']}: {step['title']}{done}", "bold")
    yield from _body(step["step"], step["result"], step["details"])
    yield from (f"  {note}" for note in step["details"].get("notes", ()))
    yield from (f"To do: {line}" for line in step["todo"])
    if step["question"]:
        yield f"{'Confirmed by --yes' if confirmed else 'To confirm'}: {step['question']}"
    yield from (f"Afterwards: {line}" for line in step["details"].get("afterwards", ()))
    yield ""


_INVENTORY = {
    "equal": "carry our id and have the mapped values",
    "differing": "carry our id and differ",
    "not_in_scope": "carry an id whose row is not sent: filtered out, held, or rejected by the mapping",
    "unknown": "carry an id that Dynamics 365 does not have; they stay as they are",
    "without_id": "carry no id; they stay as they are",
    "other_key": "carry a key that is no id of Dynamics 365; they stay as they are",
    "twice": "of the ids are in several records, and count once above",
}


def _body(step: str, result: dict[str, Any], details: dict[str, Any]) -> Parts:  # noqa: PLR0912 - a table of steps
    match step:
        case "doctor":
            yield f"  {result['ok']} ok, {result['warn']} warn, {result['fail']} fail"
            yield from (f"  {line['outcome']} {line['title']}: {line['message']}" for line in details.get("checks", ()))
        case "switch_off":
            yield from (f"  {number}. {item}" for number, item in enumerate(details.get("checklist", ()), 1))
        case "inventory":
            for name, table in result["tables"].items():
                yield f"  {name}: {counted(table['records'], 'record')} of {table['resource']}"
                if table["compared"]:
                    yield from (f"  {table[kind]:>9,} {text}" for kind, text in _INVENTORY.items())
                else:
                    yield "            not compared: the first load began before, or no row is in scope"
        case "changes":
            yield _numbers("  table", PLANNED, result["tables"])
            for name, table in result["tables"].items():
                if table["attributes"]:
                    counts = ", ".join(f"{attribute} {number:,}" for attribute, number in table["attributes"].items())
                    yield f"  {name}, records that differ by attribute: {counts}"
            for name, samples in details.get("samples", {}).items():
                for sample in samples:
                    yield f"  e.g. {name} {sample['id']}: {'; '.join(map(change_text, sample['changes']))}"
        case "opt_outs":
            yield f"  direction: {result['direction']}"
            if result["attributes"]:
                yield _numbers("  attribute", OPT_OUT_COUNTS, result["attributes"])
        case "cost":
            yield f"  engine calls: {kinds(result['engine_calls'])}; {result['total']:,} in all"
            yield f"  {duration(result['hours'])} at {result['calls_per_hour']:,} calls an hour (assumed)"
            if result["budget_a_day"]:
                yield f"  the budgets allow {result['budget_a_day']:,} calls a day"
        case _ if calls := result.get("engine_calls"):
            yield f"  engine calls: {kinds(calls)}"


def _numbers(title: str, columns: tuple[str, ...], rows: dict[str, dict[str, Any]]) -> Table:
    titles = [column.replace("_", " ") for column in columns]
    lines = ([f"  {name}", *(row[column] for column in columns)] for name, row in rows.items())
    return plain_table(title, *titles, rows=lines, numbers=titles)
