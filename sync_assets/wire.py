"""How a request travels: TLS, proxies, aiohttp.

httpx's own transport is quadratic in the number of requests in flight, and its requests and answers cost half of the
processor time of a call (speed.md, A), so calls go through `Wire`; what is made by httpx, as a sign-in is, travels the
same way (httpx_transport.py). The ready-made bridge re-quotes URLs and reports a lost answer as a failed connection,
while we have to know whether a request may have been carried out. When it may travel again is `http.py`'s.
"""

from __future__ import annotations

import asyncio
import gzip
import re
import ssl
import urllib.request
import zlib
from collections.abc import Mapping
from functools import lru_cache
from urllib.parse import quote

import aiohttp
from aiohttp.http_exceptions import ContentEncodingError
from yarl import URL

from sync_assets.errors import reason
from sync_assets.transport import Answer, NotSent, NotTrusted, OutcomeUnknown

_REACH = "Check that address in the environment, and the network; nothing is lost, run it again later."


READ_AHEAD = 1 << 20
"""Bytes of an answer that may wait to be read: with aiohttp's 64 KiB a page of 8 MB stops and goes a hundred times."""
INFLATED_HERE = 65_536
"""Bytes of a compressed answer above which a thread inflates it: a page takes 20 ms, and other calls would wait."""


class Wire:
    """Requests over aiohttp: URLs travel exactly as given, and errors tell "not sent" from "outcome unknown".

    `connect`, `read`: seconds, for a connection and for each silence after it. `headers`: of every request; its own
    ones come first.
    """

    def __init__(
        self,
        context: ssl.SSLContext,
        connections: int,
        *,
        connect: float,
        read: float,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self._context = context
        self._headers = headers
        self._connections = connections
        self._timeout = aiohttp.ClientTimeout(total=None, sock_connect=connect, sock_read=read)
        self._session: aiohttp.ClientSession | None = None

    def _open(self) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(ssl=self._context, limit=self._connections, keepalive_timeout=30)
        # No cookies: Dataverse's affinity cookie would pin us to one server (dataverse-web-api.md section 4).
        # No trust_env: it looks for ~/.netrc and for a proxy in a thread of its own, for each single request.
        session = aiohttp.ClientSession(
            connector=connector,
            headers=self._headers,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            timeout=self._timeout,
            read_bufsize=READ_AHEAD,
        )
        # aiohttp would send a GET or DELETE again by itself when a kept connection breaks: uncounted, unseen.
        session._retry_connection = False  # pyright: ignore[reportPrivateUsage]
        return session

    async def exchange(self, method: str, address: str, headers: Mapping[str, str], body: bytes | None) -> Answer:
        """One request and its whole answer. Raises NotSent, NotTrusted, OutcomeUnknown."""
        session = self._session = self._session or self._open()
        url = _parsed(address)
        payload = aiohttp.BytesPayload(body) if body else None  # else aiohttp looks for the kind of each single one
        try:
            async with session.request(
                method, url, headers=headers, data=payload, allow_redirects=False, proxy=_proxy(url)
            ) as response:
                content = await response.read()
            return Answer(response.status, response.headers, await _inflated(response.headers, content))
        except aiohttp.ClientConnectorCertificateError as error:
            raise NotTrusted(
                f"{_place(method, url)}: the server's certificate is not trusted ({reason(error)}).",
                "Name the issuing authority's PEM file in SYNC_ASSETS_CA_BUNDLE.",
            ) from error
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.ClientHttpProxyError) as error:
            raise NotSent(f"{_place(method, url)} cannot be reached ({reason(error)}).", _REACH) from error
        except (aiohttp.ClientError, ContentEncodingError, zlib.error, EOFError, TimeoutError, OSError) as error:
            raise OutcomeUnknown(f"{_place(method, url)} gave no answer ({type(error).__name__}).", _REACH) from error

    async def aclose(self) -> None:
        if self._session:
            await self._session.close()


_NOT_IN_A_URL = re.compile(r"[^\x21-\x7e]|[\"<>`]")


@lru_cache(maxsize=128)
def _parsed(address: str) -> URL:
    """As given, but for what would break the line of the request: that is quoted."""
    return URL(_NOT_IN_A_URL.sub(lambda found: quote(found[0]), address), encoded=True)


async def _inflated(headers: Mapping[str, str], content: bytes) -> bytes:
    """zlib.error, EOFError, OSError or ContentEncodingError if it is not what its header says, or not gzip."""
    encoding = headers.get("Content-Encoding", "").strip().lower()
    if encoding in ("", "identity") or not content:
        return content
    if encoding not in ("gzip", "x-gzip"):
        raise ContentEncodingError("gzip was asked for")
    if len(content) < INFLATED_HERE:
        return gzip.decompress(content)
    return await asyncio.to_thread(gzip.decompress, content)


@lru_cache(maxsize=64)
def _environment_proxy(scheme: str, host: str) -> str | None:
    if urllib.request.proxy_bypass(host):
        return None
    return urllib.request.getproxies().get(scheme)


def _proxy(url: URL) -> str | None:
    """The proxy of the environment (`HTTPS_PROXY`, `NO_PROXY`, ...) for a URL; looked up once per host."""
    return _environment_proxy(url.scheme, url.host or "")


def _place(method: str, url: URL) -> str:
    """Method, host and path: a query string may hold personal data and is left out."""
    return f"{method} {url.scheme}://{url.raw_authority}{url.raw_path}"
