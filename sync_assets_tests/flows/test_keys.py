"""Whole runs with a `key` by which Campaign finds records, and with one by which it finds none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sync_assets.commands.doctor import examine
from sync_assets_tests.conftest import SandboxFactory
from sync_assets_tests.support.program import Program, calls
from sync_assets_tests.support.sandbox_process import Admin

NAMED_FILTER = {"name": "byCusName", "parameter": "name_parameter"}
LINE = "new_order: look-up by"


def orders(key: str, **more: Any) -> dict[str, Any]:
    return {"table": "new_order", "resource": "cusOrder", "key": key, "fields": {"new_amount": "cusAmount"}, **more}


@pytest.fixture
def ordering(sandbox_factory: SandboxFactory, tmp_path: Path) -> Program:
    sandbox = sandbox_factory(contacts=0)
    sandbox.admin.settings("campaign", hide_orphans=False)
    sandbox.admin.create("new_order", *({"new_name": f"Order {n}"} for n in range(70)))
    return Program(sandbox, tmp_path)


def stored(admin: Admin) -> list[dict[str, Any]]:
    return admin.dump_campaign("cusOrder")


def key_line(program: Program) -> tuple[str, str]:
    """Return the outcome and the text of doctor's line about the key."""
    [line] = [line for line in examine(program.runtime()) if line.title.startswith(LINE)]
    return line.outcome, line.message


def test_a_key_that_identifies_nothing_costs_one_record_and_no_second_one(ordering: Program) -> None:
    admin = ordering.sandbox.admin
    ordering.table = orders("cusName")
    outcome, told = key_line(ordering)
    assert (outcome, "not verified" in told) == ("warn", True)
    done = ordering.sync()
    assert done.status == 2
    [sent] = stored(admin)
    assert any(
        "does not find a record of cusOrder by cusName" in line and sent["cusName"] in line for line in done.stopped
    )
    assert done.document["engine_calls"] == calls(insert=1, read=3)  # the list, by key, by PKey
    again = ordering.sync()
    assert (again.status, len(stored(admin))) == (2, 1)
    assert again.document["engine_calls"] == calls(read=1)
    assert key_line(ordering)[0] == "fail"


def test_a_key_that_identifies_records_is_proven_by_the_first_one_alone(ordering: Program) -> None:
    ordering.table = orders("cusOrderId")
    assert "not verified" in key_line(ordering)[1]
    planned = ordering.json("plan")[1]["engine_calls"]
    done = ordering.sync()
    assert (done.status, len(stored(ordering.sandbox.admin))) == (0, 70)
    assert done.document["engine_calls"] == planned == calls(insert=70, read=2)
    requests = [entry["method"] for entry in ordering.sandbox.admin.journal("campaign") if "/cusOrder" in entry["path"]]
    writes = requests[requests.index("POST") :]
    assert writes[:3] == ["POST", "GET", "POST"]
    assert key_line(ordering)[0] == "ok"


def test_a_key_that_only_a_filter_finds_is_proven_by_the_filter(ordering: Program) -> None:
    admin = ordering.sandbox.admin
    admin.settings(
        "campaign", filters={"cusOrder": {"byCusName": {"attribute": "cusName", "parameter": "name_parameter"}}}
    )
    ordering.table = orders("cusName", filter=NAMED_FILTER)
    assert ordering.sync().status == 0
    assert len(stored(admin)) == 70
    assert key_line(ordering)[0] == "ok"


def test_a_table_goes_on_once_its_key_is_made_an_identification_key(ordering: Program) -> None:
    admin = ordering.sandbox.admin
    admin.settings("campaign", unique_keys={"cusOrder": False})
    ordering.table = orders("cusOrderId")
    assert (ordering.sync().status, len(stored(admin))) == (2, 1)
    admin.settings("campaign", unique_keys={"cusOrder": True})
    assert (ordering.sync().status, len(stored(admin))) == (0, 70)


def test_a_table_goes_on_once_another_attribute_is_named_as_its_key(ordering: Program) -> None:
    admin = ordering.sandbox.admin
    ordering.table = orders("cusName")
    assert ordering.sync().status == 2
    ordering.table = orders("cusOrderId")
    status, _, errors = ordering.run("sync")
    assert (status, "--accept-mapping" in errors) == (1, True)
    assert ordering.run("sync", "--accept-mapping")[0] == 0
    assert len({record["cusOrderId"] for record in stored(admin)} - {""}) == 70
