"""Tables of which nothing has to be captured or sent: no run of them is needed.

A run costs seconds and a database of its own, a poll one request; `sync` from cron would make thousands of them a day.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from sync_assets.capture.feed_polling import FeedPoller
from sync_assets.config.models import TableConfig
from sync_assets.errors import SyncAssetsError
from sync_assets.operations.readiness import set_up
from sync_assets.runtime import interruptible
from sync_assets.runtime.context import Runtime
from sync_assets.validation import guardrails

CONFIRM = timedelta(hours=1)
"""How often a quiet table's partition of today is confirmed, so that its freshness policy sees the polling."""


def quiet_tables(runtime: Runtime, tables: Sequence[TableConfig]) -> set[str]:
    """Find the tables whose feed has no news, of which nothing is pending, and whose mapping is as it was.

    Whatever cannot be asked is not quiet: a run of it shows what is wrong. Makes no engine call.
    """
    try:
        return interruptible.run(_quiet(runtime, tables))
    except Exception:  # noqa: BLE001  whatever is wrong, the run tells it in our own words
        return set()


async def _quiet(runtime: Runtime, tables: Sequence[TableConfig]) -> set[str]:
    settled = [config for config in tables if await asyncio.to_thread(_nothing_is_left, runtime, config)]
    if not settled:
        return set()
    as_before = await asyncio.gather(*(_is_as_before(runtime, config) for config in settled))
    same = [config for config, is_same in zip(settled, as_before, strict=True) if is_same]
    if not same:
        return set()
    watcher = FeedPoller(runtime)
    try:
        polled = await asyncio.to_thread(watcher.poll, same)
    finally:
        await asyncio.to_thread(watcher.close)
    return {config.table for config in same} - polled.news - polled.refused.keys()


def _nothing_is_left(runtime: Runtime, config: TableConfig) -> bool:
    """By the ledger: the table was read to its end, captured within the hour, nothing is pending, the limits are
    kept."""
    ledger = runtime.ledger
    confirmed = ledger.confirmed_at(config.table)
    if confirmed is None or datetime.now(UTC) - confirmed > CONFIRM:
        return False
    feed, counts = ledger.feed(config.table), ledger.counts().get(config.table)
    limits = guardrails.within_limits(runtime.config, config, guardrails.known_contacts(runtime))
    kept = all(finding.passed for finding in limits)
    return feed is not None and feed.complete and not (counts and counts.pending) and kept


async def _is_as_before(runtime: Runtime, config: TableConfig) -> bool:
    """Is the set-up right, and would each row be mapped as it was?"""
    try:
        ready = await set_up(runtime, config)
    except SyncAssetsError:
        return False
    feed = await asyncio.to_thread(runtime.ledger.feed, config.table)
    right = all(finding.passed for finding in ready.findings)
    return right and feed is not None and feed.fingerprint == ready.mapping.fingerprint
