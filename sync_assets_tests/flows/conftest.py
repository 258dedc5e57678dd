"""A program on a fresh sandbox of 50 contacts, in the documented position or another; opt-outs on Dagster."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sync_assets.cli import sync_runs
from sync_assets.defs.follower import reports
from sync_assets.defs.tables import sensors
from sync_assets.runtime import program_sources
from sync_assets_tests.conftest import SandboxFactory
from sync_assets_tests.support.chain import Chain
from sync_assets_tests.support.loads import shorten
from sync_assets_tests.support.opt_out_runs import N
from sync_assets_tests.support.opt_outs import clear, opted_in, switch_on
from sync_assets_tests.support.orchestra import Orchestra, in_memory
from sync_assets_tests.support.postgres import PostgresServer
from sync_assets_tests.support.premises import POSITIONS, Position, of_the_environment
from sync_assets_tests.support.program import Program
from sync_assets_tests.support.sandbox_process import SandboxProcess
from sync_assets_tests.support.short_waits import shorten_waits


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    shorten_waits(monkeypatch.setattr)
    monkeypatch.setattr(sensors, "HOLD_SECONDS", 0.0)


@pytest.fixture
def short_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the waits for an import workflow."""
    shorten(monkeypatch.setattr)


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


@pytest.fixture
def database_url(postgres: PostgresServer) -> Iterator[str]:
    with postgres.database() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def either(request: pytest.FixtureRequest, program: Program) -> Program:
    """The program with its ledger in either database."""
    if request.param == "postgresql":
        program.more["SYNC_ASSETS_LEDGER_URL"] = request.getfixturevalue("database_url")
    return program


@pytest.fixture
def new_chain(sandbox_factory: SandboxFactory, tmp_path: Path) -> Iterator[Callable[..., Chain]]:
    """`new_chain(cardinality="zero_or_one")`: linked tables, on a sandbox that lives as long as the test."""
    made: list[Chain] = []

    def make(**options: Any) -> Chain:
        made.append(Chain(sandbox_factory, tmp_path, **options))
        return made[-1]

    yield make
    for one in made:
        one.sandbox.stop()


@pytest.fixture
def chain(new_chain: Callable[..., Chain]) -> Chain:
    return new_chain()


@pytest.fixture(scope="module")
def systems() -> Iterator[SandboxProcess]:
    """One sandbox for the tests of a file that begin with an empty one: each empties it first."""
    with SandboxProcess(contacts=0) as one:
        yield one
        assert one.errors == ""


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


@pytest.fixture(scope="module")
def installation(
    request: pytest.FixtureRequest, sandbox_factory: SandboxFactory, tmp_path_factory: pytest.TempPathFactory
) -> Program:
    """In step, with opt-outs in the DIRECTION of the file and so many CONTACTS, of which each test takes its own."""
    program = Program(sandbox_factory(contacts=request.module.CONTACTS), tmp_path_factory.mktemp("home"))
    assert switch_on(program, request.module.DIRECTION).sync().status == 0
    return program


@pytest.fixture(scope="module")
def ids(installation: Program) -> Iterator[str]:
    return opted_in(installation)


@pytest.fixture
def installed(
    installation: Program, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Program]:
    """The installation of the file, without files, with the first configuration."""
    monkeypatch.setattr(sync_runs, "POLL_SECONDS", 0.02)
    clear(installation)
    yield switch_on(installation, request.module.DIRECTION)
    installation.more.clear()
    installation.guardrails.clear()
    installation.on_disk = False
    installation.sandbox.admin.clear_faults()


@pytest.fixture
def orchestra(program: Program) -> Iterator[Orchestra]:
    with in_memory(program) as started:
        yield started


@pytest.fixture
def quick_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a follower look more often at what Dagster shows and whether the program changed."""
    monkeypatch.setattr(reports, "COMPARE_SECONDS", 0.3)
    monkeypatch.setattr(program_sources, "SECONDS", 0.3)


@pytest.fixture
def followed_orchestra(program: Program, quick_looks: None) -> Iterator[Orchestra]:
    """Its follower ends after three seconds without work."""
    program.runs = {"linger_seconds": 3}
    with in_memory(program) as started:
        yield started


@pytest.fixture
def opt_out_orchestra(opt_out_program: Program) -> Iterator[Orchestra]:
    """Opt-outs go both ways. All contacts stand in Campaign, which got them from us; nothing is to be done. Dagster
    keeps nothing."""
    with in_memory(opt_out_program) as started:
        started.capture()
        started.push()
        yield started
