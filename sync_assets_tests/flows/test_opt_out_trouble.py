"""Opt-outs in trouble, by whole runs: the SFTP, Dynamics 365 and Campaign fail; the day's budget; privacy holds."""

from collections.abc import Iterator
from contextlib import closing

import pytest

from sync_assets.commands import hold
from sync_assets.commands.rejects import rejects
from sync_assets.commands.retry import retry
from sync_assets.commands.status import status
from sync_assets_tests.support.opt_outs import (
    HEADER,
    LATER,
    assert_quiet,
    audit,
    in_d365,
    says,
    set_campaign,
    set_d365,
    sides,
    write_file,
    writes,
)
from sync_assets_tests.support.program import Program, calls
from sync_assets_tests.support.waiting import until

DIRECTION, CONTACTS = "bidirectional", 300


@pytest.fixture
def program(installed: Program) -> Iterator[Program]:
    yield installed
    installed.sandbox.admin.settings("d365", inactive_read_only=False)


def patched(program: Program, since: int, *statuses: int) -> list[str]:
    """Return the contacts whose profiles were sent an update since then; of these statuses of the answer, if given."""
    entries = program.sandbox.admin.journal("campaign", since)
    return [
        entry["key"]
        for entry in entries
        if entry["method"] == "PATCH" and (not statuses or entry["status"] in statuses)
    ]


def refused(program: Program) -> dict[str, tuple[str, int]]:
    with closing(program.runtime()) as runtime:
        return {one.id: (one.reason, one.attempts) for one in rejects(runtime.ledger, "contact")}


def calls_today(program: Program) -> int:
    with closing(program.runtime()) as runtime:
        return sum(status(runtime).engine_calls.values())


def try_again(program: Program, id_: str | None = None) -> int:
    with closing(program.runtime()) as runtime:
        return retry(runtime.config, runtime.ledger, "contact", id_)["retried"]


# --- A hold while opt-outs are written ---


@pytest.mark.parametrize("side", ["d365", "campaign"])
def test_a_hold_returns_when_no_opt_out_of_the_person_is_being_written_and_none_follows(
    program: Program, ids: Iterator[str], side: str
) -> None:
    """Answers are slow, so that the hold falls into the middle of the writes."""
    mine, admin = sorted(next(ids) for _ in range(24)), program.sandbox.admin
    if side == "campaign":
        for id_ in mine:
            set_d365(program, id_, donotemail=True)
        admin.fault("campaign", "slow", method="PATCH", path="/profile/", delay_ms=1500)
    else:
        for id_ in mine:
            set_campaign(program, id_, blackListEmail=True)
        write_file(program, HEADER + "".join(says(id_, at=LATER) for id_ in mine))
        admin.fault("d365", "slow", method="POST", path=r"\$batch", delay_ms=3000)
    process = program.start("sync")
    until(lambda: any(rule["fired"] for rule in admin.fault_rules()))
    written = 0 if side == "d365" else 1
    first, last = mine[0], mine[-1]
    status, document = program.json("hold", "add", last)
    held_now = sides(program, last)
    assert (status, document["in_flight"]) == (0, 0)
    assert program.json("hold", "add", first)[1]["in_flight"] == 0
    first_now = sides(program, first)
    process.communicate()
    admin.clear_faults()
    assert (sides(program, last), sides(program, first)) == (held_now, first_now)
    assert first_now[written]  # its request was under way
    assert side == "d365" or not held_now[written]  # the hold came before its request
    for id_ in (first, last):
        assert program.run("hold", "release", id_)[0] == 0
    assert program.sync().status == 0
    assert [sides(program, id_) for id_ in mine] == [(True, True)] * len(mine)


# --- Campaign -------------------------------------------------------------------------------------------------------


def test_records_that_campaign_refuses_are_rejects_and_the_others_arrive(program: Program, ids: Iterator[str]) -> None:
    mine, admin = [next(ids) for _ in range(3)], program.sandbox.admin
    body = 'RST-360011 An error has occurred.\nThe value "quill@cage.example" of attribute blackListEmail is not valid'
    admin.fault("campaign", "status", status=500, body=body, method="PATCH", path=mine[1])
    for id_ in mine:
        set_d365(program, id_, donotemail=True)
    done = program.sync()
    counts = done.document["opt_out"]
    assert (done.status, counts["to_campaign"], counts["rejected"]) == (2, 2, 1), (done.problems, done.stopped)
    assert [sides(program, id_)[1] for id_ in mine] == [True, False, True]
    [(id_, (reason, attempts))] = refused(program).items()
    assert (id_, attempts) == (mine[1], 1)
    assert "blackListEmail: Campaign:" in reason
    assert "is not valid" in reason
    assert "quill" not in reason

    since = admin.last()
    assert program.sync().status == 2  # is not sent again by itself
    assert patched(program, since) == []
    assert (try_again(program, mine[0]), try_again(program, mine[1])) == (0, 1)
    assert program.sync().status == 2
    assert refused(program)[mine[1]][1] == 2
    admin.clear_faults()
    assert try_again(program) == 1
    assert program.sync().status == 0
    assert sides(program, mine[1]) == (True, True)
    assert_quiet(program)


def test_a_profile_that_campaign_does_not_show_stays_due_and_the_others_arrive(
    program: Program, ids: Iterator[str]
) -> None:
    silent, other, in_file = next(ids), next(ids), next(ids)
    admin = program.sandbox.admin
    admin.fault("campaign", "rst", method="GET", path=silent)
    for id_ in (silent, other):
        set_d365(program, id_, donotemail=True)
    write_file(program, HEADER + says(in_file))
    done = program.sync()
    assert (done.status, done.problems, done.document["opt_out"]["due"]) == (2, [], 1)
    assert any("Campaign did not answer for 1 contact" in line for line in done.stopped)
    assert sides(program, other) == (True, True)
    assert sides(program, in_file)[0] is True
    admin.clear_faults()
    assert program.sync().status == 0
    assert sides(program, silent) == (True, True)


@pytest.mark.parametrize(
    ("answer", "body", "status", "problem"),
    [
        (403, '{"error_code":"403023","message":"Profile is not valid"}', 1, "Campaign refuses access"),
        (404, 'RST-360011 Error rc=-2003 of "quill@cage.example"', 2, "Campaign fails on opt-outs: RST-360011"),
    ],
    ids=["denied by the gateway", "may pass"],
)
def test_all_stays_due_while_campaign_takes_no_update(
    program: Program, ids: Iterator[str], answer: int, body: str, status: int, problem: str
) -> None:
    mine, admin = [next(ids) for _ in range(3)], program.sandbox.admin
    content_type = "application/json" if body.startswith("{") else "text/plain"
    admin.fault("campaign", "status", status=answer, body=body, method="PATCH", content_type=content_type)
    for id_ in mine:
        set_d365(program, id_, donotemail=True)
    done = program.sync()
    assert (done.status, done.document["opt_out"]["due"]) == (status, 3)
    said = str([*done.problems, *done.stopped])
    assert problem in said
    assert "quill" not in said
    assert len(set(done.stopped)) == len(done.stopped)
    admin.clear_faults()
    done = program.sync()
    assert (done.status, done.document["engine_calls"]) == (0, calls(update=3)), done.problems
    assert [sides(program, id_) for id_ in mine] == [(True, True)] * 3


# --- the day's budget -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("calls_left", [3, pytest.param(9, marks=pytest.mark.slow)])
def test_the_days_budget_is_never_exceeded_and_the_remaining_records_follow_later(
    program: Program, ids: Iterator[str], calls_left: int
) -> None:
    """Six opt-outs cost a read and an update each: the budget ends among the reads, or among the updates."""
    mine, admin = [next(ids) for _ in range(6)], program.sandbox.admin
    for id_ in mine:
        set_d365(program, id_, donotemail=True)
    made = calls_today(program)
    program.guardrails["engine_calls_per_day"] = made + calls_left
    before = sum(admin.engine_calls().values())
    done = program.sync()
    assert done.status == 2, done.problems
    assert any("engine_calls_per_day" in line for line in done.stopped)
    assert sum(admin.engine_calls().values()) - before == calls_left
    assert sum(done.document["engine_calls"].values()) == calls_left
    assert calls_today(program) == made + calls_left
    assert done.document["opt_out"]["due"] > 0

    assert program.sync().status == 2
    assert sum(admin.engine_calls().values()) - before == calls_left
    program.guardrails["engine_calls_per_day"] = made + 100
    assert program.sync().status == 0
    assert [sides(program, id_) for id_ in mine] == [(True, True)] * 6
    assert sum(admin.engine_calls().values()) - before == 12  # nothing was asked or sent twice


# --- privacy holds --------------------------------------------------------------------------------------------------


def test_a_hold_that_waits_too_long_names_the_requests_under_way(
    program: Program, ids: Iterator[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hold, "WAIT_SECONDS", 0.0)
    id_, admin = next(ids), program.sandbox.admin
    set_d365(program, id_, donotemail=True)
    admin.fault("campaign", "slow", method="PATCH", path=id_, delay_ms=4000)
    process = program.start("sync")
    until(lambda: any(rule["fired"] for rule in admin.fault_rules()))
    with closing(program.runtime()) as runtime:
        assert hold.add(runtime, id_).in_flight == 1
    monkeypatch.undo()
    assert program.json("hold", "add", id_)[1]["in_flight"] == 0
    process.communicate()
    assert program.run("hold", "release", id_)[0] == 0
    assert program.sync().status == 0


# --- the SFTP -------------------------------------------------------------------------------------------------------


def test_without_the_sftp_files_wait_and_everything_else_goes_on(program: Program, ids: Iterator[str]) -> None:
    """Other troubles: unit/sftp and unit/config."""
    waiting, changed = next(ids), next(ids)
    write_file(program, HEADER + says(waiting), f"optout_waiting_{waiting}.csv")
    program.more["CAMPAIGN_SFTP_HOST"] = ""
    program.sandbox.admin.change("contact", [changed], jobtitle="Without the SFTP")
    set_d365(program, changed, donotemail=True)
    done = program.sync()
    assert done.status == 1
    assert [problem for problem in done.problems if "CAMPAIGN_SFTP_HOST is not set" in str(problem)]
    assert program.profiles()[changed]["cusJobTitle"] == "Without the SFTP"
    assert sides(program, changed) == (True, True)  # an opt-out of Dynamics 365 needs no SFTP
    assert sides(program, waiting) == (False, False)
    program.more.clear()
    assert program.sync().status == 0
    assert sides(program, waiting)[0] is True


# --- Dynamics 365 ---------------------------------------------------------------------------------------------------


def test_opt_outs_that_dynamics_refuses_are_rejects_and_the_others_arrive(program: Program, ids: Iterator[str]) -> None:
    _, inactive, also, _ = mine = [next(ids) for _ in range(4)]
    admin = program.sandbox.admin
    for id_ in mine:
        set_campaign(program, id_, blackListEmail=True)
    admin.change("contact", [inactive, also], statecode=1)
    admin.settings("d365", inactive_read_only=True)
    admin.export()
    done = program.sync()
    counts = done.document["opt_out"]
    assert (done.status, done.problems, counts["to_d365"], counts["rejected"]) == (2, [], 2, 2)
    assert [in_d365(program, id_)["donotemail"] for id_ in mine] == [True, False, False, True]

    assert refused(program).keys() == {inactive, also}
    reason, attempts = refused(program)[inactive]
    assert "blackListEmail: Dynamics 365: Dynamics 365 refuses the change" in reason
    assert "inactive" in reason
    assert attempts == 1
    since = admin.last()
    assert program.sync().status == 2  # is not sent again by itself
    assert writes(program, since)["d365"] == 0

    admin.settings("d365", inactive_read_only=False)
    assert try_again(program) == 2
    assert program.sync().status == 0
    assert all(sides(program, id_)[0] for id_ in mine)
    assert refused(program) == {}


def test_a_contact_that_is_gone_is_not_made_again_by_its_profile(program: Program, ids: Iterator[str]) -> None:
    """Its profile stays in Campaign (apply_deletes is off) and goes on speaking."""
    id_, admin = next(ids), program.sandbox.admin
    admin.delete("contact", [id_])
    write_file(program, HEADER + says(id_), "optout_20261110_060000.csv")
    since = admin.last()
    done = program.sync()
    assert done.status == 0, (done.problems, done.stopped)
    assert writes(program, since) == {"d365": 0, "campaign": 0}
    assert id_ not in {row["contactid"] for row in admin.dump_d365()}
    assert audit(program)[-1].reason == "the contact is not in Dynamics 365"

    def asked(since: int) -> int:
        return sum(id_ in entry["path"] for entry in admin.journal(since=since))

    assert asked(since) > 0
    since = admin.last()
    assert_quiet(program)
    write_file(program, HEADER + says(id_), "optout_20261111_060000.csv")
    assert program.sync().status == 0
    assert asked(since) == 0
