"""paramiko's SFTP client with checked answers, status codes and time limits; names and paths are bytes.

What paramiko offers no public method for (names as bytes, answers to pieces that are requested ahead) stands on its
`_request`, `_async_request` and `_read_response` (docs/dev/decisions/sftp-protocol.md). For one thread at a time.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import paramiko
from paramiko import SFTPAttributes
from paramiko.sftp import (
    CMD_CLOSE,
    CMD_EXTENDED,
    CMD_EXTENDED_REPLY,
    CMD_HANDLE,
    CMD_NAME,
    CMD_OPENDIR,
    CMD_READDIR,
    SFTP_EOF,
    SFTP_OK,
)

from sync_assets.sftp.errors import SftpError, Unreachable

ANSWER_SECONDS = 60.0
"""Seconds from the wait for an answer's first byte to its last one, even if bytes keep coming."""
LONGEST_WORDS = 100
"""Characters at most that we repeat of the server's message on a refusal."""

_LATER = "Run it again later; if it goes on, ask the owner of the server."


class Refused(OSError):
    """Raised when the server refuses a request. `code`: its status; `words`: its message, printable."""

    def __init__(self, code: int, words: str) -> None:
        self.code, self.words = code, words
        super().__init__(words)


def printable(text: bytes) -> str:
    """Return the server's bytes as printable text, with escapes for all other characters."""
    decoded = text.decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in decoded)


class Answer(paramiko.Message):
    """An answer that raises SFTPError if it ends too early; paramiko's own continues with zeros."""

    def get_bytes(self, n: int) -> bytes:
        content = self.packet.read(n)
        if len(content) < n:
            raise paramiko.SFTPError("The answer ends too early")
        return content


class SftpProtocol(paramiko.SFTPClient):
    """`server`: its name in errors.

    Methods raise Refused, paramiko.SFTPError for an invalid answer, and Unreachable if none comes, after which the
    connection is closed.
    """

    def __init__(self, channel: paramiko.Channel, server: str) -> None:
        self.server = server
        self._until = time.monotonic() + ANSWER_SECONDS
        try:
            super().__init__(channel)
        except (paramiko.SFTPError, struct.error) as error:
            raise self.no_sftp() from error

    def entries(self, path: bytes) -> Iterator[tuple[bytes, SFTPAttributes]]:
        """Yield the entries of a folder. Not paramiko's listing, which stops at a name that is not UTF-8."""
        handle = self._ask(CMD_HANDLE, CMD_OPENDIR, path).get_binary()
        try:
            while True:
                answer = self._ask(CMD_NAME, CMD_READDIR, handle)
                count = answer.get_int()
                for _ in range(count):
                    name, _as_ls_would_show = answer.get_binary(), answer.get_binary()
                    yield name, SFTPAttributes._from_msg(answer)  # pyright: ignore[reportAttributeAccessIssue]
                if not count:
                    return
        except Refused as refused:
            if refused.code != SFTP_EOF:
                raise
        finally:
            with suppress(
                Refused, SftpError, paramiko.SFTPError
            ):  # the list is complete, or another error is being raised
                self._request(CMD_CLOSE, handle)

    def statvfs(self, path: bytes) -> tuple[int, ...]:
        """Return the eleven numbers of statvfs(3), by OpenSSH's extension (its PROTOCOL file, 4.4)."""
        answer = self._ask(CMD_EXTENDED_REPLY, CMD_EXTENDED, b"statvfs@openssh.com", path)
        return tuple(answer.get_int64() for _ in range(11))

    def no_sftp(self) -> SftpError:
        """Close the connection, and return the error for an answer that is not of the protocol."""
        return self._ends(
            SftpError(
                f"What answers at {self.server} is no SFTP, or a broken one.",
                "See whether `sftp` works there; a login script that prints something is a usual reason.",
            )
        )

    def _ask(self, expected: int, kind: int, *fields: bytes) -> Any:
        came, answer = self._request(kind, *fields)
        if came != expected:
            raise paramiko.SFTPError("Another answer was expected")
        return answer

    # --- paramiko's methods ---

    def _request(self, t: int, *args: Any) -> tuple[Any, Any]:
        kind, message = super()._request(t, *args)  # pyright: ignore[reportAttributeAccessIssue]
        return kind, Answer(message.get_remainder())

    def _convert_status(self, msg: paramiko.Message) -> None:
        code = Answer(msg.get_remainder()).get_int()
        if code != SFTP_OK:
            msg.get_int()
            raise Refused(code, printable(msg.get_binary())[:LONGEST_WORDS])  # older servers send no message

    def _read_response(self, waitfor: int | None = None) -> tuple[Any, Any]:
        self._until = time.monotonic() + ANSWER_SECONDS
        return super()._read_response(waitfor)  # pyright: ignore[reportAttributeAccessIssue]

    def _send_packet(self, t: int, packet: paramiko.Message) -> None:
        with self._connection_errors():
            super()._send_packet(t, packet)  # pyright: ignore[reportAttributeAccessIssue]

    def _read_all(self, n: int) -> bytes:
        received = bytearray()
        while len(received) < n:
            if time.monotonic() > self._until:
                raise self._cut_off(f"did not finish an answer within {ANSWER_SECONDS:g} seconds")
            with self._connection_errors():
                piece = self.sock.recv(n - len(received))
                if not piece:
                    raise EOFError
            received += piece
        return bytes(received)

    @contextmanager
    def _connection_errors(self) -> Generator[None]:
        try:
            yield
        except TimeoutError as error:
            raise self._cut_off(f"gave no answer within {self.sock.gettimeout():g} seconds") from error
        except (OSError, EOFError, paramiko.SSHException) as error:
            raise self._cut_off("cut the connection") from error

    def _cut_off(self, cause: str) -> SftpError:
        return self._ends(Unreachable(f"{self.server} {cause}.", _LATER))

    def _ends(self, error: SftpError) -> SftpError:
        with suppress(OSError, EOFError, paramiko.SSHException):
            self.sock.close()
        return error
