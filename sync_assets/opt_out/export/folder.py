"""The files on the Campaign SFTP: which are ready to be taken, which are done with, how much room is left.

A file is ready once two looks found it with the same size and time and it is `settle_seconds` old, by its own time or
since it was first seen (clocks differ). Done ones are kept, archived or deleted as configured, and removed after
`keep_days`; nothing is ever removed that was not taken before.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from sync_assets.config.models import Export
from sync_assets.ledger.repositories.opt_out_files import FileState, OptOutFile
from sync_assets.opt_out.export.file import file_order
from sync_assets.runtime.context import Runtime
from sync_assets.sftp import FileGone, RemoteFile, Sftp, SftpError, Storage, connect

ARCHIVE = "archive"
TICK = timedelta(seconds=1)
"""SFTP tells times in whole seconds: what is written within the same one changes no time."""


@dataclass(frozen=True, slots=True)
class FolderPoll:
    """What a look at the folder found. `ready`: to be taken now, in their order; `unsettled`: perhaps still written;
    `refused`: of no use as a whole. `newest`: time of the newest file of all. `passed_over`: names that match and are
    no plain files. `troubles`: what could not be tidied up."""

    ready: list[OptOutFile]
    unsettled: list[OptOutFile]
    refused: list[OptOutFile]
    newest: datetime | None
    storage: Storage | None
    passed_over: tuple[tuple[str, str], ...] = ()
    troubles: list[str] = field(default_factory=list[str])


def poll_folder(runtime: Runtime) -> FolderPoll:
    """Lists the folder and notes what it found in the ledger. Raises SftpError, LedgerError."""
    export = runtime.config.opt_out.export
    with connect(runtime.settings.sftp()) as sftp:
        listing = sftp.listing(export.directory, export.pattern)
        known = runtime.ledger.look((file.name, file.modified, file.size) for file in listing.files)
        troubles = _tidy(runtime, sftp, export, [file for file in known if file.state == FileState.DONE])
        storage = sftp.storage(export.directory)
    waiting = in_order(file for file in known if file.state == FileState.SEEN)
    ready = [file for file in waiting if has_settled(file, export.settle_seconds)]
    return FolderPoll(
        ready=ready,
        unsettled=[file for file in waiting if file not in ready],
        refused=[file for file in known if file.state == FileState.REFUSED],
        newest=max((file.modified for file in runtime.ledger.files()), default=None),
        storage=storage,
        passed_over=listing.passed_over,
        troubles=troubles,
    )


def has_settled(file: OptOutFile, settle_seconds: int) -> bool:
    """Two looks found it alike, and it is old enough. Pure."""
    age = max(file.looked_at - file.modified - TICK, file.looked_at - file.seen_at)
    return file.looked_at > file.seen_at and age >= timedelta(seconds=settle_seconds)


def in_order(files: Iterable[OptOutFile]) -> list[OptOutFile]:
    """By the time in the name, else by that of the last change: the order in which Campaign wrote them."""
    return sorted(files, key=lambda file: file_order(file.name, file.modified))


def find(runtime: Runtime, partition: str) -> OptOutFile | None:
    """The known file of a partition: of those that were written within one second the one that stands there now."""
    same = [file for file in runtime.ledger.files() if file.partition == partition]
    return max(same, key=lambda file: file.looked_at, default=None)


def _tidy(runtime: Runtime, sftp: Sftp, export: Export, done: Sequence[OptOutFile]) -> list[str]:
    """Does what is configured with files that are done with; what went wrong."""
    too_old = datetime.now(UTC) - timedelta(days=export.keep_days)
    troubles: list[str] = []
    for file in done:
        taken = RemoteFile(file.name, file.size, file.modified)  # one that was written again meanwhile stays
        try:
            if export.after == "delete" or (export.after == "keep" and file.modified < too_old):
                sftp.remove(export.directory, file.name, taken)
            elif export.after == "archive":
                sftp.archive(export.directory, file.name, ARCHIVE, taken)
        except FileGone:
            continue
        except SftpError as error:
            troubles.append(str(error))
    if export.after == "archive":
        try:
            for file in sftp.listing(f"{export.directory.rstrip('/')}/{ARCHIVE}", f"{export.pattern}*").files:
                if file.modified < too_old:
                    sftp.remove(f"{export.directory.rstrip('/')}/{ARCHIVE}", file.name)
        except SftpError:
            pass  # nothing has been archived yet
    return troubles
