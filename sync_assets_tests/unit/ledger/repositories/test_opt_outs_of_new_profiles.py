"""Opt-outs of profiles that are made: they are sent with the insert, and compared with what was there."""

import json
from datetime import datetime, timedelta

import pytest

from sync_assets.ledger import Ledger, times
from sync_assets.ledger.model import Claimed
from sync_assets.push.delivery import Delivery, outcome
from sync_assets.push.request_body import body
from sync_assets_tests.support.ledgers import Clock, guid, session_of
from sync_assets_tests.unit.ledger.opt_out_rows import (
    ATTRIBUTES,
    EMAIL,
    PUSH,
    SETTLED,
    contacts,
    due,
    state,
    stored,
    there,
)


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
