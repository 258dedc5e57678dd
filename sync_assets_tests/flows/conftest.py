"""A program on a fresh sandbox of 50 contacts."""

from __future__ import annotations

from pathlib import Path

import pytest

from sync_assets_tests.program import Program
from sync_assets_tests.sandbox_process import SandboxProcess


@pytest.fixture
def program(sandbox: SandboxProcess, tmp_path: Path) -> Program:
    return Program(sandbox, tmp_path)
