"""`certify` as a command: what it prints, what it asks, and when it goes ahead."""

import json
import re
import signal
from pathlib import Path

import pytest

from sync_assets.audit.certification.synthetic_record import PREFIX
from sync_assets_tests.flows.certifying import certified, chained, doctors_lines, killed_at, left
from sync_assets_tests.support.premises import DOCUMENTED, POSITIONS, V8, Position, on_positions
from sync_assets_tests.support.program import Program, calls
from sync_assets_tests.support.terminal import CTRL_C, in_a_terminal
from sync_assets_tests.support.waiting import until


@pytest.fixture
def chain(program: Program, position: Position) -> Program:
    return chained(program, position)


def test_the_command_prints_a_report_without_values_or_secrets(chain: Program) -> None:
    status, output, errors = chain.run("certify", "--yes", "--json")
    assert status == 0, errors
    document = json.loads(output)
    assert {*document} == {"workable", "certified_at", "premises", "left", "engine_calls"}
    for one in document["premises"]:
        assert {*one} == {"system", "about", "premise", "found", "program", "outcome"}
        assert all(one[name] for name in ("system", "premise", "found", "program"))
        assert one["outcome"] in ("workable", "not workable", "not tried")
    assert_nothing_private(chain, output + errors)
    status, output, errors = chain.run("certify", "--yes")
    assert (status, "0 not workable" in output) == (0, True)
    assert_nothing_private(chain, output + errors)


def assert_nothing_private(program: Program, text: str) -> None:
    env, contacts = program.sandbox.env, program.sandbox.admin.dump_d365()
    secrets = [value for name, value in env.items() if name.endswith(("_SECRET", "_ID", "_URL", "_HOST"))]
    people = [row[column] for row in contacts for column in ("emailaddress1", "contactid", "lastname") if row[column]]
    for private in (*secrets, *(one for one in people if len(one) > 5)):
        assert private not in text
    assert not re.search(r"@[\w-]{20,}", text), "a PKey"


@on_positions(DOCUMENTED, V8, quick=(DOCUMENTED, V8))
def test_the_page_on_certification_shows_the_findings_of_a_run(program: Program, position: Position) -> None:
    program.sandbox.admin.publish_link("cusOrder", "cusContactLink", "zero_or_one")
    program.table["fields"] = program.table["fields"] | {"gendercode": "gender"}
    program.further = [
        {
            "table": "new_order",
            "resource": "cusOrder",
            "key": "cusOrderId",
            "fields": {"new_name": "cusName", "new_amount": "cusAmount"},
            "links": [
                {"field": "new_contactid", "to": "cusContactLink", "table": "contact", "cardinality": "zero_or_one"}
            ],
        }
    ]
    status, output, errors = program.run("certify", "--yes", "--json")
    assert status == 0, errors
    page = (Path(__file__).parents[2] / "sync_assets" / "docs" / "certification.md").read_text(encoding="utf-8")
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in page.splitlines() if line[:1] == "|"]
    shown = {cells[0]: cells[1:] for cells in rows}
    for one in json.loads(output)["premises"]:
        cells = shown[one["premise"]]
        if one["outcome"] == "not tried":
            assert len(cells) == 1, one
        else:
            standard, v8, program_does = cells
            result = re.sub(r"^\d+ rows", "N rows", one["found"])
            assert result == (v8 if position is POSITIONS[V8] and v8 != "the same" else standard), one
            assert one["program"] in program_does, one


def test_a_stage_tenant_is_certified_once_a_user_confirms_and_one_of_another_name_is_refused_despite_yes(
    program: Program,
) -> None:
    program.more["CAMPAIGN_URL"] = program.sandbox.env["CAMPAIGN_URL"].removesuffix("-mkt-stage")
    status, _, errors = program.run("certify", "--yes")
    assert (status, "does not name a stage tenant" in errors) == (1, True)
    ended, shown = in_a_terminal(program, "certify", "--yes", typed="acme-mkt-stage\n")
    assert (ended, "Nothing was written" in shown) == (1, True)
    program.more.clear()
    status, output, errors = program.run("certify")
    assert (status, output) == (1, "")
    assert "--yes" in errors
    assert program.sandbox.admin.journal() == []
    status, shown = in_a_terminal(program, "certify", typed=CTRL_C, once=lambda shown: "[y/N]" in shown)
    assert (status, "Interrupted. The next run removes its remaining records." in shown) == (130, True)
    assert program.sandbox.admin.engine_calls() == calls()
    status, shown = in_a_terminal(program, "certify", typed="y\n")
    assert (status, "Go ahead on acme-mkt-stage?" in shown) == (0, True)
    assert program.sandbox.admin.engine_calls() != calls()


def test_doctor_names_the_records_a_killed_certification_may_have_left_until_the_next_one_deletes_them(
    program: Program,
) -> None:
    assert killed_at(program, 1, method="PATCH")
    assert len(program.sandbox.admin.dump_campaign()) == 1
    outcome, message = doctors_lines(program)["certification under way"]
    assert (outcome, message.endswith("run `sync-assets certify` again: it deletes them.")) == ("warn", True)
    assert message.startswith("A certification began ")
    assert f"may still hold its records: profile (externalId). Their keys begin with {PREFIX};" in message
    assert "Dynamics 365 has no such rows" in message
    certified(program)
    assert program.sandbox.admin.dump_campaign() == []
    assert "certification under way" not in doctors_lines(program)


UNFINDABLE = "no keys in URLs, and no filter"


@pytest.mark.parametrize(
    ("where", "first", "step"),
    [
        (UNFINDABLE, 13, 17),
        pytest.param(DOCUMENTED, 8, 17, marks=pytest.mark.slow),
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


def test_interrupted_it_removes_its_records_and_those_that_a_failing_campaign_keeps_are_removed_by_the_next_run(
    program: Program,
) -> None:
    admin = program.sandbox.admin
    admin.fault("campaign", "slow", method="PATCH", delay_ms=1_000)
    process = program.start("certify", "--yes")
    until(lambda: bool(left(program)))
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, "Interrupted" in errors) == (130, True)
    assert left(program) == {}
    admin.clear_faults()
    admin.fault("campaign", "unavailable", method="DELETE", retry_after=3600)
    status, _, errors = program.run("certify", "--yes")
    assert (status, left(program)) == (1, {"profile": 1}), errors
    admin.clear_faults()
    assert certified(program)["workable"]
    assert left(program) == {}
