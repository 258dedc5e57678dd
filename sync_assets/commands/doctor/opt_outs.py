"""`doctor`: opt-out columns and attributes, the SFTP folder and its free space, the export workflow."""

from __future__ import annotations

from datetime import UTC, datetime

from sync_assets.campaign.client import CampaignClient
from sync_assets.campaign.metadata import Resource
from sync_assets.campaign.workflows import workflow
from sync_assets.commands.doctor.line import Line, failed
from sync_assets.config.models import Config
from sync_assets.config.values import CHANGED_SUFFIX, CONTACT
from sync_assets.dataverse.client import DataverseClient
from sync_assets.errors import SyncAssetsError
from sync_assets.ledger.repositories.opt_out_files import OptOutFile
from sync_assets.opt_out.export.folder import measured, newest_of
from sync_assets.runtime.context import Runtime
from sync_assets.sftp import connect
from sync_assets.task_group import run_together
from sync_assets.validation.export_folder import ERROR_SHARE, arrives, is_overdue, room
from sync_assets.validation.opt_out_columns import opt_out_findings

NO_TIME = (
    "that a person opted in again in Campaign is not known to be later than Dynamics 365, so an opt-out on either side "
    "stays until it is taken back on both"
)


async def opt_out_lines(runtime: Runtime, d365: DataverseClient, campaign: CampaignClient) -> list[Line]:
    """Check both systems' metadata and the export workflow. Writes nothing."""
    config = runtime.config
    contact = config.table(CONTACT)
    lines: list[Line] = []
    try:
        table, resource = await run_together(
            d365.table(CONTACT, list(config.opt_out.mappings)), campaign.resource(contact.api, contact.resource)
        )
        for finding in opt_out_findings(config, table, resource):
            outcome = "ok" if finding.passed else "fail"
            lines.append(Line(outcome, f"opt-outs: {finding.check.replace('_', ' ')}", finding.message))
        lines += times_of_change(config, resource)
    except SyncAssetsError as error:
        lines += failed("opt-outs", error)
    if workflow_id := config.opt_out.export.workflow_id:
        lines += await _workflow(campaign, workflow_id)
    return lines


def times_of_change(config: Config, resource: Resource) -> list[Line]:
    """Return a line with the mapped flags for which Campaign stores no time of change."""
    mapped = config.opt_out.attributes
    missing = [name for name in mapped if f"{name}{CHANGED_SUFFIX}" not in resource.attributes]
    what = "opt-outs: times of change"
    if not missing:
        return [Line("ok", what, f"{resource.name} has one for each of {', '.join(mapped)}")]
    return [Line("warn", what, f"{resource.name} has none for {', '.join(missing)}: {NO_TIME}")]


def export_lines(runtime: Runtime) -> list[Line]:
    """Check the folder of export files on the SFTP, its free space, and the age of the newest file. Blocks."""
    try:
        return _sftp(runtime)
    except SyncAssetsError as error:
        return failed("opt-outs: Campaign SFTP", error)


def _sftp(runtime: Runtime) -> list[Line]:
    export, now = runtime.config.opt_out.export, datetime.now(UTC)
    with connect(runtime.settings.sftp()) as sftp:
        listing = sftp.listing(export.directory, export.pattern)
        storage = measured(sftp, export)
    found = f"signed in, {len(listing.files):,} files match {export.pattern} in {export.directory}"
    lines = [Line("ok", "opt-outs: Campaign SFTP", found)]
    lines += [
        Line("warn", "opt-outs: Campaign SFTP", f"{name} is passed over: {why}")
        for name, why in listing.passed_over[:5]
    ]
    known = {(file.name, file.modified, file.size): file for file in runtime.ledger.opt_out_files.files()}
    listed = [(file.name, file.modified, file.size) for file in listing.files]
    newest = newest_of(known.get(key) or OptOutFile(*key, seen_at=now, looked_at=now) for key in listed)
    late = is_overdue(export, newest, now)
    full = storage is not None and storage.share >= ERROR_SHARE
    arrived, space = arrives(export, newest, now), room(export, storage)
    lines.append(Line("warn" if late else "ok", "opt-outs: export file", arrived.message))
    lines.append(Line("fail" if full else "ok" if space.passed else "warn", "opt-outs: room", space.message))
    return lines


async def _workflow(campaign: CampaignClient, workflow_id: str) -> list[Line]:
    what = f"opt-outs: workflow {workflow_id}"
    try:
        found = await workflow(campaign, workflow_id)
    except SyncAssetsError as error:
        return failed(what, error)
    if found.status == "started":
        return [Line("ok", what, "Campaign runs it")]
    state = "" if found.status == "unknown" else f" (its state is {found.status})"
    return [Line("warn", what, f"Campaign does not run it{state}: start it, or no opt-out file is written")]
