"""Update a group, such as `location`, that Campaign refuses in the update of its record, by another request.

No page of Adobe's names one that Campaign v8 takes. So each is tried once and read back: a PATCH by the first push that
meets the refusal, a PUT by `certify` alone, since it may empty what it does not name. The finding: `addressing.APART`.
"""

from typing import Any
from urllib.parse import quote

import msgspec

from sync_assets.campaign.dialect import ResponseOutcome, response_outcome
from sync_assets.campaign.records import Records

_OF_RECORD, _OF_PART, _WITH_PKEY = "{api}/{record}", "{api}/{record}/{group}", "PKey in the group"
WAYS = {
    "PATCH of the part": ("PATCH", _OF_PART),
    "profileAndServices": ("PATCH", "profileAndServices/{record}"),
    _WITH_PKEY: ("PATCH", _OF_RECORD),  # which is read first
    "PUT of the part": ("PUT", _OF_PART),
    "PUT of the record": ("PUT", _OF_RECORD),
}
"""Method and path of each; `profileAndServices` is the API without extensions."""


def calls_of(way: str) -> int:
    """Return the number of calls of a request of WAYS."""
    return 2 if way == _WITH_PKEY else 1


async def send_by(way: str, records: Records, pkey: str, group: str, values: msgspec.Raw) -> ResponseOutcome:
    """Send a group of the record with a PKey, given its JSON, by one of WAYS."""
    method, path = WAYS[way]
    if way == _WITH_PKEY:
        record = await records.read(pkey)
        held: Any = None if isinstance(record, ResponseOutcome) else record.get(group)
        if not (isinstance(held, dict) and held.get("PKey")):
            return ResponseOutcome("refused", f"Campaign shows no PKey of {group}.")
        values = msgspec.Raw(b'{"PKey":%s,%s' % (msgspec.json.encode(held["PKey"]), bytes(values)[1:]))
    body = bytes(values) if path == _OF_PART else b"{%s:%s}" % (msgspec.json.encode(group), bytes(values))
    record_path = f"{records.resource}/{quote(pkey, safe='')}"
    path = path.format(api=records.config.api, record=record_path, group=group)
    options = {"guard": records.guard, "observer": records.observer}
    return response_outcome(await records.client.call("update", path, body, method=method, **options), "update", pkey)


async def find_way(
    records: Records, pkey: str, group: str, values: msgspec.Raw, methods: tuple[str, ...] = ("PATCH",)
) -> str | None:
    """Return the first way by which Campaign stores a group and changes nothing else; `none` if none does.

    None: the record has these values already, or cannot be read, so that nothing was found out.
    """
    sent, before = msgspec.json.decode(values, type=dict[str, Any]), await records.read(pkey)
    if isinstance(before, ResponseOutcome) or _holds(before, group, sent):
        return None
    for way, (method, _) in WAYS.items():
        if method in methods and (await send_by(way, records, pkey, group, values)).kind == "done":
            held = await records.read(pkey)
            if isinstance(held, dict) and _holds(held, group, sent) and _texts(held) == _texts(before):
                return way
    return "none"


def _holds(record: dict[str, Any], group: str, sent: dict[str, Any]) -> bool:
    held: Any = record.get(group)
    return isinstance(held, dict) and all(str(held.get(name)).casefold() == str(sent[name]).casefold() for name in sent)


def _texts(record: dict[str, Any]) -> dict[str, str]:
    return {name: value for name, value in record.items() if isinstance(value, str) and name != "lastModified"}
