"""One place for all HTTP: sign-in renewal, retry, waiting, same-origin links, redaction.

Here: when a request may travel, and travel again. Not here: how (`wire.py`), and what an answer means (each client
knows its system's dialect).
"""

from __future__ import annotations

import asyncio
import email.utils
import logging
import math
import random
import ssl
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any, Protocol
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

from sync_assets.http.transport import (
    SIGN_IN_LIMITS,
    USUAL_LIMITS,
    HttpError,
    LimitExceeded,
    Limits,
    NotSent,
    NotTrusted,
    OutcomeUnknown,
    Response,
    ssl_context,
)

_log = logging.getLogger(__name__)

__all__ = [
    "SIGN_IN_LIMITS",
    "Admission",
    "CachedTokens",
    "Endpoint",
    "ForeignLink",
    "Guard",
    "HttpError",
    "LimitExceeded",
    "Limits",
    "NotSent",
    "NotTrusted",
    "Observer",
    "OutcomeUnknown",
    "Response",
    "SignInRefused",
    "Throttle",
    "TokenSource",
    "Unavailable",
    "ssl_context",
]

RETRY_STATUS = frozenset({429, 502, 503, 504})
LOST_BEHIND_GATEWAY = frozenset({502, 504})
"""Statuses by which a gateway says that it got no answer: whether the request was carried out, it does not know."""
GATEWAY_REFUSALS = frozenset({401, 403, 429, 503})
"""Statuses by which a gateway says that the request never reached the system behind it."""

LONGEST_RETRY_AFTER = 3600.0
"""Seconds of a `Retry-After` that are honoured: one that is dated next year, by whoever sent it, stops no process for a
year."""


class Unavailable(HttpError):
    """The server kept refusing (429, 503, ...) for longer than we are willing to wait. `status`: its last one."""

    def __init__(self, cause: str, remedy: str = "What is left stays pending; run it again later.", status: int = 0):
        self.status = status
        super().__init__(cause, remedy)


class SignInRefused(HttpError):
    """The identity provider or the server did not accept our credentials."""


class ForeignLink(HttpError):
    """A link in an answer leads to another host; it would have carried our token there."""


class TokenSource(Protocol):
    """Where bearer tokens come from. `renew` gets the refused token, so that many workers renew once."""

    async def token(self) -> str: ...

    async def renew(self, refused: str) -> str: ...


class CachedTokens:
    """Keeps a token until shortly before it expires; one fetch at a time and event loop, however many workers ask.

    `fetch` returns (token, lifetime in seconds).
    """

    def __init__(self, fetch: Callable[[], Any]) -> None:
        self._fetch = fetch
        self._token = ""
        self._good_until = 0.0
        self._locks: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = WeakKeyDictionary()

    async def token(self) -> str:
        if time.monotonic() < self._good_until:
            return self._token
        return await self.renew(self._token)

    async def renew(self, refused: str) -> str:
        async with self._locks.setdefault(asyncio.get_running_loop(), asyncio.Lock()):
            if self._token != refused and time.monotonic() < self._good_until:
                return self._token  # somebody else renewed it while we waited for the lock
            self._token, lifetime = await self._fetch()
            self._good_until = time.monotonic() + max(1.0, lifetime - min(120.0, lifetime / 10))
            return self._token


class Throttle:
    """A gate that all workers of a process share: `Retry-After` stops every one of them."""

    def __init__(self) -> None:
        self.until = 0.0
        self.times = 0

    def hold(self, seconds: float) -> None:
        self.times += 1
        self.until = max(self.until, time.monotonic() + seconds)

    async def passed(self, give_up_at: float = float("inf")) -> bool:
        """Waits until the gate is open; False, at once, if that is later than `give_up_at` (monotonic clock)."""
        while (left := self.until - time.monotonic()) > 0:
            if self.until > give_up_at:
                return False
            await asyncio.sleep(min(left, 1.0))  # another worker may be told to wait longer meanwhile
        return True


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds of a `Retry-After` header (a number, or a date), at most LONGEST_RETRY_AFTER; None without one or if it
    makes no sense."""
    value = headers.get("retry-after", "").strip()
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
        except (ValueError, TypeError, OverflowError):
            return None
    return min(max(0.0, seconds), LONGEST_RETRY_AFTER) if math.isfinite(seconds) else None


def backoff(attempt: int, longest: float = 30.0) -> float:
    """Seconds to wait before the next try: doubling from a half, with jitter, at most `longest`."""
    return min(longest, 0.5 * 2 ** min(attempt, 10)) * random.uniform(0.7, 1.3)  # noqa: S311


Observer = Callable[[str, int | None, float], None]
"""Told of each single request: its kind, the status (None: outcome unknown, 0: never left), seconds.

This is where calls are counted.
"""

Guard = Callable[[], None]
"""Called right before each single request leaves, with nothing awaited in between; raises to keep it back."""

Admission = Callable[[], AbstractAsyncContextManager[Observer | None]]
"""Entered around each single request: waits until it may leave, or raises. The observer that it gives is one more."""


class Endpoint:
    """One system behind one base URL: signs in, waits, repeats, refuses to leave the host.

    `transient(answer)` says which answers mean "try again"; `patience` is how many seconds a request may be retried
    in all before `Unavailable` (or the last connection error) is raised. `timeout`: seconds of silence; `limits`: of
    an answer as a whole.
    """

    def __init__(
        self,
        name: str,
        base_url: str,
        tokens: TokenSource,
        *,
        context: ssl.SSLContext,
        headers: Mapping[str, str],
        connections: int = 64,
        patience: float = 120.0,
        timeout: float = 60.0,
        limits: Limits = USUAL_LIMITS,
        transient: Callable[[Response], bool] = lambda answer: answer.status in RETRY_STATUS,
        observer: Observer = lambda kind, status, seconds: None,
    ) -> None:
        self.name = name
        self.base_url = base_url.rstrip("/")
        self.pause = Throttle()
        self.patience = patience
        self.observer = observer
        self._tokens = tokens
        self._transient = transient
        self._origin = _origin(self.base_url)
        from sync_assets.http.aiohttp_transport import AiohttpClient  # noqa: PLC0415 - aiohttp, which the code location does not need

        always = {"Accept": "application/json", "Accept-Encoding": "gzip", "User-Agent": "sync_assets", **headers}
        self._wire = AiohttpClient(context, connections, connect=15.0, read=timeout, headers=always, limits=limits)

    async def sign_in(self) -> None:
        """Gets a token, if there is none yet. Raises SignInRefused, HttpError."""
        await self._tokens.token()

    async def send(
        self,
        method: str,
        url: str,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        kind: str = "",
        repeat_unknown: bool | None = None,
        patience: float | None = None,
        guard: Guard | None = None,
        observer: Observer | None = None,
        admission: Admission | None = None,
    ) -> Response:
        """Sends one request, as often as it takes.

        `url` is absolute (a link from an answer, sent as it is) or a path below the base URL. `repeat_unknown`: also
        repeat when the outcome is unknown; default: for GET only. `observer`: besides the endpoint's own. Answers that
        are not transient are returned whatever their status. Raises NotSent, OutcomeUnknown, Unavailable,
        SignInRefused, ForeignLink, and what `guard` and `admission` raise; LimitExceeded at once, as the next answer
        would be no better. Time that passes until the request is admitted is not taken from `patience`.
        """
        request_url = self.checked(url)
        repeat = method == "GET" if repeat_unknown is None else repeat_unknown
        patience = self.patience if patience is None else patience
        give_up_at = time.monotonic() + patience
        renewed, attempt = False, 0
        while True:
            if not await self.pause.passed(give_up_at):
                raise Unavailable(f"{self.name} asks us to wait {self.pause.until - time.monotonic():.0f} s.")
            token = await self._tokens.token()
            asked = time.monotonic()
            try:
                async with admission() if admission else _ADMITTED as admitted:
                    give_up_at += time.monotonic() - asked
                    if self.pause.until > time.monotonic():
                        continue  # it began while this request waited
                    if guard:
                        guard()
                    answer = await self._once(method, request_url, body, headers, token, kind, observer, admitted)
            except (NotSent, OutcomeUnknown) as error:
                useless = isinstance(error, NotTrusted | LimitExceeded)
                if useless or (isinstance(error, OutcomeUnknown) and not repeat):
                    raise
                wait, failure = backoff(attempt), error
            else:
                if answer.status == 401:
                    if renewed:
                        raise SignInRefused(
                            f"{self.name} refused our token twice (401) at {urlsplit(request_url).path}.",
                            "Check the credentials and that this application may use the API.",
                        )
                    renewed = True
                    _log.info("The token was refused and is renewed", extra={"system": self.name, "status": 401})
                    await self._tokens.renew(token)
                    continue
                if not self._transient(answer):
                    return answer
                if answer.status in LOST_BEHIND_GATEWAY and not repeat:
                    raise OutcomeUnknown(f"{self.name}'s gateway got no answer ({answer.status}).")
                wait = self._wait(answer, attempt)
                failure = Unavailable(
                    f"{self.name} kept answering {answer.status} for {patience:.0f} s.", status=answer.status
                )
            attempt += 1
            if time.monotonic() + wait > give_up_at:
                raise failure
            _log.debug(
                "A request is repeated",
                extra={"system": self.name, "operation": kind, "attempt": attempt, "seconds": wait},
            )
            await asyncio.sleep(wait)

    def _wait(self, answer: Response, attempt: int) -> float:
        """Seconds until the next try; a refusal of the gateway stops every worker of this process that long."""
        told = retry_after(answer.headers)
        wait = backoff(attempt) if told is None else told + random.uniform(0, 0.25)  # noqa: S311
        if answer.status in GATEWAY_REFUSALS:
            if self.pause.until <= time.monotonic():  # once for all requests in flight
                _log.warning(
                    "The server throttles, all requests of this process wait",
                    extra={"system": self.name, "status": answer.status, "seconds": wait},
                )
            self.pause.hold(wait)
        return wait

    async def _once(
        self,
        method: str,
        url: str,
        body: bytes | None,
        headers: Mapping[str, str] | None,
        token: str,
        kind: str,
        *observers: Observer | None,
    ) -> Response:
        started = time.monotonic()
        status: int | None = None
        try:
            answer = await self._wire.exchange(
                method, url, {**(headers or {}), "Authorization": f"Bearer {token}"}, body
            )
            status = answer.status
        except NotSent:
            status = 0
            raise
        finally:
            seconds = time.monotonic() - started
            for observer in filter(None, (self.observer, *observers)):
                observer(kind, status, seconds)
        return answer

    def checked(self, url: str) -> str:
        """The absolute URL of a path or link. Raises ForeignLink if it leads to another host."""
        if "://" not in url:
            return f"{self.base_url}/{url.lstrip('/')}"
        if _origin(url) != self._origin:
            raise ForeignLink(
                f"{self.name} answered with a link to {urlsplit(url).hostname}, which is not {self.base_url}.",
                "It was not followed. Check the configured URL.",
            )
        return url

    async def aclose(self) -> None:
        await self._wire.aclose()


_ADMITTED: AbstractAsyncContextManager[None] = nullcontext()


def _origin(url: str) -> tuple[str, str, int]:
    parts = urlsplit(url)
    return (
        parts.scheme,
        (parts.hostname or "").lower(),
        parts.port or {"https": 443, "http": 80}.get(parts.scheme, 0),
    )
