"""Readiness of a table: all findings of its set-up, asked of both systems. Makes no engine call."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace

from sync_assets.campaign.metadata import Resource
from sync_assets.config.models import TableConfig
from sync_assets.errors import SyncAssetsError
from sync_assets.push.target import carried
from sync_assets.runtime import interruptible
from sync_assets.runtime.context import Runtime
from sync_assets.validation import guardrails
from sync_assets.validation.findings import Finding, Side
from sync_assets.validation.preflight import (
    NotReady,
    Ready,
    campaign_findings,
    findings_of,
    preflight,
    tracking_finding,
)
from sync_assets.validation.schema_drift import type_findings, types_of

ANSWERS = "system_answers"
"""The part of a set-up that fails while a system cannot be asked."""


def readiness(runtime: Runtime, config: TableConfig) -> list[Finding]:
    """Ask both systems for a table's set-up. Makes no engine call. A system that cannot be asked is a finding as well.

    Returns:
        Findings of both sides; a side whose answer would need the other one, which does not answer, has fewer.

    Raises:
        LedgerError: The ledger cannot be used.
    """
    findings, ready = interruptible.run(_asked(runtime, config))
    contacts = guardrails.contacts(runtime, config, reading=ready is not None)
    findings = [*findings, *guardrails.within_limits(runtime.config, config, contacts)]
    return [*findings, types_note(ready), *campaign_notes(runtime, config, ready.resource)] if ready else findings


async def set_up(runtime: Runtime, config: TableConfig) -> Ready:
    """Read a table's set-up from both systems. Its findings tell of changed types, too, which may fail.

    Raises:
        NotReady: Another part of the set-up fails.
        SyncAssetsError: A system cannot be asked.
    """
    async with runtime.d365() as d365, runtime.campaign() as campaign:
        wanted = carried(runtime.config, config.table)
        ready = await preflight(config, d365, campaign, runtime.config.targets, wanted)
    known = await asyncio.to_thread(lambda: runtime.ledger.known_types(config.table))
    return replace(ready, findings=[*ready.findings, *type_findings(config, known, types_of(ready.mapping))])


def types_note(ready: Ready) -> Finding:
    """Which columns travel as texts. For `doctor` that is a warning; a check that never holds would hide others."""
    return replace(guardrails.supported_types(ready.mapping), passed=True)


def campaign_notes(runtime: Runtime, config: TableConfig, resource: Resource) -> list[Finding]:
    """The same of Campaign's side, which a push knows by itself."""
    return [
        guardrails.check_personal_data(runtime, config, resource),
        guardrails.engine_budget(runtime, config),
    ]


def causes(runtime: Runtime, config: TableConfig, error: SyncAssetsError, side: Side) -> list[Finding]:
    """Why a table's work on one side could not be done: findings of both sides, of which at least one fails.

    An error that names no part of the set-up may come from either system: both are asked again, each by itself.
    """
    findings = findings_of(error)
    missing = {"d365", "campaign"} - {one.side for one in findings}
    if missing:
        with suppress(Exception):  # the same error may come again; the line after next reports the first one
            findings = [*findings, *(one for one in readiness(runtime, config) if one.side in missing)]
    failing = {one.side for one in findings if one.blocks and not one.passed}
    return findings if failing and (side == "d365" or side in failing) else [*findings, failure(side, error)]


def failure(side: Side, error: SyncAssetsError) -> Finding:
    """An error as a finding."""
    return Finding(ANSWERS, False, str(error), at=side)


async def _asked(runtime: Runtime, config: TableConfig) -> tuple[list[Finding], Ready | None]:
    try:
        ready = await set_up(runtime, config)
        return ready.findings, ready
    except NotReady as error:
        return error.findings, None
    except SyncAssetsError:
        sides = await asyncio.gather(
            _answers("d365", lambda: _d365(runtime, config)), _answers("campaign", lambda: _campaign(runtime, config))
        )
        return [finding for found in sides for finding in found], None


async def _answers(side: Side, ask: Callable[[], Awaitable[list[Finding]]]) -> list[Finding]:
    try:
        return await ask()
    except SyncAssetsError as error:
        return findings_of(error) or [failure(side, error)]


async def _d365(runtime: Runtime, config: TableConfig) -> list[Finding]:
    async with runtime.d365() as d365:
        return [tracking_finding(await d365.table(config.table, None))]


async def _campaign(runtime: Runtime, config: TableConfig) -> list[Finding]:
    async with runtime.campaign() as campaign:
        return campaign_findings(config, await campaign.resource(config.api, config.resource))
