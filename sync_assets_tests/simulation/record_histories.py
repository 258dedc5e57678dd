"""Histories of records that break a rule of the checker, or come near it."""

from dataclasses import replace

from sync_assets_tests.simulation.handwritten import (
    EMPTY_RECORDS,
    NO_RULE,
    HandwrittenHistory,
    Histories,
    invalid_line,
    keep_orphans,
    rejected,
    released,
    status_is_mapped,
)
from sync_assets_tests.simulation.observed import Hold, RecordChange, Replay, Verification

HISTORIES = Histories()
breaks = HISTORIES.breaks


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


@breaks("the_run_ends_idle")
def something_stays_pending(history: HandwrittenHistory) -> None:
    history.further["idle"] = False


@breaks("both_sides_agree")
def a_change_is_not_sent(history: HandwrittenHistory) -> None:
    history.put("contact", "c1", firstname="joan")


@breaks("both_sides_agree")
def a_deletion_is_not_sent(history: HandwrittenHistory) -> None:
    history.remove("new_orderline", "l1")


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
