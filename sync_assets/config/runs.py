"""The part of the configuration file about Dagster's runs: how long one stays, and how long its history is kept."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from sync_assets.config.values import Count, Model, refused

DEFAULT_START = date(2026, 1, 1)
"""First partition of a configuration that names none. Earlier days have no partition; their rows are captured all the
same, since a partition is the day of the capture."""


def _day(value: Any) -> date:
    try:
        day = date.fromisoformat(value) if isinstance(value, str) else value
    except ValueError:
        day = None
    if not isinstance(day, date):
        raise refused(f"`{value}` is no day", "write it as in `start_date: 2026-11-26`")
    if day > datetime.now(UTC).date():
        raise refused(f"{day} has not come yet", "write the day on which the first sync runs, or an earlier one")
    return day


class Runs(Model):
    """`start_date`: the first partition, a UTC day. `linger_seconds`: a run stays so long after its last change; 0: a
    run for each change; always: until `longest_run_minutes`. `keep_days`: successful runs are pruned after that, failed
    ones after four times as long."""

    start_date: Annotated[date, BeforeValidator(_day)] = DEFAULT_START
    linger_seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] | Literal["always"] = 120.0
    longest_run_minutes: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 60.0
    keep_days: Count = 14

    @property
    def linger(self) -> float:
        """Seconds, infinite for `always`."""
        return float("inf") if self.linger_seconds == "always" else self.linger_seconds
