"""What the follower reports to Dagster of each table: materialisations and results of checks.

The follower does not remember what it reported: at intervals it compares its results with those that Dagster shows. So
it also replaces results of other runs, of killed ones and of earlier followers.

The first result of each check is logged in the follower's run, since a materialisation hides those of other runs. But
of a check Dagster keeps one row for each run, with the time of its first result, and shows the row that was made last.
So each further result is reported without a run, and again after each materialisation.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, cast

import dagster as dg

from sync_assets.checks import rules
from sync_assets.checks.preflight import EXAMINE_SECONDS, readiness
from sync_assets.checks.rules import SIDES
from sync_assets.config.values import CONTACT
from sync_assets.defs.asset_keys import CHANGES, key_of
from sync_assets.defs.dagster_internals import CheckRecord, Last, evaluations, last_materializations, shown_answers
from sync_assets.defs.results import check_key, check_result, metadata
from sync_assets.defs.tables import asset_metadata
from sync_assets.defs.tables.checks import table_checks
from sync_assets.defs.tables.table_work import AssetWork, TableWork
from sync_assets.errors import SyncAssetsError
from sync_assets.flows import CONFIRM
from sync_assets.runtime.context import Runtime

COMPARE_SECONDS = 2.0
"""Interval in which up to COMPARED_TABLES tables are compared with what Dagster shows, in seconds."""
COMPARED_TABLES = 15
SPACING, BUSY = timedelta(minutes=1), timedelta(minutes=15)
"""Shortest time between two materialisations of an asset for changes, times the number of tables that changed within
BUSY, and the longest such time for one table: each materialisation adds to Dagster's history."""
EXAMINED = timedelta(seconds=4)
"""A set-up that was read longer ago is read again before it is reported, and while it is wrong."""


class Reported(NamedTuple):
    """When the follower materialised an asset last, UTC, and the shortest time to the next one for changes."""

    at: datetime
    spacing: timedelta


def is_due(last: Last | None, version: str, now: datetime, reported: Reported | None, *, quiet: bool) -> bool:
    """Return True if an asset is to be materialised now.

    Args:
        last: None if it never was.
        version: Its data version now.
        now: UTC.
        reported: None if the follower never did.
        quiet: Its table was polled and has nothing to do, so that it may be confirmed.
    """
    changed = last is None or version != last.version
    if last is None or last.partition != now.date().isoformat() or now - last.at >= CONFIRM:
        return changed or quiet
    return changed and (reported is None or now - reported.at >= reported.spacing)


def next_reported(earlier: Reported | None, now: datetime, first: timedelta) -> Reported:
    """Return what to remember of a materialisation: the spacing grows while the asset changes on and on.

    first: The spacing of an asset that was quiet.
    """
    if earlier is None or now - earlier.at > earlier.spacing + BUSY:
        return Reported(now, first)
    return Reported(now, max(first, min(2 * earlier.spacing, BUSY)))


class Reports:
    """Reports the work of tables in the follower's run.

    opt_outs: Runs of opt-outs without a file, as one `Settled`, that are reported next, at most once a minute.
    """

    def __init__(self, context: dg.OpExecutionContext, runtime: Runtime, works: Sequence[TableWork]) -> None:
        self._context, self._instance, self._runtime = context, context.instance, runtime
        self._works = {work.config.table: work for work in works}
        self._answered = set[dg.AssetCheckKey]()
        self._reported: dict[dg.AssetKey, Reported] = {}
        self._compared_at, self._opt_outs_at = float("-inf"), float("-inf")
        self.opt_outs: Any = None

    def report(self, tables: Collection[str], *, polled: Collection[str]) -> None:
        """Report what is due of tables without work, at intervals. polled: those whose feeds were polled just now."""
        pause = COMPARE_SECONDS * max(1.0, len(self._works) / COMPARED_TABLES)
        if tables and time.monotonic() - self._compared_at >= pause:
            self._compare([self._works[name] for name in self._works if name in tables], polled=polled, ends=False)
            self._compared_at = time.monotonic()
        if self.opt_outs and time.monotonic() - self._opt_outs_at >= SPACING.total_seconds():
            self._opt_outs_at = time.monotonic()
            self._report_opt_outs()

    def end(self) -> None:
        """Report what was not reported yet, at the end of the run."""
        self._compare([*self._works.values()], polled=(), ends=True)
        if self.opt_outs:
            self._report_opt_outs()

    def forget(self, tables: Collection[str]) -> None:
        """Forget the set-up of tables that another run works on: it is read again before it is reported."""
        for name in self._works.keys() & tables:
            self._works[name].found_at = None

    def _compare(self, works: Sequence[TableWork], *, polled: Collection[str], ends: bool) -> None:
        works = [work for work in works if self._is_known(work)]
        assets = [(work, asset) for work in works for asset in work.both]
        last = last_materializations(self._instance, [asset.key for _, asset in assets])
        now, materialized = datetime.now(UTC), False
        first = SPACING * max(1, sum(now - one.at < BUSY for one in self._reported.values()) // len(SIDES))
        for work, asset in assets:
            before, reported = last.get(asset.key), self._reported.get(asset.key)
            version, quiet = work.data_version(asset.side), work.config.table in polled and self._is_quiet(work, asset)
            if before and before.version != version and before.partition == _day_before(now):
                self._materialize(work, asset, version, before.partition)  # with the last numbers of its day
            if ends:
                due = before is not None and before.version != version
            else:
                due = is_due(before, version, now, reported, quiet=quiet)
            if due:
                self._materialize(work, asset, version, now.date().isoformat())
                self._reported[asset.key] = next_reported(reported, now, first)
                materialized = True
        if materialized:
            last = last_materializations(self._instance, [asset.key for _, asset in assets])
        self._report_checks(works, last)

    def _is_known(self, work: TableWork) -> bool:
        """Return True for a table of which the ledger has rows: the first load has a run of its own."""
        feed = self._runtime.ledger.feeds.feed(work.config.table)
        return bool(feed and feed.complete) or any(asset.error or asset.done for asset in work.both)

    def _is_quiet(self, work: TableWork, asset: AssetWork) -> bool:
        if asset.error or asset.stopped:
            return False
        return asset is work.d365 or not self._runtime.ledger.reports.backlog(work.config.table)

    def _materialize(self, work: TableWork, asset: AssetWork, version: str, day: str) -> None:
        numbers = work.day_numbers(asset.side, day) | work.result_metadata(asset)
        tags = {"dagster/data_version": version}
        self._context.log_event(dg.AssetMaterialization(asset.key, metadata=numbers, partition=day, tags=tags))

    # --- Checks --------------------------------------------------------------------------------------------------

    def _report_checks(self, works: Sequence[TableWork], last: Mapping[dg.AssetKey, Last]) -> None:
        """Report the results that Dagster does not show."""
        keys = [spec.key for work in works for spec in table_checks(work.config, self._runtime)]
        shown = shown_answers(self._instance, keys, last)
        for work in works:
            differing = self._differing(work, shown)
            ready = [dg.AssetCheckKey(asset.key, rules.READY.name) for asset in work.both]
            fails = any(
                answer.evaluation and not answer.evaluation.passed for key in ready if (answer := shown.get(key))
            )
            if (fails or differing.keys() & {*ready}) and self._read_set_up(work):
                differing = self._differing(work, shown)
            self._report_results(differing.values())

    def _differing(
        self, work: TableWork, shown: Mapping[dg.AssetCheckKey, CheckRecord]
    ) -> dict[dg.AssetCheckKey, dg.AssetCheckResult]:
        """Return the results of a table's checks that Dagster does not show."""
        found = [(asset, finding) for asset in work.both for finding in work.findings(asset.side)]
        results = {
            check_key(result): result for asset, finding in found if (result := check_result(asset.key, finding))
        }
        return {
            key: result
            for key, result in results.items()
            if key not in shown or _content(result) != _content(shown[key].evaluation)
        }

    def _read_set_up(self, work: TableWork) -> bool:
        """Read the table's set-up again unless it was read just now, or its work failed: that is tried again.

        Not while its data model is being published.
        """
        now, paused = datetime.now(UTC), self._runtime.ledger.maintenance.in_maintenance()
        is_known = any(asset.error for asset in work.both) or work.config.table in paused
        if is_known or (work.found_at and now - work.found_at < EXAMINED):
            return False
        with suppress(SyncAssetsError):
            work.set_up, work.found_at = readiness(self._runtime, work.config, EXAMINE_SECONDS), now
        return True

    def _report_results(self, results: Collection[dg.AssetCheckResult]) -> None:
        for answer in evaluations(self._instance, results) if results else ():
            key = dg.AssetCheckKey(answer.asset_key, answer.check_name)
            if key in self._answered:
                self._instance.report_runless_asset_event(answer)
            else:
                self._answered.add(key)
                self._context.log_event(cast("Any", answer))  # it takes evaluations; its annotation lists others

    # --- Opt-outs ------------------------------------------------------------------------------------------------

    def _report_opt_outs(self) -> None:
        key, settled, self.opt_outs = key_of(CHANGES, self._runtime), self.opt_outs, None
        if numbers := settled.numbers():
            links = asset_metadata.links(self._runtime, self._runtime.config.table(CONTACT))
            self._context.log_event(dg.AssetMaterialization(key, metadata=metadata(numbers) | links))
        self._report_results([check_result(key, finding) for finding in settled.findings()])


def _day_before(now: datetime) -> str:
    return (now.date() - timedelta(days=1)).isoformat()


def _content(result: dg.AssetCheckResult | dg.AssetCheckEvaluation | None) -> tuple[object, ...]:
    """Return the parts of a result whose change counts. Most texts of those that passed change with each poll."""
    assert result
    has_text = not result.passed or result.check_name == rules.READY.name  # which says that a table is in maintenance
    return result.passed, result.severity, result.description if has_text else None
