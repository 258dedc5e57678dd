"""The SFTP server of a simulation, in place of a connection: the folder of export files, and faults of the server."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from io import BufferedReader, RawIOBase
from typing import Any, BinaryIO

from sync_assets.opt_out.export import folder, staging
from sync_assets.sftp.client import Listing, RemoteFile
from sync_assets.sftp.errors import FileChanged, FileGone, Unreachable
from sync_assets_tests.simulation.clock import Clock

KINDS = ("unreachable", "cut", "replaced")
Fault = Callable[[], str | None]
"""Returns what happens to the next connection or read (KINDS); None if nothing does."""


class _Content(RawIOBase):
    """The content of a file. error: raised after half of it; None if it is read to its end."""

    def __init__(self, content: bytes, error: Exception | None) -> None:
        self._left, self._error = content[: len(content) // 2] if error else content, error

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._left and self._error:
            raise self._error
        piece = self._left[: len(buffer)]
        buffer[: len(piece)], self._left = piece, self._left[len(piece) :]
        return len(piece)


class SimulatedSftp:
    """The SFTP server's folder of exports (see `sftp.client.Sftp`). files: content and time of change by name.

    was_read: receives the name of each file that was read to its end.
    """

    def __init__(
        self, files: dict[str, tuple[bytes, float]], was_read: Callable[[str], None], fault: Fault, clock: Clock
    ) -> None:
        self._files, self._was_read, self._fault, self._clock = files, was_read, fault, clock

    @contextmanager
    def connect(self, settings: object, **_: object) -> Generator[SimulatedSftp]:
        if self._fault() == "unreachable":
            raise Unreachable("The SFTP server cannot be reached (simulated).")
        yield self

    def listing(self, directory: str, pattern: str) -> Listing:
        named = (self._file(name) for name in self._files if fnmatchcase(name, pattern))
        return Listing(tuple(sorted(named, key=lambda file: (file.modified, file.name))), ())

    @contextmanager
    def open(self, directory: str, name: str, expected: RemoteFile | None = None) -> Generator[BinaryIO]:
        self._check(name, expected)
        content, error = self._files[name][0], None
        match self._fault():
            case "cut":
                error = Unreachable("The connection was lost (simulated).")
            case "replaced":  # Campaign uploads it once more while it is read
                self._files[name] = content, self._clock.time()
                error = FileChanged(f"{name} was changed while it was read (simulated).")
            case _:
                pass
        with BufferedReader(_Content(content, error)) as stream:
            yield stream
        self._was_read(name)

    def remove(self, directory: str, name: str, expected: RemoteFile | None = None) -> None:
        self._check(name, expected)
        del self._files[name]

    archive = None
    """Not used: files are kept or deleted."""

    def room(self, directory: str, licensed_mb: int | None) -> None:
        return None

    def _file(self, name: str) -> RemoteFile:
        content, changed = self._files[name]
        return RemoteFile(name, len(content), datetime.fromtimestamp(int(changed), UTC))

    def _check(self, name: str, expected: RemoteFile | None) -> None:
        if name not in self._files or (expected and self._file(name) != expected):
            raise FileGone(f"{name} is not what it was any more.")


@contextmanager
def sftp_in_place(
    files: dict[str, tuple[bytes, float]], was_read: Callable[[str], None], fault: Fault, clock: Clock
) -> Generator[None]:
    """Let the program find these files on its SFTP server inside the block."""
    server: Any = SimulatedSftp(files, was_read, fault, clock)
    before = folder.connect
    folder.connect = staging.connect = server.connect
    try:
        yield
    finally:
        folder.connect = staging.connect = before
