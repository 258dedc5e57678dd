"""A run's sign of life in the ledger, whatever launcher started it: one that gives none any more was killed."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from sync_assets.ingress.workers import worker_id
from sync_assets.ledger.errors import LedgerError
from sync_assets.runtime import Runtime

BEAT_SECONDS = 5.0


@contextmanager
def heartbeat(runtime: Runtime, run_id: str) -> Iterator[None]:
    """Around the work of a run, or of one of its steps. The first beat is written before it begins; raises LedgerError
    if it cannot be. The last one stays: Dagster notes the end of a run a moment later."""
    owner, ended = worker_id(), threading.Event()
    ledger = runtime.ledger
    ledger.beat(run_id, owner)

    def beat() -> None:
        while not ended.wait(BEAT_SECONDS):
            with suppress(LedgerError):  # the next one may come through; the work notices by itself
                ledger.beat(run_id, owner)

    thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
