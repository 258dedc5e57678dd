"""Direction d365_to_campaign: opt-outs are mapped like any field, in what they cost and show. Disabled: none is sent.

The sandbox's contacts have opt-outs of all kinds (about one in ten each), and followemail is true for most.
"""

from __future__ import annotations

import asyncio
from contextlib import closing
from typing import Any

import dagster as dg
import pytest

from sync_assets.audit.drift import drift
from sync_assets.cli.replay import replay
from sync_assets.commands.plan import plan
from sync_assets.config.values import OPT_OUT_ATTRIBUTES
from sync_assets_tests.support.plain_runs import plain_runs
from sync_assets_tests.support.program import Program, calls

N = 50
MAPPINGS: dict[str, Any] = {
    "donotemail": "blackListEmail",
    "donotphone": "denyListPhone",
    "followemail": {"to": "blackList", "inverted": True},
}
UNMAPPED = sorted({*OPT_OUT_ATTRIBUTES} - {"blackListEmail", "blackListPhone", "blackList"})


@pytest.fixture
def program(program: Program) -> Program:
    program.opt_out = {"direction": "d365_to_campaign", "mappings": dict(MAPPINGS)}
    return program


def contact_and_profile(program: Program, id_: str) -> tuple[dict[str, Any], dict[str, Any]]:
    contacts = {contact["contactid"]: contact for contact in program.sandbox.admin.dump_d365()}
    return contacts[id_], program.profiles()[id_]


def assert_opt_outs_agree(program: Program) -> None:
    profiles = program.profiles()
    for contact in program.sandbox.admin.dump_d365():
        profile = profiles[contact["contactid"]]
        assert profile["blackListEmail"] is bool(contact["donotemail"])
        assert profile["blackListPhone"] is bool(contact["donotphone"])
        assert profile["blackList"] is (contact["followemail"] is False)


def opted_out_in_campaign(program: Program, id_: str, *attributes: str) -> None:
    """Somebody sets them there."""
    told = {"resource": "profile", "pkeys": [program.profiles()[id_]["PKey"]], "set": dict.fromkeys(attributes, True)}
    program.sandbox.admin.post("/campaign/change", told)


def test_a_first_load_carries_opt_outs_in_the_insert_and_each_change_costs_one_update(program: Program) -> None:
    admin = program.sandbox.admin
    assert len({contact["donotemail"] for contact in admin.dump_d365()}) == 2
    assert len({contact["followemail"] for contact in admin.dump_d365()}) == 2
    first = program.sync()
    assert first.status == 0, first.problems
    assert first.document["engine_calls"] == admin.engine_calls() == calls(insert=N, read=2)
    program.assert_in_step()
    assert_opt_outs_agree(program)
    assert program.sync().document["engine_calls"] == calls()

    [id_] = admin.change("contact", 1, donotemail=True, donotphone=False, followemail=True)
    program.sync()
    admin.change("contact", [id_], donotemail=False)
    assert program.sync().document["engine_calls"] == calls(update=1)
    assert contact_and_profile(program, id_)[1]["blackListEmail"] is False  # opting in again travels, too
    admin.change("contact", [id_], donotemail=True)
    assert program.sync().document["engine_calls"] == calls(update=1)
    assert contact_and_profile(program, id_)[1]["blackListEmail"] is True
    assert program.sync().document["engine_calls"] == calls()

    admin.change("contact", [id_], donotphone=True, followemail=False, jobtitle="All at once")
    assert program.sync().document["engine_calls"] == calls(update=1)
    admin.change("contact", [id_], donotbulkemail=True, donotpostalmail=True)  # not mapped
    assert program.sync().document["engine_calls"] == calls()
    assert_opt_outs_agree(program)
    assert program.sync().document["engine_calls"] == calls()


def test_an_empty_column_is_no_opt_out_inverted_or_not(program: Program) -> None:
    [id_] = program.sandbox.admin.change("contact", 1, donotemail=None, donotphone=None, followemail=None)
    assert program.sync().status == 0
    contact, profile = contact_and_profile(program, id_)
    assert [contact[column] for column in MAPPINGS] == [None, None, None]
    assert [profile[name] for name in ("blackListEmail", "blackListPhone", "blackList")] == [False, False, False]
    assert_opt_outs_agree(program)


def test_attributes_that_are_not_mapped_are_never_touched(program: Program) -> None:
    admin = program.sandbox.admin
    program.sync()
    [id_] = admin.change("contact", 1, donotfax=True, donotpostalmail=True)
    opted_out_in_campaign(program, id_, *UNMAPPED)
    admin.change("contact", [id_], jobtitle="Changed")
    assert program.sync().document["engine_calls"] == calls(update=1)
    _, profile = contact_and_profile(program, id_)
    assert profile["cusJobTitle"] == "Changed"
    assert [profile[name] for name in UNMAPPED] == [True] * len(UNMAPPED)
    others = [profile for key, profile in program.profiles().items() if key != id_]
    assert not any(profile[name] for profile in others for name in UNMAPPED)


def test_a_change_made_in_campaign_stays_until_the_contact_changes_and_drift_tells_of_it(program: Program) -> None:
    program.sync()
    [id_] = program.sandbox.admin.change("contact", 1, donotemail=False)
    program.sync()
    opted_out_in_campaign(program, id_, "blackListEmail")
    assert program.sync().document["engine_calls"] == calls()
    runtime = program.runtime()
    found = asyncio.run(drift(runtime, runtime.config.table("contact")))
    runtime.close()
    assert (found.compared, found.differing) == (N, {"blackListEmail": [id_]})
    program.sandbox.admin.change("contact", [id_], jobtitle="Changed")
    program.sync()
    assert_opt_outs_agree(program)


def test_columns_of_0_and_1(program: Program) -> None:
    admin = program.sandbox.admin
    options = {"0": "No", "1": "Yes"}
    admin.post("/d365/metadata", {"table": "contact", "column": "new_nofax", "set": {"type": "Integer"}})
    admin.post(
        "/d365/metadata", {"table": "contact", "column": "new_sale", "set": {"type": "Picklist", "options": options}}
    )
    program.opt_out["mappings"] = {
        "new_nofax": "blackListFax",
        "new_sale": {"to": "ccpaOptOut", "inverted": True},
        "donotemail": "blackListEmail",
    }
    ids = [contact["contactid"] for contact in admin.dump_d365()]
    for id_, whole, choice in zip(ids, (1, 0, 7), (1, 0, 0), strict=False):
        admin.change("contact", [id_], new_nofax=whole, new_sale=choice)
    done = program.sync()
    assert (done.status, done.document["tables"]["contact"]["failed"]) == (2, 1)
    profiles = program.profiles()
    values = [(profiles[id_]["blackListFax"], profiles[id_]["ccpaOptOut"]) for id_ in (ids[0], ids[1], ids[3])]
    assert values == [(True, False), (False, True), (False, False)]  # the last one's columns are empty
    assert profiles.keys() == set(ids) - {ids[2]}  # 7 is no answer, and nobody guesses one
    _, found = program.json("rejects")
    assert [(one["id"], one["reason"].split(":")[0]) for one in found["rejects"]] == [(ids[2], "blackListFax")]

    admin.change("contact", [ids[2]], new_nofax=1)
    assert program.sync().document["engine_calls"] == calls(insert=1)
    admin.change("contact", [ids[2]], new_sale=1)
    assert program.sync().document["engine_calls"] == calls(update=1)
    _, profile = contact_and_profile(program, ids[2])
    assert (profile["blackListFax"], profile["ccpaOptOut"]) == (True, False)


def test_plan_and_a_forced_replay_count_them_as_any_field(program: Program) -> None:
    admin = program.sandbox.admin

    def planned() -> dict[str, Any]:
        runtime = program.runtime()
        try:
            return plan(runtime).document["tables"]["contact"]
        finally:
            runtime.close()

    assert planned()["engine_calls"] == calls(insert=N, read=2)
    program.sync()
    flipped = [contact["contactid"] for contact in admin.dump_d365() if not contact["donotemail"]][:3]
    admin.change("contact", flipped, donotemail=True)
    assert planned()["engine_calls"] == calls(update=3)
    assert program.sync().document["engine_calls"] == calls(update=3)

    opted_out_in_campaign(program, flipped[0], "blackListPhone")
    with closing(program.runtime()) as runtime, plain_runs():
        assert replay(runtime, "contact", force=True).problems == []
    assert program.sync().document["engine_calls"] == calls(update=N)
    assert_opt_outs_agree(program)


def test_the_lineage_of_columns_names_them(program: Program) -> None:
    program.dagster = True
    with dg.DagsterInstance.ephemeral() as instance:
        program._instance = instance
        program.sync()
        event = instance.get_latest_materialization_event(dg.AssetKey(["campaign", "profile"]))
    assert event
    assert event.asset_materialization
    lineage: Any = event.asset_materialization.metadata["dagster/column_lineage"].value
    source = dg.AssetKey(["d365", "contact"])
    assert lineage.deps_by_column["blackListEmail"] == [dg.TableColumnDep(source, "donotemail")]
    assert lineage.deps_by_column["blackList"] == [dg.TableColumnDep(source, "followemail")]


def test_while_disabled_no_opt_out_is_ever_sent_and_switching_on_sends_each_once(program: Program) -> None:
    admin = program.sandbox.admin
    program.opt_out["direction"] = "disabled"
    first = program.sync()
    assert (first.status, first.document["engine_calls"]) == (0, calls(insert=N, read=2))
    assert not any(profile[name] for profile in program.profiles().values() for name in OPT_OUT_ATTRIBUTES)
    [id_] = admin.change("contact", 1, donotemail=False, donotphone=False, followemail=True)
    opted_out_in_campaign(program, id_, *OPT_OUT_ATTRIBUTES)
    assert program.sync().document["engine_calls"] == calls()  # columns that nobody asks for
    admin.change("contact", [id_], jobtitle="Changed")
    assert program.sync().document["engine_calls"] == calls(update=1)
    _, profile = contact_and_profile(program, id_)
    assert [profile[name] for name in OPT_OUT_ATTRIBUTES] == [True] * len(OPT_OUT_ATTRIBUTES)

    program.opt_out["direction"] = "d365_to_campaign"
    assert program.sync().document["engine_calls"] == calls(update=N)
    assert_opt_outs_agree(program)
    assert program.sync().document["engine_calls"] == calls()


def test_a_trap_in_the_labels_and_a_column_that_is_no_boolean_stop_everything_before_the_first_write(
    program: Program,
) -> None:
    admin = program.sandbox.admin
    options = {"0": "No", "1": "Subscribed"}
    admin.post(
        "/d365/metadata", {"table": "contact", "column": "new_news", "set": {"type": "Boolean", "options": options}}
    )
    program.opt_out["mappings"] = {"new_news": "blackListEmail", "gendercode": "ccpaOptOut", "donotfx": "blackListFax"}
    told = [  # in the order of the file, which `Program` sorts
        "`donotfx`: contact has no such column; did you mean `donotfax`?",
        "`gendercode`: a choice of 1, 2 cannot become true or false without loss; name a column with two options, or a "
        "whole number or choice of 0 and 1",
        "`new_news`: true is labelled `Subscribed`, so it means allow, and true in `blackListEmail` means do not; "
        "write `new_news: {to: blackListEmail, inverted: true}`",
    ]
    done = program.sync()
    assert done.status == 1
    said = f"mapped columns do not fit: {'; '.join(told)}"
    assert str(done.problems[0]) == f"contact was not synchronised, nothing was written: {said}"
    assert admin.engine_calls() == calls()
    assert admin.dump_campaign() == []
    status, document = program.json("doctor")
    assert status == 1
    assert [line["message"] for line in document["checks"] if line["outcome"] == "fail"] == ["; ".join(told)]

    program.opt_out["mappings"] = {"new_news": {"to": "blackListEmail", "inverted": True}}
    assert program.sync().status == 0
    assert program.sandbox.admin.engine_calls() == calls(insert=N, read=2)


def test_doctor_is_content_with_a_direction_that_is_carried_out(program: Program) -> None:
    status, document = program.json("doctor")
    assert (status, [line for line in document["checks"] if line["outcome"] == "fail"]) == (0, [])
