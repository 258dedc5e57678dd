"""Adobe's gateway in front of Campaign: authorization, rate limit, and their errors.

Source: docs/dev/references/campaign.md 5, Errors.

Invariant: a request that the gateway refuses does not reach the engine, so it is no engine call.
"""

from __future__ import annotations

import uuid
from typing import Any

import msgspec

from sync_assets.sandbox.asgi import Answer
from sync_assets.sandbox.campaign import errors
from sync_assets.sandbox.campaign.engine import Campaign
from sync_assets.sandbox.faults import Rule
from sync_assets.sandbox.middleware import retry_after

KINDS = frozenset({"oops"})
"""Kinds of faults, besides the generic ones, that `refuse` answers."""
ENGINE_KINDS = frozenset({"rst"})
"""Kinds of faults of the engine, applied by the app: a bare RST-360011; with `carry_out` the request is executed."""

TEXT = [(b"content-type", b"text/plain")]
OOPS = "Oops. Something went wrong. Check your URI and try again."


def refusal(campaign: Campaign, authorization: bytes, api_key: bytes) -> Answer | None:
    """Return the gateway's error for a request; None if the request may pass."""
    if not api_key:
        return _coded(403, "403000", "Api Key is required")
    if api_key != campaign.ims.client_id.encode():
        return _coded(403, "403003", "Api Key is invalid")
    scheme, _, token = authorization.partition(b" ")
    if scheme.lower() != b"bearer" or not token:
        return _coded(403, "403010", "Oauth token is missing.")
    if campaign.ims.check(token.decode("ascii", "replace")) != "valid":
        return _coded(401, "401013", "Oauth token is not valid")
    if not campaign.settings.provisioned:
        return _coded(403, "403023", "Profile is not valid")
    return _too_fast(campaign)


def _too_fast(campaign: Campaign) -> Answer | None:
    """Count a request. Return a 429 if the limit of requests per second is reached."""
    limit, now, admitted = campaign.settings.calls_per_second, campaign.clock(), campaign.admitted
    while admitted and admitted[0] <= now - 1:
        admitted.popleft()
    if limit is None:
        return None
    if len(admitted) >= limit:
        return _coded(429, "429050", "Too many requests")
    admitted.append(now)
    return None


def wrong_tenant(status: int) -> Answer:
    return _gateway(status, {"code": status, "message": OOPS})


def refuse(rule: Rule) -> Answer | None:
    """Return the gateway's answer for an injected fault; None for the plain answer."""
    if rule.kind == "throttle":
        answer = _coded(429, "429050", "Too many requests")
        answer.headers.append(retry_after(rule))
        return answer
    if rule.kind == "unavailable":
        answer = _coded(503, "503071", "Service unavailable")
        if "retry_after" in rule.parameters:
            answer.headers.append(retry_after(rule))
        return answer
    if rule.kind == "unauthorized":
        return _coded(401, "401013", "Oauth token is not valid")
    if rule.kind == "oops":
        return wrong_tenant(int(rule.parameters.get("status", 500)))
    return None


def bare_rst() -> Answer:
    return Answer(500, TEXT, errors.RST.encode())


def _coded(status: int, code: str, message: str) -> Answer:
    return _gateway(status, {"error_code": code, "message": message})


def _gateway(status: int, document: dict[str, Any]) -> Answer:
    headers = [(b"content-type", b"application/json"), (b"x-request-id", uuid.uuid4().hex.encode())]
    return Answer(status, headers, msgspec.json.encode(document))
