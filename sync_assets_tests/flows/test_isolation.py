"""One table's trouble is that table's: the others are captured and sent as before, and the trouble is shown."""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from copy import deepcopy
from datetime import timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from sync_assets.campaign import client
from sync_assets.capture import feed_polling
from sync_assets.defs.dagster_internals import latest_answers
from sync_assets.defs.tables import sensors
from sync_assets_tests.support.following import follow
from sync_assets_tests.support.orchestra import CONTACT as SOURCE
from sync_assets_tests.support.orchestra import PROFILE, Orchestra, Run, in_memory, shown
from sync_assets_tests.support.program import CONTACT, Program
from sync_assets_tests.support.sandbox_process import SandboxProcess
from sync_assets_tests.support.waiting import until

ORDER: dict[str, Any] = {
    "table": "new_order",
    "resource": "cusOrder",
    "key": "cusOrderId",
    "fields": {"new_name": "cusName"},
    "links": [{"field": "new_contactid", "to": "cusContactLink", "table": "contact"}],
}
TABLES = {"contact": ("lastname", "profile", "lastName"), "new_order": ("new_name", "cusOrder", "cusName")}
"""Table -> a column, its resource, and the attribute of the column."""
READY = dg.AssetCheckKey(SOURCE, "ready")
READY_TO_SEND = dg.AssetCheckKey(PROFILE, "ready")
CAUSE = "{} was not synchronised, nothing was written: change tracking is off"


@pytest.fixture
def program(sandbox: SandboxProcess, tmp_path: Path) -> Program:
    """Contacts and orders, both in step."""
    program = Program(sandbox, tmp_path, deepcopy(CONTACT), further=[deepcopy(ORDER)])
    assert program.sync().status == 0
    return program


@pytest.fixture
def orchestra(program: Program, monkeypatch: pytest.MonkeyPatch) -> Iterator[Orchestra]:
    monkeypatch.setattr(feed_polling, "POLL_PATIENCE", 0.2)
    with in_memory(program) as started:
        started.settle()
        yield started


def tracking(program: Program, table: str, enabled: bool) -> None:
    program.sandbox.admin.post("/d365/tracking", {"table": table, "enabled": enabled})


def change(program: Program, table: str, value: str) -> None:
    program.sandbox.admin.change(table, 3, **{TABLES[table][0]: value})


def arrived(program: Program, table: str, value: str) -> int:
    """How many records of the table's resource hold the value by now."""
    _, resource, attribute = TABLES[table]
    records = program.sandbox.admin.dump_campaign(resource)
    return sum(record[attribute].casefold() == value.casefold() for record in records)


def other(table: str) -> str:
    [one] = TABLES.keys() - {table}
    return one


@pytest.mark.parametrize("refused", [False, True])
def test_many_feeds_are_polled_by_one_request_or_each_by_its_own_where_batches_are_refused(
    program: Program, monkeypatch: pytest.MonkeyPatch, refused: bool
) -> None:
    monkeypatch.setattr(feed_polling, "MOST_SINGLE", 2)
    program.further.append({**ORDER, "table": "account", "resource": "cusStore", "key": "cusStoreId", "links": []})
    admin, runtime = program.sandbox.admin, program.runtime()
    group = runtime.config.tables[:2]  # other runs poll the other groups, all together as often as Dynamics 365 allows
    if refused:
        admin.fault("d365", "status", status=400, path="batch")

    async def polls() -> None:
        async with feed_polling.FeedPoller(runtime) as poller:

            async def polled() -> tuple[set[str], list[str]]:
                since = admin.last()
                poll = await poller.poll(group)
                assert not poll.refused
                paths = [one["path"].partition("?")[0] for one in admin.journal("d365", since)]
                return poll.news, sorted(path.rpartition("/")[2] for path in paths)

            await polled()  # signs in; the first batch is refused
            assert await polled() == (set(), ["contacts", "new_orders"] if refused else ["$batch"])
            assert poller.pause == (pytest.approx(0.6) if refused else feed_polling.BATCH_SECONDS)
            change(program, "contact", "later")
            assert (await polled())[0] == {"contact"}
            admin.clear_faults()
            monkeypatch.setattr(feed_polling, "BATCH_AGAIN", 0.0)
            assert await polled() == ({"contact"}, ["$batch"])
            tracking(program, "new_order", enabled=False)
            assert (await poller.poll(group)).refused.keys() == {"new_order"}
            admin.fault("d365", "slow", delay_ms=3000, path="/new_orders")
            monkeypatch.setattr(feed_polling, "FEED_SECONDS", 0.5)
            poll = await poller.poll(group)
            assert poll.news == {"contact"}
            assert "did not answer the poll" in poll.refused["new_order"]

    with closing(runtime):
        asyncio.run(polls())


@pytest.mark.parametrize("table", ["contact", pytest.param("new_order", marks=pytest.mark.slow)])
def test_plan_and_sync_carry_the_other_table_and_report_this_one(program: Program, table: str) -> None:
    tracking(program, table, enabled=False)
    for one in TABLES:
        change(program, one, "later")
    status, document = program.json("plan")
    assert status == 2
    assert document["tables"][other(table)]["update"] == 3
    assert CAUSE.format(table) in document["tables"][table]["problem"]
    status, output, errors = program.run("sync", "--json")
    assert status == 2, errors
    assert errors.splitlines()[0].startswith(f"sync-assets: {table} was not synchronised")
    assert CAUSE.format(table) in errors.splitlines()[0]
    assert errors.count(CAUSE.format(table)) == 1
    assert f'"problem": "{table} was not synchronised' in output
    assert (arrived(program, other(table), "later"), arrived(program, table, "later")) == (3, 0)
    assert [program.run("sync", "--table", one)[0] for one in (table, other(table))] == [1, 0]

    change(program, other(table), "still later")
    announced: list[tuple[str, int]] = []
    program.sync(
        program.runtime(announce=lambda text: announced.append((text, arrived(program, other(table), "still later"))))
    )
    [(text, arrived_before)] = announced  # as soon as the table has ended: contacts come before their orders
    assert CAUSE.format(table) in text
    assert arrived_before == (0 if table == "contact" else 3)
    tracking(program, table, enabled=True)
    assert program.sync().status == 0
    assert arrived(program, table, "later") == 3


def stays(orchestra: Orchestra, seconds: float, meanwhile: Callable[[], object]) -> Run:
    """Execute a follower that stays so many seconds without work."""
    orchestra.program.runs["linger_seconds"] = seconds
    orchestra.reload()
    orchestra.later("d365_changes", hours=2)  # requests it without news
    run = follow(orchestra, meanwhile)
    assert run.success
    return run


def requests(program: Program, system: str, seconds: float) -> int:
    since = program.sandbox.admin.last()
    time.sleep(seconds)
    return len(program.sandbox.admin.journal(system, since))


def results(orchestra: Orchestra, key: dg.AssetCheckKey) -> int:
    """Return how many results of a check are stored."""
    return len(orchestra.instance.event_log_storage.get_asset_check_execution_history(key, limit=99))


def text(orchestra: Orchestra, key: dg.AssetCheckKey) -> str:
    """Return the first line of the result that is shown."""
    answer = latest_answers(orchestra.instance, [key])[key].evaluation
    assert answer
    return (answer.description or "").splitlines()[0]


def refuses(program: Program, table: str) -> None:
    tracking(program, table, enabled=False)


def fails(program: Program, table: str) -> None:
    program.sandbox.admin.fault("d365", "status", status=500, path=f"/{table}s")


def is_silent(program: Program, table: str) -> None:
    program.sandbox.admin.fault("d365", "slow", delay_ms=30_000, path=rf"/{table}s\?")


@pytest.mark.parametrize(
    ("trouble", "cause"),
    [
        (refuses, "change tracking is off"),
        pytest.param(fails, "500", marks=pytest.mark.slow),
        pytest.param(is_silent, "did not answer", marks=pytest.mark.slow),
    ],
)
def test_a_table_in_trouble_is_reported_once_delays_no_other_and_is_right_within_seconds(
    orchestra: Orchestra, monkeypatch: pytest.MonkeyPatch, trouble: Callable[[Program, str], None], cause: str
) -> None:
    monkeypatch.setattr(feed_polling, "POLL_PATIENCE", 8.0)
    program, key, soon = orchestra.program, READY, 20 if trouble is is_silent else 10

    def play() -> None:
        trouble(program, "contact")
        change(program, "contact", "later")
        until(lambda: shown(orchestra.instance, key) == "FAILED", 20)
        assert cause in text(orchestra, key)
        before = results(orchestra, key)
        for value in ("a", "b", "c"):
            change(program, "new_order", value)
            until(lambda value=value: arrived(program, "new_order", value) == 3, 4)
        assert requests(program, "d365", 6) < 40, "less than a poll of both feeds each 0.4 s"
        assert results(orchestra, key) == before, "the history stays flat"
        for one in (True, False):
            program.sandbox.admin.clear_faults()
            tracking(program, "contact", enabled=True)
            if one:
                until(lambda: arrived(program, "contact", "later") == 3, soon)
            until(lambda: shown(orchestra.instance, key) == "SUCCEEDED", soon)
            if one:  # once more: without a change, a table is right soon, too
                trouble(program, "contact")
                until(lambda: shown(orchestra.instance, key) == "FAILED", 20)

    stays(orchestra, 2 * soon, play)


def test_a_table_that_campaign_refuses_does_not_stop_those_that_link_to_it_and_is_sent_once_it_is_corrected(
    orchestra: Orchestra,
) -> None:
    program = orchestra.program
    program.table["fields"]["nickname"] = "cusNoSuchThing"
    orchestra.reload()
    change(program, "contact", "later")
    for value in ("later", "still later"):
        change(program, "new_order", value)
        [request] = orchestra.asked("d365_changes")
        assert orchestra.execute(request).success
        assert arrived(program, "new_order", value) == 3
    assert "cusNoSuchThing" in text(orchestra, READY_TO_SEND)
    before = results(orchestra, READY_TO_SEND)
    for _ in range(5):  # the next run is requested with growing pauses
        for sensor in ("d365_changes", "backlog"):
            orchestra.later(sensor, seconds=15)
            assert sum(orchestra.execute(request).success for request in orchestra.asked(sensor)) <= 1
    assert results(orchestra, READY_TO_SEND) <= before + 4
    del program.table["fields"]["nickname"]
    orchestra.reload()
    [request] = orchestra.asked("d365_changes")  # at once
    assert orchestra.execute(request).success
    assert arrived(program, "contact", "later") == 3
    assert shown(orchestra.instance, READY_TO_SEND) == "SUCCEEDED"


def test_without_a_follower_that_stays_a_refused_feed_is_reported_once_and_as_soon_as_it_is_right(
    orchestra: Orchestra,
) -> None:
    program = orchestra.program

    def follows(shows: str) -> None:
        [request] = orchestra.asked("d365_changes")
        assert orchestra.execute(request).success
        assert shown(orchestra.instance, READY) == shows

    tracking(program, "contact", enabled=False)
    follows("FAILED")
    assert orchestra.asked("d365_changes") == []
    tracking(program, "contact", enabled=True)
    follows("SUCCEEDED")
    assert orchestra.asked("d365_changes") == []


def test_while_dynamics_365_is_down_ticks_fail_with_the_cause_and_no_run_does(
    orchestra: Orchestra, monkeypatch: pytest.MonkeyPatch
) -> None:
    program, admin = orchestra.program, orchestra.program.sandbox.admin
    change(program, "contact", "pending")
    orchestra.capture()
    admin.fault("d365", "unavailable")
    orchestra.later("d365_changes", seconds=10)

    def fail() -> None:
        line = orchestra.failure("d365_changes")
        assert line.startswith("Dynamics 365 ")
        assert len(line.splitlines()) == 1

    fail()
    [request] = orchestra.asked("backlog")
    assert orchestra.execute(request).success
    assert arrived(program, "contact", "pending") == 3
    admin.clear_faults()

    def play() -> None:
        monkeypatch.setattr(sensors, "POLL_OVERDUE", timedelta(seconds=3))
        admin.fault("d365", "unavailable")
        change(program, "contact", "later")
        time.sleep(4)
        fail()
        assert requests(program, "d365", 6) < 20
        fail()
        admin.clear_faults()
        until(lambda: arrived(program, "contact", "later") == 3, 20)
        assert not orchestra.asked("d365_changes")

    monkeypatch.setattr(feed_polling, "NOTE_POLL", timedelta(0))
    stays(orchestra, 22, play)


def test_a_refused_sign_in_is_not_repeated_each_moment(orchestra: Orchestra) -> None:
    program = orchestra.program
    program.more["D365_CLIENT_SECRET"] = "wrong"

    def play() -> None:
        assert 0 < requests(program, "login", 8) < 6

    stays(orchestra, 12, play)


def test_while_campaign_is_down_the_follower_stays_and_the_check_shows_the_cause(
    orchestra: Orchestra, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "METADATA_PATIENCE", 0.2)
    program, admin = orchestra.program, orchestra.program.sandbox.admin

    def play() -> None:
        admin.fault("campaign", "unavailable")
        change(program, "contact", "later")
        until(lambda: shown(orchestra.instance, READY_TO_SEND) == "FAILED", 20)
        assert "Campaign kept answering 503" in text(orchestra, READY_TO_SEND)
        assert shown(orchestra.instance, READY) != "FAILED"
        orchestra.tick("d365_changes")
        change(program, "contact", "latest")
        assert requests(program, "campaign", 6) < 40
        admin.clear_faults()
        until(lambda: arrived(program, "contact", "latest") == 3, 10)
        until(lambda: shown(orchestra.instance, READY_TO_SEND) == "SUCCEEDED", 5)

    stays(orchestra, 12, play)


def test_one_sensor_requests_the_follower_for_what_is_pending_and_the_other_only_if_that_fails(
    orchestra: Orchestra,
) -> None:
    orchestra.program.runs["linger_seconds"] = "always"
    orchestra.reload()
    change(orchestra.program, "contact", "later")
    orchestra.capture()
    assert not orchestra.asked("backlog")
    assert [request.job_name for request in orchestra.asked("d365_changes")] == ["follow"]
    orchestra.later("backlog", seconds=10)
    assert [request.job_name for request in orchestra.asked("backlog")] == ["follow"]
