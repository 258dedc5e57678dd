"""The sensor `alerts`: looks every half a minute and tells who is to be told. Its cursor is what each channel was told.

A channel that cannot be reached keeps its memory as it was, and is told at the next tick; the others are told once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

import dagster as dg
import msgspec

from sync_assets.alerts.channels import ChannelError, Send, senders
from sync_assets.alerts.incidents import Incident, incidents
from sync_assets.alerts.messages import subject, text
from sync_assets.alerts.notifications import Memory, notifications
from sync_assets.config.alerts import Alerts
from sync_assets.defs.alerts.dagster_state import Watched, read_state
from sync_assets.defs.run_errors import with_backoff
from sync_assets.errors import SyncAssetsError
from sync_assets.runtime.context import Runtime
from sync_assets.runtime.heartbeat import KilledRun, killed_runs

LOOK_SECONDS = 29
"""Between two looks: the daemon's own round of 5 s makes it 30."""
NO_NEWS = ": no news"


def alert_sensor(runtime: Runtime, watched: Watched, default_status: dg.DefaultSensorStatus) -> dg.SensorDefinition:
    alerts = runtime.config.alerts
    assert alerts

    @dg.sensor(
        name="alerts",
        minimum_interval_seconds=LOOK_SECONDS,
        default_status=default_status,
        description="Tells of failed runs, checks and sensors, and of stale data, once, and again when that is over.",
    )
    @with_backoff("alerts")
    def tell(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        memory = msgspec.json.decode(context.cursor, type=dict[str, Memory]) if context.cursor else {}
        now = datetime.now(UTC)
        seen = read_state(context.instance, watched, now, paused_assets(runtime), killed(runtime))
        wrong = incidents(seen, warnings=alerts.warnings)
        memory, said = tell_all(
            alerts, senders(runtime), wrong, seen.good, memory, now, runtime.settings.alerts().ui_url
        )
        for line in said:
            if not line.endswith(NO_NEWS):  # Dagster keeps a file for each tick that logs a line
                context.log.info(line)
        return dg.SensorResult(skip_reason="; ".join(said), cursor=msgspec.json.encode(memory).decode())

    return tell


def paused_assets(runtime: Runtime) -> frozenset[str]:
    """Those of tables in maintenance. None if the ledger cannot be asked: that keeps nothing from being told."""
    try:
        paused = runtime.ledger.in_maintenance()
    except SyncAssetsError:
        return frozenset()
    tables = [config for config in runtime.config.tables if config.table in paused]
    return frozenset(name for one in tables for name in (f"d365/{one.table}", f"campaign/{one.resource}"))


def killed(runtime: Runtime) -> Sequence[KilledRun]:
    """Killed runs that still count as started. None if the ledger cannot be asked, like `paused_assets`."""
    try:
        return killed_runs(runtime.ledger)
    except SyncAssetsError:
        return ()


def tell_all(
    alerts: Alerts,
    channels: Mapping[str, Send],
    wrong: Sequence[Incident],
    good: Mapping[str, datetime],
    memory: Mapping[str, Memory],
    now: datetime,
    ui_url: str,
) -> tuple[dict[str, Memory], list[str]]:
    """Tells every channel what it does not know. What each was told by now, and a line for each to show people."""
    again_after = timedelta(hours=alerts.again_after_hours)
    after: dict[str, Memory] = {}
    said: list[str] = []
    for name, send in channels.items():
        known = memory.get(name, {})
        found, knows = notifications(wrong, good, known, now, again_after)
        try:
            if found:
                send(subject(found), text(found, ui_url))
        except ChannelError as error:
            after[name] = known
            said.append(f"{name}: not told, it is tried again. {error}")
        else:
            after[name] = knows
            new, again, solved = len(found.new), len(found.again), len(found.solved)
            said.append(f"{name}: told of {new} new, {again} lasting, {solved} solved" if found else name + NO_NEWS)
    return after, said
