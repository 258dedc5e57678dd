"""Claims and leases: a record is with one worker at a time, and never lost with it."""

from datetime import timedelta

from sync_assets.ledger import Ledger
from sync_assets_tests.support.ledgers import Clock, capture, claim, claim_one, guid, many, push, row, settle


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


def test_a_lease_that_runs_out_gives_the_record_to_the_next_worker_as_uncertain(ledger: Ledger, clock: Clock) -> None:
    capture(ledger, row("anna"))
    first = claim_one(ledger, "first", seconds=60)
    clock.advance(59)
    assert claim(ledger, "second") == []
    clock.advance(1)
    second = claim_one(ledger, "second")
    assert (second.seq, second.operation, second.outcome_unknown) == (first.seq, "insert", True)


def test_renewing_holds_a_lease_longer(ledger: Ledger, clock: Clock) -> None:
    capture(ledger, row("anna"), row("bert"))
    claim(ledger, "first", seconds=60)
    clock.advance(50)
    assert ledger.renew("first", 60) == 2
    clock.advance(50)
    assert claim(ledger, "second") == []
    assert ledger.renew("nobody", 60) == 0


def test_releasing_gives_back_what_a_dead_worker_held(ledger: Ledger, clock: Clock) -> None:
    capture(ledger, row("anna"), row("bert"))
    claim(ledger, "dead", seconds=3600)
    lease = ledger.leases()[0]
    assert (lease.owner, lease.records, lease.until) == ("dead", 2, clock.now + timedelta(hours=1))
    assert ledger.release("dead") == 2
    assert ledger.leases() == []
    assert [one.outcome_unknown for one in claim(ledger, "second")] == [True, True]


def test_leases_are_listed_by_owner_even_when_they_have_run_out(ledger: Ledger, clock: Clock) -> None:
    capture(ledger, page=many(5))
    claim(ledger, "b", limit=2, seconds=10)
    claim(ledger, "a", limit=1, seconds=100)
    clock.advance(20)
    assert [(lease.owner, lease.records, lease.until > clock.now) for lease in ledger.leases()] == [
        ("a", 1, True),
        ("b", 2, False),
    ]
    assert ledger.counts()["contact"].leased == 1


def test_an_answer_after_the_lease_ran_out_counts_until_another_worker_has_the_record(
    ledger: Ledger, clock: Clock
) -> None:
    capture(ledger, row("anna"), row("bert"))
    anna, bert = claim(ledger, "slow", seconds=10)
    clock.advance(20)
    assert settle(ledger, "done", anna, owner="slow").synced == 1
    again = claim_one(ledger, "next")
    assert again.seq == bert.seq
    assert settle(ledger, "done", bert, owner="slow").lease_lost == 1
    assert ledger.counts()["contact"].pending == 1
    assert settle(ledger, "done", again, owner="next").synced == 1


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
