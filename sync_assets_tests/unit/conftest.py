"""A Campaign and an empty ledger on either database, for tests that push (see pushing.py); both systems, for tests that
capture (see program.py)."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from sync_assets_tests.conftest import SandboxFactory
from sync_assets_tests.support.ledgers import new_sqlite_ledger
from sync_assets_tests.support.postgres import PostgresServer
from sync_assets_tests.support.program import Program
from sync_assets_tests.support.pushing import Bench
from sync_assets_tests.support.sandbox_process import SandboxProcess
from sync_assets_tests.support.short_waits import shorten_waits


@pytest.fixture(scope="module")
def shared_sandbox(sandbox_factory: SandboxFactory) -> Iterator[SandboxProcess]:
    """One for all tests of this module: every test has ids of its own."""
    process = sandbox_factory(contacts=0)
    yield process
    assert process.errors == ""


@pytest.fixture(scope="module")
def systems() -> Iterator[SandboxProcess]:
    """One sandbox of 50 contacts for all tests of a module that capture; each has a ledger of its own."""
    with SandboxProcess() as one:
        yield one


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder for a `Program`, with an empty ledger."""
    (tmp_path / "dagster").mkdir()
    new_sqlite_ledger(tmp_path / "dagster" / "ledger.db")
    return tmp_path


@pytest.fixture
def program(systems: SandboxProcess, home: Path) -> Program:
    return Program(systems, home)


@pytest.fixture
def ledger_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if getattr(request, "param", "sqlite") == "sqlite":
        yield new_sqlite_ledger(tmp_path / "ledger.db")
    else:
        server: PostgresServer = request.getfixturevalue("postgres")
        with server.database() as url:
            yield url


@pytest.fixture
def bench(shared_sandbox: SandboxProcess, ledger_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    shorten_waits(monkeypatch.setattr)
    opened = Bench(ledger_url, shared_sandbox)
    opened.admin.clear_journal()
    yield opened
    assert opened.ledger.check() == []
    opened.admin.clear_faults()
    opened.admin.latency("campaign", 0)
    opened.close()
