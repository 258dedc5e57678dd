"""First loads by file, as findings for an asset check and for `doctor`."""

import asyncio
import re
import uuid
from collections.abc import Collection, Sequence
from typing import Any

from sync_assets.campaign.client import CampaignClient
from sync_assets.campaign.workflows import IMPORT, workflow_status
from sync_assets.checks import rules
from sync_assets.checks.rules import Finding, fail, ok, warn
from sync_assets.config.bulk_load import MEGABYTE, BulkLoad
from sync_assets.config.models import TableConfig
from sync_assets.errors import SyncAssetsError
from sync_assets.ledger import Ledger
from sync_assets.ledger.model import Load, LoadFile, LoadState
from sync_assets.runtime.configuration import Configuration
from sync_assets.words import counted

TITLE = "first loads by file"
_OF_LOAD = re.compile(r"\.?(.+)_(\d{8}T\d{6}Z)_\d+\.(?:tsv|tsv\.gz|part)")


def load_findings(ledger: Ledger, config: TableConfig, settings: BulkLoad | None, pending: int) -> list[Finding]:
    """Return the finding on a table's last load; none for a table without an import workflow.

    It passes if Campaign holds what the load brought, or REST has brought the rest. It warns while there is something
    to be done, and fails while that waits for a person. pending: records of the table.
    """
    if settings is None or not settings.has(config.table):
        return []
    load = ledger.loads.unfinished(config.table) or ledger.loads.last(config.table)
    if load is None:
        return [rules.LOADED.finding(True, "No first insert of the table went by file.", {"records": 0})]
    numbers = load_numbers(load, ledger.loads.files(config.table))
    records = counted(load.records, "record")
    if load.state == LoadState.DONE:
        text = f"Campaign holds {load.records - (load.missing or 0):,} of {records} in files"
        text += f"; the other {load.missing:,} go by REST." if load.missing else "."
        return [rules.LOADED.finding(not (load.missing and pending), text, numbers)]
    text = f"{records} in files: {load.state.name.lower()} since {load.since:%Y-%m-%d %H:%M} UTC."
    return [rules.LOADED.finding(False, load.problem or text, numbers, stops=load.problem is not None)]


def load_numbers(load: Load, files: Sequence[LoadFile]) -> dict[str, Any]:
    """Return the numbers of a table's last load; those that are not known yet are None. Pure.

    files: of the table's last load of any kind.
    """
    files = [file for file in files if load.name in file.name]
    return {
        "records": load.records,
        "files": len(files),
        "bytes": sum(file.size for file in files),
        "imported": None if load.missing is None else load.records - load.missing,
        "missing": load.missing,
        "state": load.state.name.lower(),
    }


# --- doctor -----------------------------------------------------------------------------------------------------------


async def workflow_findings(settings: BulkLoad | None, campaign: CampaignClient, ledger: Ledger) -> list[Finding]:
    """Check that each import workflow exists, and is not at work but for a load of ours."""
    findings = list[Finding]()
    workflows = [*settings.workflows.items(), *settings.update_workflows.items()] if settings else []
    for table, workflow in workflows:
        title = f"{TITLE}: workflow {workflow} of {table}"
        load = await asyncio.to_thread(ledger.loads.unfinished, table)
        try:
            status = await workflow_status(campaign, workflow, IMPORT)
        except SyncAssetsError as error:
            findings += fail(title, error)
            continue
        started = load is not None and load.state in (LoadState.STARTED, LoadState.RUNNING)
        load = load if load and load.workflow == workflow else None
        if load and load.problem:
            findings.append(Finding("fail", title, load.problem))
        elif status in ("started", "warning") and not started:
            state = "is at work" if status == "started" else "is paused"
            text = f"it {state}, not started by this program: no load can begin. Let it end in Campaign, or stop it"
            findings.append(warn(title, text))
        else:
            findings.append(ok(title, f"its state is {status}"))
    return findings


def folder_findings(configuration: Configuration, ledger: Ledger | None) -> list[Finding]:
    """Check that the folder of the files can be written, or made, and has room for a file; writes an empty one.

    Names files of loads that the ledger does not have, if there is a ledger. Blocks.
    """
    settings = configuration.config.bulk_load
    if settings is None or not (settings.workflows or settings.update_workflows):
        return []
    from sync_assets.sftp.client import connect  # paramiko  # noqa: PLC0415

    findings, title = _patterns(settings), f"{TITLE}: folder {settings.directory}"
    try:
        with connect(configuration.settings.sftp()) as sftp:
            name = f".doctor_{uuid.uuid4().hex}"
            sftp.put(settings.directory, name, b"")
            sftp.remove(settings.directory, name)
            room = sftp.room(settings.directory, configuration.config.opt_out.export.capacity_mb)
            names = [file.name for file in sftp.listing(settings.directory, "*").files] if ledger else []
    except SyncAssetsError as error:
        return [*findings, *fail(title, error)]
    known = {(load.table, load.name) for load in ledger.loads.all()} if ledger else set[tuple[str, str]]()
    findings += _unknown_files(names, known)
    if room is None:
        return [*findings, warn(title, "it can be written; how full the SFTP is, its server does not say")]
    left, file = (room.size - room.used) / MEGABYTE, settings.file_mb
    text = f"it can be written; {left:,.0f} MB are left, of which a load takes a third at most"
    return [*findings, (ok if left / 3 >= file else warn)(title, f"{text}; one file has up to {file:,.0f} MB")]


def _unknown_files(names: Sequence[str], known: Collection[tuple[str, str]]) -> list[Finding]:
    """Fail for each table with files of loads other than the known ones, by table and name. Pure."""
    unknown = dict[str, list[str]]()
    for name in names:
        if (of_load := _OF_LOAD.fullmatch(name)) and (of_load[1], of_load[2]) not in known:
            unknown.setdefault(of_load[1], []).append(name)
    return [
        Finding(
            "fail",
            f"{TITLE}: files of {table}",
            f"{counted(len(files), 'file')} of loads that this ledger does not have, such as {min(files)}: it may be "
            f"an older copy. No load begins. If no workflow will read them: `sync-assets loads abandon {table}`",
        )
        for table, files in unknown.items()
    ]


def _patterns(settings: BulkLoad) -> list[Finding]:
    """Warn of tables whose files the workflow of another one may take: `new_order_*` matches those of new_order_x."""
    return [
        warn(
            f"{TITLE}: names of files",
            f"the pattern {one}_* would take the files of {other} as well. In the workflow of {one} it must be "
            f"{one}_20*, which begins the time",
        )
        for one in settings.workflows
        for other in settings.workflows
        if re.match(rf"{re.escape(one)}_", other)
    ]
