"""What can be done on the Campaign SFTP: listing, looking, removing, archiving, and how full it is."""

import os
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest
from paramiko import SFTPAttributes

from sync_assets.sandbox import sftp as sandbox
from sync_assets.sftp import client
from sync_assets.sftp.client import Listing, RemoteFile, Sftp, connect
from sync_assets.sftp.errors import FileChanged, FileGone, NoSuchFolder, SftpError, Unreachable
from sync_assets_tests.support.openssh import OpenSsh
from sync_assets_tests.unit.sftp.conftest import Served

T1, T2, T3 = (datetime(2026, 11, day, 10, 15, 30, tzinfo=UTC) for day in (21, 22, 23))


def at(moment: datetime) -> int:
    return int(moment.timestamp())


def fails(kind: type[SftpError]) -> AbstractContextManager[pytest.ExceptionInfo[SftpError]]:
    return pytest.raises(kind)


# --- listing ----------------------------------------------------------------------------------------------------------


def test_a_listing_has_the_files_whose_name_matches_oldest_first(served: Served, sftp: Sftp):
    served.put("optout_b.csv", b"12345", at(T1))
    served.put("optout_a.csv.gz", b"", at(T3))
    served.put("optout_c.csv", b"1", at(T2))
    served.put("optout_0.csv", b"12", at(T2))
    served.put("OPTOUT_d.csv", b"1")
    served.put("other.csv", b"1")
    assert sftp.listing(served.directory, "optout_*.csv*") == Listing(
        (
            RemoteFile("optout_b.csv", 5, T1),
            RemoteFile("optout_0.csv", 2, T2),
            RemoteFile("optout_c.csv", 1, T2),
            RemoteFile("optout_a.csv.gz", 0, T3),
        ),
        (),
    )


def test_a_long_listing_is_complete(served: Served, sftp: Sftp):
    names = {f"optout_{number:04}.csv" for number in range(700)}
    for name in names:
        served.put(name)
    assert {file.name for file in sftp.listing(served.directory, "*").files} == names


@pytest.mark.parametrize("directory", ["{0}", "{0}/", "./{0}", "d365_loads/../{0}"])
def test_a_folder_may_be_written_in_several_ways(served: Served, sftp: Sftp, directory: str):
    served.put("a.csv")
    assert [f.name for f in sftp.listing(directory.format(served.directory), "*").files] == ["a.csv"]


def test_a_folder_may_be_absolute(openssh_sftp: Served):
    openssh_sftp.put("a.csv", b"x")
    with connect(openssh_sftp.settings) as sftp:
        assert [f.name for f in sftp.listing(str(openssh_sftp.exports), "*").files] == ["a.csv"]
        with sftp.open(str(openssh_sftp.exports), "a.csv") as stream:
            assert stream.read() == b"x"


def test_links_folders_and_pipes_are_passed_over(served: Served, sftp: Sftp, tmp_path: Path):
    (tmp_path / "secret").write_text("secret")
    served.put("a.csv")
    (served.exports / "link.csv").symlink_to(tmp_path / "secret")
    (served.exports / "sideways.csv").symlink_to("a.csv")
    (served.exports / "nowhere.csv").symlink_to("nowhere")
    (served.exports / "folder.csv").mkdir()
    (served.exports / "uninteresting").mkdir()
    os.mkfifo(served.exports / "pipe.csv")
    listing = sftp.listing(served.directory, "*.csv")
    assert [file.name for file in listing.files] == ["a.csv"]
    assert listing.passed_over == (
        ("folder.csv", "a folder"),
        ("link.csv", "a symbolic link"),
        ("nowhere.csv", "a symbolic link"),
        ("pipe.csv", "no regular file"),
        ("sideways.csv", "a symbolic link"),
    )


ODD = [
    " ",
    " a b ",
    'it\'s "quoted"',
    "Opt-Öut_Zürich.csv",
    "日本.csv",
    "-rf",
    "$(id);&|",
    "a\\b",
    "100%s{}",
    "..a",
    ".b",
]


def test_names_may_be_odd(served: Served, sftp: Sftp):
    for name in ODD:
        served.put(name, name.encode())
    assert sorted(file.name for file in sftp.listing(served.directory, "*").files) == sorted(ODD)
    for name in ODD:
        with sftp.open(served.directory, name) as stream:
            assert stream.read() == name.encode()
        assert sftp.archive(served.directory, name, "archive") == name
    assert sorted(os.listdir(served.exports / "archive")) == sorted(ODD)
    for name in ODD:
        sftp.remove(f"{served.directory}/archive", name)
    assert os.listdir(served.exports / "archive") == []


def test_names_that_cannot_be_shown_are_passed_over(served: Served, sftp: Sftp):
    for name in ["a\nb.csv", "a\x1b[31m.csv", "a\u202egnp.csv", "a\u2028.csv", "a\x7f.csv"]:
        served.put(name)
    listing = sftp.listing(served.directory, "*.csv")
    assert listing.files == ()
    assert listing.passed_over == tuple(
        (shown, "its name holds control characters")
        for shown in ["a\\nb.csv", "a\\u2028.csv", "a\\u202egnp.csv", "a\\x1b[31m.csv", "a\\x7f.csv"]
    )


def test_a_server_that_lies_about_names_leads_nowhere(sandbox_sftp: Served, monkeypatch: pytest.MonkeyPatch):
    file = SFTPAttributes.from_stat(sandbox_sftp.put("good.csv").stat())
    names = [b".", b"..", b"../../etc/passwd.csv", b"/etc/passwd.csv", b"a\0b.csv", b"M\xfcller.csv", b"good.csv"]

    def entries(self: object, path: str) -> list[SFTPAttributes]:
        result: list[SFTPAttributes] = []
        for name in names:
            reported = SFTPAttributes.from_stat(cast("Any", file))
            reported.filename = name  # pyright: ignore[reportAttributeAccessIssue]
            result.append(reported)
        return result

    monkeypatch.setattr(sandbox._Files, "list_folder", entries)
    with connect(sandbox_sftp.settings) as sftp:
        listing = sftp.listing(sandbox_sftp.directory, "*.csv")
    assert [file.name for file in listing.files] == ["good.csv"]
    assert dict(listing.passed_over) == {
        "../../etc/passwd.csv": "its name holds a slash",
        "/etc/passwd.csv": "its name holds a slash",
        "a\\x00b.csv": "its name holds control characters",
        "M\\xfcller.csv": "its name is not UTF-8",
    }


def test_a_server_that_does_not_name_types_is_not_trusted(sandbox_sftp: Served, monkeypatch: pytest.MonkeyPatch):
    sandbox_sftp.put("a.csv", b"x")
    result = SFTPAttributes()
    result.st_size, result.filename = 1, "a.csv"  # pyright: ignore[reportAttributeAccessIssue]
    monkeypatch.setattr(sandbox._Files, "list_folder", lambda self, path: [result])
    monkeypatch.setattr(sandbox._Files, "lstat", lambda self, path: result)
    with connect(sandbox_sftp.settings) as sftp:
        listing = sftp.listing(sandbox_sftp.directory, "*")
        assert listing.passed_over == (("a.csv", "the server does not report its kind, size and time"),)
        with fails(SftpError), sftp.open(sandbox_sftp.directory, "a.csv"):
            pass


@pytest.mark.parametrize("directory", ["nowhere", "d365_loads/exports/file", "nowhere/at/all"])
def test_a_missing_folder_is_reported(served: Served, sftp: Sftp, directory: str):
    served.put("file")
    with fails(NoSuchFolder) as caught:
        sftp.listing(directory, "*")
    assert f"no folder {directory} on SFTP 127.0.0.1:{served.settings.port}" in caught.value.cause
    assert "opt_out.export.directory" in caught.value.remedy
    assert sftp.listing(served.directory, "*").files  # the connection is as good as before


# --- one file ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../exports/a.csv", "/etc/passwd", "a\0b", "a\udcffb"])
def test_an_invalid_name_is_refused_by_all_operations(served: Served, sftp: Sftp, name: str):
    served.put("a.csv")
    with fails(SftpError):
        sftp.remove(served.directory, name)
    with fails(SftpError):
        sftp.archive(served.directory, name, "archive")
    with fails(SftpError), sftp.open(served.directory, name):
        pass
    with fails(SftpError):
        sftp.archive(served.directory, "a.csv", name)
    assert os.listdir(served.exports) == ["a.csv"]


def test_remove_removes_a_regular_file_and_nothing_else(served: Served, sftp: Sftp):
    served.put("a.csv")
    served.put("b.csv")
    (served.exports / "link.csv").symlink_to("b.csv")
    (served.exports / "folder.csv").mkdir()
    sftp.remove(served.directory, "a.csv")
    with fails(FileGone):
        sftp.remove(served.directory, "a.csv")
    for name in ("link.csv", "folder.csv"):
        with fails(SftpError) as caught:
            sftp.remove(served.directory, name)
        assert name in caught.value.cause
    assert sorted(os.listdir(served.exports)) == ["b.csv", "folder.csv", "link.csv"]


@pytest.mark.parametrize("change", ["size", "time"])
def test_a_file_that_is_another_one_by_now_is_neither_removed_nor_archived(served: Served, sftp: Sftp, change: str):
    file = served.put("a.csv", b"1", at(T1))
    (listed,) = sftp.listing(served.directory, "*").files
    served.put("a.csv", b"12" if change == "size" else b"2", at(T1 if change == "size" else T2))
    with fails(FileChanged):
        sftp.remove(served.directory, "a.csv", listed)
    with fails(FileChanged):
        sftp.archive(served.directory, "a.csv", "archive", listed)
    assert file.exists()
    (now,) = sftp.listing(served.directory, "*").files
    sftp.remove(served.directory, "a.csv", now)
    assert not file.exists()


# --- archive ----------------------------------------------------------------------------------------------------------


def test_archive_never_replaces_a_file_of_the_same_name(served: Served, sftp: Sftp):
    served.put("a.csv", b"first", at(T1))
    assert sftp.archive(served.directory, "a.csv", "archive") == "a.csv"
    served.put("a.csv", b"second", at(T2))
    assert sftp.archive(served.directory, "a.csv", "archive") == "a.csv.20261122T101530Z"
    served.put("a.csv", b"third", at(T2))
    with fails(SftpError) as caught:
        sftp.archive(served.directory, "a.csv", "archive")
    assert "cannot be archived" in caught.value.cause
    archive = served.exports / "archive"
    assert {file.name: file.read_bytes() for file in archive.iterdir()} == {
        "a.csv": b"first",
        "a.csv.20261122T101530Z": b"second",
    }
    assert (served.exports / "a.csv").read_bytes() == b"third"


def test_a_link_in_the_archive_counts_as_a_name_that_is_taken(served: Served, sftp: Sftp, tmp_path: Path):
    served.put("a.csv", b"x", at(T1))
    (served.exports / "archive").mkdir()
    (served.exports / "archive" / "a.csv").symlink_to(tmp_path / "nowhere")
    assert sftp.archive(served.directory, "a.csv", "archive") == "a.csv.20261121T101530Z"
    assert not (tmp_path / "nowhere").exists()


# --- room -------------------------------------------------------------------------------------------------------------


def test_room_is_that_of_the_file_system_and_a_missing_folder_is_reported(served: Served, sftp: Sftp):
    result, real = sftp.storage(served.directory), os.statvfs(served.exports)
    assert result is not None
    used = (real.f_blocks - real.f_bfree) * real.f_frsize
    assert abs(result.used - used) < 2**30  # others write there, too
    assert abs(result.size - used - real.f_bavail * real.f_frsize) < 2**30
    assert 0 < result.share < 1
    assert result.share == result.used / result.size
    with fails(NoSuchFolder):
        sftp.storage("nowhere")


def test_a_server_without_that_extension_or_with_a_size_of_zero_reports_no_room(
    sandbox_sftp: Served, monkeypatch: pytest.MonkeyPatch
):
    with monkeypatch.context() as patch:
        patch.setattr(os, "statvfs", lambda path: os.statvfs_result([0] * 11))
        with connect(sandbox_sftp.settings) as sftp:
            assert sftp.storage(sandbox_sftp.directory) is None
    monkeypatch.delattr(sandbox.OpenSshSftp, "_process")  # what is left is paramiko's own
    with connect(sandbox_sftp.settings) as sftp:
        assert sftp.storage(sandbox_sftp.directory) is None
        assert sftp.listing(sandbox_sftp.directory, "*") == Listing((), ())


def test_the_files_of_all_folders_are_added_up_without_following_links(served: Served, sftp: Sftp):
    before = sftp.used()
    served.put("a.csv", b"x" * 1000)
    (served.exports / "below").mkdir()
    served.put("below/b.csv", b"x" * 200)
    (served.exports / "link.csv").symlink_to(served.exports / "a.csv")
    (served.exports / "round").symlink_to(served.exports)
    assert sftp.used() - before == 1200


def test_of_a_large_server_the_first_entries_are_added_up(served: Served, sftp: Sftp, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(client, "MOST_MEASURED", 3)
    for n in range(9):
        served.put(f"{n}.csv", b"x")
    assert sftp.used() <= 3


# --- refusals and failures --------------------------------------------------------------------------------------------


def test_a_forbidden_operation_is_reported(tmp_path: Path):
    denied = "remove,rename,mkdir,open,opendir"
    with OpenSsh(tmp_path, subsystem=f"internal-sftp -P {denied}") as server:
        (server.exports / "a.csv").touch()
        with connect(server.settings) as sftp:
            directory = "d365_loads/exports"
            for word, attempt in {
                "list": lambda: sftp.listing(directory, "*"),
                "remove": lambda: sftp.remove(directory, "a.csv"),
                "make": lambda: sftp.archive(directory, "a.csv", "archive"),
                "open": lambda: sftp.open(directory, "a.csv").__enter__(),
            }.items():
                with fails(SftpError) as caught:
                    attempt()
                assert f"does not permit us to {word} {directory}" in caught.value.cause
                assert "permission" in caught.value.remedy
            (server.exports / "archive").mkdir()
            with fails(SftpError) as caught:
                sftp.archive(directory, "a.csv", "archive")
            assert f"to move {directory}/a.csv to {directory}/archive/a.csv" in caught.value.cause
    assert (server.exports / "a.csv").exists()


def test_a_refusal_without_a_reason_is_quoted(sandbox_sftp: Served):
    assert sandbox_sftp.faults is not None
    sandbox_sftp.faults.add({"system": "sftp", "kind": "status", "times": 1})
    with connect(sandbox_sftp.settings) as sftp:
        with fails(SftpError) as caught:
            sftp.listing(sandbox_sftp.directory, "*")
        assert f"refuses to list {sandbox_sftp.directory}: Failure" in caught.value.cause
        assert sftp.listing(sandbox_sftp.directory, "*") == Listing((), ())


def test_a_connection_that_is_cut_is_reported_and_stays_cut(sandbox_sftp: Served):
    assert sandbox_sftp.faults is not None
    sandbox_sftp.put("a.csv")
    sandbox_sftp.faults.add({"system": "sftp", "kind": "cut_before", "times": 1})
    with connect(sandbox_sftp.settings) as sftp:
        with fails(Unreachable) as caught:
            sftp.listing(sandbox_sftp.directory, "*")
        assert "cut the connection" in caught.value.cause
        with fails(Unreachable):
            sftp.listing(sandbox_sftp.directory, "*")
    with connect(sandbox_sftp.settings) as sftp:
        assert sftp.listing(sandbox_sftp.directory, "*").files


def test_an_answer_that_does_not_come_is_given_up_in_time(sandbox_sftp: Served):
    assert sandbox_sftp.faults is not None
    sandbox_sftp.faults.add({"system": "sftp", "kind": "slow", "delay_ms": 3000})
    with connect(sandbox_sftp.settings, timeout=0.5) as sftp, fails(Unreachable) as caught:
        sftp.listing(sandbox_sftp.directory, "*")
    assert "within 0.5 seconds" in caught.value.cause
