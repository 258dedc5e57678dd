"""`replay`: capture a table again, as a whole or some days. The next `sync` sends the records that are pending then."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Any

from sync_assets.commands.sync_runs import run_flow
from sync_assets.defs.asset_keys import d365_key
from sync_assets.defs.instance.command_line import dagster_instance
from sync_assets.defs.tables.active_runs import end_killed
from sync_assets.errors import SyncAssetsError
from sync_assets.flows import Outcome
from sync_assets.operations.replay import capture_again, replayable
from sync_assets.operations.status import COLUMNS, document, held_back
from sync_assets.runtime.context import Runtime
from sync_assets.runtime.workers import release_dead


@dataclass(frozen=True, slots=True)
class Replayed:
    """The result of a replay.

    Attributes:
        document: what `replay --json` prints.
        problems: why it could not be completed.
        said: further notes for people.
    """

    document: dict[str, Any]
    problems: list[SyncAssetsError]
    said: list[str]


def replay(
    runtime: Runtime, table: str, first: date | None = None, last: date | None = None, *, force: bool = False
) -> Replayed:
    """Capture all rows again, or those last modified on the days given (UTC, both included).

    A day None: no limit on that side. A replay that was killed continues where it stopped. force: captured records are
    sent again even if they are unchanged. Raises SyncAssetsError if it cannot begin.
    """
    runtime.settings.require("d365", "campaign")
    config = replayable(runtime, table, first, last)
    with dagster_instance() as instance:
        release_dead(runtime.ledger)
        end_killed(instance, runtime.ledger, table)
        found = Outcome()

        def capture() -> None:
            found.add(run_flow(runtime, config, instance, [d365_key(config)]))

        capture_again(runtime, config, (first, last), force, capture)
    return _result(runtime, table, found)


def _result(runtime: Runtime, table: str, found: Outcome) -> Replayed:
    whole = document(runtime, {}, {})
    counts = whole["tables"][table]
    summary = {"table": table, **{name: counts[name] for name in COLUMNS}}
    of_table = {"tables": {table: counts}}
    return Replayed(summary, found.problems, [*found.notes, *held_back(of_table), *found.stopped])
