"""Store which session works on a Dagster run, and detect killed runs by their sessions.

Works with any run launcher. A run was killed if its session has ended or expired before its work ended. Marking the run
as failed in Dagster is in `defs/tables/run_requests.py`. No Dagster here.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from sync_assets.ledger.errors import SESSION_SECONDS, LedgerError, SessionExpired
from sync_assets.ledger.repositories.runs import ENDED, GIVEN_UP, Heartbeat
from sync_assets.runtime.workers import is_dead, release_dead

if TYPE_CHECKING:
    from sync_assets.ledger import Ledger
    from sync_assets.runtime.context import Runtime

_log = logging.getLogger(__name__)

SILENT_AFTER = timedelta(seconds=SESSION_SECONDS)
"""A run without a heartbeat for this long counts as killed."""


@contextmanager
def heartbeat(runtime: Runtime, run_id: str) -> Iterator[None]:
    """Store that this process's session works on a run, or on one of its steps, while the block is executed.

    Raises SessionExpired if the run was given up before.
    """
    session = runtime.session
    if not session.ledger.runs.begin(run_id, session.epoch):
        raise SessionExpired
    before, runtime.run_id = runtime.run_id, run_id
    try:
        yield
    finally:
        runtime.run_id = before
        with suppress(LedgerError):
            session.ledger.runs.end(run_id)


@dataclass(frozen=True, slots=True)
class KilledRun:
    """A run whose process was killed, and that was not given up yet. since: its last heartbeat."""

    run_id: str
    since: datetime

    def __str__(self) -> str:
        when = f"{self.since:%Y-%m-%d %H:%M:%S} UTC"
        return f"The process of run {self.run_id[:8]} was killed: its last heartbeat was at {when}."


REMEDY = (
    "Nothing is lost. The sensor `d365_changes` marks the run failed within seconds, and the next run goes on; where "
    "the sensors do not run, `sync-assets sync` does both."
)
"""The remedy shown with a killed run."""


def killed_runs(ledger: Ledger) -> list[KilledRun]:
    """Return the runs whose process was killed and that were not given up yet, the oldest heartbeat first."""
    runs = [KilledRun(run_id, beat.at) for run_id, beat in ledger.runs.heartbeats().items() if _is_killed(beat)]
    return sorted(runs, key=lambda run: (run.since, run.run_id))


def give_up_killed(ledger: Ledger) -> Mapping[str, Heartbeat]:
    """Give up each run whose process was killed, and let its session expire; return the heartbeats by run id."""
    release_dead(ledger)
    beats = dict(ledger.runs.heartbeats())
    for run_id, beat in beats.items():
        if _is_killed(beat) and ledger.runs.give_up(run_id, beat):
            _log.warning("A run was killed, its claims are released", extra={"run_id": run_id})
            beats[run_id] = Heartbeat(GIVEN_UP, datetime.now(UTC))
    return beats


def _is_killed(beat: Heartbeat) -> bool:
    return beat.session not in (ENDED, GIVEN_UP) and (beat.worker is None or is_dead(beat.worker))
