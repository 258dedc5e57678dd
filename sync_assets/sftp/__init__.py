"""The Campaign SFTP, over which opt-out files come (docs/references/campaign.md 8).

client        what can be done there: start reading here
files, reading   names and kinds that are taken; a file as a stream
ssh, known_hosts   the way there: who the server is, and signing in
wire          the protocol
"""

from sync_assets.sftp.client import Listing, Sftp, Storage, connect
from sync_assets.sftp.remote_files import FileChanged, FileGone, NoSuchFolder, RemoteFile
from sync_assets.sftp.ssh import HostKeyRefused, SftpError, SignInRefused, Unreachable

__all__ = [
    "FileChanged",
    "FileGone",
    "HostKeyRefused",
    "Listing",
    "NoSuchFolder",
    "RemoteFile",
    "Sftp",
    "SftpError",
    "SignInRefused",
    "Storage",
    "Unreachable",
    "connect",
]
