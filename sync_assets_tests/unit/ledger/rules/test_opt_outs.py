"""The life of an opt-out, rule by rule, as tables."""

import itertools
from datetime import timedelta
from typing import Any

import pytest

from sync_assets.ledger.rules import opt_outs as rules
from sync_assets.ledger.rules.opt_outs import DAY, OptOutRow, OptOutState

SETTLED, DECIDE, TO_D365, TO_CAMPAIGN, REJECTED = OptOutState

MIDNIGHT = 20_000 * DAY
THEN = MIDNIGHT + DAY // 2
"""When the attribute changed, as far as Campaign told."""
SAID = MIDNIGHT + 5 * DAY
"""As of when it told so."""
NOW = MIDNIGHT + 9 * DAY

NOBODY = OptOutRow("ada", "blackListEmail")
"""Made up for a contact of whom nothing was ever said."""


def row(campaign: int | None, campaign_at: int | None = None, stated_at: int | None = SAID, **more: Any) -> OptOutRow:
    return OptOutRow(
        "ada", "blackListEmail", campaign=campaign, campaign_at=campaign_at, stated_at=stated_at, version=3, **more
    )


def due(before: OptOutRow, **changes: int | str | None) -> OptOutRow:
    """The row is to be decided, with nothing left of earlier tries."""
    tries = {"value": None, "attempts": 0, "failed_since": None, "reason": None}
    return before._replace(**{**tries, "state": DECIDE, "source": "why", **changes})


TRIED = {"state": REJECTED, "value": 1, "attempts": 2, "failed_since": 5, "reason": "no"}
"""What tries leave in a row."""


def settled(before: OptOutRow, **changes: int | None) -> OptOutRow:
    return due(before, ask=0)._replace(**{"state": SETTLED, "source": before.source, **changes})


def ask_of(before: OptOutRow) -> int:
    """How Campaign is asked: whether an opt-out that it stated is still to be carried."""
    return rules.STATED if before.campaign == 1 and before.state != SETTLED else 1


def test_stored_numbers_keep_their_meaning() -> None:
    assert rules.STATED == 2
    assert [(state.name, state.value) for state in OptOutState] == [
        ("SYNCED", 0), ("DECIDE", 1), ("TO_D365", 2), ("TO_CAMPAIGN", 3), ("REJECTED", 4),
    ]  # fmt: skip
    assert timedelta(microseconds=DAY) == timedelta(days=1)


def test_no_row_means_that_the_contact_never_opted_out() -> None:
    nothing = dict.fromkeys(("campaign_at", "stated_at", "d365_at", "value", "failed_since", "reason", "unknown_until"))
    zero = dict.fromkeys(("campaign", "ours", "d365", "written", "state", "ask", "attempts", "version"), 0)
    assert NOBODY._asdict() == {"id": "ada", "attribute": "blackListEmail", "source": "", **nothing, **zero}


TIMES = {
    "no time": None,
    "earlier": THEN - 1,
    "the same": THEN,
    "later": THEN + 1,
    "its day": MIDNIGHT,
    "the day before": MIDNIGHT - DAY,
    "the day after": MIDNIGHT + DAY,
}
MADE = (SAID - 1, SAID, SAID + 1)
"""When the statement was made."""
ROWS = {
    "nobody": NOBODY,
    "false": row(0, THEN),
    "true": row(1, THEN),
    "true, no time": row(1),
    "false, no time": row(0),
    "we wrote true": row(1, THEN, ours=1),  # over a false of THEN
    "we wrote true, no time": row(1, ours=1),
    "made with false": row(0, ours=1),
    "not known": row(None, stated_at=None),
    "not known any more": row(None, THEN),
}
# For each time, what it is if the statement was made before the last one, with it, after it:
# d default: no row. k known. s stale. e echo: we wrote it. t news: taken. a news: Campaign is asked. b news: both.
KINDS = {"d": "default", "k": "known", "s": "stale", "e": "echo", "t": "news", "a": "news", "b": "news"}
TABLE = """
                        no time  earlier  the same  later  its day  the day before  the day after
nobody                | true   | ttt    ttt      ttt       ttt    ttt      ttt             ttt
nobody                | false  | ddd    ttt      ttt       ttt    ttt      ttt             ttt
false                 | true   | saa    saa      aaa       btt    saa      saa             btt
false                 | false  | kkk    sss      kkk       stt    kkk      sss             stt
true                  | true   | kkk    sss      kkk       stt    kkk      sss             stt
true                  | false  | saa    saa      aaa       att    saa      saa             att
true, no time         | true   | kkk    stt      stt       stt    stt      stt             stt
true, no time         | false  | saa    att      att       att    att      att             att
false, no time        | true   | saa    btt      btt       btt    btt      btt             btt
false, no time        | false  | kkk    stt      stt       stt    stt      stt             stt
we wrote true         | true   | kkk    sss      kkk       eee    kkk      sss             eee
we wrote true         | false  | ssa    ssa      sss       att    ssa      ssa             att
we wrote true, no time| true   | kkk    eee      eee       eee    eee      eee             eee
we wrote true, no time| false  | ssa    att      att       att    att      att             att
made with false       | true   | ssa    btt      btt       btt    btt      btt             btt
made with false       | false  | kkk    eee      eee       eee    eee      eee             eee
not known             | true   | aaa    ttt      ttt       ttt    ttt      ttt             ttt
not known             | false  | aaa    ttt      ttt       ttt    ttt      ttt             ttt
not known any more    | true   | saa    saa      aaa       btt    saa      saa             btt
not known any more    | false  | saa    saa      aaa       att    saa      saa             att
"""


class TestStatement:
    """Campaign says that it holds true or false since some time."""

    def cases(self) -> list[tuple[str, int, str, int, str]]:
        result: list[tuple[str, int, str, int, str]] = []
        for line in TABLE.strip().splitlines()[1:]:
            name, value, cells = (part.strip() for part in line.split("|"))
            for (when, _), cell in zip(TIMES.items(), cells.split(), strict=True):
                result += [
                    (name, int(value == "true"), when, made, sign) for made, sign in zip((0, 1, 2), cell, strict=True)
                ]
        return result

    def test_the_table_is_whole(self) -> None:
        wanted = set(itertools.product(ROWS, (0, 1), TIMES, (0, 1, 2)))
        assert {case[:4] for case in self.cases()} == wanted
        assert len(self.cases()) == len(wanted)

    @pytest.mark.parametrize("name", ROWS)
    def test_truth_table(self, name: str) -> None:
        wrong: list[str] = []
        for which, value, when, made, sign in self.cases():
            if which != name:
                continue
            before, at, stated_at = ROWS[name]._replace(**TRIED), TIMES[when], MADE[made]
            result = rules.after_statement(before, (value, at), stated_at, "why", known=name != "nobody")
            after = {
                "t": due(before, campaign=value, campaign_at=at, stated_at=stated_at, ours=0),
                "b": due(before, campaign=value, campaign_at=at, stated_at=stated_at, ours=0, ask=rules.STATED),
                "a": due(before, ask=rules.STATED if value else ask_of(before)),
                "e": before._replace(campaign_at=at, stated_at=stated_at, ours=0),
            }.get(sign)
            if result != (KINDS[sign], after):
                wrong.append(f"{value} {when}, made {made}: {sign} expected, not {result}")
        assert not wrong, "\n".join(wrong)

    @pytest.mark.parametrize(("ask", "value"), itertools.product((1, rules.STATED), (0, 1)))
    def test_who_was_to_be_asked_already_still_is_and_the_newest_value_counts(self, ask: int, value: int) -> None:
        before = row(1 - value, THEN, ask=ask, state=DECIDE)
        _, moved = rules.after_statement(before, (value, THEN + 1), SAID, "why", known=True)
        assert moved is not None
        assert moved.ask == (rules.STATED if value else 1)

    @pytest.mark.parametrize(
        ("state", "value", "d365", "written"), itertools.product(OptOutState, (0, 1), (0, 1), (0, 1))
    )
    def test_a_known_value_is_compared_if_dynamics_365_lost_the_opt_out_or_was_not_read_since_the_write(
        self, state: OptOutState, value: int, d365: int, written: int
    ) -> None:
        before = row(value, THEN, d365=d365, written=written)._replace(**{**TRIED, "state": state})
        compared = state == SETTLED and (written or (value and not d365))
        after = due(before, source=rules.COMPARISON) if compared else None
        assert rules.after_statement(before, (value, THEN), SAID, "why", known=True) == ("known", after)


class TestSince:
    """Campaign was asked: since when does it hold what it told?"""

    @pytest.mark.parametrize(
        ("before", "value", "stated_at", "created", "expected"),
        [
            (row(1, THEN), True, NOW, THEN, NOW),  # as it says
            (row(1, THEN), True, None, THEN, THEN),  # what it said before
            (row(1, THEN), False, None, THEN, SAID),  # not longer than since it last said otherwise
            (row(1, THEN), False, None, SAID, SAID),
            (row(1, THEN), False, None, None, SAID),  # Campaign does not show when the profile was created
            (row(1, THEN), False, None, NOW, None),  # the default of a profile made anew
            (row(1, THEN), False, NOW, SAID + 1, NOW),  # a person changed it there
            (row(1, THEN, None), False, None, NOW, None),
            (row(0, None, ours=1), True, None, THEN, SAID),
            (row(0, None, ours=1), True, None, NOW, SAID),  # a person opted out of the profile made anew
            (row(0), False, None, THEN, None),
            (row(None, THEN), False, None, THEN, None),  # what it said before is not known
        ],
    )
    def test_since(
        self, before: OptOutRow, value: bool, stated_at: int | None, created: int | None, expected: int | None
    ) -> None:
        assert rules.since(before, value, stated_at, created) == expected


@pytest.mark.parametrize(
    ("stored", "value", "at", "created", "expected"),
    [
        (row(1, THEN), False, None, SAID + 1, True),
        (row(1, THEN), False, None, SAID, False),  # the statement may be about this profile
        (row(1, THEN), False, None, None, False),
        (row(1, THEN), False, NOW, SAID + 1, False),  # a person changed it
        (row(1, THEN), True, None, SAID + 1, False),
        (row(0, THEN), False, None, SAID + 1, False),  # no opt-out was stated
        (row(1, THEN, None), False, None, SAID + 1, False),
    ],
)
def test_a_default_is_of_a_profile_that_was_made_after_the_stored_opt_out(
    stored: OptOutRow, value: bool, at: int | None, created: int | None, expected: bool
) -> None:
    assert rules.is_of_earlier_profile(stored, value, at, created) is expected


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        (row(0, THEN), THEN),
        (row(1, THEN), THEN),
        (row(0, THEN, ours=1), None),  # the default of our insert
        (row(1, THEN, ours=1), THEN),
    ],
)
def test_the_time_of_change_of_the_stored_value(stored: OptOutRow, expected: int | None) -> None:
    assert rules.changed_at(stored) == expected


class TestCapture:
    """Dynamics 365 says that the contact is opted out or not."""

    @pytest.mark.parametrize("there", [True, False])
    @pytest.mark.parametrize("state", OptOutState)
    @pytest.mark.parametrize("value", [0, 1])
    def test_a_known_reason_is_no_news(self, value: int, state: OptOutState, there: bool) -> None:
        before = row(1, d365=value, state=state)
        assert rules.after_capture(before, value, "why", known=True, may_exist_in_campaign=there) is None

    def test_a_first_opt_out_of_a_contact_that_campaign_has_is_to_be_compared(self) -> None:
        after = rules.after_capture(NOBODY, 1, "why", known=False, may_exist_in_campaign=True)
        assert after == due(NOBODY, d365=1, campaign=None, ask=1)

    def test_a_first_opt_out_of_a_contact_that_campaign_does_not_have_goes_with_the_profile(self) -> None:
        after = rules.after_capture(NOBODY, 1, "why", known=False, may_exist_in_campaign=False)
        assert after == settled(NOBODY, d365=1, campaign=None)

    @pytest.mark.parametrize("value", [0, 1])
    def test_open_opt_outs_are_forgotten_if_campaign_has_no_profile(self, value: int) -> None:
        before = row(None, d365=1 - value, ask=1, **TRIED)
        assert rules.after_capture(before, value, "why", known=True, may_exist_in_campaign=False) == settled(
            before, d365=value
        )

    @pytest.mark.parametrize("value", [0, 1])
    def test_campaign_has_the_profile_if_it_spoke_of_it(self, value: int) -> None:
        """One that was there before us, and that we did not send anything to yet."""
        before = row(value, THEN, d365=1 - value, state=DECIDE)
        assert rules.after_capture(before, value, "why", known=True, may_exist_in_campaign=False) == due(
            before, d365=value, ask=ask_of(before)
        )

    @pytest.mark.parametrize("value", [0, 1])
    def test_what_was_written_is_captured(self, value: int) -> None:
        before = row(value, THEN, d365=value, written=1)
        after = rules.after_capture(before, value, "why", known=True, may_exist_in_campaign=True)
        assert after == before._replace(written=0)

    @pytest.mark.parametrize("value", [0, 1])
    def test_our_own_write_comes_back_and_nothing_follows(self, value: int) -> None:
        before = row(value, THEN, d365=1 - value)
        assert rules.after_capture(before, value, "why", known=True, may_exist_in_campaign=True) == before._replace(
            d365=value
        )

    @pytest.mark.parametrize("value", [0, 1])
    @pytest.mark.parametrize("campaign", [None, 0, 1])
    @pytest.mark.parametrize("state", OptOutState)
    def test_every_other_change_is_to_be_decided_and_campaign_asked(
        self, state: OptOutState, campaign: int | None, value: int
    ) -> None:
        before = row(campaign, THEN, d365=1 - value)._replace(**{**TRIED, "state": state})
        if state == SETTLED and campaign == value:
            return
        after = rules.after_capture(before, value, "why", known=True, may_exist_in_campaign=True)
        assert after == due(before, d365=value, ask=ask_of(before))


class TestComparison:
    """A capture in direction campaign_to_d365: nothing follows from a change alone."""

    @pytest.mark.parametrize("written", [0, 1])
    @pytest.mark.parametrize("again", [True, False])
    @pytest.mark.parametrize(
        ("state", "campaign", "d365", "value"), itertools.product(OptOutState, (None, 0, 1), (0, 1), (0, 1))
    )
    def test_truth_table(
        self, state: OptOutState, campaign: int | None, d365: int, value: int, again: bool, written: int
    ) -> None:
        before = row(campaign, THEN, d365=d365, written=written)._replace(**{**TRIED, "state": state}, source="file")
        moved = before._replace(d365=value, written=0)
        expected: OptOutRow | None = moved
        if again and state == SETTLED and campaign not in (None, value):
            expected = due(moved, source=rules.COMPARISON)
        elif d365 == value:
            expected = moved if written else None
        elif state in (TO_D365, TO_CAMPAIGN, REJECTED):  # decided about another value of Dynamics 365
            expected = rules.due_again(moved, ask=False)
            assert (expected.state, expected.source) == (DECIDE, "file")
        assert rules.after_comparison(before, value, again=again) == expected

    @pytest.mark.parametrize("again", [True, False])
    def test_of_a_contact_that_returns_campaign_is_asked(self, again: bool) -> None:
        before = row(1, THEN, d365=None)
        after = rules.after_comparison(before, 0, again=again)
        assert after == rules.due_again(before._replace(d365=0), ask=True)


class TestInsert:
    """Campaign made the profile."""

    @pytest.mark.parametrize(("d365", "sent"), [(0, 0), (1, 1), (None, 0)])
    def test_both_hold_what_was_sent(self, d365: int | None, sent: int) -> None:
        before = row(None, THEN, d365=d365, ask=1)._replace(**TRIED)
        after = rules.after_insert(before, sent, "why", NOW)
        assert after == settled(before, campaign=sent, campaign_at=None, stated_at=NOW, ours=1)

    @pytest.mark.parametrize(("d365", "sent"), [(0, 1), (1, 0), (None, 1)])
    def test_an_opt_out_that_changed_since_it_was_sent_is_to_be_decided(self, d365: int | None, sent: int) -> None:
        before = row(None, THEN, d365=d365)._replace(**TRIED)
        after = rules.after_insert(before, sent, "why", NOW)
        assert after == due(before, campaign=sent, campaign_at=None, stated_at=NOW, ours=1, ask=1)

    @pytest.mark.parametrize("sent", [0, 1])
    @pytest.mark.parametrize("state", OptOutState)
    def test_an_opt_out_of_campaign_is_not_undone(self, state: OptOutState, sent: int) -> None:
        """A person may have changed the profile, and a file told of it, before we hear that it was made."""
        before = row(1, THEN, d365=sent)._replace(**{**TRIED, "state": state})
        assert rules.after_insert(before, sent, "why", NOW) == due(before, ask=ask_of(before))


@pytest.mark.parametrize("state", OptOutState)
def test_of_a_profile_that_was_there_before_campaign_is_asked(state: OptOutState) -> None:
    before = row(1, THEN)._replace(**{**TRIED, "state": state})
    assert rules.after_existing_profile(before, "why") == due(before, campaign=None, ask=ask_of(before))


class TestDecided:
    def decided(self, before: OptOutRow, state: OptOutState) -> OptOutRow:
        return rules.after_decision(before, value=1, state=state, campaign=(0, THEN + 1), d365=(1, THEN + 2), now=NOW)

    @pytest.mark.parametrize("state", [TO_D365, TO_CAMPAIGN])
    def test_one_side_is_to_be_written(self, state: OptOutState) -> None:
        before = row(1, THEN, d365=0, ours=1)._replace(**{**TRIED, "value": None}, source="why")
        held = {"campaign": 0, "campaign_at": THEN + 1, "d365": 1, "d365_at": THEN + 2}
        after = self.decided(before, state)
        assert after == before._replace(**held, state=state, value=1, reason=None)
        assert (after.attempts, after.failed_since) == (2, 5)  # as long as it was not taken

    def test_both_agree(self) -> None:
        before = row(1, THEN, d365=0)._replace(**TRIED, source="why")
        held = {"campaign": 0, "campaign_at": THEN + 1, "d365": 1, "d365_at": THEN + 2}
        assert self.decided(before, SETTLED) == settled(before, **held)

    @pytest.mark.parametrize("state", [SETTLED, TO_D365, TO_CAMPAIGN])
    def test_an_answer_of_campaign_is_a_statement_of_campaign_as_of_now(self, state: OptOutState) -> None:
        asked, not_asked = (self.decided(row(1, THEN, ours=1, ask=ask), state) for ask in (1, 0))
        assert (asked.stated_at, asked.ours, asked.ask) == (NOW, 0, 0)
        assert (not_asked.stated_at, not_asked.ours, not_asked.ask) == (SAID, 1, 0)

    @pytest.mark.parametrize(
        ("campaign", "campaign_at", "kept", "is_default"),
        [
            (0, None, THEN, True),  # the value of a profile made anew: an old file's time stays processed
            (0, NOW, NOW, False),
            (1, None, None, False),
            (None, None, None, False),  # Campaign says nothing
        ],
    )
    def test_no_opt_out_without_a_time_of_change_is_the_default_of_our_insert(
        self, campaign: int | None, campaign_at: int | None, kept: int | None, is_default: bool
    ) -> None:
        after = rules.after_decision(
            row(1, THEN, ask=1), value=1, state=SETTLED, campaign=(campaign, campaign_at), d365=(1, None), now=NOW
        )  # fmt: skip
        assert (after.campaign_at, after.ours) == (kept, int(is_default))
        assert rules.changed_at(after) == campaign_at
        assert rules.since(after, value=False, at=None, created=SAID) == (NOW if campaign else campaign_at)
        assert rules.after_statement(after, (1, THEN), SAID, "old file", known=True)[0] != "news" or not is_default


@pytest.mark.parametrize(("ask", "campaign"), itertools.product((0, 1, rules.STATED), (None, 0, 1)))
def test_without_a_profile_an_opt_out_that_is_not_carried_yet_counts(ask: int, campaign: int | None) -> None:
    before = row(campaign, THEN, ask=ask, ours=1, state=DECIDE)
    counts = before._replace(campaign=1, ours=0, ask=0)
    assert rules.as_stated(before) == (counts if ask == rules.STATED else before)


@pytest.mark.parametrize("d365", [0, 1, None])
def test_without_a_profile_there_is_nothing_to_decide(d365: int | None) -> None:
    before = row(1, THEN, ask=1, ours=1)._replace(**TRIED, source="why")
    after = rules.after_missing_profile(before, d365)
    assert after == settled(before, campaign=None, campaign_at=None, ours=0, d365=d365)


class TestWritten:
    @pytest.mark.parametrize("value", [0, 1])
    def test_to_d365(self, value: int) -> None:
        before = row(value, THEN, d365=1 - value)._replace(**{**TRIED, "state": TO_D365, "value": value})
        assert rules.after_write(before, NOW) == settled(before, d365=value, written=1)

    def test_to_campaign(self) -> None:
        """The time that it told is that of what it held before."""
        before = row(0, THEN, d365=1)._replace(**{**TRIED, "state": TO_CAMPAIGN})
        after = rules.after_write(before, NOW)
        assert after == settled(before, campaign=1, stated_at=NOW, ours=1)
        assert after.campaign_at == THEN


def test_a_value_that_campaign_took_is_synced_if_dynamics_365_has_no_such_contact() -> None:
    before = row(0, THEN, d365=None, state=TO_CAMPAIGN, value=1)
    assert rules.after_write(before, NOW).state == SETTLED


def test_a_contact_that_dynamics_365_does_not_have_is_synced_without_a_value_there() -> None:
    before = row(1, THEN, d365=1, state=TO_D365, value=0)._replace(d365_at=THEN)
    after = rules.after_missing_contact(before)
    assert (after.state, after.value, after.d365, after.d365_at, after.campaign) == (SETTLED, None, None, None, 1)


def test_a_default_without_an_earlier_statement_has_nothing_to_keep() -> None:
    after = rules.after_decision(row(0, ask=1), value=0, state=SETTLED, campaign=(0, None), d365=(0, None), now=NOW)
    assert after.ours == 0


class TestRefused:
    def test_it_stands_with_its_reason_until_the_row_changes(self) -> None:
        before = row(0, THEN, d365=1, state=TO_CAMPAIGN, value=1)
        result = {"state": REJECTED, "attempts": 1, "reason": "no", "failed_since": NOW}
        assert rules.after_rejection(before, "n\x00o", NOW) == before._replace(**result)  # without NUL

    def test_tries_are_counted_from_the_first_one_on(self) -> None:
        first = rules.after_rejection(row(0, THEN, state=TO_CAMPAIGN, value=1), "no", NOW)
        again = rules.due_again(first, ask=True)
        assert again == due(first, ask=1, attempts=1, failed_since=NOW)._replace(source=first.source)
        held = {"campaign": (0, None), "d365": (1, None)}
        decided = rules.after_decision(again, value=1, state=TO_CAMPAIGN, now=NOW + 1, **held)
        second = rules.after_rejection(decided, "still no", NOW + 2)
        assert (second.attempts, second.failed_since, second.reason) == (2, NOW, "still no")
