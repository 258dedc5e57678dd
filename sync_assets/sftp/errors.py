"""The errors of the Campaign SFTP."""

from sync_assets.errors import SyncAssetsError


class SftpError(SyncAssetsError):
    """An error of the Campaign SFTP that the operator can correct."""


class Unreachable(SftpError):
    """Raised when there is no connection, it was lost, or no answer came in time; a later try may work."""


class HostKeyRefused(SftpError):
    """Raised when the known_hosts file does not have the server's key; nothing was sent to the server."""


class SftpSignInRefused(SftpError):
    """Raised when our key cannot be used, or the server does not accept it."""


class NoSuchFolder(SftpError):
    """Raised when a folder does not exist, or is no folder."""


class FileGone(SftpError):
    """Raised when a file no longer exists."""


class FileChanged(FileGone):
    """Raised when a file was replaced, or changed while it was read: the listed version no longer exists."""
