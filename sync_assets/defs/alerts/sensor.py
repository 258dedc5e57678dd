"""Define the sensor `alerts`, which checks the instance every half a minute and sends notifications to the channels.

The cursor holds the notifications that each channel got. If a channel cannot be reached, its part of the cursor is
kept, so the next tick tries again; the other channels are not notified twice. A notification without an answer counts
as sent, and is repeated ever more rarely (notifications.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import dagster as dg
import msgspec

from sync_assets.alerts.channels import ChannelError, NoAnswer, Send, senders
from sync_assets.alerts.incidents import Incident, killed_run, open_incidents
from sync_assets.alerts.notifications import Memory, notifications, subject, text, unanswered
from sync_assets.config.runs import Alerts
from sync_assets.defs.alerts.dagster_state import Watched, read_state
from sync_assets.defs.asset_keys import side_key
from sync_assets.defs.run_errors import with_backoff
from sync_assets.defs.tables.checks import SIDES
from sync_assets.errors import SyncAssetsError
from sync_assets.runtime.context import Runtime
from sync_assets.runtime.heartbeat import killed_runs

LOOK_SECONDS = 29
"""Seconds between two ticks; rounded up to 30 by the daemon's interval of 5 s."""
NO_NEWS = ": no news"


def alert_sensor(runtime: Runtime, watched: Watched, default_status: dg.DefaultSensorStatus) -> dg.SensorDefinition:
    """Define the sensor."""
    alerts = runtime.config.alerts
    assert alerts

    @dg.sensor(
        name="alerts",
        minimum_interval_seconds=LOOK_SECONDS,
        default_status=default_status,
        description="Notifies about failed runs, checks and sensors and about stale data, and again when each is "
        "resolved.",
    )
    @with_backoff("alerts")
    def tell(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        memory = msgspec.json.decode(context.cursor, type=dict[str, Memory]) if context.cursor else {}
        now = datetime.now(UTC)
        wrong, good = find_incidents(runtime, context.instance, watched, now)
        memory, lines = tell_all(alerts, senders(runtime), wrong, good, memory, now, runtime.settings.alerts().ui_url)
        for line in lines:
            if not line.endswith(NO_NEWS):  # Dagster stores a file for each tick that logs a line
                context.log.info(line)
        return dg.SensorResult(skip_reason="; ".join(lines), cursor=msgspec.json.encode(memory).decode())

    return tell


def find_incidents(
    runtime: Runtime, instance: dg.DagsterInstance, watched: Watched, now: datetime
) -> tuple[list[Incident], Mapping[str, datetime]]:
    """Return the incidents to notify, and when each step last succeeded.

    Alerts are sent also if the ledger cannot be read, which holds killed runs and the tables in maintenance.
    """
    seen, paused, killed = read_state(instance, watched, now), frozenset[str](), list[Incident]()
    with suppress(SyncAssetsError):
        names = runtime.ledger.maintenance.in_maintenance()
        tables = [config for config in runtime.config.tables if config.table in names]
        paused = frozenset(side_key(one, side).to_user_string() for one in tables for side in SIDES)
        killed = [killed_run(run) for run in killed_runs(runtime.ledger)]
    alerts = runtime.config.alerts
    warnings = alerts is None or alerts.warnings
    return open_incidents([*seen.wrong, *killed], warnings=warnings, paused=paused), seen.good


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
