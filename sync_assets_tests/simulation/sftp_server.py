"""The SFTP server of a simulation, in place of a connection: the folder of export files."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from io import BytesIO
from typing import Any, BinaryIO

from sync_assets.opt_out.export import folder, staging
from sync_assets.sftp import FileGone, RemoteFile
from sync_assets.sftp.client import Listing


class SimulatedSftp:
    """The SFTP server's folder of exports (see `sftp.client.Sftp`). files: content and time of change by name."""

    def __init__(self, files: dict[str, tuple[bytes, float]]) -> None:
        self._files = files

    @contextmanager
    def connect(self, settings: object, **_: object) -> Generator[SimulatedSftp]:
        yield self

    def listing(self, directory: str, pattern: str) -> Listing:
        named = (self._file(name) for name in self._files if fnmatchcase(name, pattern))
        return Listing(tuple(sorted(named, key=lambda file: (file.modified, file.name))), ())

    @contextmanager
    def open(self, directory: str, name: str, expected: RemoteFile | None = None) -> Generator[BinaryIO]:
        self._check(name, expected)
        yield BytesIO(self._files[name][0])

    def remove(self, directory: str, name: str, expected: RemoteFile | None = None) -> None:
        self._check(name, expected)
        del self._files[name]

    archive = None
    """Not used: files are kept or deleted."""

    def storage(self, directory: str) -> None:
        return None

    def _file(self, name: str) -> RemoteFile:
        content, changed = self._files[name]
        return RemoteFile(name, len(content), datetime.fromtimestamp(int(changed), UTC))

    def _check(self, name: str, expected: RemoteFile | None) -> None:
        if name not in self._files or (expected and self._file(name) != expected):
            raise FileGone(f"{name} is not what it was any more.")


@contextmanager
def sftp_in_place(files: dict[str, tuple[bytes, float]]) -> Generator[None]:
    """Let the program find these files on its SFTP server inside the block."""
    server: Any = SimulatedSftp(files)
    before = folder.connect
    folder.connect = staging.connect = server.connect
    try:
        yield
    finally:
        folder.connect = staging.connect = before
