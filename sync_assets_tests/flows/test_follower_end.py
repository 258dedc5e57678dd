"""When the follower ends and the next one begins, and how runs end that were killed."""

import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from sync_assets.defs.follower import follower
from sync_assets.defs.partitions import FOLLOWS_TAG, LEDGER_TAG, TABLE_TAG
from sync_assets.defs.tables import run_requests
from sync_assets.defs.tables.run_requests import end_killed
from sync_assets.ledger import Ledger
from sync_assets.ledger.model import FOLLOWER
from sync_assets.runtime.workers import SILENT_AFTER, WorkerSession
from sync_assets_tests.support.following import ended, follow, lines, loaded
from sync_assets_tests.support.ledgers import session_of
from sync_assets_tests.support.orchestra import Orchestra, Run
from sync_assets_tests.support.waiting import until

ELSEWHERE = "elsewhere|another boot 4026531836|17|99|00000000"
"""A worker on another machine."""


pytestmark = pytest.mark.usefixtures("quick_looks")


@pytest.fixture
def orchestra(followed_orchestra: Orchestra) -> Orchestra:
    return followed_orchestra


def another_configuration(orchestra: Orchestra) -> None:
    orchestra.program.guardrails = {"concurrency": 8}
    _ = orchestra.program.env  # writes the file


def the_next_follower(orchestra: Orchestra) -> None:
    with Ledger.open(orchestra.runtime.settings.ledger_url) as ledger:
        ledger.runs.begin("next", WorkerSession(ledger).epoch, [FOLLOWER])


def no_next_follower(_: Orchestra) -> None: ...


def a_run_that_waits(orchestra: Orchestra) -> None:
    pytest.MonkeyPatch().setattr(follower, "slot_is_wanted", lambda instance: True)


@pytest.mark.parametrize(
    ("runs", "end", "why"),
    [
        ({"linger_seconds": 600}, another_configuration, "The configuration or the program has changed."),
        ({"linger_seconds": 600}, the_next_follower, "A later run follows the tables."),
        ({"longest_run_minutes": 0.02}, no_next_follower, "It has run for 0.02 min, and no next run has begun."),
        (
            {"linger_seconds": "always"},
            a_run_that_waits,
            "All slots of the run queue are taken, and another run waits for one.",
        ),
    ],
    ids=["configuration", "successor", "no successor", "slots"],
)
def test_it_ends_and_says_why(
    orchestra: Orchestra,
    monkeypatch: pytest.MonkeyPatch,
    runs: dict[str, Any],
    end: Callable[[Orchestra], None],
    why: str,
) -> None:
    monkeypatch.setattr(follower, "GRACE_SECONDS", 2.0 if end is no_next_follower else 60.0)
    monkeypatch.setattr(follower, "KEEPS_SLOT_SECONDS", 0.0)
    monkeypatch.setattr(follower, "SLOT_SECONDS", 0.0)
    monkeypatch.setattr(follower, "slot_is_wanted", lambda instance: False)
    orchestra.program.runs = runs
    began, run = time.monotonic(), follow(loaded(orchestra), lambda: end(orchestra))
    assert run.success
    assert time.monotonic() - began < 60
    assert ended(run) == why


def test_the_next_follower_waits_for_the_end_of_the_one_before_it(orchestra: Orchestra) -> None:
    loaded(orchestra)
    with Ledger.open(orchestra.runtime.settings.ledger_url) as ledger:
        first = WorkerSession(ledger)
        ledger.runs.begin("first", first.epoch, [FOLLOWER])

        def end() -> None:
            time.sleep(1)
            assert not any("Following" in line for run in orchestra.instance.get_runs() for line in lines(_run(run)))
            first.end()

        def _run(run: dg.DagsterRun) -> Run:
            return Run(orchestra.instance, run.run_id, success=True)

        orchestra._cursors.clear()
        run = follow(orchestra, end)
    assert ended(run) == "There was no work for 3 s."


@pytest.mark.parametrize(("runs", "requested"), [({"linger_seconds": 3}, 0), ({"longest_run_minutes": 30}, 1)])
def test_without_news_the_sensor_starts_a_follower_only_if_it_stays_by_the_file_as_it_is_now(
    orchestra: Orchestra, runs: dict[str, Any], requested: int
) -> None:
    """The code server has the configuration of its start; the process of a run reads the file."""
    orchestra.program.runs = {"linger_seconds": "always"}
    assert [one.job_name for one in loaded(orchestra).asked("d365_changes")] == ["follow"]
    orchestra.program.runs = runs
    _ = orchestra.program.env  # writes the file
    assert len(orchestra.asked("d365_changes")) == requested


def test_the_sensor_requests_the_next_follower_when_the_first_one_gets_old(orchestra: Orchestra) -> None:
    orchestra.program.runs = {"linger_seconds": "always", "longest_run_minutes": 0.01}
    tags = {FOLLOWS_TAG: "yes"}
    old = loaded(orchestra).under_way(tags, location=orchestra.location)
    assert orchestra.asked("d365_changes") == []
    time.sleep(1)
    [request] = orchestra.asked("d365_changes")
    assert request.job_name == "follow"
    orchestra.under_way(tags, dg.DagsterRunStatus.QUEUED, orchestra.location)
    assert orchestra.asked("d365_changes") == []
    orchestra.instance.delete_run(old.run_id)


def test_it_ends_with_the_processes_that_started_it(tmp_path: Path) -> None:
    """`dagster dev` that ends alone, as by `kill`, leaves its code server waiting for the run."""
    script = (
        "import os, subprocess, sys, time\n"
        "from sync_assets.runtime.program_sources import ancestors\n"
        "before = ancestors()\n"
        "print(len(before) > 1, flush=True)\n"
        "give_up_at = time.monotonic() + 20\n"
        "while ancestors() == before and time.monotonic() < give_up_at: time.sleep(0.05)\n"
        f"open({str(tmp_path / 'noticed')!r}, 'w').write(str(ancestors() != before))\n"
    )
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {script!r}])"
    grandparent = f"import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', {parent!r}]); time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", grandparent], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    assert process.stdout.readline() == "True\n"
    process.kill()
    process.wait()
    until(lambda: (tmp_path / "noticed").exists() and (tmp_path / "noticed").read_text() == "True", 20)


def test_a_run_without_a_sign_of_life_is_ended_and_the_next_one_is_asked_for(orchestra: Orchestra) -> None:
    """As after kill -9, on another machine or by another launcher: nothing but the ledger tells.

    A run that a person started has no tags of ours: its heartbeats are enough.
    """
    ledger, instance = orchestra.runtime.ledger, orchestra.instance
    dead, alive = (orchestra.under_way({TABLE_TAG: "contact"}) for _ in range(2))
    persons, foreign = (orchestra.under_way({}) for _ in range(2))
    ledger.runs.begin(alive.run_id, session_of(ledger, f"{ELSEWHERE}alive"))
    earlier = datetime.now(UTC) - SILENT_AFTER - timedelta(seconds=1)
    with Ledger.open(orchestra.runtime.settings.ledger_url, clock=lambda: earlier) as then:
        for run in (dead, persons):
            then.runs.begin(run.run_id, session_of(then, ELSEWHERE))
    assert [run.run_id for run in end_killed(instance, ledger, "contact")] == [alive.run_id]
    assert {run.run_id: run.status for run in instance.get_runs()} == {
        **dict.fromkeys((dead.run_id, persons.run_id), dg.DagsterRunStatus.FAILURE),
        **dict.fromkeys((alive.run_id, foreign.run_id), dg.DagsterRunStatus.STARTED),
    }
    assert orchestra.tick("d365_changes").skip_message == "contact: a run is under way"
    instance.delete_run(alive.run_id)
    assert orchestra.asked("d365_changes")


@pytest.mark.parametrize("status", [dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.STARTING])
def test_a_run_whose_launcher_was_killed_holds_up_no_other_without_run_monitoring(
    orchestra: Orchestra, status: dg.DagsterRunStatus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An instance of a user's own has no run monitoring: nothing else would end it."""
    run = orchestra.under_way({FOLLOWS_TAG: "yes"}, status, orchestra.location)
    assert end_killed(orchestra.instance, orchestra.runtime.ledger, "contact") == [run]
    monkeypatch.setattr(run_requests, "START_WITHIN", timedelta(seconds=-1))
    with monkeypatch.context() as monitored:
        monitored.setattr(dg.DagsterInstance, "run_monitoring_enabled", True)
        assert end_killed(orchestra.instance, orchestra.runtime.ledger, "contact") == [run]
    assert end_killed(orchestra.instance, orchestra.runtime.ledger, "contact") == []
    ended = orchestra.instance.get_run_by_id(run.run_id)
    assert ended
    assert ended.status is dg.DagsterRunStatus.FAILURE


def test_code_locations_and_ledgers_on_one_instance_neither_end_nor_wait_for_each_others_runs(
    orchestra: Orchestra, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs without heartbeats in the ledger: those of another location write theirs to another ledger, and so do two
    installations in one location, and one with a new ledger."""
    monkeypatch.setattr(run_requests, "SILENT_AFTER", timedelta(seconds=-1))
    status, tags, here = dg.DagsterRunStatus, {TABLE_TAG: "contact"}, orchestra.location
    foreign = [
        orchestra.under_way(tags, kind, location, ledger="another")
        for kind in (status.QUEUED, status.STARTED, status.CANCELING)
        for location in (here, None)
        if location or kind is not status.QUEUED  # Dagster queues no run of the command line
    ]
    before = {run.run_id: run.status for run in orchestra.instance.get_runs()}
    assert len(before) == len(foreign)
    for location in (here, None):
        assert end_killed(orchestra.instance, orchestra.runtime.ledger, "contact", location=location) == []
    theirs, queued = (orchestra.under_way(tags, kind, location="theirs") for kind in (status.STARTED, status.QUEUED))
    by_command_line = orchestra.under_way(tags)
    ours = orchestra.under_way(tags, location=here)
    assert end_killed(orchestra.instance, orchestra.runtime.ledger, "contact") == [queued]  # as `sync` does
    [request] = orchestra.asked("d365_changes")
    assert request.tags[LEDGER_TAG] == orchestra.runtime.ledger.systems.identity()
    kinds = (status.STARTED, status.QUEUED, status.STARTED, status.FAILURE)
    after = {run.run_id: kind for run, kind in zip((theirs, queued, by_command_line, ours), kinds, strict=True)}
    assert {run.run_id: run.status for run in orchestra.instance.get_runs()} == before | after
