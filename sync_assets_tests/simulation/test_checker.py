"""The checker finds nothing in a correct history, and exactly the broken rule in one that breaks it."""

from dataclasses import replace
from typing import Any

import pytest

from sync_assets_tests.simulation import opt_out_histories, record_histories
from sync_assets_tests.simulation.checker import RULES, check
from sync_assets_tests.simulation.handwritten import Change, HandwrittenHistory, correct
from sync_assets_tests.simulation.observed import RecordChange

HISTORIES = [*record_histories.HISTORIES, *opt_out_histories.HISTORIES]


def _codes(history: HandwrittenHistory) -> set[str]:
    return {violation.rule for violation in check(history.observed())}


@pytest.mark.parametrize("direction", ["disabled", "d365_to_campaign", "campaign_to_d365", "bidirectional"])
def test_a_correct_history_breaks_no_rule(direction: str) -> None:
    assert check(correct(direction).observed()) == []


@pytest.mark.parametrize(
    ("rule", "direction", "change"), [pytest.param(*one, id=f"{one[2].__name__}-{one[1]}") for one in HISTORIES]
)
def test_a_history_breaks_its_rule_and_no_other(rule: str, direction: str, change: Change) -> None:
    history = correct(direction)
    change(history)
    assert _codes(history) == ({rule} if rule else set())


def test_each_rule_has_a_history_that_breaks_it() -> None:
    assert {rule.__name__ for rule in RULES} == {rule for rule, _, _ in HISTORIES if rule}


@pytest.mark.parametrize("seen", [True, False])
@pytest.mark.parametrize("child", ["l1", "l2"], ids=["deleted", "rejected"])
def test_a_parent_of_a_child_that_a_late_import_inserts_may_go_unless_an_answer_shows_the_child(
    child: str, seen: bool
) -> None:
    history = correct()
    history.remove("new_orderline", "l1")
    history.remove("new_order", "o1")
    history.call("DELETE", "cusOrderLine", "l1")
    if child == "l2":
        history.put("new_orderline", "l2", _new_orderid_value="o1")
        history.call("GET", "cusOrderLine", "l2")
    history.other("cusOrderLine", f"@{child}", {"cusOrderLineId": child, "cusOrderLink": {"PKey": "@o1"}})
    if seen:
        history.call("GET", "cusOrderLine", child)
    history.call("DELETE", "cusOrder", "o1")
    assert ("children_go_before_their_parents" in _codes(history)) == seen


@pytest.mark.parametrize("seen", [True, False])
def test_a_second_record_is_excused_if_a_late_import_inserted_the_first_unless_an_answer_showed_it(seen: bool) -> None:
    history = correct()
    history.remove("new_orderline", "l1")
    history.call("DELETE", "cusOrderLine", "l1")
    history.put("new_orderline", "l1")
    history.other("cusOrderLine", "@late", {"cusOrderLineId": "l1", "cusOrderLink": {"PKey": "@o1"}})
    if seen:
        history.call("GET", "cusOrderLine", "l1", pkey="@late")
    history.call("POST", "cusOrderLine", "l1", pkey="@second", cusCount=0, cusOrderLink="o1")
    assert _codes(history) == ({"both_sides_agree", "no_second_record"} if seen else set())


@pytest.mark.parametrize("written", ["nothing", "its opt-out", "its name"])
def test_a_deleted_profile_that_a_late_import_inserts_is_excused_until_the_program_writes_more_than_an_opt_out(
    written: str,
) -> None:
    history = correct()
    history.configuration["tables"][0]["filters"]["delete_filtered_out"] = True
    history.other("profile", "@late", {"externalId": "c2", "firstName": "eve"})
    history.put("contact", "c2", firstname="zoe", department="out", donotemail=True)
    if written != "nothing":
        sent: dict[str, Any] = {"blackListEmail": True} if written == "its opt-out" else {"firstName": "zoe"}
        history.call("PATCH", "profile", "c2", pkey="@late", **sent)
    assert ("both_sides_agree" in _codes(history)) == (written == "its name")


@pytest.mark.parametrize("written", ["its opt-out", "its name"])
def test_a_delete_goes_on_of_a_row_that_comes_back_out_of_scope_after_an_opt_out(written: str) -> None:
    history = correct()
    history.remove("contact", "c1")
    history.put("contact", "c1", firstname="zoe", department="out", donotemail=True)
    sent: dict[str, Any] = {"blackListEmail": True} if written == "its opt-out" else {"firstName": "zoe"}
    history.call("PATCH", "profile", "c1", **sent)
    history.call("DELETE", "profile", "c1")
    assert ("nothing_in_scope_is_deleted" in _codes(history)) == (written == "its name")


@pytest.mark.parametrize("copied", ["before its insert", "after it"])
@pytest.mark.parametrize("by", ["a request", "a file"])
def test_a_record_of_a_deleted_row_stays_if_an_older_ledger_lacks_its_insert(copied: str, by: str) -> None:
    history = correct()
    history.put("contact", "c3", firstname="cid")
    before = history.moment()
    history.call("POST", "profile", "c3", firstName="cid")
    if by == "a file":
        inserted = history.calls.pop()
        history.others.append(RecordChange(inserted.handled, "profile", "@c3", None, inserted.after, "import"))
    after = history.moment()
    history.remove("contact", "c3")
    history.further["restored"] = ((before if copied == "before its insert" else after, history.moment()),)
    assert _codes(history) == (set() if copied == "before its insert" else {"both_sides_agree"})


@pytest.mark.parametrize("again", ["by the program", "by a late import", "by others", "by others later", "not at all"])
@pytest.mark.parametrize("direction", ["bidirectional", "campaign_to_d365"])
def test_an_opt_out_in_campaign_is_lost_only_with_the_profile_of_a_deleted_contact(again: str, direction: str) -> None:
    history = correct(direction)
    history.put("contact", "c3", firstname="cid")
    history.call("POST", "profile", "c3", firstName="cid")
    profile = dict(history.calls[-1].after or {})
    history.other("profile", "@c3", {"blackListEmail": True})
    history.export()
    if again == "by others":
        history.other("profile", "@c3", None)
    history.remove("contact", "c3")
    if again in ("by the program", "by a late import"):
        history.call("DELETE", "profile", "c3")
    history.put("contact", "c3", firstname="cid")
    if again == "by others later":  # the contact had come back by then: the ledger kept the opt-out
        history.other("profile", "@c3", None)
    if again == "by the program":
        history.call("POST", "profile", "c3", firstName="cid")
    elif again != "not at all":
        history.other("profile", "@c3", profile)
        history.others[-1] = replace(history.others[-1], by="import" if again == "by a late import" else "others")
    history.export()
    lost = again in ("by others later", "not at all")
    assert _codes(history) == ({"opt_outs_agree_in_the_end"} if lost else set())
