"""`sync` killed at the worst moments of the flows of opt-outs, and run twice at once: nothing is lost or doubled.

A moment is hit by holding a request up, and where what follows must not reach the ledger, by holding that locked.
"""

import sqlite3
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from sync_assets_tests.conftest import SandboxFactory
from sync_assets_tests.support.opt_outs import (
    HEADER,
    assert_quiet,
    clear,
    in_d365,
    opted_in,
    says,
    set_d365,
    sides,
    switch_on,
    write_file,
)
from sync_assets_tests.support.postgres import PostgresServer
from sync_assets_tests.support.program import Program
from sync_assets_tests.support.waiting import until

IN_DOUBT_SECONDS = 1.5
"""How long a request is held up: time enough to lock the ledger before it goes on."""


@pytest.fixture(scope="module")
def on_sqlite(sandbox_factory: SandboxFactory, tmp_path_factory: pytest.TempPathFactory) -> Program:
    return installed(Program(sandbox_factory(contacts=80), tmp_path_factory.mktemp("home")))


@pytest.fixture(scope="module")
def on_postgres(
    sandbox_factory: SandboxFactory, tmp_path_factory: pytest.TempPathFactory, postgres: PostgresServer
) -> Iterator[Program]:
    with postgres.database() as url:
        program = Program(sandbox_factory(contacts=80), tmp_path_factory.mktemp("home"))
        program.more["SYNC_ASSETS_LEDGER_URL"] = url
        yield installed(program)


def installed(program: Program) -> Program:
    assert switch_on(program, "bidirectional").sync().status == 0
    return program


@pytest.fixture(params=["on_sqlite", "on_postgres"])
def either(request: pytest.FixtureRequest) -> Program:
    clear(program := request.getfixturevalue(request.param))
    return program


@pytest.fixture
def program(on_sqlite: Program) -> Program:
    clear(on_sqlite)
    return on_sqlite


TAKEN: dict[int, Iterator[str]] = {}


def contacts(program: Program, count: int) -> list[str]:
    """Contacts that no other test has taken, and that are opted out of nothing."""
    ids = TAKEN.setdefault(id(program), opted_in(program))
    return [next(ids) for _ in range(count)]


@contextmanager
def locked(program: Program) -> Generator[None]:
    """Nobody else can write opt-outs into the ledger meanwhile."""
    with closing(sqlite3.connect(Path(program.env["DAGSTER_HOME"]) / "ledger.db", isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")


def wait_for(condition: Callable[[], Any]) -> None:
    until(lambda: bool(condition()), 60, every=0.05)


def kill_sync(program: Program) -> None:
    """Start `sync`, and kill it after Dynamics 365's answer to its batch and before that can be in the ledger."""
    admin = program.sandbox.admin
    since = admin.last()
    rule = admin.fault("d365", "slow", times=1, delay_ms=1000 * IN_DOUBT_SECONDS, path=r"\$batch")
    process = program.start("sync")
    wait_for(lambda: process.poll() is not None or any(r["id"] == rule and r["fired"] for r in admin.fault_rules()))
    assert process.poll() is None, process.communicate()
    with locked(program):
        wait_for(lambda: any("$batch" in entry["path"] for entry in admin.journal(since=since)))
        time.sleep(0.2)  # the answer arrives, and what is made of it waits for the lock
        process.kill()
        process.wait()
    process.communicate()
    admin.clear_faults()


def carried(program: Program, since: int) -> tuple[int, list[str]]:
    """(batches that D365 was sent since then, whose profiles Campaign was sent an update)."""
    entries = program.sandbox.admin.journal(since=since)
    batches = sum("$batch" in entry["path"] for entry in entries)
    return batches, sorted(entry["key"] for entry in entries if entry["method"] == "PATCH")


def to_d365(program: Program, *ids: str) -> str:
    return write_file(program, HEADER + "".join(map(says, ids)))


# --- kill -9 --------------------------------------------------------------------------------------------------------


def test_killed_between_the_write_to_d365_and_its_record(program: Program) -> None:
    mine = contacts(program, 3)
    to_d365(program, *mine)
    since = program.sandbox.admin.last()
    kill_sync(program)
    assert [in_d365(program, id_)["donotemail"] for id_ in mine] == [True] * 3
    versions = [in_d365(program, id_)["versionnumber"] for id_ in mine]
    with closing(program.runtime()) as runtime:
        assert {row.state for row in runtime.ledger.opt_outs.of(mine)} == {2}  # to be written, as far as it knows
    done = program.sync()
    assert (done.status, done.document["opt_out"]["to_d365"]) == (0, 0), (done.problems, done.stopped)
    assert carried(program, since)[0] == 1
    assert [in_d365(program, id_)["versionnumber"] for id_ in mine] == versions
    assert_quiet(program)


# --- two at once ----------------------------------------------------------------------------------------------------


def test_two_syncs_at_once_do_the_work_once(either: Program) -> None:
    program, mine, theirs = either, contacts(either, 3), contacts(either, 3)
    to_d365(program, *mine)
    for id_ in theirs:
        set_d365(program, id_, donotemail=True)
    admin = program.sandbox.admin
    since = admin.last()
    admin.faults(
        {"system": "d365", "kind": "slow", "delay_ms": 700, "path": r"\$batch|Dynamics\.CRM\.In"},
        {"system": "campaign", "kind": "slow", "delay_ms": 500, "method": "PATCH"},
    )
    both = [program.start("sync", "--json") for _ in range(2)]
    for process in both:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
    admin.clear_faults()
    assert all(sides(program, id_)[0] for id_ in mine)
    assert [sides(program, id_) for id_ in theirs] == [(True, True)] * 3
    assert carried(program, since) == (1, sorted(theirs))
    assert_quiet(program)
