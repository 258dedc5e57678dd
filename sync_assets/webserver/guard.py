"""ASGI application that keeps other web pages from driving Dagster's UI through the browser of its user.

Dagster's web server executes mutations that are sent by GET, reads the names of hosts and origins nowhere, and accepts
WebSockets from any page. Its log-in, if a proxy has one, does not help: the browser sends the cookie with each request.

Here: which requests pass, by their head and the application's routes, and the application that wraps Dagster's and
applies this. Not here: who may use the UI. Programs that send no `Origin` (curl, Dagster's GraphQL client) pass if they
name an allowed host.
"""

import ipaddress
import re
from collections.abc import Collection, Iterable
from typing import NamedTuple

from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.routing import BaseRoute, Match
from starlette.types import Message, Receive, Scope, Send

from sync_assets.errors import SyncAssetsError

HOSTS_VARIABLE = "SYNC_ASSETS_UI_HOSTS"
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
DEFAULT_PORTS = ("80", "443")
AUTHORITY = re.compile(r"(?P<name>\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::(?P<port>\d{1,5}))?", re.IGNORECASE)
ORIGIN = re.compile(r"https?://(?P<authority>[^/?#@]+)", re.IGNORECASE)
CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
EXECUTES = frozenset({"GET", "POST"})
"""Methods of a route that executes by GET what it executes by POST. Of Dagster's routes only GraphQL's has both."""
SECURITY_HEADERS = {
    "X-Frame-Options": "SAMEORIGIN",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
}
"""Added where Dagster sends none of its own. Dagster shows notebooks in frames of its own origin."""
FRAMES = "frame-ancestors 'self'"
"""In a policy of its own: a browser obeys each of several policies."""


class Refusal(NamedTuple):
    """Why a request is refused: HTTP status, and a sentence for the person or program that sent it."""

    status: int
    reason: str


UNKNOWN_HOST = Refusal(
    421,
    "This server is not known by the host name of the request: open it by localhost or its IP address, or list the "
    f"name, with its port if the address shows one, in {HOSTS_VARIABLE}.",
)
OTHER_SITE = Refusal(403, "The request comes from a page of another site: use the pages of this server.")
NOT_JSON = Refusal(415, "Requests that change something have the content type application/json.")
CONTROL_CHARACTER = Refusal(400, "The path has a control character.")
QUERY_BY_GET = Refusal(403, "GraphQL is not executed by GET: send it by POST as application/json.")


class Host(NamedTuple):
    """A host name or address in lower case, and its port; None for the default port of http or https."""

    name: str
    port: str | None

    @property
    def is_local_or_address(self) -> bool:
        """Return True for localhost and IP addresses. A page that rebinds its name to us still sends that name."""
        if self.name == "localhost":
            return True
        try:
            ipaddress.ip_address(self.name.strip("[]"))
        except ValueError:
            return False
        return True


class UiGuard:
    """Answers requests that are not for this server, or come from another site, in place of the application."""

    def __init__(self, app: Starlette, hosts: Collection[Host] = ()) -> None:
        self._app = app
        self._hosts = frozenset(hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
        elif refused := refusal(scope, self._hosts, self._app.routes):
            await _refuse(refused, scope, receive, send)
        else:
            await self._app(scope, receive, _secured(send))


def allowed_hosts(listed: str) -> frozenset[Host]:
    """Return the hosts of a comma-separated list.

    Raises:
        SyncAssetsError: An entry is no host name, with or without a port.
    """
    hosts = set[Host]()
    for number, entry in enumerate(listed.split(","), start=1):
        if not entry.strip():
            continue
        host = _host(entry.strip())
        if host is None:
            raise SyncAssetsError(
                f"{HOSTS_VARIABLE}: entry {number} is no host name.",
                "Write what the browser's address shows between https:// and the next slash, e.g. sync.example.org.",
            )
        hosts.add(host)
    return frozenset(hosts)


def refusal(scope: Scope, hosts: Collection[Host], routes: Iterable[BaseRoute] = ()) -> Refusal | None:
    """Return why a request or a WebSocket is refused, None if it may pass.

    Args:
        scope: Of ASGI, of type http or websocket.
        hosts: Allowed besides localhost and IP addresses. Of these any port is: tunnels and containers map ports.
        routes: Of the guarded application.
    """
    headers = Headers(scope=scope)
    named = headers.getlist("host")
    host = _host(named[0]) if len(named) == 1 else None
    if host is None or not (host in hosts or host.is_local_or_address):
        return UNKNOWN_HOST
    if CONTROLS.search(scope["path"]):  # decoded; a route's pattern ends before a line feed, and no page has one
        return CONTROL_CHARACTER
    if scope["type"] == "http" and scope["method"] in SAFE_METHODS:
        return _refusal_to_read(scope, headers, routes)
    if not _is_from_own_page(headers, {host, *hosts}):
        return OTHER_SITE
    # No form of another site can send JSON as its only content type. Dagster looks for the words anywhere in the
    # header; `text/plain; application/json` has them.
    types = [kind.partition(";")[0].strip().lower() for kind in headers.getlist("content-type")]
    return None if scope["type"] == "websocket" or types == ["application/json"] else NOT_JSON


def _refusal_to_read(scope: Scope, headers: Headers, routes: Iterable[BaseRoute]) -> Refusal | None:
    opened = (headers.get("sec-fetch-mode"), headers.get("sec-fetch-dest")) == ("navigate", "document")
    if not opened and any(site not in ("same-origin", "none") for site in headers.getlist("sec-fetch-site")):
        return OTHER_SITE  # it may link to the UI, but neither frame it nor load parts of it
    # Dagster answers a GET that accepts HTML with its query editor, which executes nothing by itself, and executes the
    # query of any other GET. It decides by the same test.
    if "text/html" not in headers.get("accept", "") and _executes(routes, scope):
        return QUERY_BY_GET
    return None


def _executes(routes: Iterable[BaseRoute], scope: Scope) -> bool:
    """Return True if a route that executes queries matches, by the router's own patterns and in any order."""
    for route in routes:
        match, within = route.matches(scope)
        methods = getattr(route, "methods", ())  # None: any
        executes = methods is None or EXECUTES.issubset(methods)
        if match is not Match.NONE and (executes or _executes(getattr(route, "routes", ()), {**scope, **within})):
            return True
    return False


def _is_from_own_page(headers: Headers, hosts: Collection[Host]) -> bool:
    """Return True if a page of this server sent the request, or a program that is no browser.

    Each browser sends `Origin` with WebSockets and with what may change something. A proxy may replace `Host`; then the
    origin has to be one of the hosts that are listed.
    """
    if any(site != "same-origin" for site in headers.getlist("sec-fetch-site")):
        return False
    origins = [ORIGIN.fullmatch(origin) for origin in headers.getlist("origin")]  # `null` is none
    return all(origin and _host(origin["authority"]) in hosts for origin in origins)


def _host(text: str) -> Host | None:
    """Return the host of `name`, `name:port`, or the same with an IP address; None if it is none of these."""
    match = AUTHORITY.fullmatch(text)
    if not match:
        return None
    return Host(match["name"].lower(), None if match["port"] in DEFAULT_PORTS else match["port"])


async def _refuse(refused: Refusal, scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket" and "websocket.http.response" not in scope.get("extensions", {}):
        await send({"type": "websocket.close", "code": 1008, "reason": ""})  # the server answers 403
        return
    answer = PlainTextResponse(f"Refused by sync_assets. {refused.reason}\n", refused.status)
    await answer(scope, receive, _secured(send))


def _secured(send: Send) -> Send:
    """Return `send` that adds the security headers to each answer."""

    async def sending(message: Message) -> None:
        if message["type"] in ("http.response.start", "websocket.http.response.start"):
            headers = MutableHeaders(scope=message)
            for name, value in SECURITY_HEADERS.items():
                headers.setdefault(name, value)
            headers.append("Content-Security-Policy", FRAMES)
        await send(message)

    return sending
