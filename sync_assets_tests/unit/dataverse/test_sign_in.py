"""Sign-in at Entra ID, asked as the program asks it; what is refused is shown in flows/test_trouble.py."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import SecretStr

from sync_assets.config.environment import D365Settings
from sync_assets.dataverse.sign_in import entra_tokens
from sync_assets.http.tokens import DAY, CachedTokens, token_seconds
from sync_assets.http.transport import HttpError, Unavailable, ssl_context
from sync_assets_tests.conftest import SandboxFactory
from sync_assets_tests.support.little_server import LittleServer, Request, answer

SECRET = "hush-of-the-app"


async def test_a_token_is_fetched_and_no_authority_is_trusted_for_it_that_was_not_before(
    sandbox_factory: SandboxFactory,
) -> None:
    env = sandbox_factory(contacts=0).env
    context = ssl_context(Path(env["SYNC_ASSETS_CA_BUNDLE"]))
    before = context.cert_store_stats()
    tokens = entra_tokens(
        D365Settings(
            env["D365_URL"],
            env["D365_AUTHORITY"],
            env["D365_TENANT_ID"],
            env["D365_CLIENT_ID"],
            SecretStr(env["D365_CLIENT_SECRET"]),
        ),
        context,
    )
    assert await tokens.token()
    assert context.cert_store_stats() == before


def of_little_server(server: LittleServer) -> CachedTokens:
    return entra_tokens(
        D365Settings("https://org.example.com", server.url, "tenant", "id", SecretStr(SECRET)),
        ssl_context(server.ca_file),
    )


def sign_in_host(token: Callable[[Request], bytes], token_endpoint: str = "") -> Callable[[Request], bytes]:
    """Return the script of a sign-in host: `token` answers the request for a token."""

    def script(request: Request) -> bytes:
        if request.method == "POST":
            return token(request)
        own = f"https://{request.headers['host']}/tenant/oauth2/v2.0"
        described = {
            "token_endpoint": token_endpoint or f"{own}/token",
            "authorization_endpoint": f"{own}/authorize",
            "issuer": f"https://{request.headers['host']}/tenant/v2.0",
        }
        return answer(200, json.dumps(described).encode())

    return script


@pytest.mark.parametrize(("status", "scheme"), [(301, "https"), (302, "http"), (307, "https"), (308, "http")])
async def test_a_redirect_of_the_sign_in_host_does_not_get_the_secret(tmp_path: Path, status: int, scheme: str) -> None:
    for folder in ("here", "there"):
        (tmp_path / folder).mkdir()
    async with LittleServer(tmp_path / "there", lambda _: answer()) as elsewhere:
        to = f"{scheme}://localhost:{elsewhere.port}/"
        script = sign_in_host(lambda _: answer(status, Location=to))
        async with LittleServer(tmp_path / "here", script) as server:
            with pytest.raises(HttpError) as refused:
                await of_little_server(server).token()
    assert elsewhere.connections == 0
    assert [SECRET in request.body.decode() for request in server.requests] == [False, True]
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize(
    "endpoint", ["http://{host}/token", "https://127.0.0.1:{port}/token", "https://[", 'https://a:b"']
)
async def test_a_secret_is_sent_to_the_configured_sign_in_host_only(tmp_path: Path, endpoint: str) -> None:
    """The description of the authority names the address for tokens, so a false one must not lead elsewhere."""
    async with LittleServer(tmp_path, lambda _: answer()) as server:
        to = endpoint.format(host=f"localhost:{server.port}", port=server.port)
        server.script = sign_in_host(lambda _: answer(200, b'{"access_token":"t"}'), to)
        with pytest.raises(HttpError, match="D365_AUTHORITY"):
            await of_little_server(server).token()
    assert [request.method for request in server.requests] == ["GET"]


@pytest.mark.parametrize(
    "body",
    [
        b'{"error":"\\u001b[31mred","error_description":"\\u001b]0;title\\u0007"}',
        b'{"error":"invalid_client","error_codes":["\\u001b[2J"]}',
        b'{"error":"invalid_client","error_codes":7}',
        b'{"error":{"a":1}}',
        b'{"access_token":"t","expires_in":"soon"}',
        b'{"access_token":"t","expires_in":null}',
        b'{"access_token":7}',
        b"[]",
        b"null",
        b"{",
    ],
)
async def test_a_senseless_answer_is_one_of_our_errors_in_printable_words(tmp_path: Path, body: bytes) -> None:
    for status in (200, 400, 500):
        async with LittleServer(tmp_path, sign_in_host(lambda _, status=status: answer(status, body))) as server:
            with pytest.raises(HttpError) as refused:
                await of_little_server(server).token()
            assert str(refused.value).isprintable()


@pytest.mark.parametrize(
    ("expires_in", "seconds"),
    [
        (3599, 3599), ("3599", 3599), (86_401, DAY), (10**30, DAY), (10**400, 3600), ("1e400", DAY),
        (float("inf"), DAY), (float("nan"), 3600), (-5, 3600), (None, 3600), ("soon", 3600), ([1], 3600),
    ],
)  # fmt: skip
def test_a_lifetime_is_at_most_a_day(expires_in: object, seconds: float) -> None:
    assert token_seconds(expires_in) == seconds


async def test_a_token_that_is_to_be_valid_for_ever_is_used(tmp_path: Path) -> None:
    body = json.dumps({"access_token": "t", "expires_in": 10**400}).encode()
    async with LittleServer(tmp_path, sign_in_host(lambda _: answer(200, body))) as server:
        assert await of_little_server(server).token() == "t"


@pytest.mark.parametrize("status", [429, 503])
async def test_a_throttled_sign_in_is_no_refusal_and_names_the_wait(tmp_path: Path, status: int) -> None:
    script = sign_in_host(lambda _: answer(status, b'{"error":"throttled"}', Retry_After="86400"))
    async with LittleServer(tmp_path, script) as server:
        with pytest.raises(Unavailable, match=rf"\({status}\).* 900 s"):
            await of_little_server(server).token()
    assert len(server.requests) == 2
