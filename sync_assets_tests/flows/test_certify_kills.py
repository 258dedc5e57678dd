"""A certification that is killed, interrupted or failed by Campaign: the next one deletes what was left."""

from __future__ import annotations

import signal

import pytest

from sync_assets.audit.certification.report import PREFIX
from sync_assets_tests.flows.certifying import certified, chained, doctors_lines, killed_at, left
from sync_assets_tests.support.premises import DOCUMENTED, POSITIONS, Position
from sync_assets_tests.support.program import Program
from sync_assets_tests.support.waiting import until


def test_doctor_tells_that_a_certification_was_killed(program: Program) -> None:
    assert killed_at(program, 1, method="PATCH")
    outcome, message = doctors_lines(program)["certification under way"]
    assert (outcome, message.endswith("run `sync-assets certify` again: it deletes them.")) == ("warn", True)


def test_status_tells_which_records_a_killed_certification_may_have_left_until_the_next_one_deletes_them(
    program: Program,
) -> None:
    assert program.json("status")[1]["certification_unfinished"] is None
    assert killed_at(program, 1, method="PATCH")
    assert len(program.sandbox.admin.dump_campaign()) == 1
    _, status = program.json("status")
    message = status["certification_unfinished"]
    assert message.startswith("A certification began ")
    assert f"may still hold its records: profile (externalId). Their keys begin with {PREFIX};" in message
    assert "Dynamics 365 has no such rows" in message
    assert message in program.run("status")[1].splitlines()
    certified(program)
    assert program.sandbox.admin.dump_campaign() == []
    assert program.json("status")[1]["certification_unfinished"] is None


UNFINDABLE = "no keys in URLs, and no filter"


@pytest.mark.parametrize(
    ("where", "first", "step"),
    [
        (DOCUMENTED, 8, 17),
        (UNFINDABLE, 13, 17),
        *(
            pytest.param(where, first, 7, marks=pytest.mark.slow)  # together: at each request
            for where in (DOCUMENTED, "no key is unique", UNFINDABLE)
            for first in range(1, 8)
        ),
    ],
)
def test_killed_at_any_request_and_run_again_nothing_is_left(
    program: Program, where: str, first: int, step: int
) -> None:
    """Each run is killed at a later request. What one of them left and no other removed would be found in the end."""
    admin = program.sandbox.admin
    position = Position({"key_in_url": False}) if where == UNFINDABLE else POSITIONS[where]
    position.apply(admin)
    chained(program, position)
    admin.add_profiles(*({"lastName": "Other", "email": f"p{n}@example.org"} for n in range(120)))
    request, were_left = first, False
    while killed_at(program, request):
        were_left = were_left or bool(left(program))
        request += step
    assert were_left
    assert certified(program)["left"] == []
    assert left(program) == {}
    assert len(admin.dump_campaign()) == 120, "the records of others are untouched"


def test_interrupted_it_removes_its_records_before_it_ends(program: Program) -> None:
    admin = program.sandbox.admin
    admin.fault("campaign", "slow", method="PATCH", delay_ms=1_000)
    process = program.start("certify", "--yes")
    until(lambda: bool(left(program)))
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, "Interrupted" in errors) == (130, True)
    assert left(program) == {}


def test_what_a_failing_campaign_does_not_let_it_remove_is_removed_by_the_next_run(program: Program) -> None:
    admin = program.sandbox.admin
    admin.fault("campaign", "unavailable", method="DELETE", retry_after=3600)
    status, _, errors = program.run("certify", "--yes")
    assert (status, left(program)) == (1, {"profile": 1}), errors
    admin.clear_faults()
    assert certified(program)["workable"]
    assert left(program) == {}


def test_the_synthetic_records_are_recognised_by_people(program: Program) -> None:
    admin = program.sandbox.admin
    assert killed_at(program, 1, method="PATCH")
    [record] = admin.dump_campaign()
    assert record["externalId"].startswith(PREFIX)
    assert (record["firstName"], record["lastName"].casefold()) == ("Synthetic", "sync_assets certify")
    assert (record["email"], record["phone"], record["mobilePhone"]) == ("", "", "")
