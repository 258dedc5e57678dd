"""Reads Campaign's description of a resource (`resourceType/<name>`) into plain values.

Tolerant: a member that is missing is read as "not known", since only parts of the format are documented and shapes
differ between builds. Source: campaign-standard-api.md section 3.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sync_assets.campaign.metadata import Attribute, AttributeType, Resource

_TECHNICAL: dict[str, AttributeType] = {
    **dict.fromkeys(("string", "memo", "text", "html", "cdata", "uuid", "password"), "string"),
    **dict.fromkeys(("long", "int", "integer", "short", "byte", "int64"), "integer"),
    **dict.fromkeys(("double", "float", "money", "percent"), "float"),
    "boolean": "boolean",
    **dict.fromkeys(("date", "dateonly"), "date"),
    **dict.fromkeys(("datetime", "datetimetz", "datetimenotz", "timestamp"), "datetime"),
}
_HIGH_LEVEL: dict[str, AttributeType] = {
    "number": "float",
    "integer": "integer",
    "boolean": "boolean",
    "date": "date",
    "datetime": "datetime",
}
_DIGITS = 18
"""Of a number that we believe in."""
_LOCATION = ("address1", "address2", "address3", "address4", "city", "countryCode", "stateCode", "zipCode")
"""What a profile's `location` holds (section 2), for builds that describe the group without its parts."""


def read_resource(name: str, api: str, told: dict[str, Any], filters: dict[str, Any]) -> Resource:
    """The resource that `told` (the answer of `resourceType/<name>`) and `filters` (of `.../filters/`) describe."""
    attributes = {attribute.path: attribute for attribute in _attributes(_dict(told.get("content")))}
    location = attributes.get("location")
    if location and location.type == "group" and not any(path.startswith("location.") for path in attributes):
        attributes |= {path: Attribute(path, "string") for path in (f"location.{part}" for part in _LOCATION)}
    return Resource(name, api, attributes, filters=tuple(n for n, given in filters.items() if isinstance(given, dict)))


def _attributes(content: dict[str, Any], under: str = "") -> Iterator[Attribute]:
    for name, told in content.items():
        if not isinstance(told, dict):
            continue
        type_ = _type(name, told)
        attribute = Attribute(
            path=f"{under}{name}",
            type=type_,
            length=_length(told) if type_ in {"string", "enumeration"} else None,
            read_only=told.get("readOnly") in (True, "true"),
            mandatory=told.get("mandatory") in (True, "true"),
            values=tuple(_values(told.get("values"))) if type_ == "enumeration" else (),
            target=_target(told) if type_ in {"link", "collection"} else None,
            sortable=told["sortable"] in (True, "true") if "sortable" in told else None,
        )
        yield attribute
        if type_ == "group":
            for part in _attributes(_dict(told.get("content")), f"{under}{name}."):
                yield _read_only(part) if attribute.read_only else part


def _type(name: str, told: dict[str, Any]) -> AttributeType:
    high, technical = str(told.get("type", "")).lower(), str(told.get("resType", "")).lower()
    if high == "collection" or (technical == "link" and told.get("unbound") in (True, "true")):
        return "collection"
    if "link" in (high, technical):
        return "link"
    if high == "enumeration" or told.get("values"):
        return "enumeration"
    if high in {"group", "element"} or "content" in told or (name == "location" and technical not in _TECHNICAL):
        return "group"
    return _TECHNICAL.get(technical) or _HIGH_LEVEL.get(high) or "string"


def _length(told: dict[str, Any]) -> int | None:
    """Characters; the member is a text, "0" where there is no limit to tell."""
    text = str(told.get("length", "")).strip()
    return int(text) or None if text.isdecimal() and len(text) <= _DIGITS else None


def _values(told: Any) -> list[str]:
    """Names of an enumeration by stored value. Campaign reads and writes names. Members inferred."""
    items = [(str(key), item) for key, item in told.items()] if isinstance(told, dict) else []
    if isinstance(told, list):
        items = [("", item) for item in told]
    named: list[tuple[float, str]] = []
    for key, item in items:
        members = _dict(item)
        name = str(members.get("apiName") or members.get("name") or key or ("" if members else item))
        stored = str(members.get("value", ""))
        number = stored.removeprefix("-").isdecimal() and len(stored) <= _DIGITS
        named.append((float(stored) if number else float(len(named)), name))
    return [name for _, name in sorted(named, key=lambda pair: pair[0])]


def _target(told: dict[str, Any]) -> str | None:
    target = str(told.get("resTarget") or "")
    return target.rpartition(":")[2].rpartition("/")[2] or None


def _read_only(attribute: Attribute) -> Attribute:
    return Attribute(attribute.path, attribute.type, attribute.length, True, attribute.mandatory, attribute.values)


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
