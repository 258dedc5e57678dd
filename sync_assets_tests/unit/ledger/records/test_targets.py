"""A table's target in the ledger: under another one nothing of the table counts as acknowledged."""

import pytest

from sync_assets.checks.preflight import findings_since_capture, target_finding
from sync_assets.config.models import TableConfig
from sync_assets.ledger import Ledger
from sync_assets.ledger.model import BlockReason, LinkSpec, State
from sync_assets_tests.support.ledgers import (
    Clock,
    capture,
    claim,
    feed_of,
    guid,
    linked,
    push,
    record,
    row,
    session_of,
    settle,
)
from sync_assets_tests.unit.ledger.opt_out_rows import THEN, state

TO_CONTACT = LinkSpec("cusContact", "contact")
ORDERS = TableConfig.model_validate(
    {"table": "new_order", "resource": "cusOrder", "key": "cusOrderId", "fields": {"new_name": "cusName"}}
)


@pytest.fixture
def sent(ledger: Ledger) -> Ledger:
    """Anna is in step, Bert was deleted in Dynamics 365, Carl is out of scope, an order hangs on Anna."""
    ledger.targets.change_target("contact", "profile", "externalId")
    ledger.targets.change_target("order", "cusOrder", "cusOrderId")
    ledger.dialect.note("profile", {"existing records": "none"})
    capture(ledger, row("anna"), row("bert"), row("carl"), complete=True)
    push(ledger)
    order = linked([row("order")], cusContact=["anna"])
    capture(ledger, page=order, table="order", links=[TO_CONTACT], complete=True)
    push(ledger, table="order")
    state(ledger, ("bert", True, THEN), ("carl", True, THEN))
    capture(ledger, deleted=["bert"], out_of_scope=[guid("carl")], complete=True)
    return ledger


def test_the_target_is_stored_and_replaced_by_the_same_one_for_nothing(ledger: Ledger) -> None:
    assert ledger.targets.target("contact") is None
    ledger.targets.change_target("contact", "profile", "externalId")
    assert ledger.targets.target("contact") == ("profile", "externalId")
    assert ledger.targets.count_sent("contact") == (0, 0)


def test_another_target_forgets_acknowledgements(sent: Ledger) -> None:
    assert sent.targets.count_sent("contact") == (3, 1)
    sent.targets.change_target("contact", "cusPerson", "cusPersonId")
    assert sent.targets.target("contact") == ("cusPerson", "cusPersonId")
    assert sent.targets.count_sent("contact") == (0, 0)
    anna = record(sent, "anna")
    assert (anna.state, anna.block_reason, anna.acked_hash) == (State.WAITING, BlockReason.REFETCH_REQUIRED, None)
    assert sent.stored.stored_record("contact", guid("bert")) is None
    assert sent.stored.stored_record("contact", guid("carl")) is None
    assert {one.id for one in sent.opt_outs.of([guid("bert"), guid("carl")])} == {guid("carl")}
    feed = feed_of(sent)
    assert (feed.complete, feed.link) == (False, None)
    counts = sent.reports.counts()["contact"]
    assert (counts.waiting, counts.synced, counts.records) == (1, 0, 1)
    assert sent.targets.count_sent("order") == (1, 0)


def test_a_pending_child_waits_until_its_parent_was_sent_anew(sent: Ledger) -> None:
    changed = linked([row("order", "b")], cusContact=["anna"])
    capture(sent, page=changed, table="order", links=[TO_CONTACT], complete=True)
    sent.targets.change_target("contact", "cusPerson", "cusPersonId")
    assert (record(sent, "order").state, claim(sent, table="order")) == (State.WAITING, [])
    capture(sent, row("anna"))
    push(sent)
    [order] = claim(sent, table="order")
    assert (order.operation, [link.acknowledged for link in order.links]) == ("update", [False])


@pytest.mark.parametrize("leaves", ["before", "after"])
def test_a_child_out_of_scope_stays_in_campaign_though_its_parents_link_is_forgotten(sent: Ledger, leaves: str) -> None:
    if leaves == "before":
        capture(sent, out_of_scope=[guid("order")], table="order")
    sent.targets.change_target("contact", "cusPerson", "cusPersonId")
    if leaves == "after":
        capture(sent, out_of_scope=[guid("order")], table="order")
    capture(sent, row("anna"))
    push(sent)
    assert not claim(sent, table="order")
    assert record(sent, "order").state == State.SYNCED


def test_an_outcome_of_the_former_target_is_dropped(sent: Ledger) -> None:
    capture(sent, row("anna", "b"))
    [anna] = [one for one in claim(sent) if one.id == guid("anna")]
    sent.targets.change_target("contact", "cusPerson", "cusPersonId")
    assert settle(sent, "done", anna) == 0
    assert record(sent, "anna").acked_hash is None


@pytest.mark.parametrize("answered", [True, False])
def test_a_request_to_the_former_target_may_take_effect_until_its_horizon(sent: Ledger, answered: bool) -> None:
    capture(sent, row("anna", "b"))
    [anna] = [one for one in claim(sent) if one.id == guid("anna")]
    if answered:
        settle(sent, "unknown", anna)
    sent.targets.change_target("contact", "cusPerson", "cusPersonId")
    assert record(sent, "anna").unknown_until is not None
    capture(sent, row("anna", "b"))
    [anna] = claim(sent)
    assert anna.operation == "insert"
    settle(sent, "done", anna)
    assert record(sent, "anna").state == State.UNCONFIRMED


def test_a_worker_with_the_former_target_claims_nothing_more(sent: Ledger) -> None:
    sent.targets.change_target("contact", "cusPerson", "cusPersonId")
    capture(sent, row("anna"))
    session, former = session_of(sent), ("profile", "externalId")
    assert not sent.claims.claim("contact", session, limit=9, target=former)
    assert len(sent.claims.claim("contact", session, limit=9, target=("cusPerson", "cusPersonId"))) == 1


@pytest.mark.postgresql
def test_findings_about_the_new_resource_are_made_again(sent: Ledger) -> None:
    sent.targets.change_target("contact", "profile", "cusPersonId")
    assert sent.dialect.facts("profile") == {}


@pytest.mark.postgresql
@pytest.mark.parametrize("sent", ["nothing", "pending", "outcome unknown", "acknowledged"])
@pytest.mark.parametrize(
    "target", [None, ("cusOrder", "cusOrderId"), ("cusLine", "cusOrderId"), ("cusOrder", "cusName")]
)
def test_another_target_fails_exactly_if_a_record_was_sent_to_the_former_one(
    ledger: Ledger, sent: str, target: tuple[str, str] | None
) -> None:
    if target:
        ledger.targets.change_target("new_order", *target)
    if sent != "nothing":
        capture(ledger, row("one"), table="new_order")
    if sent == "outcome unknown":
        claim(ledger, table="new_order")
    elif sent == "acknowledged":
        push(ledger, table="new_order")
    same = target in (None, (ORDERS.resource, ORDERS.key))
    assert target_finding(ledger, ORDERS).passed == (same or sent in ("nothing", "pending"))


def test_types_of_another_resource_are_no_change(ledger: Ledger) -> None:
    ledger.targets.change_target("new_order", "cusLine", "cusOrderId")
    ledger.types.note("new_order", {"campaign": {"cusName": "string"}, "d365": {"new_name": "string"}})
    now = {"campaign": {"cusName": "integer"}, "d365": {"new_name": "memo"}}
    result = {one.check: one.passed for one in findings_since_capture(ledger, ORDERS, now)}
    assert result == {
        "column_types_are_as_before": False,
        "attribute_types_are_as_before": True,
        "target_is_as_before": True,
    }


@pytest.mark.parametrize("outcome", ["refused", "late"])
def test_what_campaign_answered_about_the_former_target_holds_up_no_change_of_target(
    sent: Ledger, clock: Clock, outcome: str
) -> None:
    """A record that Campaign rejected, or that is unconfirmed, is read again for the new target."""
    capture(sent, row("anna", "b"))
    [anna] = [one for one in claim(sent) if one.id == guid("anna")]
    settle(sent, "unknown" if outcome == "late" else "refused", anna)
    if outcome == "late":
        clock.advance(60)
        [anna] = [one for one in claim(sent) if one.id == guid("anna")]
        settle(sent, "done", anna)
    assert record(sent, "anna").state == {"refused": State.REJECTED, "late": State.UNCONFIRMED}[outcome]
    sent.targets.change_target("contact", "cusPerson", "cusPersonId")
    assert record(sent, "anna").state == State.WAITING
    capture(sent, row("anna", "b"))
    assert [one.operation for one in claim(sent)] == ["insert"]
