"""The metadata of a resource: its attributes with types, lengths and enumeration values, and the parser for them.

Here: plain values. Not here: how they are fetched (`client.py`). The parser is tolerant: a missing member of the
description (`resourceType/<name>`) is read as "not known", since only parts of the format are documented and its shape
differs between builds. Source:
https://experienceleague.adobe.com/docs/campaign-standard/using/working-with-apis/global-concepts/metadata-mechanism.html
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Literal

AttributeType = Literal[
    "string", "integer", "float", "boolean", "date", "datetime", "enumeration", "link", "collection", "group"
]

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
"""Digits of a number at most; a longer one is ignored."""
_LOCATION = ("address1", "address2", "address3", "address4", "city", "countryCode", "stateCode", "zipCode")
"""The members of a profile's `location`, for builds that describe the group without its parts."""


@dataclass(frozen=True, slots=True)
class Attribute:
    """One attribute of a resource.

    `path`: dotted for a sub-field (`location.city`). `length`: in characters; None: unlimited or unknown.
    """

    path: str
    type: AttributeType
    length: int | None = None
    read_only: bool = False
    mandatory: bool | None = False  # None: not in the metadata, of a link
    values: tuple[str, ...] = ()  # of an enumeration, in the order of the stored values: the first is its empty value
    target: str | None = None  # of a link: the resource it points to
    cascades: bool | None = None  # of a link: if a record is deleted with its target; None: not in the metadata
    sortable: bool | None = field(default=None, compare=False)  # None: not in the metadata


@dataclass(frozen=True, slots=True)
class Resource:
    """One resource under its API endpoint (`profileAndServicesExt` or `customResources`)."""

    name: str
    api: str
    attributes: dict[str, Attribute]
    filters: dict[str, str] = field(default_factory=dict[str, str])
    """A sample address by filter, such as `/profileAndServices/profile/byText?text=$value`; empty if none is given."""


def read_resource(name: str, api: str, described: dict[str, Any], filters: dict[str, Any]) -> Resource:
    """Return the resource that Campaign's two answers describe.

    Args:
        described: the answer of `resourceType/<name>`.
        filters: the answer of `.../filters/`.
    """
    attributes = {attribute.path: attribute for attribute in _attributes(_dict(described.get("content")))}
    location = attributes.get("location")
    if location and location.type == "group" and not any(path.startswith("location.") for path in attributes):
        attributes |= {path: Attribute(path, "string") for path in (f"location.{part}" for part in _LOCATION)}
    samples = {key: str(given.get("data") or "") for key, given in filters.items() if isinstance(given, dict)}
    return Resource(name, api, attributes, filters=samples)


def _attributes(content: dict[str, Any], under: str = "") -> Iterator[Attribute]:
    for name, described in content.items():
        if not isinstance(described, dict):
            continue
        type_ = _type(name, described)
        unstated = type_ == "link" and "mandatory" not in described
        attribute = Attribute(
            path=f"{under}{name}",
            type=type_,
            length=_length(described) if type_ in {"string", "enumeration"} else None,
            read_only=described.get("readOnly") in (True, "true"),
            mandatory=described.get("mandatory") in (True, "true") or (None if unstated else False),
            values=tuple(_values(described.get("values"))) if type_ == "enumeration" else (),
            target=_target(described) if type_ in {"link", "collection"} else None,
            cascades=_cascades(described) if type_ == "link" else None,
            sortable=described["sortable"] in (True, "true") if "sortable" in described else None,
        )
        yield attribute
        if type_ == "group":
            for part in _attributes(_dict(described.get("content")), f"{under}{name}."):
                yield replace(part, read_only=True) if attribute.read_only else part


def _type(name: str, described: dict[str, Any]) -> AttributeType:
    high, technical = str(described.get("type", "")).lower(), str(described.get("resType", "")).lower()
    if high == "collection" or (technical == "link" and described.get("unbound") in (True, "true")):
        return "collection"
    if "link" in (high, technical):
        return "link"
    if high == "enumeration" or described.get("values"):
        return "enumeration"
    if high in {"group", "element"} or "content" in described or (name == "location" and technical not in _TECHNICAL):
        return "group"
    return _TECHNICAL.get(technical) or _HIGH_LEVEL.get(high) or "string"


def _length(described: dict[str, Any]) -> int | None:
    """Return the length in characters; None if unlimited. The member is a text, "0" for no limit."""
    text = str(described.get("length", "")).strip()
    return int(text) or None if text.isdecimal() and len(text) <= _DIGITS else None


def _values(described: Any) -> list[str]:
    """Return the names of an enumeration, by stored value. The members of the description are inferred."""
    items = [(str(key), item) for key, item in described.items()] if isinstance(described, dict) else []
    if isinstance(described, list):
        items = [("", item) for item in described]
    named: list[tuple[float, str]] = []
    for key, item in items:
        members = _dict(item)
        name = str(members.get("apiName") or members.get("name") or key or ("" if members else item))
        stored = str(members.get("value", ""))
        number = stored.removeprefix("-").isdecimal() and len(stored) <= _DIGITS
        named.append((float(stored) if number else float(len(named)), name))
    return [name for _, name in sorted(named, key=lambda pair: pair[0])]


def _target(described: dict[str, Any]) -> str | None:
    target = str(described.get("resTarget") or "")
    return target.rpartition(":")[2].rpartition("/")[2] or None


def _cascades(described: dict[str, Any]) -> bool | None:
    """Return True if deleting a link's target deletes its record: integrity of the reverse link, as schemas name it.

    That the description has this member is inferred.
    https://experienceleague.adobe.com/docs/campaign-classic/using/configuring-campaign-classic/schema-reference/database-mapping.html
    """
    integrity = described.get("revIntegrity")
    return integrity in ("own", "owncopy") if isinstance(integrity, str) and integrity else None


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
