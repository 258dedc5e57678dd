"""Model of the part `runs` of the configuration file: duration of Dagster's runs, and retention of their history."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from sync_assets.config.values import Days, Model, refused

DEFAULT_START = date(2026, 1, 1)
"""The default first partition. Earlier days have no partition; their rows are captured all the same, since a partition
is the day of the capture."""


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
    """Dagster's runs."""

    start_date: Annotated[date, BeforeValidator(_day)] = DEFAULT_START
    """The first partition, a UTC day as in 2026-11-26. `init` writes the day it ran."""
    linger_seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] | Literal["always"] = 120.0
    """A run stays so long after its last change. 0: a run for each change. always: until `longest_run_minutes`."""
    longest_run_minutes: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 60.0
    """Then a run ends, and the next one goes on without a gap."""
    keep_days: Days = 14
    """Successful runs are pruned after that, failed ones after four times as long."""

    @property
    def linger(self) -> float:
        """`linger_seconds` as a number, infinite for `always`."""
        return float("inf") if self.linger_seconds == "always" else self.linger_seconds
