"""Direction campaign_to_d365: when opt-outs are compared with what Dynamics 365 holds, and which value wins then."""

from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest

from sync_assets.ledger.rules.opt_outs import OptOutState
from sync_assets_tests.support.opt_outs import (
    HOUR,
    assert_quiet,
    audit,
    in_d365,
    opted_in,
    set_campaign,
    set_d365,
    sides,
    switch_on,
)
from sync_assets_tests.support.program import Program, calls


@pytest.fixture
def program(program: Program) -> Program:
    switch_on(program, "campaign_to_d365")
    assert program.sync().status == 0
    return program


def opt_out(program: Program, count: int = 1, *, value: bool = True) -> list[str]:
    """Return contacts whose opt-out in Campaign came with a file."""
    ids = [id_ for _, id_ in zip(range(count), opted_in(program), strict=False)]
    for id_ in ids:
        set_campaign(program, id_, blackListEmail=value)
    program.sandbox.admin.export()
    assert program.sync().status == 0
    assert [sides(program, id_) for id_ in ids] == [(value, value)] * count
    return ids


def lose(program: Program, ids: list[str]) -> None:
    """Let Dynamics 365 lose opt-outs while no feed shows it: by the ledger, Dynamics 365 still has them."""
    set_d365(program, ids[0], donotemail=False)
    for id_ in ids[1:]:
        set_d365(program, id_, donotemail=False)
    assert program.sync().status == 0
    with closing(program.runtime()) as runtime:
        rows = [row for row in runtime.ledger.opt_outs.of(ids) if row.attribute == "blackListEmail"]
        assert {(row.campaign, row.d365, row.state) for row in rows} == {(1, 0, OptOutState.SYNCED)}
        runtime.ledger.opt_outs.put([row._replace(d365=1) for row in rows])


def replay(program: Program) -> None:
    assert program.run("replay", "contact", "--force")[0] == 0


def replay_today(program: Program) -> None:
    today = f"{datetime.now(UTC):%Y-%m-%d}"
    assert program.run("replay", "contact", "--from", today)[0] == 0


def rebuild(program: Program) -> None:
    assert program.run("rebuild", "contact")[0] == 0


def expire(program: Program) -> None:
    program.sandbox.admin.expire()


@pytest.mark.parametrize("again", [replay, pytest.param(replay_today, marks=pytest.mark.slow), rebuild, expire])
def test_what_reads_contacts_again_writes_the_opt_outs_that_dynamics_lost(
    program: Program, again: Callable[[Program], None]
) -> None:
    ids = opt_out(program, 2)
    lose(program, ids)
    again(program)
    done = program.sync()
    assert (done.status, done.problems) == (0, [])
    assert [sides(program, id_) for id_ in ids] == [(True, True)] * 2
    assert_quiet(program)


@pytest.mark.parametrize("seen", [True, False])
def test_dynamics_that_was_restored_gets_the_opt_outs_made_since_its_backup(program: Program, seen: bool) -> None:
    """seen: the feed has returned the program's own writes, so that its delta link is later than the backup. Else
    nothing shows the restore, and the next full file compares what was written."""
    admin = program.sandbox.admin
    back, out = (id_ for _, id_ in zip(range(2), opted_in(program), strict=False))
    set_campaign(program, back, blackListEmail=True)
    admin.export()
    assert program.sync().status == 0
    # The backup is made here: `restore` undoes the last write of each row.
    set_campaign(program, back, datetime.now(UTC) + timedelta(seconds=2), blackListEmail=False)
    set_campaign(program, out, blackListEmail=True)
    admin.export()
    assert program.sync().status == 0
    assert [sides(program, id_) for id_ in (back, out)] == [(False, False), (True, True)]
    if seen:
        assert program.sync().status == 0
    admin.restore()
    assert [in_d365(program, id_)["donotemail"] for id_ in (back, out)] == [True, False]
    if not seen:
        assert program.json("explain", out)[0] == 2
        admin.export(only_changed=False)
    done = program.sync()
    assert (done.status, done.problems) == (0, [])
    assert [sides(program, id_) for id_ in (back, out)] == [(False, False), (True, True)]
    assert program.json("explain", out)[0] == 0
    assert_quiet(program)


def test_another_column_of_a_mapping_gets_the_opt_outs_and_keeps_its_own(program: Program) -> None:
    [out] = opt_out(program)
    *_, own = (id_ for _, id_ in zip(range(5), opted_in(program), strict=False))
    set_campaign(program, own, datetime.now(UTC) - HOUR, blackListEmail=False)  # an opt-in that was stated once
    program.sandbox.admin.export()
    assert program.sync().status == 0
    set_d365(program, own, donotbulkemail=True)
    set_d365(program, out, donotbulkemail=False)
    program.opt_out["mappings"] = {"donotbulkemail": "blackListEmail", "donotphone": "blackListPhone"}
    assert program.sync().status == 0
    assert [in_d365(program, id_)["donotbulkemail"] for id_ in (out, own)] == [True, True]
    assert_quiet(program)


def test_a_change_in_dynamics_stays_until_a_file_states_the_opt_out_and_an_opt_out_there_stays(
    program: Program,
) -> None:
    [out] = opt_out(program)
    back = next(id_ for id_ in opted_in(program) if id_ != out)
    set_campaign(program, back, datetime.now(UTC) - HOUR, blackListEmail=False)
    program.sandbox.admin.export()
    assert program.sync().status == 0
    set_d365(program, out, donotemail=False)
    set_d365(program, back, donotemail=True)
    done = program.sync()
    assert (done.status, done.document["engine_calls"]) == (0, calls())
    assert [sides(program, id_) for id_ in (out, back)] == [(False, True), (True, False)]
    status, document = program.json("explain", out)
    assert status == 2
    assert any("`sync-assets replay contact`" in reason for reason in document["tables"]["contact"]["reasons"])
    assert program.json("explain", back)[0] == 0

    decided = len(audit(program))
    program.sandbox.admin.export(only_changed=False)
    done = program.sync()
    assert (done.status, done.document["opt_out"]["to_d365"], done.document["engine_calls"]) == (0, 1, calls())
    assert [sides(program, id_) for id_ in (out, back)] == [(True, True), (True, False)]
    assert [(one.contact, one.write, one.source) for one in audit(program)[decided:]] == [
        (out, "d365", "comparison with Dynamics 365")
    ]
    assert program.json("explain", out)[0] == 0
    program.sandbox.admin.export(only_changed=False)
    assert_quiet(program)
