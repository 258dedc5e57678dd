"""`migrate`: from Adobe's integration to this program, step by step. The steps that are done are kept in the ledger.

Nothing is written to either system before the last step.

Invariants: a step is stored as done once it is finished and confirmed, with a hash of the configuration; with another
configuration it counts as not done. Its `result` is stored in the ledger, so it holds counts and names of attributes
only. What may hold ids or values is in `details`, which are printed and not stored.
"""

import hashlib
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import Annotated, Any

import typer
from rich.text import Text

from sync_assets.checks.rules import Finding
from sync_assets.cli.sync import sync, unfinished_text
from sync_assets.commands import terminal
from sync_assets.commands.doctor import examine
from sync_assets.commands.estimate import duration
from sync_assets.commands.estimate_calls import calls_a_day, hours, pace
from sync_assets.commands.inventory import Inventory
from sync_assets.commands.plan import plan
from sync_assets.commands.plan_changes import change_text
from sync_assets.commands.plan_document import PlanDocument, PlannedTable
from sync_assets.commands.status import CALL_KINDS, Overview, held_back, in_maintenance, overview
from sync_assets.commands.terminal import Json, Parts, Table, kinds, plain_table
from sync_assets.commands.values import fields
from sync_assets.config.models import Config
from sync_assets.errors import SyncAssetsError
from sync_assets.foreign_text import cleaned
from sync_assets.ledger.times import iso
from sync_assets.runtime.context import Runtime
from sync_assets.words import counted

ADOBE = "adobe"  # the subject of the steps' results in the ledger
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


def changes_step(inventory: Inventory, planned: Mapping[str, PlannedTable]) -> StepResult:
    """Return what the first sync would change. planned: by table. Updates and deletes need a decision."""
    tables = {
        name: {
            **fields(planned[name], *PLANNED),
            "attributes": dict(sorted(counts.attributes.items())),
        }
        for name, counts in inventory.tables.items()
    }
    changed = sum(table["update"] + table["delete"] for table in tables.values())
    question = f"{counted(changed, 'record')} of Campaign would change. Is that right?"
    details = {
        "samples": {name: counts.samples for name, counts in inventory.tables.items() if counts.samples},
        "values": "shown" if inventory.show_values else "masked",
        "notes": held_back(planned),
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


LAST_COMMAND = "Run `sync-assets migrate --go`, or `sync-assets sync`: both make the first sync."
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
    terminal.let_sigterm_interrupt()
    asks = sys.stdin.isatty() and sys.stderr.isatty() and not as_json
    with terminal.on_interrupt("It goes on with the same step."):
        if from_start:
            runtime.ledger.adobe_migration.forget(ADOBE)
        document = migrate(
            runtime,
            confirm=lambda question: yes or (asks and terminal.confirm("Confirmed?")),
            show=lambda step: None if as_json else terminal.print_parts(show_step(cleaned(step), confirmed=yes)),
            working=lambda: terminal.progress(runtime.progress),
            go=go,
            show_values=show_values,
        )
    made = {kind: number for kind, number in document["engine_calls"].items() if number}
    ending = [f"Engine calls before the first sync, to find this out: {kinds(made)}."] if made else []
    ending += [] if document["next"] else ["All steps are done."]
    terminal.print_document(document, as_json, lambda _: ending)
    if document["next"]:
        last = document["steps"][-1]
        confirmed = " It asks in a terminal; elsewhere `--yes` confirms." if last["question"] else ""
        why = f"{last['question'] or last['todo'][0]} `sync-assets migrate` continues there.{confirmed}"
        terminal.end(2, f"Step {last['number']} is not done: {why}")


def migrate(
    runtime: Runtime,
    *,
    confirm: Callable[[str], bool],
    show: Callable[[dict[str, Any]], None],
    working: Callable[[], AbstractContextManager[None]] = nullcontext,
    go: bool = False,
    show_values: bool = False,
) -> dict[str, Any]:
    """Make the steps that are not done yet, until one needs a person; return what `migrate --json` prints.

    Args:
        confirm: asks a person a question; returns True for yes.
        show: called with each step as in the document, before its question is asked.
        working: shows progress while a step is made.
        go: True to make the first sync.
        show_values: True to put values into the samples, which then are for the terminal only.

    Raises:
        SyncAssetsError: a step could not run. The steps before it are done.
    """
    runtime.settings.require("d365", "campaign")
    # The results of all steps depend on the configuration of tables and opt-outs.
    depends_on = runtime.config.model_dump_json(include={"tables", "opt_out"}).encode()
    ledger, configuration = runtime.ledger, hashlib.sha256(depends_on).hexdigest()[:32]
    known = ledger.adobe_migration.facts(ADOBE).items()
    stored = {name: step for name, step in known if step["configuration"] == configuration}
    steps = _Steps(runtime, go=go, show_values=show_values)
    step_documents: list[dict[str, Any]] = []
    for number, name in enumerate(STEPS, 1):
        done = stored.get(name)
        with working():
            result = StepResult(done["result"]) if done else steps.make(name)
        about = {"number": number, "step": name, "title": STEPS[name], "done_at": done and done["done_at"]}
        step_documents.append({**about, **asdict(result)})
        show(step_documents[-1])
        if done:
            continue
        if result.todo or (result.question and not confirm(result.question)):
            break
        stored[name] = {"configuration": configuration, "result": result.result, "done_at": iso(datetime.now(UTC))}
        ledger.adobe_migration.note(ADOBE, {name: stored[name]})
        step_documents[-1] |= {"done_at": stored[name]["done_at"], "question": None}
    following = next((name for name in STEPS if name not in stored), None)
    calls = steps.calls + Counter[str](runtime.clients.calls)
    return {
        "steps": step_documents,
        "next": following,
        "engine_calls": {kind: calls[kind] for kind in CALL_KINDS},
    }


@dataclass
class _Steps:
    """The steps of one invocation. calls: engine calls of the steps that have a runtime of their own, by kind."""

    runtime: Runtime
    go: bool = field(kw_only=True)
    show_values: bool = field(kw_only=True)
    calls: Counter[str] = field(default_factory=Counter[str])

    def make(self, name: str) -> StepResult:  # noqa: PLR0911 - a table of steps
        """Make a step. Raises SyncAssetsError if it could not run."""
        config = self.runtime.config
        match name:
            case "doctor":
                with closing(self.runtime.using(any_ledger=True, announce=lambda _: None)) as runtime:
                    findings = examine(runtime)
                self.calls.update(runtime.clients.calls)
                return doctor_step(findings)
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
                limits, due = config.guardrails, inventory.opt_out_calls
                calls = {kind: planned.engine_calls[kind] + due[kind] for kind in CALL_KINDS}
                total = sum(calls.values())
                needed = {"hours": round(hours(total, limits), 2), "calls_per_hour": pace(limits)}
                return StepResult(
                    {"engine_calls": calls, "total": total, **needed, "budget_a_day": calls_a_day(limits)}
                )
            case _:
                return self._sync()

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

    def _sync(self) -> StepResult:
        result, afterwards = dict[str, Any](), {"afterwards": NEXT_STEPS}
        if not self.go:
            status = overview(self.runtime.config, self.runtime.ledger, {}, {})
            if _unfinished(status):
                return StepResult(result, afterwards, todo=[LAST_COMMAND])
        else:
            # What it would announce is part of the result, or of the error.
            # The sync closes the ledger that it opens.
            with closing(self.runtime.using(announce=lambda _: None)) as runtime:
                done = sync(runtime)
            if done.status == 1:
                raise SyncAssetsError("\n".join(map(str, done.problems)))
            result, status = {"engine_calls": done.document.engine_calls}, done.document
            in_part = done.problems or done.ended_early or in_maintenance(status, status.tables)
            if in_part or _unfinished(status):
                return StepResult(result, todo=[*map(str, done.problems), *done.stopped, done.ending])
        remainder = unfinished_text(status)
        question = f"The first sync left: {remainder} (`sync-assets rejects`). Is the migration done without that?"
        return StepResult(result, afterwards, question if remainder else None)


def _unfinished(status: Overview) -> bool:
    """Return True if no sync has been made, or one that left more than records which a person may leave as they are."""
    tables, opt_out = status.tables.values(), status.opt_out
    unfinished = (not table.feed.complete or table.pending or table.deletes_held_back for table in tables)
    return any(unfinished) or bool(opt_out.due or opt_out.files_waiting)


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
            yield from (f"  {line.outcome} {line.title}: {line.message}" for line in details.get("checks", ()))
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
                    changes = (change_text(**change) for change in sample["changes"])
                    yield f"  e.g. {name} {sample['id']}: {'; '.join(changes)}"
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
