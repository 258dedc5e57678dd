"""Emulator of Adobe's sign-in (IMS) for server-to-server credentials (docs/references/campaign.md 6)."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from typing import Literal
from urllib.parse import parse_qsl

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from sync_assets.sandbox.admin import BadRequest, json_body, number_from
from sync_assets.sandbox.asgi import Answer, App, Receive, Scope, Send, send_answer
from sync_assets.sandbox.faults import Rule
from sync_assets.sandbox.middleware import retry_after

TOKEN_PATH = "/ims/token/v3"  # noqa: S105  a path
SCOPES = (
    "AdobeID", "openid", "read_organizations", "additional_info.projectedProductContext", "additional_info.roles",
    "adobeio_api", "read_client_secret", "manage_client_secrets", "campaign_sdk", "campaign_config_server_general",
    "deliverability_service_general", "event_receiver_api",
)  # fmt: skip

_JSON = [(b"content-type", b"application/json;charset=UTF-8"), (b"cache-control", b"no-store")]


class Ims:
    """One credential with up to two valid secrets, and the tokens issued for it."""

    def __init__(
        self, client_id: str = "", *, lifetime_s: float = 86399, clock: Callable[[], float] = time.time
    ) -> None:
        """Create a credential. lifetime_s: lifetime of a token in seconds, also the `expires_in` of the answer."""
        self.client_id = client_id or secrets.token_hex(16)
        self.secrets = [_new_secret()]
        """Valid secrets, newest last."""
        self.lifetime_s = lifetime_s
        self._clock = clock
        self._expiry: dict[str, float] = {}

    @property
    def client_secret(self) -> str:
        """Return the newest secret."""
        return self.secrets[-1]

    def rotate(self) -> str:
        """Add and return a new secret. The one before it stays valid, older ones do not."""
        self.secrets = [*self.secrets[-1:], _new_secret()]
        return self.client_secret

    def revoke_old_secret(self) -> None:
        self.secrets = self.secrets[-1:]

    def expire_tokens(self) -> None:
        """Let all issued tokens expire now."""
        self._expiry = dict.fromkeys(self._expiry, 0.0)

    def check(self, token: str) -> Literal["valid", "expired", "unknown"]:
        expiry = self._expiry.get(token)
        if expiry is None:
            return "unknown"
        return "valid" if self._clock() < expiry else "expired"

    def issue(self, parameters: dict[str, str]) -> Answer:
        """Answer a token request. The statuses of errors are inferred: 401 for a wrong secret, else 400."""
        if parameters.get("grant_type") != "client_credentials":
            return _refusal(400, "unsupported_grant_type", "grant_type must be client_credentials")
        if parameters.get("client_id") != self.client_id:
            return _refusal(400, "invalid_client", "invalid client_id parameter")
        given = parameters.get("client_secret", "").encode()
        if not any(secrets.compare_digest(given, valid.encode()) for valid in self.secrets):
            return _refusal(401, "invalid_client", "invalid client_secret parameter")
        scopes = {scope.strip() for scope in parameters.get("scope", "").split(",")}
        if unknown := sorted(scopes - set(SCOPES)):
            return _refusal(400, "invalid_scope", f"invalid scope: {', '.join(unknown)}")
        token = secrets.token_urlsafe(240)
        self._expiry[token] = self._clock() + self.lifetime_s
        answer = {"access_token": token, "token_type": "bearer", "expires_in": int(self.lifetime_s)}
        return Answer(200, _JSON, msgspec.json.encode(answer))


def app(ims: Ims) -> App:
    """Return the ASGI app. Parameters are read from the form and the query; those of the form have precedence."""

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        body = b""
        more = True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        if scope["path"] != TOKEN_PATH:
            answer = _refusal(404, "not_found", "no such endpoint; tokens are served at /ims/token/v3")
        elif scope["method"] != "POST":
            answer = _refusal(405, "invalid_request", "method not allowed; use POST")
        else:
            pairs = parse_qsl(scope["query_string"].decode("utf-8", "replace"), keep_blank_values=True)
            pairs += parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True)
            answer = ims.issue(dict(pairs))
        await send_answer(send, answer)

    return serve


def refuse(rule: Rule) -> Answer | None:
    """Return the answer of IMS for an injected fault of a generic kind; None for the plain answer.

    The shape is inferred: that IMS throttles is documented, its answer is not.
    """
    if rule.kind == "throttle":
        return Answer(429, [*_JSON, retry_after(rule)], msgspec.json.encode({"error": "rate_limited"}))
    if rule.kind == "unauthorized":
        return _refusal(401, "invalid_client", "invalid client_secret parameter")
    return None


def routes(ims: Ims) -> list[Route]:
    """Return the admin routes of IMS.

    `POST /ims/settings {"token_lifetime_s", "expire_tokens", "revoke_old_secret"}`, `POST /ims/rotate`.
    """

    async def settings(request: Request) -> JSONResponse:
        values = await json_body(request)
        if unknown := set(values) - {"token_lifetime_s", "expire_tokens", "revoke_old_secret"}:
            raise BadRequest(f"unknown settings: {', '.join(sorted(unknown))}")
        ims.lifetime_s = number_from(values, "token_lifetime_s", ims.lifetime_s)
        if values.get("expire_tokens"):
            ims.expire_tokens()
        if values.get("revoke_old_secret"):
            ims.revoke_old_secret()
        return JSONResponse({"token_lifetime_s": ims.lifetime_s, "secrets": len(ims.secrets)})

    async def rotate(request: Request) -> JSONResponse:
        return JSONResponse({"client_secret": ims.rotate()})

    return [
        Route("/ims/settings", settings, methods=["POST"]),
        Route("/ims/rotate", rotate, methods=["POST"]),
    ]


def _new_secret() -> str:
    return "p8e-" + secrets.token_urlsafe(24)


def _refusal(status: int, error: str, description: str) -> Answer:
    return Answer(status, _JSON, msgspec.json.encode({"error": error, "error_description": description}))
