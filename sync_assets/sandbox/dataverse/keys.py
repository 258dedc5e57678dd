"""Parse keys in parentheses after an entity set, and references to rows (docs/dev/references/dataverse.md 3.1)."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import unquote

from sync_assets.sandbox.dataverse.errors import bad_query, no_such_property
from sync_assets.sandbox.dataverse.store import Store
from sync_assets.sandbox.dataverse.values import GUID, parse

_PAIR = re.compile(r"\s*([A-Za-z_][\w.]*)\s*=\s*('(?:[^']|'')*'|[^,']+)\s*(?:,|$)")
_REFERENCE = re.compile(r"(?:/api/data/v9\.\d)?/?([A-Za-z_]\w*)\((.*)\)", re.DOTALL)


def parse_key(key: str, store: Store) -> tuple[str | None, dict[str, Any]]:
    """Return (row id, {}) for a GUID, also as `contactid=<guid>`; (None, values by column) for an alternate key."""
    if GUID.fullmatch(key.strip()):
        return key.strip().lower(), {}
    named = parse_pairs(key)
    if set(named) == {store.table.key} and GUID.fullmatch(named[store.table.key]):
        return named[store.table.key].lower(), {}
    values: dict[str, Any] = {}
    for name, text in named.items():
        column = next((column for column in store.columns.values() if name in (column.name, column.json_name)), None)
        if column is None:
            raise no_such_property(name, store.table.name)
        number = column.type in ("Integer", "BigInt", "Picklist", "State", "Status") and text.lstrip("-").isdecimal()
        values[column.name] = parse(column, store.table.name, int(text) if number else text)
    return None, values


def parse_pairs(key: str) -> dict[str, str]:
    """Parse `a='x',b=2` into {"a": "x", "b": "2"}. A doubled quote inside quotes means one. Raises DataverseError."""
    pairs: dict[str, str] = {}
    at = 0
    while at < len(key):
        if (match := _PAIR.match(key, at)) is None:
            raise bad_query(f"Bad Request - Error in query syntax: '({key})'.")
        name, text = match.groups()
        pairs[name] = text[1:-1].replace("''", "'") if text.startswith("'") else text.strip()
        at = match.end()
    if not pairs:
        raise bad_query("Bad Request - Error in query syntax: '()'.")
    return pairs


def parse_reference(reference: str, organization: str) -> tuple[str, str]:
    """Parse `/contacts(<key>)` into ("contacts", "<key>"). The slash is optional, the API's URL may precede it."""
    match = _REFERENCE.fullmatch(unquote(reference.removeprefix(organization)))
    if match is None:
        raise bad_query(f"The URI '{reference}' does not name a row.")
    return match[1], match[2]
