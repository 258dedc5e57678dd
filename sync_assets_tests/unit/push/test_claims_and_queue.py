"""Claims, leases and retries of a push when the ledger changes beside it, or when the process did not run meanwhile."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sync_assets.ledger import Ledger
from sync_assets.ledger.model import Outcome
from sync_assets.push import claimed_records
from sync_assets.push.claimed_records import ClaimedRecords, RecordQueue
from sync_assets.push.target import Target
from sync_assets_tests.support.ledgers import capture, guid, row, session_of
from sync_assets_tests.unit.push.little_campaign import CONTACT


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.open(f"sqlite:///{tmp_path}/ledger.db") as opened:
        capture(opened, row("anna"))
        yield opened


@pytest.mark.parametrize(
    "change",
    [
        lambda ledger: ledger.holds.hold(guid("anna")),
        lambda ledger: capture(ledger, deleted=["anna"]),
        lambda ledger: ledger.maintenance.begin("contact"),
    ],
    ids=["held", "deleted", "in maintenance"],
)
async def test_a_push_ends_although_a_record_that_was_put_off_is_not_to_be_sent_any_more(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, change: Callable[[Ledger], object]
) -> None:
    monkeypatch.setattr(claimed_records, "OVERDUE_SECONDS", 0.2)
    claims = ClaimedRecords(ledger, Target(CONTACT), session_of(ledger))
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
