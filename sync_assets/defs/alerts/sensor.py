"""Define the sensor `alerts`, which checks the instance every half a minute and sends notifications to the channels.

The cursor holds the notifications that each channel got. If a channel cannot be reached, its part of the cursor is
kept, so the next tick tries again; the other channels are not notified twice. A notification without an answer counts
as sent, and is repeated ever more rarely (notifications.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

import dagster as dg
import msgspec

from sync_assets.alerts.channels import ChannelError, NoAnswer, Send, senders
from sync_assets.alerts.incidents import Incident, incidents
from sync_assets.alerts.messages import subject, text
from sync_assets.alerts.notifications import Memory, notifications, unanswered
from sync_assets.config.alerts import Alerts
from sync_assets.defs.alerts.dagster_state import Watched, read_state
from sync_assets.defs.run_errors import with_backoff
from sync_assets.errors import SyncAssetsError
from sync_assets.runtime.context import Runtime
from sync_assets.runtime.heartbeat import KilledRun, killed_runs

LOOK_SECONDS = 29
"""Seconds between two ticks; rounded up to 30 by the daemon's interval of 5 s."""
NO_NEWS = ": no news"


def alert_sensor(runtime: Runtime, watched: Watched, default_status: dg.DefaultSensorStatus) -> dg.SensorDefinition:
    """Define the sensor.

    Args:
        runtime: Of the definitions; its configuration must have `alerts`.
        watched: Objects on the instance to report on.
        default_status: If the sensor is running after its first load.
    """
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
        memory, lines = tell_all(
            alerts, senders(runtime), wrong, seen.good, memory, now, runtime.settings.alerts().ui_url
        )
        for line in lines:
            if not line.endswith(NO_NEWS):  # Dagster stores a file for each tick that logs a line
                context.log.info(line)
        return dg.SensorResult(skip_reason="; ".join(lines), cursor=msgspec.json.encode(memory).decode())

    return tell


def paused_assets(runtime: Runtime) -> frozenset[str]:
    """Return the assets of tables in maintenance; empty if the ledger cannot be read, so that alerts are still sent."""
    try:
        paused = runtime.ledger.maintenance.in_maintenance()
    except SyncAssetsError:
        return frozenset()
    tables = [config for config in runtime.config.tables if config.table in paused]
    return frozenset(name for one in tables for name in (f"d365/{one.table}", f"campaign/{one.resource}"))


def killed(runtime: Runtime) -> Sequence[KilledRun]:
    """Return killed runs that Dagster still shows as started; empty if the ledger cannot be read."""
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
    """Send each channel the notifications that it did not get yet.

    Args:
        alerts: Configuration.
        channels: A function that sends, by name of the channel.
        wrong: Incidents now.
        good: When each step last succeeded.
        memory: The notifications that each channel got so far.
        now: UTC.
        ui_url: Address of Dagster's UI, for links.

    Returns:
        The new memory of each channel, and a line about each, for the tick.
    """
    again_after = timedelta(hours=alerts.again_after_hours)
    after: dict[str, Memory] = {}
    lines: list[str] = []
    for name, send in channels.items():
        known = memory.get(name, {})
        found, knows = notifications(wrong, good, known, now, again_after)
        try:
            if found:
                send(subject(found), text(found, ui_url))
        except NoAnswer as error:
            after[name] = unanswered(knows, known, now)
            lines.append(f"{name}: sent, no answer. {error}")
        except ChannelError as error:
            after[name] = known
            lines.append(f"{name}: not told, it is tried again. {error}")
        else:
            after[name] = knows
            new, again, solved = len(found.new), len(found.again), len(found.solved)
            lines.append(f"{name}: told of {new} new, {again} lasting, {solved} solved" if found else name + NO_NEWS)
    return after, lines
