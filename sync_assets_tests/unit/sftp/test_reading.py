"""A file on the SFTP as a stream: fast, in flat memory, and never a mixture of two versions."""

import os
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest
from paramiko.sftp import CMD_CLOSE, CMD_OPEN, CMD_OPENDIR

from sync_assets.sandbox import sftp as sandbox
from sync_assets.sftp import client
from sync_assets.sftp.client import PIECE, WINDOW, RemoteFile, Sftp, connect
from sync_assets.sftp.errors import FileChanged, FileGone, SftpError, Unreachable
from sync_assets.sftp.protocol import SftpProtocol
from sync_assets_tests.unit.sftp.conftest import Served
from sync_assets_tests.unit.sftp.relay import Relay

MIDDLE = 3 * WINDOW // 2
"""Bytes of a file that is not on the way all at once."""


def read_all(sftp: Sftp, directory: str, name: str, expected: RemoteFile | None = None) -> bytes:
    with sftp.open(directory, name, expected) as stream:
        return stream.read()


@pytest.mark.parametrize("size", [0, 1, PIECE - 1, PIECE, PIECE + 1, WINDOW, MIDDLE + 7])
def test_the_content_comes_as_it_is(served: Served, sftp: Sftp, size: int):
    content = os.urandom(size)
    served.put("a.csv", content)
    (listed,) = sftp.listing(served.directory, "*").files
    assert read_all(sftp, served.directory, "a.csv", listed) == content
    assert read_all(sftp, served.directory, "a.csv") == content


def test_reading_may_end_early_and_leaves_nothing_behind(served: Served, sftp: Sftp):
    served.put("a.csv", os.urandom(MIDDLE))
    served.put("b.csv", b"b")
    for _ in range(5):
        with sftp.open(served.directory, "a.csv") as stream:
            stream.read(10)
        with pytest.raises(ValueError, match="closed"):
            stream.read(10)
        assert read_all(sftp, served.directory, "b.csv") == b"b"
    assert len(sftp.listing(served.directory, "*").files) == 2


def test_each_handle_is_closed(served: Served, sftp: Sftp, monkeypatch: pytest.MonkeyPatch):
    """A server has few of them, and paramiko closes one by itself only once Python has freed its file."""
    request: Any = getattr(SftpProtocol, "_request")  # noqa: B009 - not in paramiko's types
    sent: list[int] = []

    def noted(self: SftpProtocol, kind: int, *fields: Any) -> Any:
        sent.append(kind)
        return request(self, kind, *fields)

    monkeypatch.setattr(SftpProtocol, "_request", noted)
    served.put("a.csv", b"a")
    assert read_all(sftp, served.directory, "a.csv") == b"a"
    with pytest.raises(ZeroDivisionError), sftp.open(served.directory, "a.csv"):
        _ = 1 / 0
    assert len(sftp.listing(served.directory, "*").files) == 1
    assert (sent.count(CMD_OPEN), sent.count(CMD_OPENDIR), sent.count(CMD_CLOSE)) == (2, 1, 3)


def test_a_server_may_give_less_than_it_was_asked_for(sandbox_sftp: Served, monkeypatch: pytest.MonkeyPatch):
    content = os.urandom(3 * PIECE + 5)
    sandbox_sftp.put("a.csv", content)

    def little(self: Any, offset: int, length: int) -> bytes:
        return os.pread(self.readfile.fileno(), min(length, 20_000), offset)

    monkeypatch.setattr(sandbox._Handle, "read", little)
    with connect(sandbox_sftp.settings) as sftp:
        assert read_all(sftp, sandbox_sftp.directory, "a.csv") == content


@pytest.mark.parametrize("way", ["link", "link out", "folder", "pipe"])
def test_an_entry_that_is_no_regular_file_is_not_opened(served: Served, sftp: Sftp, tmp_path: Path, way: str):
    served.put("real.csv", b"x")
    (tmp_path / "secret").write_text("secret")
    entry = served.exports / "a.csv"
    if way == "folder":
        entry.mkdir()
    elif way == "pipe":
        os.mkfifo(entry)
    else:
        entry.symlink_to("real.csv" if way == "link" else tmp_path / "secret")
    with pytest.raises(SftpError) as caught, sftp.open(served.directory, "a.csv"):
        pass
    assert "is not taken" in caught.value.cause
    assert not isinstance(caught.value, FileGone)


def test_an_open_file_that_is_not_the_one_of_the_name_is_found_out(
    sandbox_sftp: Served, monkeypatch: pytest.MonkeyPatch
):
    """As if the name had led elsewhere for the moment of opening only."""
    sandbox_sftp.put("a.csv", b"123", 1_700_000_000)
    sandbox_sftp.put("secret", b"secret", 1_700_000_000)
    opening = sandbox._Files._open
    monkeypatch.setattr(
        sandbox._Files, "_open", lambda self, path, flags: opening(self, path.replace("a.csv", "secret"), flags)
    )
    directory = sandbox_sftp.directory
    with connect(sandbox_sftp.settings) as sftp, pytest.raises(FileChanged), sftp.open(directory, "a.csv"):
        raise AssertionError("it was opened")


@pytest.mark.parametrize("other", ["size", "time"])
def test_a_file_that_is_not_the_one_listed_is_not_read(served: Served, sftp: Sftp, other: str):
    served.put("a.csv", b"123")
    (listed,) = sftp.listing(served.directory, "*").files
    former = (
        replace(listed, size=2) if other == "size" else replace(listed, modified=listed.modified - timedelta(seconds=1))
    )
    with pytest.raises(FileChanged) as caught, sftp.open(served.directory, "a.csv", former):
        raise AssertionError("it was opened")
    assert "a.csv" in caught.value.cause
    assert read_all(sftp, served.directory, "a.csv", listed) == b"123"


def grow(file: Path) -> None:
    with file.open("ab") as stream:
        stream.write(b"more")


def shrink(file: Path) -> None:
    os.truncate(file, MIDDLE - 1)


def empty(file: Path) -> None:
    os.truncate(file, 0)


def touch(file: Path) -> None:
    os.utime(file, (0, 1_800_000_000))


def write_anew(file: Path) -> None:
    file.write_bytes(os.urandom(MIDDLE))
    os.utime(file, (0, 1_800_000_000))


def put_another_in_its_place(file: Path) -> None:
    other = file.with_name("other")
    other.write_bytes(b"another")
    other.replace(file)


def remove(file: Path) -> None:
    file.unlink()


def put_a_link_in_its_place(file: Path) -> None:
    file.rename(file.with_name("other"))
    file.symlink_to("other")


CHANGES = [grow, shrink, empty, touch, write_anew, put_another_in_its_place, remove, put_a_link_in_its_place]


@pytest.mark.parametrize("held_to_listing", [True, False])
@pytest.mark.parametrize("change", CHANGES)
def test_a_change_while_reading_is_found_out_at_the_end(served: Served, sftp: Sftp, change: Any, held_to_listing: bool):
    file = served.put("a.csv", os.urandom(MIDDLE), 1_700_000_000)
    (listed,) = sftp.listing(served.directory, "*").files
    finished = False
    expected = listed if held_to_listing else None
    with pytest.raises(SftpError) as caught, sftp.open(served.directory, "a.csv", expected) as stream:  # noqa: PT012
        stream.read(10)
        change(file)
        while stream.read(PIECE):
            pass
        finished = True
    assert not finished, "the end was shown, as if all were well"
    if change is not put_a_link_in_its_place:
        assert isinstance(caught.value, FileGone)
        assert isinstance(caught.value, FileChanged) == (change is not remove)


@pytest.mark.parametrize("change", [grow, touch, put_another_in_its_place, remove])
def test_it_is_found_out_even_if_the_end_is_never_reached(served: Served, sftp: Sftp, change: Any):
    file = served.put("a.csv", os.urandom(MIDDLE), 1_700_000_000)
    with pytest.raises(FileGone), sftp.open(served.directory, "a.csv") as stream:  # noqa: PT012
        assert len(stream.read(MIDDLE)) == MIDDLE
        change(file)


def test_a_connection_that_is_cut_while_reading_is_reported(served: Served, tmp_path: Path):
    served.put("a.csv", os.urandom(4 * MIDDLE))
    keys = [line.split(" ", 1)[1] for line in served.settings.host_key.read_text().splitlines()]
    known = tmp_path / "known_hosts"
    known.write_text("".join(f"* {key}\n" for key in keys))
    with Relay(served.settings.port) as relay:
        settings = replace(served.settings, port=relay.port, host_key=known)
        opened = connect(settings)
        with pytest.raises(Unreachable) as caught, opened as sftp, sftp.open(served.directory, "a.csv") as stream:  # noqa: PT012
            stream.read(10)
            relay.cut()
            stream.read()
    assert "cut the connection" in caught.value.cause
    assert caught.value.remedy


def test_a_server_that_gives_a_byte_at_a_time_is_given_up(sandbox_sftp: Served, monkeypatch: pytest.MonkeyPatch):
    sandbox_sftp.put("a.csv", os.urandom(100_000))

    def drip(self: Any, offset: int, length: int) -> bytes:
        time.sleep(0.01)
        return os.pread(self.readfile.fileno(), 1, offset)

    monkeypatch.setattr(sandbox._Handle, "read", drip)
    monkeypatch.setattr(client, "START_SECONDS", 0.3)
    monkeypatch.setattr(client, "SLOWEST", 1_000_000)
    started = time.monotonic()
    with (
        pytest.raises(Unreachable, match=r"did not read .*a.csv within 0\.4 seconds") as caught,
        connect(sandbox_sftp.settings) as sftp,
    ):
        read_all(sftp, sandbox_sftp.directory, "a.csv")
    assert time.monotonic() - started < 10
    assert caught.value.remedy


def test_a_slow_reader_is_no_slow_server(served: Served, sftp: Sftp, monkeypatch: pytest.MonkeyPatch):
    content = os.urandom(MIDDLE)
    served.put("a.csv", content)
    monkeypatch.setattr(client, "START_SECONDS", 1.5)
    monkeypatch.setattr(client, "SLOWEST", 10**9)
    with sftp.open(served.directory, "a.csv") as stream:
        start = stream.read(10)
        time.sleep(1.7)
        assert start + stream.read() == content


def test_a_big_file_is_read_in_flat_memory(served: Served, sftp: Sftp):
    size = 96 * 2**20
    file = served.put("a.csv")
    os.truncate(file, size)  # a hole: no room on the disk
    process = psutil.Process()
    read, peak = 0, 0
    with sftp.open(served.directory, "a.csv") as stream:
        stream.read(8 * 2**20)
        before = process.memory_info().rss
        while piece := stream.read(2**20):
            read += len(piece)
            peak = max(peak, process.memory_info().rss)
            if read % (16 * 2**20) == 0:
                time.sleep(0.02)  # neither a slow reader lets the rest pile up
                assert sftp.listing(served.directory, "*").files  # nor a question, whose answer comes behind the pieces
    assert read == size - 8 * 2**20
    assert peak - before < 24 * 2**20
