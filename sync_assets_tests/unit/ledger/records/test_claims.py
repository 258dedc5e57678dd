"""Claims: a record is with one worker at a time, and never lost with it."""

from sync_assets.ledger import Ledger, Outcome
from sync_assets_tests.support.ledgers import (
    Clock,
    capture,
    claim,
    claim_one,
    guid,
    many,
    push,
    row,
    run_out,
    session_of,
)


def test_a_new_record_is_claimed_as_an_insert(ledger: Ledger) -> None:
    capture(ledger, row("anna", insert_only="1990"))
    one = claim_one(ledger)
    assert (one.id, one.operation, one.attempts, one.outcome_unknown) == (guid("anna"), "insert", 0, False)
    assert (one.payload, one.update_payload) == ('{"value":"a","once":"1990"}', '{"value":"a"}')


def test_what_one_worker_holds_no_other_gets(ledger: Ledger) -> None:
    capture(ledger, page=many(10))
    first = claim(ledger, "first", limit=6)
    second = claim(ledger, "second", limit=6)
    assert (len(first), len(second)) == (6, 4)
    assert not {one.seq for one in first} & {one.seq for one in second}
    assert claim(ledger, "third") == []
    assert claim(ledger, "first") == []


def test_the_oldest_change_is_claimed_first(ledger: Ledger, clock: Clock) -> None:
    capture(ledger, row("anna"), row("bert"))
    clock.advance(1)
    capture(ledger, row("carl"))
    clock.advance(1)
    capture(ledger, row("anna", "b"))
    assert [one.id for one in claim(ledger)] == [guid("bert"), guid("carl"), guid("anna")]


def test_a_session_that_expires_gives_its_records_to_the_next_one_as_uncertain(ledger: Ledger) -> None:
    capture(ledger, row("anna"))
    first = claim_one(ledger, "first")
    run_out(ledger, "first")
    second = claim_one(ledger, "second")
    assert (second.seq, second.operation, second.outcome_unknown) == (first.seq, "insert", True)


def test_what_a_push_left_claimed_is_released_as_uncertain(ledger: Ledger) -> None:
    capture(ledger, row("anna"), row("bert"))
    capture(ledger, row("carl"), table="account")
    claim(ledger, "first")
    claim(ledger, "first", table="account")
    assert ledger.counts()["contact"].leased == 2
    assert ledger.release("contact", session_of(ledger, "first")) == 2
    assert (ledger.counts()["contact"].leased, ledger.counts()["account"].leased) == (0, 1)
    assert [one.outcome_unknown for one in claim(ledger, "second")] == [True, True]


def test_an_answer_after_the_session_expired_is_not_stored_and_its_calls_are_counted(
    ledger: Ledger, clock: Clock
) -> None:
    capture(ledger, row("anna"))
    one, session = claim_one(ledger, "slow"), session_of(ledger, "slow")
    run_out(ledger, "slow")
    told = ledger.acknowledge(session, [Outcome(one.seq, "done", one.hash)], {("contact", "insert"): 1})
    assert (told.synced, told.claims_lost) == (0, 1)
    assert ledger.engine_calls(clock.now.date()) == {"insert": 1}
    assert claim_one(ledger, "next").outcome_unknown


def test_a_change_does_not_free_a_record_that_is_under_way(ledger: Ledger) -> None:
    capture(ledger, row("anna"))
    claim_one(ledger, "first")
    capture(ledger, row("anna", "b"))
    assert claim(ledger, "second") == []


def test_a_claim_may_be_empty(ledger: Ledger) -> None:
    assert claim(ledger) == []


def test_numbers_of_records_are_never_used_again(ledger: Ledger) -> None:
    capture(ledger, row("anna"))
    sent = push(ledger)
    capture(ledger, deleted=["anna"])
    push(ledger)
    capture(ledger, row("bert"))
    assert claim_one(ledger).seq > sent[0].seq
