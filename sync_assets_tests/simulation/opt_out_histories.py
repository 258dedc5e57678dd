"""Histories of opt-outs that break a rule of the checker, or come near it."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

from sync_assets_tests.simulation.handwritten import NO_RULE, HandwrittenHistory, Histories, opted_out_in_campaign
from sync_assets_tests.simulation.observed import Moment

HISTORIES = Histories()
breaks = HISTORIES.breaks


@breaks(NO_RULE)
def an_opt_out_is_taken_back_in_campaign(history: HandwrittenHistory) -> None:
    opted_out_in_campaign(history)
    history.other("profile", "@c1", {"blackListEmail": False})
    history.export()
    history.put("contact", "c1", "program", donotemail=False)


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


@breaks("both_sides_agree", "d365_to_campaign")
def an_opt_out_is_not_sent(history: HandwrittenHistory) -> None:
    history.put("contact", "c1", donotemail=True)


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
