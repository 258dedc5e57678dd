"""Compare a record of Campaign with what was sent. Pure, and tolerant of what Campaign rewrites by itself.

Values that are read back can differ from those written: names are re-cased (smartCase), texts trimmed, telephone
numbers formatted, times given milliseconds, and empty values shown as their type's empty value
(docs/dev/references/campaign.md 1, 2).
"""

import math
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from sync_assets.campaign.metadata import Attribute, AttributeType, Resource
from sync_assets.mapping.conversions import empty_value
from sync_assets.mapping.personal_data import is_telephone
from sync_assets.words import plain

_BLANKS = re.compile(r"\s+")
_TELEPHONE = re.compile(r"[+\d\s().,/\-‐‑–]*\d[+\d\s().,/\-‐‑–]*")
_INTERNATIONAL = re.compile(r"^(?:\+|00)(?:\(0\))?|\(0\)")
_DAY = 10
"""Characters of a date."""


def differing(sent: Mapping[str, Any], record: Mapping[str, Any], resource: Resource) -> list[str]:
    """Return the attributes whose values in a payload and in a record differ, by their dotted names, without links."""
    links = {path for path, attribute in resource.attributes.items() if attribute.type in ("link", "collection")}
    held = dict(leaves(record, links))
    return sorted(
        path
        for path, value in leaves(sent, links)
        if not _same(resource.attributes.get(path) or Attribute(path, "string"), value, held.get(path))
    )


def emptied(names: Iterable[str], sent: Mapping[str, Any], resource: Resource) -> list[str]:
    """Return those of the differing attributes that have no value in a payload, so that the record has one."""
    values, known = dict(leaves(sent)), resource.attributes
    empty = {name: empty_value(known.get(name) or Attribute(name, "string")) for name in values}
    return [name for name in names if values[name] in (None, "", empty[name])]


def leaves(values: Mapping[str, Any], links: Set[str] = frozenset(), under: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the attributes of a payload or record by their dotted names, without links."""
    for name, value in values.items():
        path = f"{under}{name}"
        if path in links:
            continue
        if isinstance(value, dict):
            yield from leaves(value, links, f"{path}.")
        else:
            yield path, value


def _same(attribute: Attribute, sent: Any, stored: Any) -> bool:
    empty = empty_value(attribute)
    one, other = (empty if value is None or value == "" else value for value in (sent, stored))
    if one == other:
        return True
    if attribute.type == "string":
        one, other = folded(str(one)), folded(str(other))
        numbers = is_telephone(attribute.path) and _TELEPHONE.fullmatch(one) and _TELEPHONE.fullmatch(other)
        return one == other or bool(numbers and _digits(one) == _digits(other))
    try:
        if compared := _COMPARED.get(attribute.type):
            return compared(one, other)
        return plain(str(one)) == plain(str(other))
    except (ValueError, TypeError, ArithmeticError):
        return False  # one of the values is not of the attribute's type


def _truth(value: Any) -> bool:
    word = str(value).strip().casefold()
    if word in ("true", "1"):
        return True
    if word in ("false", "0"):
        return False
    raise ValueError(word)


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text.strip())
    return (moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)).replace(microsecond=0)


_COMPARED: dict[AttributeType, Callable[[Any, Any], bool]] = {
    "boolean": lambda one, other: _truth(one) == _truth(other),
    "integer": lambda one, other: Decimal(str(one)) == Decimal(str(other)),
    "float": lambda one, other: math.isclose(float(one), float(other), rel_tol=1e-13),  # a double holds 15 digits
    "date": lambda one, other: str(one)[:_DAY] == str(other)[:_DAY],
    # The same second, or the same day if one of the values has no time.
    "datetime": lambda one, other: (
        str(one)[:_DAY] == str(other)[:_DAY]
        if _DAY in (len(str(one)), len(str(other)))
        else _moment(str(one)) == _moment(str(other))
    ),
}


def folded(text: str) -> str:
    """Return the text in lower case, trimmed, with single blanks."""
    return unicodedata.normalize("NFC", _BLANKS.sub(" ", text).strip().upper().casefold())


def _digits(number: str) -> str:
    return "".join(character for character in _INTERNATIONAL.sub("", number) if character.isdigit())
