"""Emulator of a Dataverse organization in memory, with the Web API v9.2 (docs/dev/references/dataverse.md).

api, call            the ASGI app, and one request; start reading here
listing, tracking, cookies   lists, change tracking, and the tokens in their links
records, parts, actions, batch   single rows, parts of rows, actions, batches
filters, operators, projection, keys   `$filter`, `$select`, keys in URLs
organization, store, writing, relations   state, rows of a table, rules of writing, effects of a delete
metadata, describe, columns, tables   metadata, and the tables
privileges           the role of the caller
switches, admin, sample   options of the emulator, their admin routes, sample rows
values, errors       stored values, error answers
"""

from __future__ import annotations

from sync_assets.sandbox.dataverse.api import ANSWERED_KINDS, app, refuse
from sync_assets.sandbox.dataverse.organization import Organization

__all__ = ["ANSWERED_KINDS", "Organization", "app", "refuse"]
