"""Update a group, such as `location`, that Campaign refuses in the update of its record, by another request.

No page of Adobe's names one that Campaign v8 takes. So each is tried once and read back: a PATCH by the first push that
meets the refusal, a PUT by `certify` alone, since it may empty what it does not name. The finding: `addressing.APART`.

Invariant: a PUT names each sub-field that the group holds, so that none that is not mapped becomes empty.
"""

from typing import Any
from urllib.parse import quote

import msgspec

from sync_assets.campaign.dialect import ResponseOutcome, may_be_resent, response_outcome
from sync_assets.campaign.records import Records

_OF_RECORD, _OF_PART, _WITH_PKEY = "{api}/{record}", "{api}/{record}/{group}", "PKey in the group"
WAYS = {
    "PATCH of the part": ("PATCH", _OF_PART),
    "profileAndServices": ("PATCH", "profileAndServices/{record}"),
    _WITH_PKEY: ("PATCH", _OF_RECORD),
    "PUT of the part": ("PUT", _OF_PART),
    "PUT of the record": ("PUT", _OF_RECORD),
}
"""Method and path of each; `profileAndServices` is the API without extensions."""

FAILED = "failed"


def _reads_first(way: str) -> bool:
    return way == _WITH_PKEY or WAYS[way][0] == "PUT"


def calls_of(way: str) -> int:
    """Return the number of calls of a request of WAYS."""
    return 2 if _reads_first(way) else 1


async def send_by(way: str, records: Records, pkey: str, group: str, values: msgspec.Raw) -> ResponseOutcome:
    """Send a group of the record with a PKey, given its JSON, by one of WAYS."""
    method, path = WAYS[way]
    if _reads_first(way):
        record = await records.read(pkey)
        if isinstance(record, ResponseOutcome):
            return record
        held = _group(record, group)
        if way == _WITH_PKEY:
            held = {"PKey": held["PKey"]} if held.get("PKey") else {}
        if not held:
            return ResponseOutcome("refused", f"Campaign does not show what it holds of {group}.")
        values = msgspec.Raw(msgspec.json.encode(held | msgspec.json.decode(values)))
    body = bytes(values) if path == _OF_PART else b"{%s:%s}" % (msgspec.json.encode(group), bytes(values))
    record_path = f"{records.resource}/{quote(pkey, safe='')}"
    path = path.format(api=records.config.api, record=record_path, group=group)
    options = {"guard": records.guard, "observer": records.observer}
    answer = await records.client.call("update", path, body, method=method, **options)
    response = response_outcome(answer, "update", pkey)
    if response.kind == "transient" and answer.status < 500 and not may_be_resent(answer.status, answer.body):
        return response._replace(kind="refused")  # Campaign has no such path
    return response


async def find_way(
    records: Records, pkey: str, group: str, values: msgspec.Raw, methods: tuple[str, ...] = ("PATCH",)
) -> str | None:
    """Return the first way by which Campaign stores a group and changes nothing else; `none` if none does.

    FAILED: a request failed for the moment, so it is to be tried again. None: the record has these values already, or
    cannot be read, so that nothing was found out.
    """
    sent, before, failed = msgspec.json.decode(values, type=dict[str, Any]), await records.read(pkey), False
    if isinstance(before, ResponseOutcome) or _holds(before, group, sent):
        return None
    for way, (method, _) in WAYS.items():
        if method not in methods:
            continue
        response = await send_by(way, records, pkey, group, values)
        held = await records.read(pkey) if response.kind == "done" else response
        if isinstance(held, ResponseOutcome):
            failed = failed or held.kind == "transient"
        elif _holds(held, group, sent) and _others(held, group, sent) == _others(before, group, sent):
            return way
    return FAILED if failed else "none"


def _group(record: dict[str, Any], group: str) -> dict[str, Any]:
    held: Any = record.get(group)
    return held if isinstance(held, dict) else {}


def _holds(record: dict[str, Any], group: str, sent: dict[str, Any]) -> bool:
    held = _group(record, group)
    return all(str(held.get(name)).casefold() == str(sent[name]).casefold() for name in sent)


def _others(record: dict[str, Any], group: str, sent: dict[str, Any]) -> dict[str, Any]:
    """Return what a request is not to change: values of the record, and which further sub-fields of the group have one.

    Campaign computes some of these from others, and whole groups, such as the postal address.
    """
    held = {f"{group}.{name}": True for name, value in _group(record, group).items() if value and name not in sent}
    plain = {name: value for name, value in record.items() if isinstance(value, str | int | float)}
    return {name: value for name, value in (plain | held).items() if name != "lastModified"}
