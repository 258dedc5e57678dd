"""The `$skiptoken` of a next link: XML within encoded XML, as the real server writes it.

Source: docs/references/dataverse.md 2.3.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Any
from urllib.parse import quote, unquote

import msgspec

from sync_assets.sandbox.dataverse.errors import bad_query

_OUTER = re.compile(r'<cookie pagenumber="(\d+)" pagingcookie="([^"]*)" istracking="(True|False)" />')
_INNER = re.compile(r'<cookie page="(\d+)" state="([^"]*)"/>')


class Cookie(msgspec.Struct, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Where a read stands. Plain reads: `last` row id and its `order` values. Tracked reads: see `tracking`."""

    page: int = 1
    last: str | None = None
    order: list[Any] = []
    since: int | None = None
    until: int = 0
    taken: str = ""
    at_version: int = 0
    deletes: bool = False


def encode(cookie: Cookie, *, tracked: bool, opaque: bool = False) -> str:
    """The encoded value of `$skiptoken`."""
    state = msgspec.json.encode(cookie).decode()
    if opaque:
        return base64.urlsafe_b64encode(state.encode()).decode()
    inner = f'<cookie page="{cookie.page - 1}" state="{quote(state)}"/>'
    outer = f'<cookie pagenumber="{cookie.page}" pagingcookie="{quote(inner)}" istracking="{tracked}" />'
    return quote(outer)


def decode(token: str) -> Cookie:
    """From the decoded value of `$skiptoken`. Raises DataverseError."""
    try:
        if (outer := _OUTER.fullmatch(token)) is None:
            return msgspec.json.decode(base64.urlsafe_b64decode(token), type=Cookie)
        if (inner := _INNER.fullmatch(unquote(outer[2]))) is not None:
            return msgspec.json.decode(unquote(inner[2]), type=Cookie)
    except (msgspec.DecodeError, binascii.Error, ValueError):
        pass
    raise bad_query("Malformed XML in the Paging Cookie")
