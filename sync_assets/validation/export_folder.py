"""Findings about the opt-out export file and the space of the SFTP server, from numbers and times. Pure.

A finding of severity ERROR has `blocks` set.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from sync_assets.config.models import Export
from sync_assets.plurals import duration
from sync_assets.validation.findings import SHOWN_IDS, Finding, Rows

if TYPE_CHECKING:
    from sync_assets.sftp import Storage

ARRIVES, ROOM = "export_arrives_in_time", "sftp_has_room"
WATCH = {
    ARRIVES: "Campaign has written a file of opt-outs within `expected_every_hours`.",
    ROOM: "The Campaign SFTP is known to be less than 80 % full.",
}
WARN_SHARE, ERROR_SHARE = 0.8, 0.9
"""Used share of the SFTP storage, as in Campaign's own alerts (docs/dev/references/campaign.md 8)."""


def is_overdue(export: Export, newest: datetime | None, now: datetime) -> bool:
    """Return True if there is no file, or the newest one is older than `expected_every_hours`."""
    return newest is None or now - newest > timedelta(hours=export.expected_every_hours)


def arrives(
    export: Export, newest: datetime | None, now: datetime, passed_over: Sequence[tuple[str, str]] = ()
) -> Finding:
    """Return the finding that the export file arrives in time.

    A late file is an error, since opt-outs made in Campaign do not reach Dynamics 365 meanwhile. No file at all is a
    warning: the export may not have begun yet.

    Args:
        export: Configuration of the export file.
        newest: When the newest file was written, UTC; None if there never was one.
        now: UTC.
        passed_over: (name, reason) of matching names that cannot be processed.
    """
    late, age = is_overdue(export, newest, now), now - newest if newest else None
    if age is None:
        text = (
            f"No file `{export.pattern}` has been seen in {export.directory} yet. Opt-outs made in Campaign reach "
            "Dynamics 365 once its export workflow has written its first file."
        )
    else:
        text = f"The newest file is {duration(age)} old, one is expected every {export.expected_every_hours:g} h."
    if age is not None and late:
        workflow = f"workflow {export.workflow_id}" if export.workflow_id else "the export workflow"
        text += (
            f" Look at {workflow} in Campaign and start it again at once: opt-outs made in Campaign do not reach "
            "Dynamics 365 meanwhile. If it runs and simply had nothing to tell (it may write no file on a quiet day), "
            "raise `expected_every_hours`."
        )
    numbers: dict[str, Any] = {"expected_every_hours": float(export.expected_every_hours), "newest_file": newest}
    numbers["hours"] = None if age is None else round(age / timedelta(hours=1), 2)
    if passed_over:
        text += f" Passed over in {export.directory}: {len(passed_over):,}."
        numbers["passed_over"] = Rows(("name", "why"), passed_over[:SHOWN_IDS])
    return Finding(ARRIVES, not late, text, numbers=numbers, blocks=newest is not None)


def room(export: Export, storage: Storage | None, troubles: Sequence[str] = ()) -> Finding:
    """Return the finding that the SFTP server has space.

    A full server breaks Campaign's workflows (docs/dev/references/campaign.md 8).

    Args:
        export: Configuration of the export file.
        storage: Used and total space; None if unknown.
        troubles: Errors of moving or removing processed files, which will fill the server.
    """
    share, numbers = 0.0, dict[str, Any]()
    if storage is None:
        text = (
            "Unknown: the SFTP server does not report how full it is. Write its licensed size in megabytes as "
            "`opt_out.export.capacity_mb`."
        )
    else:
        share = storage.share
        text = f"The SFTP is {share:.0%} full ({storage.used / 1e9:,.1f} of {storage.size / 1e9:,.1f} GB)."
        numbers = {"share_used": round(share, 4), "used_bytes": storage.used, "size_bytes": storage.size}
    if share >= WARN_SHARE:
        fewer = "; `export.after: delete` or fewer `keep_days` do it for opt-out files."
        text += f" Remove what is no longer needed{'.' if export.after == 'delete' else fewer}"
    if troubles:
        text += f" Files that were taken could not be tidied up: {len(troubles):,}. The first: {troubles[0]}"
    passed = storage is not None and share < WARN_SHARE and not troubles
    return Finding(ROOM, passed, text, numbers=numbers | {"not_tidied_up": len(troubles)}, blocks=share >= ERROR_SHARE)
