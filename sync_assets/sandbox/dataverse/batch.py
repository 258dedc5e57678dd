"""`$batch`: several requests in one, and change sets, which are executed in a transaction.

Source: docs/dev/references/dataverse.md 3.3.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus

from sync_assets.sandbox.asgi import Answer
from sync_assets.sandbox.dataverse.call import Call, below_base, error_answer
from sync_assets.sandbox.dataverse.errors import DataverseError, bad_payload, bad_query

MOST_REQUESTS = 1000
_BOUNDARY = re.compile(r'boundary\s*=\s*("[^"]+"|[^;\s]+)', re.IGNORECASE)
_REFERENCE = re.compile(rb'(@odata\.(?:bind|id)"\s*:\s*")/?\$(\d+)(?=["/])')
Dispatch = Callable[[Call], Answer]


@dataclass(slots=True)
class _Part:
    """One part of a multipart body: its headers (names in lower case) and its content."""

    headers: dict[str, str]
    content: bytes


def run(call: Call, dispatch: Dispatch) -> Answer:
    """Execute a batch. dispatch: executes one request."""
    parts = _split(call.body, call.headers.get("content-type", ""))
    changesets = {id(part): _split(part.content, part.headers["content-type"]) for part in parts if _is_changeset(part)}
    if sum(len(changesets.get(id(part), (part,))) for part in parts) > MOST_REQUESTS:
        raise bad_payload(f"The batch request contains more than the maximum of {MOST_REQUESTS} requests.")
    boundary = f"batchresponse_{uuid.uuid4()}"
    answers: list[bytes] = []
    failed = False
    for part in parts:
        if id(part) in changesets:
            answer, failed = _run_changeset(call, changesets[id(part)], dispatch)
        else:
            single = _run_one(call, part, dispatch, {})
            answer, failed = _as_part(single, None), single.status >= 400
        answers.append(answer)
        if failed and not call.prefer.continue_on_error:
            break
    call.state.pop("key", None)
    stopped = failed and not call.prefer.continue_on_error
    content_type = f"multipart/mixed; boundary={boundary}".encode()
    headers = [(b"content-type", content_type), (b"odata-version", b"4.0")]
    return Answer(400 if stopped else 200, headers, _join(answers, boundary))


def _is_changeset(part: _Part) -> bool:
    return part.headers.get("content-type", "").lower().startswith("multipart/mixed")


def _run_changeset(call: Call, parts: list[_Part], dispatch: Dispatch) -> tuple[bytes, bool]:
    """Execute a change set. Return its part of the answer, and True if it failed: then the part is a single error."""
    boundary = f"changesetresponse_{uuid.uuid4()}"
    locations: dict[str, str] = {}
    answers: list[bytes] = []
    try:
        with call.org.transaction():
            for part in parts:
                content_id = part.headers.get("content-id")
                if content_id is None:
                    raise bad_payload("Each request of a change set needs a Content-ID.")
                answer = _run_one(call, part, dispatch, locations, in_changeset=True)
                if answer.status >= 400:
                    raise _ChangesetFailed(answer)
                headers = dict(answer.headers)
                locations[content_id] = headers.get(b"odata-entityid", headers.get(b"location", b"")).decode()
                answers.append(_as_part(answer, content_id))
    except _ChangesetFailed as failure:
        return _as_part(failure.answer, None), True
    except DataverseError as error:
        return _as_part(error_answer(error, call.prefer), None), True
    head = f"Content-Type: multipart/mixed; boundary={boundary}\r\n\r\n".encode()
    return head + _join(answers, boundary), False


class _ChangesetFailed(Exception):
    """Raised in the transaction of a change set to roll it back. Holds the answer of the failed request."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.status)
        self.answer = answer


def _run_one(
    call: Call, part: _Part, dispatch: Dispatch, locations: dict[str, str], *, in_changeset: bool = False
) -> Answer:
    try:
        inner = _request(call, part, locations, in_changeset)
        answer = dispatch(inner)
    except DataverseError as error:
        return error_answer(error, call.prefer)
    call.state["engine"] = inner.state.get("engine") or call.state.get("engine")
    return answer


def _request(call: Call, part: _Part, locations: dict[str, str], in_changeset: bool) -> Call:
    """Parse the request of a part. Its URL may contain spaces, so the line is cut at the first and the last one."""
    head, _, body = part.content.lstrip().partition(b"\n\n")
    request_line, *lines = head.decode("utf-8", "replace").split("\n")
    method, _, address = request_line.strip().partition(" ")
    target, _, protocol = address.strip().rpartition(" ")
    if not protocol.startswith("HTTP/"):
        raise bad_payload(f"Invalid request line in the batch: '{request_line.strip()}'.")
    if in_changeset and method == "GET":
        raise bad_payload("A change set must not contain a GET request.")
    target = re.sub(r"^/?\$(\d+)(?=/|$)", lambda match: _made(match[1], locations), target)
    body = _REFERENCE.sub(lambda match: match[1] + _made(match[2].decode(), locations).encode(), body)
    raw_path, _, query = target.removeprefix(call.org.url).partition("?")
    if not raw_path.startswith("/"):
        raw_path = f"{call.api.removeprefix(call.org.url)}/{raw_path}"
    path = below_base(raw_path)
    if path is None:
        raise bad_query(f"The request address '{target}' is not valid in a batch.")
    if path.startswith("$batch"):
        raise bad_payload("A batch request must not contain another batch request.")
    return Call(
        call.org, call.faults, method, path, query, _headers(lines), body.strip(), {}, f"{raw_path}?{query}"
    )  # fmt: skip


def _made(content_id: str, locations: dict[str, str]) -> str:
    if content_id not in locations:
        raise bad_payload(f"Content-ID Reference: '${content_id}' does not exist in the batch context.")
    return locations[content_id]


# Multipart


def _split(body: bytes, content_type: str) -> list[_Part]:
    """Split a multipart body. Line ends may be CRLF or LF, the boundary may be quoted."""
    match = _BOUNDARY.search(content_type)
    if not content_type.lower().startswith("multipart/mixed") or match is None:
        raise bad_payload("The content type of a batch must be 'multipart/mixed' with a boundary.")
    # One boundary may be the prefix of another, so it counts only at the end of a line or before `--`.
    mark = re.compile(rb"\n--" + re.escape(match[1].strip('"').encode()) + rb"(?=--|[ \t]*(?:\n|$))")
    pieces = mark.split(b"\n" + body.replace(b"\r\n", b"\n"))
    if len(pieces) < 2 or not pieces[-1].startswith(b"--"):
        raise bad_payload("The batch body does not end with its boundary.")
    parts: list[_Part] = []
    for piece in pieces[1:-1]:
        head, _, content = piece.lstrip(b"\n").partition(b"\n\n")
        parts.append(_Part(_headers(head.decode("utf-8", "replace").split("\n")), content))
    return parts


def _headers(lines: list[str]) -> dict[str, str]:
    pairs = (line.partition(":") for line in lines if ":" in line)
    return {name.strip().lower(): value.strip() for name, _, value in pairs}


def _as_part(answer: Answer, content_id: str | None) -> bytes:
    lines = ["Content-Type: application/http", "Content-Transfer-Encoding: binary"]
    if content_id is not None:
        lines.append(f"Content-ID: {content_id}")
    lines += ["", f"HTTP/1.1 {answer.status} {HTTPStatus(answer.status).phrase}"]
    for name, value in answer.headers:
        text = value.decode()
        if name == b"content-type" and text.startswith("application/json"):
            text += "; odata.streaming=true"
        lines.append(f"{_SPELLING.get(name, name.decode().title())}: {text}")
    return "\r\n".join([*lines, "", ""]).encode() + answer.body + b"\r\n"


_SPELLING = {
    b"odata-version": "OData-Version",
    b"odata-entityid": "OData-EntityId",
    b"req_id": "REQ_ID",
    b"etag": "ETag",
}


def _join(parts: list[bytes], boundary: str) -> bytes:
    mark = b"--" + boundary.encode()
    return b"".join(mark + b"\r\n" + part for part in parts) + mark + b"--\r\n"
