"""When the backlog sensor asks for a run, and when it waits; which runs that stay make room for others."""

from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import dagster as dg
import pytest

from sync_assets.checks import rules
from sync_assets.checks.rules import Finding
from sync_assets.config.models import TableConfig
from sync_assets.defs.partitions import FOLLOWS_TAG
from sync_assets.defs.tables import run_requests
from sync_assets.defs.tables.run_requests import (
    EXAMINE_BUDGET,
    FIRST_WAIT,
    RunRequested,
    ask_again,
    runs_to_make_room_for,
)
from sync_assets.runtime.context import Runtime
from sync_assets_tests.support.orchestra import job_origin

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


def test_a_new_backlog_is_asked_for_at_once() -> None:
    worth, asked = ask_again(None, 10, NOW)
    assert worth
    assert asked.amount == 10


def test_a_backlog_that_moves_is_asked_for_at_once() -> None:
    assert ask_again(RunRequested(10, NOW, 300.0), 9, NOW)[0]


def test_a_request_of_a_clock_that_was_set_back_since_holds_nothing_up() -> None:
    worth, asked = ask_again(RunRequested(10, NOW + timedelta(days=1), 300.0), 10, NOW)
    assert worth
    assert asked.at == NOW


def test_a_backlog_that_does_not_move_is_asked_for_ever_more_rarely_and_never_given_up() -> None:
    asked, at, waits = RunRequested(10, NOW, FIRST_WAIT), NOW, list[float]()
    for _ in range(8):
        started = at
        while True:
            at += timedelta(seconds=5)
            worth, asked = ask_again(asked, 10, at)
            if worth:
                break
        waits.append((at - started).total_seconds())
    assert waits == [10, 20, 40, 80, 160, 300, 300, 300]


def test_a_tick_examines_tables_for_so_long_and_the_next_one_goes_on_with_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Dagster ends a tick after a minute, and an examination may take seconds."""
    examined, clock = list[str](), count(0.0, EXAMINE_BUDGET / 4)

    def examine(_: Runtime, config: TableConfig, *, pushes: bool) -> list[Finding]:
        examined.append(config.table)
        return [rules.TRACKING.finding(pushes)]

    monkeypatch.setattr(run_requests, "examine", examine)
    monkeypatch.setattr(run_requests, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    tables = [TableConfig.model_construct(table=f"t{number}") for number in range(4)]
    runs = run_requests.RunRequests(Runtime({}))
    requested = {config.table: RunRequested(1, NOW - timedelta(hours=1), 10.0) for config in tables}
    with dg.DagsterInstance.ephemeral() as instance:
        for _ in range(2):
            runs.begin(dg.build_sensor_context(instance=instance), requested)
            assert not [one for one in sorted(tables, key=runs.examined_at) if runs.is_due(one, 1)]
    assert examined == ["t0", "t1", "t2", "t3"]
    assert all(one.is_prevented for one in requested.values())


@pytest.mark.parametrize(
    ("slots", "waiting", "patience", "ended"),
    [
        (3, 0, 60.0, []),
        (3, 1, 60.0, [0]),
        (3, 2, 60.0, [0, 1]),
        (3, 1, 0.001, [0, 1]),
        (4, 1, 60.0, []),
        (-1, 1, 60.0, []),
    ],
    ids=["no run waits", "one waits", "two wait", "one waits for long", "a slot is free", "no limit"],
)
def test_as_many_runs_that_stay_make_room_as_wait_for_a_slot_the_oldest_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slots: int, waiting: int, patience: float, ended: list[int]
) -> None:
    monkeypatch.setattr(run_requests, "MORE_ROOM_SECONDS", patience)
    queue = {"concurrency": {"runs": {"max_concurrent_runs": slots}}}
    with dg.DagsterInstance.local_temp(str(tmp_path), overrides=queue) as instance:

        def add(status: dg.DagsterRunStatus, tags: dict[str, str]) -> str:
            run = dg.DagsterRun("sync", status=status, tags=tags, remote_job_origin=job_origin("ours"))
            return instance.run_storage.add_run(run).run_id

        add(dg.DagsterRunStatus.STARTED, {})
        staying = [add(dg.DagsterRunStatus.STARTED, {FOLLOWS_TAG: "yes"}) for _ in range(2)]
        queued = [add(dg.DagsterRunStatus.QUEUED, {}) for _ in range(waiting)]
        room = {at: runs_to_make_room_for(instance, run_id) for at, run_id in enumerate(staying)}
    assert [at for at, runs in room.items() if runs is not None] == ended
    assert {at: [run.run_id for run in room[at] or ()] for at in ended} == {at: queued[at : at + 1] for at in ended}
