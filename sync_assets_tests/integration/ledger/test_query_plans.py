"""Whatever the ledger asks of a database is answered by an index: no operation reads all records.

The records stand there as after a long time of use, and, on PostgreSQL, without statistics as in a first load and
with them as later on.
"""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import event

from sync_assets.ledger import Ledger
from sync_assets.ledger.repositories import reports
from sync_assets_tests.support.ledgers import (
    Clock,
    Ledgers,
    capture,
    claim,
    explain,
    guid,
    many,
    push,
    row,
    session_of,
    settle,
)


def operations(ledger: Ledger) -> dict[str, Callable[[], object]]:
    return {
        "capture of unchanged rows": lambda: capture(ledger, page=many(50)),
        "capture of changed rows": lambda: capture(ledger, page=many(20, "c")),
        "capture of deletes": lambda: capture(ledger, deleted=["row21", "new1"]),
        "claim": lambda: claim(ledger, limit=10),
        "claim of a plan": lambda: claim_planned(ledger),
        "renew": lambda: ledger.sessions.renew(session_of(ledger)),
        "counts": ledger.reports.counts,
        "settle": lambda: settle(ledger, "done", *claim(ledger, limit=10)),
        "settle of deletes": lambda: push(ledger),
        "release": lambda: ledger.claims.release("contact", session_of(ledger)),
        "backlog": lambda: ledger.reports.backlog("contact"),
        "oldest pending": lambda: ledger.reports.oldest_pending("contact"),
        "next due": ledger.reports.next_due,
        "rejects": ledger.reports.rejects,
        "rejects of a table": lambda: ledger.reports.rejects("contact"),
        "pending operations": lambda: ledger.reports.pending_operations("contact"),
        "reject reasons": lambda: ledger.reports.reject_reasons("contact"),
        "sample of a large table": lambda: ledger.reports.sample_synced("contact", 20, 1),
        "states for an audit": lambda: ledger.audits.states("contact", [guid("row1"), guid("row2")]),
        "rejected with their parents": ledger.blocked.rejected_with_parent,
        "parents that are waited for": lambda: ledger.blocked.waiting_parents("order"),
        "rows that come back": lambda: capture(ledger, *[row(f"row{n}", "d") for n in range(30, 40)]),
        "retry of one": lambda: ledger.claims.retry("contact", guid("bad1")),
        "retry": ledger.claims.retry,
    }


def claim_planned(ledger: Ledger) -> None:
    session = session_of(ledger)
    ledger.planned.add(session, [("contact", guid(f"new{n}"), b"as planned") for n in range(600)])
    limited = Ledger(ledger.database, Clock())
    limited.planned.limit_to(session)
    limited.claims.claim("contact", session, limit=10)
    limited.reports.next_due()
    limited.planned.left(session, ["contact"])


@pytest.fixture
def used_ledger(ledger: Ledger, clock: Clock) -> Ledger:
    """2,000 settled records, 600 pending since six moments, some failed, some claimed."""
    capture(ledger, page=many(2000))
    push(ledger)
    for page in many(600, prefix="new").iter_slices(100):
        capture(ledger, page=page)
        clock.advance(1)
    capture(ledger, *[row(f"bad{n}", validation_error="no") for n in range(10)])
    settle(ledger, "refused", *claim(ledger, limit=10), reason="no")
    claim(ledger, "other", limit=50)
    claim(ledger, limit=20)
    return ledger


@pytest.fixture(params=[False, True], ids=["no statistics", "statistics"])
def analysed(request: pytest.FixtureRequest, used_ledger: Ledger) -> None:
    if request.param:
        used_ledger.database.write(lambda connection: connection.exec_driver_sql("ANALYZE"))


@pytest.mark.usefixtures("analysed")
def test_no_operation_reads_all_records(
    used_ledger: Ledger, ledgers: Ledgers, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reports, "_SMALL", 1_000)
    whole: dict[str, list[str]] = {}
    looked_at = 0
    for name, operation in operations(used_ledger).items():
        clock.advance(0.001)
        for statement, values in statements(used_ledger, operation):
            plan = explain(used_ledger, statement, values)
            looked_at += 1
            if reads_all_records(ledgers.kind, plan):
                whole.setdefault(name, []).extend([statement, *plan])
    assert not whole, whole
    assert looked_at > 30


@pytest.mark.usefixtures("analysed")
def test_the_rows_of_a_page_are_looked_up_one_by_one(used_ledger: Ledger) -> None:
    """Never all records of the table, and the page for each of them."""
    captured = statements(used_ledger, operations(used_ledger)["capture of unchanged rows"])
    [comparison] = [statement for statement in captured if "AS hash" in statement[0]]
    plan = explain(used_ledger, *comparison)
    looked_up = [line for line in plan if "sync_record_key" in line or "Index Cond" in line]
    assert looked_up, plan
    assert all("(<expr>=?)" in line or "(id = " in line or "(seq = " in line for line in looked_up), plan


@pytest.mark.usefixtures("analysed")
def test_claims_take_the_index_in_whose_order_they_want_the_records(
    used_ledger: Ledger, ledgers: Ledgers, request: pytest.FixtureRequest
) -> None:
    if ledgers.kind == "sqlite" and "statistics" in request.node.callspec.id.split("-"):
        pytest.skip("nothing gathers statistics in SQLite; with some it may sort what is pending instead")

    def plan_of(operation: Callable[[], object]) -> str:
        selects = [one for one in statements(used_ledger, operation) if "payload" in one[0] and "SELECT" in one[0]]
        return "\n".join(line for one in selects for line in explain(used_ledger, *one))

    named = plan_of(operations(used_ledger)["claim"])
    assert "sync_record_pending" in named
    assert "sort" not in named.lower().replace("sync_record", "")
    assert "temp b-tree" not in named.lower()


@pytest.mark.parametrize("operation", ["of an id", "of all", "of a table", "prune"])
def test_the_history_is_read_and_pruned_by_its_indexes(ledger: Ledger, clock: Clock, operation: str) -> None:
    ledger.history.keep("run")
    capture(ledger, page=many(1000))
    push(ledger)
    ledger.database.write(lambda connection: connection.exec_driver_sql("ANALYZE"))
    does: dict[str, Callable[[], object]] = {
        "of an id": lambda: ledger.history.entries(guid("row7"), limit=50),
        "of all": lambda: ledger.history.entries(limit=50),
        "of a table": lambda: ledger.history.entries(table="contact", limit=50),
        "prune": lambda: ledger.history.prune_entries(clock.now),
    }
    plan = "\n".join(
        line for one in statements(ledger, does[operation], "sync_history") for line in explain(ledger, *one)
    )
    assert plan
    assert "Seq Scan" not in plan
    assert "SORT" not in plan.upper().replace("SYNC_", "")
    assert "TEMP B-TREE" not in plan.upper()
    assert ("sync_history_id" in plan) == (operation == "of an id")


def statements(ledger: Ledger, operation: Callable[[], object], table: str = "sync_record") -> list[tuple[str, Any]]:
    """What an operation says to the database about a table, with the values of the first row."""
    seen: list[tuple[str, Any]] = []

    def see(_c: object, _u: object, statement: str, values: Any, _x: object, many: bool) -> None:
        if table in statement and not statement.lstrip().upper().startswith("INSERT"):
            seen.append((statement, values[0] if many else values))

    engine = ledger.database._engine
    event.listen(engine, "before_cursor_execute", see)
    try:
        operation()
    finally:
        event.remove(engine, "before_cursor_execute", see)
    return seen


def reads_all_records(kind: str, plan: list[str]) -> bool:
    if kind == "sqlite":
        return any(line.split(" USING")[0] in ("SCAN sync_record", "SCAN r", "SCAN parent") for line in plan)
    return any(result for result in _postgres_full_reads(plan))


def _postgres_full_reads(plan: list[str]) -> Iterator[str]:
    """Sequential reads of the records, and reads of an index from end to end (without a condition on it).

    An index of part of the table that holds nothing else than what is asked for needs no condition.
    """
    for number, line in enumerate(plan):
        if "Seq Scan on sync_record" in line:
            yield line
        by_id, by_seq = "using sync_record_id on" in line, "using sync_record_pkey on" in line
        condition = plan[number + 1] if number + 1 < len(plan) else ""
        if (by_id or by_seq) and "Index Cond" not in condition:
            yield line


def test_the_test_itself_sees_a_plan_that_reads_everything(used_ledger: Ledger, ledgers: Ledgers) -> None:
    for query in ("SELECT * FROM sync_record WHERE attempts = 7", "SELECT id FROM sync_record ORDER BY seq"):
        with used_ledger.database.read() as connection:
            assert not connection.execute(sa.text(query + " LIMIT 0")).all()
        assert reads_all_records(ledgers.kind, explain(used_ledger, query, ()))
