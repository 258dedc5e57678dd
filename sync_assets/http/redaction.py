"""Remove personal data from a server's error text, so that the rest may be stored and shown. Pure."""

import html
import re
from collections.abc import Iterator
from typing import Any

import msgspec

from sync_assets.config.values import GUID
from sync_assets.foreign_text import one_line

REASON_LENGTH = 300
_GONE = "…"
_GUID = re.compile(rf"(?<![0-9a-f-]){GUID.pattern}(?![0-9a-f-])", re.IGNORECASE)
_KEPT = re.compile(rf"\b(?:RST|XTK|PGS|SOP|XSV|SCR|NLS|JST)-\d{{6}}\b|{_GUID.pattern}", re.IGNORECASE)
_KEY_DETAIL = re.compile(r"\)=\(.*\)|\)=\(.*$|(?i:row contains) \(.*$")
_MAIL = re.compile(r"[^\s'\"()<>,;:]+@[^\s'\"()<>,;:]+")
_PHONE = re.compile(r"(?<![\w@-])\+?\d(?:[\s().\-/]?\d){6,}(?![\w-])")
_QUOTED = re.compile(r"'(?P<single>[^'\n]*)'|\"(?P<double>[^\"\n]*)\"")
_NAME = re.compile(r"@?[A-Za-z][\w:./\[\]-]*")
_DETAIL = re.compile(r"\b(DETAIL|CONTEXT|HINT|QUERY|STATEMENT|LINE \d+):(?!\s*Key \().*$")
_PARTS = "attribute|column|constraint|element|enumeration|field|filter|link|path|property|resource|schema|table"
_NAMED_BEFORE = re.compile(rf"\b(?:an?|{_PARTS}) $", re.IGNORECASE)
_NAMED_AFTER = re.compile(rf" (?:{_PARTS})\b", re.IGNORECASE)
_OF = re.compile(r"\b(?:of|type) $", re.IGNORECASE)


def redact(reason: str, payload: str | bytes | None) -> str:
    """Return the reason without personal data, as one line of at most 300 characters.

    Removed are every value of the payload (except booleans and ids), e-mail addresses, telephone numbers, the values in
    a database's key details, all its other details, and quoted text that the words around it do not mark as a name of
    the data model: it may be the value of another record. Kept are the attribute's name, what is wrong with it, error
    codes and ids (GUIDs).

    Args:
        reason: the server's error text.
        payload: JSON of the request; None if there was none.
    """
    text = _DETAIL.sub(rf"\1: {_GONE}", _KEY_DETAIL.sub(f")=({_GONE})", one_line(html.unescape(reason))))
    text = _Censor(payload)(text)
    return text if len(text) <= REASON_LENGTH else text[: REASON_LENGTH - 1] + _GONE


class _Censor:
    """Removes the values of one payload, and personal data recognised by its form, from a text."""

    def __init__(self, payload: str | bytes | None) -> None:
        try:
            leaves = list(_leaves(_DECODER.decode(payload))) if payload else []
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            leaves = []
        self.names = {name for name, _ in leaves} - {""}
        given = {value for _, value in leaves if value and not _GUID.fullmatch(value)}
        texts = {one_line(text) for value in given for text in (value, html.unescape(value))} - {""}
        self.patterns = [_pattern(text) for text in sorted(texts, key=len, reverse=True)]
        self.values = "\n".join(texts).casefold()

    def __call__(self, text: str) -> str:
        placed: list[str] = []

        def put_aside(match: re.Match[str]) -> str:
            placed.append(match[0])
            return chr(_ASIDE + len(placed) - 1)

        def put_names_aside(match: re.Match[str]) -> str:  # a person's name may be equal to an attribute's
            return put_aside(match) if _inside(match).lstrip("@") in self.names else match[0]

        text = _QUOTED.sub(put_names_aside, _KEPT.sub(put_aside, text))
        for pattern in self.patterns:
            text = pattern.sub(_GONE, text)
        text = _QUOTED.sub(self._only_names, _PHONE.sub(_GONE, _MAIL.sub(_GONE, text)))
        for number in reversed(range(len(placed))):
            text = text.replace(chr(_ASIDE + number), placed[number])
        return text

    def _only_names(self, match: re.Match[str]) -> str:
        inside = _inside(match)
        name = _names_a_part(match) and (len(inside) < 2 or inside.casefold() not in self.values)
        aside = any(ord(letter) >= _ASIDE for letter in inside)
        return match[0] if name or aside else f"{match[0][0]}{_GONE}{match[0][0]}"


_ASIDE = 0xF0000
"""First code point of a private plane, one per piece put aside: not printable, so `one_line` removes it from texts."""
_DECODER = msgspec.json.Decoder(float_hook=str)


def _names_a_part(quoted: re.Match[str]) -> bool:
    """Return True if a quoted text is a name, and the words around it say that it is one of the data model."""
    inside, before = _inside(quoted), quoted.string[: quoted.start()]
    if not _NAME.fullmatch(inside) or inside in ("true", "false"):
        return inside in ("true", "false")
    named = _NAMED_BEFORE.search(before) or _NAMED_AFTER.match(quoted.string, quoted.end())
    of = _OF.search(before) or quoted.string.startswith(" of ", quoted.end())
    return bool(named or (of and not inside[0].isupper()))


def _inside(quoted: re.Match[str]) -> str:
    return quoted["single"] if quoted["single"] is not None else quoted["double"]


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Yield (attribute, value as text) of all values of a payload; (attribute, "") for booleans and null."""
    if isinstance(value, dict):
        yield name, ""
        for key, inner in value.items():
            yield from _leaves(inner, str(key))
    elif isinstance(value, list):
        for inner in value:
            yield from _leaves(inner, name)
    else:
        yield name, "" if value is None or isinstance(value, bool) else str(value)


def _pattern(value: str) -> re.Pattern[str]:
    """Match a value in any case, since Campaign changes the case of names. Short values match whole words only."""
    pattern = re.escape(value)
    if len(value) <= 4 and value.isascii():
        pattern = f"(?<![A-Za-z0-9_]){pattern}(?![A-Za-z0-9_])"
    return re.compile(pattern, re.IGNORECASE)
