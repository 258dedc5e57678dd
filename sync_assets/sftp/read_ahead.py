"""Read a remote file as a stream. Pieces are requested ahead, so that latency does not slow reading down.

At most two megabytes are requested at any time.
"""

from __future__ import annotations

import io
import time
from collections import deque
from contextlib import suppress
from typing import Any

import paramiko
from paramiko.sftp import CMD_DATA, CMD_READ, CMD_STATUS, SFTP_EOF, int64

from sync_assets.sftp.errors import SftpError, Unreachable
from sync_assets.sftp.protocol import Answer, Refused, SftpProtocol, printable
from sync_assets.sftp.remote_files import RemoteFile, changed, gone, refusals, regular_file

PIECE = 32 * 1024
"""Bytes in one request; every server returns that many (draft-ietf-secsh-filexfer-02, section 3)."""
SLOWEST = 32 * 1024
"""Bytes per second below which reading is given up: a file of 1 GB may take nine hours."""
START_SECONDS = 120.0
"""Seconds of waiting that any file may take in addition."""
AHEAD = 64
"""Pieces requested at most. They fill paramiko's window of 2 MB: 34 MB/s with a latency of 50 ms (measured)."""


class Reading(io.RawIOBase):
    """An open file, read from front to end. Its end is only returned if the file is still the one that was opened.

    Returns at most as many bytes as the file had when it was opened, and waits at most START_SECONDS plus the time that
    they take at SLOWEST. Raises FileChanged, FileGone, SftpError, Unreachable, at opening and while reading.
    """

    def __init__(self, wire: SftpProtocol, path: bytes, file: RemoteFile) -> None:
        self._wire, self._path, self._file = wire, path, file
        self._asked_for = 0
        self._ahead: deque[tuple[int, int, int]] = deque()
        """(number of the request, offset, length), in the order of the file"""
        self._answers: dict[int, tuple[int, paramiko.Message]] = {}
        self._piece = memoryview(b"")
        self._proved = False
        self._waited = 0.0
        with refusals(wire, f"open {printable(path)}", gone(wire, path)):
            self._open = wire.open(path)
        try:
            self._compare()
        except BaseException:
            self.close()
            raise

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        if not self._piece:
            self._piece = memoryview(self._next())
        if not self._piece:
            self.prove_unchanged()
            return 0
        length = min(len(buffer), len(self._piece))
        buffer[:length] = self._piece[:length]
        self._piece = self._piece[length:]
        return length

    def prove_unchanged(self) -> None:
        """Raise FileChanged unless the file is still what it was when it was opened. Checks only once."""
        if not self._proved:
            self._compare()
            self._proved = True

    def close(self) -> None:
        if not self.closed and hasattr(self, "_open"):
            with suppress(SftpError):  # the file is not read any more, so an error does not matter
                self._open.close()
            self._answers.clear()
        super().close()

    def _next(self) -> bytes:
        """Return the next piece of the file; empty at its end."""
        size = self._file.size
        with refusals(self._wire, f"read {printable(self._path)}", gone(self._wire, self._path)):
            while self._asked_for < size and len(self._ahead) < AHEAD:
                length = min(PIECE, size - self._asked_for)
                self._ahead.append((self._ask(self._asked_for, length), self._asked_for, length))
                self._asked_for += length
            if not self._ahead:
                return b""
            number, offset, length = self._ahead.popleft()
            data = more = self._data(number)
            while more and len(data) < length:  # a server may return less than requested
                more = self._data(self._ask(offset + len(data), length - len(data)))
                data += more
        if len(data) != length:
            raise changed(self._wire, self._path)
        return data

    def _ask(self, offset: int, length: int) -> int:
        request = (CMD_READ, self._open.handle, int64(offset), length)
        return self._wire._async_request(self, *request)  # pyright: ignore[reportAttributeAccessIssue]

    def _async_response(self, kind: int, answer: paramiko.Message, number: int) -> None:
        """Keep the answer to a request of `_ask`. Called by paramiko."""
        self._answers[number] = kind, answer

    def _data(self, number: int) -> bytes:
        """Return a requested piece. Only the wait for it counts as time, not what the caller does with it."""
        while number not in self._answers:
            asked_at = time.monotonic()
            self._wire._read_response()
            self._waited += time.monotonic() - asked_at
            if self._waited > START_SECONDS + self._file.size / SLOWEST:
                raise Unreachable(
                    f"{self._wire.server} gives {printable(self._path)} too slowly: {self._waited:,.0f} seconds of "
                    f"waiting were not enough for its {self._file.size:,} bytes.",
                    "It is tried again later; if it goes on, ask the owner of the server.",
                )
        kind, answer = self._answers.pop(number)
        try:
            if kind == CMD_STATUS:
                self._wire._convert_status(answer)
        except Refused as refused:
            if refused.code != SFTP_EOF:
                raise
            return b""
        if kind != CMD_DATA:
            raise paramiko.SFTPError("A piece of the file was expected")
        return Answer(answer.get_remainder()).get_binary()

    def _compare(self) -> None:
        """Check that both the open file and the file now under its name are the one that was listed."""
        with refusals(self._wire, f"look at {printable(self._path)}", gone(self._wire, self._path)):
            opened = self._open.stat()
        if (opened.st_size, opened.st_mtime) != (self._file.size, int(self._file.modified.timestamp())):
            raise changed(self._wire, self._path)
        regular_file(self._wire, self._path, self._file.name, self._file)
