"""Faults with an answer that looks valid but is not: foreign, endless, very slow, or with a circular next link.

The middleware passes a rule of one of these kinds, and the system's app. Parameters of the rules (with defaults):

- `hollow`: a 2xx answer that is not the system's, as the maintenance page of a gateway. `status` (200), `body` (text;
  `{"message":"maintenance"}`), `content_type` (application/json), `executed` (false; true: execute the request first,
  then answer with this body instead of the system's)
- `bomb`: the request is not executed. The answer is a gzip body of some kilobytes that inflates to `megabytes` (2000)
  of spaces; with `plain_megabytes`, so many megabytes uncompressed and without a content-length. `status` (200)
- `drip`: the request is executed. Headers are sent at once, then a byte of the body every `seconds` (1.0)
- `circular`: the request is executed. If its answer is a page of a list (`value` of Dataverse, `content` of Campaign),
  its next link leads to the page itself. Other answers are not changed
- `empty_pages`: as `circular`, but the page is empty, and its next link has another number in the query each time.
  After `times` empty pages the real page follows; without `times` never
"""

from __future__ import annotations

import asyncio
import re
import zlib
from functools import lru_cache

import msgspec

from sync_assets.sandbox.asgi import Answer, App, Receive, Scope, Send, answer_of, client_left, send_answer
from sync_assets.sandbox.faults import Rule

KINDS = frozenset({"hollow", "bomb", "drip", "circular", "empty_pages"})
MEGABYTE = 1 << 20
_BLANKS = b" " * MEGABYTE
_MARK = "sandbox_page"
_document = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def executes(rule: Rule) -> bool:
    """Return True if the rule lets the app execute the request."""
    return bool(rule.parameters.get("executed")) if rule.kind == "hollow" else rule.kind != "bomb"


async def serve(rule: Rule, app: App, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer one request as the rule defines."""
    if rule.kind == "hollow":
        if executes(rule):
            await answer_of(app, scope, receive)
        await send_answer(send, _hollow(rule))
    elif rule.kind == "bomb":
        await _bomb(rule, receive, send)
    elif rule.kind == "drip":
        answer = await answer_of(app, scope, receive)
        await _drip(answer, float(rule.parameters.get("seconds", 1)), receive, send)
    else:
        answer = await answer_of(app, scope, receive)
        await send_answer(send, _relinked(answer, _url(scope), rule.fired if rule.kind == "empty_pages" else None))


def _hollow(rule: Rule) -> Answer:
    parameters = rule.parameters
    content_type = str(parameters.get("content_type", "application/json"))
    body = str(parameters.get("body", '{"message":"maintenance"}'))
    return Answer(int(parameters.get("status", 200)), [(b"content-type", content_type.encode())], body.encode())


# Endless and slow


async def _bomb(rule: Rule, receive: Receive, send: Send) -> None:
    status = int(rule.parameters.get("status", 200))
    headers = [(b"content-type", b"application/json")]
    if "plain_megabytes" not in rule.parameters:
        body = await asyncio.to_thread(gzip_bomb, int(rule.parameters.get("megabytes", 2000)))
        await send_answer(send, Answer(status, [*headers, (b"content-encoding", b"gzip")], body))
        return
    client_closed = asyncio.ensure_future(client_left(receive))
    try:
        await send({"type": "http.response.start", "status": status, "headers": headers})
        for _ in range(int(rule.parameters["plain_megabytes"])):
            await send({"type": "http.response.body", "body": _BLANKS, "more_body": True})
            await asyncio.sleep(0)
            if client_closed.done():
                return
        await send({"type": "http.response.body", "body": b""})
    finally:
        client_closed.cancel()


@lru_cache(4)
def gzip_bomb(megabytes: int) -> bytes:
    """Return a gzip file of this number of megabytes of spaces. It takes about a kilobyte for each."""
    pack = zlib.compressobj(9, zlib.DEFLATED, -15)
    # After a full flush, later blocks do not refer to earlier ones, so the packed megabyte can be repeated.
    packed = pack.compress(_BLANKS) + pack.flush(zlib.Z_FULL_FLUSH)
    check = 0
    for _ in range(megabytes):
        check = zlib.crc32(_BLANKS, check)
    end = check.to_bytes(4, "little") + (megabytes * MEGABYTE % 2**32).to_bytes(4, "little")
    return b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\xff" + packed * megabytes + pack.flush() + end


async def _drip(answer: Answer, seconds: float, receive: Receive, send: Send) -> None:
    """Send the body byte by byte. Stop when the client has closed the connection."""
    client_closed = asyncio.ensure_future(client_left(receive))
    try:
        headers = [*answer.headers, (b"content-length", str(len(answer.body)).encode())]
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": b"", "more_body": True})
        for n in range(len(answer.body)):
            await asyncio.wait({client_closed}, timeout=seconds)
            if client_closed.done():
                return
            await send({"type": "http.response.body", "body": answer.body[n : n + 1], "more_body": True})
        await send({"type": "http.response.body", "body": b""})
    finally:
        client_closed.cancel()


# Lists without an end


def _url(scope: Scope) -> str:
    host = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"host"), "localhost")
    query = scope["query_string"].decode("latin-1")
    return f"{scope.get('scheme', 'https')}://{host}{scope['raw_path'].decode('latin-1')}" + f"?{query}" * bool(query)


def unmark(scope: Scope) -> None:
    """Remove the number of an empty page from the query of a request, since the system has no such parameter."""
    query = scope["query_string"]
    if _MARK.encode() in query:
        scope["query_string"] = re.sub(rb"(?:^|&)" + _MARK.encode() + rb"=\d+$", b"", query)


def _relinked(answer: Answer, url: str, number: int | None) -> Answer:
    """Return a page whose next link leads to itself. With a `number`, the page is empty and the link contains it."""
    try:
        document = _document(answer.body)
    except msgspec.DecodeError:
        return answer
    rows = next((name for name in ("value", "content") if bytes(document.get(name, b"")).startswith(b"[")), None)
    if answer.status != 200 or rows is None:
        return answer
    if number is not None:
        document[rows] = msgspec.Raw(b"[]")
        url = re.sub(rf"[?&]{_MARK}=\d+$", "", url)
        url += f"{'&' if '?' in url else '?'}{_MARK}={number}"
    document.pop("@odata.deltaLink", None)
    name, link = ("@odata.nextLink", url) if rows == "value" else ("next", {"href": url})
    document[name] = msgspec.Raw(msgspec.json.encode(link))
    return answer._replace(body=msgspec.json.encode(document))
