"""Helpers for tests of opt-outs on a Dagster instance: requests of sensors, results of runs."""

from datetime import datetime
from typing import Any

import dagster as dg

from sync_assets.config.values import CONTACT
from sync_assets.opt_out.profile_polling import POLL
from sync_assets_tests.support.orchestra import Orchestra, Run

N = 20
"""Number of contacts in the sandbox."""
FILE = "opt_out_file"


def rest(orchestra: Orchestra) -> list[Run]:
    """Tick all sensors and execute the requested runs until none is requested. Return the runs."""
    runs: list[Run] = []
    for _ in range(20):
        ticks = [orchestra.tick(name) for name in ("d365_changes", "backlog", FILE)]
        requests = [request for tick in ticks for request in tick.run_requests or ()]
        if not requests and not any("still being written" in (tick.skip_message or "") for tick in ticks):
            return runs
        for request in requests:
            runs.append(orchestra.execute(request))
            assert runs[-1].success, runs[-1].errors
    raise AssertionError("the sensors do not come to rest")


def apart(runs: list[Run]) -> tuple[list[Run], list[Run]]:
    """Split runs into runs of assets and runs of the follower."""
    return [run for run in runs if "follow_changes" not in run.steps], [
        run for run in runs if "follow_changes" in run.steps
    ]


def take(orchestra: Orchestra) -> tuple[Run, str]:
    """Execute the requested run of a file on the server. Return the run and its partition."""
    for _ in range(3):
        for request in orchestra.asked(FILE):
            return orchestra.execute(request), request.partition_key or ""
    raise AssertionError(orchestra.tick(FILE).skip_message)


def table(metadata: dict[str, Any], name: str) -> list[tuple[Any, ...]]:
    return [tuple(record.data.values()) for record in metadata[name].records]


def values(run: Run, key: dg.AssetKey, partition: str | None = None) -> dict[str, Any]:
    """Return the numeric metadata of a materialisation, which the UI plots."""
    return {name: value for name, value in run.metadata(key, partition).items() if isinstance(value, int)}


def polling(orchestra: Orchestra, last: datetime | None = None) -> Orchestra:
    """Configure a poll of profiles every five minutes. last: when the last poll began."""
    orchestra.program.opt_out["poll_profiles_minutes"] = 5
    orchestra.reload()
    if last:
        orchestra.runtime.ledger.events.note(CONTACT, {POLL: last.isoformat()})
    return orchestra
