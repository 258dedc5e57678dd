"""Follow the changes of all tables in one process: poll the feeds, capture, push, send opt-outs that are due, report.

One event loop, and a task for each group of linked tables that has work, so that no group waits for another one. A
table whose work fails, or whose feed is refused, is examined and tried again by itself; the others go on. The follower
leaves tables to another run that works on them, while it lasts. It ends, and logs why,

- after `linger_seconds` without work;
- once a later follower is ready, which the sensor requests after `longest_run_minutes`;
- some minutes after `longest_run_minutes`, if no later one has begun;
- if the configuration or the program changes, or if a parent process ends;
- if all slots of Dagster's queue are taken and another run waits for one;
- if its session has expired: another run may have taken over.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg

from sync_assets.capture.feed_polling import FeedPoll, FeedPoller
from sync_assets.checks.guardrails import check_configuration
from sync_assets.checks.preflight import EXAMINE_SECONDS, readiness
from sync_assets.checks.rules import Finding
from sync_assets.config.values import CONTACT
from sync_assets.defs.dagster_internals import slot_is_wanted
from sync_assets.defs.follower.reports import Reports
from sync_assets.defs.partitions import WORK
from sync_assets.defs.run_errors import reported
from sync_assets.defs.tables.assets import linked
from sync_assets.defs.tables.attempts import Attempt, attempt
from sync_assets.defs.tables.table_work import TableWork
from sync_assets.errors import SyncAssetsError, public_message
from sync_assets.flows import RunOutcome
from sync_assets.ledger.model import FOLLOWER
from sync_assets.opt_out.profile_polling import due_without_file
from sync_assets.runtime.context import Runtime
from sync_assets.runtime.program_sources import ProgramSources, ancestors
from sync_assets.runtime.workers import followers, tables_at_work

TURN_SECONDS = 15.0
"""How long one table is captured, and then pushed, in seconds, before its group is polled again."""
EXAMINE_SECONDS_APART = 5.0
"""Seconds between two examinations of a table that failed, and between two polls if no feed can be polled."""
SLOT_SECONDS = 2.0
"""Seconds between two looks at Dagster's queue."""
KEEPS_SLOT_SECONDS = 30.0
"""How long a follower keeps its slot though other runs wait for one, in seconds."""
GRACE_SECONDS = 300.0
"""How long a follower stays after `longest_run_minutes` if no other one begins, in seconds."""
STEPS_APART = timedelta(seconds=3)
"""How long opt-outs are left to a run of a file after one of its steps has ended, since another one may follow."""


@dataclass(eq=False)
class Followed:
    """A table, its work, and when work that failed is tried again.

    refused: why the last poll of its feed failed; empty if it did not. was_wrong: the last examination after a failure
    found a set-up that stops the table, or a system that is down.
    """

    work: TableWork
    captured: Attempt | None = None
    sent: Attempt | None = None
    examined_at: float = float("-inf")
    refused: str = ""
    was_wrong: bool = False

    @property
    def name(self) -> str:
        return self.work.config.table

    @property
    def has_failed(self) -> bool:
        return bool(self.refused or self.work.d365.error or self.is_unsent)

    @property
    def is_unsent(self) -> bool:
        """Return True if the last push failed, or stopped before its end."""
        return self.work.campaign.error is not None or bool(self.work.campaign.stopped)


@dataclass
class DueWork:
    """The work that is due by the ledger before a round.

    elsewhere: tables that other runs work on. excluded: these, and those in maintenance. tables: those of which records
    are due. opt_outs: number of opt-outs that are due, and 1 for a poll of profiles.
    """

    elsewhere: frozenset[str]
    excluded: frozenset[str]
    tables: set[str] = field(default_factory=set[str])
    opt_outs: int = 0


class Follower:
    """Follows all tables of an installation within a run of an op. Await `follow` once.

    Args:
        context: Of the op.
        runtime: With the resources of the run; its session lives.
    """

    def __init__(self, context: dg.OpExecutionContext, runtime: Runtime) -> None:
        self._context, self._runtime, self._outcome = context, runtime, RunOutcome()
        works = [TableWork(runtime, config, context, self._outcome) for config in runtime.config.in_link_order]
        self._tables = {work.config.table: Followed(work) for work in works}
        self._groups = [[config.table for config in group] for group in linked(runtime.config.in_link_order)]
        self._reports = Reports(context, runtime, works)
        self._tasks: dict[str, asyncio.Task[bool]] = {}
        self._settled: Attempt | None = None
        self._paused = frozenset[str]()
        self._began = self._worked = time.monotonic()
        self._rounds = 0
        self._slots_at, self._poll_at, self._d365_is_down = self._began, self._began, False
        self._sources, self._started_by = ProgramSources(runtime), ancestors()

    async def follow(self) -> str:
        """Follow until the run is to end; return why. Raises SyncAssetsError if the configuration breaks limits."""
        check_configuration(self._runtime.config, self._runtime.config.tables)
        await self._wait_for_predecessor()
        names, runs = ", ".join(self._tables), self._runtime.config.runs
        until = "" if runs.linger_seconds == "always" else f"{runs.linger:g} s without work, or after "
        self._context.log.info(f"Following {names}. The run ends after {until}{runs.longest_run_minutes:g} min.")
        async with FeedPoller(self._runtime) as poller:
            try:
                while not (why := await asyncio.to_thread(self._why_end)):
                    await self._round(poller)
                    await asyncio.sleep(poller.pause)
            except BaseException:
                for task in self._tasks.values():
                    task.cancel()
                raise
            finally:
                if self._tasks:
                    await asyncio.wait(self._tasks.values())
        if self._runtime.worker.session_is_valid():
            await asyncio.to_thread(self._reports.end)
        return why

    async def _wait_for_predecessor(self) -> None:
        """Wait until the follower before this one has ended, since that sees this one and ends."""
        give_up_at, own = time.monotonic() + GRACE_SECONDS, self._runtime.session.epoch
        while time.monotonic() < give_up_at:
            others = await asyncio.to_thread(followers, self._runtime.ledger)
            if not any(epoch < own for epoch in others.values()):
                return
            await asyncio.sleep(0.1)

    def _why_end(self) -> str:
        """Return why the run is to end now; empty if it goes on."""
        now, runs = time.monotonic(), self._runtime.config.runs
        overrun = now - self._began - runs.longest_run_minutes * 60
        is_idle = self._rounds > 0 and not self._tasks
        reasons: dict[str, Callable[[], bool]] = {
            "Its session in the ledger has expired: another run may have taken over.": (
                lambda: not self._runtime.worker.session_is_valid()
            ),
            "The process that started it has ended.": lambda: ancestors() != self._started_by,
            "The configuration or the program has changed.": self._sources.changed,
            f"There was no work for {runs.linger:g} s.": lambda: is_idle and now - self._worked > runs.linger,
            # After `longest_run_minutes`; or two sensors requested one at the same time, or a person did.
            "A later run follows the tables.": self._has_successor,
            f"It has run for {runs.longest_run_minutes:g} min, and no next run has begun.": (
                lambda: overrun > GRACE_SECONDS
            ),
            "All slots of the run queue are taken, and another run waits for one.": self._is_slot_wanted,
        }
        return next((why for why, holds in reasons.items() if holds()), "")

    def _has_successor(self) -> bool:
        own = self._runtime.session.epoch
        return any(epoch > own for epoch in followers(self._runtime.ledger).values())

    def _is_slot_wanted(self) -> bool:
        now = time.monotonic()
        if now - self._slots_at < SLOT_SECONDS or now - self._began < KEEPS_SLOT_SECONDS:
            return False
        self._slots_at = now
        return slot_is_wanted(self._context.instance)

    # --- A round -------------------------------------------------------------------------------------------------

    async def _round(self, poller: FeedPoller) -> None:
        """Poll the feeds of the tables without a task, begin the tasks that have work, and report."""
        self._rounds += 1
        self._outcome.problems.clear()  # they are in the log and in the checks, and would pile up for hours
        self._outcome.stopped.clear()
        for name, task in [*self._tasks.items()]:
            if task.done():
                del self._tasks[name]
                if task.result():
                    self._worked = time.monotonic()
        due = await asyncio.to_thread(self._due)
        idle = [group for group in self._groups if group[0] not in self._tasks]
        free = [[self._tables[name] for name in group if name not in due.excluded] for group in idle]
        polled = await self._polled(poller, [table for tables in free for table in tables if not table.refused])
        for group, tables in zip(idle, free, strict=True):
            for table in tables:
                self._begin_examination(poller, table)
            news = {table.name for table in tables if self._may_capture(table, polled)}
            sends = {table.name for table in tables if self._may_send(table, due)}
            if news or sends:
                self._begin(group[0], self._work(tables, news, sends))
        if due.opt_outs and WORK not in self._tasks:
            may_settle, self._settled = attempt(self._settled, due.opt_outs, datetime.now(UTC))
            if may_settle:
                self._begin(WORK, self._settle())
        resting = {name for group in self._groups if group[0] not in self._tasks for name in group} - due.elsewhere
        polls = resting - due.excluded if polled is not None else set[str]()
        quiet = {name for name in polls if not self._tables[name].refused}
        await asyncio.to_thread(self._reports.report, resting, polled=quiet)

    def _begin(self, name: str, work: Coroutine[Any, Any, bool]) -> None:
        self._tasks[name] = asyncio.create_task(work, name=name)

    def _due(self) -> DueWork:
        ledger = self._runtime.ledger
        elsewhere = tables_at_work(ledger, but=self._context.run_id) - {FOLLOWER}
        self._reports.forget(elsewhere)  # their runs materialise the assets, and answer the checks
        paused = frozenset(ledger.maintenance.in_maintenance())
        for name in sorted(self._tables.keys() & (paused ^ self._paused)):
            self._context.log.info(f"{name}: {'in maintenance' if name in paused else 'maintenance ended'}")
        self._paused = paused
        due = DueWork(elsewhere, elsewhere | paused)
        for name, table in self._tables.items():
            if table.work.is_due():
                due.tables.add(name)
        if not due.excluded & {CONTACT, WORK}:
            due.opt_outs = due_without_file(self._runtime.config.opt_out, ledger)
            if due.opt_outs and WORK in tables_at_work(ledger, ended_within=STEPS_APART):
                due.opt_outs = 0
                self._worked = time.monotonic() + STEPS_APART.total_seconds()  # they are awaited
        if not due.opt_outs:
            self._settled = None
        return due

    async def _polled(self, poller: FeedPoller, tables: Sequence[Followed]) -> FeedPoll | None:
        """Poll feeds; return None if none can be polled. The sensor's ticks then fail, and pending records are sent."""
        if not tables:
            return FeedPoll()
        if time.monotonic() < self._poll_at:
            return None
        try:
            polled = await poller.poll([table.work.config for table in tables])
        except SyncAssetsError as error:
            if not self._d365_is_down:
                self._context.log.warning(public_message(error, "poll of the change feeds"))
            self._d365_is_down, self._poll_at = True, time.monotonic() + EXAMINE_SECONDS_APART
            return None
        for table in tables:
            table.refused = polled.refused.get(table.name, "")
            if table.refused:
                self._context.log.error(table.refused)
        if self._d365_is_down:
            self._context.log.info("The change feeds are polled again.")
        self._d365_is_down = False
        return polled

    def _may_capture(self, table: Followed, polled: FeedPoll | None) -> bool:
        """Return True if a feed has news, or the last capture failed, and it is time to try.

        Not while the feed is refused: the capture would repeat that for minutes, and other tables of its group wait.
        """
        if polled is None or table.refused or not (table.name in polled.news or table.work.d365.error):
            return False
        feed = self._runtime.ledger.feeds.feed(table.name)
        if feed is None or not (feed.complete or table.work.d365.done):
            return False  # the first load has a run of its own
        may_capture, table.captured = attempt(table.captured, feed.version, datetime.now(UTC))
        return may_capture

    def _may_send(self, table: Followed, due: DueWork) -> bool:
        if table.name not in due.tables and not table.work.campaign.error:
            return False
        if not table.is_unsent:
            table.sent = None
            return True
        backlog = self._runtime.ledger.reports.backlog(table.name)
        may_send, table.sent = attempt(table.sent, backlog, datetime.now(UTC))
        return may_send

    def _begin_examination(self, poller: FeedPoller, table: Followed) -> None:
        name = f"examination of {table.name}"
        if name in self._tasks or not table.has_failed:
            return
        if time.monotonic() - table.examined_at >= EXAMINE_SECONDS_APART:
            self._begin(name, self._examine(poller, table))

    # --- Tasks ---------------------------------------------------------------------------------------------------

    async def _work(self, tables: Sequence[Followed], news: Collection[str], sends: Collection[str]) -> bool:
        """Capture and push a group of linked tables once, in link order. Return True if anything was done."""
        moved = False
        for table in tables:
            came = table.name in news and await table.work.capture(TURN_SECONDS)
            if came:
                table.captured = None
            may_send = table.name in sends or (not table.is_unsent and await asyncio.to_thread(table.work.is_due))
            sent = may_send and await table.work.push(TURN_SECONDS)
            moved |= came or sent
        return moved

    async def _examine(self, poller: FeedPoller, table: Followed) -> bool:
        """Poll a refused feed alone, or examine a table that failed: it is tried again as soon as it is right.

        Either may take long, so it is a task of its own. Return False, since nothing is captured or sent.
        """
        work = table.work
        if table.refused:
            if work.d365.error:  # known before this examination
                with suppress(SyncAssetsError):
                    table.refused = (await poller.poll([work.config])).refused.get(table.name, "")
            if table.refused:
                await asyncio.to_thread(work.fail, work.d365, SyncAssetsError(table.refused))
            else:
                table.captured = None
        else:
            findings = list[Finding]()
            with suppress(Exception):  # the capture and the push report it
                findings = await asyncio.to_thread(readiness, self._runtime, work.config, EXAMINE_SECONDS)
            is_wrong = not findings or any(finding.stops for finding in findings)
            if table.was_wrong and not is_wrong:
                table.captured = table.sent = None
            table.was_wrong = is_wrong
        table.examined_at = time.monotonic()
        return False

    async def _settle(self) -> bool:
        """Decide and write the opt-outs that are due without a file."""
        from sync_assets.defs.opt_out.settled import Settled  # noqa: PLC0415 - installations without opt-outs need none

        settled, self._reports.opt_outs = self._reports.opt_outs or Settled(self._runtime, self._outcome), None
        with reported(self._outcome, self._context, "run of opt-outs") as failed:
            await settled.run(failed)
        self._reports.opt_outs = settled
        if settled.moved:
            self._settled = None  # what is left, or comes next, is no second attempt
        return settled.moved
