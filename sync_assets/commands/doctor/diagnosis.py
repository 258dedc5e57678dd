"""`doctor`: check the whole set-up. One line for each check: ok, warn or fail, with the remedy.

Here: configuration, environment, ledger, guardrails, and each table's preflight; the checks of each system are in the
modules beside this one. Checks run concurrently where possible. Writes nothing to either system. Makes one engine call
for each table, a read, and up to three more before its first load; the lines include these numbers.
"""

from __future__ import annotations

import asyncio
import uuid
from contextlib import suppress
from dataclasses import KW_ONLY, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from sync_assets.campaign.addressing import Addressing
from sync_assets.campaign.client import SILENCE, BudgetSpent, CallCounter, CampaignClient
from sync_assets.campaign.dialect import ResponseOutcome
from sync_assets.campaign.records import counted as counting
from sync_assets.commands.doctor.dynamics import clock_lines, credential_lines, dynamics, position, privilege_lines
from sync_assets.commands.doctor.export_sample import examine_sample, show_sample
from sync_assets.commands.doctor.line import Line, failed
from sync_assets.commands.doctor.setup import (
    campaign_lines,
    certification_lines,
    environment_lines,
    ledger_lines,
    setup_lines,
    sftp_lines,
    variable_lines,
)
from sync_assets.commands.doctor.volume import existing_lines, volume_lines
from sync_assets.commands.status import refused_attributes, refused_updates
from sync_assets.commands.terminal import Json, end, open_runtime, print_document, print_line
from sync_assets.config.models import TableConfig
from sync_assets.config.values import CONTACT
from sync_assets.config.variables import SettingsError
from sync_assets.dataverse.client import DataverseClient
from sync_assets.errors import SyncAssetsError
from sync_assets.http.redaction import redact
from sync_assets.ledger import LedgerError
from sync_assets.plurals import counted
from sync_assets.push.target import Target
from sync_assets.runtime import interruptible
from sync_assets.runtime.context import Runtime
from sync_assets.runtime.heartbeat import REMEDY, killed_runs
from sync_assets.runtime.systems import OtherSystems, check_organisation
from sync_assets.task_group import run_together
from sync_assets.validation import guardrails
from sync_assets.validation.preflight import Finding, Ready, findings_of, preflight
from sync_assets.validation.schema_drift import findings_since_capture, types_of

SHORTEST_HORIZON_MINUTES = 3 * SILENCE / 60
"""No answer that arrives has taken more than SILENCE seconds, so none that is measured calls for a longer horizon."""

app = typer.Typer(add_completion=False)


@app.command()
def command(
    file: Annotated[
        str | None, typer.Option("--file", metavar="SAMPLE", help="Only a sample of the opt-out export: what is taken.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Check configuration, credentials, reachability, both systems' metadata and the guardrails."""
    if file is not None:
        found = examine_sample(open_runtime(), Path(file))
        print_document(found, as_json, show_sample)
        if not found["taken"]:
            end(1, "No row of the sample would be taken. Correct the export, or `opt_out.export` in the configuration.")
        return
    lines = examine(open_runtime())
    print_document({"checks": [line.document() for line in lines]}, as_json, show)
    if failed := [line.what for line in lines if line.outcome == "fail"]:
        end(1, f"{counted(len(failed), 'check')} failed: {', '.join(failed)}. Correct the set-up.")


def examine(runtime: Runtime) -> list[Line]:
    """Run all checks. Never raises for a wrong set-up: that becomes a line."""
    lines: list[Line] = []
    runtime.any_ledger = True  # a ledger of other systems becomes a line, not an error
    try:
        config = runtime.config
    except SyncAssetsError as error:
        lines = failed("configuration", error)
        with suppress(SettingsError):  # already reported as `configuration`
            lines += variable_lines(runtime, ["d365", "campaign"])
        return lines
    tables = ", ".join(f"{table.table} -> {table.resource}" for table in config.tables)
    lines.append(Line("ok", "configuration", f"{runtime.settings.config} maps {tables}"))
    lines += setup_lines(runtime.settings.links()[0])
    lines += environment_lines(runtime)
    ledger = _ledger(runtime)
    lines += ledger
    counted = ledger[0].outcome == "ok"
    if counted and (foreign := _of_other_systems(runtime)):
        return lines + foreign
    lines += [*_runs(runtime), *certification_lines(runtime)] if counted else []
    lines += _guardrails(runtime, counted=counted)
    lines += _alerts(runtime)
    if not any(line.outcome == "fail" and line.what == "environment" for line in lines):
        lines += credential_lines(runtime.settings.d365().credential)
        lines += interruptible.run(_systems(runtime, counted=counted))
    return lines


def _ledger(runtime: Runtime) -> list[Line]:
    try:
        counts = runtime.ledger.reports.counts()
    except SyncAssetsError as error:
        return failed("ledger", error)
    if runtime.no_ledger:
        return [Line("ok", "ledger", runtime.no_ledger.rstrip("."))]
    known = sum(c.records for c in counts.values())
    return [Line("ok", "ledger", f"open, {counted(known, 'record')} known"), *ledger_lines(runtime)]


def _runs(runtime: Runtime) -> list[Line]:
    """Return a warning if a run counts as started although its process was killed."""
    if killed := killed_runs(runtime.ledger):
        return [Line("warn", "runs", f"{' '.join(map(str, killed))} {REMEDY}")]
    return [Line("ok", "runs", "no run was killed")]


def _of_other_systems(runtime: Runtime) -> list[Line]:
    """Return lines if the ledger belongs to other systems, by their addresses; then neither system is contacted."""
    try:
        runtime.check_addresses(runtime.ledger)
    except OtherSystems as error:
        return failed("systems of the ledger", error)
    return []


async def _organisation(runtime: Runtime, d365: DataverseClient) -> list[Line]:
    """Check that the organisation is the ledger's. A ledger without one takes it over with the first sync."""
    known = (await asyncio.to_thread(runtime.ledger.systems.stored)).get("d365")
    try:
        if known:
            await asyncio.to_thread(check_organisation, runtime.ledger, d365.url, await d365.organization_id())
    except OtherSystems as error:
        return failed("systems of the ledger", error)
    told = "none yet: the first sync stores the addresses of both systems"
    if known:
        told = f"those of the environment, since {known.noted_at:%Y-%m-%d}"
    return [Line("ok", "systems of the ledger", told)]


def _guardrails(runtime: Runtime, *, counted: bool) -> list[Line]:
    """Return the guardrails of the configuration and the ledger. `counted`: True if the ledger is usable."""
    config = runtime.config
    contacts = guardrails.known_contacts(runtime) if counted else None
    mapped = f"tables: {len(config.tables)}, each to a resource of its own"
    lines = [Line("ok", "one table to one resource", mapped)]  # another configuration is refused at load
    for number, table in enumerate(config.tables):
        findings = guardrails.within_limits(config, table, contacts)
        lines += [
            _line(table, finding) for finding in findings if not number or finding.check != guardrails.OF_THE_WHOLE
        ]
    if deleting := ", ".join(table.table for table in config.tables if table.apply_deletes):
        lines.append(Line("warn", f"{deleting}: the order of a privacy delete", guardrails.PRIVACY_ORDER))
    if (minutes := config.guardrails.horizon_minutes) < SHORTEST_HORIZON_MINUTES:
        message = (
            f"guardrails.horizon_minutes is {minutes:g}; Campaign has {SILENCE:.0f} s for an answer, and "
            f"a request may take effect later. Set at least {SHORTEST_HORIZON_MINUTES:g}; the default is 15"
        )
        lines.append(Line("warn", "horizon of requests without an answer", message))
    return lines


def _alerts(runtime: Runtime) -> list[Line]:
    """Check the alert channels. Sends nothing: `sync-assets alerts --test` does that."""
    from sync_assets.alerts.channels import channels  # noqa: PLC0415

    names = channels(runtime.config.alerts)
    if not names:
        told = "none is configured, so failures are shown in the UI only. Add `alerts` to the configuration"
        return [Line("warn", "alerts", told)]
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
    """Return the guardrails that need both systems."""
    lines: list[Line] = []
    if config.table == CONTACT:
        told = await guardrails.count_contacts(runtime.config, d365)
        if told is not None:
            counted = guardrails.within_limits(runtime.config, config, told)[0]
            lines.append(replace(_line(config, counted), what="contact: contacts as Dynamics 365 counts them"))
    types = guardrails.supported_types(ready.mapping)
    if types.passed:
        lines.append(_line(config, types))
    lines += [Line("warn", config.table, warning) for warning in ready.mapping.warnings]  # includes unsupported types
    resources = await guardrails.resources_on_the_way(runtime.config, campaign, ready.resource)
    lines.append(_line(config, guardrails.personal_data(runtime.config, config, resources)))
    return lines


async def _systems(runtime: Runtime, *, counted: bool) -> list[Line]:
    """Run the checks of both systems and of the SFTP concurrently. `counted`: True if the ledger is usable."""
    systems, sftp = await run_together(_both(runtime, counted=counted), asyncio.to_thread(sftp_lines, runtime))
    return [*systems, *sftp]


async def _both(runtime: Runtime, *, counted: bool) -> list[Line]:
    lines: list[Line] = []
    try:
        async with runtime.d365() as d365, runtime.campaign() as campaign:
            about, signed_in = await run_together(dynamics(d365), campaign_lines(runtime.config, campaign))
            lines += [*about.lines, *signed_in]
            if about.user is None or signed_in[0].outcome == "fail":
                return lines
            if counted:
                lines += (belongs := await _organisation(runtime, d365))
                if belongs[0].outcome == "fail":
                    return lines
            asked = [
                _TableChecks(runtime, config, d365, campaign, about.user, about.days, counted=counted)
                for config in runtime.config.tables
            ]
            told, (clock, opt_outs) = await run_together(
                run_together(*(one.lines() for one in asked)),
                run_together(clock_lines(d365), _opt_outs(runtime, d365, campaign)),
            )
            lines += clock
            lines += [line for of_a_table in told for line in of_a_table]
            broken = {str(one.ledger_error): one.ledger_error for one in asked if one.ledger_error}
            lines += [line for error in broken.values() for line in failed("ledger in use", error)]
            fit = [(one.config, one.ready.table, one.addressing) for one in asked if one.ready]
            counts = runtime.ledger.reports.counts() if counted else {}
            synced = {name: count.synced for name, count in counts.items()}
            lines += await volume_lines(fit, d365, synced, runtime.config.guardrails.engine_calls_per_day)
            lines += opt_outs
    except SyncAssetsError as error:
        lines += failed("connections", error)
    return lines


async def _opt_outs(runtime: Runtime, d365: DataverseClient, campaign: CampaignClient) -> list[Line]:
    if not runtime.config.opt_out.active:
        return []
    from sync_assets.commands.doctor.opt_outs import opt_out_lines  # paramiko  # noqa: PLC0415

    return await opt_out_lines(runtime, d365, campaign)


@dataclass
class _TableChecks:
    """The checks of one table.

    Attributes:
        user: our user's id in Dynamics 365.
        days: its change tracking window.
        counted: True if the ledger is usable.
        ready: set once the table has passed its preflight.
    """

    runtime: Runtime
    config: TableConfig
    d365: DataverseClient
    campaign: CampaignClient
    user: str
    days: int | None
    _: KW_ONLY
    counted: bool
    ready: Ready | None = None
    ledger_error: LedgerError | None = None
    """The ledger error that ended the checks; the same for every table, so it is reported once, outside the tables'
    lines.
    """

    @property
    def addressing(self) -> Addressing:
        """Return how Campaign's records are addressed, by the ledger's findings if it is usable."""
        found = self.runtime.ledger.dialect.found(self.config.resource) if self.counted else {}
        return Target.of(self.config).addressing(found)

    async def lines(self) -> list[Line]:
        fit, allowed = await run_together(
            self._fit(), privilege_lines(self.runtime.config, self.config, self.d365, self.user)
        )
        return [*fit, *allowed]

    async def _fit(self) -> list[Line]:
        runtime, config, lines = self.runtime, self.config, list[Line]()
        try:
            self.ready = ready = await preflight(config, self.d365, self.campaign, runtime.config.targets)
            lines += [_line(config, finding) for finding in ready.findings]
            if self.counted:
                changed = findings_since_capture(runtime.ledger, config, types_of(ready.mapping))
                lines += [_line(config, finding) for finding in changed]
            told = await run_together(
                self._identified(ready),
                _table_guardrails(runtime, config, ready, self.d365, self.campaign),
            )
            lines += [line for part in told for line in part]
            if self.counted:
                lines += position(config.table, runtime.ledger.feeds.feed(config.table), self.days)
                lines.append(_line(config, guardrails.engine_budget(runtime, config, self.addressing)))
                if left_out := refused_attributes(runtime, config):
                    lines.append(Line("warn", f"{config.table}: updates", refused_updates(config.table, left_out)))
        except LedgerError as error:
            self.ledger_error = error
        except SyncAssetsError as error:
            findings = findings_of(error)
            lines += [_line(config, finding) for finding in findings] or failed(config.table, error)
        return lines

    async def _identified(self, ready: Ready) -> list[Line]:
        """Check that records are found: by the filter in the metadata, and by a look-up.

        The look-up is left out if the ledger cannot count the call.
        """
        lines, given = list[Line](), self.config.filter
        if given and ready.resource.filters:  # metadata without any filter may simply not list them
            what = f"{self.config.table}: filter {given.name}"
            if given.name not in ready.resource.filters:
                known = ", ".join(ready.resource.filters)
                told = f"{self.config.resource} has no such filter published (it has {known}). Define it with "
                told += f'"switch to parameters" on {self.config.key} and publish, or correct `filter`'
                return [Line("fail", what, told)]
            lines.append(Line("ok", what, "published"))
        if self.counted:
            lines.append(await _key(self.runtime, self.config, self.campaign))
            lines += await existing_lines(self.runtime, self.config, self.campaign, ready.resource)
        return lines


def _line(config: TableConfig, finding: Finding) -> Line:
    outcome = "ok" if finding.passed else "fail" if finding.blocks else "warn"
    return Line(outcome, f"{config.table}: {finding.check.replace('_', ' ')}", finding.message)


async def _key(runtime: Runtime, config: TableConfig, campaign: CampaignClient) -> Line:
    """Look up a record by its key: an acknowledged one, or else a random id that no record has.

    A key that identifies nothing does not find the first. The second proves nothing, unless Campaign's error is another
    than missing (docs/dev/references/campaign.md 5). Costs one engine call, the read.
    """
    target = Target.of(config)
    what = f"{config.table}: records are found by {config.key}"
    held = runtime.ledger.reports.one_acknowledged(config.table)
    calls = CallCounter()
    records = target.records(campaign, runtime.ledger.dialect.found(target.resource), counting(calls))
    try:
        found = await records.find(held or str(uuid.uuid4()))
    except BudgetSpent as spent:
        return Line("warn", what, f"not asked: {spent.cause}")
    cost = f"(asked with {counted(calls.total, 'engine call')})"
    await runtime.count_calls(config.table, calls.take())
    if held and not isinstance(found, ResponseOutcome):
        return Line("ok", what, f"Campaign found one that was sent {cost}")
    if not held and isinstance(found, ResponseOutcome) and found.kind == "missing":
        if records.addressing.key_is_proven:
            return Line("ok", what, f"Campaign found one that was sent {cost}")
        told = "not verified: no record was sent yet. The first sync sends one alone, and others once it is found by"
        return Line("warn", what, f"{told} {config.key} {cost}")
    told = (
        redact(found.reason, None) if isinstance(found, ResponseOutcome) else "it found a record that cannot be there"
    )
    remedy = f"Make {config.key} an identification key of {config.resource} and publish."
    return Line("fail", what, f"{told}. {remedy} {cost}")


def show(document: dict[str, Any]) -> None:
    styles = {"ok": "green", "warn": "yellow", "fail": "bold red"}
    for line in document["checks"]:
        print_line(Text(f"{line['outcome']:<4} ", styles[line["outcome"]]), end="")
        print_line(f"{line['what']}: {line['message']}")
