"""Emulator of Adobe's sign-in (IMS) for server-to-server credentials (docs/dev/references/campaign.md 6)."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from email import message_from_bytes
from email.policy import HTTP
from typing import Literal
from urllib.parse import parse_qsl

import jwt
import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from sync_assets.sandbox.admin import BadRequest, json_body, number_from
from sync_assets.sandbox.asgi import Answer, App, Receive, Scope, Send, headers_of, read_body, send_answer
from sync_assets.sandbox.faults import Rule
from sync_assets.sandbox.middleware import retry_after

TOKEN_PATHS = frozenset({"/ims/token/v3", "/ims/token/v2"})
_PROFILE_PATH = "/ims/profile/v1"
_NOT_BUILT = frozenset({"/ims/validate_token/v1", "/ims/invalidate_token/v2", "/ims/organizations/v6"})
SCOPES = (
    "AdobeID", "openid", "read_organizations", "additional_info.projectedProductContext", "additional_info.roles",
    "adobeio_api", "read_client_secret", "manage_client_secrets", "campaign_sdk", "campaign_config_server_general",
    "deliverability_service_general", "event_receiver_api",
)  # fmt: skip

_JSON = [(b"content-type", b"application/json;charset=UTF-8"), (b"cache-control", b"no-store")]


class Ims:
    """One credential with up to two valid secrets, and the tokens issued for it."""

    def __init__(self, *, clock: Callable[[], float] = time.time) -> None:
        self.client_id = secrets.token_hex(16)
        self.secrets = [_new_secret()]
        """Valid secrets, newest last."""
        self.lifetime_s: float = 86399
        """Lifetime of a token in seconds, also the `expires_in` of the answer."""
        self.organization = ""
        """The Campaign organization that the credential is provisioned for; empty if there is none."""
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
        secret = parameters.get("client_secret", "").encode()
        if not any(secrets.compare_digest(secret, valid.encode()) for valid in self.secrets):
            return _refusal(401, "invalid_client", "invalid client_secret parameter")
        scopes = {scope.strip() for scope in parameters.get("scope", "").split(",")}
        if unknown := sorted(scopes - set(SCOPES)):
            return _refusal(400, "invalid_scope", f"invalid scope: {', '.join(unknown)}")
        now = self._clock()
        claims = {  # those that Adobe's library reads, times in milliseconds
            "id": secrets.token_urlsafe(120), "type": "access_token", "client_id": self.client_id, "as": "ims-na1",
            "created_at": str(int(now * 1000)), "expires_in": str(int(self.lifetime_s) * 1000),
        }  # fmt: skip
        token = jwt.encode(claims, secrets.token_bytes(32), "HS256")
        self._expiry[token] = now + self.lifetime_s
        answer = {"access_token": token, "token_type": "bearer", "expires_in": int(self.lifetime_s)}
        return Answer(200, _JSON, msgspec.json.encode(answer))

    def profile(self, authorization: str) -> Answer:
        """Answer a request for the profile of a token: the organizations that it is provisioned for.

        https://experienceleague.adobe.com/docs/campaign-standard/using/working-with-apis/troubleshooting.html
        """
        if self.check(authorization.partition(" ")[2]) != "valid":
            return _refusal(401, "invalid_token", "the access token is not valid")
        context = {"statusCode": "ACTIVE", "organization_id": self.organization, "serviceCode": "dma_tartan"}
        contexts = [{"prodCtx": context}] if self.organization else []
        document = {"countryCode": "FR", "mrktPermEmail": None, "projectedProductContext": contexts}
        return Answer(200, _JSON, msgspec.json.encode(document))


def app(ims: Ims) -> App:
    """Return the ASGI app. Parameters are read from the form and the query; those of the form have precedence."""

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        body, headers, path = await read_body(receive), headers_of(scope), scope["path"]
        if path == _PROFILE_PATH:
            answer = ims.profile(headers.get("authorization", ""))
        elif path in _NOT_BUILT:
            answer = _refusal(501, "not_implemented", f"{path} is not built into the sandbox")
        elif path not in TOKEN_PATHS:
            answer = _refusal(404, "not_found", "no such endpoint; tokens are served at /ims/token/v3")
        elif scope["method"] != "POST":
            answer = _refusal(405, "invalid_request", "method not allowed; use POST")
        else:
            pairs = parse_qsl(scope["query_string"].decode("utf-8", "replace"), keep_blank_values=True)
            answer = ims.issue(dict(pairs) | _form(headers.get("content-type", ""), body))
        await send_answer(send, answer)

    return serve


def _form(content_type: str, body: bytes) -> dict[str, str]:
    """Return the values of a form, which is URL-encoded or, as Adobe's library sends it, multipart."""
    if not content_type.startswith("multipart/form-data"):
        return dict(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True))
    message = message_from_bytes(b"content-type: " + content_type.encode() + b"\r\n\r\n" + body, policy=HTTP)
    values = ((part.get_param("name", header="content-disposition"), part) for part in message.iter_parts())
    return {str(name): str(part.get_content()).strip() for name, part in values}


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
        if await json_body(request):
            raise BadRequest("nothing is expected in the body")
        return JSONResponse({"client_secret": ims.rotate()})

    return [
        Route("/ims/settings", settings, methods=["POST"]),
        Route("/ims/rotate", rotate, methods=["POST"]),
    ]


def _new_secret() -> str:
    return "p8e-" + secrets.token_urlsafe(24)


def _refusal(status: int, error: str, description: str) -> Answer:
    return Answer(status, _JSON, msgspec.json.encode({"error": error, "error_description": description}))
