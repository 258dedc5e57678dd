"""Adobe's sign-in: what it accepts, what it refuses, and how long its tokens live."""

from __future__ import annotations

import httpx
import pytest

from sync_assets.sandbox.ims import SCOPES, Ims, app

URL = "https://localhost/ims/token/v3"


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ims(clock: Clock) -> Ims:
    return Ims(clock=clock)


def client(ims: Ims) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app(ims)))


def request(ims: Ims, **changed: str) -> dict[str, str]:
    return {
        "grant_type": "client_credentials",
        "client_id": ims.client_id,
        "client_secret": ims.client_secret,
        "scope": ", ".join(SCOPES),
    } | changed


@pytest.mark.parametrize(
    ("changed", "status", "error"),
    [
        ({"client_secret": "wrong"}, 401, "invalid_client"),
        ({"client_id": "nobody"}, 400, "invalid_client"),
        ({"grant_type": "password"}, 400, "unsupported_grant_type"),
        ({"scope": "campaign_sdk,moon_landing"}, 400, "invalid_scope"),
        ({"scope": ""}, 400, "invalid_scope"),
    ],
)
async def test_refusals(ims: Ims, changed: dict[str, str], status: int, error: str) -> None:
    async with client(ims) as http:
        answer = await http.post(URL, data=request(ims, **changed))
    assert (answer.status_code, answer.json()["error"]) == (status, error)


async def test_tokens_can_be_expired_and_given_another_lifetime(ims: Ims) -> None:
    ims.lifetime_s = 5
    async with client(ims) as http:
        told = (await http.post(URL, data=request(ims))).json()
    assert told["expires_in"] == 5
    ims.expire_tokens()
    assert ims.check(told["access_token"]) == "expired"
    assert ims.check("never given") == "unknown"
