"""Sign-in at Adobe IMS by client credentials (OAuth server-to-server).

Source:
https://developer.adobe.com/developer-console/docs/guides/authentication/ServerToServerAuthentication/implementation
"""

import asyncio
import re
import ssl
from typing import Any

import httpx

from sync_assets.config.environment import CampaignSettings
from sync_assets.http import transport
from sync_assets.http.retry import SIGN_IN_LONGEST_WAIT, SIGN_IN_TRIES, backoff, retry_after
from sync_assets.http.tokens import CachedTokens, bearer_token, token_seconds
from sync_assets.http.transport import SIGN_IN_LIMITS, NotSent, OutcomeUnknown, SignInRefused, Unavailable
from sync_assets.http.transport_stack import errors_as_ours, sign_in_client

_REACH = "Check CAMPAIGN_IMS_URL and the network; nothing is lost, run it again later."

_REMEDIES = {
    "invalid_client": "Check CAMPAIGN_CLIENT_ID and CAMPAIGN_CLIENT_SECRET; the secret may have been rotated.",
    "invalid_scope": "Check CAMPAIGN_SCOPES against the scopes of the credential in the Adobe Developer Console.",
    "unauthorized_client": "The credential must be an OAuth server-to-server one; check CAMPAIGN_CLIENT_ID.",
    "unsupported_grant_type": "Check CAMPAIGN_IMS_URL: this host does not issue tokens for client credentials.",
}


def ims_tokens(access: CampaignSettings, context: ssl.SSLContext) -> CachedTokens:
    """Return a source of bearer tokens. The secret's file is read at each sign-in: a rotated one counts at once.

    Fetching a token is retried a few times, then raises SignInRefused, NotSent (no connection) or Unavailable.
    """
    url = f"{access.ims_url.rstrip('/')}/ims/token/v3"

    async def ask() -> httpx.Response:
        form = {
            "grant_type": "client_credentials",
            "client_id": access.client_id,
            "client_secret": access.client_secret.get_secret_value(),
            "scope": ",".join(part.strip() for part in access.scopes.split(",") if part.strip()),
        }
        # A new client for each fetch, once a day: no connection stays open, whichever event loop fetches.
        with errors_as_ours("POST", url):
            async with sign_in_client(context, httpx.Timeout(30), SIGN_IN_LIMITS) as client:
                return await client.post(url, data=form)

    async def fetch() -> tuple[str, float]:
        for attempt in range(SIGN_IN_TRIES):
            last, wait = attempt == SIGN_IN_TRIES - 1, backoff(attempt)
            try:
                response = await ask()
            except (NotSent, OutcomeUnknown) as error:
                if last or isinstance(error, transport.NotTrusted | transport.LimitExceeded):
                    # OutcomeUnknown is about the token request, not about the write that needs the token, so it is
                    # not raised as such.
                    kind = type(error) if isinstance(error, NotSent) else Unavailable
                    raise kind(error.cause, _REACH if error.remedy == transport.REACH else error.remedy) from error
            else:
                answer = transport.members(response.content)
                token = bearer_token(answer.get("access_token"))
                if response.status_code == 200 and token:
                    return token, token_seconds(answer.get("expires_in"))
                refusal = _refusal(response.status_code, answer, url)
                if isinstance(refusal, SignInRefused):
                    raise refusal
                seconds = retry_after(response.headers)
                if seconds is not None and seconds > SIGN_IN_LONGEST_WAIT:
                    raise Unavailable(f"{refusal.cause} It asks us to wait {seconds:.0f} s.", refusal.remedy)
                if last:
                    raise refusal
                wait = wait if seconds is None else seconds
            await asyncio.sleep(wait)
        raise AssertionError("the last try returns or raises")

    return CachedTokens(fetch)


def _refusal(status: int, answer: dict[str, Any], url: str) -> transport.HttpError:
    code = str(answer.get("error", ""))
    code = code if re.fullmatch(r"[a-z_]{1,40}", code) else ""  # so that it cannot contain what we sent
    if status in {429, 502, 503, 504} or (status >= 500 and not code):
        return Unavailable(f"Adobe's sign-in {url} is out of order ({status}).", "Run it again later.")
    if not code and status not in {400, 401, 403}:
        return SignInRefused(f"{url} does not answer as Adobe's sign-in ({status}).", "Check CAMPAIGN_IMS_URL.")
    return SignInRefused(
        f"Campaign sign-in was refused ({code or status}).",
        _REMEDIES.get(code, "Check CAMPAIGN_CLIENT_ID, CAMPAIGN_CLIENT_SECRET and CAMPAIGN_SCOPES."),
    )
