"""Campaign's dialect: what an HTTP answer means for the record that was sent.

The only module that interprets Campaign's answers. Most of its refusals are a 500 with lines of text, so the text
decides and the status only helps (docs/dev/references/campaign.md 5, Errors and Retry rule;
docs/dev/references/campaign.md 13 for Campaign v8).
"""

import html
import re
from datetime import UTC, datetime
from typing import Literal, NamedTuple

import msgspec

from sync_assets.http.retry import RETRY_STATUS
from sync_assets.http.transport import Response, members, parsed

Operation = Literal["insert", "update", "delete", "read"]
Kind = Literal["done", "unproven", "exists_already", "missing", "refused", "transient", "denied"]

_NO_CAUSE = "An error has occurred - please contact your administrator."
BOILERPLATE = frozenset({f"RST-360011 {_NO_CAUSE}", _NO_CAUSE})
"""The line that names no cause; in Campaign v8 it has no code."""


class ResponseOutcome(NamedTuple):
    """What an answer means.

    `reason`: Campaign's words in one line, not yet redacted. `pkey`: the PKey in the answer to a write. `remedy`: of
    `denied`, if it is not to check the credentials; the reason then is a sentence of ours. Of `refused` and `transient`
    our own sentence before Campaign's words, if any; it has no values, so it is not redacted. `left_out`: attributes
    that an update did not send, since Campaign refuses them there.

    done            the record is as requested
    unproven        a 2xx that is not the engine's own answer to such a request: the outcome is unknown
    exists_already  an insert met a key that is taken: our own record, or a unique attribute of another one
    missing         no record has the key in the URL
    refused         never for this record as it is: repeating does not help
    transient       temporary, or a text that we do not recognise: worth a few retries
    denied          our access is refused, or this is not Campaign: every other request will fail alike
    """

    kind: Kind
    reason: str = ""
    pkey: str = ""
    remedy: str = ""
    left_out: tuple[str, ...] = ()


def response_outcome(answer: Response, operation: Operation, key: str = "") -> ResponseOutcome:
    """Return what an answer means.

    `key`: the record's key or PKey in the URL; it distinguishes a missing record from a missing target of a link.
    """
    if 200 <= answer.status < 300:
        return _success(answer, operation)
    if 300 <= answer.status < 400:
        return ResponseOutcome(
            "denied", f"Campaign's address answers with a redirect ({answer.status}); check CAMPAIGN_URL."
        )
    reason = words(answer)
    if answer.status in {401, 403} and _gateway_json(answer):
        return ResponseOutcome("denied", reason)
    if may_be_resent(answer.status, answer.body):
        return ResponseOutcome("transient", reason)
    return ResponseOutcome(_kind(reason.lower(), operation, key.lower()), reason)


def _kind(text: str, operation: Operation, key: str) -> Kind:
    if operation == "insert" and _EXISTS.search(text):
        return "exists_already"
    if _NOT_FOUND.search(text) or _NOT_A_PKEY.search(text):
        # Campaign uses the same words for a link in the body whose target does not exist
        # (docs/dev/references/campaign.md 5, Errors).
        return "missing" if operation != "insert" and key and key in text else "refused"
    if _PERMANENT.search(text) and not _TEMPORARY.search(text):
        return "refused"
    return "transient"


_EXISTS = re.compile(r"already exists|duplicate key value")
_NOT_FOUND = re.compile(r"unable to find document")
# A key in the URL where only a PKey is taken, or a PKey of another instance; the second text is Campaign v8's.
_NOT_A_PKEY = re.compile(r"unable to parse expression '@id ?= ?@|unable to decrypt pkey")
_TEMPORARY = re.compile(
    r"deadlock|could not serialize|statement timeout|too many (clients|connections)|connection (lost|closed)"
)
_PERMANENT = re.compile(
    r"is not valid|isn't valid|read-only|attribute unknown|already exists|duplicate key value|cannot update key"
    r"|is not a valid constant|unable to parse|isn't defined|violates|too long|out of range|invalid input|is mandatory"
)


_ATTRIBUTE = re.compile(r"'(\w+)' property")


def attributes_named(reason: str) -> set[str]:
    """Return the attributes that Campaign does not take as such, by a reason; that of a bad value names none.

    A sub-field is named without its group. Campaign v8 refuses an update of `location` with the name `zipCode`,
    whichever sub-field the body holds.
    """
    return set(_ATTRIBUTE.findall(reason))


def is_oops(status: int, body: bytes) -> bool:
    """Return True if the gateway did not reach the instance.

    Its text: `Oops. Something went wrong. Check your URI and try again.`
    """
    return status >= 400 and body[:1] == b"{" and b"Oops. Something went wrong" in body


def may_be_resent(status: int, body: bytes) -> bool:
    """Return True if any request may be sent again after a wait: throttled, or lost on the way. For `Endpoint`."""
    return status in RETRY_STATUS or is_oops(status, body)


def words(answer: Response) -> str:
    """Return the text of an answer in one line, without the boilerplate first line if more text follows."""
    text = html.unescape(_gateway_json(answer) or answer.text)
    if "<html" in text[:500].lower():
        return f"an HTML page with status {answer.status}, not an answer of Campaign"
    lines = [line for raw in text.splitlines() if (line := " ".join(raw.split()))]
    if len(lines) > 1 and lines[0] in BOILERPLATE:
        del lines[0]
    return " ".join(lines)[:4000] or f"status {answer.status} without a text"


class _Written(msgspec.Struct):
    """What every answer of the engine to a POST or PATCH contains: the whole record, or its PKey and href."""

    pkey: str = msgspec.field(default="", name="PKey")


def _success(answer: Response, operation: Operation) -> ResponseOutcome:
    """Return the outcome of a 2xx.

    Only the engine's own answer counts as done: a gateway in maintenance sends 200 as well. The answer to a delete
    proves little, see `records.Records.delete`.
    """
    body = answer.body.strip()
    if operation == "read":
        return ResponseOutcome("done") if _is_object(body) else _unproven(answer)
    written = parsed(body, _Written) or _Written()
    if operation == "delete":
        return ResponseOutcome("done") if not body or written.pkey else _unproven(answer)
    return ResponseOutcome("done", pkey=written.pkey) if written.pkey else _unproven(answer)


def _is_object(body: bytes) -> bool:
    """Return True for a JSON object that may be a record, a list, a count or a description.

    An object with nothing but members of _NOTICE, such as a message or an error, is none of these.
    """
    held = parsed(body, dict[str, msgspec.Raw])
    return held is not None and not (held and held.keys() <= _NOTICE)


_NOTICE = frozenset({"message", "error", "error_code", "error_description", "code", "status", "title", "detail"})
"""Members of the objects that gateways and proxies send in place of an answer."""


def _unproven(answer: Response) -> ResponseOutcome:
    return ResponseOutcome(
        "unproven",
        f"status {answer.status}, but not an answer of Campaign; if it stays so, check CAMPAIGN_URL and proxies.",
    )


def _gateway_json(answer: Response) -> str:
    """Return `<code> <message>` of an error of the gateway; empty if it is none."""
    error = members(answer.body)
    code, message = error.get("error_code", error.get("code")), error.get("message")
    return f"{'' if code is None else code} {message}".strip() if message else ""


def moment(text: object) -> datetime | None:
    """Return a time of Campaign's, `YYYY-MM-DD hh:mm:ss.mmmZ`, in UTC; None for an empty or unreadable one.

    A `T` in place of the blank, and no zone, are accepted. Source: docs/dev/references/campaign.md 1.
    """
    if not isinstance(text, str) or not text:
        return None
    try:
        read = datetime.fromisoformat(text)
        return read.replace(tzinfo=UTC) if read.tzinfo is None else read.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
