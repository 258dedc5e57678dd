"""Opt-outs in the ledger: what either side says, what is due and what is written. No late answer undoes a word."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest

from sync_assets.ledger import Claimed, FeedMoved, Ledger, Position, times
from sync_assets.ledger.repositories import opt_outs
from sync_assets.ledger.repositories.opt_outs import OptOutRows, OptOutsLeft
from sync_assets.ledger.rules import opt_outs as rules
from sync_assets.ledger.rules.opt_outs import OptOut, OptOutState, Stated
from sync_assets.ledger.storage.session import LedgerSession
from sync_assets.push.delivery import Delivery, body, outcome
from sync_assets_tests.support.ledgers import Clock, capture, claim, explain, frame, guid, push, row, save_page

EMAIL, PUSH = "blackListEmail", "blackListPushnotification"
ATTRIBUTES = [EMAIL, PUSH]
THEN = datetime(2026, 11, 20, 8, 30, 15, 123_000, tzinfo=UTC)
SAID = datetime(2026, 11, 24, 6, 0, tzinfo=UTC)
SETTLED, DECIDE, TO_D365, TO_CAMPAIGN, REFUSED = OptOutState

Told = tuple[str, bool | None, datetime | None]
"""Name of the contact, the opt-out from email and its time."""


def statements(*told: Told, push: bool | None = None) -> pl.DataFrame:
    time = pl.Datetime("us", "UTC")
    schema = {"id": pl.String, EMAIL: pl.Boolean, f"{EMAIL}LastModified": time}
    rows = pl.DataFrame([(guid(name), value, at) for name, value, at in told], schema=schema, orient="row")
    return rows.with_columns(pl.lit(push, pl.Boolean).alias(PUSH), pl.lit(None, time).alias(f"{PUSH}LastModified"))


def state(ledger: Ledger, *told: Told, said: datetime = SAID, push: bool | None = None) -> Counter[Stated]:
    return +ledger.opt_outs_stated(statements(*told, push=push), ATTRIBUTES, "file", said)


def opt_outs_page(**told: bool | None) -> pl.DataFrame:
    """What rows of Dynamics 365 say of email, by name; of push they say nothing."""
    said = [{"id": guid(name), EMAIL: value, PUSH: None} for name, value in told.items()]
    return pl.DataFrame(said, schema={"id": pl.String, EMAIL: pl.Boolean, PUSH: pl.Boolean})


def contacts(ledger: Ledger, **told: bool | None) -> None:
    capture(ledger, *[row(name) for name in told], opt_outs=opt_outs_page(**told))


def in_campaign(ledger: Ledger, *names: str) -> None:
    capture(ledger, *[row(name) for name in names])
    push(ledger)


def stored(ledger: Ledger, name: str, attribute: str = EMAIL) -> OptOut | None:
    return next((one for one in ledger.opt_outs_of([guid(name)]) if one.attribute == attribute), None)


def there(ledger: Ledger, name: str, attribute: str = EMAIL) -> OptOut:
    found = stored(ledger, name, attribute)
    assert found is not None
    return found


def due(ledger: Ledger, state: OptOutState = DECIDE, **how: Any) -> list[OptOut]:
    return [one for rows in ledger.opt_outs_due(state, ATTRIBUTES, **how).values() for one in rows]


def decided(one: OptOut, state: OptOutState, value: int = 1) -> OptOut:
    """Dynamics 365 holds the opposite of what is to be written there, and so does Campaign."""
    held = {TO_D365: (value, 1 - value), TO_CAMPAIGN: (1 - value, value), SETTLED: (value, value)}[state]
    return rules.after_decision(
        one, value=value, state=state, campaign=held[0], campaign_at=None, d365=held[1], d365_at=1, now=2
    )


def decide(ledger: Ledger, state: OptOutState, value: int = 1) -> list[OptOut]:
    """All that is due is decided alike; as it stands then."""
    return ledger.put_opt_outs([decided(one, state, value) for one in due(ledger)])


# Statements of Campaign


def test_what_holds_of_everybody_costs_no_row(ledger: Ledger) -> None:
    counts = state(ledger, ("ada", False, None), ("bob", True, THEN), ("cid", False, THEN), ("dot", None, None))
    assert counts == {"default": 1, "news": 2}
    assert [stored(ledger, name) is None for name in ("ada", "bob", "cid", "dot")] == [True, False, False, True]


def test_news_is_due_with_what_was_said_and_who_said_it(ledger: Ledger) -> None:
    state(ledger, ("ada", True, THEN))
    assert there(ledger, "ada") == OptOut(
        guid("ada"),
        EMAIL,
        campaign=1,
        campaign_at=times.to_micros(THEN),
        stated_at=times.to_micros(SAID),
        state=DECIDE,
        source="file",
    )
    assert due(ledger) == [there(ledger, "ada")]


def test_each_attribute_is_a_matter_of_its_own(ledger: Ledger) -> None:
    assert state(ledger, ("ada", True, THEN), push=True) == {"news": 2}
    assert state(ledger, ("ada", True, THEN), push=False) == {"known": 1, "news": 1}


def test_a_file_that_is_stated_again_is_no_news(ledger: Ledger) -> None:
    told: list[Told] = [("ada", True, THEN), ("bob", False, THEN), ("cid", True, None), ("dot", False, None)]
    assert state(ledger, *told) == {"news": 3, "default": 1}
    before = ledger.opt_outs_of([guid(name) for name, *_ in told])
    assert state(ledger, *told) == {"known": 3, "default": 1}
    assert ledger.opt_outs_of([guid(name) for name, *_ in told]) == before


def test_an_older_file_is_stale(ledger: Ledger) -> None:
    state(ledger, ("ada", True, THEN), ("bob", True, None))
    before = [there(ledger, "ada"), there(ledger, "bob")]
    older = state(
        ledger, ("ada", False, THEN - timedelta(days=1)), ("bob", False, None), said=SAID - timedelta(hours=1)
    )
    assert older == {"stale": 2}
    assert [there(ledger, "ada"), there(ledger, "bob")] == before


def test_a_file_is_older_only_if_it_was_written_before_the_last_statement(ledger: Ledger) -> None:
    """The time in its name may be that of another zone."""
    an_hour = timedelta(hours=1)
    state(ledger, ("ada", True, None), ("bob", True, None))
    for name, written, kind in (("ada", SAID - an_hour, "stale"), ("bob", SAID + an_hour, "news")):
        told = statements((name, False, None))
        assert +ledger.opt_outs_stated(told, ATTRIBUTES, "file", SAID - 5 * an_hour, written) == {kind: 1}
    assert (there(ledger, "ada").ask, there(ledger, "bob").ask) == (0, 1)
    assert there(ledger, "bob").stated_at == times.to_micros(SAID)


def test_of_an_id_that_stands_twice_the_later_change_counts_in_any_order(ledger: Ledger) -> None:
    later = THEN + timedelta(seconds=1)
    state(ledger, ("ada", True, THEN), ("ada", False, later), ("bob", False, later), ("bob", True, THEN))
    assert (there(ledger, "ada").campaign, there(ledger, "bob").campaign) == (0, 0)
    state(ledger, ("cid", False, None), ("cid", True, THEN), ("dot", True, THEN), ("dot", False, None))
    assert (there(ledger, "cid").campaign, there(ledger, "dot").campaign) == (1, 1)
    state(ledger, ("eve", False, THEN), ("eve", True, None))
    assert [(one.campaign, one.ask) for one in ledger.opt_outs_of([guid("eve")])] == [(0, 0)]


def test_of_an_id_that_stands_twice_without_times_the_opt_out_counts_in_any_order(ledger: Ledger) -> None:
    state(ledger, ("ada", True, None), ("ada", False, None), ("bob", False, None), ("bob", True, None))
    assert (there(ledger, "ada").campaign, there(ledger, "bob").campaign) == (1, 1)


def test_of_an_id_that_stands_twice_with_one_time_campaign_is_asked(ledger: Ledger) -> None:
    state(ledger, ("ada", True, THEN), ("ada", False, THEN))
    assert there(ledger, "ada").ask == 1


def test_statements_come_by_the_thousand(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opt_outs, "_BATCH", 700)
    told: list[Told] = [(f"n{number}", number % 10 == 0, None) for number in range(3_000)]
    assert state(ledger, *told) == {"news": 300, "default": 2_700}
    assert state(ledger, *told, said=SAID + timedelta(days=1)) == {"known": 300, "default": 2_700}
    turned: list[Told] = [(name, not value, THEN) for name, value, _ in told]
    assert state(ledger, *turned) == {"news": 3_000}
    assert ledger.opt_outs_left(ATTRIBUTES) == OptOutsLeft(decide=3_000)


def test_an_empty_frame_says_nothing(ledger: Ledger) -> None:
    assert not state(ledger).total()


# Captures of Dynamics 365


def test_an_opt_out_is_stored_with_its_page_or_not_at_all(ledger: Ledger) -> None:
    position = Position("next", "page", "columns", 1, complete=False)
    save_page(ledger, "contact", frame([row("ada")]), [], position, None, opt_outs=opt_outs_page(ada=False))
    with pytest.raises(FeedMoved):
        save_page(ledger, "contact", frame([row("ada")]), [], position, 7, opt_outs=opt_outs_page(ada=True))
    assert stored(ledger, "ada") is None
    contacts_without_ids = opt_outs_page(bob=True).drop("id")
    with pytest.raises(pl.exceptions.ColumnNotFoundError):
        save_page(ledger, "contact", frame([row("bob")]), [], position, 1, opt_outs=contacts_without_ids)
    feed = ledger.feed("contact")
    assert feed is not None
    assert feed.version == 1
    assert ledger.counts()["contact"].records == 1


def test_contacts_that_are_not_opted_out_cost_no_row(ledger: Ledger) -> None:
    contacts(ledger, ada=False, bob=None, cid=True)
    assert [stored(ledger, name) is None for name in ("ada", "bob", "cid")] == [True, True, False]
    assert stored(ledger, "cid", PUSH) is None


def test_a_contact_that_says_the_same_again_is_not_written(ledger: Ledger) -> None:
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


def test_a_contact_that_campaign_does_not_have_is_not_due(ledger: Ledger) -> None:
    contacts(ledger, ada=True)
    assert due(ledger) == []
    assert there(ledger, "ada").d365 == 1


def test_a_contact_whose_insert_is_not_answered_may_be_in_campaign(ledger: Ledger) -> None:
    capture(ledger, row("ada"))
    claim(ledger)
    contacts(ledger, ada=True)
    assert [one.ask for one in due(ledger)] == [1]


def test_a_change_takes_an_earlier_decision_back(ledger: Ledger) -> None:
    in_campaign(ledger, "ada")
    contacts(ledger, ada=True)
    decide(ledger, TO_CAMPAIGN)
    contacts(ledger, ada=False)
    assert due(ledger, TO_CAMPAIGN) == []
    assert [one.value for one in due(ledger)] == [None]


def test_other_tables_have_no_opt_outs(ledger: Ledger) -> None:
    state(ledger, ("ada", True, THEN))
    capture(ledger, row("ada"), table="account", opt_outs=opt_outs_page(ada=False, bob=True))
    capture(ledger, deleted=["ada"], table="account")
    assert there(ledger, "ada").version == 0
    assert stored(ledger, "bob") is None


def test_a_tombstone_forgets(ledger: Ledger) -> None:
    in_campaign(ledger, "ada", "bob")
    state(ledger, ("ada", True, THEN), ("bob", True, THEN), push=True)
    capture(ledger, deleted=["ada"])
    assert ledger.opt_outs_of([guid("ada")]) == []
    assert len(ledger.opt_outs_of([guid("bob")])) == 2


def test_a_page_that_brings_a_contact_and_its_tombstone_forgets(ledger: Ledger) -> None:
    capture(ledger, row("ada"), deleted=["ada"], opt_outs=opt_outs_page(ada=True))
    assert stored(ledger, "ada") is None


def test_a_contact_that_leaves_the_scope_keeps_its_opt_outs(ledger: Ledger) -> None:
    in_campaign(ledger, "ada")
    contacts(ledger, ada=True)
    capture(ledger, out_of_scope=[guid("ada")], opt_outs=opt_outs_page())
    assert len(due(ledger)) == 1


# Profiles that are made


def claimed(ledger: Ledger, *names: str) -> list[Claimed]:
    found = ledger.claim("contact", owner="worker", limit=100, lease_seconds=60, opt_outs=ATTRIBUTES)
    assert {one.id for one in found} == {guid(name) for name in names}
    return found


def settle(
    ledger: Ledger, one: Claimed, delivery: Delivery, *, owner: str = "worker", at: datetime | None = None
) -> None:
    ledger.acknowledge(owner, [outcome(one, delivery, at)])


def test_a_new_profile_is_made_with_opt_outs_and_with_nothing_that_is_none(ledger: Ledger) -> None:
    contacts(ledger, ada=True, bob=False)
    sent = {one.id: one for one in claimed(ledger, "ada", "bob")}
    assert sent[guid("ada")].opt_outs == ((EMAIL, True), (PUSH, False))
    assert sent[guid("bob")].opt_outs == ((EMAIL, False), (PUSH, False))
    for name, told in (("ada", {EMAIL: True}), ("bob", {})):
        one = sent[guid(name)]
        assert json.loads(body(one.payload, one, "externalId", patch=False)) == {"value": "a", **told}
        assert json.loads(body(one.payload, one, "externalId", patch=True)) == {"value": "a"}


def test_a_claim_that_asks_for_no_opt_outs_gets_none(ledger: Ledger) -> None:
    contacts(ledger, ada=True)
    assert [one.opt_outs for one in claim(ledger)] == [()]


def test_a_delete_carries_none(ledger: Ledger) -> None:
    in_campaign(ledger, "ada")
    capture(ledger, deleted=["ada"])
    assert [(one.operation, one.opt_outs) for one in claimed(ledger, "ada")] == [("delete", ())]


def test_a_profile_that_was_made_holds_what_was_sent(ledger: Ledger, clock: Clock) -> None:
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
def test_what_changed_while_the_profile_was_made_is_due(ledger: Ledger, first: bool) -> None:
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


def test_what_a_file_told_of_the_new_profile_already_is_not_undone(ledger: Ledger, clock: Clock) -> None:
    contacts(ledger, ada=False)
    [one] = claimed(ledger, "ada")
    state(ledger, ("ada", True, THEN))
    settle(ledger, one, Delivery("done", "inserted"))
    assert [(row.campaign, row.ask) for row in due(ledger)] == [(1, 1)]


def test_a_profile_that_is_made_after_its_contact_went_and_came_back_is_compared(ledger: Ledger) -> None:
    contacts(ledger, ada=True)
    [one] = claimed(ledger, "ada")
    capture(ledger, deleted=["ada"])
    contacts(ledger, ada=False)
    settle(ledger, one, Delivery("done", "inserted"))
    assert [(row.campaign, row.d365, row.ask) for row in due(ledger)] == [(1, 0, 1)]
    assert claimed(ledger) == []


def test_of_a_profile_that_was_there_before_every_attribute_is_compared(ledger: Ledger) -> None:
    contacts(ledger, ada=True)
    [one] = claimed(ledger, "ada")
    settle(ledger, one, Delivery("done", "updated"))
    assert [(row.attribute, row.d365, row.campaign, row.ask) for row in due(ledger)] == [
        (EMAIL, 1, None, 1),
        (PUSH, 0, None, 1),
    ]


def test_an_update_of_a_profile_compares_nothing(ledger: Ledger) -> None:
    in_campaign(ledger, "ada")
    capture(ledger, row("ada", "b"))
    [one] = claimed(ledger, "ada")
    settle(ledger, one, Delivery("done", "updated"))
    assert due(ledger) == []


@pytest.mark.parametrize("delivery", [Delivery("refused", reason="no"), Delivery("later"), Delivery("unknown")])
def test_a_profile_that_was_not_made_changes_nothing(ledger: Ledger, delivery: Delivery) -> None:
    contacts(ledger, ada=True)
    before = there(ledger, "ada")
    [one] = claimed(ledger, "ada")
    settle(ledger, one, delivery)
    assert there(ledger, "ada") == before


def test_an_answer_to_another_worker_counts_for_nothing(ledger: Ledger) -> None:
    contacts(ledger, ada=True)
    before = there(ledger, "ada")
    [one] = claimed(ledger, "ada")
    settle(ledger, one, Delivery("done", "inserted"), owner="stranger")
    assert there(ledger, "ada") == before


# Decisions and writes


def test_a_decision_is_due_on_the_side_that_is_to_be_written(ledger: Ledger) -> None:
    state(ledger, ("ada", True, THEN))
    decide(ledger, TO_D365)
    assert due(ledger) == []
    [one] = due(ledger, TO_D365)
    assert (one.value, one.version) == (1, 1)
    ledger.put_opt_outs([rules.after_write(one, 5)], counts={"to_d365": 1})
    assert ledger.opt_outs_left(ATTRIBUTES) == OptOutsLeft()
    assert (there(ledger, "ada").state, there(ledger, "ada").d365) == (SETTLED, 1)


def test_an_answer_that_comes_after_a_newer_word_changes_nothing(ledger: Ledger) -> None:
    state(ledger, ("ada", True, THEN))
    [one] = decide(ledger, TO_D365)
    state(ledger, ("ada", False, THEN + timedelta(days=1)))
    before = there(ledger, "ada")
    assert ledger.put_opt_outs([rules.after_write(one, 5)]) == []
    assert there(ledger, "ada") == before
    assert due(ledger) == [before]


def test_what_was_stored_may_be_put_again_as_it_stands_and_nothing_else(ledger: Ledger) -> None:
    """A row that stayed has by now the version that ours would have."""
    in_campaign(ledger, "ada", "bob")
    contacts(ledger, ada=True, bob=True)
    before = decide(ledger, TO_CAMPAIGN)
    contacts(ledger, ada=False)
    marked = ledger.put_opt_outs([one._replace(sent=1) for one in before])
    assert marked == [there(ledger, "bob")]
    assert there(ledger, "ada").version == next(one.version for one in before if one.id == guid("ada")) + 1
    assert [one.version for one in ledger.put_opt_outs([rules.after_write(one, 5) for one in marked])] == [3]
    assert (there(ledger, "ada").state, there(ledger, "bob").state) == (DECIDE, SETTLED)


def test_a_row_that_was_forgotten_meanwhile_does_not_come_back(ledger: Ledger) -> None:
    state(ledger, ("ada", True, THEN))
    [one] = due(ledger)
    capture(ledger, deleted=["ada"])
    assert ledger.put_opt_outs([decided(one, TO_D365)]) == []
    assert stored(ledger, "ada") is None


def test_a_row_that_appeared_in_the_meantime_is_to_be_decided_anew(ledger: Ledger) -> None:
    """Two transactions of PostgreSQL may both find none, and the second one waits for the first."""
    state(ledger, ("ada", True, THEN))
    decide(ledger, TO_D365)
    before, mine = there(ledger, "ada"), OptOut(guid("ada"), EMAIL, d365=1, state=SETTLED)
    rows = OptOutRows(LedgerSession(ledger.database, lambda: THEN))
    ledger.database.write(lambda connection: rows.put(connection, {}, [mine]))
    assert there(ledger, "ada") == before._replace(state=DECIDE, ask=1, version=before.version + 1)


def test_contacts_that_are_gone_are_forgotten(ledger: Ledger) -> None:
    state(ledger, ("ada", True, THEN), ("bob", True, THEN), push=True)
    assert len(ledger.put_opt_outs([decided(there(ledger, "bob"), TO_D365)], gone=[guid("ada")])) == 1
    assert ledger.opt_outs_of([guid("ada")]) == []
    assert [one.id for one in due(ledger, TO_D365)] == [guid("bob")]


def test_what_is_due_comes_contact_by_contact(ledger: Ledger) -> None:
    names = sorted((f"n{number}" for number in range(5)), key=guid)
    state(ledger, *[(name, True, THEN) for name in names], push=True)
    first = ledger.opt_outs_due(DECIDE, ATTRIBUTES, limit=2)
    assert list(first) == [guid(name) for name in names[:2]]
    assert [[one.attribute for one in rows] for rows in first.values()] == [ATTRIBUTES, ATTRIBUTES]
    assert list(ledger.opt_outs_due(DECIDE, ATTRIBUTES, after=max(first))) == [guid(name) for name in names[2:]]
    assert [one.attribute for one in ledger.opt_outs_due(DECIDE, [PUSH])[guid("n0")]] == [PUSH]
    assert ledger.opt_outs_due(TO_D365, ATTRIBUTES) == {}


def test_of_a_contact_only_that_is_due_which_is_in_that_state(ledger: Ledger) -> None:
    state(ledger, ("ada", True, THEN), push=True)
    ledger.put_opt_outs([decided(there(ledger, "ada"), TO_D365)])
    assert [(one.attribute, one.state) for one in due(ledger)] == [(PUSH, DECIDE)]
    assert [(one.attribute, one.state) for one in due(ledger, TO_D365)] == [(EMAIL, TO_D365)]


def test_what_is_due_is_found_by_its_index(ledger: Ledger) -> None:
    """Nearly all rows of a large ledger are settled."""
    for given in DECIDE, TO_D365, TO_CAMPAIGN:
        query = opt_outs._DUE.format(state=int(given)).replace(":after", "''").replace(":limit", "500")
        plan = "\n".join(explain(ledger, query.replace(":attributes", f"('{EMAIL}')"), ()))
        assert "sync_opt_out_due" in plan
        assert "Seq Scan on sync_opt_out" not in plan
        assert "SCAN o" not in plan


# Privacy holds


def test_a_contact_on_hold_is_never_due_and_goes_on_when_it_is_released(ledger: Ledger) -> None:
    in_campaign(ledger, "ada", "bob")
    state(ledger, ("ada", True, THEN), ("bob", True, THEN))
    for given in DECIDE, TO_D365, TO_CAMPAIGN:
        if given != DECIDE:
            decide(ledger, given)
        ledger.hold("contact", guid("ada"))
        assert [one.id for one in due(ledger, given)] == [guid("bob")]
        assert ledger.opt_outs_left(ATTRIBUTES).held == 1
        ledger.end_hold("contact", guid("ada"), gone=False)
        assert len(due(ledger, given)) == 2
        ledger.put_opt_outs([rules.due_again(one, ask=False) for one in due(ledger, given)])


def test_words_of_a_contact_on_hold_are_heard(ledger: Ledger) -> None:
    in_campaign(ledger, "ada")
    ledger.hold("contact", guid("ada"))
    assert state(ledger, ("ada", True, THEN)) == {"news": 1}
    contacts(ledger, ada=True)
    assert due(ledger) == []
    ledger.end_hold("contact", guid("ada"), gone=False)
    assert [(one.campaign, one.d365) for one in due(ledger)] == [(1, 1)]


def test_a_hold_on_a_row_of_another_table_is_none_on_the_contact(ledger: Ledger) -> None:
    state(ledger, ("ada", True, THEN))
    ledger.hold("account", guid("ada"))
    assert len(due(ledger)) == 1
    assert ledger.opt_outs_left(ATTRIBUTES) == OptOutsLeft(decide=1)


# What was refused


def refuse(ledger: Ledger, clock: Clock, reason: str = "no") -> None:
    refused = [rules.after_rejection(one, reason, times.to_micros(clock.now)) for one in due(ledger, TO_D365)]
    ledger.put_opt_outs(refused)


def test_what_was_refused_stands_as_a_reject_until_it_is_retried(ledger: Ledger, clock: Clock) -> None:
    state(ledger, ("ada", True, THEN), ("bob", True, THEN))
    decide(ledger, TO_D365)
    since = clock.now
    refuse(ledger, clock)
    assert ledger.opt_outs_left(ATTRIBUTES) == OptOutsLeft(refused=2)
    assert ledger.retry_opt_outs(guid("ada")) == 1
    assert [one.id for one in due(ledger)] == [guid("ada")]
    [reject] = ledger.refused_opt_outs()
    told = (reject.table, reject.id, reject.reason, reject.since, reject.attempts, reject.retryable)
    assert told == ("contact", guid("bob"), f"{EMAIL}: no", since, 1, True)
    assert ledger.retry_opt_outs() == 1
    assert ledger.retry_opt_outs() == 0
    clock.advance(60)
    decide(ledger, TO_D365)
    refuse(ledger, clock, "still no")
    assert {(one.reason, one.since, one.attempts) for one in ledger.refused_opt_outs()} == {
        (f"{EMAIL}: still no", since, 2)
    }


def test_campaign_is_asked_again_before_a_retry(ledger: Ledger, clock: Clock) -> None:
    state(ledger, ("ada", True, THEN))
    decide(ledger, TO_D365)
    refuse(ledger, clock)
    ledger.retry_opt_outs()
    assert [one.ask for one in due(ledger)] == [1]


def test_decisions_may_be_reconsidered(ledger: Ledger) -> None:
    state(ledger, ("ada", True, THEN), ("bob", True, THEN))
    ada, bob = due(ledger)
    ledger.put_opt_outs([decided(ada, TO_CAMPAIGN), decided(bob, TO_D365)])
    assert ledger.reconsider_opt_outs(TO_CAMPAIGN) == 1
    assert [(one.id, one.value, one.ask) for one in due(ledger)] == [(ada.id, None, 1)]
    assert [one.id for one in due(ledger, TO_D365)] == [bob.id]


# What is told of it


def test_what_is_left_is_counted_by_what_is_to_be_done(ledger: Ledger, clock: Clock) -> None:
    told: list[Told] = [(f"n{number}", True, THEN) for number in range(6)]
    state(ledger, *told, push=True)
    rows = [one for one in due(ledger) if one.attribute == EMAIL]
    moved = [decided(one, side) for one, side in zip(rows, [TO_D365, TO_D365, TO_CAMPAIGN, SETTLED], strict=False)]
    ledger.put_opt_outs([*moved, rules.after_rejection(rows[4], "no", times.to_micros(clock.now))])
    ledger.hold("contact", rows[0].id)
    ledger.hold("contact", rows[3].id)
    left = ledger.opt_outs_left([EMAIL])
    assert left == OptOutsLeft(decide=1, to_d365=1, to_campaign=1, refused=1, held=1)
    assert left.due == 3
    assert ledger.opt_outs_left([PUSH]) == OptOutsLeft(decide=4, held=2)
    assert ledger.opt_outs_left([]) == OptOutsLeft()


def test_what_was_done_is_counted_by_utc_day(ledger: Ledger, clock: Clock) -> None:
    today = clock.now.date()
    ledger.put_opt_outs([], counts={"to_d365": 2, "to_campaign": 0})
    ledger.put_opt_outs([], counts={"to_d365": 1, "to_campaign": 4})
    assert ledger.opt_out_counts(today) == {"to_d365": 3, "to_campaign": 4}
    clock.advance(24 * 3600)
    assert ledger.opt_out_counts(clock.now.date()) == {}
    assert ledger.opt_out_counts(today) == {"to_d365": 3, "to_campaign": 4}
