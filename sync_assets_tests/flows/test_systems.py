"""A ledger belongs to its systems: with others nothing is asked, taken or sent, until a person says that they moved."""

from pathlib import Path
from typing import Any

import pytest

from sync_assets.runtime.systems import same_address
from sync_assets_tests.conftest import SandboxFactory
from sync_assets_tests.support.orchestra import in_memory
from sync_assets_tests.support.program import Program, calls
from sync_assets_tests.support.sandbox_process import SandboxProcess

ID = "0f3a9c12-5b7d-4e21-9a60-3c1d2e4f5a6b"
CAMPAIGN = ("CAMPAIGN_URL", "CAMPAIGN_IMS_URL", "CAMPAIGN_CLIENT_ID", "CAMPAIGN_CLIENT_SECRET", "CAMPAIGN_SCOPES")
D365 = ("D365_URL", "D365_AUTHORITY", "D365_TENANT_ID", "D365_CLIENT_ID", "D365_CLIENT_SECRET")


@pytest.fixture
def synced(program: Program) -> Program:
    """Stage: its ledger knows that its Campaign has everything."""
    assert program.sync().status == 0
    return program


@pytest.fixture
def production(sandbox_factory: SandboxFactory) -> Any:
    sandbox = sandbox_factory(contacts=7)
    yield sandbox
    sandbox.stop()


def pointed_at(program: Program, other: SandboxProcess, *variables: str) -> Program:
    program.more |= {name: other.env[name] for name in (*variables, "SYNC_ASSETS_CA_BUNDLE")}
    if "CAMPAIGN_URL" not in variables or "D365_URL" not in variables:  # two sandboxes, two authorities
        bundle = program.home / "both.pem"
        both = (program.sandbox.env["SYNC_ASSETS_CA_BUNDLE"], other.env["SYNC_ASSETS_CA_BUNDLE"])
        bundle.write_text("".join(Path(one).read_text() for one in both))
        program.more["SYNC_ASSETS_CA_BUNDLE"] = str(bundle)
    return program


COMMANDS: list[list[str]] = [
    ["sync"],
    ["sync", "--table", "contact"],
    ["plan"],
    ["estimate"],
    ["replay", "contact"],
    ["replay", "contact", "--force"],
    ["rebuild"],
    ["doctor"],
    ["certify", "--yes"],
    ["retry"],
    ["approve-deletes", "contact"],
    ["hold", "add", ID],
    ["hold", "verify", ID],
    ["maintenance", "on", "contact"],
]


@pytest.mark.parametrize("side", [CAMPAIGN, D365], ids=["campaign", "d365"])
def test_every_command_refuses_before_its_first_request(
    synced: Program, production: SandboxProcess, side: tuple[str, ...]
) -> None:
    pointed_at(synced, production, *side)
    for admin in (production.admin, synced.sandbox.admin):
        admin.clear_journal()
    for command in COMMANDS if side == CAMPAIGN else COMMANDS[:4]:
        status, output, errors = synced.run(*command)
        result = output if command == ["doctor"] else errors
        result = " ".join(result.split())  # doctor's lines are wrapped
        assert status == 1, (command, output, errors)
        assert side[0] in result, command
        assert "SYNC_ASSETS_LEDGER_URL" in result, command
        assert "accept-systems" in result, command
    for system in (production, synced.sandbox):
        assert system.admin.journal() == []
    assert production.admin.dump_campaign() == []


def test_sensors_refuse_too_until_another_ledger_is_named_or_a_person_says_that_the_systems_moved(
    synced: Program, production: SandboxProcess
) -> None:
    pointed_at(synced, production, *CAMPAIGN, *D365)
    production.admin.clear_journal()
    with in_memory(synced) as orchestra:
        for sensor in ("d365_changes", "backlog"):
            assert "CAMPAIGN_URL" in orchestra.failure(sensor)
    status, output, errors = synced.run("status", "--json")
    assert status == 0
    assert '"synced": 50' in output
    assert "CAMPAIGN_URL" in errors
    assert production.admin.journal() == []
    status, output, _ = synced.run("accept-systems")
    assert status == 0
    assert production.env["D365_URL"] in output
    assert "accept-systems --yes" in output
    assert synced.run("sync")[0] == 1

    url = synced.more.pop("SYNC_ASSETS_LEDGER_URL", "")
    synced.more["SYNC_ASSETS_LEDGER_URL"] = f"sqlite:///{synced.home}/production.db"
    assert synced.run("sync")[0] == 0
    assert len(production.admin.dump_campaign()) == 7

    synced.more["SYNC_ASSETS_LEDGER_URL"] = url
    assert synced.run("accept-systems", "--yes")[0] == 0
    assert synced.run("status")[2] == ""
    assert synced.json("doctor")[1]["checks"]
    assert synced.run("retry")[0] == 0
    status, document = synced.json("accept-systems")
    assert (document["moved"], document["accepted"]) == ({}, False)


def test_another_organisation_behind_the_same_url_is_noticed_by_its_id(synced: Program) -> None:
    runtime = synced.runtime()
    with runtime.ledger as ledger:
        ledger.systems.replace("d365", synced.sandbox.env["D365_URL"], "0b1e0000-0000-4000-8000-00000000beef")
    admin = synced.sandbox.admin
    admin.change("contact", 1, jobtitle="Chief Engineer")
    admin.clear_journal()
    for command in (["sync"], ["plan"], ["replay", "contact"], ["rebuild"], ["doctor"]):
        status, output, errors = synced.run(*command)
        result = " ".join((output if command == ["doctor"] else errors).split())
        assert status == 1, command
        assert "organisation 0b1e0000-0000-4000-8000-00000000beef" in result, command
    assert all(entry["path"].endswith("/WhoAmI") for entry in admin.journal("d365") if "contacts" in entry["path"])
    assert admin.engine_calls() == calls()
    status, document = synced.json("sync")
    assert (status, document["tables"]["contact"]["synced"]) == (1, 50)
    assert "another organisation" in document["tables"]["contact"]["problem"]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("https://mc.adobe.io/acme-mkt-stage", "https://MC.adobe.io:443/acme-mkt-stage/", True),
        ("https://mc.adobe.io/acme-mkt-stage", "https://mc.adobe.io/Acme-mkt-stage", True),
        ("https://mc.adobe.io/acme-mkt-stage", "https://mc.adobe.io/acme-mkt-prod", False),
        ("https://mc.adobe.io/acme", "https://mc.adobe.io", False),
        ("https://acme.crm4.dynamics.com", "https://acme.crm.dynamics.com", False),
        ("http://localhost:8001", "http://localhost:8002", False),
    ],
)
def test_addresses_are_compared_by_the_system_that_they_name(one: str, other: str, same: bool) -> None:
    assert same_address(one, other) is same
