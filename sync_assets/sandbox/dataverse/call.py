"""One request to the Web API as its handlers get it, and helpers for their answers.

The same for a single request and for a part of a `$batch`, so that handlers need not distinguish them.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cached_property
from typing import Any
from urllib.parse import parse_qsl, unquote

import msgspec

from sync_assets.sandbox.asgi import Answer
from sync_assets.sandbox.dataverse.errors import DataverseError, bad_payload, bad_query, insufficient_memory
from sync_assets.sandbox.dataverse.organization import Organization
from sync_assets.sandbox.faults import Faults, Rule

BASE = "/api/data/v9."
JSON_TYPE = (b"content-type", b"application/json; odata.metadata=minimal")
ODATA_VERSION = (b"odata-version", b"4.0")

_decoder = msgspec.json.Decoder(float_hook=Decimal)
_encoder = msgspec.json.Encoder(decimal_format="number")
_PREFERENCE = re.compile(r'\s*([\w.\-]+)\s*(?:=\s*("[^"]*"|[^,;]*))?\s*(?:[,;]|$)')


@dataclass(frozen=True, slots=True)
class Preferences:
    """The supported preferences of the `Prefer` header (docs/dev/references/dataverse.md 1.2, 2.3, 3.1, 3.3)."""

    track_changes: bool = False
    page_size: int | None = None
    annotations: str | None = None
    representation: bool = False
    continue_on_error: bool = False

    @classmethod
    def parse(cls, header: str, page_limit: int) -> Preferences:
        preferences = {match[1].lower(): (match[2] or "").strip().strip('"') for match in _PREFERENCE.finditer(header)}
        size = preferences.get("odata.maxpagesize", preferences.get("maxpagesize", ""))
        return cls(
            track_changes="odata.track-changes" in preferences or "track-changes" in preferences,
            page_size=min(int(size), page_limit) if size.isdecimal() and int(size) > 0 else None,
            annotations=preferences.get("odata.include-annotations") or None,
            representation=preferences.get("return") == "representation",
            continue_on_error="odata.continue-on-error" in preferences,
        )

    def wants(self, annotation: str) -> bool:
        """Return True if an annotation is requested. In the list of names, `*` is a wildcard, and `-` excludes."""
        if self.annotations is None:
            return False
        is_wanted = False
        for raw in self.annotations.split(","):
            pattern = raw.strip()
            excluded = pattern.startswith("-")
            if re.fullmatch(re.escape(pattern.removeprefix("-")).replace(r"\*", ".*"), annotation):
                is_wanted = not excluded
                if excluded:
                    return False
        return is_wanted


@dataclass(slots=True)
class Segment:
    """One segment of the path: `contacts(key)` has the name "contacts" and the key "key"; without parentheses None."""

    name: str
    key: str | None


@dataclass
class Call:
    """One request. `path`: below `/api/data/v9.x`, decoded. `query`: not decoded. `headers`: names in lower case."""

    org: Organization
    faults: Faults
    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes
    state: dict[str, Any] = field(default_factory=dict[str, Any])
    """State of the ASGI scope: values for the journal."""
    request_target: str = ""
    """Path and query as the client sent them, for rules of faults."""

    @cached_property
    def api(self) -> str:
        """Return the base URL of the Web API in the version of the request, as in links."""
        version = unquote(self.request_target).removeprefix(BASE)[:1]
        return f"{self.org.url}{BASE}{version or '2'}"

    @cached_property
    def segments(self) -> list[Segment]:
        return [_segment(text) for text in _split(self.path)]

    @cached_property
    def options(self) -> dict[str, str]:
        """Return the decoded query parameters. The last one of a name counts."""
        return dict(parse_qsl(self.query, keep_blank_values=True))

    @cached_property
    def prefer(self) -> Preferences:
        return Preferences.parse(self.headers.get("prefer", ""), self.org.switches.page_limit)

    def page_size(self, top: int | None = None) -> int:
        """Return the page size in rows. Raises DataverseError if it exceeds the emulated memory limit."""
        switches = self.org.switches
        size = self.prefer.page_size or min(top or switches.page_limit, switches.page_limit)
        if switches.memory_limit_rows is not None and size > switches.memory_limit_rows:
            raise insufficient_memory()
        return size

    def json(self) -> Any:
        """Return the body as JSON, fractional numbers as Decimal. Raises DataverseError."""
        try:
            return _decoder.decode(self.body)
        except msgspec.DecodeError as error:
            raise bad_payload(f"An error occurred while reading the request body as JSON: {error}") from None

    def touches(self, engine: str, key: str | None = None) -> None:
        """Set the kind of engine call, and the key of the row, for the journal."""
        self.state["engine"] = engine
        self.state["key"] = key

    def fault(self, kind: str) -> Rule | None:
        """Return a rule of this kind that fires for this request. Call it where the fault applies, since it counts."""
        if not self.faults.rules:
            return None
        rule = self.faults.take("d365", frozenset({kind}), self.method, self.request_target)
        if rule is not None:
            self.state["fault"] = kind
        return rule


def _split(path: str) -> Iterable[str]:
    """Split a path at slashes outside of quotes, since an alternate key may contain a slash."""
    parts = [""]
    quoted = False
    for character in path.strip("/"):
        quoted ^= character == "'"
        if character == "/" and not quoted:
            parts.append("")
        else:
            parts[-1] += character
    return [part for part in parts if part]


def _segment(text: str) -> Segment:
    name, bracket, key = text.partition("(")
    if not bracket:
        return Segment(text, None)
    if not key.endswith(")"):
        raise bad_query(f"Bad Request - Error in query syntax: '{text}'.")
    return Segment(name, key[:-1])


def below_base(raw_path: str) -> str | None:
    """Return the decoded path below the API's base ("" for the base itself); None if it is not below the base."""
    path = unquote(raw_path)
    if not path.startswith(BASE):
        return None
    version, _, below = path.removeprefix(BASE).partition("/")
    return below if version in ("0", "1", "2") else None


def link(call: Call, option: str, value: str) -> str:
    """Return an absolute link to the same query with `$skiptoken` or `$deltatoken` set to an encoded value."""
    host = call.api
    if call.fault("wrong_host_link") is not None:
        host = "https://elsewhere.example/api/data/v9.2"
    kept = [
        part
        for part in call.query.split("&")
        if part and not part.replace("%24", "$").startswith(("$skiptoken=", "$deltatoken="))
    ]
    return f"{host}/{call.path.strip('/')}?{'&'.join([*kept, f'{option}={value}'])}"


# Answers


def encode(document: object) -> bytes:
    return _encoder.encode(document)


def json_answer(document: object, *headers: tuple[bytes, bytes], status: int = 200) -> Answer:
    return Answer(status, [JSON_TYPE, ODATA_VERSION, *headers], encode(document))


def no_content(*headers: tuple[bytes, bytes]) -> Answer:
    return Answer(204, [ODATA_VERSION, *headers], b"")


def applied(*preferences: str | None) -> list[tuple[bytes, bytes]]:
    """Return the `Preference-Applied` header for the given preferences; no header if all are None."""
    names = [preference for preference in preferences if preference]
    return [(b"preference-applied", ", ".join(names).encode())] if names else []


def error_answer(error: DataverseError, prefer: Preferences | None = None) -> Answer:
    """Return an error answer (docs/dev/references/dataverse.md 3.4), with more members if all annotations are
    requested."""
    body: dict[str, Any] = {"code": error.code, "message": error.message}
    if prefer is not None and prefer.wants("Microsoft.PowerApps.CDS.HelpLink"):
        details = "Microsoft.PowerApps.CDS"
        body |= {
            f"@{details}.ErrorDetails.OperationStatus": "0",
            f"@{details}.ErrorDetails.SubErrorCode": "0",
            f"@{details}.HelpLink": f"http://go.microsoft.com/fwlink/?LinkID=398563&error={error.code}",
            f"@{details}.TraceText": "",
            f"@{details}.InnerError.Message": error.message,
        }
    return json_answer({"error": body}, (b"req_id", str(uuid.uuid4()).encode()), status=error.status)
