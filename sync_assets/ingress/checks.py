"""Asset checks that can be asked at any time, from the ledger alone: is the change feed polled?

Not here: what a run finds out about itself (assets.py).
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import dagster as dg

from sync_assets.config import TableConfig
from sync_assets.ingress.assets import d365_key
from sync_assets.ledger import Feed
from sync_assets.runtime import Runtime

POLLED_CHECK = "change_feed_is_polled"
SILENT_AFTER = timedelta(minutes=15)


def feed_check_key(config: TableConfig) -> dg.AssetCheckKey:
    return dg.AssetCheckKey(d365_key(config), POLLED_CHECK)


def feed_check(config: TableConfig, runtime: Runtime) -> dg.AssetChecksDefinition:
    """Tells "polled lately, nothing new" from "not polled". Scheduled by definitions.py."""

    @dg.asset_check(
        asset=d365_key(config),
        name=POLLED_CHECK,
        description=f"The change feed was asked within the last {SILENT_AFTER.seconds // 60} minutes.",
    )
    def change_feed_is_polled() -> dg.AssetCheckResult:
        return feed_result(config, runtime.ledger.feed(config.table), datetime.now(UTC))

    return change_feed_is_polled


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
