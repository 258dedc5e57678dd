"""The protocol as such: whatever a server says, it is understood, refused as a whole, or the connection is over."""

import time
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from paramiko.sftp import CMD_ATTRS, CMD_CLOSE, CMD_HANDLE, CMD_NAME, CMD_OPENDIR, CMD_READDIR, CMD_STATUS, CMD_VERSION

from sync_assets.sftp import client as sftp_client
from sync_assets.sftp.client import Sftp
from sync_assets.sftp.errors import SftpError, Unreachable
from sync_assets.sftp.protocol import LONGEST_MESSAGE, Refused, SftpProtocol, printable


class Line:
    """The end of a line over which this comes, and then nothing more."""

    def __init__(self, comes: bytes) -> None:
        self.comes, self.sent, self.open = comes, b"", True

    def send(self, sent: bytes) -> int:
        if not self.open:
            raise OSError("Socket is closed")
        self.sent += sent
        return len(sent)

    def recv(self, most: int) -> bytes:
        came, self.comes = self.comes[: min(most, 7)], self.comes[min(most, 7) :]  # in bits, as a line may
        return came if self.open else b""

    def get_name(self) -> str:
        return "0"

    def close(self) -> None:
        self.open = False


class Cut(Line):
    """Raises, as paramiko's channel does on a lost connection, which cannot carry the message that it closes."""

    def close(self) -> None:
        super().close()
        raise EOFError


def number(value: int) -> bytes:
    return value.to_bytes(4, "big")


def text(value: bytes) -> bytes:
    return number(len(value)) + value


def packet(kind: int, body: bytes) -> bytes:
    return text(bytes([kind]) + body)


GREETING = packet(CMD_VERSION, number(3) + text(b"statvfs@openssh.com") + text(b"2"))


def wire_with(*answers: bytes) -> SftpProtocol:
    return SftpProtocol(cast("Any", Line(GREETING + b"".join(answers))), "SFTP test:22")


@pytest.mark.parametrize(
    "answer",
    [packet(CMD_HANDLE, number(1) + text(b"h")), number(0x48544D4C) + b"x" * 100],
    ids=["another kind", "absurd length"],
)
@pytest.mark.parametrize("line", [Line, Cut])
def test_a_broken_answer_ends_the_connection(answer: bytes, line: type[Line]):
    sftp = Sftp(SftpProtocol(cast("Any", line(GREETING + answer)), "SFTP test:22"))
    with pytest.raises(SftpError, match="is no SFTP"):
        sftp.remove("a", "b")
    with pytest.raises(SftpError, match="cut the connection"):
        sftp.remove("a", "b")


@pytest.mark.parametrize("comes", [b"", GREETING[:-1], packet(CMD_STATUS, number(3)), b"Welcome!\r\n" * 9])
def test_a_server_without_a_greeting_is_no_sftp(comes: bytes):
    with pytest.raises(SftpError):
        SftpProtocol(cast("Any", Line(comes)), "SFTP test:22")


def test_the_words_of_a_refusal_are_shown_short_and_harmless_and_a_status_without_words_is_one_too():
    """Before version 3, servers sent none."""
    words = number(4) + text(b"\x1b[31mNo\n" + b"!" * 1000) + text(b"en")
    refusals: list[Refused] = []
    for body in (words, number(3)):
        with pytest.raises(Refused) as caught:
            wire_with(packet(CMD_STATUS, number(1) + body)).remove("a")
        refusals.append(caught.value)
    assert [refusal.code for refusal in refusals] == [4, 3]
    assert refusals[0].words.startswith("\\x1b[31mNo\\n!!")
    assert [len(refusal.words) for refusal in refusals] == [LONGEST_MESSAGE, 0]


@given(st.binary(max_size=60))
def test_text_of_a_server_is_shown_without_control_characters(content: bytes):
    assert printable(content).isprintable()


def test_printable_text_is_shown_unchanged():
    assert printable("Zürich 日本 'a' \"b\"".encode()) == "Zürich 日本 'a' \"b\""


class Trickle(Line):
    """A byte at a time, each before any silence is noticed."""

    def recv(self, most: int) -> bytes:
        time.sleep(0.002)
        came, self.comes = self.comes[:1], self.comes[1:]
        return came if self.open else b""


class TrickleCut(Trickle, Cut):
    """A byte at a time, and then lost."""


@pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("line", [Trickle, TrickleCut])
def test_an_answer_that_trickles_ends_the_connection(line: type[Line]):
    wire = SftpProtocol(cast("Any", line(GREETING + packet(CMD_ATTRS, number(1) + text(b"h" * 5000)))), "SFTP test:22")
    with (
        pytest.raises(Unreachable, match=r"did not look at a within 0\.2 seconds"),
        wire.request("look at a", SftpError(""), 0.2),
    ):
        wire.lstat("a")
    with pytest.raises(Unreachable, match="cut the connection"), wire.request("look at a", SftpError("")):
        wire.lstat("a")


class Folder(Line):
    """A folder of which each answer names one entry more, and which never ends."""

    def __init__(self) -> None:
        super().__init__(GREETING)
        self.entries = 0

    def send(self, sent: bytes) -> int:
        kind, request = sent[4], sent[5:9]
        if kind == CMD_OPENDIR:
            self.comes += packet(CMD_HANDLE, request + text(b"h"))
        elif kind == CMD_READDIR:
            self.entries += 1
            name = text(b"optout_%d.csv" % self.entries)
            self.comes += packet(CMD_NAME, request + number(1) + name + name + number(0))
        elif kind == CMD_CLOSE:
            self.comes += packet(CMD_STATUS, request + number(0) + text(b"") + text(b""))
        return len(sent)


@pytest.mark.parametrize(
    ("entries", "seconds", "cause"),
    [
        (500, 300.0, "The list of exports on SFTP test:22 does not end"),
        (10**9, 0.3, r"did not list exports within 0\.3 seconds"),
    ],
)
def test_a_folder_without_end_is_reported(monkeypatch: pytest.MonkeyPatch, entries: int, seconds: float, cause: str):
    monkeypatch.setattr(sftp_client, "MOST_ENTRIES", entries)
    monkeypatch.setattr(sftp_client, "LISTING_SECONDS", seconds)
    folder = Folder()
    sftp = Sftp(SftpProtocol(cast("Any", folder), "SFTP test:22"))
    with pytest.raises(SftpError, match=cause) as caught:
        sftp.listing("exports", "*")
    assert caught.value.remedy
    assert folder.entries <= 501 or entries == 10**9
