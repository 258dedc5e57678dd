"""The client of the Campaign SFTP (docs/dev/references/campaign.md 8).

Files are listed, read, written as a whole, archived and removed, nothing else; symbolic links, folders and devices are
neither followed nor opened. A file that is still being written looks like any other, so each step can require the file
to be as it was listed.
"""

import fnmatch
import io
import stat
import time
import uuid
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Any, BinaryIO

from paramiko import SFTPAttributes
from paramiko.sftp import SFTP_FAILURE, SFTP_NO_SUCH_FILE, SFTP_OP_UNSUPPORTED

from sync_assets.config.environment import SftpSettings
from sync_assets.sftp.entries import path_of, wrong_with_kind, wrong_with_name
from sync_assets.sftp.errors import FileChanged, FileGone, NoSuchFolder, SftpError
from sync_assets.sftp.protocol import PIECE, Refused, SftpProtocol, printable
from sync_assets.sftp.ssh import place, sftp_channel

MOST_ENTRIES = 100_000
"""Entries of a folder at most. Campaign keeps exports for some days: a folder with more is not one of exports, or its
list does not end.
"""
MOST_MEASURED = 10_000
"""Entries at most whose sizes are added up."""
LISTING_SECONDS = 300.0
"""Seconds that a listing may take in total."""
WINDOW = 64 * PIECE
"""Bytes requested at once, and kept in memory. They fill paramiko's own window of 2 MB."""
SLOWEST = 32 * 1024
"""Bytes per second below which reading is given up: a file of 1 GB may take nine hours."""
START_SECONDS = 120.0
"""Seconds of waiting that any file may take in addition."""


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A regular file: bytes, and the UTC time of its last change in whole seconds."""

    name: str
    size: int
    modified: datetime


@dataclass(frozen=True, slots=True)
class Listing:
    """The files whose names match, oldest first.

    `passed_over`: names that match but are not accepted (printable), with the reason.
    """

    files: tuple[RemoteFile, ...]
    passed_over: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Storage:
    """Used space and size of the file system, or of what is licensed, in bytes.

    `size`: of a file system, the used space plus the space that is free for us.
    """

    used: int
    size: int

    @property
    def share(self) -> float:
        """Return the used share, 0 to 1."""
        return self.used / self.size


@contextmanager
def connect(settings: SftpSettings, *, timeout: float = 15.0) -> Generator["Sftp"]:
    """Yield a signed-in connection, closed at the end.

    `timeout`: seconds for connecting, for signing in, and for each later answer. Raises Unreachable, HostKeyRefused,
    SignInRefused, SftpError.
    """
    with sftp_channel(settings, timeout) as channel:
        yield Sftp(SftpProtocol(channel, place(settings)))


class Sftp:
    """An open connection, for one thread at a time.

    A directory is a path, absolute or relative to the user's initial folder; a name is that of an entry in it. All
    methods raise SftpError, Unreachable if the connection fails, and the errors in their own docstrings.
    """

    def __init__(self, wire: SftpProtocol) -> None:
        self._wire = wire

    def listing(self, directory: str, pattern: str) -> Listing:
        """Return the regular files whose names match (`*`, `?`, `[...]`; case matters).

        Raises NoSuchFolder, and SftpError for a folder of more than MOST_ENTRIES, or a list that takes LISTING_SECONDS.
        """
        path = path_of(directory)
        files: list[RemoteFile] = []
        passed_over: list[tuple[str, str]] = []
        with self._wire.request(f"list {printable(path)}", self._no_folder(path), LISTING_SECONDS):
            for number, (raw, attributes) in enumerate(self._wire.entries(path), 1):
                if number > MOST_ENTRIES:
                    raise SftpError(
                        f"The list of {printable(path)} on {self._wire.server} does not end: {number:,} entries so "
                        "far.",
                        "Remove old files there, or name the folder of the exports in opt_out.export.directory.",
                    )
                name = raw.decode("utf-8", "surrogateescape")
                if name in (".", "..") or not fnmatch.fnmatchcase(name, pattern):
                    continue
                wrong = wrong_with_name(raw) or wrong_with_kind(attributes)
                if wrong:
                    passed_over.append((printable(raw), wrong))
                else:
                    files.append(_remote_file(name, attributes))
        files.sort(key=lambda file: (file.modified, file.name))
        return Listing(tuple(files), tuple(sorted(passed_over)))

    @contextmanager
    def open(self, directory: str, name: str, expected: RemoteFile | None = None) -> Generator[BinaryIO]:
        """Yield the content of a regular file as a stream, from front to end; memory use stays constant.

        Size and time must be those of `expected` (default: those found first) before the first byte and after the last:
        reading to the end, or leaving the block before it, raises FileChanged if they are not. Raises FileGone if there
        is no such file.
        """
        path = path_of(directory, name)
        file = self._regular_file(path, name, expected)
        with self._request("open", path):
            opened = self._wire.open(path)
        try:
            self._prove_unchanged(opened, path, file)
            with io.BufferedReader(_Stream(self._windows(opened, path, file)), PIECE) as stream:
                yield stream
            self._prove_unchanged(opened, path, file)
        finally:
            with suppress(SftpError), self._request("close", path):  # the file is not read any more
                opened.close()

    def _windows(self, opened: Any, path: bytes, file: RemoteFile) -> Iterator[bytes]:
        """Yield a file's content. Only the waits for it count as time, not what the caller does with it."""
        seconds, waited = START_SECONDS + file.size / SLOWEST, 0.0
        for start in range(0, file.size, WINDOW):
            stop, asked_at = min(start + WINDOW, file.size), time.monotonic()
            with self._wire.request(f"read {printable(path)}", self._gone(path), seconds, waited):
                window = self._wire.read(opened.handle, start, stop)
            if len(window) != stop - start:
                raise self._changed(path)
            waited += time.monotonic() - asked_at
            yield window
        self._prove_unchanged(opened, path, file)

    def _prove_unchanged(self, opened: Any, path: bytes, file: RemoteFile) -> None:
        """Check that both the open file and the file now under its name are the one that was listed."""
        with self._request("look at", path):
            opened_now = opened.stat()
        if (opened_now.st_size, opened_now.st_mtime) != (file.size, int(file.modified.timestamp())):
            raise self._changed(path)
        self._regular_file(path, file.name, file)

    def remove(self, directory: str, name: str, expected: RemoteFile | None = None) -> None:
        """Remove a regular file. Raises FileGone, FileChanged if it is not the expected one."""
        path = path_of(directory, name)
        self._regular_file(path, name, expected)
        with self._request("remove", path):
            self._wire.remove(path)

    def archive(self, directory: str, name: str, folder: str, expected: RemoteFile | None = None) -> str:
        """Move a regular file, in one step, into a folder beside it; return its name there.

        The folder is made if necessary. If the name is taken, the time of the file's last change is appended,
        `.20261124T101500Z`. Never replaces a file. Raises FileGone, FileChanged if it is not the expected one.
        """
        path, archive = path_of(directory, name), path_of(directory, folder)
        file = self._regular_file(path, name, expected)
        self._make_folder(archive)
        for kept in (name, f"{name}.{file.modified:%Y%m%dT%H%M%SZ}"):
            target = archive + b"/" + kept.encode()
            if self._look(target) is None:
                with self._wire.request(f"move {printable(path)} to {printable(target)}", self._gone(path)):
                    self._wire.rename(path, target)
                return kept
        raise SftpError(
            f"{printable(path)} on {self._wire.server} cannot be archived: {printable(archive)} has that name already, "
            "and it with the time, too.",
            "Remove the one in the archive.",
        )

    def put(self, directory: str, name: str, content: bytes) -> None:
        """Write a file, replacing one of that name. Creates the folder and its parents."""
        self.put_stream(directory, name, f"{name}.{uuid.uuid4().hex}.part", iter([content]))

    def put_stream(self, directory: str, name: str, part: str, pieces: Iterator[bytes]) -> int:
        """Write a file from pieces, replacing one of that name; return its bytes. Creates the folder and its parents.

        It is written under the name `part` and then renamed, so that no reader sees half of it. On a server that cannot
        replace a file there is none for a moment. What `pieces` raises is raised.
        """
        path, at, sent = path_of(directory, name), path_of(directory, part), 0
        self.make_folders(directory)
        missing = self._no_folder(path_of(directory))
        try:
            with self._wire.request(f"write {printable(path)}", missing):
                opened = self._wire.open(at, "wb")
                opened.set_pipelined(True)
            try:
                for piece in pieces:
                    for start in range(0, len(piece), WINDOW):
                        with self._wire.request(f"write {printable(path)}", missing, START_SECONDS):
                            opened.write(piece[start : start + WINDOW])
                    sent += len(piece)
            finally:
                with self._wire.request(f"write {printable(path)}", missing, START_SECONDS):
                    opened.close()
            with self._wire.request(f"write {printable(path)}", missing):
                if self._wire.lstat(at).st_size != sent:
                    raise Refused(SFTP_FAILURE, "it is not complete there")
                self._replace(at, path)
        except BaseException:
            with suppress(OSError, SftpError):
                self._wire.remove(at)
            raise
        return sent

    def make_folders(self, directory: str) -> None:
        """Create a folder and its parents unless they exist."""
        folders = path_of(directory).split(b"/")
        for depth in range(1, len(folders) + 1):
            if folder := b"/".join(folders[:depth]):
                self._make_folder(folder)

    def _replace(self, part: bytes, path: bytes) -> None:
        try:
            self._wire.posix_rename(part, path)
        except Refused as refused:
            if refused.code != SFTP_OP_UNSUPPORTED:
                raise
            if self._look(path) is not None:
                self._wire.remove(path)
            self._wire.rename(part, path)

    def storage(self, directory: str) -> Storage | None:
        """Return the space of the folder's file system; None if the server does not report any. Raises NoSuchFolder."""
        path = path_of(directory)
        with self._wire.request(f"measure {printable(path)}", self._no_folder(path)):
            try:
                numbers = self._wire.statvfs(path)
            except Refused as refused:
                if refused.code == SFTP_NO_SUCH_FILE:
                    raise
                return None
        _, fragment, blocks, free, free_for_us = numbers[:5]
        used = fragment * (blocks - free)
        size = used + fragment * free_for_us
        return Storage(used, size) if size else None

    def room(self, directory: str, licensed_mb: int | None) -> Storage | None:
        """Return the space that the server reports or that is licensed, whichever is fuller; None if neither is known.

        The licensed space may be part of a larger file system, so the files themselves are added up for it. Raises
        NoSuchFolder.
        """
        known = [self.storage(directory)]
        if licensed_mb:
            known.append(Storage(self.used(), licensed_mb * 1_000_000))
        return max((storage for storage in known if storage), key=lambda storage: storage.share, default=None)

    def used(self) -> int:
        """Return the bytes of all regular files below the folder of the sign-in, of MOST_MEASURED entries at most.

        Folders that must not be listed count as empty.
        """
        used, left, folders = 0, MOST_MEASURED, [b"."]
        while folders and left > 0:
            path = folders.pop()
            with self._wire.request(f"measure {printable(path)}", self._no_folder(path), LISTING_SECONDS):
                try:
                    for name, attributes in islice(self._wire.entries(path), left):
                        left -= 1
                        used += (attributes.st_size or 0) if stat.S_ISREG(attributes.st_mode or 0) else 0
                        if stat.S_ISDIR(attributes.st_mode or 0) and name not in (b".", b".."):
                            folders.append(path + b"/" + name)
                except Refused:
                    continue
        return used

    def _request(self, verb: str, path: bytes) -> Any:
        """Return the context of a request for one file."""
        return self._wire.request(f"{verb} {printable(path)}", self._gone(path))

    def _look(self, path: bytes) -> SFTPAttributes | None:
        """Return the attributes of an entry, without following links; None if there is none."""
        try:
            with self._request("look at", path):
                return self._wire.lstat(path)
        except FileGone:
            return None

    def _regular_file(self, path: bytes, name: str, expected: RemoteFile | None = None) -> RemoteFile:
        """Return the file that has the path now.

        Raises FileGone, FileChanged if it is not the expected one, SftpError if it is no regular file.
        """
        attributes = self._look(path)
        if attributes is None:
            raise self._gone(path)
        if wrong := wrong_with_kind(attributes):
            raise SftpError(
                f"{printable(path)} on {self._wire.server} is not taken: {wrong}.",
                "Only regular files are; remove or rename it.",
            )
        file = _remote_file(name, attributes)
        if expected and (file.size, file.modified) != (expected.size, expected.modified):
            raise self._changed(path)
        return file

    def _make_folder(self, path: bytes) -> None:
        """Create a folder unless it exists."""
        attributes = self._look(path)
        if attributes is None:
            with self._wire.request(f"make {printable(path)}", self._no_folder(path)):
                self._wire.mkdir(path)
        elif not stat.S_ISDIR(attributes.st_mode or 0):
            raise SftpError(
                f"{printable(path)} on {self._wire.server} is no folder, so nothing can be put there.",
                "Rename the file of that name.",
            )

    def _gone(self, path: bytes) -> FileGone:
        return FileGone(f"{printable(path)} is not on {self._wire.server} any more.")

    def _changed(self, path: bytes) -> FileChanged:
        return FileChanged(
            f"{printable(path)} on {self._wire.server} is not what it was any more: its size or time changed.",
            "Campaign may be writing it: take it once it has settled.",
        )

    def _no_folder(self, path: bytes) -> NoSuchFolder:
        return NoSuchFolder(
            f"There is no folder {printable(path)} on {self._wire.server}.",
            "Make it there, or correct opt_out.export.directory.",
        )


class _Stream(io.RawIOBase):
    """Pieces of bytes as a stream."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces, self._piece = pieces, memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        self._piece = self._piece or memoryview(next(self._pieces, b""))
        length = min(len(buffer), len(self._piece))
        buffer[:length] = self._piece[:length]
        self._piece = self._piece[length:]
        return length


def _remote_file(name: str, attributes: SFTPAttributes) -> RemoteFile:
    """Return a file from its attributes, whose kind must be accepted."""
    return RemoteFile(name, attributes.st_size or 0, datetime.fromtimestamp(attributes.st_mtime or 0, UTC))
