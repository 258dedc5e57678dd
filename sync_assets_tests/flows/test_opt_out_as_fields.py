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


def assert_opt_outs_agree(program: Program) -> None:
    profiles = program.profiles()
    for contact in program.sandbox.admin.dump_d365():
        profile = profiles[contact["contactid"]]
        assert profile["blackListEmail"] is bool(contact["donotemail"])
        assert profile["blackListPhone"] is bool(contact["donotphone"])
        assert profile["blackList"] is (contact["followemail"] is False)


def test_no_opt_out_is_sent_while_disabled_and_then_each_once_with_its_record(program: Program) -> None:
    admin = program.sandbox.admin
    for column in ("donotemail", "followemail"):
        assert len({contact[column] for contact in admin.dump_d365()}) == 2

    def synced() -> dict[str, int]:
        done = program.sync()
        assert done.status == 0, done.problems
        return done.document["engine_calls"]

    program.opt_out["direction"] = "disabled"
    assert synced() == calls(insert=N, read=2)
    assert not any(profile[name] for profile in program.profiles().values() for name in OPT_OUT_ATTRIBUTES)
    [id_] = admin.change("contact", 1, donotemail=False, donotphone=False, followemail=True)
    by_hand = {"resource": "profile", "keys": [id_], "set": dict.fromkeys(OPT_OUT_ATTRIBUTES, True)}
    admin.post("/campaign/change", by_hand)
    assert synced() == calls()  # columns that are not mapped
    admin.change("contact", [id_], jobtitle="Changed")
    assert synced() == calls(update=1)
    assert all(program.profiles()[id_][name] for name in OPT_OUT_ATTRIBUTES)

    program.opt_out["direction"] = "d365_to_campaign"
    assert synced() == calls(update=N)
    assert_opt_outs_agree(program)
    assert synced() == calls()
    admin.create("contact", {"lastname": "New", "donotemail": True, "donotphone": False, "followemail": False})
    assert synced() == calls(insert=1)
    for opted_out in (True, False, True):  # opting in again travels, too
        admin.change("contact", [id_], donotemail=opted_out)
        assert synced() == calls(update=1)
        assert program.profiles()[id_]["blackListEmail"] is opted_out
    admin.change("contact", [id_], donotphone=True, followemail=False, jobtitle="All at once")
    assert synced() == calls(update=1)
    admin.change("contact", [id_], donotbulkemail=True, donotpostalmail=True)  # not mapped
    assert synced() == calls()
    assert_opt_outs_agree(program)
