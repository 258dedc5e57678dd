"""Bad input: a cause and a remedy in one line, exit status 1, and nothing written."""

import re
import time
from collections.abc import Callable

from sync_assets_tests.support.program import Program

Spoil = Callable[[Program], None]


def env(**values: str) -> Spoil:
    return lambda program: program.more.update(values)


MADE = "A new, empty ledger was made at "


def test_a_wrong_organisation_of_campaign_is_reported_once_within_seconds(program: Program) -> None:
    program.dagster = True
    fields = {"fields": {"new_name": "cusName"}, "api": "profileAndServicesExt"}
    program.further = [{"table": "new_order", "resource": "cusOrder", "key": "cusOrderId", **fields}]
    program.sandbox.admin.publish_link("cusOrder", "cusContactLink", "zero_or_one")
    env(CAMPAIGN_URL=program.sandbox.env["CAMPAIGN_URL"] + "x")(program)
    for command in ("sync", "plan", "doctor"):
        began = time.monotonic()
        status, output, errors = program.run(command)
        assert time.monotonic() - began < 10
        assert (status, (output + errors).count("Check the organisation in CAMPAIGN_URL")) == (1, 1), command
    env(CAMPAIGN_URL=program.sandbox.env["CAMPAIGN_URL"])(program)
    assert program.sync().status == 0, "the new ledger does not belong to a Campaign that never answered"


def test_doctor_finds_nothing_wrong_with_the_sandbox(program: Program) -> None:
    status, document = program.json("doctor")
    assert status == 0, document
    warned = {line["title"]: line["message"] for line in document["checks"] if line["outcome"] != "ok"}
    assert warned == {
        "alerts": "none is configured, so failures are shown in the UI only. Add `alerts` to the configuration",
        "certification": "never. `sync-assets certify` finds out how both systems behave, with synthetic records",
        "contact: look-up by externalId": "not verified: no record was sent yet. The first sync sends one "
        "alone, and others once it is found by externalId (asked with 1 engine call)",
        "contact: merged contacts": warned["contact: merged contacts"],
    }
    assert "delete_filtered_out: true" in warned["contact: merged contacts"]
    result = {line["title"]: line["message"] for line in document["checks"]}
    assert result["runs"] == "no run was killed"
    assert result["systems of the ledger"] == "none yet: the first sync stores the addresses of both systems"
    assert "the first record that is sent is read back by it" in result["contact: key can hold the id"]
    assert program.sandbox.admin.dump_campaign() == []


def test_missing_items_of_both_systems_are_reported_at_once(program: Program) -> None:
    lacking = ("D365_CLIENT_ID", "CAMPAIGN_URL", "CAMPAIGN_CLIENT_SECRET", "CAMPAIGN_SCOPES")
    env(**dict.fromkeys(lacking, ""))(program)
    result = [f"{name} is not set. Set it in the environment or in `.env`." for name in lacking]
    for command in ("sync", "plan", "rebuild", "replay contact", "init --list", "add new_order"):
        status, output, errors = program.run(*command.split())
        assert (status, output) == (1, ""), command
        lines = [line.removeprefix("sync-assets: ") for line in errors.splitlines()]
        assert lines == [*result[:-1], f"{result[-1]} `sync-assets doctor` checks the set-up."], command
    _, document = program.json("doctor")
    assert [line["message"] for line in document["checks"] if line["outcome"] == "fail"] == result


READS = [
    "status", "doctor -v", "rejects", "plan", "retry", "hold list", "hold verify 4e1c0000-0000-4000-8000-000000000001",
    "maintenance list", "alerts",
]  # fmt: skip


def test_a_command_that_only_reads_creates_no_ledger_and_reports_its_absence(program: Program) -> None:
    new = program.home / "new"
    new.mkdir()
    program.more["DAGSTER_HOME"] = str(new)
    for command in READS:
        status, output, errors = program.run(*command.split())
        assert status == command.startswith("hold verify"), errors  # not known
        entry = f"There is no ledger at {new / 'ledger.db'} yet; `sync-assets sync` creates it"
        assert entry in (output if command.startswith("doctor") else errors), command
        assert not (new / "ledger.db").exists(), command


def test_sync_says_that_it_made_a_ledger_before_it_begins(program: Program) -> None:
    program.sandbox.admin.latency("campaign", 2000)
    try:
        process = program.start("sync")
        assert process.stderr
        assert process.stderr.readline().strip() == f"sync-assets: {MADE}{program.home / 'dagster' / 'ledger.db'}"
        assert process.poll() is None
        program.sandbox.admin.latency("campaign", 0)
        process.communicate()
    finally:
        program.sandbox.admin.latency("campaign", 0)
    assert MADE not in program.run("sync")[2]


def test_sync_reports_at_once_and_seldom_that_campaign_does_not_answer(program: Program) -> None:
    """With standard error redirected, as in a script."""
    program.more["CAMPAIGN_URL"] = "https://localhost:9/acme"
    process = program.start("sync")
    try:
        assert process.stderr
        result = next((line for line in iter(process.stderr.readline, "") if "system=Campaign" in line), "")
    finally:
        process.kill()
        process.communicate()
    assert re.search(
        r"The system does not answer, requests are repeated system=Campaign until=\d\d:\d\d:\d\d UTC", result
    )
