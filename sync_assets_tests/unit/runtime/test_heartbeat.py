"""A run lives as long as its heartbeats come; what the process of a killed run held is given to others, and it sends
nothing more if it lives all the same."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from sync_assets.ledger import Ledger
from sync_assets.ledger.repositories.runs import ENDED, GIVEN_UP
from sync_assets.runtime import heartbeat as module
from sync_assets.runtime.context import Runtime
from sync_assets.runtime.heartbeat import (
    LEASE_SECONDS,
    SILENT_AFTER,
    RunGivenUp,
    RunLease,
    give_up_killed,
    heartbeat,
    killed_runs,
)
from sync_assets.runtime.workers import worker_id
from sync_assets_tests.support.ledgers import Clock, capture, claim_one, row
from sync_assets_tests.support.pushing import Bench, calls, people

ELSEWHERE = "elsewhere|another boot 4026531836|17|99|"
"""A process on another machine; its workers add a part of their own."""
SILENT = SILENT_AFTER + timedelta(seconds=1)


@pytest.fixture
def ledger(ledger_url: str) -> Iterator[Ledger]:
    with Ledger.open(ledger_url) as opened:
        yield opened


def beat(url: str, run_id: str, owner: str, ago: timedelta) -> None:
    with Ledger.open(url, clock=lambda: datetime.now(UTC) - ago) as then:
        assert then.write_heartbeat(run_id, owner)


def killed_here() -> str:
    """A worker of this machine whose process has ended."""
    host, namespace, _, *rest = worker_id().split("|")
    return "|".join([host, namespace, "999999", *rest])


def test_a_run_counts_as_killed_after_a_silence_and_on_this_machine_at_once(ledger: Ledger, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/ledger.db"
    beat(url, "silent", f"{ELSEWHERE}a", SILENT)
    beat(url, "speaking", f"{ELSEWHERE}b", SILENT_AFTER - timedelta(seconds=5))
    beat(url, "killed here", killed_here(), timedelta())
    beat(url, "alive here", worker_id(), timedelta())
    assert [run.run_id for run in killed_runs(ledger)] == ["silent", "killed here"]
    assert str(killed_runs(ledger)[0]).startswith("The process of run silent was killed: its last heartbeat was at ")
    beats = give_up_killed(ledger)
    assert {run_id for run_id, one in beats.items() if one.owner == GIVEN_UP} == {"silent", "killed here"}
    assert killed_runs(ledger) == []


def test_a_run_whose_work_has_ended_was_not_killed(ledger: Ledger, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/ledger.db"
    beat(url, "run", f"{ELSEWHERE}a", SILENT)
    with Ledger.open(url, clock=lambda: datetime.now(UTC) - SILENT) as then:
        then.end_heartbeats("run")
    assert killed_runs(ledger) == []
    assert give_up_killed(ledger)["run"].owner == ENDED


class Clocks:
    """Stand still until told to go on."""

    def __init__(self) -> None:
        self.now = (0.0, 0.0)

    def __call__(self) -> tuple[float, float]:
        return self.now


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> Clocks:
    made = Clocks()
    monkeypatch.setattr(module, "_clocks", made)
    return made


@pytest.mark.parametrize("passed", [(LEASE_SECONDS, 0.0), (0.0, LEASE_SECONDS)], ids=["monotonic", "set"])
def test_a_process_gives_its_run_up_before_others_may_by_either_clock(
    ledger: Ledger, clocks: Clocks, passed: tuple[float, float]
) -> None:
    assert timedelta(seconds=LEASE_SECONDS) < SILENT_AFTER
    lease = RunLease(ledger, "run")
    lease.renew()
    assert lease.is_valid()
    clocks.now = passed
    assert not lease.is_valid()
    lease.renew()
    assert lease.is_valid()  # the run was not given up meanwhile


def test_a_process_whose_run_was_given_up_has_no_right_to_it_any_more(ledger: Ledger) -> None:
    lease = RunLease(ledger, "run")
    lease.renew()
    assert ledger.give_up_run("run", ledger.heartbeats()["run"])
    with pytest.raises(RunGivenUp):
        lease.renew()
    assert not lease.is_valid()
    with pytest.raises(RunGivenUp):
        RunLease(ledger, "run").renew()


def test_a_process_that_was_suspended_for_days_has_no_right_to_its_run_any_more(tmp_path: Path) -> None:
    """Heartbeats are kept for a day: then nothing shows any more that the run was given up."""
    clock = Clock()
    with Ledger.open(f"sqlite:///{tmp_path}/ledger.db", clock=clock) as ledger:
        lease = RunLease(ledger, "run")
        lease.renew()
        assert ledger.give_up_run("run", ledger.heartbeats()["run"])
        clock.advance(2 * 86_400)
        RunLease(ledger, "next").renew()
        with pytest.raises(RunGivenUp):
            lease.renew()
        assert not lease.is_valid()


def test_the_leases_of_a_process_stay_while_another_of_its_runs_is_alive(ledger: Ledger, tmp_path: Path) -> None:
    """The end of an earlier run is not stored if the ledger fails at that moment."""
    url = f"sqlite:///{tmp_path}/ledger.db"
    beat(url, "ended", f"{ELSEWHERE}a", SILENT)
    beat(url, "alive", f"{ELSEWHERE}b", timedelta())
    capture(ledger, row("anna"))
    claim_one(ledger, f"{ELSEWHERE}c", seconds=180)
    assert give_up_killed(ledger)["ended"].owner == GIVEN_UP
    assert [lease.owner for lease in ledger.leases()] == [f"{ELSEWHERE}c"]
    beat(url, "alive", f"{ELSEWHERE}b", SILENT)
    give_up_killed(ledger)
    assert ledger.leases() == []


def test_a_run_notes_its_beginning_and_its_end(tmp_path: Path) -> None:
    runtime = Runtime({"SYNC_ASSETS_LEDGER_URL": f"sqlite:///{tmp_path}/ledger.db"})
    with heartbeat(runtime, "run"):
        assert runtime.ledger.heartbeats()["run"].owner.split("|")[2] == str(os.getpid())
        assert runtime.run_is_valid()
        runtime.ledger.give_up_run("run", runtime.ledger.heartbeats()["run"])
    assert runtime.ledger.heartbeats()["run"].owner == GIVEN_UP
    with heartbeat(runtime, "next"):
        pass
    assert runtime.ledger.heartbeats()["next"].owner == ENDED
    assert runtime.run_is_valid()
    runtime.close()


async def test_a_push_sends_nothing_once_its_run_may_be_given_up(bench: Bench) -> None:
    bench.capture(people(20))
    bench.admin.latency("campaign", 50)
    result = await bench.push(concurrency=2, run_is_valid=lambda: bench.admin.engine_calls()["insert"] < 4)
    assert result.stopped == "The ledger did not renew our leases in time."
    assert 4 <= result.inserted < 20
    bench.admin.latency("campaign", 0)
    assert (await bench.push()).inserted == 20 - result.inserted
    assert bench.admin.engine_calls() == calls(insert=20, update=0, delete=0, read=0)
