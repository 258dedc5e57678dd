"""A run lives as long as its session; what the process of a killed run held is given to others, and it sends nothing
more if it lives all the same."""

import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from sync_assets.config.files import CONFIG, SANDBOX_CONFIG
from sync_assets.ledger import Ledger
from sync_assets.ledger.errors import SESSION_SECONDS, SessionExpired
from sync_assets.ledger.model import ENDED, GIVEN_UP
from sync_assets.runtime import workers as module
from sync_assets.runtime.context import Runtime
from sync_assets.runtime.workers import (
    SILENT_AFTER,
    VALID_SECONDS,
    WorkerSession,
    give_up_killed,
    killed_runs,
    worker_id,
)
from sync_assets_tests.support.ledgers import capture, claim_one, live_sessions, row, run_out, session_of, workers
from sync_assets_tests.support.pushing import Bench, calls, people
from sync_assets_tests.support.waiting import until

ELSEWHERE = "elsewhere|another boot 4026531836|17|99|"
"""A process on another machine; its workers add a part of their own."""
SILENT = SILENT_AFTER + timedelta(seconds=1)


@pytest.fixture
def ledger(ledger_url: str) -> Iterator[Ledger]:
    with Ledger.open(ledger_url) as opened:
        yield opened


def beat(url: str, run_id: str, worker: str, ago: timedelta) -> None:
    """Let a worker begin a run that long ago, and give no sign of life since."""
    with Ledger.open(url, clock=lambda: datetime.now(UTC) - ago) as then:
        session = session_of(then, worker)
        assert then.runs.begin(run_id, session)
        if not then.database.sqlite and ago > SILENT_AFTER:
            run_out(then, worker)


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
    assert {run_id for run_id, one in beats.items() if one.session == GIVEN_UP} == {"silent", "killed here"}
    assert killed_runs(ledger) == []


def test_a_run_whose_work_has_ended_was_not_killed(ledger: Ledger, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/ledger.db"
    beat(url, "run", f"{ELSEWHERE}a", SILENT)
    with Ledger.open(url, clock=lambda: datetime.now(UTC) - SILENT) as then:
        then.runs.end("run")
    assert killed_runs(ledger) == []
    assert give_up_killed(ledger)["run"].session == ENDED


class Clocks:
    """Stand still until told to go on."""

    def __init__(self) -> None:
        self.now = (0.0, 0.0)

    def __call__(self) -> tuple[float, float]:
        return self.now


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> Clocks:
    made = Clocks()
    monkeypatch.setattr(module, "clocks", made)
    return made


@pytest.mark.parametrize("passed", [(VALID_SECONDS, 0.0), (0.0, VALID_SECONDS)], ids=["monotonic", "set"])
def test_a_process_sends_nothing_more_before_others_may_have_its_claims_by_either_clock(
    ledger: Ledger, clocks: Clocks, passed: tuple[float, float]
) -> None:
    assert VALID_SECONDS < SESSION_SECONDS
    session = WorkerSession(ledger)
    assert session.is_valid()
    clocks.now = passed
    assert not session.is_valid()
    assert session.renew()
    assert session.is_valid()  # it did not expire meanwhile


def test_a_process_whose_session_has_expired_has_no_right_to_it_any_more(ledger: Ledger) -> None:
    session = WorkerSession(ledger)
    assert ledger.sessions.expire(lambda worker: True) == 1
    assert not session.renew()
    assert (session.is_valid(), session.has_expired) == (False, True)


def test_a_session_is_kept_until_it_ends(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RENEW_SECONDS", 0.02)
    numbers: list[int] = []
    ledger.remember_numbers(numbers.append)
    session = WorkerSession(ledger)
    session.keep()
    until(lambda: len(numbers) > 3)
    session.end()
    assert live_sessions(ledger) == []


def test_a_killed_process_on_this_machine_is_noticed_by_the_sessions_of_others(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RENEW_SECONDS", 0.02)
    session = WorkerSession(ledger)
    session.keep()
    ledger.sessions.open(killed_here())
    until(lambda: [one.epoch for one in live_sessions(ledger)] == [session.epoch])
    session.end()


def test_claims_stay_with_their_process_while_its_session_lives(ledger: Ledger, tmp_path: Path) -> None:
    """The end of an earlier run is not stored if the ledger fails at that moment."""
    url, worker = f"sqlite:///{tmp_path}/ledger.db", f"{ELSEWHERE}a"
    beat(url, "ended", worker, timedelta())
    beat(url, "alive", worker, timedelta())
    capture(ledger, row("anna"))
    claim_one(ledger, worker)
    assert give_up_killed(ledger)["ended"].session not in (ENDED, GIVEN_UP)
    assert workers(ledger) == [worker]
    run_out(ledger, worker)
    assert {one.session for one in give_up_killed(ledger).values()} == {GIVEN_UP}
    assert workers(ledger) == []


def test_a_run_notes_its_beginning_and_its_end(tmp_path: Path) -> None:
    runtime = Runtime({CONFIG: str(SANDBOX_CONFIG), "SYNC_ASSETS_LEDGER_URL": f"sqlite:///{tmp_path}/ledger.db"})
    with runtime.worker.heartbeat("run"):
        begun = runtime.ledger.runs.heartbeats()["run"]
        assert (begun.worker or "").split("|")[2] == str(os.getpid())
        assert runtime.worker.session_is_valid()
    assert runtime.ledger.runs.heartbeats()["run"].session == ENDED
    runtime.close()


def test_the_session_of_a_run_that_has_expired_is_replaced_when_the_run_has_ended(tmp_path: Path) -> None:
    runtime = Runtime({CONFIG: str(SANDBOX_CONFIG), "SYNC_ASSETS_LEDGER_URL": f"sqlite:///{tmp_path}/ledger.db"})
    with runtime.worker.heartbeat("run"):
        first = runtime.session
        runtime.ledger.sessions.expire(lambda worker: True)
        assert {one.session for one in give_up_killed(runtime.ledger).values()} == {GIVEN_UP}
        assert not first.renew()
        assert runtime.session is first
        assert not runtime.worker.session_is_valid()
    with pytest.raises(SessionExpired), runtime.worker.heartbeat("run"):
        pass
    assert runtime.session.epoch > first.epoch
    with runtime.worker.heartbeat("next"):
        assert runtime.worker.session_is_valid()
    runtime.close()


async def test_a_push_sends_nothing_once_its_session_may_have_expired(bench: Bench) -> None:
    bench.capture(people(20))
    bench.admin.latency("campaign", 50)
    result = await bench.push(concurrency=2, session_is_valid=lambda: bench.admin.engine_calls()["insert"] < 4)
    assert result.stopped == "The ledger did not renew our leases in time."
    assert 4 <= result.inserted < 20
    bench.admin.latency("campaign", 0)
    assert (await bench.push()).inserted == 20 - result.inserted
    assert bench.admin.engine_calls() == calls(insert=20, update=0, delete=0, read=0)
