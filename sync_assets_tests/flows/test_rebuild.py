"""`rebuild`: the ledger was lost, or is an older copy. Nothing is made twice, only what differs is sent."""

import re
import sqlite3
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from sync_assets.audit import record_list
from sync_assets.commands.backup import backup
from sync_assets.commands.rebuild import RebuildDocument, rebuild
from sync_assets.commands.values import Result
from sync_assets_tests.support.chain import Chain, let_the_key_identify_nothing, lose
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
from sync_assets_tests.unit.test_pages import DOCS


def rebuilt(program: Program, *tables: str) -> Result[RebuildDocument]:
    """`rebuild` in this process. It writes nothing to either system."""
    since = program.sandbox.admin.last()
    with closing(program.runtime()) as runtime:
        done = rebuild(runtime, tables)
    assert writes(program, since) == {"d365": 0, "campaign": 0}
    return done


def found(done: Result[RebuildDocument], *what: str) -> dict[str, tuple[int, ...]]:
    assert not done.problems, done.problems
    return {table: tuple(getattr(one, name) for name in what) for table, one in done.document.tables.items()}


FOREIGN: list[dict[str, Any]] = [
    {"firstName": "Nobody", "email": "nobody@example.com"},
    {"firstName": "Ada", "email": "own@example.com", "externalId": "A-1"},
    {"firstName": "Eve", "email": "eve@example.com", "externalId": "00000000-0000-4000-8000-000000000000"},
]


def test_after_a_lost_ledger_only_differences_are_sent_and_no_record_is_made_twice(
    new_chain: Callable[..., Chain],
) -> None:
    here = new_chain(cardinality="zero_or_one")
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
    assert done.document.engine_calls == calls(read=3)
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


def test_a_ledger_moves_from_sqlite_to_postgresql_with_its_holds(program: Program, postgres: PostgresServer) -> None:
    """By the steps of docs/own-server.md."""
    admin, run = program.sandbox.admin, program.run
    assert program.sync().status == 0
    held, excluded, other = [row["contactid"] for row in admin.dump_d365()[:3]]
    for id_ in (held, excluded):
        assert run("hold", "add", id_)[0] == 0
    admin.delete("contact", [excluded])
    assert run("hold", "release", excluded)[0] == 0
    holds = [one["id"] for one in program.json("hold", "list")[1]["holds"]]
    [query] = re.findall(r"'(SELECT .*sync_hold)'", (DOCS / "own-server.md").read_text("utf-8"))
    with closing(sqlite3.connect(program.home / "dagster" / "ledger.db")) as before:
        former = [id_ for (id_,) in before.execute(query)]
    assert (holds, former) == ([held], [excluded])
    with postgres.database() as url:
        program.more["SYNC_ASSETS_LEDGER_URL"] = url
        assert run("rebuild", "--new-ledger")[0] == 0
        for id_ in (*holds, *former):
            assert run("hold", "add", "--force", id_)[0] == 0
        assert run("hold", "release", excluded)[0] == 0
        admin.change("contact", [held, other], firstname="Changed")
        status, document = program.json("sync")
        assert (status, document["engine_calls"]["update"], document["tables"]["contact"]["held"]) == (2, 1, 1)
        assert [one["id"] for one in program.json("hold", "list")[1]["holds"]] == holds


def test_it_goes_on_where_the_day_s_engine_calls_were_spent(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    program.sync()
    lose(program)
    monkeypatch.setattr(record_list, "PAGE", 10)
    program.guardrails = {"engine_calls_per_day": 3}
    stopped = rebuilt(program)
    assert "engine_calls_per_day" in str(*stopped.problems)
    assert stopped.document.engine_calls == calls(read=3)
    program.guardrails = {}
    since = program.sandbox.admin.last()
    done = rebuilt(program)
    assert found(done, "records", "equal", "pending") == {"contact": (50, 50, 0)}
    assert done.document.engine_calls == calls(read=2)
    assert not any("/contacts?" in entry["path"] for entry in program.sandbox.admin.journal("d365", since))
    assert program.sync().document["engine_calls"] == calls()


def test_opt_outs_of_either_side_outlive_the_ledger_and_old_files_change_nothing(program: Program) -> None:
    switch_on(program, "bidirectional")
    assert program.sync().status == 0
    people = opted_in(program)
    in_campaign, in_d365_alone, back_again, opted_back_in, opted_back_out = (next(people) for _ in range(5))
    past, ahead = (datetime.now(UTC) + timedelta(hours=hours) for hours in (-1, 20))
    wrong = f"{ahead:%Y-%m-%dT%H:%M:%S.000Z}"  # of a clock that was ahead
    rows = says(back_again, at="2020-01-01T10:00:00.000Z") + says(opted_back_in, at=wrong)
    rows += says(opted_back_out, email=0, at=wrong)
    write_file(program, HEADER + rows, "optout_20200101_100000.csv", modified=past)
    set_d365(program, opted_back_out, donotemail=True)
    lose(program)
    set_campaign(program, opted_back_out, blackListEmail=True)
    set_campaign(program, in_campaign, blackListEmail=True)
    set_d365(program, in_d365_alone, donotemail=True)
    for id_ in (back_again, opted_back_in):  # later than the file was written
        set_campaign(program, id_, blackListEmail=True)
        set_campaign(program, id_, blackListEmail=False)

    assert found(rebuilt(program), "records", "equal") == {"contact": (50, 50)}
    done = program.sync()
    assert done.status == 0, (done.problems, done.stopped)
    opt_outs = done.document["opt_out"]
    assert (opt_outs["files_processed"], opt_outs["to_d365"], opt_outs["to_campaign"]) == (1, 1, 1)
    assert sides(program, in_campaign) == (True, True)
    assert sides(program, in_d365_alone) == (True, True)
    assert sides(program, back_again) == sides(program, opted_back_in) == (False, False)
    assert sides(program, opted_back_out) == (True, True)
    assert all(in_d365(program, id_)["donotemail"] == one["blackListEmail"] for id_, one in program.profiles().items())
    assert done.document["engine_calls"]["insert"] == 0
    assert_quiet(program)


HORIZON_SECONDS = 3.0


def set_back(program: Program, copy: Path) -> None:
    """Put the copy in the place of the ledger."""
    ledger = Path(program.env["DAGSTER_HOME"]) / "ledger.db"
    for file in ledger.parent.glob("ledger.db-*"):
        file.unlink()
    ledger.write_bytes(copy.read_bytes())


def killed_sync(program: Program, inserts: int) -> None:
    """Start a sync, and kill it after this many further inserts."""
    admin = program.sandbox.admin
    before = admin.engine_calls()["insert"]
    admin.latency("campaign", 200)
    process = program.start("sync")
    while admin.engine_calls()["insert"] < before + inserts:
        time.sleep(0.02)
        assert process.poll() is None
    process.kill()
    process.communicate()
    admin.latency("campaign", 0)


def test_a_ledger_that_was_set_back_sends_nothing_until_it_is_rebuilt(program: Program, tmp_path: Path) -> None:
    let_the_key_identify_nothing(program)
    program.table["apply_deletes"] = True
    program.guardrails = {"concurrency": 2, "horizon_minutes": HORIZON_SECONDS / 60}
    admin = program.sandbox.admin
    first, *_ = [row["contactid"] for row in admin.dump_d365()]
    assert program.sync().status == 0
    backup(program.runtime(), tmp_path / "copy.db")
    admin.create("contact", *({"lastname": f"New{n}"} for n in range(12)))
    killed_sync(program, inserts=6)
    admin.change("contact", [first], jobtitle="newer")
    assert program.sync().status == 0
    admin.delete("contact", [first])
    set_back(program, tmp_path / "copy.db")
    before = admin.engine_calls()
    for command in (["sync"], ["sync"], ["hold", "verify", first], ["doctor"]):
        status, output, errors = program.run(*command)
        assert (status, command == ["doctor"] or not output) == (1, True)
        assert "is an older copy" in output + errors
        assert (output + errors).count("Run `sync-assets rebuild`") == 1
    for reading in (["status"], ["hold", "list"], ["rejects"]):
        status, output, errors = program.run(*reading)
        assert (status, "is an older copy" in errors) == (0, True), reading
    assert admin.engine_calls() == before
    program.guardrails["horizon_minutes"] = 15
    status, _, errors = program.run("rebuild")
    assert "is an older copy" not in errors
    assert (status, "Requests that the ledger lost may take effect until" in errors) == (1, True)
    assert "`sync-assets rebuild`" in errors
    assert admin.engine_calls() == before
    program.guardrails["horizon_minutes"] = 0.00001
    status, _, errors = program.run("rebuild")
    assert status == 0, errors
    assert "a contact whose hold the ledger lost" in errors
    status, _, errors = program.run("sync")
    assert status == 0, errors
    program.assert_in_step()
    ids = Counter(profile["externalId"] for profile in admin.dump_campaign() if profile["externalId"])
    assert set(ids.values()) == {1}
