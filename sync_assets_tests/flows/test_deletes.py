"""Deletions in D365 reach Campaign if the table says so; a mass deletion waits for a person."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from sync_assets_tests.conftest import SandboxFactory
from sync_assets_tests.support.program import CONTACT, Program, calls, capture


@pytest.fixture
def deleting(program: Program) -> Program:
    program.table = {**CONTACT, "apply_deletes": True}
    program.sync()
    return program


def test_a_deleted_contact_costs_a_look_and_a_delete(deleting: Program) -> None:
    deleting.sandbox.admin.delete("contact", 2)
    # The first one finds out that the key is not taken, and is seen to be gone.
    assert deleting.sync().document["engine_calls"] == calls(delete=3, read=3)
    deleting.assert_in_step()
    assert deleting.sync().document["engine_calls"] == calls()


@pytest.mark.parametrize(
    ("campaign", "first", "cost"),
    [
        # The key is tried first: it is taken, and the answer verified; or not, so the record is looked up.
        ({"delete_by_key": True}, calls(delete=3, read=1), 1),
        ({}, calls(delete=4, read=4), 2),
        ({"key_in_url": False}, calls(delete=3, read=4), 2),  # by the filter
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
    lines = {line["what"]: line["message"] for line in deleting.json("doctor")[1]["checks"]}
    assert f"what is pending of contact costs about {5 * cost}" in lines["contact: engine calls are within the budget"]
    doctors = deleting.json("status")[1]["engine_calls"]["read"] - before[0]["read"]
    assert deleting.sync().document["engine_calls"] == planned["engine_calls"]
    after = deleting.json("status")[1]["engine_calls"], admin.engine_calls()
    for now, then in zip(after, before, strict=True):
        assert {kind: now[kind] - then[kind] for kind in now} == calls(delete=5, read=5 * (cost - 1) + doctors)
    deleting.assert_in_step()


def test_without_apply_deletes_the_profile_stays(program: Program) -> None:
    program.sync()
    program.sandbox.admin.delete("contact", 2)
    assert program.sync().document["engine_calls"] == calls()
    assert len(program.profiles()) == 50


def test_a_contact_made_and_deleted_between_two_syncs_costs_nothing(deleting: Program) -> None:
    made = deleting.sandbox.admin.create("contact", {"lastname": "Brief"})
    deleting.sandbox.admin.delete("contact", made)
    assert deleting.sync().document["engine_calls"] == calls()


def test_a_profile_that_is_gone_already_is_done(deleting: Program) -> None:
    [key] = deleting.sandbox.admin.delete("contact", 1)
    pkey = deleting.profiles()[key]["PKey"]
    deleting.sandbox.admin.post("/campaign/delete", {"resource": "profile", "pkeys": [pkey]})
    assert deleting.sync().status == 0
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
    for _ in range(2):
        done = program.sync()
        assert (done.status, done.problems, done.document["engine_calls"]) == (2, [], calls())
        assert "20 deletions are held back" in done.stopped[0]
        assert "approve-deletes contact" in done.stopped[0]
    assert len(program.profiles()) == 114
    _, output, errors = program.run("sync")
    assert "".join((output, errors)).count("20 deletions are held back") == 1

    assert program.run("approve-deletes", "contact")[0] == 0
    assert program.sync().document["engine_calls"] == calls(delete=20, read=20)
    program.assert_in_step()

    admin.delete("contact", 20)  # approved once, not for ever; a day ago there were more than a hundred records
    assert "20 deletions are held back" in program.sync().stopped[0]


def test_deletions_in_small_portions_are_counted_over_a_day(sandbox_factory: SandboxFactory, tmp_path: Path) -> None:
    program = Program(sandbox_factory(contacts=200), tmp_path, {**CONTACT, "apply_deletes": True})
    admin = program.sandbox.admin
    program.sync()
    for _ in range(2):
        admin.delete("contact", 4)
        assert program.sync().status == 0
    admin.delete("contact", 4)  # 12 of 200 in a day
    done = program.sync()
    assert "4 deletions are held back" in done.stopped[0]
    assert len(program.profiles()) == 192
    assert program.run("approve-deletes", "contact")[0] == 0
    assert program.sync().status == 0
    assert len(program.profiles()) == 188
    admin.delete("contact", 2)  # those that were approved do not count
    assert program.sync().status == 0
    admin.delete("contact", 1)
    assert program.sync().status == 2
    assert len(program.profiles()) == 186


def test_a_mass_deletion_spread_over_pages_and_interruptions_is_noticed_all_the_same(
    sandbox_factory: SandboxFactory, tmp_path: Path
) -> None:
    program = Program(sandbox_factory(contacts=200), tmp_path, {**CONTACT, "apply_deletes": True})
    program.sync()
    program.sandbox.admin.delete("contact", 60)
    runtime = program.runtime()
    for _ in range(12):
        result = capture(runtime, page_size=4, apply_deletes=True, max_delete_share=0.05)
        assert "max_delete_share allows 10" in str(result.held_back)
        assert runtime.ledger.reports.counts()["contact"].pending == 0
    runtime.ledger.feeds.approve_deletes("contact")
    assert capture(runtime, page_size=4, apply_deletes=True, max_delete_share=0.05).deleted >= 50
    feed = runtime.ledger.feeds.feed("contact")
    assert feed is not None
    assert (feed.deletes, feed.deletes_approved) == (0, False)
    runtime.close()
    program.sync()
    program.assert_in_step()


def test_apply_deletes_switched_on_later_holds_for_earlier_deletions_at_the_next_full_read(program: Program) -> None:
    program.sync()
    program.sandbox.admin.delete("contact", 2)
    program.sync()
    program.table = {**CONTACT, "apply_deletes": True}
    assert program.sync().document["engine_calls"] == calls()
    program.run("replay", "contact")
    program.sync()
    program.assert_in_step()
