"""Memory and disk: a sync needs little memory for any number of contacts, and names a disk that is full."""

import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sync_assets_tests.support.program import Program
from sync_assets_tests.support.sandbox_process import SandboxProcess

MOST = 400
"""MiB, for any number of contacts (100,000 were measured; docs/dev/benchmarks.md)."""
PAGE = 1000
"""Rows a page, so that a few thousand contacts are several pages."""


def peak(home: Path, contacts: int) -> float:
    """MiB resident at most in the process of a first `sync`."""
    home.mkdir()
    with SandboxProcess(contacts=contacts) as sandbox:
        sandbox.admin.settings("d365", page_limit=PAGE)
        process = Program(sandbox, home).start("sync", "--json", fresh=True)
        most = 0.0
        while process.poll() is None:
            most = max(most, _most_resident(process.pid))
            time.sleep(0.02)
        assert process.returncode == 0
        assert sandbox.admin.engine_calls()["insert"] == contacts
    return most


def _most_resident(pid: int) -> float:
    """MiB so far; not `ru_maxrss`, which begins with what the process that started it had (the tests' own, 500 MiB)."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return sum(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:"))


@pytest.mark.slow  # thousands of contacts, each an insert
def test_a_first_load_of_many_contacts_needs_little_more_memory_than_one_of_few(tmp_path: Path) -> None:
    few, many = peak(tmp_path / "few", PAGE), peak(tmp_path / "many", 5 * PAGE)
    assert many < MOST
    assert many - few < 40  # two pages and what is on its way; 10 KB for each contact would be 40


SMALL_DISK = 'mount -t tmpfs -o "size=$0" tmpfs "$DAGSTER_HOME" && exec "$@"'


def on_a_small_disk(program: Program, size: str, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a command whose DAGSTER_HOME is a file system of this size, which ends with the command."""
    unshared = ["unshare", "--mount", "sh", "-c", SMALL_DISK, size, *command]
    return subprocess.run(unshared, env=program.env, capture_output=True, text=True, check=False, timeout=120)


@pytest.fixture
def program(program: Program) -> Program:
    if not shutil.which("unshare") or on_a_small_disk(program, "1m", "true").returncode:
        pytest.skip("no file system can be mounted here")
    return program


@pytest.mark.parametrize("size", ["16k", "1000k"])
def test_a_full_disk_of_any_size_is_named_and_is_no_error_of_the_program(program: Program, size: str) -> None:
    done = on_a_small_disk(program, size, sys.executable, "-m", "sync_assets.cli", "sync")
    assert done.returncode == 1, done.stderr
    assert "full" in done.stderr, done.stderr
    assert "disk" in done.stderr
    assert "Make room" in done.stderr, done.stderr
    assert "an error of the program" not in done.stderr
    assert "Traceback" not in done.stderr
