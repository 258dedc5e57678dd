"""Send requests to one system with sign-in renewal, retry, throttling, and a check of links.

Here: when a request may be sent, and sent again. Not here: how long to wait (retry.py), how a single request is sent
(aiohttp_transport.py), and what a response means for a record (the client of each system).
"""

import asyncio
import logging
import re
import ssl
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

from sync_assets.http.retry import (
    GATEWAY_REFUSALS,
    LOST_BEHIND_GATEWAY,
    PATIENCE,
    RETRY_STATUS,
    Outage,
    Throttle,
    backoff,
    retry_after,
)
from sync_assets.http.transport import (
    USUAL_LIMITS,
    ForeignLink,
    HttpError,
    LimitExceeded,
    Limits,
    NotSent,
    NotTrusted,
    OutcomeUnknown,
    Response,
    SignInRefused,
    Unavailable,
)
from sync_assets.own_secrets import forget, remember

_log = logging.getLogger(__name__)

LOG_SECONDS = 30.0
"""Seconds between two log lines that say that a system does not answer."""


def bearer_token(value: object) -> str:
    """Return a sign-in's token if it may stand in a header; empty for anything else."""
    return value if isinstance(value, str) and re.fullmatch(r"[\x21-\x7e]+", value) else ""


DAY = 24 * 60 * 60
"""Seconds. No token is used for longer, whatever `expires_in` says; Adobe's are valid for a day."""


def token_seconds(value: object) -> float:
    """Return the seconds that a token is used, by its `expires_in` (text from Entra's older endpoint); else an hour."""
    try:
        seconds = float(value)  # pyright: ignore[reportArgumentType]
    except (TypeError, ValueError, OverflowError):
        return 3600.0
    return min(seconds, DAY) if seconds >= 0 else 3600.0


class CachedTokens:
    """Caches a token until shortly before it expires, with at most one fetch at a time per event loop.

    fetch: an async function that returns (token, lifetime in seconds).
    """

    def __init__(self, fetch: Callable[[], Any]) -> None:
        self._fetch = fetch
        self._token = self._before = ""
        self._good_until = 0.0
        self._locks: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = WeakKeyDictionary()

    async def token(self) -> str:
        if time.monotonic() < self._good_until:
            return self._token
        return await self.renew(self._token)

    async def renew(self, refused: str) -> str:
        """Return another token than the refused one. Many tasks that were refused the same renew it only once."""
        async with self._locks.setdefault(asyncio.get_running_loop(), asyncio.Lock()):
            if self._token != refused and time.monotonic() < self._good_until:
                return self._token  # another task renewed it while this one waited for the lock
            forget(self._before)  # not the current one: answers to requests under way may repeat it
            self._before = self._token
            self._token, lifetime = await self._fetch()
            remember(self._token)
            self._good_until = time.monotonic() + max(1.0, lifetime - min(120.0, lifetime / 10))
            return self._token


Observer = Callable[[str, int | None, float], None]
"""Called after each single request with its kind, its status (None: outcome unknown; 0: not sent) and its seconds.

Used to count calls.
"""


def is_lost(kind: str, status: int | None) -> bool:
    """Return True if a single request, as an Observer sees it, is a write without an answer: it may take effect."""
    return kind != "read" and (status is None or status in LOST_BEHIND_GATEWAY)


Guard = Callable[[], None]
"""Called right before each single request is sent, with no await in between; raises to prevent it."""

Admission = Callable[[], AbstractAsyncContextManager[Observer | None]]
"""Entered around each single request: waits until it may be sent, or raises. May return a further observer."""


class Endpoint:
    """Sends requests to one system below one base URL: signs in, throttles, retries, and never leaves the host.

    transient: returns True for a response after which the request is retried. patience: total seconds for retries
    before `Unavailable` (or the last connection error) is raised. timeout: seconds between two pieces of a response.
    limits: of a whole response. observer: of all requests.

    outage: of the system; a process sets that which its endpoints share.
    """

    def __init__(
        self,
        name: str,
        base_url: str,
        tokens: CachedTokens,
        *,
        context: ssl.SSLContext,
        headers: Mapping[str, str],
        connections: int = 64,
        patience: float = PATIENCE,
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
        self.outage = Outage()
        self._tokens = tokens
        self._transient = transient
        self._origin = origin(self.base_url)
        self._tell_at = 0.0
        from sync_assets.http.aiohttp_transport import AiohttpClient  # noqa: PLC0415 - aiohttp, which the code location does not need

        always = {"Accept": "application/json", "Accept-Encoding": "gzip", "User-Agent": "sync_assets", **headers}
        self._wire = AiohttpClient(context, connections, connect=15.0, read=timeout, headers=always, limits=limits)

    async def sign_in(self) -> None:
        """Fetch a token, if there is none yet. Raises SignInRefused, HttpError."""
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
        """Send a request, with retries, and return its response, whatever the status, unless it is transient.

        Args:
            method: HTTP method.
            url: absolute (a link from a response, sent as it is), or a path below the base URL.
            body: of the request.
            headers: in addition to the endpoint's.
            kind: of the request, for the observers.
            repeat_unknown: True to retry also if the outcome is unknown; by default for GET only.
            patience: total seconds for retries; the endpoint's by default. The time until the request is admitted does
                not count.
            guard: called right before each single request.
            observer: in addition to the endpoint's.
            admission: entered around each single request.

        Raises:
            NotSent, OutcomeUnknown, Unavailable: after the last attempt.
            SignInRefused: the token was refused twice.
            ForeignLink: the URL leads to another host.
            LimitExceeded: at once, since the next response would exceed the limits, too.
            Exception: what `guard` and `admission` raise.
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
                        continue  # the throttle was set while this request waited
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
                    _log.debug("The token was refused and is renewed", extra={"system": self.name, "status": 401})
                    await self._tokens.renew(token)
                    continue
                if not self._transient(answer):
                    self.outage.end()
                    return answer
                if answer.status in LOST_BEHIND_GATEWAY and not repeat:
                    raise OutcomeUnknown(f"{self.name}'s gateway got no answer ({answer.status}).")
                wait = self._wait(answer, attempt)
                failure = Unavailable(
                    f"{self.name} kept answering {answer.status} for {patience:.0f} s.", status=answer.status
                )
            attempt += 1
            now = time.monotonic()
            repeat_until = min(give_up_at, self.outage.begin(now) + patience)
            if now + wait > repeat_until:
                self.outage.give_up(now, patience)
                raise failure
            self.outage.due = now + wait
            self._tell_of_waiting(failure, repeat_until)
            _log.debug(
                "A request is repeated",
                extra={"system": self.name, "operation": kind, "attempt": attempt, "seconds": wait},
            )
            await asyncio.sleep(wait)

    def _tell_of_waiting(self, failure: HttpError, give_up_at: float) -> None:
        """Log that there is no answer, at most each LOG_SECONDS for all requests. A throttle is logged elsewhere."""
        now, throttled = time.monotonic(), isinstance(failure, Unavailable) and failure.status in GATEWAY_REFUSALS
        if now < self._tell_at or throttled:
            return
        self._tell_at = now + LOG_SECONDS
        until = datetime.now(UTC) + timedelta(seconds=give_up_at - now)
        _log.warning(
            "The system does not answer, requests are repeated",
            extra={"system": self.name, "until": f"{until:%H:%M:%S} UTC"},
        )

    def _wait(self, answer: Response, attempt: int) -> float:
        """Return the seconds until the next attempt. A gateway's refusal stops all requests of this process so long."""
        wait = backoff(attempt, retry_after(answer.headers))
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
        """Return the absolute URL of a path or link. Raises ForeignLink if it leads to another host, or is no URL."""
        absolute = _ABSOLUTE.match(url)
        if not absolute:
            return f"{self.base_url}/{url.lstrip('/')}"
        # Only a plain host and port: of user info, backslashes and the like, parsers disagree where the host begins.
        plain = _AUTHORITY.fullmatch(absolute[1])
        try:
            own = plain and origin(url) == self._origin
        except ValueError:
            plain = own = None
        if not own:
            raise ForeignLink(
                f"{self.name} answered with a link to {absolute[1] if plain else 'no valid host'}, which is not "
                f"{self.base_url}.",
                "It was not followed. Check the configured URL.",
            )
        return url

    async def aclose(self) -> None:
        await self._wire.aclose()


_ABSOLUTE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://([^/?#]*)")
_AUTHORITY = re.compile(r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
_ADMITTED: AbstractAsyncContextManager[None] = nullcontext()


def origin(url: str) -> tuple[str, str, int]:
    """Return scheme, host and port of a URL. Raises ValueError if it is none."""
    parts = urlsplit(url)
    return (parts.scheme, (parts.hostname or "").lower(), parts.port or {"https": 443, "http": 80}.get(parts.scheme, 0))


MOST_EMPTY_PAGES = 50
"""Most consecutive pages without rows. Dataverse may send some if this user may not read any row of a page."""


class EndlessRead(HttpError):
    """Raised when a paged read makes no progress."""


class LinkTrail:
    """The links that one paged read has followed.

    system, name: the system and its table or resource, for errors. start: the link of the first page, if it is known.
    """

    def __init__(self, system: str, name: str, start: str = "") -> None:
        self._system, self._name = system, name
        self._seen = {hash(start)}  # of 6,000 links of a kilobyte, two in 10^12 reads have the same hash
        self._empty = 0

    def follow(self, link: str | None, rows: int) -> str:
        """Check a page's next link and return it; empty after the last page.

        Only for links of next pages: a delta link may be equal to the one that the read began with.

        Args:
            link: the next link of the page; None after the last page.
            rows: number of rows of the page.

        Raises:
            EndlessRead: the link was followed before, or there were too many consecutive pages without rows.
        """
        if not link:
            return ""
        if hash(link) in self._seen:
            raise EndlessRead(
                f"{self._system} leads from one page of {self._name} back to one that was read before: the read would "
                "never end.",
                _REMEDY,
            )
        self._seen.add(hash(link))
        self._empty = 0 if rows else self._empty + 1
        if self._empty > MOST_EMPTY_PAGES:
            raise EndlessRead(
                f"{self._system} sent {self._empty} pages of {self._name} without a row, one after the other, and "
                "names a next one still.",
                _REMEDY,
            )
        return link


_REMEDY = "The pages read so far are kept. Run it again later; if it goes on, look for a cache or a proxy on the way."
