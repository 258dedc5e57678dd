"""How a request travels: TLS, proxies, and an aiohttp transport behind httpx's interface.

httpx's own transport is quadratic in the number of requests in flight (speed.md, A), and the ready-made bridge
re-quotes URLs and reports a lost answer as a failed connection, while we have to know whether a request may have been
carried out. When it may travel again is `http.py`'s.
"""

from __future__ import annotations

import ssl
import urllib.request
from functools import lru_cache
from pathlib import Path

import aiohttp
import certifi
import httpx
from yarl import URL

from sync_assets.errors import SyncAssetsError


class HttpError(SyncAssetsError):
    """A request that got no usable answer."""


class NotSent(HttpError):
    """No connection: the request certainly was not carried out."""


class NotTrusted(NotSent):
    """The server's certificate is not trusted; trying again does not help."""


class OutcomeUnknown(HttpError):
    """The connection was lost or timed out after sending: the request may have been carried out."""


def ssl_context(ca_bundle: Path | None = None) -> ssl.SSLContext:
    """The machine's authorities (certifi's where it has none) and those of `ca_bundle`, a PEM file."""
    context = ssl.create_default_context()
    if not context.cert_store_stats()["x509_ca"]:
        context.load_verify_locations(certifi.where())
    if ca_bundle:
        try:
            context.load_verify_locations(ca_bundle)
        except (OSError, ssl.SSLError) as error:
            raise SyncAssetsError(
                f"SYNC_ASSETS_CA_BUNDLE names {ca_bundle}, which cannot be read as PEM certificates.",
                "Give the path of a PEM file, or unset it.",
            ) from error
    return context


_REACH = "Check that address in the environment, and the network; nothing is lost, run it again later."


class AiohttpTransport(httpx.AsyncBaseTransport):
    """httpx over aiohttp: URLs travel exactly as given, and errors tell "not sent" from "outcome unknown"."""

    def __init__(self, context: ssl.SSLContext, connections: int) -> None:
        self._context = context
        self._connections = connections
        self._session: aiohttp.ClientSession | None = None

    def _open(self) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(ssl=self._context, limit=self._connections, keepalive_timeout=30)
        # No cookies: Dataverse's affinity cookie would pin us to one server (dataverse-web-api.md section 4).
        # No trust_env: it looks for ~/.netrc and for a proxy in a thread of its own, for each single request.
        session = aiohttp.ClientSession(
            connector=connector, cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False, trust_env=False
        )
        # aiohttp would send a GET or DELETE again by itself when a kept connection breaks: uncounted, unseen.
        session._retry_connection = False  # pyright: ignore[reportPrivateUsage]
        return session

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        session = self._session = self._session or self._open()
        limits: dict[str, float] = request.extensions.get("timeout", {})
        try:
            async with session.request(
                request.method,
                URL(str(request.url), encoded=True),
                headers=request.headers.multi_items(),
                data=request.content or None,
                allow_redirects=False,
                proxy=_proxy(request.url),
                timeout=aiohttp.ClientTimeout(
                    total=None, sock_connect=limits.get("connect"), sock_read=limits.get("read")
                ),
            ) as response:
                return httpx.Response(
                    response.status,
                    headers=response.raw_headers,
                    content=await response.read(),
                    request=request,
                )
        except aiohttp.ClientConnectorCertificateError as error:
            raise NotTrusted(
                f"{place(request)}: the server's certificate is not trusted ({_certificate_trouble(error)}).",
                "Name the issuing authority's PEM file in SYNC_ASSETS_CA_BUNDLE.",
            ) from error
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.ClientHttpProxyError) as error:
            raise NotSent(f"{place(request)} cannot be reached ({_cause(error)}).", _REACH) from error
        except (aiohttp.ClientError, httpx.DecodingError, TimeoutError, OSError) as error:
            raise OutcomeUnknown(f"{place(request)} gave no answer ({type(error).__name__}).", _REACH) from error

    async def aclose(self) -> None:
        if self._session:
            await self._session.close()


def _cause(error: BaseException) -> str:
    return str(getattr(error, "strerror", None) or type(error).__name__)


def _certificate_trouble(error: aiohttp.ClientConnectorCertificateError) -> str:
    cause = error.certificate_error
    return str(getattr(cause, "verify_message", "") or type(cause).__name__)


@lru_cache(maxsize=64)
def _environment_proxy(scheme: str, host: str) -> str | None:
    if urllib.request.proxy_bypass(host):
        return None
    return urllib.request.getproxies().get(scheme)


def _proxy(url: httpx.URL) -> str | None:
    """The proxy of the environment (`HTTPS_PROXY`, `NO_PROXY`, ...) for a URL; looked up once per host."""
    return _environment_proxy(url.scheme, url.host)


def place(request: httpx.Request) -> str:
    """Method, host and path: a query string may hold personal data and is left out."""
    return f"{request.method} {request.url.scheme}://{request.url.netloc.decode()}{request.url.path}"
