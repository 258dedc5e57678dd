"""Opt-outs in the ledger: what either side says of them, what is counted, and profiles that are made with them."""

import json
from datetime import datetime, timedelta

import polars as pl
import pytest

from sync_assets.ledger import Ledger, times
from sync_assets.ledger.errors import FeedMoved
from sync_assets.ledger.feed import Position
from sync_assets.ledger.model import Claimed, Outcome
from sync_assets.ledger.repositories import opt_out_rows
from sync_assets.ledger.repositories.opt_outs import OptOutsLeft
from sync_assets.ledger.rules import opt_outs as rules
from sync_assets.push.delivery_result import Delivery, outcome
from sync_assets.push.request_body import body
from sync_assets_tests.support.ledgers import Clock, capture, claim, feed_of, frame, guid, row, save_page, session_of
from sync_assets_tests.unit.ledger.opt_out_rows import (
    ATTRIBUTES,
    EMAIL,
    PUSH,
    SAID,
    SETTLED,
    THEN,
    TO_CAMPAIGN,
    TO_D365,
    Statement,
    contacts,
    decided,
    due,
    in_campaign,
    opt_outs_page,
    state,
    statements,
    stored,
    there,
)


def test_a_default_of_all_contacts_costs_no_row(ledger: Ledger) -> None:
    counts = state(ledger, ("ada", False, None), ("bob", True, THEN), ("cid", False, THEN), ("dot", None, None))
    assert counts == {"default": 1, "news": 2}
    assert [stored(ledger, name) is None for name in ("ada", "bob", "cid", "dot")] == [True, False, False, True]


def test_a_file_is_older_only_if_it_was_written_before_the_last_statement(ledger: Ledger) -> None:
    """The time in its name may be that of another zone."""
    an_hour = timedelta(hours=1)
    state(ledger, ("ada", True, None), ("bob", True, None))
    for name, written, kind in (("ada", SAID - an_hour, "stale"), ("bob", SAID + an_hour, "news")):
        result = statements((name, False, None))
        assert +ledger.opt_outs.store_stated(result, ATTRIBUTES, "file", SAID - 5 * an_hour, written) == {kind: 1}
    assert (there(ledger, "ada").ask, there(ledger, "bob").ask) == (0, rules.STATED)
    assert there(ledger, "bob").stated_at == times.to_micros(SAID)


@pytest.mark.parametrize(("made_anew", "ask"), [("no", 0), ("perhaps", rules.STATED), ("yes", rules.STATED)])
def test_an_opt_out_of_a_profile_that_may_have_been_made_anew_is_asked_for(
    ledger: Ledger, made_anew: str, ask: int
) -> None:
    """The statement may be about the earlier one."""
    in_campaign(ledger, "ada")
    capture(ledger, row("ada", "b"))
    [claimed] = claim(ledger)
    session = session_of(ledger, "worker")
    if made_anew == "perhaps":
        ledger.claims.reinsert(session, claimed.seq)
    else:
        operation = "insert" if made_anew == "yes" else "update"
        ledger.claims.acknowledge(session, [Outcome(claimed.seq, "done", claimed.hash, operation=operation)])
    state(ledger, ("ada", True, THEN))
    assert there(ledger, "ada").ask == ask


def test_of_an_id_that_stands_twice_the_later_change_counts_in_any_order_and_campaign_is_asked(ledger: Ledger) -> None:
    later = THEN + timedelta(seconds=1)
    state(ledger, ("ada", True, THEN), ("ada", False, later), ("bob", False, later), ("bob", True, THEN))
    assert (there(ledger, "ada").campaign, there(ledger, "bob").campaign) == (0, 0)
    asked = (there(ledger, "ada").ask, there(ledger, "bob").ask)
    assert asked == (rules.STATED, rules.STATED), "the later time may be that of a wrong clock"
    state(ledger, ("cid", False, None), ("cid", True, THEN), ("dot", True, THEN), ("dot", False, None))
    assert (there(ledger, "cid").campaign, there(ledger, "dot").campaign) == (1, 1)
    state(ledger, ("eve", False, THEN), ("eve", True, None))
    assert [(one.campaign, one.ask) for one in ledger.opt_outs.of([guid("eve")])] == [(0, rules.STATED)]
    counts = state(ledger, ("ada", True, THEN), ("ada", False, later))  # as in each full file
    assert +counts == {"stale": 1, "known": 1}


def test_a_later_file_that_states_the_opposite_with_an_earlier_time_makes_campaign_asked(ledger: Ledger) -> None:
    """As after summer time, or after a clock that was ahead."""
    ahead = THEN + timedelta(hours=20)
    state(ledger, ("ada", False, ahead), ("bob", False, ahead), ("cid", True, ahead))
    for made, kind in ((SAID - timedelta(days=9), "stale"), (SAID, "news"), (SAID + timedelta(days=1), "news")):
        result = statements(("ada", True, THEN), ("cid", False, THEN))
        assert +ledger.opt_outs.store_stated(result, ATTRIBUTES, "file", made) == {kind: 2}, made
    assert [there(ledger, name).ask for name in ("ada", "bob", "cid")] == [rules.STATED, 0, rules.STATED]
    assert [there(ledger, name).campaign for name in ("ada", "bob", "cid")] == [0, 0, 1]  # until Campaign answers


def test_of_an_id_that_stands_twice_without_times_the_opt_out_counts_in_any_order(ledger: Ledger) -> None:
    state(ledger, ("ada", True, None), ("ada", False, None), ("bob", False, None), ("bob", True, None))
    assert (there(ledger, "ada").campaign, there(ledger, "bob").campaign) == (1, 1)


def test_of_an_id_that_stands_twice_with_one_time_campaign_is_asked(ledger: Ledger) -> None:
    state(ledger, ("ada", True, THEN), ("ada", False, THEN))
    assert there(ledger, "ada").ask == rules.STATED


@pytest.mark.parametrize("value", [True, False])
def test_of_a_row_that_another_transaction_inserted_meanwhile_campaign_is_asked(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, value: bool
) -> None:
    state(ledger, ("ada", False, THEN))
    monkeypatch.setattr(opt_out_rows.OptOutRows, "load", lambda *_: {})
    state(ledger, ("ada", value, THEN))
    assert [one.ask for one in ledger.opt_outs.of([guid("ada")])] == [rules.STATED if value else 1]


def test_statements_come_by_the_thousand(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opt_out_rows, "_BATCH", 700)
    result: list[Statement] = [(f"n{number}", number % 10 == 0, None) for number in range(3_000)]
    assert state(ledger, *result) == {"news": 300, "default": 2_700}
    assert state(ledger, *result, said=SAID + timedelta(days=1)) == {"known": 300, "default": 2_700}
    turned: list[Statement] = [(name, not value, THEN) for name, value, _ in result]
    assert state(ledger, *turned) == {"news": 3_000}
    assert ledger.opt_outs.left(ATTRIBUTES) == OptOutsLeft(decide=3_000)


def test_an_opt_out_is_stored_with_its_page_or_not_at_all(ledger: Ledger) -> None:
    position = Position("next", "columns")
    save_page(ledger, "contact", frame([row("ada")]), [], position, None, opt_outs=opt_outs_page(ada=False))
    with pytest.raises(FeedMoved):
        save_page(ledger, "contact", frame([row("ada")]), [], position, 7, opt_outs=opt_outs_page(ada=True))
    assert stored(ledger, "ada") is None
    contacts_without_ids = opt_outs_page(bob=True).drop("id")
    with pytest.raises(pl.exceptions.ColumnNotFoundError):
        save_page(ledger, "contact", frame([row("bob")]), [], position, 1, opt_outs=contacts_without_ids)
    assert feed_of(ledger).version == 1
    assert ledger.reports.counts()["contact"].records == 1


def test_contacts_that_are_not_opted_out_cost_no_row(ledger: Ledger) -> None:
    contacts(ledger, ada=False, bob=None, cid=True)
    assert [stored(ledger, name) is None for name in ("ada", "bob", "cid")] == [True, True, False]
    assert stored(ledger, "cid", PUSH) is None


def test_a_contact_that_states_the_same_again_is_not_written(ledger: Ledger) -> None:
    in_campaign(ledger, "ada")
    contacts(ledger, ada=True)
    before = there(ledger, "ada")
    contacts(ledger, ada=True)
    assert there(ledger, "ada") == before
    contacts(ledger, ada=None)  # no value is no opt-out
    assert (there(ledger, "ada").d365, there(ledger, "ada").version) == (0, before.version + 1)


def test_a_change_of_a_contact_that_campaign_has_is_due_and_campaign_is_to_be_asked(ledger: Ledger) -> None:
    in_campaign(ledger, "ada")
    contacts(ledger, ada=True)
    [one] = due(ledger)
    assert (one.id, one.d365, one.campaign, one.ask) == (guid("ada"), 1, None, 1)


def test_a_page_that_brings_a_contact_and_its_tombstone_forgets(ledger: Ledger) -> None:
    capture(ledger, row("ada"), deleted=["ada"], opt_outs=opt_outs_page(ada=True))
    assert stored(ledger, "ada") is None


@pytest.mark.postgresql
def test_open_opt_outs_are_counted_by_their_next_step(ledger: Ledger, clock: Clock) -> None:
    result: list[Statement] = [(f"n{number}", True, THEN) for number in range(6)]
    state(ledger, *result, push=True)
    rows = [one for one in due(ledger) if one.attribute == EMAIL]
    moved = [decided(one, side) for one, side in zip(rows, [TO_D365, TO_D365, TO_CAMPAIGN, SETTLED], strict=False)]
    ledger.opt_outs.put([*moved, rules.after_rejection(rows[4], "no", times.to_micros(clock.now))])
    ledger.holds.hold(rows[0].id)
    ledger.holds.hold(rows[3].id)
    left = ledger.opt_outs.left([EMAIL])
    assert left == OptOutsLeft(decide=1, to_d365=1, to_campaign=1, rejected=1, held=1)
    assert left.due == 3
    assert ledger.opt_outs.left([PUSH]) == OptOutsLeft(decide=4, held=2)
    assert ledger.opt_outs.left([]) == OptOutsLeft()


def test_written_opt_outs_are_counted_by_utc_day(ledger: Ledger, clock: Clock) -> None:
    today = clock.now.date()
    ledger.opt_outs.put([], counts={"to_d365": 2, "to_campaign": 0})
    ledger.opt_outs.put([], counts={"to_d365": 1, "to_campaign": 4})
    assert ledger.counts.numbers("opt_outs", today) == {"to_d365": 3, "to_campaign": 4}
    clock.advance(24 * 3600)
    assert ledger.counts.numbers("opt_outs", clock.now.date()) == {}
    assert ledger.counts.numbers("opt_outs", today) == {"to_d365": 3, "to_campaign": 4}


def claimed(ledger: Ledger, *names: str) -> list[Claimed]:
    result = ledger.claims.claim("contact", session_of(ledger, "worker"), limit=100, opt_outs=ATTRIBUTES)
    assert {one.id for one in result} == {guid(name) for name in names}
    return result


def settle(
    ledger: Ledger, one: Claimed, delivery: Delivery, *, owner: str = "worker", at: datetime | None = None
) -> None:
    ledger.claims.acknowledge(session_of(ledger, owner), [outcome(one, delivery, at)])


@pytest.mark.postgresql
def test_a_new_profile_is_made_with_opt_outs_and_with_nothing_that_is_none(ledger: Ledger) -> None:
    contacts(ledger, ada=True, bob=False)
    sent = {one.id: one for one in claimed(ledger, "ada", "bob")}
    assert sent[guid("ada")].opt_outs == ((EMAIL, True), (PUSH, False))
    assert sent[guid("bob")].opt_outs == ((EMAIL, False), (PUSH, False))
    for name, result in (("ada", {EMAIL: True}), ("bob", {})):
        one = sent[guid(name)]
        assert json.loads(body(one.payload, one, "externalId", patch=False)) == {"value": "a", **result}
        assert json.loads(body(one.payload, one, "externalId", patch=True)) == {"value": "a"}


def test_a_new_profile_holds_the_opt_outs_that_were_sent(ledger: Ledger, clock: Clock) -> None:
    contacts(ledger, ada=True)
    [one] = claimed(ledger, "ada")
    made_at = clock.now
    clock.advance(5)  # answers are stored together
    settle(ledger, one, Delivery("done", "inserted"), at=made_at)
    made = there(ledger, "ada")
    assert (made.state, made.campaign, made.ours, made.stated_at) == (SETTLED, 1, 1, times.to_micros(made_at))
    assert stored(ledger, "ada", PUSH) is None
    assert state(ledger, ("ada", True, clock.now), said=clock.now + timedelta(hours=1)) == {"echo": 1}
    assert due(ledger) == []


@pytest.mark.parametrize("first", [True, False])
def test_a_change_during_the_insert_of_a_profile_is_due(ledger: Ledger, first: bool) -> None:
    contacts(ledger, ada=first)
    [one] = claimed(ledger, "ada")
    contacts(ledger, ada=not first)
    settle(ledger, one, Delivery("done", "inserted"))
    [row] = due(ledger)
    assert (row.d365, row.ask) == (int(not first), 1)


def test_a_profile_was_not_made_after_now(ledger: Ledger, clock: Clock) -> None:
    """Clocks differ, and what Campaign says from now on is never older than that."""
    contacts(ledger, ada=True)
    [one] = claimed(ledger, "ada")
    settle(ledger, one, Delivery("done", "inserted"), at=clock.now + timedelta(hours=1))
    assert there(ledger, "ada").stated_at == times.to_micros(clock.now)


def test_of_a_profile_that_was_there_before_every_attribute_is_compared(ledger: Ledger) -> None:
    contacts(ledger, ada=True)
    [one] = claimed(ledger, "ada")
    settle(ledger, one, Delivery("done", "updated"))
    assert [(row.attribute, row.d365, row.campaign, row.ask) for row in due(ledger)] == [
        (EMAIL, 1, None, 1),
        (PUSH, 0, None, 1),
    ]


@pytest.mark.parametrize("delivery", [Delivery("refused", reason="no"), Delivery("later"), Delivery("unknown")])
def test_a_profile_that_was_not_made_changes_nothing(ledger: Ledger, delivery: Delivery) -> None:
    contacts(ledger, ada=True)
    before = there(ledger, "ada")
    [one] = claimed(ledger, "ada")
    settle(ledger, one, delivery)
    assert there(ledger, "ada") == before
