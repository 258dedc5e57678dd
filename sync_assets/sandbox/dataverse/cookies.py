"""Encode and decode the `$skiptoken` of a next link: XML within encoded XML, as the real server writes it.

Source: docs/dev/references/dataverse.md 2.3.
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
    """The position of a read.

    Attributes:
        page: Number of the page, from 1.
        last: Id of the last row of the page before; of plain reads and first reads with change tracking.
        order: Values of the `$orderby` columns of that row; of plain reads.
        since: Version after which changes are read; None for a first read. This and the following are of tracked reads.
        until: Version up to which changes are read.
        taken: When the read began; empty for plain reads.
        at_version: Version of the last item of the page before.
        deletes: True if that item is a tombstone.
    """

    page: int = 1
    last: str | None = None
    order: list[Any] = []
    since: int | None = None
    until: int = 0
    taken: str = ""
    at_version: int = 0
    deletes: bool = False


def encode(cookie: Cookie, *, tracked: bool, opaque: bool = False) -> str:
    """Return the encoded value of `$skiptoken`. opaque: base64 instead of XML."""
    state = msgspec.json.encode(cookie).decode()
    if opaque:
        return base64.urlsafe_b64encode(state.encode()).decode()
    inner = f'<cookie page="{cookie.page - 1}" state="{quote(state)}"/>'
    outer = f'<cookie pagenumber="{cookie.page}" pagingcookie="{quote(inner)}" istracking="{tracked}" />'
    return quote(outer)


def decode(token: str) -> Cookie:
    """Parse the decoded value of `$skiptoken`. Raises DataverseError."""
    try:
        if (outer := _OUTER.fullmatch(token)) is None:
            return msgspec.json.decode(base64.urlsafe_b64decode(token), type=Cookie)
        if (inner := _INNER.fullmatch(unquote(outer[2]))) is not None:
            return msgspec.json.decode(unquote(inner[2]), type=Cookie)
    except (msgspec.DecodeError, binascii.Error, ValueError):
        pass
    raise bad_query("Malformed XML in the Paging Cookie")
