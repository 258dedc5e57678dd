"""Check the set-up of a table in both systems, and return the findings. Makes no engine call.

Here: which findings a table has, also if a system does not answer. The rules of single findings are in
`sync_assets.validation`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace

from sync_assets.campaign.metadata import Resource
from sync_assets.config.models import TableConfig
from sync_assets.errors import EndsAllTables, SyncAssetsError
from sync_assets.push.target import Target, captured_opt_outs
from sync_assets.runtime import interruptible
from sync_assets.runtime.context import Runtime
from sync_assets.task_group import run_together
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
from sync_assets.validation.schema_drift import findings_since_capture, types_of

ANSWERS = "system_answers"
"""Name of the finding that fails while a system does not answer."""


def readiness(runtime: Runtime, config: TableConfig) -> list[Finding]:
    """Check a table's set-up in both systems. Makes no engine call. A system that does not answer is a finding as well.

    Returns:
        Findings of both sides. If one side does not answer, the other side lacks findings that need both.

    Raises:
        LedgerError: The ledger cannot be used.
    """
    findings, ready = interruptible.run(_check_both(runtime, config))
    contacts = guardrails.contacts(runtime, config, reading=ready is not None)
    findings = [*findings, *guardrails.within_limits(runtime.config, config, contacts)]
    return [*findings, types_note(ready), *campaign_notes(runtime, config, ready.resource)] if ready else findings


async def set_up(runtime: Runtime, config: TableConfig) -> Ready:
    """Read a table's set-up from both systems. Its findings include changed types, which may fail.

    Raises:
        NotReady: Another part of the set-up fails.
        SyncAssetsError: A system does not answer.
    """
    async with runtime.d365() as d365, runtime.campaign() as campaign:
        wanted = captured_opt_outs(runtime.config, config.table)
        ready = await preflight(config, d365, campaign, runtime.config.targets, wanted)
    types = types_of(ready.mapping)
    changed = await asyncio.to_thread(lambda: findings_since_capture(runtime.ledger, config, types))
    return replace(ready, findings=[*ready.findings, *changed])


def types_note(ready: Ready) -> Finding:
    """Return the finding about columns that are sent as text, marked as passed.

    `doctor` warns about it; in a check it would fail for good, and hide other findings.
    """
    return replace(guardrails.supported_types(ready.mapping), passed=True)


def campaign_notes(runtime: Runtime, config: TableConfig, resource: Resource) -> list[Finding]:
    """Return the findings about personal data and the engine budget, which a push can compute from its own data."""
    return [
        guardrails.check_personal_data(runtime, config, resource),
        guardrails.engine_budget(
            runtime, config, Target.of(config).addressing(runtime.ledger.dialect.found(config.resource))
        ),
    ]


def causes(runtime: Runtime, config: TableConfig, error: SyncAssetsError, side: Side) -> list[Finding]:
    """Return the findings that explain why work on one side failed: of both sides, at least one of them failing.

    An error without findings may come from either system, so both are checked again, each by itself.

    Args:
        runtime: Provides clients and ledger.
        config: The mapped table.
        error: That ended the work.
        side: Of the work.
    """
    if isinstance(error, EndsAllTables):  # to ask again would take as long
        return [failure("campaign", error)]
    findings = findings_of(error)
    missing = {"d365", "campaign"} - {one.side for one in findings}
    if missing:
        with suppress(Exception):  # the same error may occur again; the first one is reported below
            findings = [*findings, *(one for one in readiness(runtime, config) if one.side in missing)]
    failing = {one.side for one in findings if one.stops}
    return findings if failing and (side == "d365" or side in failing) else [*findings, failure(side, error)]


def failure(side: Side, error: SyncAssetsError) -> Finding:
    """Return an error as a failed finding of one side."""
    return Finding(ANSWERS, False, str(error), at=side)


async def _check_both(runtime: Runtime, config: TableConfig) -> tuple[list[Finding], Ready | None]:
    """Return the findings, and the set-up if it is right. If a system fails, check each system by itself."""
    try:
        ready = await set_up(runtime, config)
        return ready.findings, ready
    except NotReady as error:
        return error.findings, None
    except SyncAssetsError:
        sides = await run_together(
            _findings_or_failure("d365", lambda: _d365(runtime, config)),
            _findings_or_failure("campaign", lambda: _campaign(runtime, config)),
        )
        return [finding for found in sides for finding in found], None


async def _findings_or_failure(side: Side, ask: Callable[[], Awaitable[list[Finding]]]) -> list[Finding]:
    """Return the findings of one system; an error becomes a finding."""
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
