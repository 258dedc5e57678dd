"""The customer's whole set-up list, each question with its good and its bad answer
(docs/dev/references/campaign.md 14)."""

import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from sync_assets.checks.rules import Finding
from sync_assets.commands.doctor import examine
from sync_assets.runtime.call_limits import calls_today
from sync_assets_tests.conftest import SandboxFactory
from sync_assets_tests.support.app_credentials import AppCertificate
from sync_assets_tests.support.opt_outs import HEADER, switch_on, write_file
from sync_assets_tests.support.program import CONTACT, Program, calls
from sync_assets_tests.support.sandbox_process import SandboxProcess

N = 20
ORDER: dict[str, Any] = {
    "table": "new_order",
    "resource": "cusOrder",
    "key": "cusOrderId",
    "fields": {"new_name": "cusName"},
    "links": [{"field": "new_contactid", "to": "cusContactLink", "table": "contact"}],
}
GOOD: dict[str, dict[str, Any]] = {
    "d365": {
        "privileges": {}, "privileges_told": True, "organization_read": True, "roles": ["sync_assets"],
        "clock_offset_seconds": 0,
    },
    "campaign": {"profile_extension": True, "filters": {}},
}  # fmt: skip

Findings = dict[str, tuple[str, str]]
Ask = Callable[[], Findings]


@pytest.fixture(scope="module")
def shared(sandbox_factory: SandboxFactory) -> SandboxProcess:
    return sandbox_factory(contacts=N)


@pytest.fixture
def program(shared: SandboxProcess, tmp_path: Path) -> Iterator[Program]:
    """Nothing was ever sent. What a test switches in the sandbox is switched back."""
    yield Program(shared, tmp_path, further=[ORDER])
    for system, values in GOOD.items():
        shared.admin.settings(system, **values)
    shared.admin.clear_faults()


@pytest.fixture
def ask(program: Program) -> Ask:
    """What doctor says: question -> outcome and message. Fails if a question is answered twice."""

    def result() -> Findings:
        with closing(program.runtime(any_ledger=True)) as runtime:
            lines = examine(runtime)
        return by_question(lines)

    return result


def by_question(lines: list[Finding]) -> Findings:
    result = {line.title: (line.outcome, line.message) for line in lines}
    assert len(result) == len(lines), [line.title for line in lines]
    return result


STANDING = ("alerts", "certification", "contact: merged contacts", "opt-outs: typology rules")
USUAL = tuple((what, "warn") for what in STANDING)


def wrong(findings: Findings) -> Findings:
    """Return the lines that are not ok, without warnings that stand until a person or a sync acts."""
    usual = {
        *USUAL,
        *((what, "warn") for what, (_, text) in findings.items() if text.startswith("not verified: no record")),
    }
    return {what: answer for what, answer in findings.items() if answer[0] != "ok" and (what, answer[0]) not in usual}


# --- All is well ----------------------------------------------------------------------------------------------------


def test_a_good_set_up_is_reported_finding_by_finding(program: Program, ask: Ask) -> None:
    switch_on(program, "bidirectional")
    program.opt_out["export"]["workflow_id"] = "WKF12"
    write_file(program, HEADER)
    result = ask()
    assert wrong(result) == {}
    assert result.keys() >= {
        "privacy",
        "roles of the application user",
        "change tracking window",
        "Campaign: Profiles & Services Extension API",
        "Campaign SFTP: private key",
        "opt-outs: Campaign SFTP",
        "opt-outs: room",
        "opt-outs: workflow WKF12",
        "contact: privileges to write opt-outs",
        "contact: look-up by externalId",
        "estimate of the first load",
        "estimate of engine calls per day",
        *(
            f"{table}: {what}"
            for table in ("contact", "new_order")
            for what in ("change tracking is on", "privileges to read", "resource is published", "key can hold the id")
        ),
    }
    assert result["estimate of the first load"][1].startswith("about 43 engine calls, one for each row")
    assert result["Campaign SFTP: private key"][1] == "ssh-rsa, 2048 bits"
    assert result["contact: privileges to read"][1] == "prvReadContact, for the whole organisation"


@pytest.mark.parametrize(
    ("days", "outcome", "expected"),
    [
        (29.5, "warn", "in 29 days: make a new one, add it to the app registration, and replace the file of"),
        (1.5, "warn", "in 1 day: make a new one"),
        (30.5, "ok", "in 30 days"),
        (-1, "fail", "ended on "),
    ],
)
def test_the_end_of_the_certificate_that_signs_in(
    program: Program, ask: Ask, tmp_path: Path, days: float, outcome: str, expected: str
) -> None:
    file = tmp_path / "app.pem"
    program.sandbox.admin.settings("login", certificates=[AppCertificate(days).write_pem(file)])
    program.more |= {"D365_CLIENT_SECRET": "", "D365_CLIENT_CERTIFICATE": str(file)}
    result = ask()
    assert result["Dynamics 365: client certificate"][0] == outcome
    assert expected in result["Dynamics 365: client certificate"][1]
    assert result["Dynamics 365"][0] == ("fail" if outcome == "fail" else "ok")


def test_each_table_costs_the_estimated_engine_calls(program: Program, ask: Ask) -> None:
    program.sandbox.admin.clear_journal()
    result = ask()
    assert program.sandbox.admin.engine_calls() == calls(read=4)
    for question in ("contact: look-up by externalId", "new_order: look-up by cusOrderId"):
        assert result[question][1].endswith("(asked with 1 engine call)")
    for table in ("contact", "new_order"):
        assert result[f"{table}: records in Campaign before the first load"][1].endswith("(asked with 1 engine call)")
    with closing(program.runtime()) as runtime:
        assert calls_today(runtime.ledger) == 4


def test_a_horizon_that_hardly_outlasts_the_wait_for_an_answer_is_a_warning(program: Program, ask: Ask) -> None:
    what = "horizon of requests without an answer"
    program.guardrails = {"horizon_minutes": 4.5}
    assert what not in ask()
    program.guardrails = {"horizon_minutes": 4.4}
    outcome, message = ask()[what]
    assert outcome == "warn"
    assert "is 4.4; Campaign has 90 s for an answer, and a request may take effect later" in message
    assert "Set at least 4.5" in message


def test_slow_systems_are_asked_at_the_same_time(program: Program, ask: Ask) -> None:
    admin = program.sandbox.admin
    switch_on(program, "bidirectional")
    admin.clear_journal()
    for system in ("d365", "campaign"):
        admin.latency(system, 100)
    try:
        ask()
    finally:
        for system in ("d365", "campaign"):
            admin.latency(system, 0)
    requests = [*admin.journal("d365"), *admin.journal("campaign")]
    at_once = [sum(one["began"] <= other["began"] < one["answered"] for one in requests) for other in requests]
    assert len(requests) > 30
    assert max(at_once) > 5
    assert sum(at_once) > 2 * len(requests)


# --- Dynamics 365 ---------------------------------------------------------------------------------------------------


def test_a_privilege_that_is_missing_is_named_with_the_role_to_be_changed(program: Program, ask: Ask) -> None:
    program.sandbox.admin.settings("d365", privileges={"new_order": {"Read": "None"}})
    outcome, message = ask()["new_order: privileges to read"]
    assert outcome == "fail"
    assert message.startswith("the application user lacks prvReadnew_Order; in the Power Platform admin centre give a")
    assert wrong(ask()).keys() == {"new_order: privileges to read"}


def test_reading_less_than_the_organisation_is_too_little_for_the_change_feed(program: Program, ask: Ask) -> None:
    program.sandbox.admin.settings("d365", privileges={"contact": {"Read": "Local"}})
    outcome, message = ask()["contact: privileges to read"]
    assert outcome == "fail"
    assert "has prvReadContact with depth Local only" in message


@pytest.mark.parametrize(
    ("depth", "outcome", "expected"),
    [
        ("None", "fail", "lacks prvWriteContact"),
        ("Local", "warn", "prvWriteContact has depth Local only"),
        ("Global", "ok", "prvWriteContact, for the whole organisation"),
    ],
)
def test_writing_contacts_matters_where_opt_outs_are_written_back(
    program: Program, ask: Ask, depth: str, outcome: str, expected: str
) -> None:
    program.sandbox.admin.settings("d365", privileges={"contact": {"Write": depth}})
    question = "contact: privileges to write opt-outs"
    assert question not in ask()
    switch_on(program, "campaign_to_d365")
    result = ask()[question]
    assert (result[0], expected in result[1]) == (outcome, True), result


def test_a_user_that_may_not_read_its_own_privileges_is_examined_by_attempts(program: Program, ask: Ask) -> None:
    switch_on(program, "campaign_to_d365")
    program.sandbox.admin.settings("d365", privileges_told=False)
    result = ask()
    assert result["roles of the application user"][0] == "ok"
    assert result["contact: privileges to read"] == ("ok", "one row was read as the change feed is")
    outcome, message = result["contact: privileges to write opt-outs"]
    assert (outcome, "a role of the application user has prvWriteContact" in message) == ("warn", True)

    program.sandbox.admin.settings("d365", privileges={"contact": {"Read": "Deep"}})
    outcome, message = ask()["contact: privileges to read"]
    assert outcome == "fail"
    assert "lacks a privilege in Dynamics 365 (table contact)" in message
    assert "prvReadContact for the whole organisation" in message


def test_system_administrator_is_more_than_is_needed(program: Program, ask: Ask) -> None:
    program.sandbox.admin.settings("d365", roles=["System Administrator", "Basic User"])
    outcome, message = ask()["roles of the application user"]
    assert outcome == "ok"
    assert message.startswith("Basic User, System Administrator; that is more than needed")


def test_a_short_window_of_change_tracking_is_a_warning_with_the_setting_to_raise(program: Program, ask: Ask) -> None:
    admin = program.sandbox.admin
    [organization] = admin.dump_d365("organization")
    admin.change("organization", [organization["organizationid"]], expirechangetrackingindays=3)
    try:
        outcome, message = ask()["change tracking window"]
    finally:
        admin.change("organization", [organization["organizationid"]], expirechangetrackingindays=7)
    assert outcome == "warn"
    assert message.endswith("Raise expirechangetrackingindays of the organisation to 7 or more")


def test_an_application_user_that_was_never_made_is_reported_once(program: Program, ask: Ask) -> None:
    program.sandbox.admin.settings("d365", application_user=False)
    try:
        result = wrong(ask())
    finally:
        program.sandbox.admin.settings("d365", application_user=True)
    assert result.keys() == {"Dynamics 365"}
    assert "Make an application user for D365_CLIENT_ID" in result["Dynamics 365"][1]


def test_the_title_of_a_line_is_the_result_and_not_the_condition(program: Program) -> None:
    program.sandbox.admin.post("/d365/tracking", {"table": "new_order", "enabled": False})
    try:
        status, output, errors = program.run("doctor")
        _, every_check, _ = program.run("doctor", "-v")
    finally:
        program.sandbox.admin.post("/d365/tracking", {"table": "new_order", "enabled": True})
    text = " ".join(output.split())
    assert "fail new_order: change tracking is off: switch it on in the table's properties" in text
    right = "ok contact: change tracking is on: Dynamics 365 keeps a change feed of the table."
    assert right in " ".join(every_check.split())
    assert right not in text
    number = sum(line.startswith("ok ") for line in every_check.splitlines())
    assert f"ok {number} checks; `sync-assets doctor -v` shows each" in text
    assert status == 1
    assert "1 check failed: new_order: change tracking is off. Correct the set-up." in errors
    assert "new_order: change tracking is on" not in every_check


def test_the_last_line_names_a_title_once_however_often_it_fails(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("CAMPAIGN_CLIENT_ID", "CAMPAIGN_SCOPES"):
        monkeypatch.delitem(program.sandbox.env, name)
    status, _, errors = program.run("doctor")
    assert status == 1
    assert "2 checks failed: environment. Correct the set-up." in errors


def test_a_ledger_is_compared_with_its_rules_alone_and_no_system_is_asked(program: Program) -> None:
    program.more = {"D365_URL": "https://localhost:1", "CAMPAIGN_URL": "https://localhost:1"}
    program.make_ledger()
    status, output, errors = program.run("doctor", "--ledger")
    assert (status, output.strip().startswith("The ledger agrees with its rules: 0 records")) == (0, True), errors
    with closing(sqlite3.connect(program.home / "dagster" / "ledger.db")) as file, file:
        file.execute("INSERT INTO sync_tally VALUES ('contact', 0, 3)")
    status, output, errors = program.run("doctor", "--ledger")
    assert (status, output) == (2, "contact: 3 synced records are miscounted\n")
    assert "contradicts its own rules in 1 point" in errors
    assert "`sync-assets rebuild`" in errors.splitlines()[-1]
    found = [{"table": "contact", "problem": "synced records are miscounted", "rows": 3, "seqs": []}]
    assert program.json("doctor", "--ledger") == (2, {"records": 3, "contradictions": found})


# --- Campaign -------------------------------------------------------------------------------------------------------


def test_an_extension_api_that_was_never_published_is_reported_with_the_box_to_tick(program: Program, ask: Ask) -> None:
    program.sandbox.admin.settings("campaign", profile_extension=False)
    outcome, message = ask()["Campaign: Profiles & Services Extension API"]
    assert outcome == "fail"
    assert '"Create the Profiles & Services Ext API" ticked' in message


def test_the_filter_that_finds_records_must_be_published(program: Program, ask: Ask) -> None:
    program.table = {
        **CONTACT,
        "address": "filter",
        "filter": {"name": "byOurId", "parameter": "ourId_parameter"},
    }
    outcome, message = ask()["contact: no record can be found by the key"]
    assert outcome == "fail"
    assert "profile has no filter byOurId published (it has " in message
    assert "contact: look-up by externalId" not in ask()

    program.table["filter"] = {"name": "byExternalId", "parameter": "externalId_parameter"}
    program.sandbox.admin.settings("campaign", filters_without_by=True)
    message = ask()["contact: no record can be found by the key"][1]
    assert "Write `name: externalId` in `filter`: Campaign v8 names filters without `by`" in message
    program.table["filter"]["name"] = "externalId"
    assert "contact: no record can be found by the key" not in ask()
    program.sandbox.admin.settings("campaign", filters_without_by=False)
    program.table["filter"] = {"name": "byOurId", "parameter": "ourId_parameter"}

    published = {"profile": {"byOurId": {"attribute": "externalId", "parameter": "ourId_parameter"}}}
    program.sandbox.admin.settings("campaign", filters=published)
    result = ask()
    assert "contact: no record can be found by the key" not in result
    assert result["contact: look-up by externalId"][1].startswith("not verified: no record was sent yet.")


def test_an_opt_out_whose_time_of_change_campaign_does_not_keep_is_named(program: Program, ask: Ask) -> None:
    switch_on(program, "bidirectional")
    question = "opt-outs: times of change"
    assert ask()[question][0] == "ok"
    program.opt_out["mappings"] = {"donotemail": "blackListEmail", "donotphone": "blackListPushnotification"}
    outcome, message = ask()[question]
    assert outcome == "warn"
    assert message.startswith("profile has none for blackListPushnotification: whether an opt-in in Campaign")


def test_a_workflow_that_is_not_there_is_a_failure(program: Program, ask: Ask) -> None:
    switch_on(program, "bidirectional")
    program.opt_out["export"]["workflow_id"] = "WKF99"
    outcome, message = ask()["opt-outs: workflow WKF99"]
    assert (outcome, "opt_out.export.workflow_id" in message) == ("fail", True)


# --- SFTP -----------------------------------------------------------------------------------------------------------


def test_a_folder_that_cannot_be_read_is_a_failure(program: Program, ask: Ask) -> None:
    switch_on(program, "bidirectional")
    program.opt_out["export"]["directory"] = "no/such/folder"
    outcome, message = ask()["opt-outs: Campaign SFTP"]
    assert (outcome, "no/such/folder" in message) == ("fail", True)


@pytest.mark.parametrize(
    ("kind", "bits", "expected"), [("ed25519", 256, "ssh-ed25519"), ("rsa", 1024, "ssh-rsa, 1024")]
)
def test_a_key_that_the_control_panel_does_not_take_is_a_warning(
    program: Program, ask: Ask, tmp_path: Path, kind: str, bits: int, expected: str
) -> None:
    switch_on(program, "bidirectional")
    file = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", kind, "-b", str(bits), "-N", "", "-f", str(file)], check=True)
    program.more["CAMPAIGN_SFTP_PRIVATE_KEY"] = str(file)
    outcome, message = ask()["Campaign SFTP: private key"]
    assert outcome == "warn"
    assert message.startswith(expected)
    assert "ssh-keygen -t rsa -b 2048" in message


def test_a_file_that_is_no_key_is_reported_once(program: Program, ask: Ask, tmp_path: Path) -> None:
    switch_on(program, "bidirectional")
    (tmp_path / "key").write_text("no key")
    program.more["CAMPAIGN_SFTP_PRIVATE_KEY"] = str(tmp_path / "key")
    assert wrong(ask()).keys() == {"Campaign SFTP"}


# --- The ledger -----------------------------------------------------------------------------------------------------


def test_a_ledger_that_cannot_be_used_is_reported_once_and_all_other_findings_too(program: Program, ask: Ask) -> None:
    (program.home / "file").write_text("")
    program.more["SYNC_ASSETS_LEDGER_URL"] = f"sqlite:///{program.home / 'file' / 'ledger.db'}"
    program.sandbox.admin.clear_journal()
    result = ask()
    assert wrong(result).keys() == {"ledger"}
    assert result["new_order: privileges to read"][0] == "ok"
    assert program.sandbox.admin.engine_calls() == calls(), "a call that cannot be counted is not made"


def test_a_ledger_that_can_be_read_only_is_reported_once_for_all_tables(program: Program, ask: Ask) -> None:
    ask()
    file = program.home / "dagster" / "ledger.db"
    with closing(sqlite3.connect(file)) as database:
        database.execute(
            "CREATE TRIGGER closed BEFORE INSERT ON sync_day_count BEGIN SELECT RAISE(ABORT, 'read only'); END"
        )
        database.execute(
            "CREATE TRIGGER closed_too BEFORE UPDATE ON sync_day_count BEGIN SELECT RAISE(ABORT, 'read only'); END"
        )
        database.commit()
    result = ask()
    assert wrong(result).keys() == {"ledger in use"}
    assert result["new_order: privileges to read"][0] == "ok"
