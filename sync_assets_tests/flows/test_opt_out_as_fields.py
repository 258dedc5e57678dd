"""Direction d365_to_campaign: opt-outs are mapped like any field, in what they cost and show. Disabled: none is sent.

The sandbox's contacts have opt-outs of all kinds (about one in ten each), and followemail is true for most.
"""

from typing import Any

import pytest

from sync_assets.config.values import OPT_OUT_ATTRIBUTES
from sync_assets_tests.support.program import Program, calls

N = 50
MAPPINGS: dict[str, Any] = {
    "donotemail": "blackListEmail",
    "donotphone": "denyListPhone",
    "followemail": {"to": "blackList", "inverted": True},
}


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
    result = {"resource": "profile", "pkeys": [program.profiles()[id_]["PKey"]], "set": dict.fromkeys(attributes, True)}
    program.sandbox.admin.post("/campaign/change", result)


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
