"""Sign-in at IMS: what is sent, what is cached, and errors that name what to check but never the secret."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from pydantic import SecretStr

from sync_assets.campaign.sign_in import ims_tokens
from sync_assets.config.environment import CampaignSettings
from sync_assets.config.variables import FileSecret
from sync_assets.http.client import CachedTokens
from sync_assets.http.transport import HttpError, SignInRefused, Unavailable, ssl_context
from sync_assets_tests.conftest import SandboxFactory
from sync_assets_tests.support.little_server import LittleServer, answer
from sync_assets_tests.support.sandbox_process import SandboxProcess

SECRET = "p8e-very-secret"


@pytest.fixture(scope="module")
def ims(sandbox_factory: SandboxFactory) -> SandboxProcess:
    return sandbox_factory(contacts=0)


@pytest.fixture
def tokens(ims: SandboxProcess) -> Iterator[Callable[..., CachedTokens]]:
    """Makes a token source of the sandbox's IMS, with some settings changed."""

    def make(**changed: Any) -> CachedTokens:
        env = ims.env
        secret = SecretStr(changed.pop("client_secret", env["CAMPAIGN_CLIENT_SECRET"]))
        given: dict[str, Any] = {
            "ims_url": env["CAMPAIGN_IMS_URL"],
            "client_id": env["CAMPAIGN_CLIENT_ID"],
            "scopes": env["CAMPAIGN_SCOPES"],
        }
        access = CampaignSettings(url="", client_secret=secret, **(given | changed))
        return ims_tokens(access, ssl_context(Path(env["SYNC_ASSETS_CA_BUNDLE"])))

    ims.admin.clear_journal()
    yield make
    ims.admin.clear_faults()


def of_little_server(server: LittleServer) -> CachedTokens:
    return ims_tokens(
        CampaignSettings("", f"{server.url}/", "id", SecretStr(SECRET), " openid, AdobeID ,"),
        ssl_context(server.ca_file),
    )


async def test_a_token_is_fetched_once_for_all_and_kept(tokens: Callable[..., CachedTokens], ims: SandboxProcess):
    source = tokens()
    result = await asyncio.gather(*(source.token() for _ in range(20)))
    assert len(set(result)) == 1
    assert len(ims.admin.journal("ims")) == 1
    assert await source.renew(result[0]) != result[0]


async def test_the_credentials_travel_in_the_body_not_in_the_address(tmp_path: Path):
    granted = answer(200, b'{"access_token":"t","expires_in":86399}', Server="not ASCII: ü")
    async with LittleServer(tmp_path, lambda _: granted) as server:
        assert await of_little_server(server).token() == "t"
    (request,) = server.requests
    assert (request.method, request.target) == ("POST", "/ims/token/v3")
    assert parse_qs(request.body.decode()) == {
        "grant_type": ["client_credentials"],
        "client_id": ["id"],
        "client_secret": [SECRET],
        "scope": ["openid,AdobeID"],
    }


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"client_secret": SECRET}, "CAMPAIGN_CLIENT_SECRET"),
        ({"client_id": "nobody", "client_secret": SECRET}, "CAMPAIGN_CLIENT_ID"),
        ({"scopes": "made_up"}, "CAMPAIGN_SCOPES"),
    ],
)
async def test_refused_credentials_are_reported_by_their_variables_and_not_shown(
    ims: SandboxProcess, tokens: Callable[..., CachedTokens], changed: dict[str, str], named: str
):
    with pytest.raises(SignInRefused) as caught:
        await tokens(**changed).token()
    assert named in str(caught.value)
    assert SECRET not in str(caught.value)
    assert len(ims.admin.journal("ims")) == 1, "tried again"


@pytest.mark.parametrize(
    ("status", "scheme"), [(301, "https"), (302, "http"), (307, "https"), (308, "http"), (404, "https")]
)
async def test_a_redirect_does_not_get_the_secret(tmp_path: Path, status: int, scheme: str):
    for folder in ("here", "there"):
        (tmp_path / folder).mkdir()
    async with LittleServer(tmp_path / "there", lambda _: answer()) as elsewhere:
        to = f"{scheme}://localhost:{elsewhere.port}/"
        async with LittleServer(tmp_path / "here", lambda _: answer(status, Location=to)) as server:
            with pytest.raises(SignInRefused, match="CAMPAIGN_IMS_URL"):
                await of_little_server(server).token()
    assert (len(server.requests), elsewhere.connections) == (1, 0)


@pytest.mark.parametrize(
    "body",
    [
        b'{"access_token":"t","expires_in":true}',
        b'{"access_token":"t","expires_in":-5}',
        b'{"access_token":"t","expires_in":1e400}',
        b'{"access_token":"a\\r\\nX-Evil: 1","expires_in":60}',
        b'{"access_token":"\\u00fc","expires_in":60}',
        b'{"error":"\\u001b[31mred"}',
        b"[]",
    ],
)
async def test_a_senseless_answer_gives_a_usable_token_or_one_of_our_errors(tmp_path: Path, body: bytes):
    async with LittleServer(tmp_path, lambda _: answer(200, body)) as server:
        (result,) = await asyncio.gather(of_little_server(server).token(), return_exceptions=True)
    assert isinstance(result, str | HttpError)
    assert str(result).isprintable()
    assert str(result).isascii()


async def test_passing_trouble_is_survived(tokens: Callable[..., CachedTokens], ims: SandboxProcess):
    ims.admin.fault("ims", "throttle", times=1)
    ims.admin.fault("ims", "cut_before", times=1)
    assert await tokens().token()
    assert len(ims.admin.journal("ims")) == 3


async def test_a_short_retry_after_is_waited_for_and_a_long_one_ends_the_sign_in(tmp_path: Path):
    result = iter(
        [answer(429, Retry_After="1"), answer(200, b'{"access_token":"t"}'), answer(503, Retry_After="86400")]
    )
    async with LittleServer(tmp_path, lambda _: next(result)) as server:
        source = of_little_server(server)
        assert await source.token() == "t"
        assert 1 <= server.requests[1].at - server.requests[0].at < 2
        with pytest.raises(Unavailable, match=r"\(503\).* 900 s"):
            await source.renew("t")
    assert len(server.requests) == 3


async def test_a_secret_that_was_rotated_counts_from_the_next_sign_in_on(tmp_path: Path):
    file = tmp_path / "secret"
    file.write_text("old")
    async with LittleServer(tmp_path, lambda _: answer(200, b'{"access_token":"t"}')) as server:
        source = ims_tokens(
            CampaignSettings("", server.url, "id", FileSecret("CAMPAIGN_CLIENT_SECRET_FILE", file), "openid"),
            ssl_context(server.ca_file),
        )
        await source.token()
        file.write_text("new")
        await source.renew("t")
    sent = [parse_qs(request.body.decode())["client_secret"] for request in server.requests]
    assert sent == [["old"], ["new"]]
