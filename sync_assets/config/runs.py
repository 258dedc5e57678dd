"""Models of the parts `runs`, `history`, `results`, `logs` and `alerts` of the configuration file.

Passwords and secret addresses (such as a webhook's) come from the environment only (environment.py).
"""

import re
from datetime import UTC, date, datetime
from typing import Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator

from sync_assets.config.values import Days, Model, SftpFolder, Text, TrimmedText, refused

DEFAULT_START = date(2026, 1, 1)
"""The default first partition. Earlier days have no partition; their rows are captured all the same, since a partition
is the day of the capture."""


def _day(value: Any) -> date:
    try:
        day = date.fromisoformat(value) if isinstance(value, str) else value
    except ValueError:
        day = None
    if not isinstance(day, date):
        raise refused(f"`{value}` is not a day", "write it as in `start_date: 2026-11-26`")
    if day > datetime.now(UTC).date():
        raise refused(f"{day} is in the future", "write the day on which the first sync runs, or an earlier one")
    return day


class RunsConfig(Model):
    """Dagster's runs."""

    start_date: Annotated[date, BeforeValidator(_day)] = DEFAULT_START
    """The first partition, a UTC day as in 2026-11-26. `init` writes the day it ran."""
    linger_seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] | Literal["always"] = "always"
    """The run `follow` goes on so long without work. 0: a run for each change. always: until `longest_run_minutes`."""
    longest_run_minutes: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 60.0
    """After this time the next run `follow` is started, and this one ends."""
    keep_days: Days = 14
    """Successful runs are deleted after this many days, failed ones after four times as many."""

    @property
    def linger(self) -> float:
        """`linger_seconds` as a number, infinite for `always`."""
        return float("inf") if self.linger_seconds == "always" else self.linger_seconds


class History(Model):
    """The history of records: the outcome of each request, kept for some days."""

    days: Annotated[int, Field(ge=1, le=3650)] = 14
    """Older entries are deleted."""


def _place(value: str) -> str:
    scheme, found, rest = value.partition("://")
    if found and not ((scheme == "s3" and rest) or re.fullmatch(r"abfss://[^/@]+@[^/@]+\.dfs\.[^/@]+(/.*)?", value)):
        raise refused(
            "results go to a folder, to S3 or to Azure Blob Storage",
            "write `to: results`, `to: s3://bucket/folder` or `to: abfss://container@account.dfs.core.windows.net/folder`",
        )
    return value.rstrip("/") or "/"


class Results(Model):
    """Deliveries, opt-out decisions and totals of each day, as Parquet files for others."""

    to: Annotated[TrimmedText, AfterValidator(_place)]
    """A folder, relative to the one of this file; `s3://bucket/folder`; or
    `abfss://container@account.dfs.core.windows.net/folder`."""
    keep_days: Annotated[int, Field(ge=2, le=3650)] = 90
    """Files of older days are deleted. The ledger keeps the history of records for at least as long."""


class Logs(Model):
    """Daily log files on the Campaign SFTP."""

    export: bool = False
    """true: a file of JSON lines a day, with counts and rejected records by id and reason."""
    folder: SftpFolder = "d365_loads/logs"
    """Relative to the folder after sign-in, or from the root with a `/`. Created if it does not exist."""
    keep_days: Days = 30
    """Older files are deleted."""


_LOOPBACK = ("localhost", "127.0.0.1", "::1")


class Email(Model):
    """Notifications by e-mail."""

    host: Text
    """The mail server."""
    port: Annotated[int, Field(ge=1, le=65535)] = 587
    """Its port: 587 with starttls, 465 with tls."""
    security: Literal["starttls", "tls", "none"] = "starttls"
    """`starttls`, `tls` from the first byte on, or `none`, on this machine only."""
    sender: Text = Field(alias="from")
    """The sender's address alone, as in `sync@example.com`."""
    to: Annotated[tuple[Text, ...], Field(strict=False, min_length=1)]
    """The recipients' addresses."""

    @field_validator("sender", "to")
    @classmethod
    def _addresses(cls, value: str | tuple[str, ...]) -> str | tuple[str, ...]:
        for address in (value,) if isinstance(value, str) else value:
            if not re.fullmatch(r"[^@\s<>,;]+@[^@\s<>,;]+", address):
                raise refused(
                    f"`{address}` is not an e-mail address", "write the address alone, as in `ops@example.com`"
                )
        return value

    @model_validator(mode="after")
    def _encrypted(self) -> Self:
        if self.security == "none" and self.host not in _LOOPBACK:
            raise refused(
                "without TLS others on the network can read notifications and password",
                "write `security: starttls` or `security: tls`; `none` is for a mail server on this machine",
            )
        return self


_Number = Annotated[float, Field(ge=0, allow_inf_nan=False)]
_Share = Annotated[float, Field(ge=0, lt=1)]


class Thresholds(Model):
    """Numbers above which a warning is sent."""

    pending_minutes: _Number | None = None
    """Age of a table's oldest pending change."""
    rejected_share: _Share | None = None
    """Of a table's records, 0 to 1."""
    budget_share: _Share | None = None
    """Of the engine calls of a day or hour, 0 to 1: those made or reserved. Needs such a budget in `guardrails`."""
    audit_differences: _Number | None = None
    """Records and opt-outs that a table's last audit found to differ."""


_Severity = Literal["warning", "error"]


class Severities(Model):
    """The severity from which on each channel gets notifications."""

    webhook: _Severity = "warning"
    """`error`: no warnings."""
    email: _Severity = "warning"
    """`error`: no warnings."""


_Time = Annotated[str, Field(pattern=r"^([01]\d|2[0-3]):[0-5]\d$")]


class QuietHours(Model):
    """Hours of each day in which warnings and their ends wait; errors are sent."""

    begin: _Time = Field(alias="from")
    """As in `22:00`."""
    end: _Time = Field(alias="to")
    """As in `06:00`."""
    time_zone: Text = "UTC"
    """As in `Europe/Berlin`."""

    @field_validator("time_zone")
    @classmethod
    def _known(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (ValueError, OSError, KeyError):
            raise refused(f"`{value}` is no time zone", "write one as in `Europe/Berlin`") from None
        return value

    def include(self, moment: datetime) -> bool:
        """Return True if a moment is in these hours, which may pass midnight."""
        now = f"{moment.astimezone(ZoneInfo(self.time_zone)):%H:%M}"
        return self.begin <= now < self.end if self.begin <= self.end else not self.end <= now < self.begin


class Alerts(Model):
    """Channels of notifications about failed runs, failed checks and stale data."""

    webhook: bool | Literal["teams"] = False
    """true: to the address in SYNC_ASSETS_ALERT_WEBHOOK, as an Adaptive Card if it is one of Teams, else as
    {"text": ...}, as Slack takes it. `teams`: as a card to any address."""
    email: Email | None = None
    """Notifications by e-mail. Sign-in by SYNC_ASSETS_SMTP_USER and SYNC_ASSETS_SMTP_PASSWORD."""
    least: Severities = Field(default=Severities(), alias="from")
    """What each channel gets, by severity."""
    quiet_hours: QuietHours | None = None
    """Hours in which warnings wait. null: none."""
    thresholds: Thresholds = Thresholds()
    """Numbers above which a notification is sent. Default: none."""

    @field_validator("webhook", mode="before")
    @classmethod
    def _no_address(cls, value: Any) -> Any:
        if isinstance(value, str) and value != "teams":  # not shown: with its address, others can post
            raise refused(
                "`webhook` takes no address, which is a secret",
                "write `webhook: true`, set SYNC_ASSETS_ALERT_WEBHOOK, and renew the address if others saw the file",
            )
        return value

    @model_validator(mode="after")
    def _somebody(self) -> Self:
        if not self.webhook and self.email is None:
            raise refused("`alerts` names no channel", "write `webhook: true`, or `email:` with host, from and to")
        return self
