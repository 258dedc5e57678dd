"""The processes that the demo starts: what they run, and what they are given."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from sync_assets.cli import demo
from sync_assets_tests.support.sandbox_process import SandboxProcess


def test_no_module_of_the_current_folder_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("uvloop", "sync_assets_sandbox", "httpx", "starlette", "dagster"):
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()")
    monkeypatch.chdir(tmp_path)
    with demo._scene(contacts=1) as environment:
        assert environment["D365_URL"].startswith("https://localhost:")
        completed = subprocess.run(
            [*demo.PYTHON, "dagster", "--version"], capture_output=True, check=False, timeout=60, text=True
        )
    assert completed.returncode == 0, completed.stderr
    assert not (tmp_path / "ran").exists()


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="the environment of a process is read from /proc")
def test_the_sandbox_gets_neither_our_secrets_nor_the_terminals_ctrl_c_and_leaves_private_files(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("D365_CLIENT_SECRET", "hush")
    monkeypatch.setenv("SYNC_ASSETS_LEDGER_URL", "postgresql+psycopg://u:hush@h/d")
    with demo._scene(contacts=1) as environment:
        children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
        given = b"".join(Path(f"/proc/{child}/environ").read_bytes() for child in children)
        groups = {os.getpgid(int(child)) for child in children}
        folder = Path(environment["DAGSTER_HOME"]).parent
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert children
    assert os.getpgrp() not in groups
    assert b"hush" not in given


def test_files_of_a_sync_can_be_read_by_their_owner_only(sandbox: SandboxProcess, tmp_path: Path) -> None:
    """Also by a shell whose umask lets everybody read."""
    home = tmp_path / ".dagster"
    others = {name: value for name, value in sandbox.environment.items() if name != "DAGSTER_HOME"}
    done = subprocess.run(
        ["/bin/sh", "-c", 'umask 022; exec "$@"', "sh", sys.executable, "-m", "sync_assets.cli", "sync"],
        env=others,
        cwd=tmp_path,
        capture_output=True,
        check=False,
        timeout=180,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert home.is_dir(), (done.stdout, done.stderr, [*tmp_path.iterdir()])
    modes = {str(path.relative_to(tmp_path)): stat.S_IMODE(path.stat().st_mode) for path in [home, *home.rglob("*")]}
    assert len(modes) > 5
    assert {name: oct(mode) for name, mode in modes.items() if mode & 0o077} == {}
