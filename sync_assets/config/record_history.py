"""Model of the part `history` of the configuration file: what became of each record, kept for some days."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from sync_assets.config.values import Model


class History(Model):
    """The history of records."""

    days: Annotated[int, Field(ge=1, le=3650)] = 14
    """Older entries are removed."""
