"""Entries of folders on the SFTP: their paths, and which of them are accepted. Pure."""

import stat
import unicodedata

from paramiko import SFTPAttributes

from sync_assets.sftp.errors import SftpError
from sync_assets.sftp.protocol import printable

_CONTROL = frozenset({"Cc", "Cf", "Zl", "Zp"})
"""Unicode's control and format characters and line ends: a name with one cannot be shown as it is."""


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


def wrong_with_kind(attributes: SFTPAttributes) -> str | None:
    """Return why an entry of that kind is not accepted; None if it is."""
    if attributes.st_mode is None or attributes.st_size is None or attributes.st_mtime is None:
        return "the server does not report its kind, size and time"
    if stat.S_ISLNK(attributes.st_mode):
        return "a symbolic link"
    if stat.S_ISDIR(attributes.st_mode):
        return "a folder"
    return None if stat.S_ISREG(attributes.st_mode) else "no regular file"
