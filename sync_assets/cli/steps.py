"""What walks by steps have in common: `migrate` and `move`. The steps that are done are kept in the ledger.

Invariants: a step is stored as done once it is finished and confirmed, with the version of what its result depends on;
with another version it counts as not done.
"""

import hashlib
import sys
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import ClassVar

import msgspec
from msgspec.structs import asdict, replace

from sync_assets.checks.rules import Finding
from sync_assets.cli.sync import sync, unfinished_text
from sync_assets.commands import terminal
from sync_assets.commands.doctor import examine
from sync_assets.commands.estimate_calls import calls_a_day, hours, pace
from sync_assets.commands.status import CALL_KINDS, Overview, in_maintenance, overview
from sync_assets.commands.step_document import (
    Details,
    Step,
    StepCounts,
    StepResult,
    StepsDocument,
    SyncCost,
    show_step,
)
from sync_assets.commands.terminal import kinds
from sync_assets.commands.values import builtins
from sync_assets.errors import SyncAssetsError
from sync_assets.foreign_text import cleaned
from sync_assets.runtime.context import Runtime


class StoredStep(msgspec.Struct, frozen=True):
    """A step that is done, as in the ledger. configuration: the hash of its version."""

    configuration: str
    result: StepCounts
    done_at: datetime


@dataclass
class Steps(ABC):
    """The steps of one invocation.

    Attributes:
        name: of the command. subject: what it makes, in words. stored_as: the subject of its results in the ledger.
        titles: of the steps, in their order; the names of the steps are stored in ledgers.
        runtime: of the command. go: True to make the last step, the first sync.
        calls: engine calls of the steps that have a runtime of their own, by kind.
    """

    name: ClassVar[str]
    subject: ClassVar[str]
    stored_as: ClassVar[str]
    titles: ClassVar[Mapping[str, str]]
    runtime: Runtime
    go: bool = field(kw_only=True, default=False)
    calls: Counter[str] = field(default_factory=Counter[str])

    @abstractmethod
    def make(self, name: str) -> StepResult:
        """Make a step. Raises SyncAssetsError if it could not run."""

    def confirmed(self, name: str) -> None:  # noqa: B027 - most steps need nothing then
        """Do what a step does once a person has confirmed it."""

    def version(self) -> str:
        """Return what the results of all steps depend on: the configuration of tables and opt-outs."""
        return self.runtime.config.model_dump_json(include={"tables", "opt_out"})

    def doctor(self) -> StepResult:
        """Run `doctor`, and return its result."""
        with closing(self.runtime.using(any_ledger=True, announce=lambda _: None)) as runtime:
            findings = examine(runtime)
        self.calls.update(runtime.clients.calls)
        return doctor_step(findings)

    def cost(self, calls: Mapping[str, int]) -> SyncCost:
        """Return the cost of the first sync. calls: by kind."""
        limits, total = self.runtime.config.guardrails, sum(calls.values())
        return SyncCost(dict(calls), total, round(hours(total, limits), 2), pace(limits), calls_a_day(limits))

    def first_sync(self, afterwards: Sequence[str]) -> StepResult:
        """Make the first sync if `go`; else see whether it was made. afterwards: what a person does then."""
        result, details = StepCounts(), Details(afterwards=afterwards)
        if not self.go:
            status = overview(self.runtime.config, self.runtime.ledger, {}, {})
            if is_unfinished(status):
                last = f"Run `sync-assets {self.name} --go`, or `sync-assets sync`: both make the first sync."
                return StepResult(result, details, todo=[last])
        else:
            # What it would announce is part of the result, or of the error.
            # The sync closes the ledger that it opens.
            with closing(self.runtime.using(any_ledger=False, announce=lambda _: None)) as runtime:
                done = sync(runtime)
            if done.status == 1:
                raise SyncAssetsError("\n".join(map(str, done.problems)))
            result, status = StepCounts(engine_calls=done.document.engine_calls), done.document
            in_part = done.problems or done.ended_early or in_maintenance(status, status.tables)
            if in_part or is_unfinished(status):
                return StepResult(result, todo=[*map(str, done.problems), *done.stopped, done.ending])
        remainder = unfinished_text(status)
        question = f"The first sync left: {remainder} (`sync-assets rejects`). Is the {self.subject} done without that?"
        return StepResult(result, details, question if remainder else None)


def doctor_step(findings: Sequence[Finding]) -> StepResult:
    """Return the result of `doctor`: everything but its failures may be left as it is."""
    outcomes = Counter(finding.outcome for finding in findings)
    problems = [finding.document() for finding in findings if finding.outcome != "ok"]
    todo = ["Correct the failures, which `sync-assets doctor` shows."] if outcomes["fail"] else []
    counts = StepCounts(findings={name: outcomes[name] for name in ("ok", "warn", "fail")})
    return StepResult(counts, Details(checks=problems), todo=todo)


def is_unfinished(status: Overview) -> bool:
    """Return True if no sync has been made, or one that left more than records which a person may leave as they are."""
    tables, opt_out = status.tables.values(), status.opt_out
    unfinished = (not table.feed.complete or table.pending or table.load or table.deletes_held_back for table in tables)
    return any(unfinished) or bool(opt_out.due or opt_out.files_waiting)


def run(steps: Steps, *, yes: bool, from_start: bool, as_json: bool) -> None:
    """Walk the steps as a command, and end with status 2 if a person must do or decide one."""
    terminal.let_sigterm_interrupt()
    asks = sys.stdin.isatty() and sys.stderr.isatty() and not as_json
    with terminal.on_interrupt("It goes on with the same step."):
        if from_start:
            steps.runtime.ledger.migrations.forget(steps.stored_as)
        document = walk(
            steps,
            confirm=lambda question: yes or (asks and terminal.confirm("Confirmed?")),
            show=lambda step: None if as_json else terminal.print_parts(show_step(cleaned(step), confirmed=yes)),
            working=lambda: terminal.progress(steps.runtime.progress),
        )
    made = {kind: number for kind, number in document.engine_calls.items() if number}
    ending = [f"Engine calls before the first sync, to find this out: {kinds(made)}."] if made else []
    ending += [] if document.next else ["All steps are done."]
    terminal.print_document(document, as_json, lambda _: ending)
    if document.next:
        last = document.steps[-1]
        confirmed = " It asks in a terminal; elsewhere `--yes` confirms." if last.question else ""
        why = f"{last.question or last.todo[0]} `sync-assets {steps.name}` continues there.{confirmed}"
        terminal.end(2, f"Step {last.number} is not done: {why}")


def walk(
    steps: Steps,
    *,
    confirm: Callable[[str], bool],
    show: Callable[[Step], None],
    working: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> StepsDocument:
    """Make the steps that are not done yet, until one needs a person; return what the command prints with `--json`.

    Args:
        confirm: asks a person a question; returns True for yes.
        show: called with each step as in the document, before its question is asked.
        working: shows progress while a step is made.

    Raises:
        SyncAssetsError: a step could not run. The steps before it are done.
    """
    runtime = steps.runtime
    runtime.settings.require("d365", "campaign")
    ledger, configuration = runtime.ledger, hashlib.sha256(steps.version().encode()).hexdigest()[:32]
    known = msgspec.convert(ledger.migrations.facts(steps.stored_as), dict[str, StoredStep])
    stored = {name: step for name, step in known.items() if step.configuration == configuration}
    made: list[Step] = []
    for number, name in enumerate(steps.titles, 1):
        done = stored.get(name)
        with working():
            result = StepResult(done.result) if done else steps.make(name)
        about = {"number": number, "step": name, "title": steps.titles[name], "done_at": done and done.done_at}
        made.append(Step(**asdict(result), **about))
        show(made[-1])
        if done:
            continue
        if result.todo or (result.question and not confirm(result.question)):
            break
        steps.confirmed(name)
        stored[name] = StoredStep(configuration, result.result, datetime.now(UTC))
        ledger.migrations.note(steps.stored_as, {name: builtins(stored[name])})
        made[-1] = replace(made[-1], done_at=stored[name].done_at, question=None)
    following = next((name for name in steps.titles if name not in stored), None)
    calls = steps.calls + Counter[str](runtime.clients.calls)
    return StepsDocument(made, following, {kind: calls[kind] for kind in CALL_KINDS})
