"""Asset checks that can be asked at any time: is the change feed polled, does anything wait or stay behind, does
Campaign still hold what was sent?

Not here: what a run finds out about itself (assets.py), and what the numbers mean (quality.py).
"""

# No `from __future__ import annotations`: Dagster looks at the type of `context` itself.

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

import dagster as dg

from sync_assets import interruptible
from sync_assets.config import TableConfig
from sync_assets.errors import in_our_words
from sync_assets.ingress import quality
from sync_assets.ingress.drift import Drift, drift
from sync_assets.ingress.shown import campaign_key, d365_key
from sync_assets.ledger import Feed, InMaintenance
from sync_assets.ledger.model import WAITING_FOR
from sync_assets.runtime import Runtime

POLLED_CHECK = "change_feed_is_polled"
SILENT_AFTER = timedelta(minutes=15)
FORGOTTEN = timedelta(days=1)
"""Nobody publishes a data model for so long."""
_DRIFT = "drift_of_"
PARITY = "opt_out_parity"
"""The comparison of opt-outs (opt_out/checks.py)."""


def feed_check(config: TableConfig, runtime: Runtime) -> dg.AssetChecksDefinition:
    """Tells "polled lately, nothing new" from "not polled". Scheduled by definitions.py."""

    @dg.asset_check(
        asset=d365_key(config),
        name=POLLED_CHECK,
        description=f"The change feed was asked within the last {SILENT_AFTER.seconds // 60} minutes.",
    )
    def change_feed_is_polled() -> dg.AssetCheckResult:
        return feed_answer(config, runtime, datetime.now(UTC))

    return change_feed_is_polled


def backlog_checks(config: TableConfig, runtime: Runtime) -> dg.AssetChecksDefinition:
    """Does anything wait too long, or stay behind? From the ledger; scheduled by definitions.py."""

    @dg.multi_asset_check(
        name=f"backlog_of_{config.table}",
        specs=_specs(config, (quality.WAITING, quality.BACKLOG)),
        can_subset=True,  # else the UI could not execute one of them
    )
    def backlog(context: dg.AssetCheckExecutionContext) -> Iterator[dg.AssetCheckResult]:
        yield from wanted(context, backlog_results(config, runtime, datetime.now(UTC)))

    return backlog


def backlog_results(config: TableConfig, runtime: Runtime, now: datetime) -> list[dg.AssetCheckResult]:
    ledger = runtime.ledger
    counts = ledger.counts().get(config.table)
    by_reason = {WAITING_FOR[gate]: number for gate, number in ledger.waiting_reasons(config.table).items()}
    return [
        quality.waiting(
            config, by_reason, ledger.oldest_waiting(config.table), now, ledger.waiting_parents(config.table)
        ),
        quality.backlog(config, counts.pending if counts else 0, ledger.oldest_pending(config.table), now),
    ]


def ledger_results(config: TableConfig, runtime: Runtime, now: datetime) -> list[dg.AssetCheckResult]:
    """All that can be said of a table without asking either system."""
    return [feed_answer(config, runtime, now), *backlog_results(config, runtime, now)]


def drift_checks(config: TableConfig, runtime: Runtime) -> dg.AssetChecksDefinition:
    """Reads a sample back from Campaign, which costs engine calls; scheduled daily by definitions.py."""

    @dg.multi_asset_check(
        name=f"{_DRIFT}{config.table}",
        specs=_specs(config, (quality.AGREES, quality.TWICE_CHECK)),
        can_subset=True,
    )
    def compare(context: dg.AssetCheckExecutionContext) -> Iterator[dg.AssetCheckResult]:
        if not by_itself(context.run):
            return  # Dagster adds an asset's checks to each run of it; a sample with each would cost too much
        found = _drift(config, runtime)
        if isinstance(found, str):
            raise dg.Failure(found, allow_retries=False)
        results = [
            quality.agreement(config, found),
            quality.one_record_each(config, found, runtime.ledger.reject_reasons(config.table)),
        ]
        yield from wanted(context, results)

    return compare


def wanted(
    context: dg.AssetCheckExecutionContext, results: Sequence[dg.AssetCheckResult]
) -> Iterator[dg.AssetCheckResult]:
    """Those that the run selects."""
    names = {key.name for key in context.selected_asset_check_keys}
    yield from (result for result in results if result.check_name in names)


def by_itself(run: dg.DagsterRun) -> bool:
    """Whether a run does nothing but compare, records or opt-outs."""
    steps = run.step_keys_to_execute or ()
    return not run.asset_selection and all(step.startswith((_DRIFT, PARITY)) for step in steps)


def _drift(config: TableConfig, runtime: Runtime) -> Drift | str:
    """What the sample showed, or in our own words why there is none: another's words may quote a record."""
    try:
        return interruptible.run(drift(runtime, config))
    except Exception as error:  # noqa: BLE001
        return in_our_words(error, "comparison")


def _specs(config: TableConfig, names: Sequence[str]) -> list[dg.AssetCheckSpec]:
    return [dg.AssetCheckSpec(name, asset=campaign_key(config), description=quality.TEXTS[name]) for name in names]


def feed_answer(config: TableConfig, runtime: Runtime, now: datetime) -> dg.AssetCheckResult:
    """Is the feed polled, or is the table in maintenance? That holds the check for a day: then it was forgotten."""
    since = runtime.ledger.in_maintenance().get(config.table)
    if since is None:
        return feed_result(config, runtime.ledger.feed(config.table), now)
    return dg.AssetCheckResult(
        passed=now - since < FORGOTTEN,
        asset_key=d365_key(config),
        check_name=POLLED_CHECK,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"Not polled, on purpose. {InMaintenance(config.table, since)}",
    )


def feed_result(config: TableConfig, feed: Feed | None, now: datetime) -> dg.AssetCheckResult:
    """The check's answer for a feed position. Pure."""
    if feed is None:
        passed, text = False, f"{config.table} has never been captured. Start the sensor d365_changes."
    elif now - feed.polled_at > SILENT_AFTER:
        passed = False
        text = (
            f"Not polled since {feed.polled_at:%Y-%m-%d %H:%M:%S} UTC: changes since then are not known. "
            "Start the sensor d365_changes, or look at its last tick."
        )
    else:
        news = "complete" if feed.complete else "the first read is not finished yet"
        passed = True
        text = f"Polled at {feed.polled_at:%Y-%m-%d %H:%M:%S} UTC, nothing new is waiting; {news}."
    metadata: dict[str, dg.MetadataValue | float | bool] = {}
    if feed:
        metadata = {
            "polled_at": dg.MetadataValue.timestamp(feed.polled_at),
            "seconds_since_poll": round((now - feed.polled_at).total_seconds(), 1),
            "position_saved_at": dg.MetadataValue.timestamp(feed.saved_at),
            "complete": feed.complete,
        }
    return dg.AssetCheckResult(
        passed=passed,
        asset_key=d365_key(config),
        check_name=POLLED_CHECK,
        description=text,
        metadata=metadata,
    )
