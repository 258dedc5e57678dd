"""`doctor`: check the whole set-up. One line for each finding: ok, warn or fail, with the remedy.

Here: the order of the checks, and those that need more than `sync_assets.checks`. Checks run concurrently where
possible. Writes nothing to either system, but an empty file to the folder of loads by file, which it removes. Makes one
engine call for each table, a read, and up to three more before its first load; the lines include these numbers.
"""

import asyncio
import uuid
from contextlib import suppress
from dataclasses import KW_ONLY, dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.text import Text

from sync_assets.audit.certification.certification import certification_findings
from sync_assets.audit.existing_records import begun
from sync_assets.audit.record_audit import rotations
from sync_assets.audit.record_list import RecordList, pages_for
from sync_assets.campaign.addressing import Addressing
from sync_assets.campaign.client import BudgetSpent, CallCounter, CampaignClient
from sync_assets.campaign.dialect import ResponseOutcome
from sync_assets.campaign.metadata import Resource
from sync_assets.campaign.records import Records
from sync_assets.campaign.workflows import workflow_status
from sync_assets.checks import dynamics, guardrails, installation, rules
from sync_assets.checks.guardrails import volume
from sync_assets.checks.load_findings import folder_findings, workflow_findings
from sync_assets.checks.opt_out_columns import opt_out_findings, typologies
from sync_assets.checks.preflight import (
    Ready,
    findings_of,
    findings_since_capture,
    mapping_changes,
    preflight,
    types_of,
)
from sync_assets.checks.refused_attributes import updates_text
from sync_assets.checks.rules import Finding, FindingDocument, fail, ok, warn
from sync_assets.commands.export_sample import examine_sample, show_sample
from sync_assets.commands.ledger_check import REMEDY, check_ledger, show_check
from sync_assets.commands.log_export import examine_log_folder
from sync_assets.commands.status import comparison_due
from sync_assets.commands.terminal import Json, Parts, end, open_runtime, print_document
from sync_assets.config.models import Config, TableConfig
from sync_assets.config.values import CHANGED_SUFFIX, CONTACT
from sync_assets.config.variables import SettingsError
from sync_assets.dataverse.client import DataverseClient
from sync_assets.errors import SyncAssetsError
from sync_assets.http.redaction import redact
from sync_assets.ledger.errors import LedgerError
from sync_assets.runtime import interruptible
from sync_assets.runtime.call_limits import count_calls
from sync_assets.runtime.configuration import Configuration
from sync_assets.runtime.context import Runtime
from sync_assets.runtime.systems import OtherSystems
from sync_assets.task_group import run_together
from sync_assets.words import counted

NO_TIME = (
    "whether an opt-in in Campaign is later than Dynamics 365's opt-out is unknown, so an opt-out on either side stays "
    "until it is taken back on both"
)


def command(
    file: Annotated[
        str | None, typer.Option("--file", metavar="SAMPLE", help="Check only this sample of the opt-out file.")
    ] = None,
    ledger: Annotated[
        bool, typer.Option("--ledger", help="Check only that the ledger agrees with its own rules, as after a restore.")
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show the checks that passed, too.")] = False,
    as_json: Json = False,
) -> None:
    """Check configuration, credentials, metadata of both systems and guardrails, and name the remedies."""
    if file is not None:
        sample = examine_sample(open_runtime(), Path(file))
        print_document(sample, as_json, show_sample)
        if not sample.taken:
            end(1, "No row of the sample would be taken. Correct the export, or `opt_out.export` in the configuration.")
        return
    if ledger:
        runtime = open_runtime(any_ledger=True, announce=lambda _: None)
        checked = check_ledger(runtime.ledger, runtime.progress)
        print_document(checked, as_json, show_check)
        if found := checked.contradictions:
            end(2, f"The ledger contradicts its own rules in {counted(len(found), 'point')}. {REMEDY}")
        return
    findings = examine(open_runtime(any_ledger=True, announce=lambda _: None))
    document = DoctorDocument([finding.document() for finding in findings])
    print_document(document, as_json, partial(show, verbose=verbose))
    if failed := [finding.title for finding in findings if finding.stops]:
        end(1, f"{counted(len(failed), 'check')} failed: {', '.join(dict.fromkeys(failed))}. Correct the set-up.")


class DoctorDocument(msgspec.Struct, frozen=True):
    """The document of `doctor --json`."""

    checks: list[FindingDocument]


def show(document: DoctorDocument, *, verbose: bool = False) -> Parts:
    """Show what is wrong, and the number of checks that are right. verbose: show these, too."""
    styles = {"ok": "green", "warn": "yellow", "fail": "bold red"}
    right = 0
    for line in document.checks:
        right += line.outcome == "ok"
        if verbose or line.outcome != "ok":
            yield Text.assemble((f"{line.outcome:<4} ", styles[line.outcome]), f"{line.title}: {line.message}")
    if right and not verbose:
        yield Text.assemble(("ok   ", styles["ok"]), f"{counted(right, 'check')}; `sync-assets doctor -v` shows each")


def examine(runtime: Runtime) -> list[Finding]:
    """Run all checks. Never raises for a wrong set-up: that becomes a finding, as does a ledger of other systems.

    runtime: with the use `any_ledger`.
    """
    try:
        config = runtime.config
    except SyncAssetsError as error:
        findings = fail("configuration", error)
        with suppress(SettingsError):  # already reported as `configuration`
            findings += installation.variables(runtime.settings, ["d365", "campaign"])
        return findings
    findings = installation.configuration(runtime)
    can_sign_in = all(finding.passed for finding in findings)
    settings = runtime.settings
    findings += [*installation.dagster_instance(settings.instance), installation.readable_secrets(settings)]
    findings += (ledger := installation.ledger(runtime))
    counted = ledger[0].passed
    if counted:
        try:
            runtime.access.check_addresses(runtime.ledger)
        except OtherSystems as error:  # neither system is contacted
            return findings + fail("systems of the ledger", error)
        findings += [installation.runs(runtime.ledger), *certification_findings(runtime, runtime.ledger)]
        findings += [warn("opt-outs: typology rules", text) for text in typologies(config, runtime.ledger, said=False)]
    findings += installation.whole_configuration(config)
    contacts = guardrails.known_contacts(runtime.ledger) if counted else None
    for number, table in enumerate(config.tables):
        limits = guardrails.within_limits(config, table, contacts)  # that of custom entities is the same for all tables
        limits = [finding for finding in limits if not number or finding.check != rules.ENTITIES.name]
        findings += [finding.about(table.table) for finding in limits]
    findings += alerts(runtime)
    if can_sign_in:
        findings += dynamics.certificate(settings.d365().credential)
        known = runtime.ledger if counted else None
        folders = asyncio.to_thread(lambda: [*sftp(runtime), *folder_findings(runtime, known)])
        of_systems = run_together(_systems(runtime, counted=counted), folders)
        findings += [finding for part in interruptible.run(of_systems) for finding in part]
    return findings


def alerts(configuration: Configuration) -> list[Finding]:
    """Check the alert channels. Sends nothing: `sync-assets alerts --test` does that."""
    from sync_assets.alerts.channels import channels  # noqa: PLC0415

    names = channels(configuration.config.alerts)
    if not names:
        text = "none is configured, so failures are shown in the UI only. Add `alerts` to the configuration"
        return [warn("alerts", text)]
    try:
        address = configuration.settings.alerts().webhook
    except SettingsError as error:
        return fail("alerts", error)
    if "webhook" in names and address is None:
        return fail("alerts", "SYNC_ASSETS_ALERT_WEBHOOK is not set. Set it in the environment.")
    return [ok("alerts", f"{' and '.join(names)}; `sync-assets alerts --test` sends a test notice")]


# --- Both systems -----------------------------------------------------------------------------------------------------


async def _systems(runtime: Runtime, *, counted: bool) -> list[Finding]:
    """Run the checks of both systems concurrently. `counted`: True if the ledger is usable."""
    config, findings = runtime.config, list[Finding]()
    try:
        async with runtime.d365() as d365, runtime.campaign() as campaign:
            (identity, user, days), api = await run_together(
                dynamics.sign_in(d365), installation.campaign_api(config, campaign)
            )
            findings += [*identity, *api]
            if user is None or api[0].stops:
                return findings
            if counted:
                findings += (organisation := await installation.organisation(runtime.ledger, d365))
                if organisation[0].stops:
                    return findings
            tables = [
                _TableChecks(runtime, table, d365, campaign, user, days, counted=counted) for table in config.tables
            ]
            of_tables, (clock, of_opt_outs) = await run_together(
                run_together(*(table.findings() for table in tables)),
                run_together(dynamics.clock(d365), opt_outs(config, d365, campaign)),
            )
            findings += [*clock, *(finding for of_a_table in of_tables for finding in of_a_table)]
            broken = {str(table.ledger_error): table.ledger_error for table in tables if table.ledger_error}
            findings += [finding for error in broken.values() for finding in fail("ledger in use", error)]
            fit = [(table.config, table.ready.table, table.addressing) for table in tables if table.ready]
            counts = runtime.ledger.reports.counts() if counted else {}
            synced = {name: count.synced for name, count in counts.items()}
            findings += await volume(fit, d365, synced, config.guardrails.engine_calls_per_day)
            findings += of_opt_outs
            if counted:
                findings += await workflow_findings(config.bulk_load, campaign, runtime.ledger)
    except SyncAssetsError as error:
        findings += fail("connections", error)
    return findings


@dataclass
class _TableChecks:
    """The checks of one table.

    Attributes:
        user: our user's id in Dynamics 365.
        days: its change tracking window.
        counted: True if the ledger is usable.
        ready: set once the table has passed its preflight.
        ledger_error: that ended the checks; the same for every table, so it is reported once.
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

    @property
    def addressing(self) -> Addressing:
        """Return how Campaign's records are addressed, by the ledger's findings if it is usable."""
        stored = self.runtime.ledger.dialect.facts(self.config.resource) if self.counted else {}
        return Addressing.configured(self.config, stored)

    async def findings(self) -> list[Finding]:
        config, granted = self.config, dynamics.privileges(self.runtime.config, self.config, self.d365, self.user)
        set_up, privileges = await run_together(self._set_up(), granted)
        return [finding.about(config.table) for finding in (*set_up, *privileges)]

    async def _set_up(self) -> list[Finding]:
        runtime, config, findings = self.runtime, self.config, list[Finding]()
        try:
            self.ready = ready = await preflight(config, self.d365, self.campaign, runtime.config.targets)
            findings += [*ready.findings, *dynamics.merged_contacts(runtime.config, config, ready)]
            if self.counted:
                findings += findings_since_capture(runtime.ledger, config, types_of(ready.mapping))
                findings += mapping_changes(runtime.ledger, config, ready.mapping)
            identified, limits = await run_together(self._identified(ready.resource), self._guardrails(ready))
            findings += [*identified, *limits]
            if self.counted:
                findings += dynamics.position(runtime.ledger.feeds.feed(config.table), self.days)
                findings.append(guardrails.engine_budget(runtime.config.guardrails, runtime.ledger, config))
                rotation = rotations(runtime.config, runtime.ledger)[config.table]
                findings.append(ok("audit", rotation.text(config.resource)))
                if text := updates_text(runtime.config, runtime.ledger, config):
                    findings.append(warn("updates", text))
        except LedgerError as error:
            self.ledger_error = error
        except SyncAssetsError as error:
            findings += findings_of(error) or fail("the system does not answer", error)
        return findings

    async def _guardrails(self, ready: Ready) -> list[Finding]:
        """Return the guardrails that need both systems."""
        overall, config, findings = self.runtime.config, self.config, list[Finding]()
        if config.table == CONTACT:
            number = await guardrails.count_contacts(overall, self.d365)
            if number is not None:
                limits = guardrails.within_limits(overall, config, number)
                limits = [finding for finding in limits if finding.check == rules.CONTACTS.name]
                findings += [finding.about("by Dynamics 365's count") for finding in limits]
        types = guardrails.supported_types(ready.mapping)
        findings += [types] if types.passed else []
        findings += [warn("mapping", text) for text in ready.mapping.warnings]  # includes unsupported types
        resources = await guardrails.resources_on_the_way(overall, self.campaign, ready.resource)
        return [*findings, guardrails.personal_data(overall, config, resources)]

    async def _identified(self, resource: Resource) -> list[Finding]:
        """Check by a look-up that records are found; left out if the ledger cannot count the call."""
        return [await self._key(), *await self._existing(resource)] if self.counted else []

    async def _key(self) -> Finding:
        """Look up a record by its key: an acknowledged one, or else a random id that no record has.

        A key that identifies nothing does not find the first. The second proves nothing, unless Campaign's error is
        another than missing (docs/dev/references/campaign.md 5). Costs one engine call, the read.
        """
        runtime, config, calls = self.runtime, self.config, CallCounter()
        title = f"look-up by {config.key}"
        compared = runtime.ledger.rebuilds.rebuild(config.table) is None  # else Campaign may have lost the record
        acknowledged = runtime.ledger.reports.one_acknowledged(config.table) if compared else None
        records = Records(self.campaign, config, self.addressing, calls.observe)
        try:
            matches = await records.find(acknowledged or str(uuid.uuid4()))
        except BudgetSpent as error:
            return warn(title, f"not asked: {error.cause}")
        cost = f"(asked with {counted(calls.total, 'engine call')})"
        await count_calls(runtime.ledger, config.table, calls.take())
        is_missing = isinstance(matches, ResponseOutcome) and matches.kind == "missing"
        if acknowledged and not isinstance(matches, ResponseOutcome):
            return ok(title, f"Campaign finds a record that was sent {cost}")
        if not acknowledged and is_missing:
            if records.addressing.key_is_proven:
                return ok(title, f"Campaign finds a record that was sent {cost}")
            text = "not verified: no record was sent yet. The first sync sends one alone, and others once it is found"
            return warn(title, f"{text} by {config.key} {cost}")
        text, remedy = "it found a record that cannot be there", ""
        if isinstance(matches, ResponseOutcome):
            text, remedy = redact(matches.reason, None).rstrip("."), matches.remedy
        remedy = remedy or f"Make {config.key} an identification key of {config.resource} and publish."
        return Finding("fail", title, f"{text}. {remedy} {cost}")

    async def _existing(self, resource: Resource) -> list[Finding]:
        """Return the finding on records in Campaign; none once the table's first load has begun.

        Costs one engine call, or more if the list has more than one page.
        """
        config, ledger = self.config, self.runtime.ledger
        title = "records in Campaign before the first load"
        under_way = await asyncio.to_thread(ledger.rebuilds.rebuild, config.table)
        if under_way is not None:
            records = f"{counted(under_way.records, 'record', 'were')} compared so far."
            return [warn("comparison with Campaign", f"{records} {comparison_due(config.table)}")]
        if await asyncio.to_thread(begun, ledger, config):
            return []
        listing = RecordList(ledger, self.campaign, config)
        try:
            first, lists = await listing.look(resource)
            records = await listing.count() if first.next else len(first.records)
        except SyncAssetsError as error:
            return fail(title, error)
        cost = f"(asked with {counted(listing.calls, 'engine call')})"
        if not lists:
            return [ok(title, f"no {config.resource} carries an id of Dynamics 365 {cost}")]
        share = "some carry ids of Dynamics 365" if listing.ours(first) else "some may carry ids of Dynamics 365"
        text = (
            f"Campaign holds {counted(records, 'record')} of {config.resource}, {share}: the first load begins with "
            f"{counted(pages_for(records), 'read')} and sends only what differs {cost}"
        )
        return [ok(title, text)]


# --- Opt-outs and SFTP ------------------------------------------------------------------------------------------------


async def opt_outs(config: Config, d365: DataverseClient, campaign: CampaignClient) -> list[Finding]:
    """Check both systems' metadata and the export workflow."""
    if not config.opt_out.active:
        return []
    contact = config.table(CONTACT)
    try:
        table, resource = await run_together(
            d365.table(CONTACT, list(config.opt_out.mappings)), campaign.resource(contact.api, contact.resource)
        )
    except SyncAssetsError as error:
        findings = fail("opt-outs", error)
    else:
        missing = [name for name in config.opt_out.attributes if f"{name}{CHANGED_SUFFIX}" not in resource.attributes]
        times = ok("times of change", f"{resource.name} has one for each of {', '.join(config.opt_out.attributes)}")
        if missing:
            times = warn("times of change", f"{resource.name} has none for {', '.join(missing)}: {NO_TIME}")
        findings = [finding.about("opt-outs") for finding in (*opt_out_findings(config, table, resource), times)]
    if not (workflow_id := config.opt_out.export.workflow_id):
        return findings
    title = f"opt-outs: workflow {workflow_id}"
    try:
        status = await workflow_status(campaign, workflow_id)
    except SyncAssetsError as error:
        return findings + fail(title, error)
    if status == "started":
        return [*findings, ok(title, "Campaign runs it")]
    state = "" if status == "unknown" else f" (its state is {status})"
    text = f"Campaign does not run it{state}: start it, or no opt-out file is written"
    return [*findings, warn(title, text)]


def sftp(runtime: Runtime) -> list[Finding]:
    """Check the Campaign SFTP for everything that uses it. Blocks."""
    exports, logs = runtime.config.opt_out.active, runtime.config.logs.export
    if not (exports or logs):
        return []
    from sync_assets.opt_out.export.folder import examine_folder  # paramiko  # noqa: PLC0415

    try:
        findings = [installation.sftp_key(runtime.settings)]
    except SyncAssetsError as error:
        return fail("Campaign SFTP", error)
    findings += examine_folder(runtime, runtime.ledger) if exports else []
    return [*findings, *examine_log_folder(runtime)] if logs else findings
