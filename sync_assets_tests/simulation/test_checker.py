"""The checker finds nothing in a correct history, and exactly the broken rule in one that breaks it."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from sync_assets_tests.simulation.checker import RULES, check
from sync_assets_tests.simulation.handwritten import (
    EMPTY_RECORDS,
    HandwrittenHistory,
    correct,
    invalid_line,
    keep_orphans,
    opted_out_in_campaign,
    rejected,
    released,
    status_is_mapped,
)
from sync_assets_tests.simulation.observed import Hold, Moment, RecordChange, Replay, Verification


def _codes(history: HandwrittenHistory) -> set[str]:
    return {violation.rule for violation in check(history.observed())}


Change = Callable[[HandwrittenHistory], None]
NO_RULE = ""
HISTORIES: list[tuple[str, str, Change]] = []


def breaks(rule: str, direction: str = "bidirectional") -> Callable[[Change], Change]:
    def made(change: Change) -> Change:
        HISTORIES.append((rule, direction, change))
        return change

    return made


@breaks(NO_RULE)
def an_opt_out_is_taken_back_in_campaign(history: HandwrittenHistory) -> None:
    opted_out_in_campaign(history)
    history.other("profile", "@c1", {"blackListEmail": False})
    history.export()
    history.put("contact", "c1", "program", donotemail=False)


@breaks(NO_RULE)
def a_child_of_a_rejected_parent_waits(history: HandwrittenHistory) -> None:
    rejected(history)
    history.put("new_order", "o2", _new_contactid_value="c3")
    history.report["waiting"] = {"new_order": {"o2"}}


@breaks(NO_RULE)
def an_update_whose_answer_was_lost_is_sent_again(history: HandwrittenHistory) -> None:
    history.put("contact", "c1", firstname="joan")
    history.call("PATCH", "profile", "c1", answered=False, firstName="joan")
    history.call("PATCH", "profile", "c1", firstName="joan")


@breaks(NO_RULE)
def a_forced_replay_sends_what_is_equal(history: HandwrittenHistory) -> None:
    history.further["replays"] = (Replay(history.moment(), "contact", "forced replay"),)
    history.call("PATCH", "profile", "c1", firstName="grace")


@breaks(NO_RULE)
def a_link_whose_read_back_had_no_answer_is_sent_once_more(history: HandwrittenHistory) -> None:
    history.further["replays"] = (Replay(history.moment(), "new_order", "forced replay"),)
    for answered in (False, True):
        history.call("PATCH", "cusOrder", "o1", cusContactLink="c1")
        history.call("GET", "cusOrder", "o1", answered=answered)


def _sent_twice(history: HandwrittenHistory, first: int) -> None:
    """Let two processes send an order with its contact's key, and read it back; the second one reads the contact."""
    for process in (first, 3):
        history.call("PATCH", "cusOrder", "o1", process=process, cusContactLink="c1")
        history.call("GET", "cusOrder", "o1", process=process)
    history.call("GET", "profile", "c1", process=3)


@breaks(NO_RULE)
def a_link_whose_parent_could_not_be_read_is_sent_once_more(history: HandwrittenHistory) -> None:
    history.further["replays"] = (Replay(history.moment(), "new_order", "forced replay"),)
    _sent_twice(history, first=2)


@breaks(NO_RULE)
def a_row_that_leaves_the_filter_stays_in_campaign(history: HandwrittenHistory) -> None:
    history.put("contact", "c4", firstname="lin")
    history.call("POST", "profile", "c4", firstName="lin")
    history.put("contact", "c4", department="out")
    history.put("contact", "c4", firstname="unsent")


@breaks(NO_RULE)
def a_child_that_is_unlinked_first_lets_its_parent_go(history: HandwrittenHistory) -> None:
    history.put("new_orderline", "l1", _new_orderid_value=None)
    history.remove("new_order", "o1")
    history.call("PATCH", "cusOrderLine", "l1", cusCount=3, cusOrderLink=None)
    history.call("DELETE", "cusOrder", "o1")


@breaks(NO_RULE)
def an_orphan_that_its_table_keeps_stays(history: HandwrittenHistory) -> None:
    keep_orphans(history)
    history.remove("contact", "c1")
    history.call("DELETE", "profile", "c1")
    history.report["orphaned"] = {"new_order": {"o1"}}


@breaks(NO_RULE)
def an_invalid_child_with_a_lost_answer_is_unlinked_first(history: HandwrittenHistory) -> None:
    invalid_line(history, answered=False)
    history.remove("new_order", "o1")
    history.call("PATCH", "cusOrderLine", "l1", cusOrderLink=None)
    history.call("DELETE", "cusOrder", "o1")


@breaks(NO_RULE)
def the_records_of_a_person_who_was_gone_are_excluded(history: HandwrittenHistory) -> None:
    released(history, "c5")
    history.put("contact", "c5")
    history.put("new_order", "o5", _new_contactid_value="c5")


@breaks(NO_RULE)
def a_record_is_sent_again_once_a_further_column_is_mapped(history: HandwrittenHistory) -> None:
    status_is_mapped(history)
    history.call("PATCH", "cusOrder", "o6", cusName="first", cusStatus="Placed")


def _moved_twice(history: HandwrittenHistory) -> None:
    """Let two files, or the same ones that are read again, move an opt-out of Dynamics 365 there and back."""
    for _ in range(2):
        for value in (True, False):
            history.put("contact", "c1", "program", donotemail=value)


@breaks(NO_RULE)
def files_are_read_again_with_an_older_ledger(history: HandwrittenHistory) -> None:
    for value in (True, False):
        history.other("profile", "@c1", {"blackListEmail": value})
        history.export()
    history.further["restored"] = ((history.moment(), history.moment()),)
    _moved_twice(history)


@breaks(NO_RULE)
def an_opt_out_is_written_to_a_row_that_was_made_anew(history: HandwrittenHistory) -> None:
    """Its profile, which others imported, stays."""
    history.other("profile", "@c4", {"externalId": "c4", "firstName": "ada"})
    history.put("contact", "c4", donotemail=True)
    history.call("PATCH", "profile", "c4", blackListEmail=True)
    history.remove("contact", "c4")
    history.put("contact", "c4")
    history.put("contact", "c4", "program", donotemail=True)


def _opt_in_with_an_earlier_time(history: HandwrittenHistory, *, deleted: bool) -> None:
    """Opt a contact in after an opt-out of a clock that was ahead. deleted: then the profile was, and made anew."""
    history.configuration["tables"][0]["filters"]["delete_filtered_out"] = True
    history.put("contact", "c4")
    history.call("POST", "profile", "c4", firstName="ada")
    for value, ahead in ((True, 20), (False, 0)):
        time = (history.now + timedelta(hours=1 + ahead)).isoformat()
        history.other("profile", "@c4", {"blackListEmail": value, "blackListEmailLastModified": time})
        history.export()
    if deleted:
        history.put("contact", "c4", department="out")
        history.call("DELETE", "profile", "c4")
        history.put("contact", "c4", department="in")
        history.call("POST", "profile", "c4", firstName="ada")
    history.put("contact", "c4", "program", donotemail=True)


@breaks(NO_RULE, "campaign_to_d365")
def an_opt_in_that_contradicts_an_opt_out_cannot_be_asked_for_once_its_profile_is_deleted(
    history: HandwrittenHistory,
) -> None:
    _opt_in_with_an_earlier_time(history, deleted=True)


@breaks("opt_outs_agree_in_the_end", "campaign_to_d365")
def an_opt_in_that_contradicts_an_opt_out_is_not_asked_for(history: HandwrittenHistory) -> None:
    _opt_in_with_an_earlier_time(history, deleted=False)


@breaks("the_run_ends_idle")
def something_stays_pending(history: HandwrittenHistory) -> None:
    history.further["idle"] = False


@breaks("both_sides_agree")
def a_change_is_not_sent(history: HandwrittenHistory) -> None:
    history.put("contact", "c1", firstname="joan")


@breaks("both_sides_agree")
def a_deletion_is_not_sent(history: HandwrittenHistory) -> None:
    history.remove("new_orderline", "l1")


@breaks("both_sides_agree", "d365_to_campaign")
def an_opt_out_is_not_sent(history: HandwrittenHistory) -> None:
    history.put("contact", "c1", donotemail=True)


@breaks("records_of_others_stay_as_they_are")
def a_foreign_record_is_changed(history: HandwrittenHistory) -> None:
    history.campaign["profile"]["@foreign"] = history.campaign["profile"]["@foreign"] | {"firstName": "Ours"}


@breaks("only_refused_records_are_rejected")
def a_good_record_is_rejected(history: HandwrittenHistory) -> None:
    history.report["rejected"] = {"contact": {"c1"}}


@breaks("exactly_the_children_without_a_parent_wait")
def a_child_waits_though_its_parent_is_there(history: HandwrittenHistory) -> None:
    history.report["waiting"] = {"new_orderline": {"l1"}}


@breaks("exactly_the_children_without_a_parent_wait")
def a_child_of_a_rejected_parent_is_forgotten(history: HandwrittenHistory) -> None:
    rejected(history)
    history.put("new_order", "o2", _new_contactid_value="c3")


@breaks("the_ledger_counts_each_engine_call_once")
def a_call_is_not_counted(history: HandwrittenHistory) -> None:
    history.call("GET", "profile", "c1", counted=False)


@breaks("no_update_without_need")
def an_update_is_sent_again(history: HandwrittenHistory) -> None:
    history.call("PATCH", "profile", "c1", firstName="grace")
    history.further["replays"] = (Replay(history.moment(), "contact", "replay"),)


@breaks("no_update_without_need")
def a_link_to_a_parent_that_was_known_is_sent_again(history: HandwrittenHistory) -> None:
    history.further["replays"] = (Replay(history.moment(), "new_order", "forced replay"),)
    _sent_twice(history, first=1)


@breaks("no_update_without_need")
def a_link_whose_parent_was_read_is_sent_again(history: HandwrittenHistory) -> None:
    history.further["replays"] = (Replay(history.moment(), "new_order", "forced replay"),)
    history.call("PATCH", "cusOrder", "o1", process=2, cusContactLink="c1")
    history.call("GET", "profile", "c1", process=2)
    history.call("GET", "cusOrder", "o1", process=2)
    _sent_twice(history, first=3)


@breaks("no_second_insert_or_delete")
def a_record_is_inserted_twice(history: HandwrittenHistory) -> None:
    history.call("POST", "profile", "c1", status=500, firstName="grace")


@breaks("no_second_insert_or_delete")
def a_record_is_deleted_twice(history: HandwrittenHistory) -> None:
    history.call("DELETE", "profile", "c2", status=404)
    history.further["replays"] = (Replay(history.moment(), "contact", "replay"),)


@breaks("a_lost_insert_is_looked_up_first")
def a_lost_insert_is_sent_again(history: HandwrittenHistory) -> None:
    history.put("contact", "c6")
    history.call("POST", "profile", "c6", answered=False, firstName="ada")
    history.call("POST", "profile", "c6", status=500, firstName="ada")
    history.call("PATCH", "profile", "c6", firstName="ada")


@breaks("no_second_record")
def a_lost_answer_makes_a_second_record(history: HandwrittenHistory) -> None:
    history.put("contact", "c6")
    history.call("POST", "profile", "c6", answered=False, firstName="ada")
    history.call("GET", "profile", "c6")
    history.call("POST", "profile", "c6", pkey="@second", firstName="ada")
    history.other("profile", "@second", None)


@breaks("calls_are_bounded")
def a_rejected_record_is_tried_for_ever(history: HandwrittenHistory) -> None:
    rejected(history)
    for _ in range(25):
        history.call("POST", "profile", "c3", status=500, firstName="bad")


def _tried(history: HandwrittenHistory, times: int) -> None:
    """Let Campaign refuse an update without a reason several times, and each time trial updates of its attributes."""
    history.put("new_order", "o1", new_name="second", new_status=1)
    history.moment()
    for _ in range(times):
        history.call("PATCH", "cusOrder", "o1", status=500, cusName="second", cusStatus="Draft")
        history.call("PATCH", "cusOrder", "o1", status=500, cusName="second")
        history.call("PATCH", "cusOrder", "o1", status=500, cusStatus="Draft")
    history.call("PATCH", "cusOrder", "o1", cusName="second", cusStatus="Draft")


@breaks(NO_RULE)
def the_attribute_that_campaign_refuses_is_looked_for(history: HandwrittenHistory) -> None:
    _tried(history, 10)


@breaks("calls_are_bounded")
def the_attribute_that_campaign_refuses_is_looked_for_again_and_again(history: HandwrittenHistory) -> None:
    _tried(history, 25)


@breaks("only_our_records_are_written")
def an_attribute_that_is_not_mapped_is_written(history: HandwrittenHistory) -> None:
    history.put("contact", "c1", firstname="joan")
    history.call("PATCH", "profile", "c1", firstName="joan", lastName="of Arc")


@breaks("each_payload_is_a_version_of_the_row")
def a_value_comes_from_nowhere(history: HandwrittenHistory) -> None:
    history.put("contact", "c1", firstname="joan")
    history.call("PATCH", "profile", "c1", firstName="jane")
    history.call("PATCH", "profile", "c1", firstName="joan")


@breaks("parents_come_before_their_children")
def a_child_is_sent_before_its_parent(history: HandwrittenHistory) -> None:
    history.put("contact", "c7")
    history.put("new_order", "o7", _new_contactid_value="c7")
    history.call("POST", "cusOrder", "o7", cusName="first", cusStatus="", cusContactLink="c7")
    history.call("POST", "profile", "c7", firstName="ada")


@breaks("children_go_before_their_parents")
def a_parent_is_deleted_before_its_child(history: HandwrittenHistory) -> None:
    history.remove("new_orderline", "l1")
    history.remove("new_order", "o1")
    history.call("DELETE", "cusOrder", "o1")
    history.call("DELETE", "cusOrderLine", "l1")


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


@breaks("nothing_in_scope_is_deleted")
def a_record_in_scope_is_deleted(history: HandwrittenHistory) -> None:
    history.put("contact", "c8")
    history.call("POST", "profile", "c8", firstName="ada")
    history.call("DELETE", "profile", "c8")
    history.call("POST", "profile", "c8", firstName="ada")
    history.further["replays"] = (Replay(history.moment(), "contact", "replay"),)


@breaks("nothing_in_scope_is_deleted")
def an_orphan_that_its_table_keeps_is_deleted(history: HandwrittenHistory) -> None:
    keep_orphans(history)
    history.put("new_order", "o2")
    history.call("POST", "cusOrder", "o2", cusName="first", cusStatus="", cusContactLink="c1")
    history.put("new_order", "o2", _new_contactid_value=None)
    history.call("DELETE", "cusOrder", "o2")
    history.report["orphaned"] = {"new_order": {"o2"}}


@breaks("exactly_the_children_without_a_parent_wait")
def an_orphan_waits(history: HandwrittenHistory) -> None:
    history.put("new_order", "o2", _new_contactid_value=None)
    history.report["waiting"] = {"new_order": {"o2"}}


@breaks("nothing_in_scope_is_deleted")
def an_invalid_child_with_a_lost_answer_is_deleted_though_its_parent_stays(history: HandwrittenHistory) -> None:
    invalid_line(history, answered=False)
    history.call("DELETE", "cusOrderLine", "l1")


@breaks("excluded_records_are_not_sent")
def an_excluded_contact_is_inserted(history: HandwrittenHistory) -> None:
    released(history, "c5")
    history.put("contact", "c5")
    history.call("POST", "profile", "c5", firstName="ada")


@breaks("both_sides_agree")
def a_column_that_was_mapped_later_is_not_sent(history: HandwrittenHistory) -> None:
    status_is_mapped(history)


@breaks("held_contacts_are_left_alone")
def a_held_contact_is_written(history: HandwrittenHistory) -> None:
    since = history.moment()
    history.put("contact", "c1", firstname="joan")
    history.call("PATCH", "profile", "c1", firstName="joan")
    history.further["holds"] = (Hold("c1", since),)


@breaks("who_is_gone_stays_gone")
def a_late_insert_makes_a_person_who_was_said_to_be_gone(history: HandwrittenHistory) -> None:
    history.put("contact", "c9")
    sent = history.moment()
    history.remove("contact", "c9")
    history.further["holds"] = (Hold("c9", history.moment()),)
    history.further["verified"] = (Verification("c9", history.moment(), history.moment(), gone=True),)
    history.call("POST", "profile", "c9", answered=False, firstName="ada")
    history.calls[-1] = replace(history.calls[-1], sent=sent)


@breaks("who_is_gone_stays_gone")
def a_load_makes_a_person_who_was_said_to_be_gone(history: HandwrittenHistory) -> None:
    history.put("contact", "c9")
    history.remove("contact", "c9")
    history.further["holds"] = (Hold("c9", history.moment()),)
    history.further["verified"] = (Verification("c9", history.moment(), history.moment(), gone=True),)
    made = {**EMPTY_RECORDS["profile"], "PKey": "@c9", "externalId": "c9"}
    history.others.append(RecordChange(history.moment(), "profile", "@c9", None, made, "import"))
    history.others.append(RecordChange(history.moment(), "profile", "@c9", made, None))


@breaks("nothing_is_sent_that_campaign_would_hide")
def an_order_is_sent_while_its_link_is_not_mapped(history: HandwrittenHistory) -> None:
    since = history.moment()
    history.put("new_order", "o1", new_name="x")
    history.call("PATCH", "cusOrder", "o1", cusName="x")
    history.further["unmapped"] = (("new_order", since, history.moment()),)


@breaks("dynamics_gets_opt_outs_only")
def the_program_writes_a_name_to_dynamics(history: HandwrittenHistory) -> None:
    history.put("contact", "c1", "program", jobtitle="x")
    history.rows[-1] = replace(history.rows[-1], moment=Moment(history.n, history.rows[-2].moment.at))


@breaks("dynamics_gets_opt_outs_only", "disabled")
def the_program_writes_to_dynamics_though_opt_outs_are_disabled(history: HandwrittenHistory) -> None:
    history.put("contact", "c1", "program", donotemail=True)


@breaks("each_opt_out_in_dynamics_comes_from_campaign", "campaign_to_d365")
def a_default_of_campaign_overwrites_dynamics(history: HandwrittenHistory) -> None:
    history.put("contact", "c1", donotemail=True)
    history.put("contact", "c1", "program", donotemail=False)


@breaks("each_opt_out_in_campaign_is_due", "campaign_to_d365")
def the_program_writes_an_opt_out_against_the_direction(history: HandwrittenHistory) -> None:
    history.put("contact", "c1", donotemail=True)
    history.call("PATCH", "profile", "c1", blackListEmail=True)


@breaks("new_profiles_carry_their_opt_outs")
def a_new_profile_gets_its_opt_out_later(history: HandwrittenHistory) -> None:
    history.put("contact", "c9", donotemail=True)
    history.call("POST", "profile", "c9", firstName="ada")
    history.call("PATCH", "profile", "c9", blackListEmail=True)


@breaks("nothing_echoes")
def the_program_writes_what_dynamics_holds(history: HandwrittenHistory) -> None:
    opted_out_in_campaign(history)
    history.put("contact", "c1", "program", donotemail=True)


@breaks("nothing_echoes")
def the_program_writes_what_campaign_holds(history: HandwrittenHistory) -> None:
    history.put("contact", "c1", donotemail=True)
    history.call("PATCH", "profile", "c1", blackListEmail=True)
    history.moment()
    history.call("PATCH", "profile", "c1", blackListEmail=True)


def _opted_out_twice(
    history: HandwrittenHistory, *, exported: bool = False, read: bool = True, update: dict[str, Any] | None = None
) -> None:
    """Let a person opt out in Campaign and then in Dynamics 365.

    exported: a file has the first one. read: the program reads it. update: written between the two.
    """
    history.export()
    history.other("profile", "@c1", {"blackListEmail": True})
    if exported:
        history.export(read=read)
    if update:
        history.call("PATCH", "profile", "c1", **update)
    history.put("contact", "c1", donotemail=True)
    history.call("PATCH", "profile", "c1", blackListEmail=True)


@breaks("nothing_echoes")
def the_program_writes_what_a_file_has(history: HandwrittenHistory) -> None:
    _opted_out_twice(history, exported=True)


@breaks(NO_RULE)
def the_program_writes_what_campaign_holds_since_the_last_file(history: HandwrittenHistory) -> None:
    _opted_out_twice(history)


@breaks(NO_RULE)
def the_program_writes_what_campaign_holds_after_an_update_without_it(history: HandwrittenHistory) -> None:
    history.put("contact", "c1", firstname="Eve")
    _opted_out_twice(history, update={"firstName": "Eve"})


@breaks("nothing_echoes")
def the_program_writes_twice_what_campaign_holds(history: HandwrittenHistory) -> None:
    history.put("contact", "c1", firstname="Eve", donotemail=True)
    _opted_out_twice(history, update={"firstName": "Eve", "blackListEmail": True})


@breaks(NO_RULE)
def the_program_writes_what_a_file_has_that_waits_behind_another(history: HandwrittenHistory) -> None:
    _opted_out_twice(history, exported=True, read=False)


def _written_again(history: HandwrittenHistory, *, late: bool) -> None:
    """Let the program write an opt-out, its opt-in, and both again; late: the third is a request before the second."""
    sent = history.moment()
    for value in (True, False):
        history.other("profile", "@c1", {"blackListEmail": value})
        history.export()
        history.put("contact", "c1", "program", donotemail=value)
    again = history.moment()
    history.put("contact", "c1", "program", donotemail=True)
    history.rows[-1] = replace(history.rows[-1], sent=sent if late else again)
    history.put("contact", "c1", "program", donotemail=False)


@breaks("nothing_echoes", "campaign_to_d365")
def the_program_writes_to_dynamics_without_a_cause(history: HandwrittenHistory) -> None:
    _written_again(history, late=False)


@breaks(NO_RULE, "campaign_to_d365")
def a_late_request_to_dynamics_is_set_back(history: HandwrittenHistory) -> None:
    _written_again(history, late=True)


@breaks("nothing_echoes")
def files_are_read_again_without_a_cause(history: HandwrittenHistory) -> None:
    for value in (True, False):
        history.other("profile", "@c1", {"blackListEmail": value})
        history.export()
    _moved_twice(history)


@breaks("opt_outs_agree_in_the_end")
def an_opt_out_of_campaign_never_reaches_dynamics(history: HandwrittenHistory) -> None:
    history.other("profile", "@c1", {"blackListEmail": True})
    history.export()


@breaks("opt_outs_agree_in_the_end", "campaign_to_d365")
def a_change_in_campaign_does_not_overwrite_dynamics(history: HandwrittenHistory) -> None:
    an_opt_out_of_campaign_never_reaches_dynamics(history)


@breaks("opt_outs_agree_in_the_end")
def an_opt_in_of_campaign_loses_to_an_older_opt_out(history: HandwrittenHistory) -> None:
    opted_out_in_campaign(history)
    history.other("profile", "@c1", {"blackListEmail": False})
    history.export()
    history.call("PATCH", "profile", "c1", blackListEmail=True)


@pytest.mark.parametrize("direction", ["disabled", "d365_to_campaign", "campaign_to_d365", "bidirectional"])
def test_a_correct_history_breaks_no_rule(direction: str) -> None:
    assert check(correct(direction).observed()) == []


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


@pytest.mark.parametrize(
    ("rule", "direction", "change"), [pytest.param(*one, id=f"{one[2].__name__}-{one[1]}") for one in HISTORIES]
)
def test_a_history_breaks_its_rule_and_no_other(rule: str, direction: str, change: Change) -> None:
    history = correct(direction)
    change(history)
    assert _codes(history) == ({rule} if rule else set())


def test_each_rule_has_a_history_that_breaks_it() -> None:
    assert {rule.__name__ for rule in RULES} == {rule for rule, _, _ in HISTORIES if rule}
