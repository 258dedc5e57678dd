"""`certify` finds out how both systems behave, whichever way they are, and leaves nothing behind in them."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from contextlib import closing, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from sync_assets.audit.certification.stored_report import NAME
from sync_assets.audit.certification.subject import PREFIX
from sync_assets.commands.doctor.diagnosis import examine
from sync_assets.ledger import Ledger
from sync_assets.runtime.workers import worker_id
from sync_assets_tests.support.certifying import certified, chained, left, not_workable, rows
from sync_assets_tests.support.premises import DOCUMENTED, NO_KEYS_IN_URLS, POSITIONS, V8, Position, on_positions
from sync_assets_tests.support.program import Program, calls
from sync_assets_tests.support.waiting import until

YES, NO = "the record is found", "the record is not found"
GET, PATCH, DELETE, FILTER = "GET by the key", "PATCH by the key", "DELETE by the key", "a filter finds the key"
TAKEN, IN_BODY, REASON = (
    "POST with a key that is taken",
    "the key in the body of a PATCH",
    "the reason for a value that is not valid",
)
LOCATION = "PATCH of a sub-field of location"
TIMES = "change times of opt-outs"
TWICE = "a second record is made"

FOUND: dict[str, dict[tuple[str, str], str]] = {
    DOCUMENTED: {
        ("profile", GET): YES,
        ("profile", PATCH): YES,
        ("profile", DELETE): NO,
        ("profile", TAKEN): "refused, with the reason",
        ("cusOrder", IN_BODY): "accepted",
        ("cusOrder", REASON): "refused, with the reason",
        ("cusOrderLine", "link cusOrderLink by the parent's PKey"): "stored",
        ("profile", LOCATION): "stored",
        ("contact", "an id stands in a page once"): "no id is repeated in a page",
        ("contact", "a read of small pages"): "4 pages of 1: the same rows, each once",
        ("", "$batch"): "two reads, two answers",
        ("", "sign-in with the configured credential"): "accepted",
    },
    "no keys in URLs": {("profile", GET): NO, ("cusOrder", PATCH): NO, ("cusOrder", FILTER): YES},
    "keys in URLs are bad PKeys": {("profile", GET): NO, ("profile", FILTER): YES},
    "keys in URLs of profiles only": {("profile", GET): YES, ("cusOrder", GET): NO, ("cusOrder", FILTER): YES},
    "deletes by key": {("profile", DELETE): YES, ("cusOrder", DELETE): YES},
    "no key is unique": {("profile", TAKEN): TWICE, ("cusOrderLine", TAKEN): TWICE},
    "the key of profiles is not unique": {("profile", TAKEN): TWICE, ("cusOrder", TAKEN): "refused, with the reason"},
    "no key in a PATCH": {("profile", IN_BODY): "refused", ("cusOrder", PATCH): YES},
    "bare errors": {
        ("profile", TAKEN): "refused, without the reason",
        ("cusOrder", REASON): "refused, without the reason",
        ("profile", DELETE): NO,
    },
    V8: {
        ("profile", TAKEN): "refused, without the reason",
        ("profile", "PATCH with an empty body"): "accepted (204)",
        ("profile", LOCATION): "refused or not stored",
        ("cusOrder", REASON): "refused, without the reason",
    },
    "small pages": {("contact", "a page of 5,000 rows"): "7 rows, more follow"},
    "no memory for large pages": {
        ("contact", "a page of 5,000 rows"): "Dynamics 365 fails; a page of 1,250 rows arrives"
    },
    "nothing as documented": {("profile", GET): NO, ("profile", TAKEN): TWICE, ("profile", FILTER): YES},
}
"""What must be found, by position."""
QUICK = (DOCUMENTED, "deletes by key", V8, "nothing as documented")


@pytest.fixture
def chain(program: Program, position: Position) -> Program:
    return chained(program, position)


@on_positions(quick=QUICK)
def test_each_position_is_found_and_workable_and_nothing_is_left(
    chain: Program, request: pytest.FixtureRequest
) -> None:
    admin = chain.sandbox.admin
    document = certified(chain)
    found = rows(document)
    name = request.node.callspec.params["position"]
    for at, expected in FOUND.get(name, {}).items():
        assert found[at]["found"] == expected, at
    assert (not_workable(document), document["workable"], document["left"]) == ({}, True, [])
    assert left(chain) == {}
    assert all(
        table["dump"] == [] for table in [{"dump": admin.dump_campaign(name)} for name in ("profile", "cusOrder")]
    )
    asked = {entry["method"] for entry in admin.journal("d365") if "$batch" not in entry["path"]}
    assert asked == {"GET"}, "Dynamics 365 is only read"
    assert document["engine_calls"] == admin.engine_calls() or POSITIONS[name].faults


@pytest.mark.parametrize(
    ("links_by_key", "found", "way"),
    [
        ("resolved", "stored", "The parent's key is sent: no look-up."),
        ("empty", "accepted, and nothing is stored", "The parent's PKey is looked up and sent."),
        ("refused", "refused", "The parent's PKey is looked up and sent."),
    ],
)
def test_a_link_that_a_record_may_lack_is_tried_by_key_and_removed(
    program: Program, position: Position, links_by_key: str, found: str, way: str
) -> None:
    program.sandbox.admin.settings("campaign", links_by_key=links_by_key)
    chained_loosely(program, position)
    document = certified(program)
    by_key = rows(document)["cusOrder", "link cusContactLink by the parent's key"]
    assert (by_key["found"], by_key["program"], by_key["outcome"]) == (found, way, "workable")
    assert rows(document)["cusOrder", "link cusContactLink set to null"]["found"] == "removed"
    assert (document["workable"], left(program)) == (True, {})


def chained_loosely(program: Program, position: Position, **link: Any) -> Program:
    """With links of cardinality zero or one, in Campaign as well."""
    program.sandbox.admin.publish_link("cusOrder", "cusContactLink", "zero_or_one")
    program.sandbox.admin.publish_link("cusOrderLine", "cusOrderLink", "zero_or_one")
    return chained(program, position, cardinality="zero_or_one", **link)


def test_a_style_that_does_not_work_is_not_workable(program: Program, position: Position) -> None:
    program.sandbox.admin.settings("campaign", links_by_key="empty")
    document = certified(chained_loosely(program, position, style="key"))
    wrong = not_workable(document)
    assert wrong.keys() == {
        ("cusOrder", "link cusContactLink by the parent's key"),
        ("cusOrderLine", "link cusOrderLink by the parent's key"),
    }
    assert all("`style: auto`" in way for way in wrong.values())
    assert left(program) == {}


def test_a_required_link_is_not_tried_by_key_since_campaign_would_hide_the_record_for_good(chain: Program) -> None:
    chain.sandbox.admin.settings("campaign", links_by_key="empty")
    document = certified(chain)
    for premise in ("by the parent's key", "set to null"):
        assert rows(document)["cusOrder", f"link cusContactLink {premise}"]["outcome"] == "not tried"
    assert (document["workable"], left(chain)) == (True, {})


def test_a_location_that_no_patch_changes_is_not_workable_until_inserts_alone_send_it(program: Program) -> None:
    program.sandbox.admin.settings("campaign", location_in_patch="refused")
    wrong = not_workable(certified(program))
    assert wrong.keys() == {("profile", LOCATION)}
    assert "location.city" in wrong["profile", LOCATION]
    assert "`apply_updates: false`" in wrong["profile", LOCATION]
    program.table["fields"] = program.table["fields"] | {
        "address1_city": {"to": "location.city", "apply_updates": False}
    }
    again = certified(program)
    assert (again["workable"], left(program)) == (True, {})
    assert rows(again)["profile", LOCATION]["found"] == "refused or not stored"


def test_opt_outs_without_a_time_of_change_are_named(program: Program) -> None:
    program.sandbox.admin.settings("campaign", opt_outs_without_time=["blackListFax"])
    found = rows(certified(program))["profile", TIMES]["found"]
    assert found.endswith("missing for blackListFax, blackListPushnotification")
    assert "blackListEmail" in found.partition(";")[0]


def test_a_text_that_campaign_cuts_is_found(program: Program) -> None:
    assert rows(certified(program))["profile", "a text that is too long"]["found"] == "refused"
    program.sandbox.admin.settings("campaign", cut_long_strings=True)
    assert rows(certified(program))["profile", "a text that is too long"]["found"] == "cut without an error"


def test_deleted_rows_are_seen_in_the_feed_of_a_ledger_that_has_one(program: Program) -> None:
    premise = ("contact", "deleted rows in the change feed")
    assert rows(certified(program))[premise]["outcome"] == "not tried"
    program.sync()
    assert rows(certified(program))[premise]["found"] == "no row was deleted since the last sync"
    program.sandbox.admin.delete("contact", 1)
    assert rows(certified(program))[premise]["found"] == "seen"
    again = program.sync()
    assert (again.status, len(program.profiles())) == (0, 50), "the stored position did not move"


def test_deleted_rows_are_seen_in_a_feed_whose_large_pages_fail(program: Program) -> None:
    program.sync()
    program.sandbox.admin.settings("d365", memory_limit_rows=1250)
    program.sandbox.admin.delete("contact", 1)
    assert rows(certified(program))["contact", "deleted rows in the change feed"]["found"] == "seen"


def test_without_keys_in_urls_and_without_a_filter_the_remedy_is_named_and_nothing_is_left(program: Program) -> None:
    program.sandbox.admin.settings("campaign", key_in_url=False)
    document = certified(program)
    [(at, way)] = not_workable(document).items()
    assert at == ("profile", "a record is found by our id")
    assert "name it in `filter`" in way
    assert left(program) == {}


def test_a_missing_privilege_is_not_workable(program: Program) -> None:
    program.sandbox.admin.settings("d365", privileges={"contact": {"Read": "Basic"}})
    wrong = not_workable(certified(program))
    assert ("contact", "privilege to read") in wrong
    assert "prvReadContact" in wrong["contact", "privilege to read"]


# The ledger


@on_positions(DOCUMENTED, "no keys in URLs", "deletes by key", "bare errors", quick=(DOCUMENTED, "deletes by key"))
def test_a_sync_after_a_certification_finds_nothing_out(program: Program, request: pytest.FixtureRequest) -> None:
    """Every request is one that a program makes which has worked with this Campaign before."""
    position = request.node.callspec.params["position"]
    admin = program.sandbox.admin
    program.table |= {"apply_deletes": True}
    certified(program)
    program.sync()
    by_key, deletes = position != "no keys in URLs", position == "deletes by key"
    contacts = admin.change("contact", 5, lastname="Changed")
    admin.delete("contact", contacts[:2])
    admin.clear_journal()
    done = program.sync()
    assert (done.status, done.problems) == (0, [])
    assert done.document["engine_calls"] == calls(update=3, delete=2, read=(0 if by_key else 3) + (0 if deletes else 2))
    refused = [entry for entry in admin.journal("campaign") if entry["status"] >= 400]
    assert refused == []


def test_a_certification_replaces_the_findings_of_an_earlier_one(program: Program, position: Position) -> None:
    admin = program.sandbox.admin
    program.table = NO_KEYS_IN_URLS.table(program.table)

    def found() -> tuple[str | None, str | None]:
        certified(program)
        with Ledger.open(program.runtime().settings.ledger_url) as ledger:
            known = ledger.dialect("profile")
        return known.get("key_in_url"), known.get("key_unique")

    assert found() == ("yes", "yes")
    admin.settings("campaign", unique_keys={"profile": False})
    assert found() == ("no", None)
    admin.settings("campaign", unique_keys={})
    assert found() == ("yes", "yes")


def test_the_ledger_counts_the_engine_calls_and_remembers_the_report(program: Program) -> None:
    document = certified(program)
    _, status = program.json("status")
    assert status["engine_calls"] == document["engine_calls"] == program.sandbox.admin.engine_calls()
    with Ledger.open(program.runtime().settings.ledger_url) as ledger:
        assert ledger.dialect(NAME).keys() >= {"certified_at", "version"}
        assert "began" not in ledger.dialect(NAME)
        assert ledger.dialect("profile")[f"certified Campaign: {GET}"] == f"workable: {YES}"


def doctors_lines(program: Program) -> dict[str, tuple[str, str]]:
    with closing(program.runtime()) as runtime:
        lines = {line.what: (line.outcome, line.message) for line in examine(runtime)}
    return {what: line for what, line in lines.items() if what.startswith("certification")}


def test_doctor_and_status_tell_when_the_systems_were_certified_and_what_is_not_workable(program: Program) -> None:
    outcome, message = doctors_lines(program)["certification"]
    assert (outcome, message.startswith("never. `sync-assets certify`")) == ("warn", True)
    assert program.json("status")[1]["certification"] is None
    program.sandbox.admin.settings("campaign", location_in_patch="refused")
    at = certified(program)["certified_at"]
    wrong = {"system": "Campaign", "about": "profile", "premise": LOCATION, "found": "refused or not stored"}
    stored = {"at": at, "version": version("sync-assets"), "not_workable": [wrong]}
    assert program.json("status")[1]["certification"] == stored
    assert f"certified {at} by version" in program.run("status")[1]
    assert doctors_lines(program) == {
        "certification": ("ok", f"the last one ended {at} by version {version('sync-assets')}"),
        f"certification of profile: {LOCATION}": (
            "warn",
            "refused or not stored. `sync-assets certify` tries it again, and names what to change",
        ),
    }
    program.sandbox.admin.settings("campaign", location_in_patch="accepted")
    certified(program)
    assert program.json("status")[1]["certification"]["not_workable"] == []
    [(_, message)] = doctors_lines(program).values()
    assert message.endswith(", all workable")


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


def test_on_a_tenant_that_is_no_stage_doctor_does_not_ask_for_a_certification(program: Program) -> None:
    program.more["CAMPAIGN_URL"] = program.sandbox.env["CAMPAIGN_URL"].removesuffix("-mkt-stage")
    assert doctors_lines(program)["certification"][0] == "ok"


def test_a_budget_that_may_not_suffice_is_refused_before_the_first_write(program: Program) -> None:
    program.guardrails = {"engine_calls_per_day": 20}
    status, output, errors = program.run("certify", "--yes")
    assert (status, output) == (1, "")
    assert "Nothing was written" in errors
    assert program.sandbox.admin.engine_calls() == calls()


def test_two_certifications_of_one_ledger_do_not_work_at_once(program: Program) -> None:
    with Ledger.open(program.runtime().settings.ledger_url) as ledger:
        assert ledger.lease_listing(NAME, worker_id(), 60)
        status, _, errors = program.run("certify", "--yes")
        assert (status, "Another `sync-assets certify`" in errors) == (1, True)
        assert program.sandbox.admin.engine_calls() == calls()


# Killed


def killed_at(program: Program, request: int, **which: Any) -> bool:
    """Start certify, and kill it while it waits for the answer to its n-th request, which Campaign has executed.

    Return False if it made fewer requests, and so ended by itself.
    """
    admin = program.sandbox.admin
    admin.clear_faults()
    admin.fault("campaign", "drip", skip=request - 1, times=1, seconds=600, **which)
    process = program.start("certify", "--yes")
    try:
        until(lambda: process.poll() is not None or admin.fault_rules()[0]["fired"] == 1, seconds=120)
        return process.poll() is None
    finally:
        process.kill()
        process.communicate()
        admin.clear_faults()


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


def test_lost_answers_are_no_findings(program: Program) -> None:
    admin = program.sandbox.admin
    for method in ("POST", "PATCH", "DELETE"):
        admin.fault("campaign", "cut_after", method=method, times=1, path="^/.*profile")
    document = certified(program)
    assert (document["workable"], left(program)) == (True, {})
    assert rows(document)["profile", TAKEN]["found"] == "refused, with the reason"


# The command


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
def test_the_page_on_certification_shows_what_a_run_prints(program: Program) -> None:
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
    program.more["COLUMNS"] = "116"
    status, output, errors = program.run("certify", "--yes")
    assert status == 0, errors
    page = (Path(__file__).parents[2] / "sync_assets" / "docs" / "certification.md").read_text(encoding="utf-8")
    shown = "\n".join(line.rstrip() for line in output.splitlines()).strip()
    assert f"```text\n{shown}\n```" in page, shown


def test_a_premise_that_is_not_workable_ends_the_command_with_1(program: Program) -> None:
    program.sandbox.admin.settings("campaign", location_in_patch="refused")
    status, output, _ = program.run("certify", "--yes")
    assert (status, "1 not workable" in output) == (1, True)


def test_without_yes_and_without_a_terminal_nothing_is_asked_of_either_system(program: Program) -> None:
    status, output, errors = program.run("certify")
    assert (status, output) == (1, "")
    assert "--yes" in errors
    assert program.sandbox.admin.journal() == []


def test_on_a_terminal_the_command_asks(program: Program) -> None:
    status, shown = on_a_terminal(program, "y")
    assert (status, "Go ahead on acme-mkt-stage?" in shown) == (0, True)
    assert program.sandbox.admin.engine_calls() != calls()


def test_a_tenant_that_is_not_named_like_a_stage_tenant_is_refused_despite_yes(program: Program) -> None:
    program.more["CAMPAIGN_URL"] = program.sandbox.env["CAMPAIGN_URL"].removesuffix("-mkt-stage")
    status, _, errors = program.run("certify", "--yes")
    assert (status, "does not name a stage tenant" in errors) == (1, True)
    ended, shown = on_a_terminal(program, "acme-mkt-stage", "--yes")
    assert (ended, "Nothing was written" in shown) == (1, True)
    assert program.sandbox.admin.journal() == []


def activity(pid: int) -> list[str]:
    """Return the state of a process, `S` if it sleeps, and its processor time so far (proc(5))."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return [fields[0], *fields[11:13]]


def test_ctrl_c_ends_the_question_at_once(program: Program) -> None:
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(program.home)
        os.execve(sys.executable, [sys.executable, "-m", "sync_assets.cli", "certify"], {**os.environ, **program.env})
    shown = b""
    while b"[y/N]" not in shown:
        shown += os.read(terminal, 65536)
    # Not before it waits for the answer: Python may swallow an interrupt while it imports what reads a terminal.
    while (before := activity(pid)) != (time.sleep(0.2), activity(pid))[1] or before[0] != "S":
        pass
    os.write(terminal, b"\x03")
    with suppress(OSError):  # the other side is closed: the process has ended
        while piece := os.read(terminal, 65536):
            shown += piece
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 130
    assert "Interrupted. Run it again" in shown.decode()
    assert program.sandbox.admin.engine_calls()["insert"] == 0


def on_a_terminal(program: Program, answer: str, *options: str) -> tuple[int, str]:
    """Run certify on a terminal, type the answer; return the exit status and all that was shown."""
    ours, its = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "sync_assets.cli", "certify", *options],
        env=program.env,
        cwd=program.home,
        stdin=its,
        stdout=its,
        stderr=its,
    ) as process:
        os.close(its)
        os.write(ours, f"{answer}\n".encode())
        shown = b""
        while True:
            try:
                piece = os.read(ours, 65536)
            except OSError:  # the other side is closed: the process has ended
                break
            if not piece:
                break
            shown += piece
        process.wait(60)
    os.close(ours)
    return process.returncode, shown.decode(errors="replace")


def test_the_synthetic_records_are_recognised_by_people(program: Program) -> None:
    admin = program.sandbox.admin
    assert killed_at(program, 1, method="PATCH")
    [record] = admin.dump_campaign()
    assert record["externalId"].startswith(PREFIX)
    assert (record["firstName"], record["lastName"].casefold()) == ("Synthetic", "sync_assets certify")
    assert (record["email"], record["phone"], record["mobilePhone"]) == ("", "", "")
