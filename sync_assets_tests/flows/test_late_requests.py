"""A request whose answer is lost takes effect later: after newer requests, a deletion, the end of the process."""

import json
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from sync_assets.commands.status import Status, TableStatus, status
from sync_assets_tests.support.opt_outs import (
    HEADER,
    assert_quiet,
    opted_in,
    says,
    set_campaign,
    set_d365,
    sides,
    switch_on,
    write_file,
)
from sync_assets_tests.support.program import CONTACT, Program, calls
from sync_assets_tests.support.waiting import until

ADA = {"firstname": "Ada", "lastname": "Late", "emailaddress1": "ada@example.org", "jobtitle": "Nurse"}


@pytest.fixture
def late(program: Program) -> Program:
    """The program after a first sync."""
    program.guardrails = {"max_delete_share": 1.0}
    program.table |= {
        "apply_deletes": True,
        "filters": {"rules": [{"field": "jobtitle", "is": "ne", "value": "Retired"}], "delete_filtered_out": True},
    }
    assert program.sync().status == 0
    return program


def one(program: Program) -> str:
    return sorted(program.profiles())[0]


def answer_is_lost(program: Program, method: str, **more: Any) -> None:
    """Let the next request of a method get no answer, and take effect with `take_effect`."""
    program.sandbox.admin.fault("campaign", "late", method=method, times=1, path="/profile", **more)


def take_effect(program: Program) -> None:
    """Let the request without an answer take effect: then it is in the journal."""
    admin = program.sandbox.admin
    admin.clear_faults()
    until(lambda: any(entry["fault"] == "late" for entry in admin.journal()))


def told(program: Program) -> Status:
    with closing(program.runtime()) as runtime:
        return status(runtime)


def table(program: Program) -> TableStatus:
    return told(program).tables["contact"]


def payloads(program: Program) -> int:
    stored = "SELECT count(*) FROM sync_record WHERE payload IS NOT NULL"
    ledger = program.runtime().ledger
    with closing(ledger), ledger.database.read() as connection:
        return connection.exec_driver_sql(stored).scalar_one()


def test_a_payload_goes_at_its_horizon_by_whichever_process_ends_next(late: Program) -> None:
    id_, admin = one(late), late.sandbox.admin
    admin.change("contact", [id_], jobtitle="Baker")
    answer_is_lost(late, "PATCH")
    assert late.sync().status in (0, 2)
    late.sync()
    assert (table(late).unconfirmed, payloads(late)) == (1, 1)
    late.pass_horizon()
    assert late.run("status")[0] == 0
    assert payloads(late) == 0
    assert table(late).waiting_for
    take_effect(late)
    done = late.sync()
    assert (done.status, done.document["engine_calls"]) == (0, calls(update=1)), done.problems
    assert (table(late).unconfirmed, table(late).waiting, payloads(late)) == (0, 0, 0)
    assert late.profiles()[id_]["cusJobTitle"] == "Baker"


def city(program: Program, id_: str) -> str:
    return program.profiles()[id_]["location"]["city"]


def test_a_late_update_does_not_stay_over_a_newer_value_and_a_late_insert_does_not_bring_a_deleted_person_back(
    late: Program,
) -> None:
    id_, admin = one(late), late.sandbox.admin
    answer_is_lost(late, "PATCH")
    admin.change("contact", [id_], address1_city="Older")
    assert late.sync().status == 0
    admin.change("contact", [id_], address1_city="Newer")
    assert late.sync().status == 0
    assert city(late, id_) == "Newer"
    assert table(late).unconfirmed == 1
    assert table(late).synced == len(late.profiles())
    _, output, _ = late.run("status")
    assert "1 record is sent once more by" in output

    take_effect(late)
    assert city(late, id_) == "Older"

    late.pass_horizon()
    admin.clear_journal()
    before = admin.engine_calls()
    done = late.sync()
    assert (done.status, done.document["engine_calls"]) == (0, calls(update=1))
    assert sum(admin.engine_calls().values()) - sum(before.values()) <= 1
    assert city(late, id_) == "Newer"
    assert table(late).unconfirmed == 0
    assert late.sync().document["engine_calls"] == calls()

    answer_is_lost(late, "POST")
    [id_] = admin.create("contact", ADA)
    assert late.sync().status == 0
    admin.delete("contact", [id_])
    assert late.sync().status == 0
    assert id_ not in late.profiles()
    exit_status, output, _ = late.run("hold", "verify", id_)
    assert exit_status == 1
    assert "Campaign: gone" in output
    assert "not certain before " in output
    exit_status, document = late.json("hold", "verify", id_)
    assert (exit_status, document["gone"]) == (1, False)
    assert document["certain_at"] is not None

    take_effect(late)
    assert id_ in late.profiles()

    late.pass_horizon()
    assert late.sync().status == 0
    assert id_ not in late.profiles()
    assert late.json("hold", "verify", id_)[1]["certain_at"] is None


def test_records_without_a_cause_stay_pending_with_a_growing_wait_and_name_the_next_attempt(late: Program) -> None:
    admin = late.sandbox.admin
    changed = admin.change("contact", sorted(late.profiles())[:3], address1_city="Basel")
    admin.fault("campaign", "rst", method="PATCH")
    exit_status, output, _ = late.run("sync")
    assert exit_status == 2
    [line] = [line for line in output.splitlines() if "names a cause" in line]
    assert line.startswith("contact: 3 records got no answer that names a cause since ")
    assert "; the next attempt is at " in line
    assert "RST-360011" in line
    result = table(late)
    assert (result.pending, result.rejected, result.retried and result.retried.records) == (3, 0, 3)
    listed = json.loads(late.run("rejects", "--retried", "--json")[1])["retried"]
    assert {one["id"] for one in listed} == set(changed)
    assert all(one["attempts"] >= 4 and one["since"] and one["next_attempt"] for one in listed)
    _, explained, _ = late.run("explain", changed[0])
    assert "got no answer that names a cause" in explained

    admin.clear_faults()
    assert late.json("retry")[1]["retried"] == 3
    assert late.sync().status == 0
    assert {city(late, id_) for id_ in changed} == {"Basel"}


def synced(program: Program) -> None:
    """Sync until nothing is due. A lost answer ends a round of writes, the next one makes up for it."""
    assert 0 in [program.sync().status for _ in range(2)]


def test_a_late_opt_in_does_not_stay_over_a_newer_opt_out_in_campaign(program: Program) -> None:
    """A filter excludes the contact, so that no record carries its opt-outs."""
    filters = {"rules": [{"field": "statecode", "is": "eq", "value": 0}]}
    program.table = {**CONTACT, "filters": filters}
    assert switch_on(program, "d365_to_campaign").sync().status == 0
    id_ = next(opted_in(program))
    program.sandbox.admin.change("contact", [id_], statecode=1)
    assert program.sync().status == 0
    set_d365(program, id_, donotemail=True)
    synced(program)
    program.sandbox.admin.fault("campaign", "late", times=1, method="PATCH", path=id_)
    set_d365(program, id_, donotemail=False)
    synced(program)
    set_d365(program, id_, donotemail=True)
    synced(program)
    assert sides(program, id_) == (True, True)
    assert told(program).opt_out.unconfirmed == 1
    _, output, _ = program.run("status")
    assert "1 opt-out is compared once more by" in output

    take_effect(program)
    assert sides(program, id_) == (True, False)

    program.pass_horizon()
    done = program.sync()
    assert (done.status, done.document["engine_calls"]) == (0, calls(read=1, update=1))
    assert sides(program, id_) == (True, True)
    assert told(program).opt_out.unconfirmed == 0
    assert_quiet(program)


def test_a_hold_says_until_when_an_opt_out_may_still_be_written(program: Program) -> None:
    assert switch_on(program, "campaign_to_d365").sync().status == 0
    id_ = next(opted_in(program))
    program.sandbox.admin.fault("d365", "late", times=1, path=r"\$batch")
    at = datetime.now(UTC) + timedelta(hours=1)
    set_campaign(program, id_, at, blackListEmail=True)
    write_file(program, HEADER + says(id_, 1, f"{at:%Y-%m-%dT%H:%M:%S.000Z}"))
    synced(program)
    exit_status, output, _ = program.run("hold", "add", id_)
    assert (exit_status, "not certain before " in output) == (0, True), output
    assert "not certain before " in program.run("hold", "verify", id_)[1]
    assert program.json("hold", "verify", id_)[1]["certain_at"] is not None

    take_effect(program)
    program.pass_horizon()
    assert "not certain before " not in program.run("hold", "add", id_)[1]
    assert program.json("hold", "verify", id_)[1]["certain_at"] is None
