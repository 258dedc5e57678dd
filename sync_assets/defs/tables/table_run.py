"""Run a group of linked tables: capture and push them in link order, and stay while changes keep coming.

A run that stays is a warm process, so that a new change does not wait for a process to start. It polls the change feeds
every few tenths of a second and pushes pending records that are due. It ends

- after `linger_seconds` without work, and after `longest_run_minutes`;
- at midnight UTC, since the next partition has begun: the sensor requests a run of that;
- if a captured table goes into maintenance, or if the configuration or the program changes;
- if all slots of Dagster's queue are taken and another run waits for one, whose changes it sends first;
- if a feed cannot be polled, if a parent process ends, or if another run may take over since heartbeats are missing.

A capture pauses while too many records of its table are pending (`capture/backlog_limit.py`). The run then pushes, and
continues the capture. If the push fails, stops or does not make a full backlog smaller, or if the run captures only,
the run ends as failed, with a finding. If the records that are too many only wait for parents, it does not fail.

If capture or push of one table fails, the other tables still get their turn, then the run ends as failed. The sensors
then request a run of the other tables without that one.
"""

# No `from __future__ import annotations`, as in the modules whose annotations Dagster reads at run time.

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from typing import Any

import dagster as dg

from sync_assets.capture import backlog_limit
from sync_assets.capture.backlog_limit import backlog_is_full, paused_text
from sync_assets.capture.feed_polling import FeedPoller
from sync_assets.capture.queries import capture_days
from sync_assets.checks import guardrails, health, rules
from sync_assets.checks.preflight import failure
from sync_assets.config.models import TableConfig
from sync_assets.defs.partitions import FOLLOWS_TAG, is_foreign, past_days, today, under_way_tag
from sync_assets.defs.results import selected
from sync_assets.defs.run_errors import reported
from sync_assets.defs.tables.run_requests import RunRequested, ask_again, feed_version, runs_to_make_room_for
from sync_assets.defs.tables.table_work import TableWork
from sync_assets.errors import SyncAssetsError, public_message
from sync_assets.flows import Outcome, capture_table, opt_outs_due, push_table
from sync_assets.ledger.errors import InMaintenance
from sync_assets.runtime import interruptible
from sync_assets.runtime.context import Runtime
from sync_assets.runtime.program_sources import ProgramSources, ancestors

SEND_SECONDS = 30.0
"""How long a run that stays pushes one table, in seconds, before it polls the feeds again."""
TURN_SECONDS = 300.0
"""How long any other run pushes one table, in seconds, before it continues a paused capture."""
REPORT_SECONDS = 60.0
"""Interval in which a run that stays reports its numbers and changed check results after its first work, in seconds."""


class TableRun:
    """One run of the selected assets of a group of linked tables. Call `results` once.

    Args:
        context: The run's context.
        runtime: With the resources of the run.
        tables: The group, in link order.
        outcome: Receives the run's result, for a caller in this process.
        force: For past-day partitions, send the rows again even if they equal what Campaign acknowledged.
    """

    def __init__(
        self,
        context: dg.AssetExecutionContext,
        runtime: Runtime,
        tables: Sequence[TableConfig],
        outcome: Outcome,
        *,
        force: bool = False,
    ) -> None:
        self._context, self._runtime, self._outcome, self._force = context, runtime, outcome, force
        works = [TableWork(context, runtime, config) for config in tables]
        self._works = [work for work in works if work.selected]
        self._assets = [asset for work in self._works for asset in work.both]
        self._days = past_days(context.partition_keys)
        self._follows = FOLLOWS_TAG in context.run.tags and runtime.config.runs.linger > 0
        self._asked, self._reported_at = dict[str, RunRequested](), 0.0

    def results(self) -> Iterator[Any]:
        """Do the run's work, and yield the results of the selected assets and checks.

        Raises:
            dg.Failure: After the results, if the work of a selected asset failed or was stopped.
        """
        with ExitStack() as stack:
            with reported(self._outcome, self._context, "run") as failed:
                stack.enter_context(self._runtime.heartbeat(self._context.run_id))
            if failed:
                first = self._works[0].selected[0]
                first.error = failed[0]
                # The other checks need the ledger, which cannot be used.
                yield from selected(self._context, first.key, [health.ready([failure(first.side, failed[0])])])
            else:
                self._work()
                for work in self._works:
                    yield from work.results()
        from sync_assets.defs.history import forget_planned  # SQL of Dagster's  # noqa: PLC0415

        forget_planned(self._context.instance, self._context.run_id, self._context.selected_asset_check_keys)
        if reason := self._reason:
            raise dg.Failure(reason, allow_retries=False)

    @property
    def _reason(self) -> str:
        """Why the run failed: the first error, else the first reason for which work was stopped; empty if neither."""
        errors = [str(asset.error) for asset in self._assets if asset.error]
        return next(iter([*errors, *(asset.stopped for asset in self._assets if asset.stopped)]), "")

    def _work(self) -> None:
        """Capture and push each table once, then follow changes if the run is to stay."""
        for work in self._works:
            if work.d365 in work.selected:
                self._capture_first(work)
            if work.campaign in work.selected and not work.d365.error:
                self._push(work)
                if not self._follows:
                    self._continue_paused(work)
        if self._follows and not self._reason:
            self._follow()

    def _continue_paused(self, work: TableWork) -> None:
        """Push and capture in turns while the table's capture is paused and pushes make its backlog smaller."""
        ledger, config = self._runtime.ledger, work.config
        while work.is_full and not work.is_over:
            if not backlog_is_full(ledger, config):
                self._capture(work)
            pending = ledger.reports.backlog(config.table)
            if not work.d365.error:
                self._push(work)
            if backlog_is_full(ledger, config) and ledger.reports.backlog(config.table) >= pending:
                self._note([paused_text(ledger, config)])
                return

    # --- One table -----------------------------------------------------------------------------------------------

    def _capture_first(self, work: TableWork) -> None:
        """Follow the feed; before that, read again the rows modified on the past days of the run's partitions."""
        ledger, table = self._runtime.ledger, work.config.table
        has_failed = any(asset.error for asset in self._assets)
        if self._days is None or has_failed or ledger.feeds.feed(table) is None:
            self._capture(work)
            return
        capture_days(self._runtime, table, self._days, resend=self._force, capture=lambda: self._capture(work))

    def _capture(self, work: TableWork) -> bool:
        """Follow the feed to its end, or until the backlog is full.

        Return True if it had rows or deletions; False also if the capture failed.
        """
        config, runtime = work.config, self._runtime
        with reported(self._outcome, self._context, f"capture of {config.table}") as failed:
            self._check_not_paused(config)
            limits = guardrails.check_limits(runtime, config, reading=True)
            done = interruptible.run(capture_table(runtime, config, limited=True))
        if failed:
            work.fail(work.d365, failed[0])
            return False
        self._note(done.notes)
        work.add_capture(done, [*done.findings, *limits])
        if work.campaign not in work.selected:
            self._fail_if_backlog_stays_full(work)
        return done.result.rows > 0 or done.result.deleted > 0

    def _push(self, work: TableWork) -> bool:
        """Push pending records, for a limited time in a run that stays or pauses. Return True if any was sent."""
        config, runtime = work.config, self._runtime
        backlog = runtime.ledger.reports.backlog(config.table) if work.is_full else 0
        with reported(self._outcome, self._context, f"push of {config.table}") as failed:
            self._check_not_paused(config)
            guardrails.check_limits(runtime, config, reading=False)
            seconds = SEND_SECONDS if self._follows else TURN_SECONDS if work.is_full else None
            done = interruptible.run(push_table(runtime, config, seconds=seconds))
            notes = guardrails.campaign_notes(runtime, config, done.resource)
        if failed:
            work.fail(work.campaign, failed[0])
            self._fail_if_backlog_stays_full(work)
            return False
        self._note(done.notes)
        work.add_push(done, [*done.findings, *notes])
        if done.result.stopped:
            self._outcome.stopped.append(done.result.stopped)
        if work.is_full and (done.result.stopped or runtime.ledger.reports.backlog(config.table) >= backlog):
            self._fail_if_backlog_stays_full(work)
        return done.result.done > 0

    def _check_not_paused(self, config: TableConfig) -> None:
        """Raise InMaintenance if the table is in maintenance."""
        if since := self._runtime.ledger.maintenance.in_maintenance().get(config.table):
            raise InMaintenance(config.table, since)

    def _fail_if_backlog_stays_full(self, work: TableWork) -> None:
        """End the run as failed, with a finding, if the table's capture paused and its backlog is still full."""
        ledger, config = self._runtime.ledger, work.config
        if not work.is_full or work.campaign.maintenance:
            return
        only_waits = ledger.reports.backlog(config.table) < backlog_limit.MOST_PENDING
        if only_waits or not backlog_is_full(ledger, config):  # waiting for parents is no failure of this table
            return
        text = paused_text(ledger, config)
        work.d365.stopped = text
        self._outcome.stopped.append(text)
        d365_findings = [finding for finding in work.set_up if finding.side == "d365"]
        work.merge_findings("d365", [*d365_findings, rules.CAPTURE.finding(False, text)])

    def _note(self, notes: Sequence[str]) -> None:
        """Add notes to the outcome and the run's log, each of them once."""
        for note in notes:
            if note not in self._outcome.notes:
                self._context.log.warning(note)
        self._outcome.note(notes)

    # --- Staying -------------------------------------------------------------------------------------------------

    def _follow(self) -> None:
        """Poll the feeds, capture and push, until one of the conditions in the module's docstring ends the run."""
        if any(asset.maintenance for asset in self._assets):
            return  # the sensors request a run without the tables in maintenance
        tables = [work.config for work in self._works if work.d365 in work.selected]
        started = worked = time.monotonic()
        day, sources, started_by = today(), ProgramSources(self._runtime), ancestors()
        self._report()
        names, runs = ", ".join(config.table for config in tables), self._runtime.config.runs
        until = "" if runs.linger_seconds == "always" else f"{runs.linger:g} s without work, or after "
        self._context.log.info(
            f"Waiting for changes of {names}. The run ends after {until}{runs.longest_run_minutes:g} min."
        )
        with closing(FeedPoller(self._runtime)) as poller:
            # `dagster dev` and code servers do not stop their runs when they end, but wait for them: so a run ends when
            # it loses a parent process.
            while today() == day and ancestors() == started_by and self._runtime.session_is_valid():
                now = time.monotonic()
                is_over = now - worked > runs.linger or now - started > runs.longest_run_minutes * 60
                if self._reason or is_over or sources.changed():
                    return
                if self._runtime.ledger.maintenance.in_maintenance().keys() & {config.table for config in tables}:
                    return
                waiting = runs_to_make_room_for(self._context.instance, self._context.run_id)
                if waiting is not None:
                    self._send_for(waiting)
                    return
                news = self._news(poller, tables)
                if news is None:
                    return
                moved = [self._step(work, work.config.table in news) for work in self._works]
                if any(moved):
                    worked = time.monotonic()
                if time.monotonic() - self._reported_at > REPORT_SECONDS:
                    self._report()
                time.sleep(poller.pause())

    def _send_for(self, waiting: Sequence[dg.DagsterRun]) -> None:
        """Capture and send the tables of runs that wait for this one's slot, whose processes take seconds to start.

        Errors are logged only: these runs try again, and report the results. The first load is left to them.
        """
        ledger, origin = self._runtime.ledger, self._context.run.remote_job_origin
        identity, location = ledger.systems.identity(), origin.location_name if origin else None
        tags = {tag for run in waiting if not is_foreign(run, identity, location) for tag in run.tags}
        for config in self._runtime.config.in_link_order:
            feed = ledger.feeds.feed(config.table)
            if under_way_tag(config.table) in tags and feed and feed.complete:
                work = TableWork(self._context, self._runtime, config)
                self._capture(work)
                self._push(work)

    def _news(self, poller: FeedPoller, tables: Sequence[TableConfig]) -> set[str] | None:
        """Return the tables to capture: those with news, at once if the cursor moved since, else with a backoff.

        None if a feed cannot be polled, which the sensor handles.
        """
        try:
            polled = poller.poll(tables) if tables else None
        except SyncAssetsError as error:
            self._context.log.warning(public_message(error, "poll of the change feeds"))
            return None
        if polled is None or polled.refused:
            return None
        due: set[str] = set()
        for table in polled.news:
            version = feed_version(self._runtime, table)
            is_due, self._asked[table] = ask_again(self._asked.get(table), version, datetime.now(UTC))
            due |= {table} if is_due else set()
        return due

    def _step(self, work: TableWork, news: bool) -> bool:
        """Capture a table if its feed has news, then push due records. Return True if anything was done."""
        came = news and self._capture(work)
        next_due = self._runtime.ledger.reports.next_due(work.config.table)
        is_due = next_due is not None and next_due <= datetime.now(UTC)
        is_due = is_due or (came and opt_outs_due(self._runtime, work.config) > 0)
        sent = work.campaign in work.selected and not self._reason and is_due and self._push(work)
        return came or sent

    def _report(self) -> None:
        """Report the numbers of tables with new work, and the check results that changed."""
        self._reported_at = time.monotonic()
        for work in self._works:
            work.report()
