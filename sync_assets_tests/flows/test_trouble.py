"""Bad input: a cause and a remedy in one line, exit status 1, and nothing written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sync_assets_tests.support.program import CONTACT, Program, calls

Spoil = Callable[[Program], None]


def env(**values: str) -> Spoil:
    return lambda program: program.more.update(values)


def mapped(**changes: Any) -> Spoil:
    return lambda program: program.table.update({**CONTACT, "fields": {**CONTACT["fields"], **changes}})


def tracking_off(program: Program) -> None:
    program.sandbox.admin.post("/d365/tracking", {"table": "contact", "enabled": False})


def a_file_in_the_way(program: Program) -> None:
    (program.home / "file").write_text("", encoding="utf-8")
    program.more["SYNC_ASSETS_LEDGER_URL"] = f"sqlite:///{program.home / 'file' / 'ledger.db'}"


CASES: dict[str, tuple[Spoil, str]] = {
    "wrong D365 secret": (env(D365_CLIENT_SECRET="wrong"), "AADSTS7000215). Put the secret's value"),
    "wrong Campaign secret": (env(CAMPAIGN_CLIENT_SECRET="wrong"), "CAMPAIGN_CLIENT_SECRET"),
    "an organisation that the tenant does not know": (env(D365_URL="https://localhost:9"), "Check D365_URL"),
    "nobody at the sign-in host": (env(D365_AUTHORITY="https://localhost:9"), "cannot be reached"),
    "the wrong D365 URL": (lambda p: env(D365_URL=p.sandbox.env["CAMPAIGN_URL"])(p), "D365_URL"),
    "the wrong Campaign URL": (
        lambda p: env(CAMPAIGN_URL=p.sandbox.env["CAMPAIGN_URL"] + "x")(p),
        "Check CAMPAIGN_URL",
    ),
    "plain http": (env(CAMPAIGN_URL="http://campaign.example.com/acme"), "CAMPAIGN_URL uses plain http"),
    "a certificate nobody vouches for": (env(SYNC_ASSETS_CA_BUNDLE=""), "SYNC_ASSETS_CA_BUNDLE"),
    "a missing variable": (env(D365_TENANT_ID=""), "D365_TENANT_ID is not set"),
    "an unknown column": (mapped(emailadress1="email2"), "did you mean `emailaddress1`?"),
    "an unknown attribute": (mapped(fax="faxx"), "did you mean `fax`?"),
    "a read-only attribute": (mapped(fax="age"), "`age` is read-only in Campaign"),
    "a resource that is not there": (
        lambda p: p.table.update({**CONTACT, "resource": "cusNothing"}),
        "Campaign has no resource cusNothing",
    ),
    "a table that is not there": (lambda p: p.table.update({**CONTACT, "table": "new_nothing"}), "new_nothing"),
    "change tracking off": (tracking_off, "change tracking is not enabled for contact"),
    "an unwritable ledger": (a_file_in_the_way, "ledger"),
    "a misspelt key in the file": (lambda p: p.table.update({**CONTACT, "field": {}}), "did you mean `fields`?"),
}


MADE = "A new, empty ledger was made: "


@pytest.mark.parametrize("case", CASES)
def test_sync_says_what_is_wrong_and_writes_nothing(program: Program, case: str) -> None:
    spoil, says = CASES[case]
    spoil(program)
    status, output, errors = program.run("sync")
    assert status == 1, (output, errors)
    told = [line for line in errors.splitlines() if line.startswith("sync-assets: ") and MADE not in line]
    assert any(says in line for line in told), errors
    assert len(told) <= 2, told
    assert "Traceback" not in errors
    assert program.sandbox.admin.engine_calls() == calls()
    assert program.sandbox.admin.dump_campaign() == []


@pytest.mark.parametrize(
    "case", ["wrong D365 secret", "an unknown column", "a missing variable", "change tracking off"]
)
def test_doctor_says_it_too(program: Program, case: str) -> None:
    spoil, says = CASES[case]
    spoil(program)
    status, document = program.json("doctor")
    assert status == 1
    assert any(says in line["message"] for line in document["checks"] if line["outcome"] == "fail"), document


def test_doctor_finds_nothing_wrong_with_the_sandbox(program: Program) -> None:
    status, document = program.json("doctor")
    assert status == 0, document
    assert {line["outcome"] for line in document["checks"]} == {"ok"}
    assert program.sandbox.admin.dump_campaign() == []


def test_doctor_notices_that_the_key_identifies_nothing_and_counts_its_question(program: Program) -> None:
    program.sync()
    program.sandbox.admin.clear_journal()
    program.sandbox.admin.settings("campaign", key_in_url=False)
    status, document = program.json("doctor")
    assert status == 1
    [failed] = [line for line in document["checks"] if line["outcome"] == "fail"]
    assert "Make externalId an identification key of profile" in failed["message"]
    assert program.sandbox.admin.engine_calls() == calls(read=1)
    assert program.json("status")[1]["engine_calls"] == calls(insert=50, read=2)


def test_what_both_systems_lack_is_told_at_once(program: Program) -> None:
    lacking = ("D365_CLIENT_ID", "CAMPAIGN_URL", "CAMPAIGN_CLIENT_SECRET", "CAMPAIGN_SCOPES")
    env(**dict.fromkeys(lacking, ""))(program)
    for command in ("sync", "plan"):
        status, output, errors = program.run(command)
        assert (status, output) == (1, "")
        assert errors.splitlines() == [
            f"sync-assets: {name} is not set. Set it in the environment." for name in lacking
        ]


def test_a_ledger_that_is_made_is_told_since_its_url_may_be_mistyped(program: Program) -> None:
    for name in ("ledger.db", "legder.db"):
        program.more["SYNC_ASSETS_LEDGER_URL"] = f"sqlite:///{program.home / name}"
        assert program.run("status")[2].strip() == f"sync-assets: {MADE}{program.home / name}"
        assert program.run("status")[2] == ""


def test_an_unknown_table_is_named(program: Program) -> None:
    for command in (["sync", "--table", "lead"], ["rejects", "lead"], ["retry", "lead"]):
        status, _, errors = program.run(*command)
        assert status == 1
        assert errors.strip() == "sync-assets: lead is not a mapped table. Mapped are: contact."


def test_a_campaign_that_stays_away_leaves_everything_pending(program: Program, tmp_path: Path) -> None:
    del tmp_path
    program.sync()
    program.sandbox.admin.change("contact", 5, jobtitle="Later")
    program.sandbox.admin.fault("campaign", "status", status=401, method="PATCH", body='{"error_code":"401013"}')
    done = program.sync()
    assert done.status == 2
    assert done.stopped
    assert done.document["tables"]["contact"]["pending"] == 5
    program.sandbox.admin.clear_faults()
    assert program.sync().status == 0
    program.assert_in_step()
