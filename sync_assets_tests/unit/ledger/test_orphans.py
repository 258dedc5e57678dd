"""Orphaned records; and children that cannot be sent whole or whose outcome is unknown: no parent waits for ever."""

from dataclasses import replace

import pytest

from sync_assets.ledger import Ledger
from sync_assets.ledger.model import OTHER, BlockReason, LinkSpec, LinkTo, Orphaned, State
from sync_assets.ledger.records.hold_records import HeldRecord
from sync_assets.ledger.storage.session import HORIZON_SECONDS
from sync_assets_tests.support.ledgers import Clock, capture, claim, claim_one, guid, read_anew, record, row
from sync_assets_tests.unit.ledger.linking import (
    JOINED,
    KEPT,
    NEEDED,
    OPTIONAL,
    answer,
    in_campaign,
    line,
    links_of,
    order,
    orphaned,
    sent,
    waits,
)


def contacts_are_read(ledger: Ledger, *names: str) -> None:
    """All of them, to the end of the feed, and sent."""
    capture(ledger, *map(row, names), complete=True)
    sent(ledger)


def told(ledger: Ledger, table: str | None = "order") -> dict[str, str]:
    """id -> why it is orphaned."""
    return {orphan.id: orphan.reason for orphan in ledger.blocked.orphans(table)}


@pytest.mark.parametrize("link", [NEEDED, JOINED], ids=["needed", "joined"])
def test_a_child_that_names_no_parent_is_orphaned_until_it_names_one(ledger: Ledger, link: LinkSpec) -> None:
    contacts_are_read(ledger, "anna")
    order(ledger, None, link=link)
    assert orphaned(ledger, "order")
    assert claim(ledger, table="order") == []
    assert told(ledger) == {guid("order"): "it names no contact"}
    order(ledger, "anna", link=link)
    assert sent(ledger, "order") == ["insert"]
    assert told(ledger) == {}


def test_a_child_of_a_parent_that_is_not_captured_waits_until_the_parents_are_read_to_their_end(ledger: Ledger) -> None:
    capture(ledger, row("anna"))
    order(ledger, "bert")
    line(ledger, "order")
    assert waits(ledger, "order", BlockReason.PARENT_UNAVAILABLE)
    assert waits(ledger, "line", BlockReason.PARENT_UNAVAILABLE)
    capture(ledger, row("carl"), complete=True)
    assert orphaned(ledger, "order")
    assert orphaned(ledger, "line")
    assert told(ledger, None) == {
        guid("order"): "its contact was not read: it was deleted in Dynamics 365, or is outside the filter",
        guid("line"): "its order is orphaned itself",
    }
    capture(ledger, row("bert"))
    assert waits(ledger, "order", BlockReason.PARENT_PENDING)
    assert waits(ledger, "line", BlockReason.PARENT_PENDING)


@pytest.mark.postgresql
@pytest.mark.parametrize(
    ("state", "was_sent"),
    [(State.REJECTED, False), (State.REJECTED, True), (State.HELD, False), (State.HELD, True), (State.PENDING, True)],
)
def test_a_child_that_does_not_wait_for_its_parent_is_orphaned_too_once_that_cannot_come(
    ledger: Ledger, state: State, was_sent: bool
) -> None:
    """It has a validation error, or a hold, or is deleted."""
    if was_sent:
        contacts_are_read(ledger, "anna")
        order(ledger, "anna")
        sent(ledger, "order")
        read_anew(ledger)
    order(ledger, "bert", "b", validation_error="too long" if state == State.REJECTED else None)
    if state == State.HELD:
        ledger.holds.hold(guid("zoe"))
        ledger.holds.add_to_hold(guid("zoe"), [HeldRecord("order", guid("order"), "parent")])
    elif state == State.PENDING:
        capture(ledger, table="order", deleted=["order"], links=[NEEDED])
    capture(ledger, row("anna"))
    before = record(ledger, "order")
    assert (before.state, before.orphaned) == (state, Orphaned.NO)
    capture(ledger, complete=True)
    after = record(ledger, "order")
    assert (after.state, after.orphaned) == (state, Orphaned.KEPT if was_sent else Orphaned.DELETED)
    assert ledger.check() == []


def test_a_parent_whose_table_is_in_maintenance_may_still_come(ledger: Ledger) -> None:
    contacts_are_read(ledger)
    ledger.maintenance.begin("contact")
    order(ledger, "anna")
    assert waits(ledger, "order", BlockReason.PARENT_UNAVAILABLE)
    ledger.maintenance.end("contact")
    capture(ledger, complete=True)
    assert orphaned(ledger, "order")


@pytest.mark.parametrize(
    ("filtered_out", "why"),
    [(False, "its contact was deleted in Dynamics 365"), (True, "its contact is outside the filter")],
    ids=["deleted", "filtered out"],
)
@pytest.mark.parametrize("was_sent", [True, False])
def test_the_reason_names_the_state_of_the_parent(ledger: Ledger, filtered_out: bool, why: str, was_sent: bool) -> None:
    contacts_are_read(ledger)
    capture(ledger, row("anna"), complete=True)
    if was_sent:
        sent(ledger)
    order(ledger, "anna")
    sent(ledger, "order")
    gone = {guid("anna"): 7} if filtered_out else {}
    capture(ledger, deleted=["anna"], filtered_out=gone, complete=True)
    if was_sent:
        assert sent(ledger, "order") == ["delete"]
        assert told(ledger) == {guid("order"): why}
        assert sent(ledger) == ["delete"]
    assert orphaned(ledger, "order")
    assert told(ledger) == {guid("order"): why}


def test_the_state_of_a_former_parent_is_no_reason(ledger: Ledger) -> None:
    contacts_are_read(ledger, "anna")
    order(ledger, "anna")
    capture(ledger, deleted=["anna"], complete=True)
    sent(ledger)
    order(ledger, "bert")
    assert told(ledger)[guid("order")].startswith("its contact was not read")


@pytest.mark.postgresql
def test_a_record_is_orphaned_since_it_first_was(ledger: Ledger, clock: Clock) -> None:
    contacts_are_read(ledger)
    order(ledger, None)
    [before] = ledger.blocked.orphans()
    clock.advance(60)
    order(ledger, None, "b")
    [after] = ledger.blocked.orphans()
    assert after.since == before.since
    order(ledger, "anna", "c")
    capture(ledger, row("anna"))
    assert record(ledger, "order").failed_since is None


def test_an_orphan_that_leaves_the_scope_stays_one_and_is_reported_since_when(ledger: Ledger, clock: Clock) -> None:
    """Campaign keeps it, as it keeps each record whose row left the scope."""
    contacts_are_read(ledger, "anna")
    order(ledger, "anna", link=KEPT)
    sent(ledger, "order")
    capture(ledger, deleted=["anna"], complete=True)
    [before] = ledger.blocked.orphans()
    clock.advance(60)
    capture(ledger, table="order", links=[KEPT], out_of_scope=[guid("order")])
    assert orphaned(ledger, "order")
    assert [(one.id, one.since) for one in ledger.blocked.orphans()] == [(guid("order"), before.since)]


@pytest.mark.postgresql
def test_orphaned_records_are_counted_apart_and_do_not_wait(ledger: Ledger) -> None:
    contacts_are_read(ledger)
    order(ledger, None)
    counts = ledger.reports.counts()["order"]
    assert (counts.orphaned, counts.waiting, counts.records) == (1, 0, 1)
    assert ledger.blocked.waiting_reasons("order") == {}
    assert ledger.blocked.oldest_waiting("order") is None


def test_a_known_loss_needs_no_complete_read(ledger: Ledger) -> None:
    """While the contacts are read once more, one that is deleted is deleted."""
    contacts_are_read(ledger, "anna")
    order(ledger, "anna")
    sent(ledger, "order")
    read_anew(ledger)
    capture(ledger, deleted=["anna"])
    sent(ledger, "order")
    sent(ledger)
    [orphan] = ledger.blocked.orphans("order")
    assert orphan.reason.startswith("its contact was deleted in Dynamics 365")


@pytest.mark.parametrize(
    ("outcome", "attempts", "reason", "retryable"),
    [("later", 0, None, False), ("refused", 1, "why", True)],
    ids=["postponed", "rejected"],
)
def test_an_invalid_child_that_is_orphaned_counts_as_rejected_by_campaign_only_if_it_was(
    ledger: Ledger, outcome: str, attempts: int, reason: str | None, retryable: bool
) -> None:
    contacts_are_read(ledger, "anna", "bert")
    order(ledger, "anna", link=KEPT)
    sent(ledger, "order")
    order(ledger, "bert", "b", link=KEPT, validation_error="too long")
    answer(ledger, outcome, *claim(ledger, table="order"))
    assert record(ledger, "order").attempts == 1
    capture(ledger, deleted=["bert"], complete=True)
    rejected = record(ledger, "order")
    assert (rejected.state, rejected.attempts, rejected.reason) == (State.REJECTED, attempts, reason)
    assert [reject.retryable for reject in ledger.reports.rejects("order")] == [retryable]


def test_a_child_that_waits_again_keeps_its_attempts(ledger: Ledger) -> None:
    contacts_are_read(ledger, "anna")
    order(ledger, "anna")
    answer(ledger, "later", *claim(ledger, table="order"))
    capture(ledger, row("anna", "b"), complete=True)
    answer(ledger, "unknown", *claim(ledger))
    assert waits(ledger, "order", BlockReason.PARENT_PENDING)
    assert (record(ledger, "order").attempts, record(ledger, "order").reason) == (1, "why")


@pytest.mark.parametrize("keyed", [True, False], ids=["key", "join"])
@pytest.mark.parametrize("keep", [True, False], ids=["keep", "delete"])
@pytest.mark.parametrize("result", ["done", "later", "unknown"])
def test_no_parent_is_deleted_to_which_a_request_may_link_a_child_before_its_outcome_is_known(
    ledger: Ledger, clock: Clock, keyed: bool, keep: bool, result: str
) -> None:
    """The child's row names no parent any more while its move is under way: it is orphaned."""
    link = replace(NEEDED, keyed=keyed, keep_orphans=keep)
    in_campaign(ledger, link)
    capture(ledger, row("bert"))
    sent(ledger)
    order(ledger, "bert", link=link)
    under_way = claim_one(ledger, table="order")
    order(ledger, None, link=link)
    capture(ledger, deleted=["anna", "bert"])
    assert claim(ledger) == []
    answer(ledger, result, under_way)
    found_out = claim(ledger, table="order")
    if keep:  # it is looked up if need be, and stays whatever it is linked to
        assert [(one.operation, one.payload, one.links) for one in found_out] == (
            [("update", None, ())] if result == "unknown" else []
        )
    else:
        assert [one.operation for one in found_out] == ["delete"]
        free = {"done": ["anna"], "later": ["bert"], "unknown": []}[result]  # what it is known not to be linked to
        claimed = claim(ledger)
        assert [one.id for one in claimed] == [guid(name) for name in free]
        answer(ledger, "done", *claimed)
    answer(ledger, "done", *found_out)
    sent(ledger)
    if result == "unknown" and not keep:
        assert waits(ledger, "bert", BlockReason.CHILDREN_PENDING)
        clock.advance(HORIZON_SECONDS)
        assert sent(ledger, "order") == ["delete"]
        sent(ledger)
    assert ledger.reports.counts()["contact"].records == 0
    assert orphaned(ledger, "order")


@pytest.mark.parametrize("by", ["transform", "campaign"])
def test_a_parent_waits_for_a_child_that_waits_for_one_that_is_rejected(ledger: Ledger, by: str) -> None:
    """All three are listed, and the correction of one row lets them go on."""
    in_campaign(ledger)
    capture(ledger, row("bert", validation_error="too long" if by == "transform" else None))
    answer(ledger, "refused", *claim(ledger))
    order(ledger, "bert", "b")
    capture(ledger, deleted=["anna"])
    assert waits(ledger, "order", BlockReason.PARENT_UNAVAILABLE)
    assert ledger.blocked.waiting_parents("order") == [("contact", "rejected", 1)]
    assert waits(ledger, "anna", BlockReason.CHILDREN_PENDING)
    assert claim(ledger) == []
    capture(ledger, row("bert", "d"))
    assert [sent(ledger), sent(ledger, "order"), sent(ledger)] == [["insert"], ["update"], ["delete"]]


def test_the_link_of_a_refused_child_is_sent_alone_also_if_it_is_a_plain_attribute(ledger: Ledger) -> None:
    """Else its former parent could not be deleted before the row is corrected."""
    in_campaign(ledger, JOINED)
    capture(ledger, row("bert"))
    sent(ledger)
    order(ledger, "bert", "b", link=JOINED, validation_error="too long")
    capture(ledger, deleted=["anna"])
    assert claim(ledger) == []
    child = claim_one(ledger, table="order")
    assert (child.operation, child.payload, child.hash) == ("update", None, OTHER)
    assert links_of(child) == (LinkTo("cusContact", guid("bert"), keyed=False),)
    answer(ledger, "done", child)
    assert sent(ledger) == ["delete"]
    assert claim(ledger, table="order") == []
    order(ledger, "bert", "c", link=JOINED)
    assert sent(ledger, "order") == ["update"]


@pytest.mark.postgresql
@pytest.mark.parametrize("link", [NEEDED, OPTIONAL], ids=["delete", "links alone"])
def test_a_request_that_campaign_refused_for_an_invalid_row_is_not_sent_again_by_itself(
    ledger: Ledger, link: LinkSpec
) -> None:
    in_campaign(ledger, link)
    order(ledger, "anna", "b", link=link, validation_error="too long")
    assert [(one.reason, one.retryable) for one in ledger.reports.rejects()] == [("too long", False)]
    capture(ledger, deleted=["anna"])
    answer(ledger, "refused", claim_one(ledger, table="order"))
    assert claim(ledger, table="order") == []
    assert [(one.reason, one.attempts, one.retryable) for one in ledger.reports.rejects()] == [("why", 1, True)]
    assert ledger.reports.reject_reasons("order") == [("why", 1)]
    assert waits(ledger, "anna", BlockReason.CHILDREN_PENDING)
    assert ledger.claims.retry("order") == 1
    assert len(sent(ledger, "order")) == 1
    assert sent(ledger) == ["delete"]
    assert [(one.reason, one.attempts, one.retryable) for one in ledger.reports.rejects()] == [("too long", 0, False)]


@pytest.mark.postgresql
def test_a_child_in_doubt_waits_for_its_new_parent_alone(ledger: Ledger) -> None:
    capture(ledger, row("anna"))
    sent(ledger)
    order(ledger, "anna")
    answer(ledger, "unknown", claim_one(ledger, table="order"))
    capture(ledger, row("carl"))
    order(ledger, "carl", "b")
    assert ledger.blocked.waiting_parents("order") == [("contact", "pending", 1)]


@pytest.mark.parametrize(("link", "operation"), [(NEEDED, "delete"), (KEPT, "update")], ids=["deleted", "kept"])
def test_a_child_out_of_scope_that_a_late_request_may_insert_is_not_linked_to_nothing(
    ledger: Ledger, clock: Clock, link: LinkSpec, operation: str
) -> None:
    contacts_are_read(ledger, "anna")
    order(ledger, "anna", link=link)
    answer(ledger, "unknown", claim_one(ledger, table="order"), unanswered=True)
    capture(ledger, table="order", links=[link], out_of_scope=[guid("order")])
    capture(ledger, deleted=["anna"])
    answer(ledger, "missing", claim_one(ledger, table="order"))
    assert sent(ledger) == ([] if operation == "delete" else ["delete"])
    clock.advance(HORIZON_SECONDS + 1)
    late = claim_one(ledger, table="order")
    assert (late.operation, late.payload, late.links) == (operation, None, ())
    answer(ledger, "missing", late)
    assert sent(ledger) == (["delete"] if operation == "delete" else [])
