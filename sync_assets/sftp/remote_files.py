"""Files on the server: the names and kinds that are accepted, and the errors for refused requests."""

from __future__ import annotations

import stat
import unicodedata
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

import paramiko
from paramiko import SFTPAttributes
from paramiko.sftp import SFTP_NO_SUCH_FILE, SFTP_PERMISSION_DENIED

from sync_assets.sftp.errors import SftpError
from sync_assets.sftp.protocol import Refused, SftpProtocol, printable

_CONTROL = frozenset({"Cc", "Cf", "Zl", "Zp"})
"""Unicode's control and format characters and line ends: a name with one cannot be shown as it is."""


class NoSuchFolder(SftpError):
    """Raised when a folder does not exist, or is no folder."""


class FileGone(SftpError):
    """Raised when a file no longer exists."""


class FileChanged(FileGone):
    """Raised when a file was replaced, or changed while it was read: the listed version no longer exists."""


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A regular file: bytes, and the UTC time of its last change in whole seconds."""

    name: str
    size: int
    modified: datetime


def path_of(directory: str, name: str | None = None) -> bytes:
    """Return the path of a folder, or of an entry in it, in the protocol's form.

    Raises SftpError for an invalid name.
    """
    parts = [directory.rstrip("/") or ("/" if directory.startswith("/") else ".")]
    if name is not None:
        if not name or name in (".", "..") or "/" in name:
            raise SftpError(f"{printable(name.encode('utf-8', 'replace'))!r} is no file name.")
        parts.append(name)
    try:
        path = "/".join(parts).replace("//", "/").encode()
    except UnicodeEncodeError as error:
        raise SftpError(f"A name in {directory!r} is not UTF-8.") from error
    if b"\0" in path:
        raise SftpError(f"{printable(path)!r} is no path.")
    return path


def wrong_with_name(name: bytes) -> str | None:
    """Return why an entry with that name is not accepted; None if it is."""
    try:
        text = name.decode()
    except UnicodeDecodeError:
        return "its name is not UTF-8"
    if "/" in text:
        return "its name holds a slash"
    if any(unicodedata.category(character) in _CONTROL for character in text):
        return "its name holds control characters"
    return None


def wrong_with_kind(found: SFTPAttributes) -> str | None:
    """Return why an entry of that kind is not accepted; None if it is."""
    if found.st_mode is None or found.st_size is None or found.st_mtime is None:
        return "the server does not tell its kind, size and time"
    if stat.S_ISLNK(found.st_mode):
        return "a symbolic link"
    if stat.S_ISDIR(found.st_mode):
        return "a folder"
    return None if stat.S_ISREG(found.st_mode) else "no regular file"


def remote_file(name: str, found: SFTPAttributes) -> RemoteFile:
    """Return a file from its attributes, whose kind must be accepted."""
    assert found.st_size is not None
    assert found.st_mtime is not None
    return RemoteFile(name, found.st_size, datetime.fromtimestamp(found.st_mtime, UTC))


def regular_file(wire: SftpProtocol, path: bytes, name: str, expected: RemoteFile | None = None) -> RemoteFile:
    """Return the file that has the path now.

    Raises FileGone, FileChanged if it is not the expected one, SftpError if it is no regular file.
    """
    with refusals(wire, f"look at {printable(path)}", gone(wire, path)):
        found = wire.lstat(path)
    wrong = wrong_with_kind(found)
    if wrong:
        raise SftpError(
            f"{printable(path)} on {wire.server} is not taken: {wrong}.", "Only regular files are; remove or rename it."
        )
    file = remote_file(name, found)
    if expected and (file.size, file.modified) != (expected.size, expected.modified):
        raise changed(wire, path)
    return file


def gone(wire: SftpProtocol, path: bytes) -> FileGone:
    return FileGone(f"{printable(path)} is not on {wire.server} any more.")


def changed(wire: SftpProtocol, path: bytes) -> FileChanged:
    return FileChanged(
        f"{printable(path)} on {wire.server} is not what it was any more: its size or time changed.",
        "Campaign may be writing it: take it once it has settled.",
    )


def no_such_folder(wire: SftpProtocol, path: bytes) -> NoSuchFolder:
    return NoSuchFolder(
        f"There is no folder {printable(path)} on {wire.server}.",
        "Make it there, or correct opt_out.export.directory.",
    )


@contextmanager
def refusals(wire: SftpProtocol, deed: str, missing: SftpError) -> Generator[None]:
    """Turn a refused request into an error for people.

    `deed`: the action, for the message; `missing`: the error to raise if the file or folder does not exist.
    """
    try:
        yield
    except paramiko.SFTPError as error:
        raise wire.no_sftp() from error
    except Refused as refused:
        if refused.code == SFTP_NO_SUCH_FILE:
            raise missing from refused
        if refused.code == SFTP_PERMISSION_DENIED:
            raise SftpError(
                f"{wire.server} does not permit us to {deed}.", "Give the user of CAMPAIGN_SFTP_USER the permission."
            ) from refused
        text = refused.words or f"status {refused.code}"
        raise SftpError(f"{wire.server} refuses to {deed}: {text}.", "Ask its owner if it goes on.") from refused
