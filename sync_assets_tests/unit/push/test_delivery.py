"""The outcome that the ledger stores for a delivery."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from sync_assets.ledger.model import Claimed, LinkTo, Operation
from sync_assets.push.delivery import Delivery, OperationDone, outcome

TO_ADA = LinkTo("cusContactLink", "ada", keyed=True)
HELD = LinkTo("cusContactLink", "ada", keyed=True, acknowledged=True)
BOTH = (("blackListEmail", True), ("blackListPhone", False))
NOW = datetime(2026, 11, 24, 10, 0, tzinfo=UTC)


def contact(operation: Operation = "insert") -> Claimed:
    return Claimed(1, "ada", operation, None, None, b"h", 0, False, opt_outs=BOTH)


@pytest.mark.parametrize(
    ("operation", "done", "inserted", "existing"),
    [
        ("insert", "inserted", BOTH, ()),
        ("insert", "updated", (), ("blackListEmail", "blackListPhone")),  # it was there before us
        ("update", "updated", (), ()),
        ("update", "inserted", BOTH, ()),  # Campaign had lost it
        ("delete", "deleted", (), ()),
        ("insert", None, (), ()),  # refused, or put off
    ],
)
def test_the_ledger_stores_which_opt_outs_an_insert_carried_or_found_existing(
    operation: Operation, done: OperationDone | None, inserted: tuple[tuple[str, bool], ...], existing: tuple[str, ...]
) -> None:
    stored = outcome(contact(operation), Delivery("done" if done else "refused", done), NOW)
    assert (stored.inserted_opt_outs, stored.existing_opt_outs) == (inserted, existing)
    assert stored.inserted_at == (NOW if inserted else None)


@pytest.mark.parametrize(
    ("planned", "done", "operation"),
    [
        ("insert", "inserted", "insert"),
        ("insert", "updated", "update"),  # it was there before us
        ("update", "inserted", "insert"),  # Campaign had lost it
        ("delete", "deleted", "delete"),
        ("insert", None, "insert"),
    ],
)
def test_the_history_names_what_campaign_did_else_what_was_asked_of_it(
    planned: Operation, done: OperationDone | None, operation: str
) -> None:
    record = contact(planned)._replace(payload="{}")
    assert outcome(record, Delivery("done" if done else "refused", done), NOW).operation == operation


@pytest.mark.parametrize("delivery", [Delivery("done", "updated"), Delivery("refused", reason="no")])
def test_the_history_tells_an_update_of_links_alone_from_others(delivery: Delivery) -> None:
    record = Claimed(7, "ada", "update", None, None, b"h", 0, False, (TO_ADA,))
    assert outcome(record, delivery).operation == "link"


def test_an_outcome_holds_the_result_and_the_links_that_were_sent() -> None:
    record = Claimed(7, "ada", "update", None, None, b"h", 0, False, (TO_ADA,))
    stored = outcome(record, Delivery("later", reason="503", wait=3.0))
    assert (stored.seq, stored.result, stored.hash, stored.reason) == (7, "later", b"h", "503")
    assert (stored.retry_after_seconds, stored.links, stored.inserted_opt_outs, stored.existing_opt_outs) == (
        3.0,
        (TO_ADA,),
        (),
        (),
    )


@pytest.mark.parametrize(
    ("done", "sent"),
    [
        ("inserted", (TO_ADA, HELD)),  # a new record is linked as a whole
        ("updated", (TO_ADA,)),  # an update leaves out what the record in Campaign already holds
        (None, (TO_ADA,)),
    ],
)
def test_an_outcome_names_the_links_that_the_request_carried(
    done: OperationDone | None, sent: tuple[LinkTo, ...]
) -> None:
    record = Claimed(7, "ada", "update", "{}", None, b"h", 0, False, (TO_ADA, HELD))
    assert outcome(record, Delivery("done" if done else "later", done)).links == sent


def test_the_time_of_an_insert_is_the_present_one() -> None:
    before = datetime.now(UTC)
    at = outcome(contact(), Delivery("done", "inserted")).inserted_at
    assert at is not None
    assert before <= at <= datetime.now(UTC)
