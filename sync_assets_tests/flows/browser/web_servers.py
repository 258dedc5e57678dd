"""Dagster's web server alone, guarded and as Dagster brings it, and pages of other sites for the same browser."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx

from sync_assets.webserver.guard import HOSTS_VARIABLE
from sync_assets_tests.flows.deploy.services import free_port
from sync_assets_tests.support.program import OURS
from sync_assets_tests.support.waiting import until

DAGSTERS_OWN = ("-m", "dagster_webserver")
OURS_GUARDED = ("-m", "sync_assets.cli", "web")
START_SECONDS = 60.0
LISTED = "ui.example"
"""A name of the guarded server. By plain http a browser sends no `Sec-Fetch-Site` but to the loopback."""
PAUSE = "mutation { setAutoMaterializePaused(paused: true) }"
"""Changes the instance, and needs no code location."""


class WebServer:
    """A running web server without code locations."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.graphql = f"{self.url}/graphql"
        self.graphql_by_name = f"http://{LISTED}:{port}/graphql"

    def ask(self, query: str) -> dict[str, object]:
        """Send a query as a program does, which is no browser."""
        answer = httpx.post(self.graphql, json={"query": query}, trust_env=False)
        return answer.raise_for_status().json()["data"]

    @property
    def paused(self) -> bool:
        """Return True if PAUSE was executed since `resume`."""
        return self.ask("{ instance { autoMaterializePaused } }") == {"instance": {"autoMaterializePaused": True}}

    def resume(self) -> None:
        self.ask("mutation { setAutoMaterializePaused(paused: false) }")

    def answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/server_info", trust_env=False).is_success
        except httpx.TransportError:
            return False


@contextmanager
def web_server(home: Path, module: Sequence[str] = OURS_GUARDED) -> Iterator[WebServer]:
    """Start a web server with an instance of its own in an empty folder."""
    server = WebServer(free_port())
    (home / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    others = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
    process = subprocess.Popen(
        [sys.executable, *module, "--empty-workspace", "--port", str(server.port)],
        env=others | {"DAGSTER_HOME": str(home), "PYTHONWARNINGS": "ignore", HOSTS_VARIABLE: f"{LISTED}:{server.port}"},
        cwd=home,
    )
    try:
        until(server.answers, START_SECONDS)
        yield server
    finally:
        process.terminate()
        process.wait(START_SECONDS)


class _Blank(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>another site</title>")

    def log_message(self, format: str, *args: object) -> None: ...


@contextmanager
def another_site() -> Iterator[int]:
    """Serve an empty page; yields its port. By its scripts a test attacks."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Blank) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


ATTACKS = {
    "an image": """([url, query]) => new Promise(done => {
        const image = new Image();
        image.onload = image.onerror = done;
        image.src = `${url}?query=${encodeURIComponent(query)}`;
    })""",
    "an image whose path ends with a line's end": """([url, query]) => new Promise(done => {
        const image = new Image();
        image.onload = image.onerror = done;
        image.referrerPolicy = 'no-referrer';
        image.src = `${url}%0A?query=${encodeURIComponent(query)}`;
    })""",
    "a fetch by GET": """([url, query]) =>
        fetch(`${url}?query=${encodeURIComponent(query)}`, {mode: 'no-cors', credentials: 'include'}).catch(() => 0)""",
    "a fetch of JSON that is called text": """([url, query]) =>
        fetch(url, {mode: 'no-cors', method: 'POST', body: JSON.stringify({query}),
                    headers: {'Content-Type': 'text/plain; application/json'}}).catch(() => 0)""",
    "a beacon without a content type": """([url, query]) =>
        fetch(`${url}?query=${encodeURIComponent(query)}`, {mode: 'no-cors', method: 'POST'}).catch(() => 0)""",
    "a form": """([url, query]) => new Promise(done => {
        const frame = document.createElement('iframe'), form = document.createElement('form');
        frame.name = url;
        document.body.append(frame, form);
        Object.assign(form, {method: 'POST', enctype: 'text/plain', target: url,
                             action: `${url}?query=${encodeURIComponent(query)}`});
        frame.onload = done;
        form.submit();
    })""",
}
"""Scripts of a page, each with the URL of GraphQL and a query. They return when the server has answered."""

OPENS_A_WEB_SOCKET = """url => new Promise(done => {
    const socket = new WebSocket(url.replace('http', 'ws'), 'graphql-ws');
    socket.onopen = () => socket.send(JSON.stringify({type: 'connection_init'}));
    socket.onmessage = message => done(message.data);
    socket.onerror = () => done('refused');
})"""


def acknowledged(answer: str) -> bool:
    """Return True for what OPENS_A_WEB_SOCKET returns where the server accepted the WebSocket."""
    return answer != "refused" and json.loads(answer)["type"] == "connection_ack"
