"""Determine the record that a request is about, for the `key` in the journal, whether or not the request succeeds."""

from __future__ import annotations

from urllib.parse import parse_qsl

import msgspec

from sync_assets.sandbox.asgi import Scope
from sync_assets.sandbox.campaign.engine import Campaign
from sync_assets.sandbox.campaign.tokens import COLLECTION, RECORD
from sync_assets.sandbox.campaign.view import View

_decode = msgspec.json.Decoder().decode


def key_of(campaign: Campaign, scope: Scope, body: bytes) -> str | None:
    """Return the identification key of a request's record.

    It is read from the body of a POST, else from the URL (key, PKey or filter on the key). None if the request contains
    no record, or a PKey without a record.
    """
    segments = [segment for segment in scope["path"].split("/") if segment][2:]  # after /<organization>/campaign
    if len(segments) < 2:
        return None
    api, resource, *further = segments
    view = campaign.views.get((api, resource.removesuffix(".json")))
    if view is None or view.table.resource.key is None:
        return None
    if scope["method"] == "POST":
        return _in_body(view.table.resource.key, body)
    return _in_address(campaign, view, further[0], scope["query_string"]) if further else None


def _in_body(key: str, body: bytes) -> str | None:
    try:
        document = _decode(body)
    except (msgspec.DecodeError, RecursionError):
        return None
    value = document.get(key) if isinstance(document, dict) else None
    return value if isinstance(value, str) and value else None


def _in_address(campaign: Campaign, view: View, segment: str, query: bytes) -> str | None:
    table = view.table
    if segment.startswith("@"):
        reference = campaign.tokens.read(segment)
        if reference is None or reference.kind not in (RECORD, COLLECTION) or reference.table != table.number:
            return None
        record = table.records.get(reference.number)
        return (table.key_of(record) or None) if record is not None else None
    if (published := table.resource.filters.get(segment)) is not None:
        parameters = dict(parse_qsl(query.decode("utf-8", "replace")))
        return parameters.get(published.parameter) if published.attribute == table.resource.key else None
    return None if segment == "_count" or segment in view.fields else segment
