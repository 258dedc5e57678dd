"""The package as an earlier commit had it, run in processes of its own on the installation of a test."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sync_assets_tests.support.program import Program

_ROOT = Path(__file__).parents[2]


@dataclass
class EarlierVersion:
    """An unpacked commit. It shares DAGSTER_HOME, ledger and configuration with the program."""

    program: Program
    folder: Path

    @property
    def env(self) -> dict[str, str]:
        return {**self.program.env, "PYTHONPATH": str(self.folder), "PYTHONWARNINGS": "ignore"}

    def json(self, *arguments: str) -> tuple[int, Any]:
        """Run a command to its end. Return the exit status and its document."""
        done = subprocess.run(
            [sys.executable, "-m", "sync_assets.cli", *arguments, "--json"],
            check=False, env=self.env, cwd=self.folder, capture_output=True, text=True, timeout=280,
        )  # fmt: skip
        assert done.stdout, done.stderr
        return done.returncode, json.loads(done.stdout)


def earlier_version(program: Program, commit: str) -> EarlierVersion:
    """Unpack a commit into the program's folder. Skips the test if the repository does not hold it."""
    folder = program.home / f"sync_assets_{commit}"
    folder.mkdir()
    try:
        archive = subprocess.run(
            ["git", "archive", commit, "sync_assets"], cwd=_ROOT, capture_output=True, check=True
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip(f"There is no commit {commit} here (no repository, or a shallow clone): fetch the whole history.")
    subprocess.run(["tar", "-x"], input=archive, cwd=folder, check=True)
    return EarlierVersion(program, folder)
