"""The client of the Campaign SFTP, which holds opt-out files and logs (docs/dev/references/campaign.md 8).

client                    list, read, write, move and remove files: start reading here
remote_files, read_ahead  the names and kinds of files that are accepted; a file as a stream
ssh, known_hosts          connection, algorithms, host key and sign-in
private_key               the key to sign in with
errors                    what can go wrong
protocol                  paramiko's SFTP client, with its answers checked
"""

from sync_assets.sftp.client import Listing, Sftp, Storage, connect
from sync_assets.sftp.errors import HostKeyRefused, SftpError, SignInRefused, Unreachable
from sync_assets.sftp.remote_files import FileChanged, FileGone, NoSuchFolder, RemoteFile

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
