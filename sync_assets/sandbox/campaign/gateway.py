"""Adobe's gateway in front of Campaign: who may pass, and how it refuses (docs/references/campaign.md 5, Errors).

What the gateway refuses never reaches the engine, so it is not an engine call.
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
"""Faults that `refuse` answers as a whole, beside the generic ones."""
ENGINE_KINDS = frozenset({"rst"})
"""Faults of the engine, taken by the app: a bare RST-360011; with `carry_out` the request is done all the same."""

TEXT = [(b"content-type", b"text/plain")]
OOPS = "Oops. Something went wrong. Check your URI and try again."


def refusal(campaign: Campaign, authorization: bytes, api_key: bytes) -> Answer | None:
    """None: the request may pass to the instance."""
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
    """Counts a request, unless there were as many as may be within the last second."""
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
    """How the gateway words the injected faults."""
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


def _gateway(status: int, told: dict[str, Any]) -> Answer:
    headers = [(b"content-type", b"application/json"), (b"x-request-id", uuid.uuid4().hex.encode())]
    return Answer(status, headers, msgspec.json.encode(told))
