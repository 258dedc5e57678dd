"""Sign-in (docs/dev/references/dataverse.md 5), with Microsoft's own libraries and by hand."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

import httpx
import msal
import pytest

from sync_assets.sandbox.entra import Entra, app
from sync_assets_tests.conftest import SandboxFactory
from sync_assets_tests.support.sandbox_process import SandboxProcess

ORG = "https://org.example"


@dataclass
class Clock:
    now: float = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class SignIn:
    """Token requests to an Entra with a clock that can be moved."""

    clock: Clock = field(default_factory=Clock)

    def __post_init__(self) -> None:
        self.entra = Entra("https://login.example", ORG, self.clock)

    def form(self, **changes: str) -> dict[str, str]:
        entra = self.entra
        return {
            "grant_type": "client_credentials", "client_id": entra.client_id, "client_secret": entra.client_secret,
            "scope": f"{ORG}/.default",
        } | changes  # fmt: skip

    def ask(self, path: str = "oauth2/v2.0/token", tenant: str = "", **changes: str) -> httpx.Response:
        transport = httpx.ASGITransport(app(self.entra))

        async def post() -> httpx.Response:
            async with httpx.AsyncClient(transport=transport, base_url="https://login.example") as client:
                url = f"/{tenant or self.entra.tenant_id}/{path}"
                content = urlencode({name: value for name, value in self.form(**changes).items() if value})
                return await client.post(url, content=content)

        return asyncio.run(post())

    def token(self) -> str:
        return self.ask().json()["access_token"]


@pytest.fixture
def sign_in() -> SignIn:
    return SignIn()


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
def test_refusals(sign_in: SignIn, changes: dict[str, str], status: int, error: str, code: int) -> None:
    answer = sign_in.ask(**changes)
    told = answer.json()
    assert (answer.status_code, told["error"], told["error_codes"]) == (status, error, [code])
    assert told["error_description"].startswith(f"AADSTS{code}: ")
    assert {"timestamp", "trace_id", "correlation_id", "error_uri"} <= set(told)
    assert sign_in.entra.client_secret not in answer.text


def test_an_expired_secret(sign_in: SignIn) -> None:
    sign_in.entra.secret_expired = True
    assert sign_in.ask().json()["error_codes"] == [7000222]


# Microsoft's libraries, unpatched, over TLS


@pytest.fixture(scope="module")
def process(sandbox_factory: SandboxFactory) -> SandboxProcess:
    return sandbox_factory(contacts=0)


@pytest.fixture
def env(process: SandboxProcess, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    # in the environment this variable beats `verify`, so it has to name our authority (section 5, traps)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", process.env["SYNC_ASSETS_CA_BUNDLE"])
    return process.env


def msal_app(env: dict[str, str], **changes: Any) -> msal.ConfidentialClientApplication:
    return msal.ConfidentialClientApplication(
        env["D365_CLIENT_ID"],
        client_credential=changes.get("secret", env["D365_CLIENT_SECRET"]),
        authority=f"{env['D365_AUTHORITY']}/{env['D365_TENANT_ID']}",
        instance_discovery=False,
    )


def test_msal_signs_in_and_then_answers_from_its_cache(process: SandboxProcess, env: dict[str, str]) -> None:
    application = msal_app(env)
    scopes = [f"{env['D365_URL']}/.default"]
    since = process.admin.last()
    first, second = application.acquire_token_for_client(scopes), application.acquire_token_for_client(scopes)
    assert first is not None
    assert second is not None
    assert first["access_token"] == second["access_token"]
    assert second["token_source"] == "cache"
    paths = [(entry["method"], entry["path"].partition(env["D365_TENANT_ID"])[2]) for entry in
             process.admin.journal("login", since)]  # fmt: skip
    assert paths == [("POST", "/oauth2/v2.0/token")] or paths == [
        ("GET", "/v2.0/.well-known/openid-configuration"), ("POST", "/oauth2/v2.0/token"),
    ]  # fmt: skip


def test_msal_hands_on_the_refusal_of_a_wrong_secret(env: dict[str, str]) -> None:
    told = msal_app(env, secret="wrong").acquire_token_for_client([f"{env['D365_URL']}/.default"])
    assert told is not None
    assert told["error"] == "invalid_client"
    assert told["error_codes"] == [7000215]
