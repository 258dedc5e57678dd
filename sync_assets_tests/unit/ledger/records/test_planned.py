"""A session with a plan claims named records that are as planned, and no others."""

from collections.abc import Callable
from pathlib import Path

import pytest

from sync_assets.ledger import Ledger
from sync_assets.ledger.report_values import PlannedLeft
from sync_assets_tests.support.ledgers import Clock, capture, claim, guid, push, row, session_of, settle
from sync_assets_tests.unit.ledger.linking import order

Change = Callable[[Ledger], object]
CASES: dict[str, tuple[Change, Change, bool]] = {
    # before the plan, between plan and claim, is the record claimed
    "a new row": (lambda to: capture(to, row("a")), lambda to: None, True),
    "captured again": (lambda to: capture(to, row("a")), lambda to: capture(to, row("a"), resend=True), True),
    "another value": (lambda to: capture(to, row("a")), lambda to: capture(to, row("a", "b")), False),
    "and back": (lambda to: capture(to, row("a")), lambda to: [capture(to, row("a", v)) for v in ("b", "a")], True),
    "of inserts": (lambda to: capture(to, row("a")), lambda to: capture(to, row("a", insert_only="x")), False),
    "now an update": (lambda to: capture(to, row("a", "b")), lambda to: _acknowledged(to, "b"), True),
    "an update": (lambda to: _acknowledged(to, "b"), lambda to: None, True),
    "a delete": (lambda to: _gone(to, "b"), lambda to: None, True),
    "a delete, and created again": (lambda to: _gone(to, "b"), lambda to: capture(to, row("a", "b")), False),
    "an update, now a delete": (lambda to: _acknowledged(to, "b"), lambda to: capture(to, deleted=["a"]), False),
}  # fmt: skip


def _acknowledged(ledger: Ledger, then: str) -> None:
    """Let Campaign hold the row with another value than `then`."""
    capture(ledger, row("a"))
    push(ledger)
    capture(ledger, row("a", then))


def _gone(ledger: Ledger, last: str) -> None:
    _acknowledged(ledger, last)
    capture(ledger, deleted=["a"])


def plan(ledger: Ledger, clock: Clock, *tables: str) -> Ledger:
    """A second access to the ledger, limited to what is to be sent now."""
    limited, session = Ledger(ledger.database, clock), session_of(ledger, "plan")
    for table in tables:
        due = claim(ledger, table=table)
        ledger.planned.add(session, [(table, one.id, ledger.planned.hash(table, one)) for one in due])
        settle(ledger, "later", *due)  # given back: never sent
    limited.planned.limit_to(session)
    return limited


@pytest.mark.parametrize("case", CASES)
def test_a_record_is_claimed_if_what_is_to_be_sent_is_as_planned(ledger: Ledger, clock: Clock, case: str) -> None:
    before, since, is_claimed = CASES[case]
    before(ledger)
    limited = plan(ledger, clock, "contact")
    since(ledger)
    capture(ledger, row("other"))
    assert [one.id for one in claim(limited, limit=1)] == [guid("a")] * is_claimed
    assert limited.reports.next_due("contact") is None or is_claimed
    left = limited.planned.left(session_of(ledger, "plan"), ["contact"])
    assert left == PlannedLeft(named=1, changed=not is_claimed, not_named=1)
    assert {one.id for one in claim(ledger)} >= {guid("other")}, "without a plan all are claimed"


def test_a_link_to_another_parent_is_another_record_and_a_page_of_changed_ones_stops_nothing(
    ledger: Ledger, clock: Clock
) -> None:
    capture(ledger, row("Ada"), row("Bob"))
    push(ledger)
    for name in ("first", "second", "third"):
        order(ledger, "Ada", name=name)
    limited = plan(ledger, clock, "order")
    for name in ("first", "second"):
        order(ledger, "Bob", name=name)
    order(ledger, "Ada", "b", name="third")
    order(ledger, "Ada", name="third")
    assert [one.id for one in claim(limited, limit=1, table="order")] == [guid("third")]
    assert limited.planned.left(session_of(ledger, "plan"), ["order"]) == PlannedLeft(3, 2, 0)


def test_a_plan_goes_with_its_session_and_its_hashes_are_the_ledgers_own(
    ledger: Ledger, clock: Clock, tmp_path: Path
) -> None:
    capture(ledger, row("a"))
    plan(ledger, clock, "contact")
    session = session_of(ledger, "plan")
    ledger.sessions.end(session)
    ledger.sessions.open("next")
    assert ledger.planned.left(session, ["contact"]) == PlannedLeft(0, 0, 1)
    [one] = claim(ledger)
    with Ledger.open(f"sqlite:///{tmp_path / 'other.db'}") as other:
        assert other.planned.hash("contact", one) != ledger.planned.hash("contact", one)
