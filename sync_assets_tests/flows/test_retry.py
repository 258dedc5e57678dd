"""`rejects` and `retry`: what another try may help, and what needs other data or another mapping."""

from __future__ import annotations

from typing import Any

import pytest

from sync_assets_tests.support.program import CONTACT, Program


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


def test_retry_helps_what_campaign_refused_and_says_what_the_mapping_refuses(refusing: Program) -> None:
    by_campaign, by_mapping = keys(refusing)[:2]
    assert {key: one["retryable"] for key, one in rejects(refusing).items()} == {by_campaign: True, by_mapping: False}

    status, output, _ = refusing.run("retry", "contact", "--id", by_mapping)
    assert status == 0
    assert "1 record stays refused" in output
    assert "other data in Dynamics 365 or another mapping" in output
    assert "pending" not in output

    assert refusing.json("retry", "contact") == (0, {"retried": 1, "not_retryable": 1})
    assert rejects(refusing).keys() == {by_mapping}

    refusing.sandbox.admin.change("contact", [by_mapping], jobtitle="Short")
    refusing.sandbox.admin.change("contact", [by_campaign], emailaddress1="right@example.org")
    assert refusing.sync().status == 0
    for id_ in (by_mapping, "foo"):
        status, output, errors = refusing.run("retry", "contact", "--id", id_)
        assert (status, output) == (1, "")
        assert f"No record {id_} of contact is rejected. `sync-assets rejects` lists the records that are." in errors


def test_an_answer_without_a_cause_is_no_rejection_and_says_what_to_do(program: Program) -> None:
    """Campaign's answer is a line that names no cause, at each attempt."""
    program.sandbox.admin.change("contact", keys(program)[:1], emailaddress1="not-an-address")
    assert program.sync().status == 2
    assert rejects(program) == {}
    [retried] = program.json("rejects", "--retried")[1]["retried"]
    assert retried["attempts"] == 4
    assert retried["reason"] == (
        "RST-360011 An error has occurred - please contact your administrator. Campaign named no cause; open the "
        "record in Campaign, check e-mail and lengths."
    )
