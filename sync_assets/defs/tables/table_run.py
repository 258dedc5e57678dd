"""A run of tables that links hold together: captures and sends them in link order, and stays while changes keep coming.

A change that comes while a run stays waits for no process. Every few tenths of a second the run polls the change feeds
and asks the ledger for what may be sent; it ends by itself when nothing came for `linger_seconds`, after
`longest_run_minutes`, at midnight (the next partition's run goes on), and when what follows has to be by other rules: a
table goes into maintenance, or the configuration or the program changes. One that cannot go on with a table ends as
well, failed, and the sensors start the others without it.
"""

# No `from __future__ import annotations`: kept like the modules that Dagster looks into.

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from datetime import UTC, date, datetime
from typing import Any

import dagster as dg

from sync_assets.capture.feed_polling import FeedPoller
from sync_assets.capture.replay import capture_days
from sync_assets.config.models import TableConfig
from sync_assets.defs.partitions import past_days, today, version_tags
from sync_assets.defs.run_errors import told
from sync_assets.defs.tables.asset_metadata import campaign_key, d365_key
from sync_assets.defs.tables.checks import SIDES, answers, refused, side_key
from sync_assets.defs.tables.maintenance_results import check_not_paused, passed_over
from sync_assets.defs.tables.ready_check import READY, ready_result
from sync_assets.defs.tables.run_requests import RunRequested, ask_again
from sync_assets.defs.tables.run_results import (
    Totals,
    capture_metadata,
    capture_numbers,
    evaluation,
    push_metadata,
    push_numbers,
)
from sync_assets.errors import SyncAssetsError, in_our_words
from sync_assets.flows import capture_table, push_table
from sync_assets.ledger.errors import InMaintenance, LedgerError
from sync_assets.mapping.unlabelled_options import unknown_codes_warning
from sync_assets.operations.readiness import campaign_notes, causes, failure, types_note
from sync_assets.runtime import interruptible
from sync_assets.runtime.context import Runtime
from sync_assets.runtime.heartbeat import heartbeat
from sync_assets.runtime.program_sources import ProgramSources, ancestors
from sync_assets.validation import guardrails
from sync_assets.validation.findings import Finding, Side

FOLLOWS_TAG = ".dagster/sync_follows"
"""On runs that stay while changes come; hidden in the UI."""
SEND_SECONDS = 30.0
"""How long a run that stays sends of one table before it polls the feeds again."""
LOOK_SECONDS = 0.4
"""Between two polls, for each two tables: far below Dataverse's 6,000 requests in 300 s."""
REPORT_SECONDS = 60.0
"""How often a run that stays tells what it did."""


def look_seconds(tables: int) -> float:
    """How long to wait between two polls of so many feeds."""
    return LOOK_SECONDS * max(1, tables / 2)


class TableRun:
    """What one run does with the tables of a group, as far as their assets are selected. `results` once."""

    def __init__(
        self, context: dg.AssetExecutionContext, runtime: Runtime, tables: Sequence[TableConfig], *, force: bool = False
    ) -> None:
        self._context, self._runtime, self._force = context, runtime, force
        selected = context.selected_asset_keys
        self._captured = [config for config in tables if d365_key(config) in selected]
        self._sent = [config for config in tables if campaign_key(config) in selected]
        self._tables = [config for config in tables if config in self._captured or config in self._sent]
        self._days = past_days(context.partition_keys)
        self._follows = FOLLOWS_TAG in context.run.tags and runtime.config.runs.linger > 0
        self._totals = {config.table: Totals() for config in self._tables}
        self._findings: dict[str, list[Finding]] = {config.table: [] for config in self._tables}
        self._done: set[dg.AssetKey] = set()
        self._failed: dict[dg.AssetKey, list[SyncAssetsError]] = {}
        self._stopped: dict[dg.AssetKey, str] = {}
        self._paused: dict[dg.AssetKey, InMaintenance] = {}
        self._warned: set[str] = set()
        self._asked: dict[str, RunRequested] = {}
        self._reported = time.monotonic()

    def results(self) -> Iterator[Any]:
        """Works, and yields a result for each selected asset whose work could be done. Raises dg.Failure if one of them
        could not."""
        with ExitStack() as stack:
            with told(self._runtime, self._context, "run") as failed:
                stack.enter_context(heartbeat(self._runtime, self._context.run_id))
            if failed:
                self._failed = dict.fromkeys(self._context.selected_asset_keys, failed)
                yield from self._not_begun(failed[0])
            else:
                self._work()
                for config in self._tables:
                    yield from self._results(config)
        if self._ended_early:
            first = next((errors[0] for errors in self._failed.values()), None) or next(iter(self._stopped.values()))
            raise dg.Failure(str(first), allow_retries=False)

    def _work(self) -> None:
        for config in self._tables:
            if config in self._captured:
                self._capture_first(config)
            if config in self._sent and d365_key(config) not in self._failed:
                self._push(config)
        if self._follows and not self._ended_early:
            self._follow()

    @property
    def _ended_early(self) -> bool:
        return bool(self._failed or self._stopped)

    # --- One table -----------------------------------------------------------------------------------------------

    def _capture_first(self, config: TableConfig) -> None:
        """Follow the feed, and before that read the rows modified on the run's past days again."""
        ledger = self._runtime.ledger
        if self._days is None or self._failed or ledger.feed(config.table) is None:
            self._capture(config)
            return
        capture_days(ledger, config.table, self._days, resend=self._force, capture=lambda: self._capture(config))

    def _capture(self, config: TableConfig) -> bool:
        """Follow the feed to its end. Returns whether anything came."""
        key, runtime = d365_key(config), self._runtime
        with told(runtime, self._context, f"capture of {config.table}") as failed:
            check_not_paused(runtime, config)
            limits = guardrails.check_limits(runtime, config, reading=True)
            done = interruptible.run(capture_table(runtime, config))
        if failed:
            self._note(config, "d365", failed)
            return False
        warning = unknown_codes_warning(config.table, done.result.unknown_codes)
        if warning and warning not in self._warned:
            self._warned.add(warning)
            self._context.log.warning(warning)
            runtime.warnings.append(warning)
        self._totals[config.table].add_capture(done)
        self._done.add(key)
        self._found(config, "d365", [*done.ready.findings, *limits, types_note(done.ready)])
        return done.result.rows > 0 or done.result.deleted > 0

    def _push(self, config: TableConfig) -> bool:
        """Send what is pending, in a run that stays for some seconds. Returns whether anything was sent."""
        key, runtime = campaign_key(config), self._runtime
        with told(runtime, self._context, f"push of {config.table}") as failed:
            check_not_paused(runtime, config)
            guardrails.check_limits(runtime, config, reading=False)
            seconds = SEND_SECONDS if self._follows else None
            done = interruptible.run(push_table(runtime, config, seconds=seconds))
            notes = campaign_notes(runtime, config, done.resource)
        if failed:
            self._note(config, "campaign", failed)
            return False
        self._totals[config.table].add_push(done)
        self._done.add(key)
        self._found(config, "campaign", [*done.findings, *notes])
        if done.result.stopped:
            runtime.stopped.append(done.result.stopped)
            self._stopped[key] = done.result.stopped
        return done.result.done > 0

    def _note(self, config: TableConfig, side: Side, failed: list[SyncAssetsError]) -> None:
        key = side_key(config, side)
        if isinstance(failed[0], InMaintenance):
            self._paused[key] = failed[0]
            return
        self._failed[key] = failed
        with suppress(LedgerError):
            self._runtime.ledger.forget_confirmation(config.table)
        found = causes(self._runtime, config, failed[0], side)
        if side == "d365":
            self._findings[config.table] = found
        else:
            self._found(config, side, found)

    def _found(self, config: TableConfig, side: Side, findings: list[Finding]) -> None:
        """What a capture or a push learned of the set-up: of the other side what is known stays."""
        of_others = [one for one in self._findings[config.table] if one.side != side]
        others = of_others or [one for one in findings if one.side != side]
        self._findings[config.table] = [*others, *(one for one in findings if one.side == side)]

    # --- Staying -------------------------------------------------------------------------------------------------

    def _follow(self) -> None:
        """Capture and send what comes, until the run has stayed long enough."""
        if self._paused:
            return  # the sensors start one without the tables in maintenance
        runs = self._runtime.config.runs
        started = worked = time.monotonic()
        day, sources, started_by, tables = today(), ProgramSources(self._runtime), ancestors(), self._captured
        watcher = FeedPoller(self._runtime)
        try:
            # `dagster dev` and code servers do not end the runs that they started, and wait for them when they end.
            while not self._ended_early and today() == day and ancestors() == started_by and self._runtime.run_lasts():
                now = time.monotonic()
                if now - worked > runs.linger or now - started > runs.longest_run_minutes * 60:
                    return
                if self._runtime.ledger.in_maintenance().keys() & {one.table for one in tables} or sources.changed():
                    return
                news = self._news(watcher, tables)
                if news is None:
                    return
                moved = [self._step(config, config.table in news) for config in self._tables]
                if any(moved):
                    worked = time.monotonic()
                self._report()
                time.sleep(look_seconds(len(tables)))
        finally:
            watcher.close()

    def _news(self, watcher: FeedPoller, tables: Sequence[TableConfig]) -> set[str] | None:
        """The tables with something to capture. None: a feed cannot be polled, which the sensor deals with."""
        try:
            polled = watcher.look(tables) if tables else None
        except SyncAssetsError as error:
            self._context.log.warning(in_our_words(error, "poll of the change feeds"))
            return None
        if polled is None or polled.refused:
            return None
        return {table for table in polled.news if self._worth(table)}

    def _worth(self, table: str) -> bool:
        """Whether a capture is worth another try: at once while the feed moves, else ever more rarely."""
        feed = self._runtime.ledger.feed(table)
        worth, self._asked[table] = ask_again(self._asked.get(table), feed.version if feed else 0, datetime.now(UTC))
        return worth

    def _step(self, config: TableConfig, news: bool) -> bool:
        came = news and self._capture(config)
        sent = config in self._sent and not self._ended_early and self._due(config) and self._push(config)
        return came or sent

    def _due(self, config: TableConfig) -> bool:
        due = self._runtime.ledger.next_due(config.table)
        return due is not None and due <= datetime.now(UTC)

    def _report(self) -> None:
        """What was done since the last report, as events of today's partition: a run's result comes at its end only."""
        if time.monotonic() - self._reported < REPORT_SECONDS:
            return
        self._reported = time.monotonic()
        for config in self._tables:
            totals = self._totals[config.table]
            if not totals.changed:
                continue
            totals.changed = False
            if config in self._captured:
                numbers = capture_numbers(config, self._runtime, totals)
                self._tell(d365_key(config), numbers)
            if config in self._sent:
                numbers = push_numbers(config, self._runtime, totals)
                self._tell(campaign_key(config), numbers)
                self._context.instance.report_runless_asset_event(evaluation(refused(config, self._runtime)))

    def _tell(self, key: dg.AssetKey, numbers: dict[str, Any]) -> None:
        event = dg.AssetMaterialization(key, metadata=numbers, partition=today(), tags=version_tags())
        self._context.log_event(event)

    # --- The end -------------------------------------------------------------------------------------------------

    def _not_begun(self, error: SyncAssetsError) -> list[dg.AssetCheckResult]:
        """One check that says why nothing was done; the ledger, which answers the others, cannot be asked."""
        config = self._tables[0]
        side: Side = "d365" if config in self._captured else "campaign"
        return self._selected([ready_result(side_key(config, side), [failure(side, error)])])

    def _results(self, config: TableConfig) -> Iterator[Any]:
        runtime, totals, now = self._runtime, self._totals[config.table], datetime.now(UTC)
        for side in SIDES:
            key = side_key(config, side)
            if key not in self._context.selected_asset_keys:
                continue
            if key in self._paused:
                own = [one for one in self._context.selected_asset_check_keys if one.asset_key == key]
                yield passed_over(self._context, self._paused[key], key, own)
                continue
            checks = self._selected(answers(runtime, config, side, self._findings[config.table], now))
            if key in self._done and key not in self._failed:
                metadata = capture_metadata if side == "d365" else push_metadata
                self._count(key, metadata(config, runtime, totals, self._context.instance))
                version = dg.DataVersion(today())  # see version_tags
                yield dg.MaterializeResult(asset_key=key, check_results=checks, data_version=version)
            else:
                yield from checks
        self._other_side(config)

    def _selected(self, results: list[dg.AssetCheckResult]) -> list[dg.AssetCheckResult]:
        wanted = self._context.selected_asset_check_keys
        return [
            one for one in results if one.asset_key and dg.AssetCheckKey(one.asset_key, str(one.check_name)) in wanted
        ]

    def _count(self, key: dg.AssetKey, numbers: dict[str, Any]) -> None:
        """The run's numbers, at the last of its partitions; a past day keeps the rows that were captured on it."""
        *others, last = self._context.partition_keys
        table = next((one.table for one in self._captured if d365_key(one) == key), None)
        for partition in (*others, last):
            row_count: dict[str, Any] = {}
            if table is not None and partition != today():
                rows = self._runtime.ledger.captured_rows(table, date.fromisoformat(partition))
                row_count = {"dagster/partition_row_count": rows}
            told = numbers | row_count if partition == last else {"counted_with": last, **row_count}
            self._context.add_asset_metadata(told, asset_key=key, partition_key=partition)

    def _other_side(self, config: TableConfig) -> None:
        """What a capture alone found wrong on Campaign's side, as an event beside those of the run."""
        key = campaign_key(config)
        findings = [one for one in self._findings[config.table] if one.side == "campaign"]
        if dg.AssetCheckKey(key, READY) in self._context.selected_asset_check_keys:
            return
        if any(one.blocks and not one.passed for one in findings):
            self._context.instance.report_runless_asset_event(evaluation(ready_result(key, findings)))
