"""Emulator of Microsoft Entra ID for clients with a secret or an assertion (docs/dev/references/dataverse.md 5).

Serves discovery, as msal and azure-identity request it, and the token endpoint, with the errors that an operator is
likely to see. Tokens are random and stored in this process only, so the emulator of Dataverse validates them here.
"""

from __future__ import annotations

import base64
import secrets
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from urllib.parse import parse_qsl, unquote_plus

import msgspec
from cryptography import x509
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sync_assets.sandbox.admin import BadRequest, json_body, json_response
from sync_assets.sandbox.asgi import Answer, App, Receive, Scope, Send, headers_of, read_body, send_answer
from sync_assets.sandbox.client_assertions import ASSERTION_TYPE, ClientAssertions, FederatedIdentity
from sync_assets.sandbox.faults import Rule
from sync_assets.sandbox.middleware import retry_after

_JSON = [(b"content-type", b"application/json; charset=utf-8"), (b"cache-control", b"no-store, no-cache")]


class Entra:
    """One tenant with one app registration. `resource`: URL of the organization for which it issues tokens."""

    def __init__(self, url: str, resource: str = "", clock: Callable[[], float] = time.time) -> None:
        self.url = url
        """Scheme, host and port of the sign-in host."""
        self.resource = resource
        self.tenant_id = str(uuid.uuid4())
        self.client_id = str(uuid.uuid4())
        self.client_secret = secrets.token_urlsafe(30)
        self.token_seconds = 3599
        self.secret_expired = False
        self.assertions = ClientAssertions(clock)
        self._clock = clock
        self._expiry: dict[str, float] = {}

    @property
    def authority(self) -> str:
        return f"{self.url}/{self.tenant_id}"

    def is_valid(self, token: str, audience: str) -> bool:
        """Return True if the token was issued here, for this resource, and has not expired."""
        return audience == self.resource and self._clock() < self._expiry.get(token, 0)

    def expire_tokens(self) -> None:
        """Let all issued tokens expire now."""
        self._expiry.clear()

    def discovery(self, tenant: str) -> Answer:
        if tenant != self.tenant_id:
            return self._refusal(400, "invalid_tenant", 90002, f"Tenant '{tenant}' not found. Check the tenant ID.")
        document = {
            "token_endpoint": f"{self.authority}/oauth2/v2.0/token",
            "authorization_endpoint": f"{self.authority}/oauth2/v2.0/authorize",
            "jwks_uri": f"{self.authority}/discovery/v2.0/keys",
            "issuer": f"{self.authority}/v2.0",
            "token_endpoint_auth_methods_supported": ["client_secret_post", "private_key_jwt", "client_secret_basic"],
            "response_types_supported": ["code", "id_token", "code id_token", "id_token token"],
            "subject_types_supported": ["pairwise"],
            "scopes_supported": ["openid", "profile", "email", "offline_access"],
        }
        return Answer(200, _JSON, msgspec.json.encode(document))

    def issue(self, tenant: str, form: dict[str, str], *, v1: bool = False) -> Answer:
        """Answer a token request. v1: the older endpoint, with `resource` instead of `scope`, and numbers as text."""
        if (refusal := self._refuse(tenant, form, v1)) is not None:
            return refusal
        now = self._clock()
        self._expiry = {token: end for token, end in self._expiry.items() if end > now}
        token = ".".join((secrets.token_urlsafe(80), secrets.token_urlsafe(720), secrets.token_urlsafe(256)))
        self._expiry[token] = now + self.token_seconds
        lifetime = str(self.token_seconds) if v1 else self.token_seconds
        answer = {"token_type": "Bearer", "expires_in": lifetime, "ext_expires_in": lifetime, "access_token": token}
        if v1:
            answer |= {"expires_on": str(int(now) + self.token_seconds), "resource": form["resource"]}
        return Answer(200, _JSON, msgspec.json.encode(answer))

    def _refuse(self, tenant: str, form: dict[str, str], v1: bool) -> Answer | None:
        if tenant != self.tenant_id:
            return self._refusal(400, "invalid_request", 90002, f"Tenant '{tenant}' not found. Check the tenant ID.")
        credential = "client_assertion" if form.get("client_assertion") else "client_secret"
        for name in ("grant_type", "client_id", credential, "resource" if v1 else "scope"):
            if not form.get(name):
                text = f"The request body must contain the following parameter: '{name}'."
                return self._refusal(400, "invalid_request", 900144, text)
        return self._refuse_credential(form) or self._refuse_audience(form, v1)

    def _refuse_credential(self, form: dict[str, str]) -> Answer | None:
        if form["grant_type"] != "client_credentials":
            text = f"The app requested an unsupported grant type '{form['grant_type']}'."
            return self._refusal(400, "unsupported_grant_type", 70003, text)
        if form["client_id"] != self.client_id:
            text = f"Application with identifier '{form['client_id']}' was not found in the directory 'sandbox'."
            return self._refusal(400, "unauthorized_client", 700016, text)
        if "client_assertion" in form:
            return self._refuse_assertion(form)
        if not secrets.compare_digest(form["client_secret"].encode(), self.client_secret.encode()):
            text = (
                "Invalid client secret provided. Ensure the secret being sent in the request is the client secret "
                f"value, not the client secret ID, for a secret added to app '{self.client_id}'."
            )
            return self._refusal(401, "invalid_client", 7000215, text)
        if self.secret_expired:
            text = f"The provided client secret keys for app '{self.client_id}' are expired."
            return self._refusal(401, "invalid_client", 7000222, text)
        return None

    def _refuse_assertion(self, form: dict[str, str]) -> Answer | None:
        if form.get("client_assertion_type") != ASSERTION_TYPE:
            return self._refusal(400, "invalid_request", 900144, f"'client_assertion_type' must be {ASSERTION_TYPE}.")
        audiences = {f"{self.authority}/oauth2/v2.0/token", f"{self.authority}/v2.0"}
        refusal = self.assertions.refusal(form["client_assertion"], self.client_id, audiences)
        return self._refusal(401, "invalid_client", *refusal) if refusal else None

    def _refuse_audience(self, form: dict[str, str], v1: bool) -> Answer | None:
        audience = form["resource" if v1 else "scope"]
        # A resource with a slash at its end leads to a scope with two slashes, which Entra ID accepts.
        resource = audience.removesuffix("/.default").rstrip("/")
        if resource != self.resource or not (v1 or audience.endswith("/.default")):
            text = f"The resource principal named {resource} was not found in the tenant named sandbox."
            return self._refusal(400, "invalid_resource", 500011, text)
        return None

    def _refusal(self, status: int, error: str, code: int, text: str) -> Answer:
        trace, correlation = str(uuid.uuid4()), str(uuid.uuid4())
        stamp = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%SZ")
        document = {
            "error": error,
            "error_description": f"AADSTS{code}: {text} Trace ID: {trace} Correlation ID: {correlation} "
            f"Timestamp: {stamp}",
            "error_codes": [code],
            "timestamp": stamp,
            "trace_id": trace,
            "correlation_id": correlation,
            "error_uri": f"{self.url}/error?code={code}",
        }
        return Answer(status, _JSON, msgspec.json.encode(document))


def app(entra: Entra) -> App:
    """Return the ASGI app.

    Serves `/<tenant>/v2.0/.well-known/openid-configuration` and `/<tenant>/oauth2/v2.0/token`, and their v1 paths.
    """

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        body = await read_body(receive)
        tenant, _, path = scope["path"].strip("/").partition("/")
        method: str = scope["method"]
        if method == "GET" and path in ("v2.0/.well-known/openid-configuration", ".well-known/openid-configuration"):
            answer = entra.discovery(tenant)
        elif method == "POST" and path in ("oauth2/v2.0/token", "oauth2/token"):
            form = dict(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True))
            form |= _basic_credentials(headers_of(scope).get("authorization", ""))
            answer = entra.issue(tenant, form, v1=path == "oauth2/token")
        else:
            answer = Answer(404, [(b"content-type", b"text/html")], b"")
        await send_answer(send, answer)

    return serve


def _basic_credentials(authorization: str) -> dict[str, str]:
    """Return the parameters in an HTTP Basic header, encoded as in a form (RFC 6749, 2.3.1); {} if there are none."""
    kind, _, encoded = authorization.partition(" ")
    if kind.lower() != "basic":
        return {}
    try:
        client_id, _, secret = base64.b64decode(encoded, validate=True).decode().partition(":")
    except ValueError:
        return {}
    return {"client_id": unquote_plus(client_id), "client_secret": unquote_plus(secret)}


def refuse(rule: Rule) -> Answer | None:
    """Return Entra ID's answer for an injected fault of a generic kind; None for the plain answer."""
    if rule.kind == "throttle":
        document = {"error": "temporarily_unavailable", "error_description": "AADSTS90055: The tenant is throttled."}
        return Answer(429, [*_JSON, retry_after(rule)], msgspec.json.encode(document))
    if rule.kind == "unauthorized":
        document = {"error": "invalid_client", "error_description": "AADSTS7000215: Invalid client secret provided."}
        return Answer(401, _JSON, msgspec.json.encode(document | {"error_codes": [7000215]}))
    return None


def routes(entra: Entra) -> list[Route]:
    """Return the admin route `GET|POST /login/settings`.

    Settings: `token_seconds`, `secret_expired`, `"expire_tokens": true`, `certificates` (a list of PEM texts) and
    `federated` (a list, see `FederatedIdentity.of_document`). Answers with the first two.
    """

    async def settings(request: Request) -> Response:
        values = await json_body(request) if request.method == "POST" else {}
        names = {"token_seconds", "secret_expired", "expire_tokens", "certificates", "federated"}
        if unknown := set(values) - names:
            raise BadRequest(f"unknown settings: {', '.join(sorted(unknown))}")
        try:
            certificates = [x509.load_pem_x509_certificate(pem.encode()) for pem in values.get("certificates", [])]
            federated = [FederatedIdentity.of_document(document) for document in values.get("federated", [])]
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise BadRequest("certificates or federated credentials that cannot be read") from error
        entra.token_seconds = int(values.get("token_seconds", entra.token_seconds))
        entra.secret_expired = bool(values.get("secret_expired", entra.secret_expired))
        entra.assertions.certificates = certificates if "certificates" in values else entra.assertions.certificates
        entra.assertions.federated = federated if "federated" in values else entra.assertions.federated
        if values.get("expire_tokens"):
            entra.expire_tokens()
        return json_response({"token_seconds": entra.token_seconds, "secret_expired": entra.secret_expired})

    return [Route("/login/settings", settings, methods=["GET", "POST"])]
