"""Claims, leases and retries of a push when the ledger changes beside it, or when the process did not run meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sync_assets.campaign.addressing import KEY, KEY_FOUND
from sync_assets.campaign.dialect import Operation
from sync_assets.http.client import Guard, Observer
from sync_assets.http.transport import Response
from sync_assets.ledger import Ledger, Outcome
from sync_assets.push import claimed_records, dispatcher
from sync_assets.push.claimed_records import ClaimedRecords, RecordQueue
from sync_assets.push.dispatcher import Target, push
from sync_assets.push.record_links import LinkTarget
from sync_assets_tests.support.ledgers import capture, guid, row, session_of
from sync_assets_tests.unit.ledger.linking import OPTIONAL, order, sent
from sync_assets_tests.unit.push.little_campaign import API, LittleCampaign

LINK = LinkTarget("cusContact", "contact", "profile", API, "externalId", required=False)
ORDERS = Target("order", "cusOrder", key="cusId", links=(LINK,), parents=(Target("contact", "profile"),))


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.open(f"sqlite:///{tmp_path}/ledger.db") as opened:
        capture(opened, row("anna"))
        yield opened


# --- records that are put off ---


@pytest.mark.parametrize(
    "change",
    [
        lambda ledger: ledger.holds.hold("contact", guid("anna")),
        lambda ledger: capture(ledger, deleted=["anna"]),
        lambda ledger: ledger.maintenance.begin("contact"),
    ],
    ids=["held", "deleted", "in maintenance"],
)
async def test_a_push_ends_although_a_record_that_was_put_off_is_not_to_be_sent_any_more(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, change: Callable[[Ledger], object]
) -> None:
    monkeypatch.setattr(claimed_records, "OVERDUE_SECONDS", 0.2)
    claims = ClaimedRecords(ledger, "contact", session_of(ledger))
    queue = RecordQueue(claims, 1)
    filling = asyncio.create_task(queue.fill())
    taken = await queue.take()
    assert taken
    queue.add_outcome(Outcome(taken.seq, "later", taken.hash, "a bare error", 0.5))
    await claims.flush()
    change(ledger)
    done, _ = await asyncio.wait([filling], timeout=60)
    queue.end()
    assert done
    assert queue.put_off == 0


class SlowCampaign(LittleCampaign):
    """Answers its first request after so many seconds."""

    def __init__(self, seconds: float) -> None:
        super().__init__(profile="externalId", cusOrder="cusId")
        self.seconds, self.asked = seconds, asyncio.Event()

    async def call(
        self,
        operation: Operation,
        path: str,
        body: bytes | None = None,
        *,
        guard: Guard | None = None,
        observer: Observer | None = None,
    ) -> Response:
        if self.asked.is_set():
            return await super().call(operation, path, body, guard=guard, observer=observer)
        self.asked.set()
        assert guard
        assert observer
        guard()
        try:
            await asyncio.sleep(self.seconds)
        finally:
            observer(operation, None, self.seconds)
        return await super().call(operation, path, body)


def acknowledged_order(ledger: Ledger, campaign: LittleCampaign) -> None:
    """An order whose link was acknowledged by an earlier version, which did not verify it."""
    sent(ledger)
    order(ledger, "anna", link=OPTIONAL)
    sent(ledger, "order")
    ledger.dialect.note("cusOrder", {KEY: "cusId", KEY_FOUND: "yes"})
    pkey = campaign.holds("profile", guid("anna"))
    campaign.holds("cusOrder", guid("order"), cusContact={"PKey": pkey})


async def test_a_push_whose_time_is_up_does_not_wait_for_the_verification_of_links(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatcher, "LAST_ANSWERS", 0.1)
    campaign = SlowCampaign(3600)
    acknowledged_order(ledger, campaign)
    async with asyncio.timeout(60):
        result = await push(ledger, campaign, ORDERS, session=session_of(ledger), seconds=0.1)
    assert (result.stopped, result.done) == (None, 0)
