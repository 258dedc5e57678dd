"""The errors of the Campaign SFTP."""

from __future__ import annotations

from sync_assets.errors import SyncAssetsError


class SftpError(SyncAssetsError):
    """An error of the Campaign SFTP that the operator can correct."""


class Unreachable(SftpError):
    """Raised when there is no connection, it was lost, or no answer came in time; a later try may work."""


class HostKeyRefused(SftpError):
    """Raised when the known_hosts file does not have the server's key; nothing was sent to the server."""


class SignInRefused(SftpError):
    """Raised when our key cannot be used, or the server does not accept it."""
