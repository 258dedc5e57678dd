"""ASGI helpers of the sandbox: types of an app, complete answers, complete bodies. Independent of all systems."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, NamedTuple

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

TRANSPORT = "sandbox.transport"
"""Key in the scope under which the listener stores the connection's asyncio transport."""


class Answer(NamedTuple):
    """A complete HTTP answer. `send_answer` adds the content-length."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


async def send_answer(send: Send, answer: Answer) -> None:
    headers = answer.headers
    if answer.status not in (204, 304):
        headers = [*headers, (b"content-length", str(len(answer.body)).encode())]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})


async def answer_of(app: App, scope: Scope, receive: Receive) -> Answer:
    """Let the app answer a request, and return its answer instead of sending it."""
    status = 0
    headers: list[tuple[bytes, bytes]] = []
    body: list[bytes] = []

    async def take(message: Message) -> None:
        nonlocal status
        if message["type"] == "http.response.start":
            status = message["status"]
            headers.extend((name, value) for name, value in message["headers"] if name != b"content-length")
        else:
            body.append(message.get("body", b""))

    await app(scope, receive, take)
    return Answer(status, headers, b"".join(body))


async def read_body(receive: Receive) -> bytes:
    """Return the whole body of a request, or the part received before the client closed the connection."""
    message = await receive()
    body = message.get("body", b"")
    while message.get("more_body", False):
        message = await receive()
        body += message.get("body", b"")
    return body


def headers_of(scope: Scope) -> dict[str, str]:
    """Return the headers by name in lower case. Repeated headers are joined by commas, as HTTP allows."""
    headers: dict[str, str] = {}
    for name, value in scope["headers"]:
        key, text = name.decode("latin-1"), value.decode("latin-1")
        headers[key] = f"{headers[key]},{text}" if key in headers else text
    return headers


async def client_left(receive: Receive) -> None:
    """Wait until the client has closed the connection. The rest of its body is dropped."""
    while (await receive())["type"] != "http.disconnect":
        pass
