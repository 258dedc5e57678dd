"""Send requests to one system: its tokens, its endpoint, what is asked for a request, and the links of paged reads.

Not here: the transports that a request passes (transport_stack.py), when it is repeated (retry.py), and what a response
means for a record (the client of each system).
"""

import re
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

from sync_assets.http.retry import RETRY_STATUS, Observer, RequestOptions, Retries
from sync_assets.http.tokens import CachedTokens
from sync_assets.http.transport import ForeignLink, HttpError, Response, TransportOptions


class Endpoint(Retries):
    """Sends requests to one system below one base URL: signs in, throttles, retries, and never leaves the host.

    transient: see `Retries`; in the end `Unavailable` (or the last connection error) is raised. observer: of all
    requests.
    """

    def __init__(
        self,
        name: str,
        base_url: str,
        tokens: CachedTokens,
        connections: TransportOptions,
        *,
        transient: Callable[[int, bytes], bool] = lambda status, body: status in RETRY_STATUS,
        observer: Observer = lambda kind, status, seconds: None,
    ) -> None:
        super().__init__(name, transient)
        self.base_url = base_url.rstrip("/")
        self._tokens = tokens
        self._origin = origin(self.base_url)
        import httpx  # with aiohttp 0.2 s, which the code location does not need  # noqa: PLC0415

        from sync_assets.http.aiohttp_transport import AiohttpTransport  # noqa: PLC0415
        from sync_assets.http.transport_stack import TransportStack  # noqa: PLC0415

        always = {"Accept": "application/json", "Accept-Encoding": "gzip", "User-Agent": "sync_assets"}
        headers, silence = always | dict(connections.headers), httpx.Timeout(connections.timeout, connect=15.0)
        carrier = AiohttpTransport(
            connections.context, connections.most, silence, headers=headers, limits=connections.limits
        )
        self.stack = TransportStack(self, self.base_url, tokens, observer, silence, carrier)

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
        call: RequestOptions | None = None,
        of_record: bool = False,
    ) -> Response:
        """Send a request, with retries, and return its response, whatever the status, unless it is transient.

        Args:
            url: absolute (a link from a response, sent as it is), or a path below the base URL.
            headers: in addition to the endpoint's.
            call: what the transports have to know of it.
            of_record: one of many: the same transports without httpx's client around them, which costs as much again.

        Raises:
            NotSent, OutcomeUnknown, Unavailable: after the last attempt.
            SignInRefused: the token was refused twice.
            ForeignLink: the URL leads to another host.
            LimitExceeded: at once, since the next response would exceed the limits, too.
            Exception: what guard and admission of the call raise.
        """
        return await self.stack.send(
            method, self.checked(url), headers or {}, body, call or RequestOptions(), of_record=of_record
        )

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
        await self.stack.client.aclose()


_ABSOLUTE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://([^/?#]*)")
_AUTHORITY = re.compile(r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")


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
