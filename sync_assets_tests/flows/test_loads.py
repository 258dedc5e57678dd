"""First loads by file, by whole runs: when, in which order, what a run that is cut leaves, who is in the end where."""

from typing import Any

import pytest

from sync_assets.ledger.errors import LedgerError
from sync_assets.ledger.records.claims import Claims
from sync_assets_tests.support.chain import Chain
from sync_assets_tests.support.loads import WORKFLOWS, by_file, inserted, loads
from sync_assets_tests.support.program import Program

pytestmark = pytest.mark.usefixtures("short_looks")


def test_more_first_inserts_than_the_limit_go_by_file_and_cost_reads_alone(program: Program) -> None:
    assert by_file(program).sync().status == 0
    program.assert_in_step()
    assert inserted(program) == [50]
    made = program.sandbox.admin.engine_calls()
    assert (made["insert"], made["update"], made["delete"]) == (0, 0, 0)
    [load] = loads(program)
    assert (load["table"], load["state"], load["records"], load["missing"]) == ("contact", "done", 50, 0)
    program.pass_horizon()
    assert program.sync().status == 0
    assert program.sandbox.admin.engine_calls() == made


def test_up_to_the_limit_all_go_by_rest(program: Program) -> None:
    assert by_file(program, above=50).sync().status == 0
    program.assert_in_step()
    assert inserted(program) == []


def test_children_go_by_file_once_their_parents_stand_in_campaign(chain: Chain) -> None:
    for _ in range(12):
        chain.make()
    by_file(chain.program)
    assert chain.program.sync().status == 0
    chain.assert_no_hidden_child()
    assert [inserted(chain.program, workflow) for workflow in WORKFLOWS.values()] == [[12], [12], [12]]
    assert {resource: len(records) for resource, records in chain.held().items()} == {
        "profile": 12,
        "cusOrder": 12,
        "cusOrderLine": 12,
    }


def test_records_of_a_page_that_was_being_stored_at_a_kill_are_not_left_behind(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    acknowledge, killed = Claims.acknowledge, list[bool]()

    def kill(claims: Claims, *args: Any, **options: Any) -> int:
        if not killed:
            killed.append(True)
            raise LedgerError("killed", "")
        return acknowledge(claims, *args, **options)

    monkeypatch.setattr(Claims, "acknowledge", kill)
    by_file(program).sync()
    assert program.sync().status == 0
    program.assert_in_step()
    assert inserted(program) == [50]
    assert program.sandbox.admin.engine_calls()["update"] == 0
