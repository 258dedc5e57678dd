"""A program on a fresh sandbox of 50 contacts, in the documented position or another."""

from __future__ import annotations

from pathlib import Path

import pytest

from sync_assets_tests.flows.premises import POSITIONS, Position, of_the_environment
from sync_assets_tests.program import Program
from sync_assets_tests.sandbox_process import SandboxProcess


@pytest.fixture
def position(request: pytest.FixtureRequest) -> Position:
    """That of `on_positions`, else that of the environment, which every sandbox is on anyway."""
    return POSITIONS[request.param] if hasattr(request, "param") else of_the_environment()


@pytest.fixture
def program(sandbox: SandboxProcess, tmp_path: Path, position: Position) -> Program:
    if position is not of_the_environment():
        position.apply(sandbox.admin)
    made = Program(sandbox, tmp_path)
    made.table = position.table(made.table)
    return made
