"""The outcome that the ledger stores for a delivery."""

from datetime import UTC, datetime
from typing import Literal

import pytest

from sync_assets.ledger.model import Claimed, HistoryOperation, LinkTo, Operation
from sync_assets.push.delivery_result import Delivery, OperationDone, outcome

NEW = LinkTo("cusContactLink", "ada", keyed=True)
ALL = (NEW, LinkTo("cusOther", "ada", keyed=True, acknowledged=True))
BOTH = (("blackListEmail", True), ("blackListPhone", False))
NAMES = ("blackListEmail", "blackListPhone")
NOW = datetime(2026, 11, 24, 10, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("planned", "payload", "done", "operation", "hash", "inserted", "existing", "links", "incarnation"),
    [
        ("insert", "{}", "inserted", "insert", b"h", BOTH, (), ALL, 5),
        ("insert", "{}", "updated", "update", b"h", (), NAMES, (NEW,), 5),  # it was there before us
        ("insert", "{}", None, "insert", b"h", (), (), (NEW,), 5),  # rejected, or put off
        ("update", "{}", "updated", "update", b"h", (), (), (NEW,), 4),
        ("update", "{}", "inserted", "insert", b"h", BOTH, (), ALL, 5),  # Campaign had lost it
        ("update", "{}", None, "update", b"h", (), (), (NEW,), 4),
        # An update of links alone shows as well whether Campaign has the record.
        ("update", None, "updated", "link", b"h", (), (), (NEW,), 4),
        ("update", None, "missing", "link", b"h", (), (), (NEW,), 4),
        ("update", None, None, "link", b"h", (), (), (NEW,), 4),
        ("delete", None, "deleted", "delete", None, (), (), (NEW,), 4),
    ],
)
def test_the_outcome_of_a_delivery(
    planned: Operation,
    payload: str | None,
    done: OperationDone | Literal["missing"] | None,
    operation: HistoryOperation,
    hash: bytes | None,
    inserted: tuple[tuple[str, bool], ...],
    existing: tuple[str, ...],
    links: tuple[LinkTo, ...],
    incarnation: int,
) -> None:
    record = Claimed(7, "ada", planned, payload, None, b"h", 0, False, ALL, opt_outs=BOTH, incarnation=4)
    delivery = Delivery("missing") if done == "missing" else Delivery("done" if done else "refused", done)
    stored = outcome(record, delivery, NOW)
    assert (stored.operation, stored.hash, stored.links) == (operation, hash, links)
    assert (stored.inserted_opt_outs, stored.existing_opt_outs) == (inserted, existing)
    assert stored.inserted_at == (NOW if inserted else None)
    assert delivery.incarnation_of(record) == (7, incarnation)


def test_a_record_that_an_insert_without_an_answer_may_have_begun_is_a_new_one_to_us() -> None:
    """Its opt-outs are those of that insert, so Campaign is queried."""
    record = Claimed(7, "ada", "update", "{}", None, b"h", 0, True, opt_outs=BOTH, incarnation=4, reinsert_sent=True)
    delivery = Delivery("done", "updated")
    assert outcome(record, delivery, NOW).existing_opt_outs == NAMES
    assert delivery.incarnation_of(record) == (7, 5)


def test_the_time_of_an_insert_is_the_present_one() -> None:
    before = datetime.now(UTC)
    at = outcome(Claimed(7, "ada", "insert", "{}", None, b"h", 0, False), Delivery("done", "inserted")).inserted_at
    assert at is not None
    assert before <= at <= datetime.now(UTC)
