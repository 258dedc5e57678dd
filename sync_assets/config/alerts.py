"""Model of the part `alerts` of the configuration file: the channels and recipients of notifications.

Passwords and secret addresses (such as a webhook's) come from the environment only (environment.py).
"""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from sync_assets.config.values import Hours, Model, Text, refused

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
        for one in (value,) if isinstance(value, str) else value:
            if not re.fullmatch(r"[^@\s<>,;]+@[^@\s<>,;]+", one):
                raise refused(f"`{one}` is no e-mail address", "write the address alone, as in `ops@example.com`")
        return value

    @model_validator(mode="after")
    def _encrypted(self) -> Self:
        if self.security == "none" and self.host not in _LOOPBACK:
            raise refused(
                "without TLS the notices and the password can be read on the way",
                "write `security: starttls` or `security: tls`; `none` is for a mail server on this machine",
            )
        return self


class Alerts(Model):
    """Channels of notifications about failed runs, failed checks and stale data."""

    webhook: bool | Literal["teams"] = False
    """true: to the address in SYNC_ASSETS_ALERT_WEBHOOK, as an Adaptive Card if it is one of Teams, else as
    {"text": ...}, as Slack takes it. `teams`: as a card to any address."""
    email: Email | None = None
    """Notifications by e-mail. Sign-in by SYNC_ASSETS_SMTP_USER and SYNC_ASSETS_SMTP_PASSWORD."""
    warnings: bool = True
    """false: notifications of errors only, not of checks that warn."""
    again_after_hours: Hours = 24
    """An incident that lasts is notified again after this time."""

    @model_validator(mode="after")
    def _somebody(self) -> Self:
        if not self.webhook and self.email is None:
            raise refused("`alerts` tells nobody", "write `webhook: true`, or `email:` with host, from and to")
        return self
