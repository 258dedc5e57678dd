"""Pages of other sites try to drive the UI through a real browser: with Dagster's web server they do, with ours not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from sync_assets_tests.flows.browser.ui import FLAGS, PATIENCE
from sync_assets_tests.flows.browser.web_servers import (
    ATTACKS,
    DAGSTERS_OWN,
    LISTED,
    OPENS_A_WEB_SOCKET,
    PAUSE,
    WebServer,
    acknowledged,
    another_site,
    web_server,
)

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.slow  # the guard answers the same requests in unit/webserver; here browsers send them

EVIL, REBOUND = "evil.example", "rebound.example"
"""Names that the browser resolves to this machine."""


@pytest.fixture(scope="module")
def unguarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebServer]:
    with web_server(tmp_path_factory.mktemp("unguarded"), DAGSTERS_OWN) as server:
        yield server


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebServer]:
    with web_server(tmp_path_factory.mktemp("guarded")) as server:
        yield server


@pytest.fixture(scope="module")
def browser(browser_path: str) -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright

    resolved = ", ".join(f"MAP {name} 127.0.0.1" for name in (EVIL, REBOUND, LISTED))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=browser_path, args=[*FLAGS, f"--host-resolver-rules={resolved}"]
        )
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def site() -> Iterator[int]:
    with another_site() as port:
        yield port


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    page = browser.new_page()
    page.set_default_timeout(PATIENCE)
    yield page
    page.close()


@pytest.fixture(params=[EVIL, "127.0.0.1"], ids=["another site", "another port of this machine"])
def attacker(request: pytest.FixtureRequest, page: Page, site: int) -> Page:
    """A page of another origin."""
    page.goto(f"http://{request.param}:{site}/")
    return page


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_page_of_another_origin_changes_nothing(
    attack: str, attacker: Page, unguarded: WebServer, guarded: WebServer
) -> None:
    for address in ("graphql", "graphql_by_name"):
        for server in (unguarded, guarded):
            server.resume()
            attacker.evaluate(ATTACKS[attack], [getattr(server, address), PAUSE])
        assert (unguarded.paused, guarded.paused) == (True, False), address


def test_a_page_of_another_origin_opens_no_web_socket(attacker: Page, unguarded: WebServer, guarded: WebServer) -> None:
    assert acknowledged(attacker.evaluate(OPENS_A_WEB_SOCKET, unguarded.graphql))
    assert not acknowledged(attacker.evaluate(OPENS_A_WEB_SOCKET, guarded.graphql))


def test_a_page_of_another_origin_cannot_put_the_ui_into_a_frame(
    attacker: Page, unguarded: WebServer, guarded: WebServer
) -> None:
    shows = """url => new Promise(done => {
        const frame = document.body.appendChild(document.createElement('iframe'));
        frame.onload = done;
        frame.src = url;
    })"""
    for server in (unguarded, guarded):
        attacker.evaluate(shows, f"{server.url}/runs")
    _, first, second = attacker.frames
    assert [frame.locator("#__next").count() for frame in (first, second)] == [1, 0]


def test_a_name_that_was_rebound_to_this_machine_reaches_nothing(
    page: Page, unguarded: WebServer, guarded: WebServer
) -> None:
    posts = """query => fetch('/graphql', {method: 'POST', body: JSON.stringify({query}),
                                           headers: {'Content-Type': 'application/json'}}).then(one => one.status)"""
    for server, status in ((unguarded, 200), (guarded, 421)):
        server.resume()
        opened = page.goto(f"http://{REBOUND}:{server.port}/")
        assert opened
        assert (opened.status, page.evaluate(posts, PAUSE)) == (status, status)
        assert server.paused == (status == 200)
        assert acknowledged(page.evaluate(OPENS_A_WEB_SOCKET, server.graphql)) == (status == 200)


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1"])
def test_the_ui_changes_things_and_has_its_web_socket_by_each_name_of_this_machine(
    name: str, page: Page, guarded: WebServer
) -> None:
    guarded.resume()
    page.goto(f"http://{name}:{guarded.port}/health")
    graphql = f"http://{name}:{guarded.port}/graphql"
    page.evaluate(
        """query => fetch('/graphql', {method: 'POST', body: JSON.stringify({query}),
                                       headers: {'Content-Type': 'application/json'}})""",
        PAUSE,
    )
    assert guarded.paused
    assert acknowledged(page.evaluate(OPENS_A_WEB_SOCKET, graphql))
