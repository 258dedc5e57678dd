"""The same flows with the ledger in PostgreSQL."""

from __future__ import annotations

import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator

import pytest

from sync_assets.defs.instance.command_line import dagster_instance
from sync_assets.defs.partitions import today
from sync_assets_tests.support.ledgers import workers
from sync_assets_tests.support.orchestra import PROFILE, Orchestra, Run
from sync_assets_tests.support.postgres import PostgresServer
from sync_assets_tests.support.program import Program, calls
from sync_assets_tests.support.waiting import until


@pytest.fixture
def on_postgres(program: Program, postgres: PostgresServer) -> Iterator[Program]:
    with postgres.database() as url:
        program.more["SYNC_ASSETS_LEDGER_URL"] = url
        yield program


def test_a_first_load_and_a_change(on_postgres: Program) -> None:
    assert on_postgres.sync().document["engine_calls"] == calls(insert=50, read=2)
    on_postgres.sandbox.admin.change("contact", 3, jobtitle="Mapped")
    assert on_postgres.sync().document["engine_calls"] == calls(update=3)
    on_postgres.assert_in_step()


def test_two_at_once_one_of_them_killed(on_postgres: Program) -> None:
    admin = on_postgres.sandbox.admin
    admin.load(250)
    admin.latency("campaign", 40)
    on_postgres.guardrails = {"concurrency": 4}
    first, second = on_postgres.start("sync"), on_postgres.start("sync")
    while admin.engine_calls()["insert"] < 50:
        time.sleep(0.05)
        assert first.poll() is None
    first.kill()
    first.communicate()
    admin.latency("campaign", 0)
    _, errors = second.communicate(timeout=120)
    assert second.returncode == 0, errors
    status, _, errors = on_postgres.run("sync")
    assert status == 0, errors
    on_postgres.assert_in_step()


@pytest.mark.timeout(600)
def test_runs_at_once_share_what_is_pending(on_postgres: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each in a process of its own, as a run launcher starts them. Nothing is sent twice."""
    admin = on_postgres.sandbox.admin
    on_postgres.guardrails = {"concurrency": 4}
    monkeypatch.setenv("DAGSTER_HOME", on_postgres.env["DAGSTER_HOME"])
    admin.load(250)
    admin.change("contact", 300, jobtitle="All on one day")
    # Inserts are slow until both have begun: on a busy machine they do not start together. The first run's look at the
    # list is not: a run that waits longer than WAIT_SECONDS for that of another run ends without having sent anything.
    admin.fault("campaign", "slow", method="POST", delay_ms=5000)
    with dagster_instance() as instance:
        orchestra = Orchestra(on_postgres, instance)
        orchestra.capture()
        started = [materialization(on_postgres, today()) for _ in range(2)]
        until(lambda: both_have_begun(orchestra, started), 240)
        admin.clear_faults()
        admin.latency("campaign", 20)
        for process in started:
            _, errors = process.communicate(timeout=120)
            assert process.returncode == 0, errors
        assert orchestra.pending == 0
        runs = [Run(instance, run.run_id, run.is_success) for run in instance.get_runs()]
        sent = [run.metadata(PROFILE, today())["this_run"]["inserted"] for run in runs]
        orchestra.runtime.close()
    assert len(sent) == 2
    assert sum(sent) == 300
    assert min(sent) > 0
    journal = [entry for entry in admin.journal("campaign") if entry["engine"]]
    assert set(Counter((entry["engine"], entry["key"]) for entry in journal).values()) == {1}
    assert admin.engine_calls() == calls(insert=300, read=3)  # each run reads its first record back
    on_postgres.assert_in_step()


def both_have_begun(orchestra: Orchestra, started: list[subprocess.Popen[str]]) -> bool:
    assert all(process.poll() is None for process in started), "a run ended before both had begun"
    return len(workers(orchestra.runtime.ledger)) == 2


def materialization(program: Program, partition: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "dagster", "asset", "materialize", "-m", "sync_assets.definitions"]
    command += ["--select", 'key:"campaign/profile"', "--partition", partition]
    return subprocess.Popen(
        command, env=program.env, cwd=program.home, text=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
