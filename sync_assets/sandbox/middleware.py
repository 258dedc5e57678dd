"""ASGI middleware in front of each system's app: writes the journal, injects faults, adds latency.

The generic kinds of faults and their parameters: `status` (`status`, `body`, in which AUTHORIZATION becomes that header
of the request, `content_type`, `headers`), `throttle` and
`unavailable` (`retry_after` in seconds; null: without that header), `unauthorized`, `slow` (`delay_ms`), `cut_before`
(no answer, not executed), `cut_after` (no answer, executed), `late` (no answer, executed after `seconds`, or
when the rule is removed; the connection is cut after `delay_ms`, by default at once), and those of `bad_answers`.

A system provides its ASGI app, and optionally:

- `refuse(rule) -> Answer | None`: the answer in the system's dialect, for the generic kinds that need a body (throttle,
  unavailable, unauthorized) and for kinds of its own; None for the plain answer below.
- `key(scope, body) -> str | None`: the key of a request's record for the journal, for requests that are answered before
  they reach the app.

The app reports what it did in `scope["state"]`: `engine` (journal.Engine), `key` (of the record) and `fault` (kind of a
fault that the app itself took from `Faults`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass

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


async def cut(scope: Scope, receive: Receive) -> None:
    """Cut the connection without an answer, and wait until the server has noticed."""
    scope[TRANSPORT].abort()
    await client_left(receive)


def plain_answer(rule: Rule) -> Answer:
    """Return the answer of a generic kind, for systems without their own."""
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


def retry_after(rule: Rule) -> tuple[bytes, bytes]:
    """Return the Retry-After header of a rule (parameter `retry_after`, seconds)."""
    return b"retry-after", f"{rule.parameters.get('retry_after', 1):g}".encode()


@dataclass(frozen=True, slots=True)
class Dialect:
    """How one system answers before its app does.

    name: in the journal and in rules. refuse, key: see the module's docstring. kinds: of faults of this system, besides
    the generic ones, that `refuse` answers.
    """

    name: System
    refuse: Callable[[Rule], Answer | None] = lambda rule: None
    kinds: Iterable[str] = ()
    key: Callable[[Scope, bytes], str | None] | None = None


class Observed:
    """ASGI middleware around the app of one system."""

    def __init__(self, app: App, dialect: Dialect, journal: Journal, faults: Faults) -> None:
        """Wrap the app. Each request gets an entry in the journal; the rules of `faults` apply to it."""
        self._app = app
        self._dialect = dialect
        self._journal = journal
        self._faults = faults
        self._kinds = GENERIC_KINDS | frozenset(dialect.kinds)
        faults.register(dialect.name, self._kinds)

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
                    system=self._dialect.name,
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

        try:
            await self._serve(scope, receive, watched, path, note)
        except Exception:
            status = 500  # an error of the sandbox itself; uvicorn answers with this status and logs it
            raise
        finally:
            note()

    async def _serve(self, scope: Scope, receive: Receive, send: Send, path: str, note: Callable[[], None]) -> None:
        """Apply latency and faults, and let the app answer.

        note: writes the journal's entry. Called before a connection is cut, so that a test that notices the cut finds
        the entry.
        """
        bad_answers.unmark(scope)
        if latency := self._faults.latency_ms.get(self._dialect.name):
            await asyncio.sleep(latency / 1000)
        rule = self._faults.take(self._dialect.name, self._kinds, scope["method"], path) if self._faults.rules else None
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
        elif rule.kind == "late":
            body, until = await read_body(receive), time.monotonic() + float(rule.parameters.get("seconds", "inf"))
            with suppress(TimeoutError):
                async with asyncio.timeout(rule.parameters.get("delay_ms", 0) / 1000):
                    await client_left(receive)
            await cut(scope, receive)
            while rule in self._faults.rules and time.monotonic() < until:
                await asyncio.sleep(0.02)
            await self._app(scope, _received(body), _discard)
        elif rule.kind == "cut_after":
            await self._app(scope, receive, _discard)
            note()
            await cut(scope, receive)
        else:
            await self._note_key(scope, receive)
            answer, sent = self._refusal(rule), dict(scope["headers"]).get(b"authorization", b"")
            await send_answer(send, answer._replace(body=answer.body.replace(b"AUTHORIZATION", sent)))

    def _refusal(self, rule: Rule) -> Answer:
        kept = {name: value for name, value in rule.parameters.items() if value is not None}
        rule = msgspec.structs.replace(rule, parameters=kept) if (silent := len(kept) < len(rule.parameters)) else rule
        answer = (rule.kind != "status" and self._dialect.refuse(rule)) or plain_answer(rule)
        if silent and "retry_after" not in kept:
            return answer._replace(headers=[header for header in answer.headers if header[0].lower() != b"retry-after"])
        return answer

    async def _note_key(self, scope: Scope, receive: Receive) -> None:
        """Set the record's key for the journal, for a request that does not reach the app."""
        if self._dialect.key is not None:
            scope["state"]["key"] = self._dialect.key(scope, await read_body(receive))


def _received(body: bytes) -> Receive:
    """Return a `receive` for a request whose body was read already."""

    async def receive() -> Message:
        return {"type": "http.request", "body": body}

    return receive


async def _discard(message: Message) -> None:
    """Drop a message of an answer that must not reach the client."""
