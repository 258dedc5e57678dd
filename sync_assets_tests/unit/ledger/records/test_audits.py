"""What an audit compares, and what becomes of a record that Campaign does not hold as it acknowledged it."""

from collections.abc import Mapping

import pytest

from sync_assets.ledger import Ledger
from sync_assets.ledger.model import OTHER, BlockReason, LinkTo
from sync_assets_tests.support.ledgers import capture, claim, claim_one, guid, hash_of, many, push, record, row, settle
from sync_assets_tests.unit.ledger.linking import OPTIONAL, links_of, order, sent, waits

NONE: Mapping[str, Mapping[str, str | None]] = {}
NAMES = ("anna", "bert", "carl", "dora", "emil", "nobody")


def hashes(ledger: Ledger) -> dict[str, bytes | None]:
    states = ledger.audits.states("contact", [guid(name) for name in NAMES])
    return {name: states[guid(name)].hash for name in NAMES if guid(name) in states}


@pytest.mark.postgresql
def test_only_synced_records_in_scope_are_compared(ledger: Ledger) -> None:
    capture(ledger, *[row(name) for name in NAMES[:-1]])
    push(ledger)
    assert hashes(ledger) == dict.fromkeys(NAMES[:-1], hash_of("a"))
    capture(ledger, row("bert", "b"), row("emil", "e", validation_error="no"), out_of_scope=[guid("carl")])
    ledger.holds.hold(guid("dora"))
    assert hashes(ledger) == {"anna": hash_of("a"), "bert": None, "carl": None, "dora": None, "emil": None}
    words = {name: ledger.audits.states("contact", [guid(name)])[guid(name)].word for name in NAMES[:-1]}
    assert words == {
        "anna": "synced",
        "bert": "pending",
        "carl": "out of scope",
        "dora": "held",
        "emil": "rejected",
    }


@pytest.mark.postgresql
def test_ids_come_in_order_from_below_one(ledger: Ledger) -> None:
    capture(ledger, page=many(7))
    push(ledger)
    capture(ledger, row("row3", "b"))
    ids = sorted((guid(f"row{n}") for n in range(7) if n != 3), reverse=True)
    assert ledger.audits.synced_below("contact", "~", 10) == ids
    assert ledger.audits.synced_below("contact", ids[1], 2) == ids[2:4]
    assert ledger.audits.synced_below("contact", ids[-1], 2) == []


@pytest.mark.postgresql
def test_a_record_that_differs_is_read_again_and_sent_as_an_update_unless_it_moved(ledger: Ledger) -> None:
    capture(ledger, row("anna"), row("bert"), row("carl"))
    push(ledger)
    capture(ledger, row("bert", "b"))
    wrong = {guid("anna"): hash_of("a"), guid("bert"): hash_of("a"), guid("carl"): hash_of("other")}
    repaired = ledger.audits.store_page("contact", lambda number: {"repair": number}, wrong, NONE)
    assert (repaired, ledger.audit_progress.facts("contact")) == (1, {"repair": 1})
    assert waits(ledger, "anna", BlockReason.REFETCH_REQUIRED)
    assert record(ledger, "anna").acked_hash == OTHER
    assert ledger.blocked.ids_to_refetch("contact") == [guid("anna")]
    assert (ledger.reports.counts()["contact"].waiting, ledger.reports.counts()["contact"].synced) == (1, 1)
    capture(ledger, row("anna"))
    [anna, bert] = sorted(claim(ledger), key=lambda one: one.id != guid("anna"))
    assert (anna.operation, anna.resend, bert.operation) == ("update", False, "update")
    settle(ledger, "done", anna, bert)
    assert ledger.reports.counts()["contact"].synced == 3
    assert ledger.check() == []


@pytest.mark.postgresql
def test_a_link_that_leads_elsewhere_is_sent_again(ledger: Ledger) -> None:
    capture(ledger, row("anna"), row("bert"))
    order(ledger, "anna", link=OPTIONAL)
    assert (sent(ledger), sent(ledger, "order")) == (["insert"] * 2, ["insert"])
    wrong = {guid("order"): record(ledger, "order").acked_hash}
    links = {guid("order"): {OPTIONAL.attribute: guid("bert")}}
    assert ledger.audits.store_page("order", lambda _: {}, wrong, links) == 1
    order(ledger, "anna", link=OPTIONAL)
    update = claim_one(ledger, table="order")
    assert (update.operation, links_of(update)) == ("update", (LinkTo(OPTIONAL.attribute, guid("anna"), True),))
