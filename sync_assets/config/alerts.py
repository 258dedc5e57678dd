"""Model of the part `alerts` of the configuration file: the channels and recipients of notifications.

Passwords and secret addresses (such as a webhook's) come from the environment only (environment.py).
"""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from sync_assets.config.values import Model, Text, refused

_LOOPBACK = ("localhost", "127.0.0.1", "::1")


class Email(Model):
    """Notifications by e-mail. security: starttls, tls (from the first byte), or none (for a local server only)."""

    host: Text
    port: Annotated[int, Field(ge=1, le=65535)] = 587
    security: Literal["starttls", "tls", "none"] = "starttls"
    sender: Text = Field(alias="from")
    to: Annotated[tuple[Text, ...], Field(strict=False, min_length=1)]

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
    """Channels of notifications about failed runs, failed checks and stale data.

    webhook: True to post to the address in SYNC_ASSETS_ALERT_WEBHOOK. warnings: True to notify of checks that only
    warn, too. again_after_hours: an incident that lasts is notified again after this time.
    """

    webhook: bool = False
    email: Email | None = None
    warnings: bool = True
    again_after_hours: Annotated[float, Field(gt=0)] = 24

    @model_validator(mode="after")
    def _somebody(self) -> Self:
        if not self.webhook and self.email is None:
            raise refused("`alerts` tells nobody", "write `webhook: true`, or `email:` with host, from and to")
        return self
