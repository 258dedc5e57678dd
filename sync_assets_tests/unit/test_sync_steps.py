"""When a sync gives up what is pending."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sync_assets.ledger import Ledger
from sync_assets.sync_steps import LEASE_WAIT_SECONDS, _pending
from sync_assets_tests.support.ledgers import capture, claim, row, settle


def test_a_push_that_takes_longer_than_the_wait_is_no_end_as_long_as_it_sends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = SimpleNamespace(now=0.0, monotonic=lambda: clock.now)
    monkeypatch.setattr("sync_assets.sync_steps.time", clock)
    with Ledger.open(f"sqlite:///{tmp_path}/ledger.db") as ledger:
        capture(ledger, row("ada"), row("bert"), complete=True)
        access: Any = SimpleNamespace(opened=lambda: ledger)
        contact: Any = SimpleNamespace(table="contact")
        works: list[str] = []
        for step in _pending(access, [contact], (), waits=False):
            works.append(step.work)
            settle(ledger, "done", *claim(ledger, limit=1))
            clock.now += 2 * LEASE_WAIT_SECONDS
    assert works == ["push", "push"]
