"""`migrate`: from Adobe's integration to this program, step by step. The steps that are done are kept in the ledger.

Nothing is written to either system before the last step. Here: the order of the steps, and what each of them runs. What
their results mean is in commands/migration_steps.py.

Invariant: a step is stored as done once it is finished and confirmed, with a hash of the configuration. With another
configuration it counts as not done.
"""

import hashlib
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Annotated, Any

import typer

from sync_assets.cli.sync import sync, unfinished_text
from sync_assets.commands import migration_steps, terminal
from sync_assets.commands.doctor import examine
from sync_assets.commands.inventory import Inventory
from sync_assets.commands.migration_steps import STEPS, StepResult
from sync_assets.commands.plan import plan
from sync_assets.commands.status import CALL_KINDS, in_maintenance
from sync_assets.commands.status import document as status_document
from sync_assets.commands.terminal import Json, Parts, kinds
from sync_assets.errors import SyncAssetsError
from sync_assets.foreign_text import cleaned
from sync_assets.ledger.times import iso
from sync_assets.runtime.context import Runtime


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
    runtime = terminal.open_runtime(creates=True)
    terminal.let_sigterm_interrupt()
    asks = sys.stdin.isatty() and sys.stderr.isatty() and not as_json
    with terminal.on_interrupt("It goes on with the same step."):
        document = migrate(
            runtime,
            confirm=lambda question: yes or (asks and terminal.confirm("Confirmed?")),
            show=lambda step: (
                None if as_json else terminal.print_parts(migration_steps.show_step(cleaned(step), confirmed=yes))
            ),
            working=lambda: terminal.progress(runtime),
            go=go,
            from_start=from_start,
            show_values=show_values,
        )
    terminal.print_document(document, as_json, show_end)
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
    from_start: bool = False,
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
    if from_start:
        ledger.adobe_migration.forget_steps()
    stored = ledger.adobe_migration.steps()
    stored = {name: step for name, step in stored.items() if step.configuration == configuration}
    steps = _Steps(runtime, go=go, show_values=show_values)
    step_documents: list[dict[str, Any]] = []
    for number, name in enumerate(STEPS, 1):
        done = stored.get(name)
        with working():
            result = StepResult(done.result) if done else steps.make(name)
        about = {"number": number, "step": name, "title": STEPS[name], "done_at": done and iso(done.done_at)}
        step_documents.append({**about, **asdict(result)})
        show(step_documents[-1])
        if done:
            continue
        if result.todo or (result.question and not confirm(result.question)):
            break
        ledger.adobe_migration.note_step(name, configuration, result.result)
        stored[name] = ledger.adobe_migration.steps()[name]
        step_documents[-1] |= {"done_at": iso(stored[name].done_at), "question": None}
    following = next((name for name in STEPS if name not in stored), None)
    calls = {kind: runtime.calls[kind] for kind in CALL_KINDS}
    return {"steps": step_documents, "next": following, "engine_calls": calls}


@dataclass
class _Steps:
    """The steps of one invocation."""

    runtime: Runtime
    go: bool = field(kw_only=True)
    show_values: bool = field(kw_only=True)

    def make(self, name: str) -> StepResult:  # noqa: PLR0911 - a table of steps
        """Make a step. Raises SyncAssetsError if it could not run."""
        config = self.runtime.config
        match name:
            case "doctor":
                with self.runtime.copied() as runtime:
                    return migration_steps.doctor_step(examine(runtime))
            case "switch_off":
                return migration_steps.switch_off_step(config)
            case "inventory":
                return migration_steps.inventory_step(config, self._survey[0])
            case "changes":
                return migration_steps.changes_step(*self._survey)
            case "opt_outs":
                return migration_steps.opt_outs_step(config, self._survey[0])
            case "cost":
                return migration_steps.cost_step(*self._survey, config.guardrails)
            case _:
                return self._sync()

    @cached_property
    def _survey(self) -> tuple[Inventory, dict[str, Any]]:
        """The inventory and the plan that it was made with, read once for all steps that report of them."""
        runtime = self.runtime
        inventory = Inventory(runtime, self.show_values)
        planned = plan(runtime, inventory)
        # A plan counts nothing in the ledger, but this command writes there anyway.
        runtime.ledger.claims.count_calls({(table, "read"): counts.reads for table, counts in inventory.tables.items()})
        if planned.problems:
            raise SyncAssetsError("\n".join(map(str, planned.problems)))
        if stopped := [table for table, counts in inventory.tables.items() if counts.listing == "stopped"]:
            raise SyncAssetsError(
                f"Campaign's records of {', '.join(stopped)} were not listed: that takes more engine calls than the "
                "budgets of `guardrails` leave now.",
                "Run `sync-assets migrate` again on the next UTC day, or raise the budget.",
            )
        return inventory, planned.document

    def _sync(self) -> StepResult:
        result: dict[str, Any] = {}
        afterwards = {"afterwards": migration_steps.NEXT_STEPS}
        if not self.go:
            status = status_document(self.runtime, {}, {})
            if _unfinished(status):
                return StepResult(result, afterwards, todo=[migration_steps.LAST_COMMAND])
        else:
            # What it would announce is part of the result, or of the error.
            # The sync closes the ledger that it opens.
            with self.runtime.copied(_ledger=None, calls=Counter[str](), announce=lambda _: None) as runtime:
                done = sync(runtime)
                runtime.close()
            if done.status == 1:
                raise SyncAssetsError("\n".join(map(str, done.problems)))
            result, status = {"engine_calls": done.document["engine_calls"]}, done.document
            in_part = done.problems or done.ended_early or in_maintenance(status, list(status["tables"]))
            if in_part or _unfinished(status):
                return StepResult(result, todo=[*map(str, done.problems), *done.stopped, done.ending])
        remainder = unfinished_text(status)
        question = f"The first sync left: {remainder} (`sync-assets rejects`). Is the migration done without that?"
        return StepResult(result, afterwards, question if remainder else None)


def _unfinished(status: dict[str, Any]) -> bool:
    """Return True if no sync has been made, or one that left more than records which a person may leave as they are."""
    tables = status["tables"].values()
    complete = all(table["feed"]["complete"] for table in tables)
    pending = any(table["pending"] or table["deletes_held_back"] for table in tables)
    return not complete or pending or any(status["opt_out"][state] for state in ("due", "files_waiting"))


def show_end(document: dict[str, Any]) -> Parts:
    if calls := {kind: number for kind, number in document["engine_calls"].items() if number}:
        yield f"Engine calls before the first sync, to find this out: {kinds(calls)}."
    if document["next"] is None:
        yield "All steps are done."
