"""The JSON body of a request to Campaign: the stored payload, the record's links by key, and its opt-outs."""

import json

from sync_assets.json_members import without
from sync_assets.ledger.model import Claimed
from sync_assets.push.record_links import Values


def body(form: str | None, record: Claimed, key: str, *, patch: bool, values: Values | None = None) -> bytes:
    """Return the JSON body of a request: the stored payload, and the record's keyed links.

    A link is sent with its value in `values`, else with the parent's key. Without `form` the body holds the links
    alone, those that are plain attributes (`style: join`) as well.

    A POST leaves out links without a parent. A PATCH sends null for them, to remove the link, and leaves out links that
    are acknowledged. A PATCH never contains the key: Campaign may refuse it, even with its present
    value. A POST also carries the opt-outs that are True, so that the person is not mailed before the opt-outs are
    decided; a PATCH never changes opt-outs.
    """
    known = values or {}
    stored = without(form, key) if patch else form or json.dumps({key: record.id})
    parts = [text] if (text := stored.strip()[1:-1]) else []
    for link in record.links:
        if (link.keyed or form is None) and not (patch and link.acknowledged) and (link.id or (patch and link.keyed)):
            value = {"PKey": known.get(link.attribute, link.id)} if link.id and link.keyed else link.id
            parts.append(f"{json.dumps(link.attribute)}:{json.dumps(value)}")
    if not patch:
        parts += [f"{json.dumps(attribute)}:true" for attribute, opted_out in record.opt_outs if opted_out]
    return f"{{{','.join(parts)}}}".encode()
