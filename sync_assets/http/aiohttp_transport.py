"""How a request travels: TLS, proxies, aiohttp.

httpx's own transport is quadratic in the number of requests in flight, and its requests and answers cost half of the
processor time of a call (docs/benchmarks.md A), so calls go through `AiohttpClient`; what is made by httpx, as a
sign-in is, travels the same way (httpx_transport.py). The ready-made bridge re-quotes URLs and reports a lost answer as
a failed connection, while we have to know whether a request may have been carried out. When it may travel again is
`client.py`'s.
"""

from __future__ import annotations

import asyncio
import re
import ssl
import urllib.request
import zlib
from collections.abc import Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import quote

import aiohttp
from aiohttp.http_exceptions import ContentEncodingError
from yarl import URL

from sync_assets.errors import reason
from sync_assets.http.transport import (
    USUAL_LIMITS,
    LimitExceeded,
    Limits,
    NotSent,
    NotTrusted,
    OutcomeUnknown,
    Response,
)

_REACH = "Check that address in the environment, and the network; nothing is lost, run it again later."
_WHO = "Check that address in the environment, and what answers in its place on the way, such as a proxy."

READ_AHEAD = 1 << 20
"""Bytes of an answer that may wait to be read: with aiohttp's 64 KiB a page of 8 MB stops and goes a hundred times."""
INFLATED_HERE = 65_536
"""Bytes of a compressed answer above which a thread inflates it: a page takes 20 ms, and other calls would wait."""
MOST_MEMBERS = 16
"""Gzip members of an answer. All servers send one; each further one costs a copy of what follows it."""


class AiohttpClient:
    """Requests over aiohttp: URLs travel exactly as given, and errors tell "not sent" from "outcome unknown".

    `connect`, `read`: seconds, for a connection and for each silence after it; `limits`: for an answer as a whole.
    `headers`: of every request; its own ones come first.
    """

    def __init__(
        self,
        context: ssl.SSLContext,
        connections: int,
        *,
        connect: float,
        read: float,
        headers: Mapping[str, str] | None = None,
        limits: Limits = USUAL_LIMITS,
    ) -> None:
        self._context = context
        self._limits = limits
        self._deadline = _Deadline(limits.seconds)
        self._headers = headers
        self._connections = connections
        self._timeout = aiohttp.ClientTimeout(total=None, sock_connect=connect, sock_read=read)
        self._session: aiohttp.ClientSession | None = None

    def _open(self) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(ssl=self._context, limit=self._connections, keepalive_timeout=30)
        # No cookies: Dataverse's affinity cookie would pin us to one server (docs/references/dataverse.md 4).
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

    async def exchange(self, method: str, address: str, headers: Mapping[str, str], body: bytes | None) -> Response:
        """One request and its whole answer. Raises NotSent, NotTrusted, OutcomeUnknown, LimitExceeded."""
        session = self._session = self._session or self._open()
        url = _parsed(address)
        payload = aiohttp.BytesPayload(body) if body else None  # else aiohttp looks for the kind of each single one
        limits = self._limits
        task = asyncio.current_task()
        assert task is not None
        self._deadline.begin(task)
        try:
            try:
                async with session.request(
                    method, url, headers=headers, data=payload, allow_redirects=False, proxy=_proxy(url)
                ) as response:
                    content = await _received(response, limits.largest)
            except asyncio.CancelledError:
                if self._deadline.has_cancelled(task):
                    raise _TooLate from None
                raise
            finally:
                self._deadline.end(task)
            content = await _inflated(response.headers, content, limits.largest)
            return Response(response.status, response.headers, content)
        except _TooLate:
            raise LimitExceeded(
                f"{_place(method, url)} did not answer in full within {limits.seconds:g} s; it was given up.", _WHO
            ) from None
        except _TooLarge:
            raise LimitExceeded(
                f"{_place(method, url)} answered with more than {limits.largest / (1 << 20):g} MiB; it was given up.",
                _WHO,
            ) from None
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


class _TooLarge(Exception):
    """More bytes than were allowed."""


class _TooLate(Exception):
    """More seconds than were allowed."""


class _Deadline:
    """A task between `begin` and `end` is cancelled after `seconds`, or a twentieth later.

    Of one event loop, and for many tasks at once: `asyncio.timeout` makes a timer for each of them, which costs a tenth
    of a request, while here one timer looks after all.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._until: dict[asyncio.Task[Any], float] = {}
        """In the order in which they end, as all have the same time."""
        self._overdue: set[asyncio.Task[Any]] = set()
        self._looking = False
        self._loop: asyncio.AbstractEventLoop | None = None

    def begin(self, task: asyncio.Task[Any]) -> None:
        """The running task's time begins."""
        loop = self._loop = self._loop or asyncio.get_running_loop()
        self._until[task] = loop.time() + self._seconds
        if not self._looking:
            self._look(loop)

    def end(self, task: asyncio.Task[Any]) -> None:
        """The task came to its end, in time or not."""
        if self._until.pop(task, None) is None and task in self._overdue:
            self._overdue.remove(task)
            task.uncancel()

    def has_cancelled(self, task: asyncio.Task[Any]) -> bool:
        """Take back a cancellation. False if it is not this deadline's, or others want the task cancelled, too."""
        if task not in self._overdue:
            return False
        self._overdue.remove(task)
        return task.uncancel() == 0

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        while self._until and next(iter(self._until.values())) <= now:
            task = next(iter(self._until))
            del self._until[task]
            self._overdue.add(task)
            task.cancel()
        self._looking = bool(self._until)
        if self._looking:
            loop.call_later(self._seconds / 20, self._look, loop)


async def _received(response: aiohttp.ClientResponse, most: int) -> bytes:
    """The body as it is sent. Raises _TooLarge; then the connection is closed with all that is still to come."""
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
    """zlib.error, EOFError or ContentEncodingError if it is not what its header says, or not gzip; _TooLarge."""
    encoding = headers.get("Content-Encoding", "").strip().lower()
    if encoding in ("", "identity") or not content:
        return content
    if encoding not in ("gzip", "x-gzip"):
        raise ContentEncodingError("gzip was asked for")
    if len(content) < INFLATED_HERE:
        return _unzipped(content, most)
    return await asyncio.to_thread(_unzipped, content, most)


def _unzipped(content: bytes, most: int) -> bytes:
    pieces: list[bytes] = []
    for _ in range(MOST_MEMBERS):
        member = zlib.decompressobj(wbits=31)
        piece = member.decompress(content, most + 1)
        most -= len(piece)
        if most < 0:
            raise _TooLarge
        if not member.eof:
            raise EOFError
        pieces.append(piece)
        content = member.unused_data.lstrip(b"\0")
        if not content:
            return b"".join(pieces)
    raise zlib.error("too many members")


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
