"""OpenSSH's `sftp` and `scp` against the sandbox's SFTP server: each operation ends with status 0 and takes effect."""

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


Sftp = Callable[[str], str]


def test_sftp_lists_names_and_details(sftp: Sftp) -> None:
    assert "there.csv" in sftp("ls")
    assert str(len(CONTENT)) in sftp("ls -l")


def test_sftp_gets_a_file_with_its_time(sftp: Sftp, folder: Path, tmp_path: Path) -> None:
    sftp("get -p there.csv")
    assert (tmp_path / "there.csv").read_bytes() == CONTENT
    assert int((tmp_path / "there.csv").stat().st_mtime) == int((folder / "there.csv").stat().st_mtime)


def test_sftp_continues_a_get(sftp: Sftp, tmp_path: Path) -> None:
    (tmp_path / "there.csv").write_bytes(CONTENT[:1000])
    sftp("reget there.csv")
    assert (tmp_path / "there.csv").read_bytes() == CONTENT


def test_sftp_gets_files_by_a_pattern(sftp: Sftp, folder: Path, tmp_path: Path) -> None:
    (folder / "other.txt").write_bytes(b"x")
    sftp("mget *.csv")
    assert {path.name for path in tmp_path.iterdir() if path.is_file()} == {"here.csv", "there.csv"}


def test_sftp_continues_a_put(sftp: Sftp, folder: Path) -> None:
    (folder / "here.csv").write_bytes(CONTENT[:1000])
    sftp("reput here.csv")
    assert (folder / "here.csv").read_bytes() == CONTENT


def test_sftp_puts_a_file_with_its_time(sftp: Sftp, folder: Path, tmp_path: Path) -> None:
    sftp("put -p here.csv")
    assert (folder / "here.csv").read_bytes() == CONTENT
    assert int((folder / "here.csv").stat().st_mtime) == int((tmp_path / "here.csv").stat().st_mtime)


def test_sftp_puts_a_folder(sftp: Sftp, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "a.csv").write_bytes(b"a")
    sftp("put -r more")
    assert (folder / "more" / "a.csv").read_bytes() == b"a"


def test_sftp_renames_over_a_file(sftp: Sftp, folder: Path) -> None:
    sftp("put here.csv here.csv.part\nrename here.csv.part there.csv")
    assert [path.name for path in folder.iterdir()] == ["there.csv"]


def test_sftp_removes_a_file(sftp: Sftp, folder: Path) -> None:
    sftp("rm there.csv")
    assert list(folder.iterdir()) == []


def test_sftp_makes_and_removes_a_folder(sftp: Sftp, folder: Path) -> None:
    sftp("mkdir new")
    assert (folder / "new").is_dir()
    sftp("rmdir new")
    assert not (folder / "new").exists()


def test_sftp_shows_the_free_space(sftp: Sftp) -> None:
    assert "%" in sftp("df -h")


def test_a_failed_command_ends_with_a_failure(server: SftpServer, run: Run) -> None:
    run("scp", f"{server.user}@localhost:nowhere.csv", ".", status=1)
    run("sftp", f"{server.user}@localhost", batch="rm nowhere.csv", status=1)


def test_scp_gets_a_file(server: SftpServer, folder: Path, run: Run, tmp_path: Path) -> None:
    run("scp", f"{server.user}@localhost:{EXPORTS}/there.csv", "got.csv")
    assert (tmp_path / "got.csv").read_bytes() == CONTENT


def test_scp_puts_a_file(server: SftpServer, folder: Path, run: Run) -> None:
    run("scp", "here.csv", f"{server.user}@localhost:{EXPORTS}/")
    assert (folder / "here.csv").read_bytes() == CONTENT


def test_scp_puts_a_folder(server: SftpServer, folder: Path, run: Run, tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "a.csv").write_bytes(b"a")
    run("scp", "-r", "more", f"{server.user}@localhost:{EXPORTS}/")
    assert (folder / "more" / "a.csv").read_bytes() == b"a"
