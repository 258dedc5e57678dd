"""`rebuild`: the ledger was lost, or is an older copy. Nothing is made twice, only what differs is sent."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest

from sync_assets.audit import record_list
from sync_assets.commands.backup import backup
from sync_assets.commands.rebuild import rebuild, rehearse
from sync_assets.commands.values import Done
from sync_assets.errors import SyncAssetsError
from sync_assets_tests.support.chain import Chain, forget_ledger, ledger_of, lose
from sync_assets_tests.support.opt_outs import (
    HEADER,
    assert_quiet,
    in_d365,
    opted_in,
    says,
    set_campaign,
    set_d365,
    sides,
    switch_on,
    write_file,
    writes,
)
from sync_assets_tests.support.postgres import PostgresServer
from sync_assets_tests.support.program import Program, calls


def rebuilt(program: Program, *tables: str) -> Done:
    """`rebuild` in this process. It writes nothing to either system."""
    since = program.sandbox.admin.last()
    with closing(program.runtime()) as runtime:
        done = rebuild(runtime, tables)
    assert writes(program, since) == {"d365": 0, "campaign": 0}
    return done


def found(done: Done, *what: str) -> dict[str, tuple[int, ...]]:
    assert not done.problems, done.problems
    return {table: tuple(one[name] for name in what) for table, one in done.document["tables"].items()}


FOREIGN: list[dict[str, Any]] = [
    {"firstName": "Nobody", "email": "nobody@example.com"},
    {"firstName": "Ada", "email": "own@example.com", "externalId": "A-1"},
    {"firstName": "Eve", "email": "eve@example.com", "externalId": "00000000-0000-4000-8000-000000000000"},
]


def test_after_a_lost_ledger_only_what_differs_is_sent_and_nothing_is_made_twice(chain: Callable[..., Chain]) -> None:
    here = chain("key", "zero_or_one")
    admin = here.admin
    first, second, third, fourth = [here.make() for _ in range(4)]
    admin.add_profiles(*FOREIGN)
    assert here.sync() == (0, calls(insert=12, read=8))
    foreign = [one for one in admin.dump_campaign() if one["email"]]
    assert len(foreign) == 3

    lose(here.program)
    admin.change("contact", [first[0]], firstname="Changed")
    admin.change("new_orderline", [second[2]], new_orderid=first[1])  # moved to another order
    admin.delete("new_orderline", [third[2]])
    new = here.make("New")
    pkey = here.held()["cusOrder"][fourth[1]]["PKey"]
    admin.post("/campaign/change", {"resource": "cusOrder", "pkeys": [pkey], "set": {"cusName": "By hand"}})

    done = rebuilt(here.program)
    assert found(done, "records", "equal", "differing", "unknown", "pending") == {
        "contact": (7, 3, 1, 1, 2),  # pending: the changed one and the new one
        "new_order": (4, 3, 1, 0, 1),  # the new one waits for its contact
        "new_orderline": (4, 3, 0, 1, 1),  # the moved one: a link is sent alone
    }
    assert done.document["engine_calls"] == calls(read=3)
    # The first record of each table and of each link is read back; whose record the latter is decides whether its
    # parent is read as well.
    assert here.sync() in [(0, calls(insert=3, update=3, read=n)) for n in (5, 6)]
    held = here.held()
    assert held["profile"][first[0]]["firstName"] == "Changed"
    assert held["cusOrder"][fourth[1]]["cusName"] == "N"
    assert held["cusOrderLine"][third[2]]  # its row is gone, and nobody knows since when
    assert {new[0], *(one[0] for one in (first, second, third, fourth))} <= held["profile"].keys()
    orders = {order["PKey"]: id_ for id_, order in held["cusOrder"].items()}
    assert orders[held["cusOrderLine"][second[2]]["cusOrderLink"]["PKey"]] == first[1]
    assert [one for one in admin.dump_campaign() if one["email"]] == foreign
    assert here.sync() == (0, calls())


def test_a_copy_of_the_ledger_may_be_older_than_what_campaign_holds(chain: Callable[..., Chain]) -> None:
    here = chain("key", "one")
    admin, program = here.admin, here.program
    stays, back, gone, moved = [here.make() for _ in range(4)]
    assert here.sync() == (0, calls(insert=12, read=8))
    copy = program.home / "copy.db"
    with closing(program.runtime()) as runtime:
        backup(runtime, copy)

    admin.change("contact", [back[0]], firstname="Meanwhile")
    admin.change("new_order", [moved[1]], new_contactid=stays[0])
    admin.delete("new_orderline", [gone[2]])
    late = here.make("Late")
    assert here.sync() == (0, calls(insert=3, update=2, read=5, delete=2))
    admin.change("contact", [back[0]], firstname="Ada")  # as it was when the copy was made: it tells no difference
    admin.change("contact", [late[0]], firstname="Later")
    lose(program)
    shutil.copy(copy, ledger_of(program))
    program.guardrails = {"horizon_minutes": 0.00001}  # no request without an answer is waited for

    assert found(rebuilt(program), "records", "equal", "differing", "unknown", "pending") == {
        "contact": (5, 3, 2, 0, 2),
        "new_order": (5, 5, 0, 0, 0),
        "new_orderline": (4, 4, 0, 0, 1),  # Campaign is asked to delete what it has deleted
    }
    assert here.sync() == (0, calls(update=2, delete=1, read=2))
    names = {id_: record["firstName"] for id_, record in here.held()["profile"].items()}
    assert (names[back[0]], names[late[0]]) == ("Ada", "Later")
    assert here.sync() == (0, calls())


def test_a_ledger_in_postgresql_is_rebuilt_likewise(program: Program, postgres: PostgresServer) -> None:
    with postgres.database() as lost, postgres.database() as fresh:
        program.more["SYNC_ASSETS_LEDGER_URL"] = lost
        assert program.sync().document["engine_calls"] == calls(insert=50, read=2)
        program.sandbox.admin.change("contact", 2, jobtitle="Changed")
        program.more["SYNC_ASSETS_LEDGER_URL"] = fresh
        forget_ledger(program)
        assert found(rebuilt(program), "equal", "differing", "pending") == {"contact": (48, 2, 2)}
        assert program.sync().document["engine_calls"] == calls(update=2)
        program.assert_in_step()


def test_it_goes_on_where_the_day_s_engine_calls_were_spent(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    program.sync()
    lose(program)
    monkeypatch.setattr(record_list, "PAGE", 10)
    with closing(program.runtime()) as runtime:
        told = rehearse(runtime)["tables"]
    assert told == {"contact": {"resource": "profile", "records": 50, "engine_calls": {"read": 5}}}
    program.guardrails = {"engine_calls_per_day": 4}  # one was made by the rehearsal
    stopped = rebuilt(program)
    assert "engine_calls_per_day" in str(*stopped.problems)
    assert stopped.document["engine_calls"] == calls(read=3)
    program.guardrails = {}
    since = program.sandbox.admin.last()
    done = rebuilt(program)
    assert found(done, "records", "equal", "pending") == {"contact": (50, 50, 0)}
    assert done.document["engine_calls"] == calls(read=2)
    assert not any("/contacts?" in entry["path"] for entry in program.sandbox.admin.journal("d365", since))
    assert program.sync().document["engine_calls"] == calls()


def test_opt_outs_of_either_side_outlive_the_ledger_and_old_files_say_nothing_new(program: Program) -> None:
    switch_on(program, "bidirectional")
    assert program.sync().status == 0
    people = opted_in(program)
    in_campaign, in_d365_alone, back_again = next(people), next(people), next(people)
    write_file(program, HEADER + says(back_again, at="2020-01-01T10:00:00.000Z"), "optout_20200101_100000.csv")
    lose(program)
    set_campaign(program, in_campaign, blackListEmail=True)
    set_d365(program, in_d365_alone, donotemail=True)
    set_campaign(program, back_again, blackListEmail=True)
    set_campaign(program, back_again, blackListEmail=False)  # later than the file says

    assert found(rebuilt(program), "records", "equal") == {"contact": (50, 50)}
    done = program.sync()
    assert done.status == 0, (done.problems, done.stopped)
    assert done.document["opt_out"]["files_processed"] == 1
    assert sides(program, in_campaign) == (True, True)
    assert sides(program, in_d365_alone) == (True, True)
    assert sides(program, back_again) == (False, False)
    assert all(in_d365(program, id_)["donotemail"] == one["blackListEmail"] for id_, one in program.profiles().items())
    assert done.document["engine_calls"]["insert"] == 0
    assert_quiet(program)


def test_the_command_tells_people_and_programs(program: Program) -> None:
    program.sync()
    lose(program)
    status, told = program.json("rebuild", "contact")
    assert status == 0
    assert told["tables"]["contact"] | {"synced": 50, "equal": 50, "pending": 0} == told["tables"]["contact"]
    with closing(program.runtime()) as runtime, pytest.raises(SyncAssetsError, match="is not a mapped table"):
        rebuild(runtime, ["nothing"])
