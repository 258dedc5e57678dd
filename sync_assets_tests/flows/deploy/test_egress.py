"""One host: the way out leads to the hosts in `EGRESS_HOSTS` only. Debian's squid is real, as `egress.sh` starts it."""

import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from sync_assets.config.environment import SftpSettings
from sync_assets.http.aiohttp_transport import AiohttpTransport
from sync_assets.http.proxy import environment_proxy
from sync_assets.http.transport import NotSent, ssl_context
from sync_assets.sandbox.sftp import SftpServer
from sync_assets.sftp.client import connect
from sync_assets.sftp.errors import Unreachable
from sync_assets_tests.flows.deploy.files import DEPLOY
from sync_assets_tests.flows.deploy.services import free_port
from sync_assets_tests.support.little_server import LittleServer, answer
from sync_assets_tests.support.waiting import until

SCRIPT = DEPLOY / "compose" / "egress.sh"
NOBODY = 65534
"""Like the image's user it has no rights; squid started as root would change the owner of files."""


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def environment(hosts: str, port: int) -> dict[str, str]:
    return {"PATH": f"{os.environ['PATH']}:/usr/sbin", "EGRESS_HOSTS": hosts, "EGRESS_PORT": str(port)}


Egress = Callable[[str], None]


@pytest.fixture
def egress(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Egress]:
    """Start it for some hosts, and send everything through it."""
    if not shutil.which("squid", path=environment("", 0)["PATH"]):
        pytest.skip("no squid here: install it (Debian: squid) to run this test")
    user = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.getuid() == 0 else {}
    started: list[subprocess.Popen[Any]] = []
    output = tmp_path / "squid.log"
    output.touch()
    if user:
        os.chown(output, NOBODY, NOBODY)  # as a container's standard output belongs to its user

    def start(hosts: str) -> None:
        port = free_port()
        with output.open("wb") as log:
            started.append(
                subprocess.Popen([SCRIPT], env=environment(hosts, port), cwd="/", stdout=log, stderr=log, **user)
            )
        until(lambda: listens(port), 30)
        environment_proxy.cache_clear()
        for name in ("HTTPS_PROXY", "SFTP_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{port}")
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.delenv(name, raising=False)

    yield start
    for process in started:
        process.kill()
        process.wait()
    environment_proxy.cache_clear()


async def status(url: str, ca_file: Path) -> int:
    client = AiohttpTransport(ssl_context(ca_file), 1, httpx.Timeout(5))
    try:
        return (await client.exchange("GET", url, {}, None)).status
    finally:
        await client.aclose()


async def test_a_host_on_the_list_is_reached_and_no_other_host_port_or_address_of_it(
    egress: Egress, tmp_path: Path
) -> None:
    for name in ("allowed", "other"):
        (tmp_path / name).mkdir()
    async with (
        LittleServer(tmp_path / "allowed", lambda _: answer()) as allowed,
        LittleServer(tmp_path / "other", lambda _: answer()) as other,
    ):
        egress(f"org.example login.example:443 localhost:{allowed.port}")
        assert await status(allowed.url, allowed.ca_file) == 200
        for url in (other.url, f"https://127.0.0.1:{allowed.port}", "https://elsewhere.example"):
            with pytest.raises(NotSent, match=r"does not connect to it \(403\)"):
                await status(url, allowed.ca_file)
    assert (len(allowed.requests), len(other.requests)) == (1, 0)


def test_nothing_passes_without_a_tunnel_and_the_proxy_itself_answers_no_question(egress: Egress) -> None:
    egress("localhost")
    proxy = environment_proxy("https", "localhost")
    assert proxy
    for target in ("http://localhost/", f"{proxy.address}/squid-internal-mgr/info"):
        with socket.create_connection(("127.0.0.1", int(proxy.address.rpartition(":")[2])), 5) as connection:
            connection.sendall(f"GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
            assert connection.makefile("rb").readline().split()[1] == b"403"


def test_sftp_passes_if_host_and_port_are_on_the_list(egress: Egress, tmp_path: Path) -> None:
    server = SftpServer(tmp_path / "sftp")
    server.start()
    settings = SftpSettings("127.0.0.1", server.port, server.user, server.private_key_file, server.known_hosts_file)
    try:
        egress("org.example")
        with pytest.raises(Unreachable, match="allows this host and port"), connect(settings, timeout=5):
            pass
        egress(f"127.0.0.1:{server.port}")
        with connect(settings, timeout=5) as sftp:
            assert sftp.listing(".", "*").files == ()
    finally:
        server.stop()


@pytest.mark.parametrize(
    "hosts", ["https://org.example", "org.example/x", "org.example:", "a:b:c", "x\nhttp_access", "*"]
)
def test_a_value_that_is_no_host_is_named_and_nothing_starts(hosts: str) -> None:
    done = subprocess.run([SCRIPT], env=environment(hosts, 1), capture_output=True, text=True, check=False, timeout=20)
    assert done.returncode == 1
    assert "EGRESS_HOSTS" in done.stderr
