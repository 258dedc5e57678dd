"""paramiko's SFTP client: what it lacks, and requests that end in time with an error for people.

paramiko stops a listing at a name that is not UTF-8, does not ask for the space of a file system, drops the status code
of a refusal, and reads ahead in a thread that may request a piece twice and logs a traceback of a lost connection.
These parts use methods of it that are not public (docs/dev/decisions/sftp-protocol.md).
"""

# pyright: reportAttributeAccessIssue=false

import struct
import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import paramiko
from paramiko import SFTPAttributes, sftp

from sync_assets.sftp.errors import SftpError, Unreachable

REQUEST_SECONDS = 60.0
"""Seconds that a request may take in total, even if bytes of its answer keep coming."""
PIECE = 32 * 1024
"""Bytes in one request; every server returns that many (draft-ietf-secsh-filexfer-02, section 3)."""
LONGEST_MESSAGE = 100
"""Characters at most of the server's message on a refusal that errors repeat."""


class Refused(OSError):
    """Raised when the server refuses a request. `code`: its status; `words`: its message, printable."""

    def __init__(self, code: int, words: str) -> None:
        self.code, self.words = code, words
        super().__init__(words)


def printable(text: bytes) -> str:
    """Return the server's bytes as printable text, with escapes for all other characters."""
    decoded = text.decode("utf-8", "backslashreplace")
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in decoded)


class SftpProtocol(paramiko.SFTPClient):
    """paramiko's client for paths and names as bytes. `server`: its name in errors. For one thread at a time."""

    def __init__(self, channel: paramiko.Channel, server: str) -> None:
        self.server = server
        self._pieces: dict[int, bytes] = {}
        with time_limit(channel, server, "begin"):
            super().__init__(channel)

    def entries(self, path: bytes) -> Iterator[tuple[bytes, SFTPAttributes]]:
        """Yield the entries of a folder."""
        handle = self._ask(sftp.CMD_HANDLE, sftp.CMD_OPENDIR, path).get_binary()
        try:
            while True:
                answer = self._ask(sftp.CMD_NAME, sftp.CMD_READDIR, handle)
                for _ in range(answer.get_int()):
                    name, _as_ls_would_show = answer.get_binary(), answer.get_binary()
                    yield name, SFTPAttributes._from_msg(answer)
        except EOFError:
            self._request(sftp.CMD_CLOSE, handle)

    def read(self, handle: bytes, start: int, stop: int) -> bytes:
        """Return these bytes of an open file, requested all at once; fewer if the file ends before."""
        content = bytearray()
        wanted = [(at, min(PIECE, stop - at)) for at in range(start, stop, PIECE)]
        asked = [self._async_request(self, sftp.CMD_READ, handle, sftp.int64(at), length) for at, length in wanted]
        for number, (at, length) in zip(asked, wanted, strict=True):
            while number not in self._pieces:
                self._read_response()
            piece = self._pieces.pop(number)
            with suppress(EOFError):
                while 0 < len(piece) < length:  # a server may return less than requested
                    missing = sftp.int64(at + len(piece)), length - len(piece)
                    piece += self._ask(sftp.CMD_DATA, sftp.CMD_READ, handle, *missing).get_binary()
            content += piece
            if len(piece) != length:
                break
        return bytes(content)

    def statvfs(self, path: bytes) -> tuple[int, ...]:
        """Return the eleven numbers of statvfs(3), by OpenSSH's extension (its PROTOCOL file, 4.4)."""
        answer = self._ask(sftp.CMD_EXTENDED_REPLY, sftp.CMD_EXTENDED, b"statvfs@openssh.com", path)
        return tuple(answer.get_int64() for _ in range(11))

    @contextmanager
    def request(
        self, action: str, missing: SftpError, seconds: float = REQUEST_SECONDS, waited: float = 0.0
    ) -> Generator[None]:
        """Turn the errors of requests into errors for people. A connection that fails is closed.

        Args:
            action: of the requests, for messages.
            missing: the error to raise if the file or folder does not exist.
            seconds: how long they may take.
            waited: how much of it has passed already.
        """
        with time_limit(self.sock, self.server, action, seconds, waited):
            try:
                yield
            except Refused as refused:
                if refused.code == sftp.SFTP_NO_SUCH_FILE:
                    raise missing from refused
                if refused.code == sftp.SFTP_PERMISSION_DENIED:
                    raise SftpError(
                        f"{self.server} does not permit us to {action}.",
                        "Give the user of CAMPAIGN_SFTP_USER the permission.",
                    ) from refused
                text = refused.words or f"status {refused.code}"
                raise SftpError(
                    f"{self.server} refuses to {action}: {text}.", "Ask its owner if it goes on."
                ) from refused

    def _ask(self, expected: int, kind: int, *fields: Any) -> Any:
        came, answer = self._request(kind, *fields)
        if came != expected:
            raise paramiko.SFTPError("Another answer was expected")
        return answer

    def _async_response(self, kind: int, answer: paramiko.Message, number: int) -> None:
        """Keep a piece of a file. Called by paramiko for the requests of `read`."""
        try:
            if kind == sftp.CMD_STATUS:
                self._convert_status(answer)
            self._pieces[number] = answer.get_binary()
        except EOFError:
            self._pieces[number] = b""

    def _convert_status(self, msg: paramiko.Message) -> None:
        code = msg.get_int()
        if code == sftp.SFTP_EOF:
            raise EOFError
        if code != sftp.SFTP_OK:
            raise Refused(code, printable(msg.get_binary())[:LONGEST_MESSAGE])  # older servers send no message


@contextmanager
def time_limit(
    channel: Any, server: str, action: str, seconds: float = REQUEST_SECONDS, waited: float = 0.0
) -> Generator[None]:
    """Close the channel once requests have taken too long, or it failed; raise Unreachable then.

    Raises SftpError for answers that are not of the protocol.
    """
    late = threading.Event()

    def close() -> None:
        with suppress(OSError, EOFError, paramiko.SSHException):  # a lost connection cannot carry paramiko's message
            channel.close()

    def give_up() -> None:
        late.set()
        close()

    timer = threading.Timer(seconds - waited, give_up)
    timer.daemon = True
    timer.start()
    try:
        yield
    except Refused:
        raise
    except (paramiko.SFTPError, struct.error, UnicodeDecodeError) as error:
        close()
        raise SftpError(
            f"What answers at {server} is no SFTP, or a broken one.",
            "See whether `sftp` works there; a login script that prints something is a usual reason.",
        ) from error
    except (OSError, EOFError, paramiko.SSHException) as error:
        close()
        cause = "cut the connection"
        if late.is_set():
            cause = f"did not {action} within {seconds:,g} seconds"
        elif isinstance(error, TimeoutError):
            cause = f"gave no answer within {channel.gettimeout():g} seconds"
        raise Unreachable(
            f"{server} {cause}.", "Run it again later; if it goes on, ask the owner of the server."
        ) from error
    finally:
        timer.cancel()
