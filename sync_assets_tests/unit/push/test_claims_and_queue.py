"""Claims, leases and retries of a push when the ledger changes beside it, or when the process did not run meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sync_assets.ledger import Ledger, Outcome
from sync_assets.push import record_queue
from sync_assets.push.claimed_records import ClaimedRecords
from sync_assets.push.record_queue import RecordQueue
from sync_assets_tests.support.ledgers import capture, guid, row


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.open(f"sqlite:///{tmp_path}/ledger.db") as opened:
        capture(opened, row("anna"))
        yield opened


# --- records that are put off ---


@pytest.mark.parametrize(
    "change",
    [
        lambda ledger: ledger.hold("contact", guid("anna")),
        lambda ledger: capture(ledger, deleted=["anna"]),
        lambda ledger: ledger.begin_maintenance("contact"),
    ],
    ids=["held", "deleted", "in maintenance"],
)
async def test_a_push_ends_although_a_record_that_was_put_off_is_not_to_be_sent_any_more(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, change: Callable[[Ledger], object]
) -> None:
    monkeypatch.setattr(record_queue, "OVERDUE_SECONDS", 0.2)
    claims = ClaimedRecords(ledger, "contact", "worker", 60)
    queue = RecordQueue(claims, 1)
    filling = asyncio.create_task(queue.fill())
    taken = await queue.take()
    assert taken
    queue.close(Outcome(taken.seq, "later", taken.hash, "a bare error", 0.5))
    await claims.flush()
    change(ledger)
    done, _ = await asyncio.wait([filling], timeout=60)
    queue.end()
    assert done
    assert queue.put_off == 0
