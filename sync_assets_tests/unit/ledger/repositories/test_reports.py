"""Reports: what is where."""

from datetime import timedelta

import pytest

from sync_assets.ledger import Ledger
from sync_assets.ledger.report_values import Counts
from sync_assets.ledger.repositories import reports
from sync_assets_tests.support.ledgers import (
    Clock,
    capture,
    claim,
    guid,
    live_sessions,
    many,
    push,
    row,
    settle,
)


def test_counts_are_by_table_and_state(ledger: Ledger) -> None:
    assert ledger.reports.counts() == {}
    capture(ledger, page=many(5))
    push(ledger)
    capture(ledger, row("anna"), row("bert"), row("carl", validation_error="no"))
    claim(ledger, limit=1)
    capture(ledger, table="account")
    counts = ledger.reports.counts()
    assert counts == {"account": Counts(), "contact": Counts(pending=2, rejected=1, synced=5, leased=1)}
    assert counts["contact"].records == 8


@pytest.mark.postgresql
def test_numbers_of_several_days_are_by_day_and_name(ledger: Ledger, clock: Clock) -> None:
    first = clock.now.date()
    ledger.counts.add("engine_calls", "contact", {"insert": 2, "read": 1})
    ledger.counts.add("engine_calls", "order", {"insert": 3, "update": 0})
    ledger.counts.add("opt_outs", "contact", {"insert": 5})
    clock.advance(2 * 86400)
    ledger.counts.add("engine_calls", "contact", {"update": 4})
    last = clock.now.date()
    by_day = ledger.counts.by_day("engine_calls", first, last)
    assert by_day == {first: {"insert": 5, "read": 1}, last: {"update": 4}}
    assert ledger.counts.by_day("engine_calls", last, last) == {last: {"update": 4}}


@pytest.mark.postgresql
def test_numbers_of_several_days_are_summed_by_table_and_name(ledger: Ledger, clock: Clock) -> None:
    first = clock.now.date()
    assert ledger.counts.first_day("engine_calls", "contact") is None
    ledger.counts.add("engine_calls", "contact", {"update": 2, "read": 1})
    clock.advance(2 * 86400)
    ledger.counts.add("engine_calls", "contact", {"update": 4})
    ledger.counts.add("engine_calls", "order", {"delete": 3})
    last = clock.now.date()
    assert ledger.counts.numbers("engine_calls", first, last, "contact") == {"update": 6, "read": 1}
    assert ledger.counts.numbers("engine_calls", first, last) == {"update": 6, "read": 1, "delete": 3}
    assert ledger.counts.numbers("engine_calls", first, table="contact") == {"update": 2, "read": 1}
    assert [ledger.counts.first_day("engine_calls", table) for table in ("contact", "order")] == [first, last]


@pytest.mark.postgresql
def test_the_oldest_pending_change(ledger: Ledger, clock: Clock) -> None:
    assert ledger.reports.oldest_pending("contact") is None
    start = clock.now
    capture(ledger, row("anna"))
    clock.advance(60)
    capture(ledger, row("bert"))
    assert ledger.reports.oldest_pending("contact") == start
    capture(ledger, deleted=["anna"])
    assert ledger.reports.oldest_pending("contact") == clock.now


def test_next_due_is_now_while_a_record_can_be_claimed(ledger: Ledger, clock: Clock) -> None:
    assert ledger.reports.next_due() is None
    capture(ledger, row("anna"), row("bert"))
    assert ledger.reports.next_due() == clock.now
    one, other = claim(ledger)
    assert ledger.reports.next_due() == live_sessions(ledger)[0].until
    settle(ledger, "later", one, retry_after=20)
    assert ledger.reports.next_due() == ledger.reports.next_due("contact") == clock.now + timedelta(seconds=20)
    assert ledger.reports.next_due("account") is None
    settle(ledger, "done", other)
    clock.advance(21)
    assert ledger.reports.next_due() == clock.now
    push(ledger)
    assert ledger.reports.next_due() is None


@pytest.mark.postgresql
def test_rejects_are_listed_by_table_in_the_order_in_which_they_came(ledger: Ledger) -> None:
    capture(ledger, *[row(name, validation_error="no") for name in ("zoe", "anna", "mia")])
    capture(ledger, row("bert", validation_error="no"), table="account")
    assert [reject.id for reject in ledger.reports.rejects("contact")] == [guid("zoe"), guid("anna"), guid("mia")]
    assert [reject.table for reject in ledger.reports.rejects()] == ["contact", "contact", "contact", "account"]


def test_reasons_are_counted_by_kind_the_most_frequent_first(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    long = [row(f"long{n}", validation_error=f"jobtitle: {130 + n} characters, at most 100") for n in range(3)]
    capture(ledger, row("anna"), row("bert"), *long)
    one, other = claim(ledger)
    settle(ledger, "refused", one, reason=f"RST-360011 No such parent {guid('mia')}.")
    settle(ledger, "refused", other, reason=f"RST-360011 No such parent {guid('zoe')}.")
    capture(ledger, row("carl", validation_error="another table's"), table="account")
    expected = [("jobtitle: <n> characters, at most 100", 3), ("RST-360011 No such parent <id>.", 2)]
    assert ledger.reports.reject_reasons("contact") == expected
    assert ledger.reports.reject_reasons("order") == []
    monkeypatch.setattr("sync_assets.ledger.repositories.reports.MOST_REASONS", 1)
    assert ledger.reports.reject_reasons("contact") == expected[:1]


@pytest.mark.postgresql
@pytest.mark.parametrize("small", [20_000, 0], ids=["a small table", "a large table"])
def test_a_sample_holds_settled_records_of_its_table_each_once(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, small: int
) -> None:
    monkeypatch.setattr(reports, "_SMALL", small)
    assert ledger.reports.sample_synced("contact", 10, 1) == []
    capture(ledger, page=many(300))
    capture(ledger, page=many(50, prefix="order"), table="account")
    push(ledger)
    push(ledger, table="account")
    capture(ledger, page=many(20, "b"))  # pending again
    settled = {guid(f"row{n}") for n in range(20, 300)}
    sample = ledger.reports.sample_synced("contact", 100, 1)
    assert len(set(sample)) == len(sample) == 100
    assert set(sample) <= settled
    assert ledger.reports.sample_synced("contact", 100, 1) == sample
    assert set(ledger.reports.sample_synced("contact", 100, 2)) != set(sample)
    assert set(ledger.reports.sample_synced("contact", 1000, 1)) == settled


def test_a_sample_that_finds_nothing_comes_to_an_end(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reports, "_SMALL", 0)
    monkeypatch.setattr(reports, "_MOST_PROBES", 2_000)
    capture(ledger, row("anna"))
    push(ledger)
    capture(ledger, page=many(50, prefix="order"), table="account")
    assert ledger.reports.sample_synced("contact", 5, 1) == [guid("anna")]


@pytest.mark.postgresql
@pytest.mark.parametrize("judged", [100_000, 4])
def test_pending_records_are_counted_by_operation(
    ledger: Ledger, clock: Clock, monkeypatch: pytest.MonkeyPatch, judged: int
) -> None:
    monkeypatch.setattr(reports, "_MOST_COUNTED", judged)
    assert ledger.reports.pending_operations("contact") == {}
    capture(ledger, page=many(3))
    push(ledger)
    capture(ledger, row("row0", "b"), row("row1", "b"), deleted=["row2"])
    ledger.deletions.carry_out_deletes("contact", max_share=1.0)
    clock.advance(1)
    capture(ledger, page=many(6, prefix="new"))
    capture(ledger, row("carl", validation_error="no"))
    result = ledger.reports.pending_operations("contact")
    if judged > 9:
        assert result == {"insert": 6, "update": 2, "delete": 1}
    else:  # the oldest four of nine tell for all
        assert result == {"insert": 2, "update": 4, "delete": 2}
