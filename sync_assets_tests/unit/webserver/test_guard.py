"""Which requests may reach Dagster's web server: a table of request heads and answers."""

from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import BaseRoute, Mount, Route, WebSocketRoute
from starlette.websockets import WebSocket

from sync_assets.errors import SyncAssetsError
from sync_assets.webserver.guard import UiGuard, allowed_hosts, refusal

LISTED = "sync.example, tunnel.example:8443"
HERE = "127.0.0.1:3000"
JSON = "application/json"
HTML = "text/html,*/*;q=0.8"


Values = Mapping[str, str | list[str]]
"""Names of headers, with underscores, and their values."""


def page(request: Request) -> PlainTextResponse:
    return PlainTextResponse("page", headers={"Referrer-Policy": "no-referrer", "Content-Security-Policy": "a"})


ROUTES: list[BaseRoute] = [Route("/graphql", page, methods=["GET", "POST"]), Route("/{path:path}", page)]
APP = Starlette(routes=[Mount("/prefix", routes=ROUTES), *ROUTES])


def asked(kind: str, headers: Values, host: str | None = HERE, path: str = "/graphql") -> int | None:
    """Return the status of the refusal, None if the request passes. kind: method, or WEBSOCKET."""
    given: list[tuple[bytes, bytes]] = [] if host is None else [(b"host", host.encode())]
    for name, values in headers.items():
        for value in [values] if isinstance(values, str) else values:
            given.append((name.replace("_", "-").encode(), value.encode()))
    scope: dict[str, Any] = {"type": "http", "method": kind, "path": path, "headers": given}
    if kind == "WEBSOCKET":
        scope = {"type": "websocket", "path": path, "headers": given}
    refused = refusal(scope, allowed_hosts(LISTED), APP.routes)
    return refused.status if refused else None


@pytest.mark.parametrize(
    "host",
    [
        "localhost", "localhost:3000", "LOCALHOST:3000", "localhost:8080", "127.0.0.1", "127.0.0.1:3000", "[::1]:3000",
        "[::1]", "10.0.0.7:3000", "0.0.0.0:3000", "sync.example", "Sync.Example", "sync.example:443", "sync.example:80",
        "tunnel.example:8443",
    ],
)  # fmt: skip
def test_localhost_addresses_and_listed_names_are_this_server(host: str) -> None:
    own = {"origin": f"https://{host}", "sec_fetch_site": "same-origin"}
    assert asked("GET", {}, host, "/") is None
    assert asked("POST", {"content_type": JSON, **own}, host) is None
    assert asked("WEBSOCKET", own, host) is None


@pytest.mark.parametrize(
    "host",
    [
        None, "", "evil.example", "evil.example:3000", "localhost.evil.example", "127.0.0.1.evil.example", "127.1",
        "localhost.", "a.localhost", "sync.example:3000", "a.sync.example", "tunnel.example", "user@localhost",
        "localhost:3000:1", "localhost:port", "localhost/", "[::1", "[evil]", "localhost localhost", "0x7f.0.0.1",
    ],
)  # fmt: skip
def test_any_other_name_is_not_as_dns_rebinding_uses_it(host: str | None) -> None:
    for kind in ("GET", "HEAD", "OPTIONS", "POST", "WEBSOCKET"):
        assert asked(kind, {"content_type": JSON}, host) == 421, kind


def test_two_hosts_are_none() -> None:
    headers = [(b"host", b"localhost"), (b"host", b"evil.example")]
    assert refusal({"type": "http", "method": "GET", "path": "/", "headers": headers}, set())


ORIGINS: list[tuple[Values, bool]] = [
    ({}, True),  # a program, which is no browser
    ({"origin": f"http://{HERE}"}, True),
    ({"origin": f"http://{HERE}", "sec_fetch_site": "same-origin"}, True),
    ({"origin": "https://sync.example", "sec_fetch_site": "same-origin"}, True),  # a proxy that replaces the host
    ({"origin": "https://tunnel.example:8443"}, True),
    ({"origin": "null"}, False),
    ({"origin": ""}, False),
    ({"origin": "http://127.0.0.1:3001"}, False),
    ({"origin": "http://127.0.0.1"}, False),
    ({"origin": "http://localhost:3000"}, False),
    ({"origin": "https://evil.example"}, False),
    ({"origin": "https://sync.example:8443"}, False),
    ({"origin": "https://sync.example.evil.example"}, False),
    ({"origin": f"http://{HERE}@evil.example"}, False),
    ({"origin": f"http://{HERE}/"}, False),
    ({"origin": f"file://{HERE}"}, False),
    ({"origin": [f"http://{HERE}", "https://evil.example"]}, False),
    ({"origin": f"http://{HERE}", "sec_fetch_site": "same-site"}, False),
    ({"origin": f"http://{HERE}", "sec_fetch_site": "cross-site"}, False),
    ({"sec_fetch_site": "cross-site"}, False),
    ({"sec_fetch_site": "same-site"}, False),
    ({"sec_fetch_site": "none"}, False),
    ({"sec_fetch_site": ["same-origin", "cross-site"]}, False),
]  # fmt: skip


def test_a_mutation_comes_from_a_page_of_this_server_or_from_a_program() -> None:
    for kind in ("POST", "PUT", "PATCH", "DELETE", "WEBSOCKET"):
        for headers, passes in ORIGINS:
            assert asked(kind, {"content_type": JSON, **headers}) == (None if passes else 403), (kind, headers)


@pytest.mark.parametrize(
    ("content_type", "passes"),
    [
        (JSON, True),
        ("application/json; charset=utf-8", True),
        ("Application/JSON", True),
        ([], False),
        ("", False),
        ("text/plain", False),
        ("text/plain; application/json", False),
        ("text/plain;charset=application/json", False),
        ("application/x-www-form-urlencoded", False),
        ("multipart/form-data; boundary=application/json", False),
        ("application/graphql", False),
        ("application/json, text/plain", False),
        ([JSON, "text/plain"], False),
    ],
)
def test_a_post_is_json(content_type: str | list[str], passes: bool) -> None:
    for path in ("/graphql", "/report_asset_materialization/d365/contact"):
        assert asked("POST", {"content_type": content_type}, path=path) == (None if passes else 415)


@pytest.mark.parametrize("path", ["/graphql", "/prefix/graphql"])
def test_a_get_executes_no_query_but_opens_the_query_editor(path: str) -> None:
    assert asked("GET", {"accept": "*/*"}, path=path) == 403
    assert asked("GET", {}, path=path) == 403
    assert asked("GET", {"accept": ["*/*", HTML]}, path=path) == 403  # Dagster reads the first one
    assert asked("HEAD", {"accept": "*/*"}, path=path) == 403
    assert asked("GET", {"accept": HTML}, path=path) is None


SITES = [
    ("same-origin", "cors", "empty", True),
    ("same-origin", "no-cors", "script", True),
    ("same-origin", "navigate", "iframe", True),
    ("none", "navigate", "document", True),
    ("cross-site", "navigate", "document", True),
    ("same-site", "navigate", "document", True),
    ("cross-site", "navigate", "iframe", False),
    ("cross-site", "navigate", "object", False),
    ("same-site", "navigate", "iframe", False),
    ("cross-site", "no-cors", "script", False),
    ("cross-site", "no-cors", "image", False),
    ("same-site", "cors", "empty", False),
    ("cross-site", "cors", "document", False),
]


def test_another_site_may_link_to_a_page_and_load_nothing() -> None:
    paths = ("/", "/runs", "/logs/run/compute/step.out", "/download_debug/run", "/_next/x.js")
    for path, (site, mode, dest, passes) in product(paths, SITES):
        given = {"sec_fetch_site": site, "sec_fetch_mode": mode, "sec_fetch_dest": dest}
        assert asked("GET", given, path=path) == (None if passes else 403)


@pytest.mark.parametrize(
    ("listed", "hosts"),
    [
        ("", 0),
        (" , ", 0),
        ("sync.example", 1),
        ("sync.example:443, sync.example:80,SYNC.example", 1),
        ("sync.example:8443,sync.example,[fd00::1]:3000", 3),
    ],
)
def test_hosts_are_listed_with_commas(listed: str, hosts: int) -> None:
    assert len(allowed_hosts(listed)) == hosts


@pytest.mark.parametrize(
    "entry", ["https://sync.example", "sync.example/path", "*.example", "a b", "sync.example:https"]
)
def test_a_value_that_is_no_host_is_refused_with_place_and_remedy(entry: str) -> None:
    with pytest.raises(SyncAssetsError, match=r"SYNC_ASSETS_UI_HOSTS: entry 2 is no host name\. Write"):
        allowed_hosts(f"sync.example,{entry}")


SPELLINGS = [
    *(f"%{number:02X}" for number in range(0x20)), "%7F", "%C2%85", "%E2%80%A8", "%E2%80%A9", "/", "//", "/.", "/..",
    "/../graphql", ";", ";a", "%20", "%2F", "%3F", "%23", "%25", "%250A", "%5C", ".", "%EF%BF%BD", "%0A%0A", "%0D%0A",
]  # fmt: skip
"""Ends of a path that a router, a proxy or a file system may take for none."""


@pytest.mark.parametrize("prefix", ["", "/prefix"])
async def test_no_spelling_of_a_path_lets_dagsters_own_application_execute_a_get(
    monkeypatch: pytest.MonkeyPatch, prefix: str
) -> None:
    from dagster_webserver.webserver import DagsterWebserver  # a second that each worker would pay

    executed = set[str]()

    async def execute(self: Any, request: Request, **_: Any) -> JSONResponse:
        executed.add(request.scope["path"])
        return JSONResponse({})

    monkeypatch.setattr(DagsterWebserver, "execute_graphql_request", execute)
    context: Any = None
    application = DagsterWebserver(context, prefix)
    routes = sorted({path.partition("{")[0] for path in _paths(application.build_routes())} | {"/", "//graphql"})
    assert f"{prefix}/graphql" in routes
    passed: dict[bool, set[str]] = {}
    for guarded in (False, True):
        app = application.create_asgi_app()
        transport = httpx.ASGITransport(UiGuard(app) if guarded else app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            for path, end in product(routes, ["", *SPELLINGS]):
                raw = f"{path}{end}?query=mutation"
                await client.get(httpx.URL("http://localhost").copy_with(raw_path=raw.encode()))
        passed[guarded] = {*executed}
        executed.clear()
    unguarded = {f"{prefix}/graphql"} if prefix else {"/graphql", "/graphql\n"}
    assert passed == {False: unguarded, True: set()}


def _paths(routes: list[BaseRoute], above: str = "") -> Iterator[str]:
    for route in routes:
        yield above + getattr(route, "path", "")
        yield from _paths(getattr(route, "routes", []), above + getattr(route, "path", ""))


@pytest.mark.parametrize("kind", ["GET", "POST", "WEBSOCKET"])
def test_a_path_with_a_control_character_is_refused(kind: str) -> None:
    for character in ("\x00", "\t", "\n", "\r", "\x1f", "\x7f", "\x85", "\u2028", "\u2029"):
        for path in (f"/graphql{character}", f"/ru{character}ns", character):
            assert asked(kind, {"content_type": JSON, "accept": HTML}, path=path) == 400, quote(path)
    assert asked(kind, {"content_type": JSON, "accept": HTML}, path="/locations/é €") is None


async def socket(socket: WebSocket) -> None:
    await socket.accept()
    await socket.close()


def guarded() -> UiGuard:
    return UiGuard(Starlette(routes=[Route("/", page), WebSocketRoute("/graphql", socket)]), allowed_hosts(LISTED))


async def answer(**headers: str) -> httpx.Response:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(guarded()), base_url="http://localhost") as client:
        return await client.get("/", headers=headers)


async def test_an_answer_has_the_security_headers_and_keeps_those_of_the_application() -> None:
    passed = await answer()
    assert (passed.status_code, passed.text) == (200, "page")
    assert passed.headers["X-Frame-Options"] == "SAMEORIGIN"
    assert passed.headers["X-Content-Type-Options"] == "nosniff"
    assert passed.headers["Referrer-Policy"] == "no-referrer"
    assert passed.headers.get_list("Content-Security-Policy") == ["a", "frame-ancestors 'self'"]


async def test_a_refusal_is_one_sentence_that_repeats_nothing_of_the_request() -> None:
    refused = await answer(Host="evil.example")
    assert refused.status_code == 421
    assert refused.text.startswith("Refused by sync_assets. This server is not known by the host name")
    assert "evil" not in refused.text
    assert refused.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    ("origin", "extensions", "first"),
    [
        ("http://localhost", {}, "websocket.accept"),
        ("https://evil.example", {"websocket.http.response": {}}, "websocket.http.response.start"),
        ("https://evil.example", {}, "websocket.close"),  # the server makes 403 of it
    ],
)
async def test_a_web_socket_is_accepted_or_refused_before_it_is_open(
    origin: str, extensions: dict[str, Any], first: str
) -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    headers = [(b"host", b"localhost"), (b"origin", origin.encode())]
    scope = {"type": "websocket", "path": "/graphql", "headers": headers, "extensions": extensions}
    await guarded()(scope, receive, send)
    assert sent[0]["type"] == first
    assert sent[0].get("status", 403) == 403
