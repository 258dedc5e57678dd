"""What stands before each system's app: journal, injected faults, latency.

The generic kinds and their parameters: `status` (`status`, `body`, `content_type`, `headers`), `throttle` and
`unavailable` (`retry_after` in seconds; null: without that header), `unauthorized`, `slow` (`delay_ms`), `cut_before`,
`cut_after`, and those of `bad_answers`.

A system hands over its ASGI app and, where it has a dialect of its own, `refuse(rule) -> Answer | None` for the kinds
in `GENERIC_KINDS` that need a body (throttle, unavailable, unauthorized) and for kinds that it answers as a whole;
None means the plain answer below. The app tells what it did through `scope["state"]`: `engine` (journal.Engine), `key`
(record key) and `fault` (a fault that it took from `Faults` itself). For requests that are refused before they reach
the app, a system may hand over `key(scope, body) -> str | None`, so that the journal knows what they were about.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import Protocol

import msgspec

from sync_assets.sandbox import bad_answers
from sync_assets.sandbox.asgi import (
    TRANSPORT,
    Answer,
    App,
    Message,
    Receive,
    Scope,
    Send,
    client_left,
    read_body,
    send_answer,
)
from sync_assets.sandbox.faults import GENERIC_KINDS, Faults, Rule
from sync_assets.sandbox.journal import Entry, Journal, System


class Gate(Protocol):
    """Admission control of a system, e.g. its request limits; sees requests before latency and faults."""

    def enter(self, scope: Scope) -> Answer | None:
        """None: admitted, `leave` will follow. Otherwise the refusal."""
        ...

    def leave(self, scope: Scope, seconds: float) -> None: ...


async def cut(scope: Scope, receive: Receive) -> None:
    """Drops the connection without an answer and returns once the server has noticed."""
    scope[TRANSPORT].abort()
    await client_left(receive)


def plain_answer(rule: Rule) -> Answer:
    """The answer of a generic kind for a system without a dialect of its own."""
    parameters = rule.parameters
    if rule.kind == "status":
        headers = {"content-type": parameters.get("content_type", "text/plain"), **parameters.get("headers", {})}
        return Answer(
            int(parameters.get("status", 500)),
            [(str(name).encode(), str(value).encode()) for name, value in headers.items()],
            str(parameters.get("body", "")).encode(),
        )
    text = [(b"content-type", b"text/plain")]
    if rule.kind == "throttle":
        return Answer(429, [*text, retry_after(rule)], b"Too Many Requests")
    if rule.kind == "unauthorized":
        return Answer(401, [*text, (b"www-authenticate", b"Bearer")], b"Unauthorized")
    wait = [retry_after(rule)] if "retry_after" in parameters else []
    return Answer(503, [*text, *wait], b"Service Unavailable")


def retry_after(rule: Rule, default: float = 1) -> tuple[bytes, bytes]:
    """The Retry-After header that a rule asks for (parameter `retry_after`, seconds)."""
    return b"retry-after", f"{rule.parameters.get('retry_after', default):g}".encode()


class Observed:
    """ASGI middleware around one system."""

    def __init__(
        self,
        app: App,
        system: System,
        journal: Journal,
        faults: Faults,
        *,
        refuse: Callable[[Rule], Answer | None] = lambda rule: None,
        answered_kinds: Iterable[str] = (),
        gate: Gate | None = None,
        key: Callable[[Scope, bytes], str | None] | None = None,
    ) -> None:
        """`answered_kinds`: kinds of this system, beside the generic ones, for which `refuse` gives the answer."""
        self._app = app
        self._system: System = system
        self._journal = journal
        self._faults = faults
        self._refuse = refuse
        self._gate = gate
        self._key = key
        self._kinds = GENERIC_KINDS | frozenset(answered_kinds)
        faults.register(system, self._kinds)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError(f"the sandbox speaks HTTP only, not {scope['type']}")
        began = time.monotonic_ns()
        path = scope["raw_path"].decode("ascii", "replace")
        if scope["query_string"]:
            path = f"{path}?{scope['query_string'].decode('ascii', 'replace')}"
        status = 0
        answered: int | None = None

        async def watched(message: Message) -> None:
            nonlocal status, answered
            if message["type"] == "http.response.start":
                status = message["status"]
                answered = time.monotonic_ns()
            await send(message)

        noted = False

        def note() -> None:
            nonlocal noted
            if noted:
                return
            noted = True
            state = scope["state"]
            self._journal.add(
                Entry(
                    system=self._system,
                    method=scope["method"],
                    path=path,
                    status=status,
                    ms=round((time.monotonic_ns() - began) / 1e6, 3),
                    engine=state.get("engine"),
                    key=state.get("key"),
                    fault=state.get("fault"),
                    began=began,
                    answered=answered,
                )
            )

        refusal = self._gate.enter(scope) if self._gate else None
        try:
            if refusal is not None:
                await send_answer(watched, refusal)
            else:
                await self._serve(scope, receive, watched, path, note)
        except Exception:
            status = 500  # a bug of the sandbox: uvicorn answers and logs it
            raise
        finally:
            if self._gate and refusal is None:
                self._gate.leave(scope, (time.monotonic_ns() - began) / 1e9)
            note()

    async def _serve(self, scope: Scope, receive: Receive, send: Send, path: str, note: Callable[[], None]) -> None:
        """`note` writes the journal's entry: before a connection is cut, so that who notices the cut finds it."""
        bad_answers.unmark(scope)
        if latency := self._faults.latency_ms.get(self._system):
            await asyncio.sleep(latency / 1000)
        rule = self._faults.take(self._system, self._kinds, scope["method"], path) if self._faults.rules else None
        if rule is None:
            await self._app(scope, receive, send)
            return
        scope["state"]["fault"] = rule.kind
        if rule.kind == "slow":
            await asyncio.sleep(rule.parameters.get("delay_ms", 1000) / 1000)
            await self._app(scope, receive, send)
        elif rule.kind in bad_answers.KINDS:
            if not bad_answers.executes(rule):
                await self._note_key(scope, receive)
            await bad_answers.serve(rule, self._app, scope, receive, send)
        elif rule.kind == "cut_before":
            await self._note_key(scope, receive)
            note()
            await cut(scope, receive)
        elif rule.kind == "cut_after":
            await self._app(scope, receive, _discard)
            note()
            await cut(scope, receive)
        else:
            await self._note_key(scope, receive)
            await send_answer(send, self._refusal(rule))

    def _refusal(self, rule: Rule) -> Answer:
        told = {name: value for name, value in rule.parameters.items() if value is not None}
        rule = msgspec.structs.replace(rule, parameters=told) if (silent := len(told) < len(rule.parameters)) else rule
        answer = (rule.kind != "status" and self._refuse(rule)) or plain_answer(rule)
        if silent and "retry_after" not in told:
            return answer._replace(headers=[h for h in answer.headers if h[0].lower() != b"retry-after"])
        return answer

    async def _note_key(self, scope: Scope, receive: Receive) -> None:
        """For a request that the app never sees."""
        if self._key is not None:
            scope["state"]["key"] = self._key(scope, await read_body(receive))


async def _discard(message: Message) -> None:
    """Takes an answer that nobody is to receive."""
