"""Loads by file whose process is killed, whose SFTP fails, or whose ledger is an older copy: the next run goes on.

Most cases with the ledger in PostgreSQL are slow tests: each needs a new ledger, and processes of their own.
"""

import asyncio
import re
import signal
import sqlite3
import time
from contextlib import closing
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from sync_assets.bulk_load import files as load_files
from sync_assets.commands import loads as load_commands
from sync_assets.errors import SyncAssetsError
from sync_assets_tests.support.chain import ledger_of
from sync_assets_tests.support.forked_commands import start_module
from sync_assets_tests.support.loads import (
    MOMENT,
    assert_each_inserted_once,
    by_file,
    folder,
    inserted,
    let_load_go_on,
    loads,
    on_sftp,
    stop_load,
)
from sync_assets_tests.support.nightly import DATABASES, by_default
from sync_assets_tests.support.program import Program


@pytest.fixture(autouse=True)
def _small_batches(short_looks: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load_files, "BATCH", 10)


LEDGER, RUN = "sync_assets.ledger.records.loads Loads.", "sync_assets.bulk_load.load_run "
COMPARISON, SFTP = "sync_assets.audit.record_comparison Comparison.", "sync_assets.sftp.client Sftp."


def killed(program: Program, where: str) -> None:
    """Run `sync` in a process that kills itself there: module, function, before or after, which call."""
    process = start_module("sync_assets_tests.support.killed_sync", where.split(), program.env)
    output, _ = process.communicate()
    assert process.returncode == -signal.SIGKILL, output


STEPS = {
    "before the load begins": f"{LEDGER}begin before 1",
    "after the load has begun": f"{LEDGER}begin after 1",
    "records claimed": f"{LEDGER}next_rows after 1",
    "records of the second file claimed": f"{LEDGER}next_rows after 3",
    "file not renamed yet": f"{SFTP}_replace before 2",
    "file not stored yet": f"{LEDGER}add_file before 2",
    "file stored": f"{LEDGER}add_file after 2",
    "files complete": f"{LEDGER}move before 1",
    "ready": f"{LEDGER}move after 1",
    "command sent": f"{RUN}start after 1",
    "ended, not stored yet": f"{LEDGER}end before 1",
    "ended": f"{LEDGER}end after 1",
    "page listed": f"{COMPARISON}_page before 1",
    "page acknowledged": f"{COMPARISON}_page after 1",
    "listed": f"{RUN}LoadRun._listed after 1",
    "files removed": f"{LEDGER}finish before 1",
    "done": f"{LEDGER}finish after 1",
}


@by_default(
    "either step",
    product(DATABASES, STEPS),
    *(("sqlite", step) for step in list(STEPS)[1::2]),
    ("postgresql", "file stored"),
    ("postgresql", "page acknowledged"),
)
def test_a_sync_that_was_killed_is_carried_on_by_the_next_one(either: Program, step: str) -> None:
    program = by_file(either, file_mb=0.001)
    program.make_ledger()
    killed(program, STEPS[step])
    for _ in range(3):
        if program.sync().status == 0:
            break
        program.pass_horizon()
    assert_each_inserted_once(program)
    assert sum(inserted(program)) == 50
    assert {load["state"] for load in loads(program)} == {"done"}
    assert on_sftp(program) == []


@by_default("either", DATABASES, "sqlite")
def test_a_sync_that_was_killed_before_its_command_waits_for_a_person(either: Program) -> None:
    program = by_file(either, wait_hours=MOMENT)
    program.make_ledger()
    killed(program, f"{RUN}start before 1")
    time.sleep(MOMENT * 3600)
    done = program.sync()
    assert done.status == 2
    for text in (done.stopped[-1], program.run("status")[1], program.run("loads")[1]):
        assert "killed before it commanded the start" in text
        assert "`sync-assets loads abandon contact`" in text
    assert inserted(program) == []
    assert program.run("loads", "abandon", "contact")[0] == 0
    calls = program.sandbox.admin.engine_calls()
    assert "its import workflow may write it until the time of the next attempt" in program.sync().stopped[-1]
    assert re.search(
        r"the next attempt is at \d\d:\d\d UTC.*its import workflow may write it", program.run("status")[1]
    )
    assert program.sandbox.admin.engine_calls() == calls
    program.pass_horizon()
    assert program.sync().status == 0
    assert_each_inserted_once(program)


# --- SFTP -------------------------------------------------------------------------------------------------------------


def test_a_load_is_as_large_as_the_sftp_has_room_and_further_ones_follow(program: Program) -> None:
    by_file(program, file_mb=0.001, compress="none")
    admin = program.sandbox.admin
    used = admin.get("/sftp/settings")["used_bytes"]
    admin.post("/sftp/settings", {"capacity_bytes": used + 3 * 4096})
    assert program.sync().status == 0
    assert_each_inserted_once(program)
    assert len(loads(program)) > 1
    assert [load["missing"] for load in loads(program)] == [0] * len(loads(program))
    assert admin.get("/sftp/settings")["largest_bytes"] - used <= 4096 + 200
    assert admin.engine_calls()["insert"] == 0


def test_without_room_for_a_file_nothing_is_claimed_for_good(program: Program) -> None:
    by_file(program)
    admin = program.sandbox.admin
    used = admin.get("/sftp/settings")["used_bytes"]
    admin.post("/sftp/settings", {"capacity_bytes": used + 2 * 4096})
    for _ in range(2):
        done = program.sync()
        assert done.status == 2
        assert "has no room for a file of contact" in done.stopped[-1]
    admin.post("/sftp/settings", {"capacity_bytes": None})
    assert program.sync().status == 0
    assert_each_inserted_once(program)


FAULTS: dict[str, tuple[dict[str, Any], bool]] = {
    "full": ({"bytes": 500, "times": 20}, True),
    "cut_write": ({"bytes": 500, "times": 20}, True),
    "slow_write": ({"delay_ms": 300, "times": 3}, False),
}


@by_default("either kind", product(DATABASES, FAULTS), *product(DATABASES[:1], FAULTS), ("postgresql", "cut_write"))
def test_an_sftp_that_fails_ends_the_sync_with_a_clear_error_and_the_next_one_goes_on(
    either: Program, kind: str
) -> None:
    program, (fault, ends) = by_file(either, compress="none"), FAULTS[kind]
    program.sandbox.admin.fault("sftp", kind, **fault)
    done = program.sync()
    assert done.status == (2 if ends else 0)
    if ends:
        assert "contact: its load by file cannot go on" in done.stopped[-1]
        assert [name for name in on_sftp(program) if not name.startswith(".")] == []
        program.sandbox.admin.clear_faults()
        assert program.sync().status == 0
    assert_each_inserted_once(program)
    assert len(inserted(program)) == 1
    assert on_sftp(program) == []


# --- two processes, and an older copy ---------------------------------------------------------------------------------


def test_of_two_processes_one_carries_the_load_on_and_the_other_says_so(program: Program) -> None:
    program.sandbox.admin.configure_import("WKF20", rows_per_second=25)
    program.make_ledger()
    first, second = by_file(program).start("sync"), program.start("sync")
    told = [process.communicate(timeout=120) for process in (first, second)]
    assert inserted(program) == [50]
    assert {first.returncode, second.returncode} <= {0, 2}
    assert 0 in {first.returncode, second.returncode}, told
    assert program.sync().status == 0
    assert len(loads(program)) == 1
    assert_each_inserted_once(program)


def test_a_load_that_another_process_carries_on_is_not_given_up(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_load(program, "after its import")

    async def carry_on(*_: Any) -> None:
        ledger = program.runtime().ledger
        load = ledger.loads.unfinished("contact")
        assert load is not None
        ledger.loads.move(load)

    with monkeypatch.context() as patched:
        patched.setattr(load_commands, "_stopped", carry_on)
        with pytest.raises(SyncAssetsError, match=r"another process carried .* meanwhile.*`sync-assets loads` shows"):
            asyncio.run(load_commands.abandon(program.runtime(), "contact"))
    assert program.run("loads", "abandon", "contact")[0] == 0
    assert program.sync().status == 0
    assert_each_inserted_once(program)


def test_a_ledger_that_was_set_back_begins_no_second_load(program: Program, tmp_path: Path) -> None:
    program.guardrails = {"horizon_minutes": 0.01}
    by_file(program).make_ledger()
    with closing(program.runtime()) as runtime:
        assert runtime.ledger.loads.all() == []
    copy = tmp_path / "copy.db"
    with closing(sqlite3.connect(ledger_of(program))) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)
    stop_load(program, "after its import")
    for file in ledger_of(program).parent.glob("ledger.db-*"):
        file.unlink()
    ledger_of(program).write_bytes(copy.read_bytes())
    status, output, errors = program.run("sync")
    assert status == 1
    assert "is an older copy" in output + errors
    time.sleep(1)
    status, output, errors = program.run("rebuild")
    assert status in (0, 2), output + errors
    let_load_go_on(program)
    [unknown] = [one for one in program.json("doctor")[1]["checks"] if "this ledger does not have" in one["message"]]
    assert (unknown["outcome"], unknown["title"]) == ("fail", "first loads by file: files of contact")
    text = program.run("loads", "abandon", "contact")[1]
    assert "file was removed of loads that this ledger does not have" in text
    assert not any("does not have" in one["message"] for one in program.json("doctor")[1]["checks"])
    assert program.sync().status == 0
    assert on_sftp(program) == []
    assert inserted(program) == [50]
    assert_each_inserted_once(program)


def test_files_of_a_load_that_the_ledger_does_not_know_stop_another_one(program: Program) -> None:
    by_file(program).make_ledger()
    folder(program).mkdir(parents=True, exist_ok=True)
    (folder(program) / "contact_20261201T120000Z_1.tsv.gz").write_bytes(b"")
    done = program.sync()
    assert done.status == 2
    assert "holds 1 file of a load that this ledger does not have" in done.stopped[-1]
    assert "`sync-assets loads abandon contact`" in done.stopped[-1]
    assert program.profiles() == {}  # their workflow may still insert the records
    assert program.run("loads", "abandon", "contact")[0] == 0
    assert program.sync().status == 0
    assert_each_inserted_once(program)
