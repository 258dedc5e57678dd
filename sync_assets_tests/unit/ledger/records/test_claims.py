"""Claims: a record is with one worker at a time, and never lost with it. An outcome is that of what was sent."""

from datetime import timedelta

import pytest

from sync_assets.ledger import Ledger
from sync_assets.ledger.model import Claimed, Outcome, State
from sync_assets.ledger.records import claims
from sync_assets.ledger.report_values import Retried
from sync_assets_tests.support.ledgers import (
    Clock,
    capture,
    claim,
    claim_one,
    guid,
    hash_of,
    many,
    push,
    record,
    row,
    run_out,
    session_of,
    settle,
    stored,
)


def test_a_record_that_one_worker_claimed_no_other_gets(ledger: Ledger) -> None:
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


def test_a_claim_that_a_push_left_is_released_as_unknown(ledger: Ledger) -> None:
    capture(ledger, row("anna"), row("bert"))
    capture(ledger, row("carl"), table="account")
    claim(ledger, "first")
    claim(ledger, "first", table="account")
    assert ledger.reports.counts()["contact"].leased == 2
    assert ledger.claims.release("contact", session_of(ledger, "first")) == 2
    assert (ledger.reports.counts()["contact"].leased, ledger.reports.counts()["account"].leased) == (0, 1)
    assert [one.outcome_unknown for one in claim(ledger, "second")] == [True, True]


def test_a_claim_counts_whether_an_earlier_request_is_unknown_too(ledger: Ledger) -> None:
    capture(ledger, row("anna"))
    for outcome_unknown in (1, 2, 2):
        one = claim_one(ledger)
        assert record(ledger, "anna").outcome_unknown == outcome_unknown
        settle(ledger, "unknown", one)


@pytest.mark.parametrize("ends", [None, "done", "later", "dead"])
def test_a_held_record_is_sent_once_more_although_the_horizon_passed_while_a_request_was_under_way(
    ledger: Ledger, clock: Clock, ends: str | None
) -> None:
    """Campaign may have carried out the request before the earlier one."""
    capture(ledger, row("anna"))
    unanswered(ledger, claim_one(ledger))
    capture(ledger, row("anna", "b"))
    one = claim_one(ledger) if ends else None
    ledger.holds.hold(guid("anna"))
    clock.advance(HORIZON)
    if ends == "dead":
        run_out(ledger, "worker")
    assert claim(ledger, "other") == []
    if one and ends != "dead":
        settle(ledger, ends, one)
    ledger.holds.end_hold(guid("anna"), deleted=False)
    capture(ledger, row("anna", "b"))
    again = claim_one(ledger, "other")
    assert (again.outcome_unknown, again.id) == (True, guid("anna"))


def test_an_answer_after_the_session_expired_is_not_stored_and_its_calls_are_counted(
    ledger: Ledger, clock: Clock
) -> None:
    capture(ledger, row("anna"))
    one, session = claim_one(ledger, "slow"), session_of(ledger, "slow")
    run_out(ledger, "slow")
    result = ledger.claims.acknowledge(session, [Outcome(one.seq, "done", one.hash)], {("contact", "insert"): 1})
    assert result == 0
    assert ledger.counts.numbers("engine_calls", clock.now.date()) == {"insert": 1}
    assert claim_one(ledger, "next").outcome_unknown


def test_numbers_of_records_are_never_used_again(ledger: Ledger) -> None:
    capture(ledger, row("anna"))
    sent = push(ledger)
    capture(ledger, deleted=["anna"])
    push(ledger)
    capture(ledger, row("bert"))
    assert claim_one(ledger).seq > sent[0].seq


HORIZON = 900


def unanswered(ledger: Ledger, one: Claimed) -> None:
    """Acknowledge a record whose first request got no answer, and whose second one was successful."""
    settle(ledger, "done", one, unanswered=True)


@pytest.mark.postgresql
def test_a_record_acknowledged_after_a_lost_answer_is_sent_once_more_at_its_horizon(
    ledger: Ledger, clock: Clock
) -> None:
    capture(ledger, row("anna"), row("bert"))
    one, other = claim(ledger)
    unanswered(ledger, one)
    settle(ledger, "done", other)
    counts = ledger.reports.counts()["contact"]
    assert (counts.synced, counts.unconfirmed, counts.pending, counts.records) == (2, 1, 0, 2)
    at = clock.now + timedelta(seconds=HORIZON)
    assert (
        ledger.reports.next_due()
        == ledger.reports.next_due("contact")
        == ledger.reports.unconfirmed_until("contact")
        == at
    )
    assert ledger.reports.unconfirmed_until("account") is None
    clock.advance(HORIZON - 1)
    assert claim(ledger) == []
    clock.advance(1)
    assert ledger.reports.next_due("contact") == clock.now
    again = claim_one(ledger)
    assert (again.id, again.operation, again.payload, again.unknown_seconds) == (one.id, "update", one.payload, None)
    settle(ledger, "done", again)
    counts = ledger.reports.counts()["contact"]
    assert (counts.synced, counts.unconfirmed) == (2, 0)
    assert ledger.reports.next_due() is None
    assert stored(ledger)[one.id].payload is None


@pytest.mark.postgresql
def test_a_payload_is_erased_at_its_horizon_and_its_row_read_again_where_no_push_came(
    ledger: Ledger, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims, "_AT_ONCE", 2)
    names = ("anna", "bert", "cara")
    capture(ledger, *map(row, names), row("dora"))
    *late, dora = claim(ledger)
    for one in late:
        unanswered(ledger, one)
    settle(ledger, "later", dora)
    clock.advance(HORIZON - 1)
    assert ledger.claims.erase_expired() == 0
    clock.advance(1)
    assert ledger.claims.erase_expired() == 3
    assert ledger.claims.erase_expired() == 0
    assert {id_ for id_, one in stored(ledger).items() if one.payload} == {dora.id}  # pending as before
    counts = ledger.reports.counts()["contact"]
    assert (counts.pending, counts.waiting, counts.unconfirmed) == (1, 3, 0)
    assert ledger.blocked.ids_to_refetch("contact") == [one.id for one in late]
    capture(ledger, *map(row, names))
    assert [(one.operation, one.payload) for one in claim(ledger) if one.seq != dora.seq] == [
        ("update", one.payload) for one in late
    ]


@pytest.mark.parametrize("change", ["changed", "deleted and made again"])
def test_at_the_horizon_what_campaign_holds_of_a_pending_record_is_unknown(
    ledger: Ledger, clock: Clock, change: str
) -> None:
    capture(ledger, row("anna"))
    unanswered(ledger, claim_one(ledger))
    if change != "changed":
        capture(ledger, deleted=["anna"])
        assert [one.operation for one in push(ledger)] == ["delete"]
    capture(ledger, row("anna", "b"))
    clock.advance(HORIZON)
    one = claim_one(ledger)
    assert (one.outcome_unknown, one.unknown_seconds) == (True, None)
    settle(ledger, "later", one)
    assert record(ledger, "anna").outcome_unknown == 1


def test_a_record_that_is_deleted_after_a_lost_answer_is_deleted_once_more(ledger: Ledger, clock: Clock) -> None:
    capture(ledger, row("anna"))
    settle(ledger, "unknown", claim_one(ledger))
    capture(ledger, deleted=["anna"])
    assert [one.operation for one in push(ledger)] == ["delete"]
    counts = ledger.reports.counts()["contact"]
    assert (counts.synced, counts.unconfirmed, counts.records) == (0, 1, 0)
    assert claim(ledger) == []
    clock.advance(HORIZON)
    assert [one.operation for one in push(ledger)] == ["delete"]
    assert stored(ledger) == {}
    assert ledger.reports.counts()["contact"].unconfirmed == 0


@pytest.mark.postgresql
@pytest.mark.parametrize("ends", ["released", "expired"])
def test_the_last_request_of_a_dead_worker_may_take_effect_until_its_horizon(
    ledger: Ledger, clock: Clock, ends: str
) -> None:
    capture(ledger, row("anna"))
    claim(ledger, "dead")
    if ends == "released":
        ledger.claims.release("contact", session_of(ledger, "dead"))
    else:
        ledger.sessions.expire(lambda worker: True)
    clock.advance(60)
    [related] = ledger.holds.related(guid("anna"))
    assert related.unknown_until
    one = claim_one(ledger, "second")
    assert one.unknown_seconds
    assert HORIZON - 60 <= one.unknown_seconds <= HORIZON  # PostgreSQL: by its own clock
    settle(ledger, "done", one, owner="second")
    assert ledger.reports.counts()["contact"].unconfirmed == 1


@pytest.mark.postgresql
def test_records_whose_requests_failed_come_behind_all_others(ledger: Ledger, clock: Clock) -> None:
    capture(ledger, row("anna"))
    settle(ledger, "unknown", claim_one(ledger), reason="no answer", retry_after=1)
    since = clock.now
    clock.advance(5)
    capture(ledger, row("bert"), row("carl"))
    result = ledger.reports.retried("contact")
    assert result == Retried(1, since, since + timedelta(seconds=1), "no answer")
    assert ledger.reports.retried_records() == ledger.reports.retried_records("contact")
    assert [(one.id, one.attempts, one.since) for one in ledger.reports.retried_records()] == [(guid("anna"), 1, since)]
    assert ledger.reports.retried("account") is None
    assert [one.id for one in claim(ledger, limit=2)] == [guid("bert"), guid("carl")]
    assert [one.id for one in claim(ledger, limit=2)] == [guid("anna")]


def test_a_retry_ends_the_wait_of_records_whose_requests_failed(ledger: Ledger) -> None:
    capture(ledger, row("anna"), row("bert"))
    settle(ledger, "later", *claim(ledger), reason="RST-360011", retry_after=3600)
    assert claim(ledger) == []
    assert ledger.claims.retry("account") == 0
    assert ledger.claims.retry("contact", guid("anna")) == 1
    assert [(one.id, one.attempts) for one in claim(ledger)] == [(guid("anna"), 1)]
    assert ledger.claims.retry() == 1


@pytest.mark.parametrize("was_synced", [True, False])
def test_the_outcome_of_a_row_that_left_the_scope_is_found_out_without_sending_its_values(
    ledger: Ledger, was_synced: bool
) -> None:
    """Campaign keeps what it holds: neither the row's last version nor a record that never arrived is sent."""
    if was_synced:
        capture(ledger, row("anna"))
        push(ledger)
    capture(ledger, row("anna", "b"))
    settle(ledger, "unknown", claim_one(ledger))
    capture(ledger, out_of_scope=[guid("anna")])
    again = claim_one(ledger)
    assert (again.operation, again.payload, again.update, again.outcome_unknown) == ("update", None, None, True)
    settle(ledger, "done", again)
    [kept] = stored(ledger).values()
    assert (kept.state, kept.out_of_scope, kept.payload) == (State.SYNCED, 1, None)


def test_an_outcome_of_a_record_that_the_owner_does_not_hold_is_lost(ledger: Ledger) -> None:
    capture(ledger, row("anna"))
    one = claim_one(ledger, "first")
    assert settle(ledger, "done", one, owner="second") == 0
    ledger.sessions.end(session_of(ledger, "first"))
    assert settle(ledger, "done", one, owner="first") == 0
    assert ledger.claims.acknowledge(session_of(ledger, "first"), [Outcome(999_999, "done", b"")]) == 0
    assert ledger.reports.counts()["contact"].pending == 1


def test_retry_makes_refused_records_pending_again(ledger: Ledger, clock: Clock) -> None:
    capture(ledger, row("anna"), row("bert"), row("carl", validation_error="too long"))
    capture(ledger, row("dora"), table="account")
    settle(ledger, "refused", *claim(ledger), reason="no")
    settle(ledger, "refused", *claim(ledger, table="account"), reason="no")
    since = clock.now
    clock.advance(60)
    assert ledger.claims.retry("contact", guid("anna")) == 1
    assert ledger.claims.retry("contact") == 1
    assert ledger.claims.retry() == 1
    assert [reject.id for reject in ledger.reports.rejects()] == [guid("carl")]
    one = claim(ledger, limit=1)[0]
    assert one.attempts == 1
    settle(ledger, "refused", one, reason="still no")
    reject = ledger.reports.rejects()[0]
    assert (reject.id, reject.reason, reject.since, reject.attempts) == (one.id, "still no", since, 2)


def test_engine_calls_are_counted_with_the_outcomes_by_utc_day(ledger: Ledger, clock: Clock) -> None:
    capture(ledger, row("anna"))
    one = claim_one(ledger)
    today = clock.now.date()
    ledger.claims.acknowledge(
        session_of(ledger, "worker"),
        [Outcome(one.seq, "done", one.hash)],
        {("contact", "insert"): 1, ("contact", "read"): 2},
    )
    ledger.claims.acknowledge(session_of(ledger, "worker"), [], {("account", "insert"): 5, ("account", "delete"): 0})
    ledger.counts.add("engine_calls", "contact", {"read": 1})
    assert ledger.counts.numbers("engine_calls", today) == {"insert": 6, "read": 3}
    assert ledger.counts.numbers("engine_calls", today, table="contact") == {"insert": 1, "read": 3}
    assert ledger.counts.numbers("engine_calls", today, table="account") == {"insert": 5}
    clock.advance(24 * 3600)
    assert ledger.counts.numbers("engine_calls", clock.now.date()) == {}
    ledger.counts.add("engine_calls", "contact", {"read": 1})
    assert ledger.counts.numbers("engine_calls", clock.now.date()) == {"read": 1}
    assert ledger.counts.numbers("engine_calls", today) == {"insert": 6, "read": 3}


def test_a_large_batch_of_mixed_outcomes(ledger: Ledger) -> None:
    capture(ledger, page=many(2000))
    claimed = claim(ledger, limit=2000)
    results = ("done", "refused", "later", "unknown")
    outcomes = [Outcome(one.seq, results[n % 4], one.hash, "why") for n, one in enumerate(claimed)]
    assert ledger.claims.acknowledge(session_of(ledger, "worker"), outcomes) == 2000
    counts = ledger.reports.counts()["contact"]
    assert (counts.synced, counts.rejected, counts.pending, counts.leased) == (500, 500, 1000, 0)


@pytest.mark.postgresql
def test_the_seconds_from_a_change_to_its_first_acknowledgement_are_counted(ledger: Ledger, clock: Clock) -> None:
    capture(ledger, row("anna"), row("bert"), row("carl"))
    clock.advance(4)
    first, second, third = claim(ledger)
    settle(ledger, "done", first)
    settle(ledger, "refused", third)
    clock.advance(400)
    settle(ledger, "done", second)
    counted = {"contact": {"5": 1, "900": 1, "sum": 408_000}}
    assert ledger.counts.by_table("seconds") == counted
    clock.advance(1000)
    ledger.audits.store_page("contact", lambda _: {}, {guid("anna"): hash_of("a")}, {})
    push(ledger)  # an audit lets it be sent again, though it did not change since
    assert ledger.counts.by_table("seconds") == counted
    clock.advance(100_000)
    capture(ledger, row("anna", "b"))
    clock.advance(-1)  # a clock that was set back
    push(ledger)
    assert ledger.counts.by_table("seconds") == {"contact": {"1": 1, "5": 1, "900": 1, "sum": 408_000}}
