"""`doctor`: is everything in place? A line for each question: ok, warn or fail, with what to do.

Asks as few things as it can: configuration, environment, ledger, sign-in on both sides, each table's preflight.
Writes nothing to either system.
"""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import replace

from sync_assets.campaign.client import CampaignClient
from sync_assets.campaign.dialect import Verdict, redact
from sync_assets.campaign.records import Records
from sync_assets.config import TableConfig
from sync_assets.d365.client import DataverseClient
from sync_assets.errors import SyncAssetsError
from sync_assets.ingress import guardrails
from sync_assets.ingress.data_model import type_findings, types_of
from sync_assets.ingress.preflight import Finding, Ready, findings_of, preflight
from sync_assets.ingress.target import Target
from sync_assets.operations.line import Line, failed
from sync_assets.opt_out.names import active
from sync_assets.runtime import Runtime
from sync_assets.settings import SettingsError

SHORT_WINDOW_DAYS = 7


def examine(runtime: Runtime) -> list[Line]:
    """All answers. Never raises for what is wrong with the set-up: that is a line."""
    lines: list[Line] = []
    try:
        config = runtime.config
    except SyncAssetsError as error:
        return failed("configuration", error)
    tables = ", ".join(f"{table.table} -> {table.resource}" for table in config.tables)
    lines.append(Line("ok", "configuration", f"{runtime.settings.config} maps {tables}"))
    lines += _environment(runtime)
    ledger = _ledger(runtime)
    lines += ledger
    lines += _guardrails(runtime, counted=ledger[0].outcome == "ok")
    lines += _alerts(runtime)
    if not any(line.outcome == "fail" and line.what == "environment" for line in lines):
        lines += asyncio.run(_systems(runtime))
        if config.logs.export:
            from sync_assets.operations.log_export import log_lines  # noqa: PLC0415

            lines += log_lines(runtime)
    return lines


def _environment(runtime: Runtime) -> list[Line]:
    problems: list[str] = []
    needed = [runtime.settings.d365, runtime.settings.campaign]
    if runtime.config.opt_out.direction in ("campaign_to_d365", "bidirectional") or runtime.config.logs.export:
        needed.append(runtime.settings.sftp)  # type: ignore[arg-type]
    for settings in needed:
        try:
            settings()
        except SettingsError as error:
            problems += error.problems
    if problems:
        return [Line("fail", "environment", problem) for problem in problems]
    return [Line("ok", "environment", "all variables are set")]


def _ledger(runtime: Runtime) -> list[Line]:
    try:
        counts = runtime.ledger.counts()
    except SyncAssetsError as error:
        return failed("ledger", error)
    known = sum(c.pending + c.waiting + c.failed + c.held + c.synced for c in counts.values())
    return [Line("ok", "ledger", f"open, {known:,} records known")]


def _guardrails(runtime: Runtime, *, counted: bool) -> list[Line]:
    """What the configuration and the ledger tell; `counted`: whether the ledger can be asked."""
    config = runtime.config
    contacts = guardrails.known_contacts(runtime) if counted else None
    mapped = f"tables: {len(config.tables)}, each to a resource of its own"
    lines = [Line("ok", "one table to one resource", mapped)]  # another configuration is refused at load
    for number, table in enumerate(config.tables):
        findings = guardrails.within_limits(config, table, contacts)
        lines += [
            _line(table, finding) for finding in findings if not number or finding.check != guardrails.OF_THE_WHOLE
        ]
        if table.apply_deletes:
            lines.append(Line("warn", f"{table.table}: the order of a privacy delete", guardrails.PRIVACY_ORDER))
    return lines


def _alerts(runtime: Runtime) -> list[Line]:
    """Nothing is sent: `sync-assets alerts --test` does that."""
    from sync_assets.alerts.senders import channels  # noqa: PLC0415

    names = channels(runtime.config.alerts)
    if not names:
        return [Line("ok", "alerts", "nobody is told of trouble: there is no `alerts` in the configuration")]
    try:
        address = runtime.settings.alerts().webhook
    except SettingsError as error:
        return failed("alerts", error)
    if "webhook" in names and address is None:
        return [Line("fail", "alerts", "SYNC_ASSETS_ALERT_WEBHOOK is not set. Set it in the environment.")]
    return [Line("ok", "alerts", f"{' and '.join(names)}; `sync-assets alerts --test` sends a test notice")]


async def _table_guardrails(
    runtime: Runtime, config: TableConfig, ready: Ready, d365: DataverseClient, campaign: CampaignClient
) -> list[Line]:
    """What it takes both systems to tell."""
    lines: list[Line] = []
    if config.table == guardrails.CONTACT:
        told = await guardrails.told_contacts(runtime.config, d365)
        if told is not None:
            counted = guardrails.within_limits(runtime.config, config, told)[0]
            lines.append(replace(_line(config, counted), what="contact: contacts as Dynamics 365 counts them"))
    types = guardrails.supported_types(ready.mapping)
    if types.passed:
        lines.append(_line(config, types))
    lines += [Line("warn", config.table, warning) for warning in ready.mapping.warnings]  # each type by itself, too
    resources = await guardrails.resources_on_the_way(runtime.config, campaign, ready.resource)
    lines.append(_line(config, guardrails.personal_data(runtime.config, config, resources)))
    lines.append(_line(config, guardrails.engine_budget(runtime, config)))
    return lines


async def _systems(runtime: Runtime) -> list[Line]:
    lines: list[Line] = []
    try:
        async with runtime.d365() as d365, runtime.campaign() as campaign:
            lines += await _dynamics(d365)
            try:
                await campaign.endpoint.sign_in()
                lines.append(Line("ok", "Campaign", "signed in"))
            except SyncAssetsError as error:
                lines += failed("Campaign", error)
            if any(line.outcome == "fail" for line in lines):
                return lines
            for config in runtime.config.tables:
                try:
                    ready = await preflight(config, d365, campaign, runtime.config.targets)
                    types = type_findings(config, runtime.ledger.known_types(config.table), types_of(ready.mapping))
                    lines += [_line(config, finding) for finding in (*ready.findings, *types)]
                    lines.append(await _key(runtime, config, campaign))
                    lines += await _table_guardrails(runtime, config, ready, d365, campaign)
                except SyncAssetsError as error:
                    findings = findings_of(error)
                    lines += [_line(config, finding) for finding in findings] or failed(config.table, error)
            if active(runtime.config):
                from sync_assets.operations.doctor_opt_outs import opt_out_lines  # paramiko  # noqa: PLC0415

                lines += await opt_out_lines(runtime, d365, campaign)
    except SyncAssetsError as error:
        lines += failed("connections", error)
    return lines


def _line(config: TableConfig, finding: Finding) -> Line:
    outcome = "ok" if finding.passed else "fail" if finding.blocks else "warn"
    return Line(outcome, f"{config.table}: {finding.check.replace('_', ' ')}", finding.message)


async def _key(runtime: Runtime, config: TableConfig, campaign: CampaignClient) -> Line:
    """Asks Campaign for a record that it holds, as the ledger knows, or else for one that nobody has: by a key that
    identifies nothing the first is not found, and the second is an error and not just missing
    (campaign-standard-api.md section 5). Costs one engine call, the read."""
    target = Target.of(config)
    what = f"{config.table}: records are found by {config.key}"
    held = runtime.ledger.one_acknowledged(config.table)
    records = Records(campaign, target.api, target.resource, target.key, target.filter)
    found = await records.find(held or str(uuid.uuid4()))
    runtime.ledger.count_calls({(config.table, kind): count for kind, count in campaign.calls.take().items()})
    if held and not isinstance(found, Verdict):
        return Line("ok", what, "Campaign found one that was sent")
    if not held and isinstance(found, Verdict) and found.kind == "missing":
        return Line("ok", what, "Campaign takes it for a key; ask again after the first sync to be sure")
    told = redact(found.reason, None) if isinstance(found, Verdict) else "it found a record that cannot be there"
    return Line("fail", what, f"{told}. Make {config.key} an identification key of {config.resource} and publish.")


async def _dynamics(client: DataverseClient) -> list[Line]:
    try:
        user = await client.who_am_i()
        lines = [Line("ok", "Dynamics 365", f"signed in, application user {user}")]
        days = await client.change_tracking_days()
    except SyncAssetsError as error:
        return failed("Dynamics 365", error)
    if days is not None:
        lines.append(
            Line(
                "warn" if days < SHORT_WINDOW_DAYS else "ok",
                "change tracking window",
                f"positions in the change feed stay good for {days} days: a longer standstill costs a full read",
            )
        )
    return lines
