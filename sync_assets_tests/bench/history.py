"""`history`: what Dagster's storage grows by under `dagster dev` while rows change, from one rest to the next.

It begins when no run is under way and ends when the run that followed the changes has ended: that run is in the figures
with its begin and its end, and so are all ticks and all other runs of that time.
"""

from __future__ import annotations

import time

from sync_assets_tests.bench.live import Changes, System, live
from sync_assets_tests.bench.measure import MEGABYTE, Result, Run, progress
from sync_assets_tests.bench.stage import Report, Settings, Target
from sync_assets_tests.bench.storage_use import Use, storage_use

CONTACTS = 200
EVERY_SECONDS, MINUTES = 10.0, 10.0
MONTH_SECONDS = 30 * 86_400
MOST_BYTES, MOST_EVENT_ROWS = 2 * MEGABYTE, 400
"""In ten minutes of a change each ten seconds."""


def history(settings: Settings, system: System = live) -> Report:
    every, minutes = settings.every or EVERY_SECONDS, settings.minutes or MINUTES
    number = max(1, round(minutes * 60 / every))
    runs = {"linger_seconds": settings.linger} if settings.linger is not None else {}
    with system(CONTACTS, runs) as running:
        running.rest()
        before, began = storage_use(running.home), time.monotonic()
        Changes(running).at_pace(number, every)
        changing = time.monotonic() - began
        progress(f"{number} changes made; waiting for the end of the run")
        running.rest()
        lasted = time.monotonic() - began
        grown = storage_use(running.home) - before
    report = Report("history", "changes")
    result = Result(f"a change each {every:g} s for {minutes:g} min", [Run(number, changing)])
    result.told = _told(grown, number, lasted)
    report.results.append(result)
    for kind, (size, files) in sorted(grown.files.items(), key=lambda one: -one[1][0]):
        report.say(f"{kind}: {size / 1000:,.0f} kB, {files:,} more files")
    for kind, (size, rows) in sorted(grown.rows.items(), key=lambda one: -one[1][0]):
        if rows:
            report.say(f"{kind}: {rows:,} rows of {size / rows / 1000:.1f} kB")
    report.targets += [
        Target("growth of Dagster's storage", grown.bytes / MEGABYTE, MOST_BYTES / MEGABYTE, "MB", most=True),
        Target("event rows", grown.event_rows, MOST_EVENT_ROWS, "", most=True),
    ]
    return report


def _told(grown: Use, changes: int, seconds: float) -> dict[str, float]:
    """seconds: from the first change to the end of the run that followed it."""
    return {
        "bytes": grown.bytes,
        "bytes_a_change": round(grown.bytes / changes),
        "event_rows": grown.event_rows,
        "check_rows": grown.check_rows,
        "ticks": grown.table("job_ticks"),
        "runs": grown.table("runs"),
        "seconds": round(seconds, 1),
        "projected_gb_a_month": round(grown.bytes / seconds * MONTH_SECONDS / 1e9, 2),
    }
