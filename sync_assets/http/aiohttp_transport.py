"""Send single HTTP requests with aiohttp: TLS, proxies, deadlines, response limits.

httpx's own transport is quadratic in the number of requests in flight (docs/dev/decisions/aiohttp.md), so
`AiohttpTransport` takes its place. The published bridge between the two re-quotes URLs and reports a lost response as a
failed connection, but we must distinguish whether a request may have been carried out. Retries are not here, but in
transport_stack.py.

Invariant: no error has aiohttp's as its cause: that may quote an address with its query, or what was received.
"""

import asyncio
import re
import ssl
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, cast
from urllib.parse import quote

import aiohttp
import httpx
from aiohttp.http_exceptions import ContentEncodingError
from yarl import URL

from sync_assets.errors import reason
from sync_assets.http.proxy import Proxy, environment_proxy
from sync_assets.http.transport import (
    CHECK_ADDRESS,
    REACH,
    USUAL_LIMITS,
    LimitExceeded,
    Limits,
    NotSent,
    NotTrusted,
    OutcomeUnknown,
    Response,
    ResponseTooLarge,
    certificate_remedy,
)

_PROXY = "Check HTTPS_PROXY and NO_PROXY, and whether the proxy runs; nothing is lost, run it again later."

READ_AHEAD = 1 << 20
"""Bytes of a response that are buffered: with aiohttp's 64 KiB a page of 8 MB is paused a hundred times."""
INFLATED_HERE = 65_536
"""Bytes of a compressed response above which a thread decompresses it: a page takes 20 ms, delaying other calls."""


_ENDS_HERE = frozenset({"content-encoding", "content-length", "transfer-encoding", "location", "set-cookie"})
"""Headers that httpx is not given: an answer is decompressed, redirects are not followed, and cookies not kept."""
_AS_RECEIVED = ("utf-8", "surrogateescape")


@dataclass(slots=True)
class RecordRequest:
    """What the transports read of an `httpx.Request`; making one, and an `httpx.Response`, costs as much as they do.

    Passes them in place of one if a request is about a record; then a `Response` comes back.
    """

    method: str
    headers: dict[str, str] = field(repr=False)
    body: bytes | None = field(repr=False)
    extensions: dict[str, Any] = field(repr=False)

    async def aread(self) -> bytes:
        return self.body or b""


class AiohttpTransport(httpx.AsyncBaseTransport):
    """Sends requests with aiohttp. URLs are sent exactly as given; errors distinguish "not sent" and "outcome unknown".

    connections: most connections at once. timeout: of its parts, `connect` and `read` (between two pieces of a
    response). limits: of a whole response. headers: of every request, unless a request overrides them.
    """

    def __init__(
        self,
        context: ssl.SSLContext,
        connections: int,
        timeout: httpx.Timeout,
        *,
        headers: Mapping[str, str] | None = None,
        limits: Limits = USUAL_LIMITS,
    ) -> None:
        self._context = context
        self._limits = limits
        self._headers = headers
        self._connections = connections
        self._timeout = aiohttp.ClientTimeout(total=None, sock_connect=timeout.connect, sock_read=timeout.read)
        self._session: aiohttp.ClientSession | None = None

    def _open(self) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(ssl=self._context, limit=self._connections, keepalive_timeout=30)
        # No cookies: Dataverse's affinity cookie would pin us to one server (docs/dev/references/dataverse.md 4).
        # No trust_env: for each request it would look up ~/.netrc and the proxy in a thread.
        session = aiohttp.ClientSession(
            connector=connector,
            headers=self._headers,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            timeout=self._timeout,
            read_bufsize=READ_AHEAD,
        )
        # aiohttp would repeat a GET or DELETE by itself if a kept-alive connection breaks, without it being counted.
        session._retry_connection = False  # pyright: ignore[reportPrivateUsage]
        return session

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request, to its extension `address` if it has one. Raises what `exchange` raises."""
        if isinstance(request, RecordRequest):
            sent = request.extensions["address"], request.headers, request.body
            return cast(httpx.Response, await self.exchange(request.method, *sent))
        address = request.extensions.get("address") or str(request.url)
        answer = await self.exchange(request.method, address, request.headers, await request.aread())
        headers = [
            (name.encode(*_AS_RECEIVED), value.encode(*_AS_RECEIVED))  # as text httpx would take ASCII only
            for name, value in answer.headers.items()
            if name.lower() not in _ENDS_HERE
        ]
        return httpx.Response(answer.status, headers=headers, stream=httpx.ByteStream(answer.body))

    async def exchange(self, method: str, address: str, headers: Mapping[str, str], body: bytes | None) -> Response:
        """Send one request and read its whole response.

        Raises:
            NotSent: no connection could be made.
            NotTrusted: the server's certificate is not trusted.
            OutcomeUnknown: the response was lost.
            LimitExceeded: the response was too large or took too long.
        """
        session = self._session = self._session or self._open()
        try:
            url = _parsed(address)
        except ValueError:
            raise NotSent(f"{method} cannot be sent: its address is no valid URL.", CHECK_ADDRESS) from None
        proxy = environment_proxy(url.scheme, url.host or "")
        behind, remedy = (f" through the proxy {proxy.address}", _PROXY) if proxy else ("", REACH)
        payload = aiohttp.BytesPayload(body) if body else None  # else aiohttp searches its payload types for each one
        limits = self._limits
        deadline = asyncio.timeout(limits.seconds)
        try:
            async with (
                deadline,
                session.request(
                    method,
                    url,
                    headers=headers,
                    data=payload,
                    allow_redirects=False,
                    proxy=proxy and proxy.address,
                    proxy_headers=proxy and proxy.headers,
                ) as response,
            ):
                content = await _received(response, limits.largest)
            content = await _inflated(response.headers, content, limits.largest)
            return Response(response.status, response.headers, content)
        except _TooLarge:
            raise ResponseTooLarge(
                f"{_place(method, url)} answered with more than {limits.largest / (1 << 20):g} MiB; it was given up.",
                CHECK_ADDRESS,
            ) from None
        except aiohttp.ClientConnectorCertificateError as error:
            raise NotTrusted(
                f"{_place(method, url)}: the server's certificate is not trusted ({reason(error)}).",
                certificate_remedy(error.certificate_error),
            ) from None
        except aiohttp.ClientHttpProxyError as error:
            raise _proxy_refusal(method, url, proxy, error.status) from None
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise NotSent(f"{_place(method, url)} cannot be reached{behind} ({reason(error)}).", remedy) from None
        except aiohttp.InvalidURL:
            raise NotSent(f"{method} cannot be sent: its address is no valid URL.", CHECK_ADDRESS) from None
        except (aiohttp.ClientError, ContentEncodingError, zlib.error, EOFError, TimeoutError, OSError) as error:
            if deadline.expired():
                raise LimitExceeded(
                    f"{_place(method, url)} did not answer in full within {limits.seconds:g} s; it was given up.",
                    CHECK_ADDRESS,
                ) from None
            cause = f"{_place(method, url)} gave no answer{behind} ({type(error).__name__})."
            raise OutcomeUnknown(cause, remedy) from None

    async def aclose(self) -> None:
        if self._session:
            await self._session.close()


def _proxy_refusal(method: str, url: URL, proxy: Proxy | None, status: int) -> NotSent:
    where = f"{_place(method, url)}: the proxy {proxy.address if proxy else ''}"
    if status == 407:
        return NotSent(f"{where} wants a user and a password (407).", "Check those in HTTPS_PROXY.")
    return NotSent(
        f"{where} does not connect to it ({status}).",
        "Check HTTPS_PROXY, NO_PROXY, and whether the proxy allows this host.",
    )


_NOT_IN_A_URL = re.compile(r"[^\x21-\x7e]|[\"<>`]")


@lru_cache(maxsize=128)
def _parsed(address: str) -> URL:
    """Parse a URL as given; only characters that are invalid in a request line are quoted."""
    return URL(_NOT_IN_A_URL.sub(lambda match: quote(match[0], errors="replace"), address), encoded=True)


class _TooLarge(Exception): ...


async def _received(response: aiohttp.ClientResponse, most: int) -> bytes:
    """Read the body as sent, at most `most` bytes. Raises _TooLarge after closing the connection."""
    pieces: list[bytes] = []
    size = 0
    while piece := await response.content.readany():
        size += len(piece)
        if size > most:
            response.close()
            raise _TooLarge
        pieces.append(piece)
    return b"".join(pieces)


async def _inflated(headers: Mapping[str, str], content: bytes, most: int) -> bytes:
    """Decompress a body by its Content-Encoding. Raises zlib.error, EOFError, ContentEncodingError, _TooLarge."""
    encoding = headers.get("Content-Encoding", "").strip().lower()
    if encoding in ("", "identity") or not content:
        return content
    if encoding not in ("gzip", "x-gzip"):
        raise ContentEncodingError("gzip was asked for")
    if len(content) < INFLATED_HERE:
        return _unzipped(content, most)
    return await asyncio.to_thread(_unzipped, content, most)


def _unzipped(content: bytes, most: int) -> bytes:
    """Decompress one gzip member: all servers send one."""
    member = zlib.decompressobj(wbits=31)
    inflated = member.decompress(content, most + 1)
    if len(inflated) > most:
        raise _TooLarge
    if not member.eof or member.unused_data:
        raise EOFError
    return inflated


def _place(method: str, url: URL) -> str:
    """Return method, host and path, without the query string: it may hold personal data."""
    return f"{method} {url.scheme}://{url.raw_authority}{url.raw_path}"
