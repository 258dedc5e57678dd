"""Poll the SFTP folder of export files: which are ready, which are done, and how much space is left.

A file is ready once two polls found it with the same size and time, and it is `settle_seconds` old, by its own time or
since the first poll that found it (clocks differ). Files that are done are kept, archived or deleted as configured, and
removed after `keep_days`.

Invariant: a file that was not processed is never removed.
"""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta

from sync_assets.checks.health import ERROR_SHARE, arrives, room
from sync_assets.checks.rules import Finding, fail, ok, warn
from sync_assets.config.opt_out import Export
from sync_assets.errors import SyncAssetsError
from sync_assets.ledger import Ledger
from sync_assets.ledger.repositories.opt_out_files import FileState, OptOutFile
from sync_assets.opt_out.export.file import file_order
from sync_assets.runtime.configuration import Configuration
from sync_assets.sftp.client import RemoteFile, Sftp, Storage, connect
from sync_assets.sftp.errors import FileGone, SftpError

ARCHIVE = "archive"
TICK = timedelta(seconds=1)
"""Resolution of SFTP's times: a write within the same second does not change the time of modification."""


@dataclass(frozen=True, slots=True)
class FolderPoll:
    """The result of a poll of the folder.

    ready: files to be processed now, in order. unsettled: files that may still be written. refused: files rejected as a
    whole. newest: when the newest file ever found was written. storage: space of the SFTP server; None if unknown.
    passed_over: matching names that are no plain files, with the reason. troubles: errors of archiving and
    removal.
    """

    ready: list[OptOutFile]
    unsettled: list[OptOutFile]
    refused: list[OptOutFile]
    newest: datetime | None
    storage: Storage | None
    passed_over: tuple[tuple[str, str], ...] = ()
    troubles: list[str] = field(default_factory=list[str])


def poll_folder(configuration: Configuration, ledger: Ledger, *, measure: bool = True) -> FolderPoll:
    """List the folder, store the result in the ledger, and archive or remove files that are done.

    measure: False leaves `storage` out; with a configured capacity it takes a request for each folder of the server.

    Raises:
        SftpError: of the SFTP server.
        LedgerError: of the ledger.
    """
    export = configuration.config.opt_out.export
    with connect(configuration.settings.sftp()) as sftp:
        listing = sftp.listing(export.directory, export.pattern)
        files = [(file.name, file.modified, file.size) for file in listing.files]
        known = ledger.opt_out_files.note_files(files)
        troubles = _tidy(sftp, export, [file for file in known if file.state == FileState.DONE])
        storage = sftp.room(export.directory, export.capacity_mb) if measure else None
    if storage:
        ledger.events.note("sftp", {"room": asdict(storage) | {"at": datetime.now(UTC).isoformat()}})
    waiting = in_order(file for file in known if file.state == FileState.SEEN)
    ready = [file for file in waiting if has_settled(file, export.settle_seconds)]
    return FolderPoll(
        ready=ready,
        unsettled=[file for file in waiting if file not in ready],
        refused=[file for file in known if file.state == FileState.REJECTED],
        newest=newest_of(ledger.opt_out_files.files()),
        storage=storage,
        passed_over=listing.passed_over,
        troubles=troubles,
    )


def has_settled(file: OptOutFile, settle_seconds: int) -> bool:
    """Return True if two polls found the file unchanged and it is old enough. Pure."""
    return file.looked_at > file.seen_at and seconds_to_settle(file, settle_seconds) <= 0


def seconds_to_settle(file: OptOutFile, settle_seconds: int) -> float:
    """Return the seconds from the last poll until the file is old enough, if it is not written meanwhile. Pure."""
    age = max(file.looked_at - file.modified - TICK, file.looked_at - file.seen_at)
    return settle_seconds - age.total_seconds()


def newest_of(files: Iterable[OptOutFile]) -> datetime | None:
    """Return when the newest file was written; None if there is none. Pure.

    A file is not newer than the first poll that found it, though its time may be: clocks differ.
    """
    return max((min(file.modified, file.seen_at) for file in files), default=None)


def in_order(files: Iterable[OptOutFile]) -> list[OptOutFile]:
    """Sort files in the order in which Campaign wrote them: by the time in the name, else by that of modification."""
    return sorted(files, key=lambda file: file_order(file.name, file.modified))


def find(ledger: Ledger, partition: str) -> OptOutFile | None:
    """Return the stored file of a partition; of several within one second, the one that the last poll found."""
    same = [file for file in ledger.opt_out_files.files() if file.partition == partition]
    return max(same, key=lambda file: file.looked_at, default=None)


def _tidy(sftp: Sftp, export: Export, done: Sequence[OptOutFile]) -> list[str]:
    """Archive or remove files that are done, as configured; return error messages."""
    too_old = datetime.now(UTC) - timedelta(days=export.keep_days)
    troubles: list[str] = []
    for file in done:
        taken = RemoteFile(file.name, file.size, file.modified)  # a file that was written again meanwhile stays
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
        archive = f"{export.directory.rstrip('/')}/{ARCHIVE}"
        with suppress(SftpError):  # nothing has been archived yet
            for file in sftp.listing(archive, f"{export.pattern}*").files:
                if file.modified < too_old:
                    sftp.remove(archive, file.name)
    return troubles


def folder_findings(export: Export, seen: FolderPoll, now: datetime) -> list[Finding]:
    """Return the findings about the export file and the SFTP server for a poll of the folder."""
    return [arrives(export, seen.newest, now, seen.passed_over), room(export, seen.storage, seen.troubles)]


def examine_folder(configuration: Configuration, ledger: Ledger) -> list[Finding]:
    """Return `doctor`'s findings about the folder, its free space, and the age of the newest file. Writes nothing."""
    export, now, title = configuration.config.opt_out.export, datetime.now(UTC), "opt-outs: Campaign SFTP"
    try:
        with connect(configuration.settings.sftp()) as server:
            listing, storage = (
                server.listing(export.directory, export.pattern),
                server.room(export.directory, export.capacity_mb),
            )
    except SyncAssetsError as error:
        return fail(title, error)
    findings = [ok(title, f"signed in, {len(listing.files):,} files match {export.pattern} in {export.directory}")]
    findings += [warn(title, f"{name} is passed over: {reason}") for name, reason in listing.passed_over[:5]]
    known = {(file.name, file.modified, file.size): file for file in ledger.opt_out_files.files()}
    listed = [(file.name, file.modified, file.size) for file in listing.files]
    newest = newest_of(known.get(key) or OptOutFile(*key, seen_at=now, looked_at=now) for key in listed)
    arrived, space = arrives(export, newest, now), room(export, storage)
    findings.append(Finding("ok" if arrived.passed else "warn", "opt-outs: export file", arrived.message))
    is_full = storage is not None and storage.share >= ERROR_SHARE
    outcome = "fail" if is_full else "ok" if space.passed else "warn"
    return [*findings, Finding(outcome, "opt-outs: room", space.message)]
