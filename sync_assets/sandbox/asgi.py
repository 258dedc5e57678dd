"""ASGI as the sandbox uses it: the types of an app, whole answers, whole bodies. No rules of any system."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, NamedTuple

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

TRANSPORT = "sandbox.transport"
"""key in the scope under which the listener puts the connection's asyncio transport"""


class Answer(NamedTuple):
    """A complete HTTP answer; content-length is added when it is sent."""

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
    """Serves a request without sending what the app answers."""
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
    """The whole body, or as much as came before the client went away."""
    message = await receive()
    body = message.get("body", b"")
    while message.get("more_body", False):
        message = await receive()
        body += message.get("body", b"")
    return body


async def client_left(receive: Receive) -> None:
    """Returns once the client has closed the connection; what is left of its body is dropped."""
    while (await receive())["type"] != "http.disconnect":
        pass
