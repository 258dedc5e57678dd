"""Find tables with nothing to capture and nothing to send, for which `sync` need not start a run.

A run costs seconds and a SQLite database of its own in Dagster's storage, a poll costs one request. Called by cron,
`sync` would otherwise make thousands of runs a day.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime

from sync_assets.capture.feed_polling import FeedPoller
from sync_assets.checks import guardrails
from sync_assets.checks.preflight import set_up
from sync_assets.config.models import TableConfig
from sync_assets.errors import SyncAssetsError
from sync_assets.flows import CONFIRM, opt_outs_due
from sync_assets.runtime import interruptible
from sync_assets.runtime.context import Runtime
from sync_assets.task_group import run_together


def quiet_tables(runtime: Runtime, tables: Sequence[TableConfig]) -> set[str]:
    """Return the tables whose feed has no news, of which nothing is to be sent, and whose mapping is unchanged.

    A table for which this cannot be determined is not quiet: its run shows the cause. Makes no engine call.
    """
    try:
        return interruptible.run(_quiet(runtime, tables))
    except Exception:  # noqa: BLE001  the run then reports the error, without foreign text
        return set()


async def _quiet(runtime: Runtime, tables: Sequence[TableConfig]) -> set[str]:
    """Check the tables in three steps, the cheapest first: by the ledger, by their set-up, by a poll."""
    candidates = [config for config in tables if await asyncio.to_thread(_is_idle, runtime, config)]
    if not candidates:
        return set()
    as_before = await run_together(*(_is_unchanged(runtime, config) for config in candidates))
    same = [config for config, is_same in zip(candidates, as_before, strict=True) if is_same]
    if not same:
        return set()
    poller = FeedPoller(runtime)
    try:
        polled = await asyncio.to_thread(poller.poll, same)
    finally:
        await asyncio.to_thread(poller.close)
    return {config.table for config in same} - polled.news - polled.refused.keys()


def _is_idle(runtime: Runtime, config: TableConfig) -> bool:
    """Return True if, by the ledger, the table is complete, confirmed lately, within its limits, and has no backlog."""
    ledger = runtime.ledger
    confirmed = ledger.runs.confirmed_at(config.table)
    if confirmed is None or datetime.now(UTC) - confirmed > CONFIRM:
        return False
    feed, counts = ledger.feeds.feed(config.table), ledger.reports.counts().get(config.table)
    limits = guardrails.within_limits(runtime.config, config, guardrails.known_contacts(runtime))
    kept = all(finding.passed for finding in limits)
    due = ledger.reports.next_due(config.table)
    pending = (counts and counts.pending) or opt_outs_due(runtime, config)
    idle = not pending and (due is None or due > datetime.now(UTC))
    return feed is not None and feed.complete and idle and kept


async def _is_unchanged(runtime: Runtime, config: TableConfig) -> bool:
    """Return True if the set-up passes all findings, and the mapping has the fingerprint of the stored feed."""
    try:
        ready = await set_up(runtime, config)
    except SyncAssetsError:
        return False
    feed = await asyncio.to_thread(runtime.ledger.feeds.feed, config.table)
    right = not any(finding.stops for finding in ready.findings)
    return right and feed is not None and feed.fingerprint == ready.mapping.fingerprint
