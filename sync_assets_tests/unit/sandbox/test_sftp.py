"""The Campaign SFTP, looked at with paramiko's client and with the raw protocol where that client is too polite."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import paramiko
import pytest

from sync_assets.sandbox import sftp as sftp_module
from sync_assets.sandbox.faults import Faults
from sync_assets.sandbox.sftp import EXPORTS, SftpServer


@pytest.fixture(scope="module")
def folder_with_a_key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("key")
    SftpServer(folder).stop()
    return folder


@pytest.fixture
def server(tmp_path: Path, folder_with_a_key: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SftpServer]:
    def copy_key(file: Path) -> paramiko.PKey:  # to make one takes longer than a test
        shutil.copy2(folder_with_a_key / file.name, file)
        return paramiko.RSAKey.from_private_key_file(str(file))

    monkeypatch.setattr(sftp_module, "_make_key", copy_key)
    server = SftpServer(tmp_path, faults=Faults())
    server.start()
    yield server
    server.stop()


def connect(server: SftpServer, host: str = "localhost", **changed: object) -> paramiko.SSHClient:
    ssh = paramiko.SSHClient()
    ssh.load_host_keys(str(server.known_hosts_file))
    ssh.set_missing_host_key_policy(paramiko.RejectPolicy())
    arguments: dict[str, object] = {
        "username": server.user,
        "key_filename": str(server.private_key_file),
        "look_for_keys": False,
        "allow_agent": False,
        "timeout": 5,
    }
    ssh.connect(host, server.port, **(arguments | changed))  # pyright: ignore[reportArgumentType]
    return ssh


@pytest.fixture
def sftp(server: SftpServer) -> Iterator[paramiko.SFTPClient]:
    with connect(server) as ssh:
        yield ssh.open_sftp()


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_the_key_and_the_known_host_open_the_door(server: SftpServer, host: str) -> None:
    with connect(server, host) as ssh:
        assert ssh.open_sftp().listdir("/") == ["d365_loads"]


def test_another_key_user_or_a_password_do_not(server: SftpServer, tmp_path: Path) -> None:
    other = paramiko.RSAKey.generate(2048)
    with pytest.raises(paramiko.AuthenticationException):
        connect(server, pkey=other, key_filename=None)
    key = paramiko.RSAKey.from_private_key_file(str(server.private_key_file))
    with pytest.raises(paramiko.AuthenticationException):
        connect(server, pkey=key, key_filename=None, username="root")
    with pytest.raises(paramiko.BadAuthenticationType):
        connect(server, key_filename=None, password="x")


def test_files_are_written_listed_read_renamed_and_removed(sftp: paramiko.SFTPClient) -> None:
    content = os.urandom(300_000)
    sftp.chdir(EXPORTS)
    with sftp.open("a.csv", "wb") as file:
        file.write(content)
    assert sftp.stat("a.csv").st_size == len(content)
    with sftp.open("a.csv", "rb") as file:
        file.prefetch()
        assert file.read() == content
    with sftp.open("a.csv", "ab") as file:
        file.write(b"more")
    sftp.rename("a.csv", "b.csv")
    assert [(e.filename, e.st_size) for e in sftp.listdir_attr(".")] == [("b.csv", len(content) + 4)]
    sftp.utime("b.csv", (1000, 2000))
    assert sftp.stat("b.csv").st_mtime == 2000
    sftp.mkdir("archive")
    sftp.posix_rename("b.csv", "archive/b.csv")
    sftp.remove("archive/b.csv")
    sftp.rmdir("archive")
    assert sftp.listdir(".") == []


@pytest.mark.parametrize("path", ["link", "up/secret", "d365_loads/../up/secret"])
def test_links_out_of_the_root_are_not_followed(
    server: SftpServer, sftp: paramiko.SFTPClient, tmp_path: Path, path: str
) -> None:
    (tmp_path / "secret").write_text("secret")
    (server.root / "link").symlink_to(tmp_path / "secret")
    (server.root / "up").symlink_to(tmp_path)
    with pytest.raises(OSError):  # noqa: PT011
        sftp.open(path, "r")
    with pytest.raises(OSError):  # noqa: PT011
        sftp.open(path, "w")
    with pytest.raises(OSError):  # noqa: PT011
        sftp.stat(path)
    with pytest.raises(OSError):  # noqa: PT011
        sftp.rename("d365_loads", "up/taken")
    with pytest.raises(OSError):  # noqa: PT011
        sftp.symlink("/etc/passwd", "other_link")
    assert (tmp_path / "secret").read_text() == "secret"


def test_faults_fail_or_cut(server: SftpServer) -> None:
    assert server.faults is not None
    server.faults.add({"system": "sftp", "kind": "status", "times": 1})
    server.faults.add({"system": "sftp", "kind": "cut_before", "method": None, "path": "exports"})
    with connect(server) as ssh:
        sftp = ssh.open_sftp()
        with pytest.raises(OSError):  # noqa: PT011
            sftp.listdir("/")
        assert sftp.listdir("/") == ["d365_loads"]
        with pytest.raises((EOFError, OSError, paramiko.SSHException)):
            sftp.listdir(EXPORTS)
