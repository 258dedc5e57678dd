"""Sign-in at Entra ID by client credentials, through msal. Source: dataverse-web-api.md section 5."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter

from sync_assets.errors import reason
from sync_assets.http import CachedTokens, HttpError, SignInRefused

TIMEOUT = (15.0, 30.0)
"""Seconds to connect, and to wait for an answer."""
_REMEDIES = {
    7000215: "Put the secret's value (not its id) into D365_CLIENT_SECRET.",
    7000222: "The secret has expired: make a new one for the app registration and set D365_CLIENT_SECRET.",
    700016: "Check D365_CLIENT_ID and D365_TENANT_ID: this tenant does not know the application.",
    90002: "Check D365_TENANT_ID: there is no such tenant.",
    500011: "Check D365_URL: the tenant knows no such Dynamics 365 organisation.",
}


class _TrustedAdapter(HTTPAdapter):
    """Gives requests our own trust store: REQUESTS_CA_BUNDLE would beat `verify` (section 5, traps)."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context
        super().__init__()

    def send(self, *args: Any, **kwargs: Any) -> requests.Response:
        # msal gives no time-out to a session that is not its own: a host that never answers would hang us for ever.
        return super().send(*args, **{**kwargs, "timeout": kwargs.get("timeout") or TIMEOUT})

    def cert_verify(self, conn: Any, url: Any, verify: Any, cert: Any) -> None:
        super().cert_verify(conn, url, verify, cert)
        conn.ca_certs = conn.ca_cert_dir = None  # else urllib3 adds certifi's authorities to our context, for good

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs, ssl_context=self._context)

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        return super().proxy_manager_for(*args, **kwargs, ssl_context=self._context)


def entra_tokens(
    *, authority: str, tenant: str, client_id: str, client_secret: str, resource: str, context: ssl.SSLContext
) -> CachedTokens:
    """Bearer tokens for `resource` (the organisation's URL). Raises SignInRefused with Microsoft's error code."""

    def fetch() -> tuple[str, float]:
        import msal  # 0.1 s: only those who sign in pay for it  # noqa: PLC0415
        from msal.exceptions import MsalError  # noqa: PLC0415

        session = requests.Session()
        session.trust_env = False
        session.proxies = requests.utils.get_environ_proxies(authority)  # type: ignore[assignment]
        session.mount("https://", _TrustedAdapter(context))
        try:
            # A new application each time: its cache would hand out again the token that was just refused.
            application = msal.ConfidentialClientApplication(
                client_id,
                client_credential=client_secret,
                authority=f"{authority.rstrip('/')}/{tenant}",
                instance_discovery=urlsplit(authority).hostname == "login.microsoftonline.com",
                http_client=session,
            )
            answer: dict[str, Any] = application.acquire_token_for_client([f"{resource.rstrip('/')}/.default"]) or {}
        except ValueError as error:  # msal's word for an authority that is not one
            raise SignInRefused(
                f"{authority} does not answer as a Microsoft sign-in host for this tenant.",
                "Check D365_AUTHORITY and D365_TENANT_ID.",
            ) from error
        except requests.RequestException as error:
            raise HttpError(
                f"The sign-in host {authority} cannot be reached ({reason(error)}).",
                "Check D365_AUTHORITY, the network, and SYNC_ASSETS_CA_BUNDLE for a private certificate.",
            ) from error
        except MsalError as error:
            raise HttpError(f"The sign-in host {authority} is out of order ({type(error).__name__}).") from error
        finally:
            session.close()
        if token := answer.get("access_token"):
            return str(token), float(answer.get("expires_in", 3600))
        raise _refusal(answer)

    async def fetch_in_thread() -> tuple[str, float]:
        return await asyncio.to_thread(fetch)

    return CachedTokens(fetch_in_thread)


def _refusal(answer: dict[str, Any]) -> SignInRefused:
    codes: list[int] = [int(code) for code in answer.get("error_codes") or []]
    shown = ", ".join(f"AADSTS{code}" for code in codes) or str(answer.get("error", "no reason given"))
    remedy = next((_REMEDIES[code] for code in codes if code in _REMEDIES), "")
    return SignInRefused(
        f"Dynamics 365 sign-in was refused ({shown}).",
        remedy or "Check D365_TENANT_ID, D365_CLIENT_ID and D365_CLIENT_SECRET.",
    )
