"""One table's trouble is that table's: the others are captured and sent as before, and the trouble is shown."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from sync_assets.capture import feed_polling
from sync_assets.defs.partitions import TABLE_TAG
from sync_assets.defs.run_errors import SKIP_PREFIX
from sync_assets_tests.support.orchestra import Orchestra, in_memory
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


@pytest.mark.parametrize("table", TABLES)
def test_plan_and_sync_carry_the_other_table_and_say_what_is_wrong_with_this_one(program: Program, table: str) -> None:
    tracking(program, table, enabled=False)
    for one in TABLES:
        change(program, one, "later")
    status, document = program.json("plan")
    assert status == 1
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
    tracking(program, table, enabled=True)
    assert program.sync().status == 0
    assert arrived(program, table, "later") == 3


def test_sync_says_so_as_soon_as_the_table_has_ended(program: Program) -> None:
    table = "contact"
    tracking(program, table, enabled=False)
    for one in TABLES:
        change(program, one, "later")
    told: list[tuple[str, int]] = []
    runtime = program.runtime()
    runtime.announce = lambda text: told.append((text, arrived(program, other(table), "later")))
    program.sync(runtime)
    [(text, arrived_before)] = told
    assert CAUSE.format(table) in text
    assert arrived_before == 0  # contacts come before their orders


def test_a_run_of_it_says_why_it_fails_the_sensor_leaves_it_alone_for_a_while_and_then_it_goes_on(
    orchestra: Orchestra,
) -> None:
    table, program = "contact", orchestra.program
    tracking(program, table, enabled=False)
    for one in TABLES:
        change(program, one, "later")
    requests = {request.tags[TABLE_TAG]: request for request in orchestra.asked("d365_changes")}
    assert requests.keys() == set(TABLES)
    failed = orchestra.execute(requests[table])
    assert not failed.success
    assert CAUSE.format(table) in failed.errors[0].splitlines()[0]
    assert failed.checks[f"d365/{table} ready"] is False
    assert orchestra.execute(requests[other(table)]).success
    assert arrived(program, other(table), "later") == 3

    program.sandbox.admin.clear_journal()
    said = orchestra.tick("d365_changes").skip_message or ""
    assert f"{table}: the last run did not capture it; it is tried again later" in said
    assert f"{other(table)}: no change" in said
    assert len(program.sandbox.admin.journal("d365")) == 1
    change(program, other(table), "still later")
    [request] = orchestra.asked("d365_changes")
    assert request.tags[TABLE_TAG] == other(table)
    assert orchestra.execute(request).success

    tracking(program, table, enabled=True)
    orchestra.later("d365_changes", seconds=10)
    [request] = orchestra.asked("d365_changes")
    assert orchestra.execute(request).success
    assert arrived(program, table, "later") == 3


def test_a_table_that_fails_in_every_run_does_not_share_its_runs_with_those_that_link_to_it(
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
    orchestra.later("d365_changes", seconds=10)
    requests = {request.tags[TABLE_TAG]: request for request in orchestra.asked("d365_changes")}
    assert requests.keys() == set(TABLES)
    assert not orchestra.execute(requests["contact"]).success
    assert orchestra.execute(requests["new_order"]).success
    assert arrived(program, "new_order", "still later") == 3


def test_an_error_of_the_server_with_one_feed_does_not_hold_up_the_others(orchestra: Orchestra) -> None:
    program = orchestra.program
    program.sandbox.admin.fault("d365", "status", status=500, path="/contacts")
    change(program, "new_order", "later")
    requests = {request.tags[TABLE_TAG]: request for request in orchestra.asked("d365_changes")}
    assert orchestra.execute(requests["new_order"]).success
    assert arrived(program, "new_order", "later") == 3


def test_when_no_feed_can_be_polled_the_tick_fails_with_one_sentence_and_tries_again_later(
    orchestra: Orchestra,
) -> None:
    admin = orchestra.program.sandbox.admin
    admin.fault("d365", "unavailable")
    said = orchestra.failure("d365_changes")
    assert said.startswith("Dynamics 365 ")
    assert len(said.splitlines()) == 1
    admin.clear_journal()
    assert orchestra.tick("d365_changes").skip_message == f"{SKIP_PREFIX}{said}"
    assert admin.journal("d365") == []


def test_a_table_without_news_is_run_once_as_soon_as_its_feed_can_be_polled_again(orchestra: Orchestra) -> None:
    """Else its check would stay red until the next change."""
    tracking(orchestra.program, "contact", enabled=False)
    [request] = orchestra.asked("d365_changes")
    assert not orchestra.execute(request).success
    tracking(orchestra.program, "contact", enabled=True)
    orchestra.later("d365_changes", seconds=10)
    [request] = orchestra.asked("d365_changes")
    run = orchestra.execute(request)
    assert run.success
    assert run.checks["d365/contact ready"]
    assert not orchestra.asked("d365_changes")


def test_a_mapping_that_was_put_right_is_tried_at_once(orchestra: Orchestra) -> None:
    program = orchestra.program
    program.table["fields"]["nickname"] = "cusNoSuchThing"
    orchestra.reload()
    [request] = orchestra.asked("d365_changes")
    assert not orchestra.execute(request).success
    assert not orchestra.asked("d365_changes")
    del program.table["fields"]["nickname"]
    orchestra.reload()
    [request] = orchestra.asked("d365_changes")
    assert orchestra.execute(request).success
