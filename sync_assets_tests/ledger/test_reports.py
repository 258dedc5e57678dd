"""Reports: what is where."""

from datetime import date, timedelta

from sync_assets.ledger import Counts, Ledger
from sync_assets_tests.ledger.helpers import DAY, Clock, capture, claim, guid, many, push, row, settle


def test_counts_are_by_table_and_state(ledger: Ledger) -> None:
    assert ledger.counts() == {}
    capture(ledger, page=many(5))
    push(ledger)
    capture(ledger, row("anna"), row("bert"), row("carl", refusal="no"))
    claim(ledger, limit=1)
    capture(ledger, table="account")
    counts = ledger.counts()
    assert counts == {"account": Counts(), "contact": Counts(pending=2, failed=1, synced=5, leased=1)}
    assert counts["contact"].records == 8


def test_pending_days_are_listed_oldest_first(ledger: Ledger) -> None:
    old = date(2019, 2, 28)
    capture(ledger, row("anna"), row("bert", day=old), row("carl", day=old), row("dora", day=old, refusal="no"))
    assert ledger.pending_days("contact") == [(old, 2), (DAY, 1)]
    settle(ledger, "done", *claim(ledger, days=(old, old)))
    assert ledger.pending_days("contact") == [(DAY, 1)]
    capture(ledger, row("anna", day=DAY + timedelta(days=1), value="b"))
    assert ledger.pending_days("contact") == [(DAY + timedelta(days=1), 1)]
    capture(ledger, deleted=["anna"])
    assert ledger.pending_days("contact") == []


def test_a_retry_shows_under_its_day(ledger: Ledger) -> None:
    capture(ledger, row("anna"))
    settle(ledger, "refused", *claim(ledger), reason="no")
    assert ledger.pending_days("contact") == []
    ledger.retry()
    assert ledger.pending_days("contact") == [(DAY, 1)]


def test_days_before_1970_are_days(ledger: Ledger) -> None:
    capture(ledger, row("anna", day=date(1957, 10, 4)))
    assert ledger.pending_days("contact") == [(date(1957, 10, 4), 1)]
    assert claim(ledger)[0].day == date(1957, 10, 4)


def test_the_oldest_pending_change(ledger: Ledger, clock: Clock) -> None:
    assert ledger.oldest_pending("contact") is None
    start = clock.now
    capture(ledger, row("anna"))
    clock.advance(60)
    capture(ledger, row("bert"))
    assert ledger.oldest_pending("contact") == start
    capture(ledger, deleted=["anna"])
    assert ledger.oldest_pending("contact") == clock.now


def test_next_due_is_now_while_something_can_be_claimed(ledger: Ledger, clock: Clock) -> None:
    assert ledger.next_due() is None
    capture(ledger, row("anna"), row("bert"))
    assert ledger.next_due() == clock.now
    one, other = claim(ledger, seconds=300)
    assert ledger.next_due() == clock.now + timedelta(seconds=300)
    settle(ledger, "later", one, retry_after=20)
    assert ledger.next_due() == ledger.next_due("contact") == clock.now + timedelta(seconds=20)
    assert ledger.next_due("account") is None
    settle(ledger, "done", other)
    clock.advance(21)
    assert ledger.next_due() == clock.now
    push(ledger)
    assert ledger.next_due() is None


def test_rejects_are_listed_by_table_in_the_order_in_which_they_came(ledger: Ledger) -> None:
    capture(ledger, *[row(name, refusal="no") for name in ("zoe", "anna", "mia")])
    capture(ledger, row("bert", refusal="no"), table="account")
    assert [reject.id for reject in ledger.rejects("contact")] == [guid("zoe"), guid("anna"), guid("mia")]
    assert [reject.table for reject in ledger.rejects()] == ["contact", "contact", "contact", "account"]
