"""The sandbox's admin interface: plain HTTP on loopback, for tests and for people who try the sandbox.

Here: routes for all systems. Each system adds its own routes. An invalid request is answered with status 400 and
`{"error": <reason>}`; one that a page of another site made a browser send, with status 403.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeVar

import msgspec
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from sync_assets.sandbox.faults import BadRule, Faults
from sync_assets.sandbox.journal import Journal


class BadRequest(ValueError):
    """Raised for an invalid request to the admin interface. The message is the reason."""


T = TypeVar("T", bound=msgspec.Struct)

_encode = msgspec.json.Encoder(decimal_format="number").encode


def json_response(document: Any, status: int = 200) -> Response:
    return Response(_encode(document), status, media_type="application/json")


async def json_body(request: Request) -> dict[str, Any]:
    """Return the body, which must be a JSON object; an empty body is an empty object. Raises BadRequest."""
    body = await request.body()
    try:
        document = msgspec.json.decode(body) if body else {}
    except msgspec.DecodeError as error:
        raise BadRequest(f"the body is not JSON: {error}") from None
    if not isinstance(document, dict):
        raise BadRequest("the body must be a JSON object")
    return document


def body_of(shape: type[T], document: object) -> T:
    """Return a body as the structure that a route expects. Raises BadRequest, which names what is expected."""
    try:
        return msgspec.convert(document, shape)
    except msgspec.ValidationError as error:
        bases = reversed(shape.__mro__)  # annotations are as they are written, like `list[str] | None`
        kinds = {name: kind for base in bases for name, kind in vars(base).get("__annotations__", {}).items()}
        fields = ", ".join(
            f'"{field.name}": {kinds[field.name]}{"" if field.required else " (optional)"}'
            for field in msgspec.structs.fields(shape)
        )
        raise BadRequest(f"{error}. Expected: {{{fields}}}") from None


def number_from(values: dict[str, Any], name: str, default: float) -> float:
    """Return a setting that must be a finite number of 0 or more. Raises BadRequest."""
    value = values.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= sys.float_info.max:
        raise BadRequest(f"{name} must be a number of 0 or more, not {value!r}")
    return float(value)


class _Rules(msgspec.Struct, forbid_unknown_fields=True):
    rules: list[dict[str, Any]]


class _Outage(msgspec.Struct, forbid_unknown_fields=True):
    seconds: float = 1


class _OwnPagesOnly:
    """Refuses requests that a page of another site made a browser send: they name its host or its origin.

    Host: a name of another site may resolve to the loopback address (DNS rebinding). Origin: browsers add it to each
    POST and DELETE of a page.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            headers = Headers(scope=scope)
            host = headers.get("host", "")
            if not _LOOPBACK.fullmatch(host):
                await json_response({"error": "the Host must be localhost or 127.0.0.1"}, 403)(scope, receive, send)
                return
            if any(origin != f"http://{host}" for origin in headers.getlist("origin")):
                await json_response({"error": "the Origin is another site"}, 403)(scope, receive, send)
                return
        await self._app(scope, receive, send)


_LOOPBACK = re.compile(r"(?:localhost|127\.0\.0\.1|\[::1\])(?::[0-9]{1,5})?", re.IGNORECASE)


def admin_app(
    journal: Journal,
    faults: Faults,
    totals: Callable[[], dict[str, Any]],
    fail: Callable[[float], Awaitable[None]],
    more: Iterable[Route],
) -> Starlette:
    """Return the ASGI app of the admin interface.

    Args:
        journal: Log of requests.
        faults: Rules for injected faults.
        totals: Returns the number of rows and records of each system, for GET /totals.
        fail: Interrupts all systems for a number of seconds, for POST /outage.
        more: Routes of the systems.
    """

    async def endpoints(request: Request) -> Response:
        methods: dict[str, set[str]] = {}
        for route in routes:
            methods.setdefault(route.path, set()).update(route.methods or ())
        return json_response({"endpoints": {path: sorted(names - {"HEAD"}) for path, names in methods.items()}})

    async def health(request: Request) -> Response:
        return json_response({"status": "ok"})

    async def read_journal(request: Request) -> Response:
        """`?system=`: entries of one system. `?since=`: entries after a serial number. `last`: newest serial number."""
        since = request.query_params.get("since", "0")
        if not since.isdecimal():
            raise BadRequest(f"since must be a serial number, not {since!r}")
        entries = journal.entries(request.query_params.get("system"), int(since))
        return json_response({"entries": entries, "last": journal.last})

    async def clear_journal(request: Request) -> Response:
        journal.clear()
        return json_response({})

    async def read_faults(request: Request) -> Response:
        return json_response({"rules": faults.rules, "latency_ms": faults.latency_ms})

    async def add_faults(request: Request) -> Response:
        """Add one rule, or the rules of `{"rules": [...]}`. Answer with their ids."""
        body = await json_body(request)
        rules = body_of(_Rules, body).rules if "rules" in body else [body]
        return json_response({"ids": [faults.add(rule).id for rule in rules]})

    async def clear_faults(request: Request) -> Response:
        faults.clear(request.query_params.get("system"))
        return json_response({})

    async def settings(request: Request) -> Response:
        """`{"<system>": {"latency_ms": 100}, ...}`: set the constant latency of systems."""
        for system, values in (await json_body(request)).items():
            if not isinstance(values, dict) or set(values) - {"latency_ms"}:
                raise BadRequest(
                    f"settings of {system}: this request sets latency_ms only; /{system}/settings sets the others"
                )
            if system not in faults.systems:
                raise BadRequest(f"there is no system {system!r}; one of: {', '.join(faults.systems)}")
            faults.latency_ms[system] = number_from(values, "latency_ms", 0)
        return json_response({system: {"latency_ms": ms} for system, ms in faults.latency_ms.items()})

    async def read_totals(request: Request) -> Response:
        calls: dict[str, dict[str, int]] = {}
        for (system, kind), number in journal.engine_calls.items():
            calls.setdefault(system, {})[kind] = number
        return json_response({**totals(), "requests": journal.requests, "engine_calls": calls})

    async def outage(request: Request) -> Response:
        """`{"seconds": 1}`: interrupt all systems as by kill -9, and restart them with their data after this time.

        The answer is sent after the restart.
        """
        seconds = body_of(_Outage, await json_body(request)).seconds
        if not 0 <= seconds <= 60:
            raise BadRequest(f"the seconds of an outage are a number up to 60, not {seconds!r}")
        await fail(seconds)
        return json_response({})

    async def mistake(request: Request, error: Exception) -> Response:
        return json_response({"error": str(error)}, 400)

    async def misshapen(request: Request, error: Exception) -> Response:
        return json_response({"error": f"the body does not fit this request ({type(error).__name__}: {error})"}, 400)

    routes = [
        Route("/", endpoints),
        Route("/health", health),
        Route("/journal", read_journal),
        Route("/journal", clear_journal, methods=["DELETE"]),
        Route("/faults", read_faults),
        Route("/faults", add_faults, methods=["POST"]),
        Route("/faults", clear_faults, methods=["DELETE"]),
        Route("/settings", settings, methods=["POST"]),
        Route("/totals", read_totals),
        Route("/outage", outage, methods=["POST"]),
        *more,
    ]
    return Starlette(
        routes=routes,
        middleware=[Middleware(_OwnPagesOnly)],
        exception_handlers={
            BadRequest: mistake,
            BadRule: mistake,
            **dict.fromkeys((ValueError, TypeError, KeyError, AttributeError, OverflowError), misshapen),
        },
    )
