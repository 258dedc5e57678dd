"""Sign-in at Entra ID by client credentials, through msal: with a secret, a certificate or a federated token.

Source:
https://learn.microsoft.com/entra/identity-platform/v2-oauth2-client-creds-grant-flow
https://learn.microsoft.com/entra/identity-platform/reference-error-codes
"""

import asyncio
import re
import ssl
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode, urlsplit

import httpx
from pydantic import SecretStr

from sync_assets.config.environment import D365Settings, variable_of
from sync_assets.http.client import origin
from sync_assets.http.retry import RETRY_STATUS, retry_after
from sync_assets.http.tokens import CachedTokens, bearer_token, token_seconds
from sync_assets.http.transport import REACH, SIGN_IN_LIMITS, HttpError, NotSent, SignInRefused, Unavailable
from sync_assets.http.transport_stack import errors_as_ours, sign_in_client
from sync_assets.performance import new_event_loop

_FORM = "application/x-www-form-urlencoded"
_NO_AUTHORITY = (ValueError, KeyError, TypeError, AttributeError, RecursionError, RuntimeError, OverflowError)
"""What msal raises for a URL that is no authority: ValueError and RuntimeError on purpose, the others by accident."""
_REACH = "Check D365_AUTHORITY and the network; nothing is lost, run it again later."
_NO_RESOURCE = 500011
_REMEDIES = {
    7000215: "Put the secret's value (not its id) into D365_CLIENT_SECRET.",
    7000222: "The secret has expired: make a new one for the app registration and set D365_CLIENT_SECRET.",
    700016: "Check D365_CLIENT_ID and D365_TENANT_ID: this tenant does not know the application.",
    90002: "Check D365_TENANT_ID: there is no such tenant.",
    _NO_RESOURCE: "Check the host and the port of D365_URL: the tenant has no Dynamics 365 organisation there.",
    700027: "Add the certificate that D365_CLIENT_CERTIFICATE names to the app registration, unless it has ended.",
    700024: "Check this machine's clock; a federated token may have ended, and its platform not renewed the file.",
    700211: "Correct the issuer in the app registration's federated credential: the token has another one.",
    700213: "Correct the subject in the app registration's federated credential: the token has another one.",
    700212: "Correct the audience in the app registration's federated credential: the token has another one.",
}


class _Client:
    """The HTTP client that msal uses (its class `HttpClient`), with our trust store, proxies and limits.

    It follows no redirects, and posts to the authority's own host only: msal posts the secret or the assertion to the
    address that the authority's description names. For one thread without a running event loop. Must be closed.
    """

    def __init__(self, authority: str, context: ssl.SSLContext) -> None:
        self._authority = authority
        self._client = sign_in_client(context, httpx.Timeout(30.0, connect=15.0), SIGN_IN_LIMITS)
        self._loop = asyncio.Runner(loop_factory=new_event_loop)

    def get(self, url: str, **asked: Any) -> httpx.Response:
        return self._send("GET", url, **asked)

    def post(self, url: str, **asked: Any) -> httpx.Response:
        try:
            scheme, host, port = origin(url)
            own = (scheme, host, port) == origin(self._authority)
        except ValueError:
            own, scheme, host, port = False, "", "no valid host", 0
        if not own:
            raise SignInRefused(
                f"The sign-in host {self._authority} names another address for tokens: {scheme}://{host}:{port}. No "
                "secret was sent.",
                "Check D365_AUTHORITY: it must be the host that issues the tokens.",
            )
        return self._send("POST", url, **asked)

    def _send(
        self,
        method: str,
        url: str,
        *,
        params: Mapping[str, str] | None = None,
        data: Mapping[str, str] | str | None = None,
        headers: Mapping[str, str] | None = None,
        **_: Any,
    ) -> httpx.Response:
        address = f"{url}{'&' if '?' in url else '?'}{urlencode(params)}" if params else url
        body = (data if isinstance(data, str) else urlencode(data or {})).encode() if method == "POST" else None
        sent = {"Content-Type": _FORM, **(headers or {})} if method == "POST" else headers or {}
        with errors_as_ours(method, address):
            answer = self._loop.run(self._client.request(method, address, headers=sent, content=body))
        answer.encoding = "utf-8"  # whatever it names itself
        if answer.status_code in RETRY_STATUS:
            seconds = retry_after(answer.headers)
            asks = f" It asks us to wait {seconds:.0f} s." if seconds else ""
            raise Unavailable(
                f"The sign-in host {self._authority} is out of order ({answer.status_code}).{asks}",
                "Run it again later.",
            )
        return answer

    def close(self) -> None:
        with self._loop:
            self._loop.run(self._client.aclose())


def entra_tokens(access: D365Settings, context: ssl.SSLContext) -> CachedTokens:
    """Return a source of bearer tokens. A credential's file is read at each sign-in: a rotated one counts at once.

    Fetching a token raises SignInRefused with Microsoft's error code, HttpError, SecretFileError.
    """
    authority, credential = access.authority, access.credential

    def fetch() -> tuple[str, float]:
        import msal  # takes 0.1 s, so it is imported only for a sign-in  # noqa: PLC0415
        from msal.exceptions import MsalError  # noqa: PLC0415

        if isinstance(credential, SecretStr):
            own: str | Mapping[str, Any] = credential.get_secret_value()
        else:
            from sync_assets.dataverse.app_credential import msal_credential  # cryptography: 0.05 s  # noqa: PLC0415

            own = msal_credential(credential)
        client = _Client(authority, context)
        try:
            # A new application each time: the cache of an old one would return the token that was just refused.
            application = msal.ConfidentialClientApplication(
                access.client_id,
                client_credential=own,
                authority=f"{authority.rstrip('/')}/{access.tenant_id}",
                instance_discovery=urlsplit(authority).hostname == "login.microsoftonline.com",
                http_client=client,
            )
            answer: dict[str, Any] = application.acquire_token_for_client([f"{access.url.rstrip('/')}/.default"]) or {}
        except (SignInRefused, Unavailable):
            raise
        except HttpError as error:
            # OutcomeUnknown is about the token request, not about the write that needs the token, so it is not raised
            # as such.
            kind = type(error) if isinstance(error, NotSent) else HttpError
            raise kind(error.cause, _REACH if error.remedy == REACH else error.remedy) from error
        except _NO_AUTHORITY as error:
            raise SignInRefused(
                f"{authority} does not answer as a Microsoft sign-in host for this tenant.",
                "Check D365_AUTHORITY and D365_TENANT_ID.",
            ) from error
        except MsalError as error:
            raise HttpError(f"The sign-in host {authority} is out of order ({type(error).__name__}).") from error
        finally:
            client.close()
        if token := bearer_token(answer.get("access_token")):
            return token, token_seconds(answer.get("expires_in"))
        raise _refusal(answer, access.url, variable_of(credential))

    return CachedTokens(lambda: asyncio.to_thread(fetch))


def _refusal(answer: dict[str, Any], resource: str, variable: str) -> SignInRefused:
    """Return the error for an answer without a token. Only codes are shown: any other text may be anything."""
    listed: Any = answer.get("error_codes")
    codes = [code for code in listed if isinstance(code, int)] if isinstance(listed, list) else []
    error = str(answer.get("error", ""))
    error = error if re.fullmatch(r"[a-z_]{1,40}", error) else "no reason given"
    shown = ", ".join(f"AADSTS{code}" for code in codes) or error
    of_resource = f" for {resource}" if _NO_RESOURCE in codes else ""
    remedy = next((_REMEDIES[code] for code in codes if code in _REMEDIES), "")
    return SignInRefused(
        f"Dynamics 365 sign-in{of_resource} was refused ({shown}).",
        remedy or f"Check D365_TENANT_ID, D365_CLIENT_ID and {variable}.",
    )
