"""SSH and SMTP pass the proxy of `SFTP_PROXY` and `SMTP_PROXY`; no other variable concerns them."""

import asyncio
import traceback

import pytest

from sync_assets.http.proxy import environment_proxy, open_connection
from sync_assets.http.transport import NotSent
from sync_assets_tests.support.little_server import answer
from sync_assets_tests.support.proxy_server import ProxyServer

GREETING = b"SSH-2.0-server\r\n"


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SFTP_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    environment_proxy.cache_clear()


async def greeted(port: int) -> bytes:
    """What a server says that speaks first."""

    def read() -> bytes:
        with open_connection("sftp", "127.0.0.1", port, 5) as connection:
            return connection.makefile("rb").readline()

    return await asyncio.to_thread(read)


async def server() -> asyncio.Server:
    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(GREETING)
        await writer.drain()
        writer.close()

    return await asyncio.start_server(greet, "127.0.0.1", 0)


async def test_it_passes_the_proxy_signed_in_and_keeps_the_servers_first_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    async with await server() as running, ProxyServer() as proxy:
        port = running.sockets[0].getsockname()[1]
        monkeypatch.setenv("SFTP_PROXY", f"http://svc:hush%40@127.0.0.1:{proxy.port}")
        assert await greeted(port) == GREETING
    [head] = proxy.requests
    assert head.startswith(f"CONNECT 127.0.0.1:{port} ")
    assert "Proxy-Authorization: Basic c3ZjOmh1c2hA\r\n" in head


@pytest.mark.parametrize("variable", ["ALL_PROXY", "HTTPS_PROXY", "NO_PROXY"])
async def test_without_its_variable_or_for_a_host_of_no_proxy_it_connects_by_itself(
    variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with await server() as running, ProxyServer() as proxy:
        address = f"http://127.0.0.1:{proxy.port}"
        monkeypatch.setenv(variable, "127.0.0.1" if variable == "NO_PROXY" else address)
        if variable == "NO_PROXY":
            monkeypatch.setenv("SFTP_PROXY", address)
        assert await greeted(running.sockets[0].getsockname()[1]) == GREETING
    assert proxy.requests == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (answer(403), "does not connect"),
        (answer(407), "wants a user"),
        (b"", "gave no valid answer"),
        (b"hush" * 9000, "gave no valid answer"),
    ],
)
async def test_a_proxy_that_refuses_is_named_with_the_variable_and_without_its_password(
    content: bytes, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with ProxyServer(content) as proxy:
        monkeypatch.setenv("SFTP_PROXY", f"http://svc:hush@127.0.0.1:{proxy.port}")
        with pytest.raises(NotSent, match=message) as refused:
            await greeted(22)
    assert f"127.0.0.1:{proxy.port}" in refused.value.cause
    assert "SFTP_PROXY" in refused.value.remedy
    assert "hush" not in "".join(traceback.format_exception(refused.value))


@pytest.mark.parametrize("variable", ["http://127.0.0.1:1", "https://127.0.0.1:1", "socks5://svc:hush@127.0.0.1:1"])
async def test_a_proxy_that_is_none_or_not_there_is_an_error_that_names_the_variable(
    variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SFTP_PROXY", variable)
    with pytest.raises(NotSent) as refused:
        await greeted(22)
    assert "SFTP_PROXY" in str(refused.value)
    assert "hush" not in "".join(traceback.format_exception(refused.value))
