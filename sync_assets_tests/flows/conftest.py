"""A program on a fresh sandbox of 50 contacts, in the documented position or another; opt-outs on Dagster."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sync_assets.defs.tables import sensors
from sync_assets_tests.conftest import SandboxFactory
from sync_assets_tests.support.opt_out_runs import N
from sync_assets_tests.support.opt_outs import clear, switch_on
from sync_assets_tests.support.orchestra import Orchestra, in_memory
from sync_assets_tests.support.premises import POSITIONS, Position, of_the_environment
from sync_assets_tests.support.program import Program
from sync_assets_tests.support.sandbox_process import SandboxProcess


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


@pytest.fixture(scope="module")
def opt_out_sandbox(sandbox_factory: SandboxFactory) -> Iterator[SandboxProcess]:
    sandbox = sandbox_factory(contacts=N)
    yield sandbox
    assert sandbox.errors == ""


@pytest.fixture
def opt_out_program(opt_out_sandbox: SandboxProcess, tmp_path: Path) -> Iterator[Program]:
    """An installation of its own, on contacts without an opt-out, no profiles, and an empty folder."""
    admin = opt_out_sandbox.admin
    for row in admin.dump_d365():
        if row["donotemail"] or row["donotphone"]:
            admin.change("contact", [row["contactid"]], donotemail=False, donotphone=False)
    yield switch_on(Program(opt_out_sandbox, tmp_path), "bidirectional")
    admin.clear_faults()
    clear(Program(opt_out_sandbox, tmp_path))
    admin.post("/campaign/delete", {"resource": "profile", "pkeys": [one["PKey"] for one in admin.dump_campaign()]})


@pytest.fixture
def orchestra(opt_out_program: Program, monkeypatch: pytest.MonkeyPatch) -> Iterator[Orchestra]:
    """Opt-outs go both ways. All contacts stand in Campaign, which got them from us; nothing is to be done. Dagster
    keeps nothing."""
    monkeypatch.setattr(sensors, "HOLD_SECONDS", 0.0)
    with in_memory(opt_out_program) as started:
        started.capture()
        started.push()
        yield started
