"""Checks of opt-outs that can be asked at any time: is the export running, has the SFTP room, do both sides agree?

What they say is decided by plain functions of numbers and times; scheduled by definitions.py.
"""

# No `from __future__ import annotations`: Dagster looks at the type of `context` itself.

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import dagster as dg

from sync_assets.config import Export
from sync_assets.errors import SyncAssetsError, places
from sync_assets.ingress import quality
from sync_assets.ingress.assets import campaign_key
from sync_assets.ingress.quality import duration
from sync_assets.ingress.target import CONTACT
from sync_assets.opt_out import files
from sync_assets.opt_out.names import EXPORT
from sync_assets.opt_out.parity import Parity, parity
from sync_assets.runtime import Runtime
from sync_assets.sftp import Storage

ARRIVES, ROOM, AGREE = "export_arrives_in_time", "sftp_has_room", "opt_outs_agree"
TEXTS = {
    ARRIVES: "Campaign has written a file of opt-outs within `expected_every_hours`.",
    ROOM: "The Campaign SFTP is less than 80 % full.",
}
WARN_SHARE, ERROR_SHARE = 0.8, 0.9
"""Where Campaign's own alerts are (campaign-standard-api.md section 8)."""


def watch_checks(runtime: Runtime) -> dg.AssetChecksDefinition:
    """Looks at the SFTP folder."""

    @dg.multi_asset_check(
        name="opt_out_export_watch",
        specs=[dg.AssetCheckSpec(name, asset=EXPORT, description=text) for name, text in TEXTS.items()],
    )
    def watch() -> Iterator[dg.AssetCheckResult]:
        try:
            seen = files.look(runtime)
        except SyncAssetsError as error:
            raise dg.Failure(str(error), allow_retries=False) from None
        except Exception as error:  # noqa: BLE001
            raise dg.Failure(
                f"The look at the SFTP stopped at an error: {places(error)}.", allow_retries=False
            ) from None
        yield from watch_results(runtime.config.opt_out.export, seen, datetime.now(UTC))

    return watch


def watch_results(export: Export, seen: files.Look, now: datetime) -> list[dg.AssetCheckResult]:
    return [arrives(export, seen.newest, now), room(export, seen.storage)]


def is_overdue(export: Export, newest: datetime | None, now: datetime) -> bool:
    return newest is None or now - newest > timedelta(hours=export.expected_every_hours)


def arrives(export: Export, newest: datetime | None, now: datetime) -> dg.AssetCheckResult:
    """`newest`: when the newest file was written. An export that stopped misses opt-outs until somebody notices."""
    late = is_overdue(export, newest, now)
    if newest is None:
        text = f"No file has ever been seen in {export.directory}."
    else:
        text = (
            f"The newest file is {duration(now - newest)} old, one is expected every {export.expected_every_hours:g} h."
        )
    if late:
        workflow = f"workflow {export.workflow_id}" if export.workflow_id else "the export workflow"
        text += (
            f" Look at {workflow} in Campaign and start it again at once: opt-outs made in Campaign do not reach "
            "Dynamics 365 meanwhile. If it runs and simply had nothing to tell (it may write no file on a quiet day), "
            "raise `expected_every_hours`."
        )
    numbers: dict[str, dg.MetadataValue | float] = {"expected_every_hours": float(export.expected_every_hours)}
    if newest:
        numbers |= {"newest_file": dg.MetadataValue.timestamp(newest), "hours": round(_hours(now - newest), 2)}
    return dg.AssetCheckResult(
        passed=not late,
        asset_key=EXPORT,
        check_name=ARRIVES,
        severity=dg.AssetCheckSeverity.ERROR,
        description=text,
        metadata=numbers,
    )


def room(export: Export, storage: Storage | None) -> dg.AssetCheckResult:
    """A full SFTP breaks Campaign's workflows (features.md row 101)."""
    if storage is None:
        return dg.AssetCheckResult(
            passed=True, asset_key=EXPORT, check_name=ROOM, description="The SFTP does not tell how full it is."
        )
    share = storage.share
    text = f"The SFTP is {share:.0%} full ({storage.used / 1e9:,.1f} of {storage.size / 1e9:,.1f} GB)."
    if share >= WARN_SHARE:
        text += " Remove what is no longer needed"
        text += (
            "; `export.after: delete` or fewer `keep_days` do it for opt-out files."
            if export.after != "delete"
            else "."
        )
    return dg.AssetCheckResult(
        passed=share < WARN_SHARE,
        asset_key=EXPORT,
        check_name=ROOM,
        severity=dg.AssetCheckSeverity.ERROR if share >= ERROR_SHARE else dg.AssetCheckSeverity.WARN,
        description=text,
        metadata={"share_used": round(share, 4), "used_bytes": storage.used, "size_bytes": storage.size},
    )


def _hours(age: timedelta) -> float:
    return age / timedelta(hours=1)


def parity_check(runtime: Runtime) -> dg.AssetChecksDefinition:
    """Reads a sample of contacts on both sides, which costs engine calls; scheduled daily by definitions.py."""
    profile = campaign_key(runtime.config.table(CONTACT))

    @dg.multi_asset_check(
        name="opt_out_parity",
        specs=[
            dg.AssetCheckSpec(
                AGREE,
                asset=profile,
                description="No contact of a sample is opted out on one side only for longer than the direction of "
                "opt-outs allows.",
            )
        ],
    )
    def compare(context: dg.AssetCheckExecutionContext) -> Iterator[dg.AssetCheckResult]:
        if context.run.asset_selection:
            return  # Dagster adds an asset's checks to each run of it; a sample with each would cost too much
        try:
            found = asyncio.run(parity(runtime))
        except SyncAssetsError as error:
            raise dg.Failure(str(error), allow_retries=False) from None
        except Exception as error:  # noqa: BLE001
            raise dg.Failure(f"The comparison stopped at an error: {places(error)}.", allow_retries=False) from None
        yield agree(profile, found)

    return compare


def agree(profile: dg.AssetKey, found: Parity) -> dg.AssetCheckResult:
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
    rows = [(name, len(ids), ", ".join(ids[: quality.SHOWN_IDS])) for name, ids in sorted(found.differing.items())]
    return dg.AssetCheckResult(
        passed=not found.wrong,
        asset_key=profile,
        check_name=AGREE,
        severity=dg.AssetCheckSeverity.ERROR,
        description=text,
        metadata={
            "contacts": found.contacts,
            "compared": found.compared,
            "differing": found.wrong,
            "on_the_way": found.on_the_way,
            "kept_back_by_budget": found.kept_back,
            "attributes": quality.table(("attribute", "records", "ids"), rows),
        },
    )
