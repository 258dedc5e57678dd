"""Run a group of linked tables: capture and push them in link order, and stay while changes keep coming.

A run that stays is a warm process, so that a new change does not wait for a process to start. It polls the change feeds
every few tenths of a second and pushes pending records that are due. It ends

- after `linger_seconds` without work, and after `longest_run_minutes`;
- at midnight UTC, since the next partition has begun: the sensor requests a run of that;
- if a captured table goes into maintenance, or if the configuration or the program changes;
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
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Any

import dagster as dg

from sync_assets.capture import backlog_limit
from sync_assets.capture.backlog_limit import backlog_is_full, paused_text
from sync_assets.capture.feed_polling import FeedPoller
from sync_assets.capture.replay import capture_days
from sync_assets.config.models import TableConfig
from sync_assets.defs.partitions import past_days, today
from sync_assets.defs.run_errors import reported
from sync_assets.defs.tables.asset_keys import campaign_key, d365_key, side_key
from sync_assets.defs.tables.asset_results import AssetResults
from sync_assets.defs.tables.checks import SIDES
from sync_assets.defs.tables.maintenance_results import check_not_paused
from sync_assets.defs.tables.run_reports import RunReports
from sync_assets.defs.tables.run_requests import RunRequested, ask_again
from sync_assets.defs.tables.run_results import capture_numbers, day_numbers, push_numbers
from sync_assets.defs.tables.run_state import RunState
from sync_assets.errors import SyncAssetsError, public_message
from sync_assets.flows import Outcome, capture_table, push_table
from sync_assets.mapping.unlabelled_options import unknown_codes_warning
from sync_assets.operations.readiness import campaign_notes, types_note
from sync_assets.runtime import interruptible
from sync_assets.runtime.context import Runtime
from sync_assets.runtime.heartbeat import heartbeat
from sync_assets.runtime.program_sources import ProgramSources, ancestors
from sync_assets.validation import guardrails
from sync_assets.validation.findings import Finding

FOLLOWS_TAG = ".dagster/sync_follows"
"""Tag of runs that stay while changes keep coming. The UI hides it."""
SEND_SECONDS = 30.0
"""How long a run that stays pushes one table, in seconds, before it polls the feeds again."""
TURN_SECONDS = 300.0
"""How long any other run pushes one table, in seconds, before it continues a paused capture."""
POLL_SECONDS = 0.4
"""Seconds between two polls, for each two tables: far below Dataverse's limit of 6,000 requests in 300 s."""
REPORT_SECONDS = 60.0
"""Interval in which a run that stays reports its numbers and changed check results after its first work, in seconds."""


def poll_seconds(tables: int) -> float:
    """Return the seconds to wait between two polls of this number of feeds."""
    return POLL_SECONDS * max(1, tables / 2)


class TableRun:
    """One run of the selected assets of a group of linked tables. Call `results` once.

    Args:
        context: Of the run.
        runtime: With the resources of the run.
        tables: The group, in link order.
        outcome: Receives what the run finds, for a caller in this process.
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
        selected = context.selected_asset_keys
        self._to_capture = [config for config in tables if d365_key(config) in selected]
        self._to_push = [config for config in tables if campaign_key(config) in selected]
        self._tables = [config for config in tables if config in self._to_capture or config in self._to_push]
        self._days = past_days(context.partition_keys)
        self._follows = FOLLOWS_TAG in context.run.tags and runtime.config.runs.linger > 0
        self._state = RunState.of(config.table for config in self._tables)
        self._full: set[str] = set()  # tables whose last capture paused
        self._asked: dict[str, RunRequested] = {}
        self._reports, self._reported = RunReports(context), 0.0
        self._assets = AssetResults(context, runtime, self._reports, self._state)

    def results(self) -> Iterator[Any]:
        """Do the run's work, and yield the results of the selected assets and checks.

        Raises:
            dg.Failure: After the results, if the work of a selected asset failed or was stopped.
        """
        with ExitStack() as stack:
            with reported(self._outcome, self._context, "run") as failed:
                stack.enter_context(heartbeat(self._runtime, self._context.run_id))
            if failed:
                self._state.failed = dict.fromkeys(self._context.selected_asset_keys, failed)
                yield from self._assets.not_begun(self._tables[0], failed[0])
            else:
                self._work()
                for config in self._tables:
                    yield from self._assets.of_table(config)
        if self._state.ended_early:
            raise dg.Failure(self._state.first_reason, allow_retries=False)

    def _work(self) -> None:
        """Capture and push each table once, then follow changes if the run is to stay."""
        for config in self._tables:
            if config in self._to_capture:
                self._capture_first(config)
            if config in self._to_push and d365_key(config) not in self._state.failed:
                self._push(config)
                if not self._follows:
                    self._continue_paused(config)
        if self._follows and not self._state.ended_early:
            self._follow()

    def _continue_paused(self, config: TableConfig) -> None:
        """Push and capture in turns while the table's capture is paused and pushes make its backlog smaller."""
        ledger = self._runtime.ledger
        while config.table in self._full and not self._state.is_over(d365_key(config), campaign_key(config)):
            if not backlog_is_full(ledger, config):
                self._capture(config)
            pending = ledger.reports.backlog(config.table)
            if d365_key(config) not in self._state.failed:
                self._push(config)
            if backlog_is_full(ledger, config) and ledger.reports.backlog(config.table) >= pending:
                self._note([paused_text(ledger, config)])
                return

    # --- One table -----------------------------------------------------------------------------------------------

    def _capture_first(self, config: TableConfig) -> None:
        """Follow the feed; before that, read again the rows modified on the past days of the run's partitions."""
        ledger = self._runtime.ledger
        if self._days is None or self._state.failed or ledger.feeds.feed(config.table) is None:
            self._capture(config)
            return
        capture_days(ledger, config.table, self._days, resend=self._force, capture=lambda: self._capture(config))

    def _capture(self, config: TableConfig) -> bool:
        """Follow the feed to its end, or until the backlog is full.

        Return True if it had rows or deletions; False also if the capture failed.
        """
        key, runtime = d365_key(config), self._runtime
        with reported(self._outcome, self._context, f"capture of {config.table}") as failed:
            check_not_paused(runtime, config)
            limits = guardrails.check_limits(runtime, config, reading=True)
            done = interruptible.run(capture_table(runtime, config, limited=True))
        if failed:
            self._state.record_failure(runtime, config, "d365", failed)
            return False
        warning = unknown_codes_warning(config.table, done.result.unknown_codes)
        self._note([*done.notes, *([warning] if warning else [])])
        self._state.totals[config.table].add_capture(runtime, config.table, done)
        self._state.done.add(key)
        self._state.merge_findings(config.table, "d365", [*done.ready.findings, *limits, types_note(done.ready)])
        (self._full.add if done.result.paused else self._full.discard)(config.table)
        if config not in self._to_push:
            self._fail_if_backlog_stays_full(config)
        return done.result.rows > 0 or done.result.deleted > 0

    def _push(self, config: TableConfig) -> bool:
        """Push pending records. Return True if any was sent.

        For SEND_SECONDS at most in a run that stays, for TURN_SECONDS at most while the capture is paused.
        """
        key, runtime = campaign_key(config), self._runtime
        full, before = config.table in self._full, 0
        if full:
            before = runtime.ledger.reports.backlog(config.table)
        with reported(self._outcome, self._context, f"push of {config.table}") as failed:
            check_not_paused(runtime, config)
            guardrails.check_limits(runtime, config, reading=False)
            seconds = SEND_SECONDS if self._follows else TURN_SECONDS if full else None
            done = interruptible.run(push_table(runtime, config, seconds=seconds))
            notes = campaign_notes(runtime, config, done.resource)
        if failed:
            self._state.record_failure(runtime, config, "campaign", failed)
            self._fail_if_backlog_stays_full(config)
            return False
        self._state.totals[config.table].add_push(runtime, config.table, done)
        self._state.done.add(key)
        self._state.merge_findings(config.table, "campaign", [*done.findings, *notes])
        self._note(done.notes)
        if done.result.stopped:
            self._outcome.stopped.append(done.result.stopped)
            self._state.stopped[key] = done.result.stopped
        if full and (done.result.stopped or runtime.ledger.reports.backlog(config.table) >= before):
            self._fail_if_backlog_stays_full(config)
        return done.result.done > 0

    def _fail_if_backlog_stays_full(self, config: TableConfig) -> None:
        """End the run as failed, with a finding, if the table's capture paused and its backlog is still full."""
        ledger, table = self._runtime.ledger, config.table
        if table not in self._full or campaign_key(config) in self._state.in_maintenance:
            return
        only_waits = ledger.reports.backlog(table) < backlog_limit.MOST_PENDING  # for parents: no failure of this table
        if only_waits or not backlog_is_full(ledger, config):
            return
        text = paused_text(ledger, config)
        self._state.stopped[d365_key(config)] = text
        self._outcome.stopped.append(text)
        others = [one for one in self._state.findings[table] if one.side == "d365"]
        self._state.merge_findings(config.table, "d365", [*others, Finding("capture_goes_on", False, text, at="d365")])

    def _note(self, notes: Sequence[str]) -> None:
        """Add notes to the outcome and the run's log, each of them once."""
        for note in notes:
            if note not in self._outcome.notes:
                self._context.log.warning(note)
        self._outcome.note(notes)

    # --- Staying -------------------------------------------------------------------------------------------------

    def _follow(self) -> None:
        """Poll the feeds, capture and push, until one of the conditions in the module's docstring ends the run."""
        if self._state.in_maintenance:
            return  # the sensors request a run without the tables in maintenance
        runs = self._runtime.config.runs
        started = worked = time.monotonic()
        day, sources, started_by, tables = today(), ProgramSources(self._runtime), ancestors(), self._to_capture
        poller = FeedPoller(self._runtime)
        try:
            self._report()
            # `dagster dev` and code servers do not stop their runs when they end, but wait for them: so a run ends when
            # it loses a parent process.
            while today() == day and ancestors() == started_by and self._runtime.session_is_valid():
                if self._state.ended_early:
                    return
                now = time.monotonic()
                if now - worked > runs.linger or now - started > runs.longest_run_minutes * 60:
                    return
                if (
                    self._runtime.ledger.maintenance.in_maintenance().keys() & {one.table for one in tables}
                    or sources.changed()
                ):
                    return
                news = self._news(poller, tables)
                if news is None:
                    return
                moved = [self._step(config, config.table in news) for config in self._tables]
                if any(moved):
                    worked = time.monotonic()
                if time.monotonic() - self._reported > REPORT_SECONDS:
                    self._report()
                time.sleep(poll_seconds(len(tables)))
        finally:
            poller.close()

    def _news(self, poller: FeedPoller, tables: Sequence[TableConfig]) -> set[str] | None:
        """Return the tables with something to capture; None if a feed cannot be polled, which the sensor handles."""
        try:
            polled = poller.poll(tables) if tables else None
        except SyncAssetsError as error:
            self._context.log.warning(public_message(error, "poll of the change feeds"))
            return None
        if polled is None or polled.refused:
            return None
        return {table for table in polled.news if self._worth(table)}

    def _worth(self, table: str) -> bool:
        """Return True if a table is to be captured: at once if the cursor moved, else with a backoff."""
        feed = self._runtime.ledger.feeds.feed(table)
        worth, self._asked[table] = ask_again(self._asked.get(table), feed.version if feed else 0, datetime.now(UTC))
        return worth

    def _step(self, config: TableConfig, news: bool) -> bool:
        """Capture a table if its feed has news, then push what is due. Return True if anything was done."""
        came = news and self._capture(config)
        sent = config in self._to_push and not self._state.ended_early and self._due(config) and self._push(config)
        return came or sent

    def _due(self, config: TableConfig) -> bool:
        """Return True if a pending record of the table may be sent now."""
        due = self._runtime.ledger.reports.next_due(config.table)
        return due is not None and due <= datetime.now(UTC)

    def _report(self) -> None:
        """Report the numbers of tables with new work, and the check results that changed."""
        self._reported, now = time.monotonic(), datetime.now(UTC)
        for config in self._tables:
            totals = self._state.totals[config.table]
            if totals.changed:
                totals.changed = False
                runtime, day = self._runtime, today()
                if config in self._to_capture:
                    numbers = day_numbers(config, runtime, "d365", day) | capture_numbers(config, runtime, totals)
                    self._reports.report_numbers(d365_key(config), numbers)
                if config in self._to_push:
                    numbers = day_numbers(config, runtime, "campaign", day) | push_numbers(config, runtime, totals)
                    self._reports.report_numbers(campaign_key(config), numbers)
            for side in SIDES:
                if side_key(config, side) in self._state.done:
                    self._reports.report_checks(self._assets.checks(config, side, now))
