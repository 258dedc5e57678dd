"""Models of the parts `runs`, `history` and `logs` of the configuration file: runs, and what is kept how long."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator

from sync_assets.config.opt_out import sftp_folder
from sync_assets.config.values import Days, Model, Text, refused

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


class History(Model):
    """The history of records: what became of each, kept for some days."""

    days: Annotated[int, Field(ge=1, le=3650)] = 14
    """Older entries are removed."""


class Logs(Model):
    """Daily log files on the Campaign SFTP."""

    export: bool = False
    """true: a file of JSON lines a day, with counts and rejected records by id and reason."""
    folder: Text = "d365_loads/logs"
    """As seen after sign-in, or from the root. Made if it is not there."""
    keep_days: Days = 30
    """Older files are removed."""

    @field_validator("folder")
    @classmethod
    def _one_place(cls, value: str) -> str:
        if value != value.strip():
            raise refused(f"`{value}` begins or ends with a blank", f"write `{value.strip()}`")
        return sftp_folder(value, "folder: d365_loads/logs")
