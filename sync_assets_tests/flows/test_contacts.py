"""Contacts become profiles, change and go: what a sync costs, what it leaves alone, and what is rejected."""

from contextlib import closing
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from sync_assets.commands.document_schema import schema
from sync_assets_tests.conftest import SandboxFactory
from sync_assets_tests.support.premises import DOCUMENTED, V8, on_positions
from sync_assets_tests.support.program import CONTACT, Program, calls, capture

N = 50
KEPT = {"mobilephone": "mobilePhone", "address1_city": "location.city"}


@on_positions(DOCUMENTED, V8, quick=(DOCUMENTED, V8))
def test_a_first_load_costs_an_insert_each_and_afterwards_only_changes_cost(program: Program) -> None:
    admin = program.sandbox.admin
    first = program.sync()
    assert first.status == 0, first.problems
    assert first.document["engine_calls"] == admin.engine_calls() == calls(insert=N, read=2)
    jsonschema.validate(first.document, schema() | {"$ref": "#/$defs/SyncDocument"})
    zeros = (
        "pending",
        "waiting",
        "rejected",
        "held",
        "orphaned",
        "excluded",
        "deletes_held_back",
        "unconfirmed",
        "loading",
    )
    assert first.document["tables"]["contact"] == {
        **dict.fromkeys(zeros, 0),
        **dict.fromkeys(("retried", "unconfirmed_until", "maintenance_since", "problem", "load")),
        "waiting_for": {},
        "kept_values": {},
        "deletes_following": {},
        "deletes_orphaning": {},
        "refused_in_updates": [],
        "updated_by_file": [],
        "comparison_due": False,
        "in_step_but_for": {"records": 0, "not_known": 0},
        "resource": "profile",
        "synced": N,
        "feed": first.document["tables"]["contact"]["feed"],
    }
    program.assert_in_step()

    assert program.sync().document["engine_calls"] == calls()

    admin.change("contact", 1, jobtitle="Mapped")
    assert program.sync().document["engine_calls"] == calls(update=1)

    admin.change("contact", 1, fax="+1 555 0100")
    assert program.sync().document["engine_calls"] == calls()

    admin.change("contact", 1, birthdate="1990-01-02")  # apply_updates: false
    assert program.sync().document["engine_calls"] == calls()
    program.assert_in_step()

    admin.delete("contact", 2)  # apply_deletes is off
    assert program.sync().document["engine_calls"] == calls()
    assert len(program.profiles()) == N
    assert admin.engine_calls() == calls(insert=N, update=1, read=2)


def test_an_empty_value_leaves_campaigns_with_keep_if_empty(program: Program) -> None:
    admin = program.sandbox.admin
    kept = {column: {"to": to, "keep_if_empty": True} for column, to in KEPT.items()}
    program.table = {**CONTACT, "fields": {**CONTACT["fields"], **kept}}
    [ada] = admin.change("contact", 1, mobilephone="+1 555 0100", address1_city="London", jobtitle="Before")
    [new] = admin.create("contact", {"firstname": "Bob"})
    assert program.sync().document["engine_calls"] == calls(insert=N + 1, read=2)
    before = program.profiles()[ada]

    admin.change("contact", [ada], mobilephone=None, address1_city=None, jobtitle="After")
    assert program.json("plan")[1]["tables"]["contact"]["update"] == 1
    assert program.sync().document["engine_calls"] == calls(update=1)
    assert {**program.profiles()[ada], "cusJobTitle": "Before", "lastModified": ""} == {**before, "lastModified": ""}

    for id_ in (ada, new):
        status, document = program.json("explain", id_)
        assert (status, document["tables"]["contact"]["differs"]) == (0, [])
        ways = {way["attribute"]: way for way in document["tables"]["contact"]["attributes"]}
        assert {(ways[to]["kept"], ways[to]["equal"]) for to in KEPT.values()} == {(True, None)}
    assert program.run("explain", ada)[1].count("(keep_if_empty)") == 2


@pytest.fixture
def refusing(program: Program) -> Program:
    """One contact that Campaign refuses, one that the mapping refuses."""
    admin = program.sandbox.admin
    admin.settings("campaign", bare_data_policy=False)
    admin.change("contact", keys(program)[:1], emailaddress1="not-an-address")
    admin.change("contact", keys(program)[1:2], jobtitle="x" * 100)
    program.table = {**CONTACT, "fields": {**CONTACT["fields"], "jobtitle": "cusJobTitle"}}
    assert program.sync().status == 2
    return program


def keys(program: Program) -> list[str]:
    return [row["contactid"] for row in program.sandbox.admin.dump_d365()]


def rejects(program: Program) -> dict[str, dict[str, Any]]:
    return {one["id"]: one for one in program.json("rejects")[1]["rejects"]}


def test_a_rejected_row_stops_no_other_and_retry_helps_only_records_that_campaign_refused(refusing: Program) -> None:
    by_campaign, by_mapping = keys(refusing)[:2]
    contact = refusing.json("status")[1]["tables"]["contact"]
    assert (contact["rejected"], contact["synced"]) == (2, N - 2)
    rejected = rejects(refusing)
    assert {key: one["retryable"] for key, one in rejected.items()} == {by_campaign: True, by_mapping: False}
    assert (rejected[by_campaign]["table"], rejected[by_campaign]["attempts"]) == ("contact", 1)
    assert "email" in rejected[by_campaign]["reason"].lower()
    assert "not-an-address" not in str(rejected)
    assert refusing.sync().document["engine_calls"] == calls()  # a rejected record is not sent again by itself

    status, output, _ = refusing.run("retry", "contact", "--id", by_mapping)
    assert status == 0
    assert "1 record stays rejected" in output
    assert "other data in Dynamics 365 or another mapping" in output
    assert "pending" not in output

    assert refusing.json("retry", "contact") == (0, {"retried": 1, "not_retryable": 1})
    assert rejects(refusing).keys() == {by_mapping}
    assert refusing.sync().document["engine_calls"] == calls(insert=1)

    refusing.sandbox.admin.change("contact", [by_mapping], jobtitle="Short")
    refusing.sandbox.admin.change("contact", [by_campaign], emailaddress1="right@example.org")
    assert refusing.sync().status == 0
    for id_ in (by_mapping, "foo"):
        status, output, errors = refusing.run("retry", "contact", "--id", id_)
        assert (status, output) == (1, "")
        assert f"No record {id_} of contact is rejected. `sync-assets rejects` lists the records that are." in errors


@pytest.fixture
def deleting(program: Program) -> Program:
    program.table = {**CONTACT, "apply_deletes": True}
    program.sync()
    return program


@pytest.mark.parametrize(
    ("campaign", "first", "cost"),
    [
        # The key is tried first: it is taken, and the answer verified; or not, so the record is looked up.
        pytest.param({"delete_by_key": True}, calls(delete=3, read=1), 1, marks=pytest.mark.premises),
        ({}, calls(delete=4, read=4), 2),
        pytest.param({"key_in_url": False}, calls(delete=3, read=4), 2, marks=pytest.mark.premises),  # by the filter
    ],
    ids=["deletes by key", "no deletes by key", "no keys in URLs"],
)
def test_plan_estimate_status_and_doctor_count_the_calls_of_deletes_that_are_sent(
    deleting: Program, campaign: dict[str, Any], first: dict[str, int], cost: int
) -> None:
    admin = deleting.sandbox.admin
    admin.settings("campaign", **campaign)
    if campaign == {"key_in_url": False}:
        deleting.table = deleting.table | {"filter": {"name": "byExternalId", "parameter": "externalId_parameter"}}
    admin.change("contact", 1, jobtitle="Changed")  # shows whether the key is taken in URLs
    deleting.sync()
    admin.delete("contact", 3)
    _, planned = deleting.json("plan")
    assert deleting.sync().document["engine_calls"] == first
    if cost == 1:
        assert [note for note in planned["notes"] if "they cost one each if it does" in note]
    else:
        assert planned["engine_calls"] == first

    before = deleting.json("status")[1]["engine_calls"], admin.engine_calls()
    admin.delete("contact", 5)
    with closing(deleting.runtime()) as runtime:
        capture(runtime, apply_deletes=True, max_delete_share=1.0)
    _, planned = deleting.json("plan")
    assert not [note for note in planned["notes"] if "deletes by the key" in note]
    assert planned["engine_calls"] == calls(delete=5, read=5 * (cost - 1))
    assert deleting.json("estimate")[1]["tables"]["contact"]["cost"]["delete"] == cost
    lines = {line["title"]: line["message"] for line in deleting.json("doctor")[1]["checks"]}
    assert f"what is pending of contact costs about {5 * cost}" in lines["contact: engine calls are within the budget"]
    doctors = deleting.json("status")[1]["engine_calls"]["read"] - before[0]["read"]
    assert deleting.sync().document["engine_calls"] == planned["engine_calls"]
    after = deleting.json("status")[1]["engine_calls"], admin.engine_calls()
    for now, then in zip(after, before, strict=True):
        assert {kind: now[kind] - then[kind] for kind in now} == calls(delete=5, read=5 * (cost - 1) + doctors)
    deleting.assert_in_step()


def test_a_mass_deletion_stops_before_the_first_delete_until_it_is_approved(
    sandbox_factory: SandboxFactory, tmp_path: Path
) -> None:
    program = Program(sandbox_factory(contacts=120), tmp_path, {**CONTACT, "apply_deletes": True})
    admin = program.sandbox.admin
    program.sync()
    admin.delete("contact", 6)  # 5 % of 120: the most that goes without asking
    assert program.sync().document["engine_calls"] == calls(delete=7, read=7)

    admin.delete("contact", 20)
    planned = program.json("plan")[1]
    assert (planned["tables"]["contact"]["deletes_held_back"], planned["engine_calls"]) == (20, calls())
    assert "approve-deletes contact" in planned["notes"][0]
    for _ in range(2):
        done = program.sync()
        assert (done.status, done.problems, done.document["engine_calls"]) == (2, [], calls())
        assert "20 deletions are held back" in done.stopped[0]
        assert "approve-deletes contact" in done.stopped[0]
    assert len(program.profiles()) == 114
    _, output, errors = program.run("sync")
    assert "".join((output, errors)).count("20 deletions are held back") == 1

    assert program.run("approve-deletes", "contact")[0] == 0
    assert program.json("plan")[1]["engine_calls"] == calls(delete=20, read=20)
    assert program.sync().document["engine_calls"] == calls(delete=20, read=20)
    program.assert_in_step()

    admin.delete("contact", 20)  # approved once, not for ever; a day ago there were more than a hundred records
    assert "20 deletions are held back" in program.sync().stopped[0]
