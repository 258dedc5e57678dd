"""Privacy holds: a held row and all below it is never claimed, and nothing of its content is kept."""

import threading
from typing import Any

import polars as pl
import pytest

from sync_assets.ledger import Ledger
from sync_assets.ledger.model import BlockReason, Claimed, LinkSpec, State
from sync_assets.ledger.records.privacy_holds import Released
from sync_assets_tests.support.ledgers import (
    SCHEMA,
    Clock,
    capture,
    claim,
    claim_one,
    guid,
    hash_of,
    linked,
    live_sessions,
    push,
    record,
    row,
    settle,
    stored,
)

TABLES = ("contact", "order", "line")
PARENTS = {"order": "contact", "line": "order"}
ANNA = guid("anna")


def links(table: str, *, required: bool = True) -> list[LinkSpec]:
    return [LinkSpec("parent", PARENTS[table], required=required)] if table in PARENTS else []


def digest(value: str, parent: str | None) -> bytes:
    """Of a row's state: another parent is another state, as the transform has it."""
    return hash_of(f"{value} {parent}" if parent else value)


def below(ledger: Ledger, table: str, name: str, parent: str | None, value: str = "a", **rest: Any) -> None:
    """Captures a row of `table` that is linked to `parent`."""
    required = rest.pop("required", True)
    rows = [{**row(name, value), "parent": guid(parent) if parent else None, "hash": digest(value, parent)}]
    page = pl.DataFrame(rows, schema={**SCHEMA, "parent": pl.String})
    capture(ledger, table=table, page=page, links=links(table, required=required), **rest)


def family(ledger: Ledger, **rest: Any) -> None:
    """Anna, her order and its line; Bert with an order."""
    capture(ledger, row("anna"), row("bert"))
    below(ledger, "order", "anna's order", "anna", **rest)
    below(ledger, "order", "bert's order", "bert", **rest)
    below(ledger, "line", "anna's line", "anna's order", **rest)


def push_all(ledger: Ledger) -> list[str]:
    """The ids that were sent, whatever they are of."""
    sent: list[str] = []
    while claimed := [one for table in TABLES for one in _sent(ledger, table)]:
        sent += [one.id for one in claimed]
    return sent


def _sent(ledger: Ledger, table: str) -> list[Claimed]:
    claimed = claim(ledger, table=table)
    settle(ledger, "done", *claimed)
    return claimed


def states(ledger: Ledger, *names: str) -> list[tuple[State, BlockReason]]:
    return [(State(one.state), BlockReason(one.block_reason)) for one in (record(ledger, name) for name in names)]


ANNAS = ("anna", "anna's order", "anna's line")


def assert_held(ledger: Ledger, *names: str) -> None:
    for name in names:
        one = record(ledger, name)
        assert one.state == State.HELD, name
        assert (one.payload, one.update_payload) == (None, None), name


def test_a_hold_takes_the_row_and_all_below_it_and_leaves_the_others(ledger: Ledger, clock: Clock) -> None:
    family(ledger)
    hold = ledger.holds.hold(ANNA)
    assert (hold.id, hold.since, hold.known, hold.records) == (ANNA, clock.now, True, 3)
    assert (hold.in_flight, hold.in_flight_until) == (0, None)
    assert_held(ledger, *ANNAS)
    assert push_all(ledger) == [guid("bert"), guid("bert's order")]
    counts = ledger.reports.counts()
    assert [counts[table].held for table in TABLES] == [1, 1, 1]
    assert [counts[table].synced for table in TABLES] == [1, 1, 0]


def test_a_released_insert_waits_until_its_row_was_read_again(ledger: Ledger) -> None:
    family(ledger)
    ledger.holds.hold(ANNA)
    assert ledger.holds.end_hold(ANNA, deleted=False) == Released(3, 0)
    assert ledger.holds.all() == []
    assert states(ledger, *ANNAS) == [
        (State.WAITING, BlockReason.REFETCH_REQUIRED),
        (State.WAITING, BlockReason.PARENT_PENDING),
        (State.WAITING, BlockReason.PARENT_PENDING),
    ]
    assert ledger.blocked.ids_to_refetch("contact", 10) == [ANNA]
    capture(ledger, row("anna"))
    assert claim_one(ledger, limit=1).payload == '{"value":"a"}'


def test_a_change_under_a_hold_is_known_but_not_its_content(ledger: Ledger) -> None:
    family(ledger)
    push_all(ledger)
    ledger.holds.hold(ANNA)
    capture(ledger, row("anna", "b", insert_only="1990"))
    below(ledger, "order", "anna's order", "anna", "b")
    assert_held(ledger, *ANNAS)
    assert record(ledger, "anna").desired_hash == hash_of("b")
    assert push_all(ledger) == []
    ledger.holds.end_hold(ANNA, deleted=False)
    assert states(ledger, "anna", "anna's order") == [(State.WAITING, BlockReason.REFETCH_REQUIRED)] * 2
    assert push_all(ledger) == []

    capture(ledger, row("anna", "b", insert_only="1990"))  # read again: it says what was known, and brings the content
    one = claim_one(ledger)
    assert (one.operation, one.payload, one.update_payload) == (
        "update",
        '{"value":"b","once":"1990"}',
        '{"value":"b"}',
    )


def test_a_hold_may_come_before_the_row(ledger: Ledger) -> None:
    hold = ledger.holds.hold(ANNA)
    assert (hold.known, hold.records) == (False, 1)
    assert ledger.reports.counts()["contact"].held == 1
    family(ledger)
    assert_held(ledger, *ANNAS)
    assert push_all(ledger) == [guid("bert"), guid("bert's order")]
    [listed] = ledger.holds.all()
    assert (listed.known, listed.records) == (True, 3)


@pytest.mark.parametrize("required", [True, False])
def test_children_are_held_though_the_row_was_never_captured(ledger: Ledger, required: bool) -> None:
    """It may be filtered out, or its table's turn comes later."""
    below(ledger, "order", "early", "anna", required=required)
    ledger.holds.hold(ANNA)
    below(ledger, "order", "late", "anna", required=required)
    below(ledger, "line", "a line", "late", required=required)
    assert_held(ledger, "early", "late", "a line")
    assert push_all(ledger) == []
    ledger.holds.end_hold(ANNA, deleted=False)
    assert ANNA not in stored(ledger), "a record was left that says nothing"
    if required:
        assert states(ledger, "early", "late") == [(State.WAITING, BlockReason.PARENT_UNAVAILABLE)] * 2
    else:
        assert states(ledger, "early", "late") == [(State.WAITING, BlockReason.REFETCH_REQUIRED)] * 2


@pytest.mark.postgresql
def test_a_rejected_record_is_held_and_cannot_be_retried(ledger: Ledger) -> None:
    capture(ledger, row("anna"))
    settle(ledger, "refused", claim_one(ledger), reason="no")
    ledger.holds.hold(ANNA)
    assert (ledger.claims.retry(), ledger.claims.retry("contact", ANNA)) == (0, 0)
    assert_held(ledger, "anna")
    ledger.holds.end_hold(ANNA, deleted=False)
    assert states(ledger, "anna") == [(State.WAITING, BlockReason.REFETCH_REQUIRED)]


@pytest.mark.parametrize("result", ["done", "refused", "later", "unknown"])
def test_a_request_under_way_is_reported_and_its_answer_does_not_change_the_hold(
    ledger: Ledger, clock: Clock, result: Any
) -> None:
    capture(ledger, row("anna"))
    one = claim_one(ledger)
    hold = ledger.holds.hold(ANNA)
    assert hold.in_flight == 1
    assert hold.in_flight_until == live_sessions(ledger)[0].until
    settle(ledger, result, one, reason="why")
    assert_held(ledger, "anna")
    [listed] = ledger.holds.all()
    assert (listed.in_flight, listed.in_flight_until) == (0, None)
    clock.advance(3600)
    assert claim(ledger) == []


def test_after_a_delete_in_both_systems_the_release_leads_to_deletes_only(ledger: Ledger) -> None:
    family(ledger)
    push_all(ledger)
    ledger.holds.hold(ANNA)
    capture(ledger, row("anna", "b"))
    for table, name in (("line", "anna's line"), ("order", "anna's order"), ("contact", "anna")):
        capture(ledger, deleted=[name], table=table)
    assert push_all(ledger) == []
    assert_held(ledger, *ANNAS)
    ledger.holds.end_hold(ANNA, deleted=False)
    sent = [(one.id, one.operation) for table in reversed(TABLES) for one in _sent(ledger, table)]
    assert sent == [(guid("anna's line"), "delete"), (guid("anna's order"), "delete"), (ANNA, "delete")]
    assert {guid("bert"), guid("bert's order")} == stored(ledger).keys()


@pytest.mark.postgresql
@pytest.mark.parametrize("sent", ["settled", "unknown", "never"])
def test_a_row_out_of_scope_is_not_sent_after_its_release(ledger: Ledger, sent: str) -> None:
    """Without apply_deletes a row that is gone leaves Campaign's record as it is."""
    capture(ledger, row("anna"))
    if sent != "never":
        settle(ledger, "done" if sent == "settled" else "unknown", claim_one(ledger))
    ledger.holds.hold(ANNA)
    capture(ledger, row("anna", "b"))
    capture(ledger, out_of_scope=[ANNA])
    ledger.holds.end_hold(ANNA, deleted=False)
    assert ledger.blocked.ids_to_refetch("contact", 10) == []
    found_out = [(one.operation, one.payload, one.links) for one in push(ledger)]
    assert found_out == ([("update", None, ())] if sent == "unknown" else [])
    assert ledger.reports.counts()["contact"].waiting == 0


def test_a_release_that_purges_a_record_removes_its_collected_delete(ledger: Ledger) -> None:
    """It left the scope before the hold; a read that is not at its end finds it deleted."""
    capture(ledger, row("anna"))
    ledger.holds.hold(ANNA)
    capture(ledger, out_of_scope=[ANNA])
    capture(ledger, deleted=["anna"], carry_out=False)
    ledger.holds.end_hold(ANNA, deleted=False)
    assert stored(ledger) == {}
    assert ledger.check() == []


def test_a_record_of_two_holds_is_free_after_the_second_release(ledger: Ledger) -> None:
    family(ledger)
    to_both = [LinkSpec("cusContact", "contact"), LinkSpec("cusReferrer", "contact")]
    page = linked([row("anna's order", "b")], cusContact=["anna"], cusReferrer=["bert"])
    capture(ledger, page=page, table="order", links=to_both)
    push_all(ledger)
    ledger.holds.hold(ANNA)
    ledger.holds.hold(guid("bert"))
    assert ledger.holds.end_hold(ANNA, deleted=False) == Released(1, 0)
    assert_held(ledger, "bert", "anna's order", "anna's line")
    assert ledger.holds.end_hold(guid("bert"), deleted=False) == Released(4, 0)


def test_ending_a_hold_that_there_is_not(ledger: Ledger) -> None:
    capture(ledger, row("anna"))
    assert ledger.holds.end_hold(ANNA, deleted=False) is None
    assert ledger.holds.held_since(ANNA) is None
    assert len(push(ledger)) == 1


def test_kin_is_known_by_ids_and_marks(ledger: Ledger) -> None:
    family(ledger)
    settle(ledger, "done", *claim(ledger))
    kin = ledger.holds.related(ANNA)
    assert [(one.table, one.id) for one in kin] == [
        ("contact", ANNA),
        ("order", guid("anna's order")),
        ("line", guid("anna's line")),
    ]
    assert [(one.may_exist_in_campaign, one.wanted, one.payload) for one in kin] == [
        (True, True, False),
        (False, True, True),
        (False, True, True),
    ]


@pytest.mark.postgresql
def test_holds_and_captures_in_threads_end_with_all_children_held(ledger: Ledger) -> None:
    """Whoever comes first: an order captured while the hold is set is held."""
    below(ledger, "order", "order", "bert")
    orders = [f"order{n}" for n in range(20)]

    def capture_orders() -> None:
        for name in orders:
            below(ledger, "order", name, "anna", required=False)

    thread = threading.Thread(target=capture_orders)
    thread.start()
    ledger.holds.hold(ANNA)
    thread.join()
    assert_held(ledger, *orders)
