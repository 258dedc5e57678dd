"""The client of the Campaign SFTP (docs/dev/references/campaign.md 8).

Files are listed, read, written as a whole, archived and removed, nothing else; symbolic links, folders and devices are
neither followed nor opened. A file that is still being written looks like any other, so each step can require the file
to be as it was listed.
"""

from __future__ import annotations

import fnmatch
import stat
import time
import uuid
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import BufferedReader
from itertools import islice
from typing import BinaryIO

from paramiko import SFTPAttributes
from paramiko.sftp import SFTP_FAILURE, SFTP_NO_SUCH_FILE, SFTP_OP_UNSUPPORTED

from sync_assets.config.environment import SftpSettings
from sync_assets.sftp.errors import SftpError
from sync_assets.sftp.protocol import Refused, SftpProtocol, printable
from sync_assets.sftp.read_ahead import PIECE, Reading
from sync_assets.sftp.remote_files import (
    FileGone,
    RemoteFile,
    gone,
    no_such_folder,
    path_of,
    refusals,
    regular_file,
    remote_file,
    wrong_with_kind,
    wrong_with_name,
)
from sync_assets.sftp.ssh import place, sftp_channel

MOST_ENTRIES = 100_000
"""Entries of a folder at most. Campaign keeps exports for some days: a folder with more is not one of exports, or its
list does not end.
"""
MOST_MEASURED = 10_000
"""Entries at most whose sizes are added up."""
LISTING_SECONDS = 300.0
"""Seconds that a listing may take in total."""


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
        return self.used / self.size if self.size else 1.0


@contextmanager
def connect(settings: SftpSettings, *, timeout: float = 15.0) -> Generator[Sftp]:
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
        with refusals(self._wire, f"list {printable(path)}", no_such_folder(self._wire, path)):
            for raw, found in self._entries(path):
                name = raw.decode("utf-8", "surrogateescape")
                if name in (".", "..") or not fnmatch.fnmatchcase(name, pattern):
                    continue
                wrong = wrong_with_name(raw) or wrong_with_kind(found)
                if wrong:
                    passed_over.append((printable(raw), wrong))
                else:
                    files.append(remote_file(name, found))
        files.sort(key=lambda file: (file.modified, file.name))
        return Listing(tuple(files), tuple(sorted(passed_over)))

    def _entries(self, path: bytes) -> Generator[tuple[bytes, SFTPAttributes]]:
        until = time.monotonic() + LISTING_SECONDS
        for number, entry in enumerate(self._wire.entries(path), 1):
            if number > MOST_ENTRIES or time.monotonic() > until:
                raise SftpError(
                    f"The list of {printable(path)} on {self._wire.server} does not end: {number:,} entries so far.",
                    "Remove old files there, or name the folder of the exports in opt_out.export.directory.",
                )
            yield entry

    def find(self, directory: str, name: str) -> RemoteFile | None:
        """Return the regular file of that name; None if there is none."""
        found = self._look(path_of(directory, name))
        return None if found is None or wrong_with_kind(found) else remote_file(name, found)

    @contextmanager
    def open(self, directory: str, name: str, expected: RemoteFile | None = None) -> Generator[BinaryIO]:
        """Yield the content of a regular file as a stream, from front to end; memory use stays constant.

        Size and time must be those of `expected` (default: those found first) before the first byte and after the last:
        reading to the end, or leaving the block before it, raises FileChanged if they are not. Raises FileGone if there
        is no such file.
        """
        path = path_of(directory, name)
        file = regular_file(self._wire, path, name, expected)
        with Reading(self._wire, path, file) as reading, BufferedReader(reading, PIECE) as stream:
            yield stream
            reading.prove_unchanged()

    def remove(self, directory: str, name: str, expected: RemoteFile | None = None) -> None:
        """Remove a regular file. Raises FileGone, FileChanged if it is not the expected one."""
        path = path_of(directory, name)
        regular_file(self._wire, path, name, expected)
        with refusals(self._wire, f"remove {printable(path)}", gone(self._wire, path)):
            self._wire.remove(path)

    def archive(self, directory: str, name: str, folder: str = "archive", expected: RemoteFile | None = None) -> str:
        """Move a regular file, in one step, into a folder beside it; return its name there.

        The folder is made if necessary. If the name is taken, the time of the file's last change is appended,
        `.20261124T101500Z`. Never replaces a file. Raises FileGone, FileChanged if it is not the expected one.
        """
        path, archive = path_of(directory, name), path_of(directory, folder)
        file = regular_file(self._wire, path, name, expected)
        self._make_folder(archive)
        for kept in (name, f"{name}.{file.modified:%Y%m%dT%H%M%SZ}"):
            target = archive + b"/" + kept.encode()
            if self._look(target) is None:
                with refusals(self._wire, f"move {printable(path)} to {printable(target)}", gone(self._wire, path)):
                    self._wire.rename(path, target)
                return kept
        raise SftpError(
            f"{printable(path)} on {self._wire.server} cannot be archived: {printable(archive)} has that name already, "
            "and it with the time, too.",
            "Remove the one in the archive.",
        )

    def put(self, directory: str, name: str, content: bytes) -> None:
        """Write a file, replacing one of that name. Creates the folder and its parents.

        It is written under another name and then renamed, so that no reader sees half of it. On a server that cannot
        replace a file there is none for a moment.
        """
        path = path_of(directory, name)
        part = path + f".{uuid.uuid4().hex}.part".encode()
        folders = path_of(directory).split(b"/")
        for depth in range(1, len(folders) + 1):
            if folder := b"/".join(folders[:depth]):
                self._make_folder(folder)
        with refusals(self._wire, f"write {printable(path)}", no_such_folder(self._wire, path_of(directory))):
            try:
                with self._wire.open(part, "wx") as stream:
                    stream.write(content)
                if self._wire.lstat(part).st_size != len(content):  # closing a file tells no errors
                    raise Refused(SFTP_FAILURE, "it is not complete there")
                try:
                    self._wire.posix_rename(part, path)
                except Refused as refused:
                    if refused.code != SFTP_OP_UNSUPPORTED:
                        raise
                    if self._look(path) is not None:
                        self._wire.remove(path)
                    self._wire.rename(part, path)
            except BaseException:
                with suppress(Refused, SftpError):
                    self._wire.remove(part)
                raise

    def storage(self, directory: str) -> Storage | None:
        """Return the space of the folder's file system; None if the server does not report it. Raises NoSuchFolder."""
        path = path_of(directory)
        with refusals(self._wire, f"measure {printable(path)}", no_such_folder(self._wire, path)):
            try:
                numbers = self._wire.statvfs(path)
            except Refused as refused:
                if refused.code == SFTP_NO_SUCH_FILE:
                    raise
                return None
        _, fragment, blocks, free, free_for_us = numbers[:5]
        used = fragment * (blocks - free)
        return Storage(used, used + fragment * free_for_us)

    def used(self) -> int:
        """Return the bytes of all regular files below the folder of the sign-in, of MOST_MEASURED entries at most.

        Folders that must not be listed count as empty.
        """
        used, left, folders = 0, MOST_MEASURED, [b"."]
        while folders and left > 0:
            path = folders.pop()
            with refusals(self._wire, f"measure {printable(path)}", no_such_folder(self._wire, path)):
                try:
                    for name, found in islice(self._entries(path), left):
                        left -= 1
                        used += (found.st_size or 0) if stat.S_ISREG(found.st_mode or 0) else 0
                        if stat.S_ISDIR(found.st_mode or 0) and name not in (b".", b".."):
                            folders.append(path + b"/" + name)
                except Refused:
                    continue
        return used

    def _look(self, path: bytes) -> SFTPAttributes | None:
        """Return the attributes of an entry, without following links; None if there is none."""
        try:
            with refusals(self._wire, f"look at {printable(path)}", gone(self._wire, path)):
                return self._wire.lstat(path)
        except FileGone:
            return None

    def _make_folder(self, path: bytes) -> None:
        """Create a folder unless it exists."""
        found = self._look(path)
        if found is None:
            with refusals(self._wire, f"make {printable(path)}", no_such_folder(self._wire, path)):
                self._wire.mkdir(path)
        elif not stat.S_ISDIR(found.st_mode or 0):
            raise SftpError(
                f"{printable(path)} on {self._wire.server} is no folder, so nothing can be put there.",
                "Rename what is in the way.",
            )
