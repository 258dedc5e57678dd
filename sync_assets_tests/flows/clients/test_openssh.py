"""OpenSSH's `sftp` and `scp` against the sandbox's SFTP server: each operation ends with status 0 and takes effect."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sync_assets.sandbox.faults import Faults
from sync_assets.sandbox.sftp import EXPORTS, SftpServer

CONTENT = bytes(range(256)) * 1_000
Run = Callable[..., str]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SftpServer]:
    server = SftpServer(tmp_path_factory.mktemp("sftp"), faults=Faults())
    server.start()
    yield server
    server.stop()


@pytest.fixture
def folder(server: SftpServer) -> Iterator[Path]:
    """The folder of exports on the server's disk, with one file."""
    (server.exports / "there.csv").write_bytes(CONTENT)
    yield server.exports
    for path in server.exports.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


@pytest.fixture
def run(server: SftpServer, tmp_path: Path) -> Run:
    """Run `sftp` or `scp` in a folder with one file, and return what it prints. Fails for another exit status."""
    (tmp_path / "here.csv").write_bytes(CONTENT)

    def run(command: str, *arguments: str, batch: str | None = None, status: int = 0) -> str:
        if (program := shutil.which(command)) is None:
            pytest.skip(f"no {command} here: install OpenSSH's client (Debian: openssh-client) to run this test")
        options = ["-F", "none", "-P", str(server.port), "-i", str(server.private_key_file)]
        options += ["-o", f"UserKnownHostsFile={server.known_hosts_file}", "-o", "BatchMode=yes"]
        options += ["-o", "IdentitiesOnly=yes", *(["-b", "-"] if batch else [])]
        text = f"cd {EXPORTS}\n{batch}\n" if batch else None
        done = subprocess.run(
            [program, *options, *arguments], input=text, cwd=tmp_path, timeout=60, check=False,
            capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == status, f"{command} ends with {done.returncode}:\n{done.stderr}"
        return done.stdout

    return run


@pytest.fixture
def sftp(server: SftpServer, folder: Path, run: Run) -> Callable[[str], str]:
    """Run lines of a batch in the folder of exports."""
    return lambda lines: run("sftp", f"{server.user}@localhost", batch=lines)


def test_sftp_lists_gets_and_continues(sftp: Callable[[str], str], folder: Path, tmp_path: Path) -> None:
    (folder / "other.txt").write_bytes(b"x")
    (tmp_path / "there.csv").write_bytes(CONTENT[:1000])
    listed = sftp("ls -l\ndf -h\nreget there.csv\nmget *.txt\nget -p there.csv copy.csv")
    assert ("there.csv" in listed, str(len(CONTENT)) in listed, "%" in listed) == (True, True, True)
    assert {path.name for path in tmp_path.iterdir() if path.is_file()} == {
        *("here.csv", "there.csv", "copy.csv", "other.txt")
    }
    assert (tmp_path / "there.csv").read_bytes() == (tmp_path / "copy.csv").read_bytes() == CONTENT
    assert int((tmp_path / "copy.csv").stat().st_mtime) == int((folder / "there.csv").stat().st_mtime)


def test_sftp_puts_continues_renames_and_removes(sftp: Callable[[str], str], folder: Path, tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "a.csv").write_bytes(b"a")
    (folder / "here.csv").write_bytes(CONTENT[:1000])
    os.utime(tmp_path / "here.csv", (1_700_000_000, 1_700_000_000))
    sftp("reput here.csv\nput -p here.csv in_time.csv\nput -r more\nmkdir new")
    assert (folder / "here.csv").read_bytes() == (folder / "in_time.csv").read_bytes() == CONTENT
    assert int((folder / "in_time.csv").stat().st_mtime) == 1_700_000_000
    assert (folder / "more" / "a.csv").read_bytes() == b"a"
    assert (folder / "new").is_dir()
    (folder / "there.csv").write_bytes(b"former")
    sftp("rename here.csv there.csv\nrm in_time.csv\nrm more/a.csv\nrmdir more\nrmdir new")
    assert [path.name for path in folder.iterdir()] == ["there.csv"]
    assert (folder / "there.csv").read_bytes() == CONTENT


def test_scp_gets_and_puts_files_and_folders(server: SftpServer, folder: Path, run: Run, tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "a.csv").write_bytes(b"a")
    run("scp", f"{server.user}@localhost:{EXPORTS}/there.csv", "got.csv")
    run("scp", "-r", "here.csv", "more", f"{server.user}@localhost:{EXPORTS}/")
    assert (tmp_path / "got.csv").read_bytes() == (folder / "here.csv").read_bytes() == CONTENT
    assert (folder / "more" / "a.csv").read_bytes() == b"a"


def test_a_failed_command_ends_with_a_failure(server: SftpServer, run: Run) -> None:
    run("scp", f"{server.user}@localhost:nowhere.csv", ".", status=1)
    run("sftp", f"{server.user}@localhost", batch="rm nowhere.csv", status=1)
