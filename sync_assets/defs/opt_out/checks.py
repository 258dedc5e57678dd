"""Define the opt-out checks that need no run: the export file arrives, the SFTP server has space, both sides agree.

Results are computed by pure functions of numbers and times. `definitions.py` schedules the checks.
"""

# No `from __future__ import annotations`: Dagster reads the annotation of `context` at run time.

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import dagster as dg

from sync_assets.config.models import Export
from sync_assets.defs.opt_out.asset_keys import EXPORT
from sync_assets.defs.tables import check_results
from sync_assets.defs.tables.audit_assets import wanted
from sync_assets.defs.tables.check_results import duration
from sync_assets.errors import SyncAssetsError, code_places
from sync_assets.foreign_text import markdown
from sync_assets.opt_out.parity import Parity, parity
from sync_assets.plurals import counted
from sync_assets.runtime import interruptible
from sync_assets.runtime.context import Runtime

if TYPE_CHECKING:
    from sync_assets.opt_out.export.folder import FolderPoll
    from sync_assets.sftp import Storage

ARRIVES, ROOM, AGREE = "export_arrives_in_time", "sftp_has_room", "opt_outs_agree"
TEXTS = {
    ARRIVES: "Campaign has written a file of opt-outs within `expected_every_hours`.",
    ROOM: "The Campaign SFTP is known to be less than 80 % full.",
}
WARN_SHARE, ERROR_SHARE = 0.8, 0.9
"""Used share of the SFTP storage, as in Campaign's own alerts (docs/dev/references/campaign.md 8)."""


def watch_checks(runtime: Runtime) -> dg.AssetChecksDefinition:
    """Define the checks of the export asset that poll the SFTP folder."""

    @dg.multi_asset_check(
        name="opt_out_export_watch",
        specs=[dg.AssetCheckSpec(name, asset=EXPORT, description=text) for name, text in TEXTS.items()],
        can_subset=True,  # else the UI could not execute one of them
    )
    def watch(context: dg.AssetCheckExecutionContext) -> Iterator[dg.AssetCheckResult]:
        from sync_assets.opt_out.export import folder  # paramiko: not for directions without files  # noqa: PLC0415

        try:
            seen = folder.poll_folder(runtime)
        except SyncAssetsError as error:
            raise dg.Failure(str(error), allow_retries=False) from None
        except Exception as error:  # noqa: BLE001
            raise dg.Failure(
                f"The look at the SFTP stopped at an error: {code_places(error)}.", allow_retries=False
            ) from None
        yield from wanted(context, watch_results(runtime.config.opt_out.export, seen, datetime.now(UTC)))

    return watch


def watch_results(export: Export, seen: "FolderPoll", now: datetime) -> list[dg.AssetCheckResult]:
    """Return the results of the checks of the export asset for a poll of the SFTP folder."""
    return [arrives(export, seen.newest, now, seen.passed_over), room(export, seen.storage, seen.troubles)]


def is_overdue(export: Export, newest: datetime | None, now: datetime) -> bool:
    """Return True if there is no file, or the newest one is older than `expected_every_hours`."""
    return newest is None or now - newest > timedelta(hours=export.expected_every_hours)


def arrives(
    export: Export, newest: datetime | None, now: datetime, passed_over: Sequence[tuple[str, str]] = ()
) -> dg.AssetCheckResult:
    """Return the result of the check that the export file arrives in time.

    A late file is an error, since opt-outs made in Campaign do not reach Dynamics 365 meanwhile. No file at all is a
    warning: the export may not have begun yet.

    Args:
        export: Configuration of the export file.
        newest: When the newest file was written, UTC; None if there never was one.
        now: UTC.
        passed_over: (name, reason) of matching names that cannot be processed.
    """
    late = is_overdue(export, newest, now)
    if newest is None:
        text = f"No file `{export.pattern}` has been seen in {export.directory} yet."
    else:
        text = (
            f"The newest file is {duration(now - newest)} old, one is expected every {export.expected_every_hours:g} h."
        )
    if newest is None:
        text += " Opt-outs made in Campaign reach Dynamics 365 once its export workflow has written its first file."
    elif late:
        workflow = f"workflow {export.workflow_id}" if export.workflow_id else "the export workflow"
        text += (
            f" Look at {workflow} in Campaign and start it again at once: opt-outs made in Campaign do not reach "
            "Dynamics 365 meanwhile. If it runs and simply had nothing to tell (it may write no file on a quiet day), "
            "raise `expected_every_hours`."
        )
    numbers: dict[str, dg.MetadataValue | float] = {"expected_every_hours": float(export.expected_every_hours)}
    if newest:
        numbers |= {"newest_file": dg.MetadataValue.timestamp(newest), "hours": round(_hours(now - newest), 2)}
    if passed_over:
        text += f" Passed over in {export.directory}: {len(passed_over):,}."
        numbers["passed_over"] = check_results.table(("name", "why"), passed_over[: check_results.SHOWN_IDS])
    return dg.AssetCheckResult(
        passed=not late,
        asset_key=EXPORT,
        check_name=ARRIVES,
        severity=dg.AssetCheckSeverity.WARN if newest is None else dg.AssetCheckSeverity.ERROR,
        description=text,
        metadata=numbers,
    )


def room(export: Export, storage: "Storage | None", troubles: Sequence[str] = ()) -> dg.AssetCheckResult:
    """Return the result of the check that the SFTP server has space.

    A full server breaks Campaign's workflows (docs/dev/references/campaign.md 8).

    Args:
        export: Configuration of the export file.
        storage: Used and total space; None if unknown.
        troubles: Errors of moving or removing processed files, which will fill the server.
    """
    share = 0.0 if storage is None else storage.share
    numbers: dict[str, dg.MetadataValue | float | int] = {}
    if storage is None:
        text = (
            "Unknown: the SFTP server does not report how full it is. Write its licensed size in megabytes as "
            "`opt_out.export.capacity_mb`."
        )
    else:
        text = f"The SFTP is {share:.0%} full ({storage.used / 1e9:,.1f} of {storage.size / 1e9:,.1f} GB)."
        numbers = {"share_used": round(share, 4), "used_bytes": storage.used, "size_bytes": storage.size}
    if share >= WARN_SHARE:
        text += " Remove what is no longer needed"
        text += (
            "; `export.after: delete` or fewer `keep_days` do it for opt-out files."
            if export.after != "delete"
            else "."
        )
    if troubles:
        text += f" Files that were taken could not be tidied up: {len(troubles):,}. The first: {troubles[0]}"
    return dg.AssetCheckResult(
        passed=storage is not None and share < WARN_SHARE and not troubles,
        asset_key=EXPORT,
        check_name=ROOM,
        severity=dg.AssetCheckSeverity.ERROR if share >= ERROR_SHARE else dg.AssetCheckSeverity.WARN,
        description=markdown(text),
        metadata=numbers | {"not_tidied_up": len(troubles)},
    )


def _hours(age: timedelta) -> float:
    return age / timedelta(hours=1)


def parity_spec(audit: dg.AssetKey) -> dg.AssetCheckSpec:
    """Return the spec of the check that opt-outs agree, which belongs to the audit of profiles."""
    text = "No contact of a sample is opted out on one side only for longer than the direction of opt-outs allows."
    return dg.AssetCheckSpec(AGREE, asset=audit, description=text)


def parity_answer(runtime: Runtime, audit: dg.AssetKey) -> dg.AssetCheckResult:
    """Compare the opt-outs of a sample of contacts on both sides. Costs engine calls.

    Raises:
        SyncAssetsError: Of the clients.
    """
    return agree(audit, interruptible.run(parity(runtime)))


def agree(audit: dg.AssetKey, found: Parity) -> dg.AssetCheckResult:
    """Return the result of the check that opt-outs agree, from a compared sample."""
    text = f"Of {found.contacts:,} contacts that were read on both sides, all opt-outs agree."
    if found.on_the_way:
        text = f"Of {found.contacts:,} contacts read on both sides, {found.on_the_way:,} opt-outs are on their way."
    if found.wrong:
        text = (
            f"Of {found.contacts:,} contacts that were read on both sides, {found.wrong:,} opt-outs differ for longer "
            "than they should. See `sync-assets rejects` and whether files arrive; a change of the opt-out in Dynamics "
            "365 makes it be decided anew."
        )
    if not found.contacts:
        text = "No contact was compared: none is known on both sides, or the day's engine calls are spent."
    if found.unanswered:
        text += f" Campaign did not answer for {counted(found.unanswered, 'contact')}."
    rows = [
        (name, len(ids), ", ".join(ids[: check_results.SHOWN_IDS])) for name, ids in sorted(found.differing.items())
    ]
    return dg.AssetCheckResult(
        passed=not found.wrong and not (found.unanswered and not found.contacts),
        asset_key=audit,
        check_name=AGREE,
        severity=dg.AssetCheckSeverity.ERROR if found.wrong else dg.AssetCheckSeverity.WARN,
        description=text,
        metadata={
            "contacts": found.contacts,
            "compared": found.compared,
            "differing": found.wrong,
            "on_the_way": found.on_the_way,
            "unanswered": found.unanswered,
            "kept_back_by_budget": found.kept_back,
            "attributes": check_results.table(("attribute", "records", "ids"), rows),
        },
    )
