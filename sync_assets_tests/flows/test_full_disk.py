"""The disk of DAGSTER_HOME is full: whoever meets it, the ledger or Dagster's own SQLite, the command names it."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest

from sync_assets_tests.support.program import Program

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


@pytest.mark.parametrize("size", ["16k", "400k", "700k", "1000k", "1400k", "2000k"])
def test_a_full_disk_of_any_size_is_named_and_is_no_error_of_the_program(program: Program, size: str) -> None:
    done = on_a_small_disk(program, size, sys.executable, "-m", "sync_assets.cli", "sync")
    assert done.returncode == 1, done.stderr
    assert "full" in done.stderr, done.stderr
    assert "disk" in done.stderr
    assert "Make room" in done.stderr
    assert "an error of the program" not in done.stderr
    assert "Traceback" not in done.stderr
