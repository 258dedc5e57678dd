"""`sync`: run every flow through Dagster (sync_runs.py) until nothing more can be done; report the rest and a status.

A table with nothing to capture or send gets no run; if that is so for all tables, Dagster is not even imported.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import compress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from msgspec.structs import asdict, replace

from sync_assets.alerts.channels import DeadManSwitch
from sync_assets.capture.feed_polling import poll_once
from sync_assets.checks.guardrails import BeyondLimits, check_configuration, known_contacts, within_limits
from sync_assets.commands import plan, terminal
from sync_assets.commands.status import Overview, SyncDocument, held_back, in_maintenance, overview, retried, show
from sync_assets.commands.terminal import AcceptMapping, Json, NewLedger, TablesOption
from sync_assets.commands.values import check_tables
from sync_assets.config.models import Config, TableConfig
from sync_assets.config.values import CONTACT
from sync_assets.errors import SyncAssetsError
from sync_assets.flows import CONFIRM, SET_UP, RunOutcome, is_due, is_unchanged
from sync_assets.foreign_text import one_line
from sync_assets.ledger import Ledger
from sync_assets.performance import keep_loaded_objects
from sync_assets.runtime import interruptible
from sync_assets.runtime.context import Runtime
from sync_assets.runtime.workers import killed_runs, release_dead
from sync_assets.task_group import run_together
from sync_assets.words import counted

if TYPE_CHECKING:
    import dagster as dg

    from sync_assets.cli.sync_runs import Failures
    from sync_assets.ledger import Ledger
    from sync_assets.ledger.report_values import PlannedLeft


@dataclass(frozen=True, slots=True)
class SyncResult:
    """The result of `sync`.

    Attributes:
        problems: why a flow could not run.
        stopped: why a flow ended early, and further notes for people.
        ended_early: True if a flow ended before its work was done.
        ending: why the status is not 0, and the command that leads on; empty if it is 0.
    """

    document: SyncDocument
    problems: list[SyncAssetsError]
    stopped: list[str]
    ended_early: bool
    status: int
    ending: str = ""


def command(
    table: TablesOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show the plan, as `plan` does.")] = False,
    plan_file: Annotated[
        Path | None, typer.Option("--plan", metavar="FILE", help="Send only what this file of `plan --out` names.")
    ] = None,
    accept_mapping: AcceptMapping = False,
    new_ledger: NewLedger = False,
    as_json: Json = False,
) -> None:
    """Capture changes, send records and apply opt-outs until no more can be done. May be killed and repeated."""
    if plan_file and (dry_run or new_ledger or table):
        raise typer.BadParameter("The file names ledger and tables: leave out --dry-run, --new-ledger and --table.")
    if dry_run:
        if new_ledger:
            raise typer.BadParameter("--dry-run writes nothing: leave out --new-ledger.")
        plan.command(table, accept_mapping=accept_mapping, as_json=as_json)
        return
    printed: list[str] = []  # also what `show` prints

    def announce(line: str) -> None:
        if line not in printed:  # the same error may end several tables
            printed.append(line)
            terminal.say(line)

    runtime = terminal.open_runtime(
        may_create=plan_file is None, accept_mapping=accept_mapping, new_ledger=new_ledger, announce=announce
    )
    with terminal.on_interrupt("Nothing is lost."), terminal.progress(runtime.progress):
        done = sync_plan(runtime, plan_file) if plan_file else sync(runtime, table or [])
    terminal.print_document(done.document, as_json, show)
    if not as_json:
        printed += [*held_back(done.document.tables), *in_maintenance(done.document, done.document.tables)]
        printed += retried(done.document)
    for line in done.stopped:
        announce(line)
    unprinted = [line for line in map(str, done.problems) if line not in printed]
    for line in unprinted[:-1]:
        announce(line)
    if done.status:
        terminal.end(done.status, *unprinted[-1:] or [done.ending], remedy="`sync-assets doctor` checks the set-up.")


def sync_plan(runtime: Runtime, file: Path, *, instance: dg.DagsterInstance | None = None) -> SyncResult:
    """Run the flows of the tables of a plan file, sending its records only. Raises SyncAssetsError as `approved`."""
    from sync_assets.commands.plan_file import approved  # noqa: PLC0415

    with approved(runtime, file) as (limited, tables, plan_left):
        done = _sync(limited, tables, instance)
        left = plan_left()
    done = _kept_to(done, left)
    _ping(DeadManSwitch(runtime), done)
    return done


def _kept_to(done: SyncResult, left: PlannedLeft) -> SyncResult:
    """Return the result with what is left of its plan, and the status of that."""
    notes, due = list(done.stopped), done.document.opt_out.due
    if due:
        notes.append(f"{counted(due, 'opt-out', 'are')} due. A plan names none: `sync-assets sync` writes opt-outs.")
    if left.gone:
        gone = f"{counted(left.gone, 'record', 'are')} not in the ledger"
        notes.append(f"Of the plan, {gone}: not captured yet, deleted in Dynamics 365, or out of scope.")
    done = dataclasses.replace(done, document=replace(done.document, plan=left), stopped=notes)
    if not (left.changed or left.not_named):
        return done
    changed = f"{counted(left.changed, 'record')} changed since the plan"
    others = f"{counted(left.not_named, 'record', 'are')} not in the plan"
    found = [text for text, number in ((changed, left.changed), (others, left.not_named)) if number]
    why = f"Left pending: {', '.join(found)}. Approve them by another plan: `sync-assets plan --out FILE`."
    return dataclasses.replace(done, stopped=[*notes, why] if done.problems else notes, status=1, ending=why)


def sync(runtime: Runtime, only: Sequence[str] = (), *, instance: dg.DagsterInstance | None = None) -> SyncResult:
    """Run the flows of all mapped tables, or of `only`. Safe to kill and repeat at any moment.

    instance: the Dagster instance; None: that of DAGSTER_HOME. Raises OtherSystems, OlderLedger, LedgerError before
    anything is sent.
    """
    done = _sync(runtime, only, instance)
    _ping(DeadManSwitch(runtime), done)
    return done


def _ping(switch: DeadManSwitch, done: SyncResult) -> None:
    if done.status != 1:
        switch.ping()


def _sync(runtime: Runtime, only: Sequence[str], instance: dg.DagsterInstance | None) -> SyncResult:
    started = time.monotonic()
    check_tables(runtime.config, only)
    tables = [config for config in runtime.config.in_link_order if not only or config.table in only]
    runtime.settings.require("d365", "campaign")
    runtime.access.check_not_older()  # an unusable ledger, or one of other systems, is an error before all else, too
    flows = RunOutcome()
    failures: Failures = {}
    try:
        check_configuration(runtime.config, tables)
    except BeyondLimits as error:
        flows.problems.append(error)
    else:
        release_dead(runtime.ledger)
        flows, failures = _run(runtime, tables, instance)
    if runtime.config.logs.export:
        from sync_assets.commands.log_export import export_log  # noqa: PLC0415

        try:
            export_log(runtime)
        except SyncAssetsError as error:  # does not make the whole sync a failure
            flows.stopped.append(f"The log was not written to the Campaign SFTP: {error}")
    outcome = overview(runtime.config, runtime.ledger, runtime.clients.calls, flows.counts)
    for table, counts in outcome.tables.items():
        outcome.tables[table] = replace(counts, problem=str(failures[table][0]) if table in failures else None)
    names = [config.table for config in tables]
    paused, (status, ending) = in_maintenance(outcome, names), _end(runtime.ledger, flows, outcome, failures, names)
    notes = [*flows.notes, *paused, *held_back(outcome.tables), *retried(outcome), *flows.stopped]
    seconds, problems = round(time.monotonic() - started, 1), list(map(str, flows.problems))
    document = SyncDocument(**asdict(outcome), seconds=seconds, unchanged=flows.counts["unchanged"], problems=problems)
    return SyncResult(document, flows.problems, notes, bool(flows.stopped), status, ending)


def _run(
    runtime: Runtime, tables: Sequence[TableConfig], instance: dg.DagsterInstance | None
) -> tuple[RunOutcome, Failures]:
    """Run the flows that have something to do, or were last confirmed an hour ago. Killed runs are ended as well."""
    paused = runtime.ledger.maintenance.in_maintenance()
    active = [config for config in tables if config.table not in paused]
    idle = quiet_tables(runtime, active)
    opt_outs = runtime.config.opt_out.active and any(config.table == CONTACT for config in active)
    if not opt_outs and len(idle) == len(active) and not killed_runs(runtime.ledger):
        return RunOutcome(), {}
    from sync_assets.cli.sync_runs import run_flows  # Dagster is slow to import  # noqa: PLC0415

    keep_loaded_objects()
    return run_flows(runtime, tables, idle, instance)


def _end(
    ledger: Ledger, flows: RunOutcome, outcome: Overview, failures: Failures, tables: Sequence[str]
) -> tuple[int, str]:
    """Return the exit status, and why something is left to be done, with the command that leads on, in one line.

    0: nothing is left to be done. 2: records or opt-outs are rejected, held, held back, waiting or pending, or the
    set-up of a table must be corrected while other tables could run. 1: no table could run, a service failed, or a
    problem is not one of a table.
    """
    if flows.problems:
        of_tables = [problem for problems in failures.values() for problem in problems]
        corrigible = all(problem in of_tables and isinstance(problem, SET_UP) for problem in flows.problems)
        # A text says why a table ended early, e.g. that a budget was spent.
        not_run = {table for table, why in failures.items() if any(isinstance(cause, SyncAssetsError) for cause in why)}
        others_ran = {*tables} - not_run - ledger.maintenance.in_maintenance().keys()
        named = ", ".join(table for table in tables if outcome.tables[table].problem) or "opt-outs"
        why = f"Not done, as said above: {named}. `sync-assets doctor` checks the set-up."
        return 2 if corrigible and others_ran else 1, why
    again = "sync --plan FILE" if ledger.planned.is_limited else "sync"
    left, early = _unfinished(outcome, tables, again), [*flows.stopped, *in_maintenance(outcome, tables)]
    if left and not flows.stopped:
        return 2, f"Left: {unfinished_text(outcome, tables, again)}. Go on with `sync-assets {left[0][2]}`."
    if not early:
        return 0, ""
    loading = sum(outcome.tables[table].loading for table in tables)
    why = one_line(f"Not all could be done{f' ({loading:,} loading)' if loading else ''}: {early[0]}")
    return 2, why if "`sync-assets " in why else f"{why} Then run `sync-assets {again}` again."


def unfinished_text(outcome: Overview, tables: Sequence[str] = (), again: str = "sync") -> str:
    """Return the unfinished counts in words; empty if there are none. tables: all if left out."""
    left = _unfinished(outcome, tables or list(outcome.tables), again)
    return ", ".join(f"{number:,} {words}" for number, words, _ in left)


def _unfinished(outcome: Overview, names: Sequence[str], again: str) -> list[tuple[int, str, str]]:
    """Return the counts other than 0 of what a complete sync leaves none of, with words and the command that leads on.

    Orphaned records do not count: only a change in Dynamics 365 can help. Rejected rows are those of this invocation.
    again: the command that was run; with a plan, opt-outs are left to others.
    """
    tables, opt_out = [outcome.tables[name] for name in names], outcome.opt_out
    contacts = CONTACT in names and again == "sync"
    deletes = [table.deletes_held_back for table in tables]
    kept = [sum(table.kept_values.values()) for table in tables]
    counts = (
        (sum(deletes), "deletions held back", f"approve-deletes {next(compress(names, deletes), '')}"),
        (sum(kept), "emptied values kept", f"approve-deletes {next(compress(names, kept), '')}"),
        (sum(table.rejected for table in tables), "rejected", "rejects"),
        (contacts * opt_out.rejected, "opt-outs rejected", "rejects"),
        (contacts * opt_out.files_rejected, "opt-out files rejected", "rejects"),
        (contacts * opt_out.rejected_rows, "rows of opt-out files rejected", "doctor --file SAMPLE"),
        (sum(table.held for table in tables), "held", "hold list"),
        (contacts * opt_out.held, "opt-outs held", "hold list"),
        (sum(table.waiting for table in tables), "waiting", "rejects --waiting"),
        (sum(table.pending for table in tables), "pending", again),
        (sum(table.loading for table in tables), "loading", again),
        (contacts * opt_out.due, "opt-outs due", "sync"),
        (contacts * opt_out.files_waiting, "opt-out files waiting", "sync"),
    )
    return [count for count in counts if count[0]]


# --- Quiet tables -----------------------------------------------------------------------------------------------------
# A run costs seconds and a SQLite database of its own in Dagster's storage, a poll costs one request: called by cron,
# `sync` would otherwise make thousands of runs a day.


def quiet_tables(runtime: Runtime, tables: Sequence[TableConfig]) -> set[str]:
    """Return the tables whose feed has no news, of which nothing is to be sent, and whose mapping is unchanged.

    Checks them in three steps, the cheapest first: by the ledger, by their set-up, by a poll. A table for which this
    cannot be determined is not quiet: its run shows the cause. Makes no engine call.
    """

    async def same(candidates: Sequence[TableConfig]) -> list[bool]:
        return list(await run_together(*(is_unchanged(runtime, config) for config in candidates)))

    try:
        candidates = [config for config in tables if _is_idle(runtime.config, runtime.ledger, config)]
        are_same = interruptible.run(same(candidates)) if candidates else []
        unchanged = [config for config, is_same in zip(candidates, are_same, strict=True) if is_same]
        if not unchanged:
            return set()
        polled = interruptible.run(poll_once(runtime, unchanged))
    except Exception:  # noqa: BLE001  the run then reports the error without foreign text
        return set()
    return {config.table for config in unchanged} - polled.news - polled.refused.keys()


def _is_idle(overall: Config, ledger: Ledger, config: TableConfig) -> bool:
    """Return True if, by the ledger, the table is complete, confirmed lately, within its limits, and has no backlog."""
    feed, now = ledger.feeds.feed(config.table), datetime.now(UTC)
    confirmed = feed and feed.confirmed_at
    if confirmed is None or confirmed.date() != now.date() or now - confirmed > CONFIRM:
        return False
    counts = ledger.reports.counts()[config.table]
    limits = within_limits(overall, config, known_contacts(ledger))
    passed = all(finding.passed for finding in limits)
    idle = not (counts.pending or is_due(overall, ledger, config))
    return feed is not None and feed.complete and idle and passed
