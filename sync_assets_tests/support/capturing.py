"""Create a capture of a configuration's first table, against the sandbox and without Dagster."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from sync_assets.capture.table_capture import Capture
from sync_assets.runtime.context import Runtime
from sync_assets.validation.preflight import preflight
from sync_assets_tests.support.ledgers import session_of


@asynccontextmanager
async def capturing(runtime: Runtime, owner: str = "worker", **options: Any) -> AsyncIterator[Capture]:
    """Yield the capture, after the preflight. options: of Capture."""
    async with runtime.d365() as d365, runtime.campaign() as campaign:
        ready = await preflight(runtime.config.tables[0], d365, campaign)
        yield Capture(runtime.ledger, d365, ready.table, ready.mapping, session_of(runtime.ledger, owner), **options)
