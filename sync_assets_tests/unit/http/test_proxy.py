"""The environment's proxy is used by every client, and its password occurs in no error."""

import asyncio
import base64
import traceback
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr

from sync_assets.alerts.channels import send_webhook
from sync_assets.campaign.sign_in import ims_tokens
from sync_assets.config.environment import AlertSettings, CampaignSettings, D365Settings
from sync_assets.dataverse.sign_in import entra_tokens
from sync_assets.errors import SyncAssetsError
from sync_assets.http.aiohttp_transport import AiohttpTransport
from sync_assets.http.proxy import environment_proxy
from sync_assets.http.transport import NotSent, ssl_context
from sync_assets_tests.support.little_server import LittleServer, answer
from sync_assets_tests.support.proxy_server import ProxyServer

USER, PASSWORD = "svc-proxy", "hush@ß"
GIVEN = "svc-proxy:hush%40%C3%9F"
AUTHORIZATION = f"Basic {base64.b64encode(f'{USER}:{PASSWORD}'.encode()).decode()}"
PERSON = "ada@example.com"
SHOWN = ("hush", "svc-proxy", AUTHORIZATION.split()[1])


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    environment_proxy.cache_clear()
    yield
    environment_proxy.cache_clear()


async def by_endpoint(url: str, ca_file: Path | None) -> None:
    client = AiohttpTransport(ssl_context(ca_file), 1, httpx.Timeout(3))
    try:
        for _ in range(2):
            await client.exchange("GET", f"{url}/x?email={PERSON}", {}, None)
    finally:
        await client.aclose()


async def by_campaign_sign_in(url: str, ca_file: Path | None) -> None:
    await ims_tokens(CampaignSettings("", url, "id", SecretStr("s"), "openid"), ssl_context(ca_file)).token()


async def by_dynamics_sign_in(url: str, ca_file: Path | None) -> None:
    await entra_tokens(
        D365Settings("https://org.example.com", url, "t", "id", SecretStr("s")), ssl_context(ca_file)
    ).token()


async def by_webhook(url: str, ca_file: Path | None) -> None:
    settings = AlertSettings(SecretStr(f"{url}/hook"), None, None, "")
    await asyncio.to_thread(send_webhook, settings, ssl_context(ca_file), "text")


ALL = [by_endpoint, by_campaign_sign_in, by_dynamics_sign_in, by_webhook]
Send = Callable[[str, Path | None], Awaitable[None]]


@pytest.mark.parametrize(("send", "count"), [(by_endpoint, 2), (by_webhook, 1)])
async def test_requests_pass_the_proxy_signed_in_and_keep_their_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, send: Send, count: int
) -> None:
    async with LittleServer(tmp_path, lambda _: answer()) as server, ProxyServer() as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://{GIVEN}@127.0.0.1:{proxy.port}")
        await send(server.url, server.ca_file)
    [head] = proxy.requests
    assert head.startswith(f"CONNECT localhost:{server.port} ")
    assert f"Proxy-Authorization: {AUTHORIZATION}\r\n" in head
    assert len(server.requests) == count
    assert all("proxy-authorization" not in request.headers for request in server.requests)


async def test_a_host_of_no_proxy_is_reached_without_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("NO_PROXY", "localhost")
    async with LittleServer(tmp_path, lambda _: answer()) as server:
        await by_endpoint(server.url, server.ca_file)
        await by_webhook(server.url, server.ca_file)
    assert len(server.requests) == 3


@pytest.mark.parametrize("send", ALL)
@pytest.mark.parametrize("result", [407, 502, 307, "cut", "garbage"])
async def test_a_proxy_that_refuses_is_named_without_its_password(
    send: Send, result: int | str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sync_assets.campaign.sign_in.SIGN_IN_TRIES", 1)
    words = {"cut": b"", "garbage": f"{PASSWORD}\r\n\r\n".encode()}
    async with ProxyServer(words[result] if isinstance(result, str) else answer(result)) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://{GIVEN}@127.0.0.1:{proxy.port}")
        with pytest.raises(SyncAssetsError) as refused:
            await send("https://unknown.example", None)
    whole = "".join(traceback.format_exception(refused.value))
    assert not any(secret in whole for secret in SHOWN)
    assert PERSON not in whole
    if result == 407 and send is by_endpoint:
        assert f"127.0.0.1:{proxy.port}" in str(refused.value)
        assert "HTTPS_PROXY" in str(refused.value)
        assert isinstance(refused.value, NotSent)


@pytest.mark.parametrize("send", [by_endpoint, by_campaign_sign_in, by_dynamics_sign_in])
@pytest.mark.parametrize("dead", ["nobody listens", "it hangs up"])
async def test_a_dead_proxy_is_named_with_its_variable(send: Send, dead: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sync_assets.campaign.sign_in.SIGN_IN_TRIES", 1)
    async with ProxyServer(b"") as proxy:
        address = f"http://127.0.0.1:{1 if dead == 'nobody listens' else proxy.port}"
        monkeypatch.setenv("HTTPS_PROXY", address)
        with pytest.raises(SyncAssetsError) as refused:
            await send("https://unknown.example", None)
    assert f"through the proxy {address}" in refused.value.cause
    assert refused.value.remedy.startswith("Check HTTPS_PROXY and NO_PROXY")


@pytest.mark.parametrize("send", ALL)
@pytest.mark.parametrize(
    "variable",
    [
        f"socks5://{GIVEN}@127.0.0.1:1",
        f"http://{GIVEN}@127.0.0.1:99999",
        f"http://{GIVEN}@[::1:80",
        f"http://{GIVEN}@127.0.0.1:1",
        f"{GIVEN}@127.0.0.1:1",
        f"http://{USER}:ha#sh/hush@127.0.0.1:1",
    ],
)
async def test_a_variable_that_is_no_proxy_is_an_error_that_does_not_quote_it(
    send: Send, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sync_assets.campaign.sign_in.SIGN_IN_TRIES", 1)
    monkeypatch.setenv("HTTPS_PROXY", variable)
    with pytest.raises(SyncAssetsError) as refused:
        await send("https://unknown.example", None)
    assert not any(secret in "".join(traceback.format_exception(refused.value)) for secret in SHOWN)
