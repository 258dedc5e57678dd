"""A Dataverse organization in memory, speaking the Web API v9.2 (docs/references/dataverse.md)."""

from __future__ import annotations

from sync_assets.sandbox.dataverse.api import ANSWERED_KINDS, app, refuse
from sync_assets.sandbox.dataverse.organization import Organization

__all__ = ["ANSWERED_KINDS", "Organization", "app", "refuse"]
