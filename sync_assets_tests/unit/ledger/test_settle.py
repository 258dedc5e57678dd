"""Outcomes: an answer holds for what was sent, never for what is desired by now."""

from sync_assets.ledger import Ledger
from sync_assets.ledger.model import Outcome
from sync_assets_tests.support.ledgers import Clock, capture, claim, claim_one, guid, many, row, session_of, settle


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
