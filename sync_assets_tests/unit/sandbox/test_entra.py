"""Refused sign-ins (docs/dev/references/dataverse.md 5). Microsoft's own libraries sign in by flows/clients."""

import asyncio
from urllib.parse import urlencode

import httpx
import pytest

from sync_assets.sandbox.entra import Entra, app

ORG = "https://org.example"


@pytest.fixture
def entra() -> Entra:
    return Entra("https://login.example", ORG)


def sign_in(entra: Entra, tenant: str = "", **changes: str) -> httpx.Response:
    """Ask for a token: with a correct form, except for the changes; an empty value leaves a field out."""
    form = {"grant_type": "client_credentials", "scope": f"{ORG}/.default"}
    form |= {"client_id": entra.client_id, "client_secret": entra.client_secret} | changes

    async def post() -> httpx.Response:
        transport = httpx.ASGITransport(app(entra))
        async with httpx.AsyncClient(transport=transport, base_url="https://login.example") as client:
            content = urlencode({name: value for name, value in form.items() if value})
            return await client.post(f"/{tenant or entra.tenant_id}/oauth2/v2.0/token", content=content)

    return asyncio.run(post())


@pytest.mark.parametrize(
    ("changes", "status", "error", "code"),
    [
        ({"client_secret": "wrong"}, 401, "invalid_client", 7000215),
        ({"client_id": "11111111-0000-4000-8000-000000000000"}, 400, "unauthorized_client", 700016),
        ({"scope": "https://other.example/.default"}, 400, "invalid_resource", 500011),
        ({"scope": ORG}, 400, "invalid_resource", 500011),
        ({"scope": ""}, 400, "invalid_request", 900144),
        ({"grant_type": "password"}, 400, "unsupported_grant_type", 70003),
        ({"tenant": "22222222-0000-4000-8000-000000000000"}, 400, "invalid_request", 90002),
    ],
)
def test_refusals(entra: Entra, changes: dict[str, str], status: int, error: str, code: int) -> None:
    answer = sign_in(entra, **changes)
    document = answer.json()
    assert (answer.status_code, document["error"], document["error_codes"]) == (status, error, [code])
    assert document["error_description"].startswith(f"AADSTS{code}: ")
    assert {"timestamp", "trace_id", "correlation_id", "error_uri"} <= set(document)
    assert entra.client_secret not in answer.text


def test_an_expired_secret(entra: Entra) -> None:
    entra.secret_expired = True
    assert sign_in(entra).json()["error_codes"] == [7000222]
