"""The history of records: each outcome of a request with its reason and run, stored with the outcome or not at all."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import event

from sync_assets.ledger import Ledger
from sync_assets.ledger.repositories import record_history
from sync_assets.ledger.rules.transitions import REASON_LENGTH
from sync_assets.ledger.storage.transaction import Transaction
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
    settle,
    stored,
)


def told(ledger: Ledger, **which: Any) -> list[tuple[str, str, str, str | None]]:
    """Return (id, operation, outcome, reason), the newest entry first."""
    return [
        (one.id, one.operation, one.outcome, one.reason) for one in ledger.history.entries(**{"limit": 100, **which})
    ]


def answer(ledger: Ledger, result: Any, operation: Any, reason: str | None = None) -> None:
    settle(ledger, result, claim_one(ledger), reason=reason, operation=operation)


def test_without_keep_history_nothing_is_stored(ledger: Ledger) -> None:
    capture(ledger, row("anna"), row("bert", validation_error="too long"))
    push(ledger)
    assert ledger.history.entries(limit=10) == []


def test_each_outcome_is_an_entry_with_its_operation_reason_and_run(ledger: Ledger, clock: Clock) -> None:
    ledger.history.keep("run 1")
    capture(ledger, row("anna"))
    answer(ledger, "refused", "insert", "RST-360000: bad date")
    ledger.claims.retry()
    answer(ledger, "later", "insert", "503")
    ledger.history.keep("run 2")
    answer(ledger, "unknown", "insert", "The answer was lost.")
    answer(ledger, "done", "update", "a word on success")
    capture(ledger, deleted=["anna"])
    answer(ledger, "done", "delete")
    clock.advance(900)
    answer(ledger, "done", "delete")
    assert stored(ledger) == {}
    anna = guid("anna")
    assert told(ledger) == [
        (anna, "delete", "acknowledged", None),
        (anna, "delete", "acknowledged", None),
        (anna, "update", "acknowledged", None),
        (anna, "insert", "unknown", "The answer was lost."),
        (anna, "insert", "deferred", "503"),
        (anna, "insert", "rejected", "RST-360000: bad date"),
    ]
    assert [one.run_id for one in ledger.history.entries(limit=10)] == ["run 2"] * 4 + ["run 1"] * 2
    times = {clock.now, clock.now - timedelta(seconds=900)}
    assert {(one.table, one.at) for one in ledger.history.entries(limit=10)} == {("contact", at) for at in times}


def test_the_outcome_of_a_claim_that_another_worker_took_is_no_entry(ledger: Ledger) -> None:
    ledger.history.keep(None)
    capture(ledger, row("anna"))
    lost = claim_one(ledger, "first")
    run_out(ledger, "first")
    claim_one(ledger, "second")
    settle(ledger, "done", lost, owner="first")
    assert ledger.history.entries(limit=10) == []


@pytest.mark.postgresql
def test_a_validation_error_is_an_entry_once_however_often_its_row_is_captured(ledger: Ledger) -> None:
    ledger.history.keep("run")
    for _ in range(2):
        capture(ledger, row("anna"), row("bert", validation_error="too long"))
    bert = guid("bert")
    assert told(ledger) == [(bert, "validate", "rejected", "too long")]
    capture(ledger, row("bert", "b", validation_error="no date"))
    assert told(ledger) == [(bert, "validate", "rejected", "no date"), (bert, "validate", "rejected", "too long")]


@pytest.mark.postgresql
def test_entries_are_found_by_id_and_table_the_newest_ones_first(ledger: Ledger) -> None:
    ledger.history.keep("run")
    capture(ledger, page=many(20))
    capture(ledger, row("row3"), table="account")
    push(ledger)
    push(ledger, table="account")
    assert [(one.table, one.id) for one in ledger.history.entries(guid("row3"), limit=5)] == [
        ("account", guid("row3")),
        ("contact", guid("row3")),
    ]
    assert [one.table for one in ledger.history.entries(guid("row3"), "contact", limit=5)] == ["contact"]
    assert [one.table for one in ledger.history.entries(table="account", limit=5)] == ["account"]
    assert [one.table for one in ledger.history.entries(limit=3)] == ["account", "contact", "contact"]


def test_any_reason_can_be_stored(ledger: Ledger) -> None:
    ledger.history.keep("run")
    capture(ledger, row("anna"))
    answer(ledger, "refused", "insert", "a\x00b\x1f\"%s?'\n\\u0000 " + "ü" * REASON_LENGTH)
    [one] = ledger.history.entries(limit=1)
    assert one.reason == ("ab\x1f\"%s?'\n\\u0000 " + "ü" * REASON_LENGTH)[:REASON_LENGTH]


@pytest.mark.parametrize(
    ("part", "failing"),
    [(record_history.RecordHistory, "answered"), (Transaction, "store_totals")],
    ids=["entry", "end"],
)
def test_a_transaction_that_fails_stores_neither_the_acknowledgement_nor_the_entry(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, part: type, failing: str
) -> None:
    ledger.history.keep("run")
    capture(ledger, row("anna"))
    one = claim_one(ledger)

    def fail(*_: Any) -> None:
        raise RuntimeError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(part, failing, fail)
        with pytest.raises(RuntimeError):
            settle(ledger, "done", one)
    assert (ledger.history.entries(limit=1), ledger.reports.counts()["contact"].synced) == ([], 0)


def test_a_batch_is_one_statement(ledger: Ledger) -> None:
    ledger.history.keep("run")
    capture(ledger, page=many(300))
    statements: list[tuple[str, bool]] = []
    claimed = claim(ledger)

    def heard(_c: Any, _cursor: Any, statement: str, _p: Any, _x: Any, many: bool) -> None:
        statements.append((statement, many))

    engine: Any = ledger.database._engine  # pyright: ignore[reportPrivateUsage]
    event.listen(engine, "before_cursor_execute", heard)
    settle(ledger, "done", *claimed)
    assert [many for statement, many in statements if "sync_history" in statement] == [False]
    assert len(ledger.history.entries(limit=1000)) == 300


@pytest.fixture
def two_days(ledger: Ledger, clock: Clock) -> Callable[[], list[str]]:
    """Twenty entries of the first day and one of the second one."""
    ledger.history.keep("run")
    capture(ledger, page=many(20))
    push(ledger)
    clock.advance(86_400)
    capture(ledger, row("anna"))
    push(ledger)
    return lambda: [one.id for one in ledger.history.entries(limit=100)]


@pytest.mark.postgresql
def test_entries_older_than_a_time_are_pruned_in_parts(
    ledger: Ledger, clock: Clock, two_days: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record_history, "PRUNED_TOGETHER", 7)
    assert ledger.history.prune_entries(clock.now - timedelta(days=1)) == 0
    assert ledger.history.prune_entries(clock.now) == 20
    assert two_days() == [guid("anna")]
    assert ledger.history.prune_entries(clock.now + timedelta(seconds=1)) == 1
    assert two_days() == []
    assert ledger.history.prune_entries(clock.now) == 0
