"""How Campaign speaks: what an answer means for the record that was sent.

The one place that reads Campaign's answers. Most of its refusals are a 500 with lines of text, so the text decides and
the status only helps (campaign-standard-api.md section 5, Errors and Retry rule; section 13 for Campaign v8).
"""

from __future__ import annotations

import html
import re
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from sync_assets.http.client import RETRY_STATUS, Response

Operation = Literal["insert", "update", "delete", "read"]
Kind = Literal["done", "unproven", "exists_already", "missing", "refused", "transient", "denied"]

BOILERPLATE = "RST-360011 An error has occurred - please contact your administrator."


@dataclass(frozen=True, slots=True)
class ResponseOutcome:
    """What an answer means. `reason`: Campaign's words in one line, not yet redacted. `pkey`: of the record that the
    answer to a write names.

    done            the record is as we asked
    unproven        a 2xx that is not the engine's own answer to such a request: its outcome is unknown
    exists_already  an insert met a key that is taken: our own record, or a unique attribute of another one
    missing         no record with the key in the URL
    refused         never for this record as it is: repeating does not help
    transient       not now, or words that we do not know: worth a few more tries
    denied          not this record but we are refused, or this is not Campaign: every other request will fare alike
    """

    kind: Kind
    reason: str = ""
    pkey: str = ""


def response_outcome(answer: Response, operation: Operation, key: str = "") -> ResponseOutcome:
    """Reads an answer. `key`: the record's key or PKey in the URL, to tell its absence from that of a link's target."""
    if 200 <= answer.status < 300:
        return _success(answer, operation)
    if 300 <= answer.status < 400:
        return ResponseOutcome(
            "denied", f"Campaign's address answers with a redirect ({answer.status}); check CAMPAIGN_URL."
        )
    reason = words(answer)
    if answer.status in {401, 403} and _gateway_json(answer):
        return ResponseOutcome("denied", reason)
    if is_passing(answer):
        return ResponseOutcome("transient", reason)
    return ResponseOutcome(_kind(reason.lower(), operation, key.lower()), reason)


def _kind(said: str, operation: Operation, key: str) -> Kind:
    """What the engine's own words mean. Words that we do not know are worth a few more tries."""
    if operation == "insert" and _EXISTS.search(said):
        return "exists_already"
    if _NOT_FOUND.search(said) or _NOT_A_PKEY.search(said):
        # The same words stand for a link's target in the body that does not exist (section 5, Errors).
        return "missing" if operation != "insert" and key and key in said else "refused"
    if _PERMANENT.search(said) and not _PASSING.search(said):
        return "refused"
    return "transient"


_EXISTS = re.compile(r"already exists|duplicate key value")
_NOT_FOUND = re.compile(r"unable to find document")
_NOT_A_PKEY = re.compile(r"unable to parse expression '@id ?= ?@")  # a key in the URL where only a PKey is taken
_PASSING = re.compile(
    r"deadlock|could not serialize|statement timeout|too many (clients|connections)|connection (lost|closed)"
)
_PERMANENT = re.compile(
    r"is not valid|isn't valid|read-only|attribute unknown|already exists|duplicate key value|cannot update key"
    r"|is not a valid constant|unable to parse|isn't defined|violates|too long|out of range|invalid input|is mandatory"
)


def is_oops(answer: Response) -> bool:
    """The gateway did not find the way to the instance: `Oops. Something went wrong. Check your URI and try again.`"""
    return answer.status >= 400 and answer.body[:1] == b"{" and b"Oops. Something went wrong" in answer.body


def is_passing(answer: Response) -> bool:
    """For `Endpoint`: refused or lost on the way to Campaign, whatever was asked; wait and send again."""
    return answer.status in RETRY_STATUS or is_oops(answer)


def words(answer: Response) -> str:
    """What the answer says, in one line, without the opening that says nothing where something follows it."""
    told = _gateway_json(answer)
    text = html.unescape(told or answer.text)
    if "<html" in text[:500].lower():
        return f"an HTML page with status {answer.status}, not an answer of Campaign"
    lines = [line for raw in text.splitlines() if (line := " ".join(raw.split()))]
    if len(lines) > 1 and lines[0] == BOILERPLATE:
        del lines[0]
    return " ".join(lines)[:4000] or f"status {answer.status} without a word"


class _Written(msgspec.Struct):
    """What every answer of the engine to a POST or PATCH has: the whole record, or its PKey and href."""

    pkey: str = msgspec.field(default="", name="PKey")


_WRITTEN = msgspec.json.Decoder(_Written)


def _success(answer: Response, operation: Operation) -> ResponseOutcome:
    """Only the engine's own answer acknowledges: a gateway in maintenance says 200 as well. Of a delete the answer
    proves little, see `records.Records.delete`."""
    body = answer.body.strip()
    if operation == "delete":
        return ResponseOutcome("done") if not body or _written(body).pkey else _unproven(answer)
    if operation == "read":
        return ResponseOutcome("done") if _is_object(body) else _unproven(answer)
    pkey = _written(body).pkey
    return ResponseOutcome("done", pkey=pkey) if pkey else _unproven(answer)


def _written(body: bytes) -> _Written:
    try:
        return _WRITTEN.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return _Written()


def _is_object(body: bytes) -> bool:
    """Is it a record, a list, a count or a description? An object that only has a message or an error is none."""
    try:
        told = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False
    return not told or not told.keys() <= _NOTICE


_NOTICE = frozenset({"message", "error", "error_code", "error_description", "code", "status", "title", "detail"})
"""Members of what gateways and proxies say instead of an answer."""


def _unproven(answer: Response) -> ResponseOutcome:
    return ResponseOutcome(
        "unproven",
        f"status {answer.status}, but not an answer of Campaign; if it stays so, check CAMPAIGN_URL and proxies.",
    )


def _gateway_json(answer: Response) -> str:
    """`<code> <message>` of an error of the gateway, empty if it is none."""
    if answer.body.lstrip()[:1] != b"{":
        return ""
    try:
        told: Any = answer.json()
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ""
    code, message = told.get("error_code", told.get("code")), told.get("message")
    return f"{'' if code is None else code} {message}".strip() if message else ""
