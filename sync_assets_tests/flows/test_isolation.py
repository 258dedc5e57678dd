"""One table's trouble is that table's: the others are captured and sent as before, and the trouble is shown."""

from collections.abc import Iterator
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
from sync_assets.defs.partitions import TABLE_TAG
from sync_assets.defs.tables import sensors
from sync_assets_tests.support.orchestra import CONTACT as SOURCE
from sync_assets_tests.support.orchestra import PROFILE, Orchestra, in_memory, shown
from sync_assets_tests.support.program import CONTACT, Program
from sync_assets_tests.support.sandbox_process import SandboxProcess

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
    with closing(runtime), closing(feed_polling.FeedPoller(runtime)) as poller:

        def polled() -> tuple[set[str], list[str]]:
            since = admin.last()
            poll = poller.poll(group)
            assert not poll.refused
            paths = [one["path"].partition("?")[0] for one in admin.journal("d365", since)]
            return poll.news, sorted(path.rpartition("/")[2] for path in paths)

        polled()  # signs in; the first batch is refused
        assert polled() == (set(), ["contacts", "new_orders"] if refused else ["$batch"])
        assert poller.pause() == (pytest.approx(0.6) if refused else feed_polling.BATCH_SECONDS)
        change(program, "contact", "later")
        assert polled()[0] == {"contact"}
        admin.clear_faults()
        monkeypatch.setattr(feed_polling, "BATCH_AGAIN", 0.0)
        assert polled() == ({"contact"}, ["$batch"])
        tracking(program, "new_order", enabled=False)
        assert poller.poll(group).refused.keys() == {"new_order"}


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
    runtime = program.runtime()
    runtime.announce = lambda text: announced.append((text, arrived(program, other(table), "still later")))
    program.sync(runtime)
    [(text, arrived_before)] = announced  # as soon as the table has ended: contacts come before their orders
    assert CAUSE.format(table) in text
    assert arrived_before == (0 if table == "contact" else 3)
    tracking(program, table, enabled=True)
    assert program.sync().status == 0
    assert arrived(program, table, "later") == 3


def results(orchestra: Orchestra) -> list[tuple[str, bool]]:
    """Return the checks of set-ups that one tick reports, which requests no run: (asset, passed)."""
    tick = orchestra.tick("d365_changes")
    assert not tick.run_requests
    evaluations = [event for event in tick.asset_events if isinstance(event, dg.AssetCheckEvaluation)]
    return [(one.asset_key.to_user_string(), one.passed) for one in evaluations if one.check_name == "ready"]


def test_the_sensor_reports_a_table_that_must_be_corrected_once_without_a_run_and_carries_the_others(
    orchestra: Orchestra, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed_polling, "KEEP_LINK", timedelta(0))  # each poll moves the feed's version
    table, program = "contact", orchestra.program
    tracking(program, table, enabled=False)
    assert results(orchestra) == [(f"d365/{table}", False)]
    answer = latest_answers(orchestra.instance, [READY])[READY].evaluation
    assert answer
    assert "change tracking is off" in (answer.description or "")
    assert results(orchestra) == []  # the history stays flat
    assert "contact: its set-up must be corrected" in (orchestra.tick("d365_changes").skip_message or "")
    change(program, other(table), "later")
    [request] = orchestra.asked("d365_changes")
    assert request.tags[TABLE_TAG] == other(table)
    assert orchestra.execute(request).success
    assert arrived(program, other(table), "later") == 3

    tracking(program, table, enabled=True)
    tick = orchestra.tick("d365_changes")
    assert latest_answers(orchestra.instance, [READY])[READY].status.value == "SUCCEEDED"
    [request] = list(tick.run_requests or ())
    assert orchestra.execute(request).success
    assert shown(orchestra.instance, READY) == "SUCCEEDED"

    tracking(program, table, enabled=False)
    assert orchestra.job("watch").success
    assert latest_answers(orchestra.instance, [READY])[READY].status.value == "FAILED"
    tracking(program, table, enabled=True)
    with monkeypatch.context() as patch:
        patch.setattr(sensors, "CONFIRM", timedelta(0))  # materialised, too, so that results of runs are repeated
        assert results(orchestra)[-1] == (f"d365/{table}", True)  # soon, though the table is quiet
    assert shown(orchestra.instance, READY) == "SUCCEEDED"
    assert results(orchestra) == []

    program.sandbox.admin.fault("d365", "status", status=500, path="/contacts")
    change(program, other(table), "at last")
    requests = {request.tags[TABLE_TAG]: request for request in orchestra.asked("d365_changes")}
    assert orchestra.execute(requests[other(table)]).success
    assert arrived(program, other(table), "at last") == 3


def test_a_table_that_fails_in_every_run_does_not_share_its_runs_with_those_that_link_to_it_until_it_is_corrected(
    orchestra: Orchestra,
) -> None:
    program = orchestra.program
    program.table["fields"]["nickname"] = "cusNoSuchThing"
    orchestra.reload()
    change(program, "contact", "later")
    change(program, "new_order", "later")
    for sensor in ("d365_changes", "backlog"):  # the second one sends what the run of both did not get to
        for request in orchestra.asked(sensor):
            orchestra.execute(request)
    assert arrived(program, "new_order", "later") == 3
    change(program, "new_order", "still later")
    for _ in range(3):
        orchestra.later("d365_changes", seconds=300)
        for request in orchestra.asked("d365_changes"):
            assert request.tags[TABLE_TAG] == "new_order"
            assert orchestra.execute(request).success
    assert arrived(program, "new_order", "still later") == 3
    assert results(orchestra) == []  # the run reported it
    del program.table["fields"]["nickname"]
    orchestra.reload()
    requests = orchestra.asked("d365_changes")  # at once
    assert [orchestra.execute(request).success for request in requests] == [True] * len(requests)
    assert arrived(program, "contact", "later") == 3


@pytest.mark.parametrize("sensor", ["d365_changes", "backlog"])
@pytest.mark.parametrize("system", ["d365", "campaign"])
def test_while_a_system_is_down_each_tick_of_a_sensor_that_needs_it_fails_and_no_run_does(
    orchestra: Orchestra, sensor: str, system: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "METADATA_PATIENCE", 0.2)
    admin = orchestra.program.sandbox.admin
    change(orchestra.program, "contact", "later")
    if sensor == "backlog":
        orchestra.capture()
    [request] = orchestra.asked(sensor)  # its run never began
    admin.fault(system, "unavailable")
    orchestra.later(sensor, seconds=10)
    failed = dg.AssetCheckEvaluation(PROFILE, READY_TO_SEND.name, passed=False, metadata={})
    orchestra.instance.report_runless_asset_event(failed)
    if (system, sensor) == ("d365", "backlog"):
        [request] = orchestra.asked(sensor)
        assert orchestra.execute(request).success
        return
    for _ in range(3):
        text = orchestra.failure(sensor)
        assert text.startswith("Dynamics 365 " if system == "d365" else "Campaign ")
        assert len(text.splitlines()) == 1
    admin.clear_faults()
    tick = orchestra.tick(sensor)
    assert shown(orchestra.instance, READY_TO_SEND) == "SUCCEEDED"
    [request] = list(tick.run_requests or ())
    assert orchestra.execute(request).success
    assert arrived(orchestra.program, "contact", "later") == 3


def test_a_table_that_campaign_refuses_to_take_is_reported_instead_of_sent(orchestra: Orchestra) -> None:
    change(orchestra.program, "contact", "later")
    orchestra.capture()
    orchestra.asked("backlog")  # its run never began
    orchestra.program.table["fields"]["nickname"] = "cusNoSuchThing"
    orchestra.reload()
    orchestra.later("backlog", seconds=10)
    tick = orchestra.tick("backlog")
    assert not tick.run_requests
    [evaluation] = tick.asset_events
    assert isinstance(evaluation, dg.AssetCheckEvaluation)
    assert (evaluation.asset_key, evaluation.passed) == (PROFILE, False)
    assert not orchestra.tick("backlog").asset_events
    del orchestra.program.table["fields"]["nickname"]
    orchestra.reload()
    tick = orchestra.tick("backlog")
    [evaluation] = tick.asset_events
    assert isinstance(evaluation, dg.AssetCheckEvaluation)
    assert evaluation.passed
    [request] = list(tick.run_requests or ())
    assert orchestra.execute(request).success
