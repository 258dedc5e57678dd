"""Opt-outs by whole runs: every row of the truth table in every direction, and no echo of any of it."""

from __future__ import annotations

import itertools
import time
from datetime import UTC, datetime, timedelta

import pytest

from sync_assets.config.opt_out import ActiveDirection
from sync_assets.opt_out.decide import decide
from sync_assets_tests.support.opt_outs import (
    HOUR,
    assert_quiet,
    audit,
    in_d365,
    modified,
    set_campaign,
    set_d365,
    sides,
    switch_on,
    write_file,
    writes,
)
from sync_assets_tests.support.premises import DOCUMENTED, on_positions
from sync_assets_tests.support.program import Program, calls

N = 50
DIRECTIONS: list[ActiveDirection] = ["campaign_to_d365", "bidirectional"]


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_truth_table_end_to_end(program: Program, direction: ActiveDirection) -> None:
    """One contact for each pair of values and each order of times; one sync later both hold what the rule says."""
    switch_on(program, direction)
    admin = program.sandbox.admin
    assert program.sync().status == 0
    ids = sorted(program.profiles())
    expected: dict[str, tuple[bool, bool]] = {}
    cases = itertools.product((False, True), (False, True), ("older", "newer", "never"))
    for id_, (d365, campaign, campaign_time) in zip(ids, cases, strict=False):
        set_d365(program, id_, donotemail=not d365)
        set_d365(program, id_, donotemail=d365)
        record_time = modified(program, id_)
        changed = {"older": record_time - HOUR, "newer": record_time + HOUR / 2, "never": None}[campaign_time]
        if changed is None and campaign != sides(program, id_)[1]:
            continue  # a value that differs from the default was changed at some time
        if changed is not None:
            set_campaign(program, id_, changed, blackListEmail=campaign)
        d365_now, campaign_now = sides(program, id_)
        decision = decide(direction, d365_now, record_time, campaign_now, changed)
        expected[id_] = (
            decision.value if decision.write == "d365" else d365_now,
            decision.value if decision.write == "campaign" else campaign_now,
        )
    assert len(expected) >= 10
    admin.export()
    done = program.sync()
    assert done.status == 0, (done.problems, done.stopped)
    assert {id_: sides(program, id_) for id_ in expected} == expected
    assert done.document["opt_out"]["files_processed"] == 1
    assert_quiet(program)
    assert {id_: sides(program, id_) for id_ in expected} == expected


def test_the_first_load_carries_opt_outs_and_costs_no_more_than_an_insert_each(program: Program) -> None:
    switch_on(program, "bidirectional")
    done = program.sync()
    assert done.status == 0, done.problems
    assert done.document["engine_calls"] == calls(insert=N, read=2)
    opted_out = 0
    for contact in program.sandbox.admin.dump_d365():
        d365, campaign = sides(program, contact["contactid"])
        assert d365 == campaign
        opted_out += d365
    assert opted_out
    assert_quiet(program)


@on_positions(DOCUMENTED, "no key in a PATCH", quick=(DOCUMENTED, "no key in a PATCH"))
def test_an_opt_out_in_d365_arrives_in_campaign_with_one_read_and_one_update(program: Program) -> None:
    switch_on(program, "bidirectional")
    program.sync()
    id_ = next(id_ for id_, profile in program.profiles().items() if not profile["blackListEmail"])
    set_d365(program, id_, donotemail=True)
    done = program.sync()
    assert done.document["engine_calls"] == calls(read=1, update=1)
    assert done.document["opt_out"]["to_campaign"] == 1
    assert sides(program, id_) == (True, True)
    assert_quiet(program)


def test_what_we_wrote_does_not_come_back_as_news(program: Program) -> None:
    """Our write to D365 stands in the change feed, our write to Campaign in the next file."""
    switch_on(program, "bidirectional")
    program.sync()
    ours, theirs = [id_ for id_, profile in sorted(program.profiles().items()) if not profile["blackListEmail"]][:2]
    set_d365(program, ours, donotemail=True)
    set_campaign(program, theirs, blackListEmail=True)
    program.sandbox.admin.export()
    first = program.sync().document["opt_out"]
    assert (first["to_d365"], first["to_campaign"]) == (1, 1)
    program.sandbox.admin.export(name="optout_20991231_235959.csv")
    assert_quiet(program)
    assert sides(program, ours) == sides(program, theirs) == (True, True)


def test_a_contact_changed_for_another_reason_after_an_opt_in_in_campaign_keeps_true(program: Program) -> None:
    switch_on(program, "bidirectional")
    program.sync()
    id_ = next(id_ for id_, profile in program.profiles().items() if profile["blackListEmail"])
    set_campaign(program, id_, modified(program, id_) + timedelta(seconds=1), blackListEmail=False)
    program.sandbox.admin.export()
    while datetime.now(UTC).replace(microsecond=0) <= modified(program, id_) + timedelta(seconds=1):
        pass
    program.sandbox.admin.change("contact", [id_], fax="+1 555 0100")
    done = program.sync()
    assert done.status == 0
    assert sides(program, id_) == (True, True)
    assert_quiet(program)


def test_an_opt_in_in_campaign_newer_than_d365_carries_false_back(program: Program) -> None:
    switch_on(program, "bidirectional")
    program.sync()
    id_ = next(id_ for id_, profile in program.profiles().items() if profile["blackListEmail"])
    set_campaign(program, id_, modified(program, id_) + HOUR / 2, blackListEmail=False)
    program.sandbox.admin.export()
    assert program.sync().document["opt_out"]["to_d365"] == 1
    assert sides(program, id_) == (False, False)
    assert_quiet(program)


def test_of_a_contact_only_the_mapped_opt_out_is_written_and_of_a_profile_nothing_that_is_not_mapped(
    program: Program,
) -> None:
    switch_on(program, "bidirectional")
    program.sync()
    admin = program.sandbox.admin
    opted_out = [id_ for id_ in sorted(program.profiles()) if sides(program, id_) == (True, True)]
    back, there = opted_out[0], next(id_ for id_ in sorted(program.profiles()) if sides(program, id_) == (False, False))
    set_campaign(program, back, modified(program, back) + HOUR / 2, blackListEmail=False)
    set_d365(program, there, donotemail=True)
    admin.export()
    rows, profiles = {row["contactid"]: row for row in admin.dump_d365()}, program.profiles()
    program.sync()
    row, profile = in_d365(program, back), program.profiles()[there]
    stamps = {"modifiedon", "versionnumber", "_modifiedby_value", "@odata.etag"}
    assert {name for name in row if row[name] != rows[back].get(name)} - stamps == {"donotemail"}
    changed = {name for name in profile if profile[name] != profiles[there].get(name)}
    assert {name for name in changed if not name.lower().startswith("lastmodified")} <= {
        "blackListEmail",
        "blackListEmailLastModified",
    }
    assert "blackListEmail" in changed


def test_the_same_file_twice_and_a_stale_one_write_nothing(program: Program) -> None:
    switch_on(program, "campaign_to_d365")
    program.sync()
    id_ = next(id_ for id_ in sorted(program.profiles()) if sides(program, id_) == (False, False))
    row = f"{id_},%s,%s,0,\n"
    header = "externalId,blackListEmail,blackListEmailLastModified,blackListPhone,blackListPhoneLastModified\n"
    write_file(program, header + row % (1, "2026-11-20T10:00:00.000Z"), "optout_20261120_110000.csv")
    assert program.sync().document["opt_out"]["to_d365"] == 1
    since = program.sandbox.admin.last()
    write_file(program, header + row % (1, "2026-11-20T10:00:00.000Z"), "optout_20261121_110000.csv")
    write_file(program, header + row % (0, "2026-11-19T10:00:00.000Z"), "optout_20261119_110000.csv")
    done = program.sync()
    assert done.document["opt_out"] | {"files_processed": 2, "to_d365": 0} == done.document["opt_out"]
    assert writes(program, since)["d365"] == 0
    assert in_d365(program, id_)["donotemail"] is True


@pytest.mark.parametrize("direction", ["disabled", "d365_to_campaign"])
def test_directions_without_a_way_back_leave_files_alone(program: Program, direction: str) -> None:
    switch_on(program, direction)
    program.sync()
    id_ = next(id_ for id_ in sorted(program.profiles()) if sides(program, id_) == (False, False))
    set_campaign(program, id_, blackListEmail=True)
    program.sandbox.admin.export()
    done = program.sync()
    assert done.status == 0
    assert done.document["opt_out"]["files_processed"] == 0
    assert in_d365(program, id_)["donotemail"] is False


def test_a_profile_that_was_there_before_never_loses_its_opt_out(program: Program) -> None:
    switch_on(program, "bidirectional")
    admin = program.sandbox.admin
    plain = next(row for row in admin.dump_d365() if not row["donotemail"])
    admin.add_profiles({"email": "before@example.org", "externalId": plain["contactid"], "blackListEmail": True})
    done = program.sync()
    assert done.status == 0, (done.problems, done.stopped)
    assert sides(program, plain["contactid"]) == (True, True)
    # The list before the first load has shown what it holds, so it is not asked again.
    assert done.document["engine_calls"] == calls(insert=N - 1, update=1, read=2)
    assert_quiet(program)


def test_a_file_named_by_a_clock_ahead_of_ours_makes_nothing_newer_than_it_is(program: Program) -> None:
    """A server in another zone names files by its own time; a row whose value flips tells no new time of change."""
    switch_on(program, "bidirectional")
    program.sync()
    id_ = next(id_ for id_ in sorted(program.profiles()) if sides(program, id_) == (False, False))
    now = datetime.now(UTC)
    header = "externalId,blackListEmail,blackListEmailLastModified,blackListPhone\n"
    rows = "".join(f"{id_},{value},{now:%Y-%m-%dT%H:%M:%S}.000Z,\n" for value in (1, 0))
    write_file(program, header + rows, f"optout_{now + 9 * HOUR:%Y%m%d_%H%M%S}.csv")
    assert program.sync().status == 0
    time.sleep(1.1)
    set_d365(program, id_, donotemail=True)
    assert program.sync().status == 0
    assert sides(program, id_) == (True, True)
    assert_quiet(program)


def test_a_file_named_by_a_clock_behind_ours_loses_no_change_without_a_time(program: Program) -> None:
    """A workflow in America names files by its own time, five hours before it writes them."""
    switch_on(program, "bidirectional")
    program.sync()
    id_ = next(id_ for id_ in sorted(program.profiles()) if sides(program, id_) == (False, False))

    def said_by_campaign(value: bool) -> None:
        set_campaign(program, id_, modified(program, id_) + timedelta(minutes=1), blackListEmail=value)
        name = f"optout_{datetime.now(UTC) - 5 * HOUR:%Y%m%d_%H%M%S}_{value}.csv"
        write_file(program, f"externalId,blackListEmail,blackListPhone\n{id_},{int(value)},\n", name)
        assert program.sync().status == 0

    set_d365(program, id_, donotemail=True)
    assert program.sync().status == 0
    said_by_campaign(False)
    assert sides(program, id_) == (False, False)
    said_by_campaign(True)
    assert sides(program, id_) == (True, True)
    assert_quiet(program)


def test_sync_polls_profiles_when_that_is_due_and_carries_what_it_finds(program: Program) -> None:
    switch_on(program, "bidirectional")
    program.sync()
    program.opt_out["poll_profiles_minutes"] = 5
    id_ = next(id_ for id_ in sorted(program.profiles()) if sides(program, id_) == (False, False))
    set_campaign(program, id_, blackListEmail=True)
    done = program.sync()
    assert (done.status, done.document["engine_calls"]) == (0, calls(read=1)), done.problems
    assert done.document["opt_out"] | {"files_processed": 0, "to_d365": 1} == done.document["opt_out"]
    assert sides(program, id_) == (True, True)
    assert program.sync().document["engine_calls"] == calls()  # the next one is not due yet
    assert_quiet(program)


def test_every_decision_stands_in_the_audit(program: Program) -> None:
    switch_on(program, "bidirectional")
    program.sync()
    id_ = next(id_ for id_, profile in program.profiles().items() if profile["blackListEmail"])
    changed = (modified(program, id_) + HOUR / 2).replace(microsecond=0)
    set_campaign(program, id_, changed, blackListEmail=False)
    name = program.sandbox.admin.export()
    program.sync()
    [decision] = [one._asdict() for one in audit(program) if one.contact == id_]
    assert (
        decision
        | {
            "column": "donotemail",
            "attribute": "blackListEmail",
            "d365": True,
            "campaign": False,
            "campaign_changed": changed,
            "value": False,
            "write": "d365",
            "reason": "Campaign is newer",
        }
        == decision
    )
    assert decision["source"].startswith(f"{name}@")
    assert decision["d365_modified"] < decision["campaign_changed"]
