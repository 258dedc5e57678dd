"""The httpx transports that every request of a system passes, and httpx's client around them.

    httpx.AsyncClient   (requests of records pass the same transports without it)
    BearerAuth          the token, renewed once if it is refused
    RetryTransport      throttle, retries, patience; repeats take the token that is valid by then
    LimitsTransport     admission, guard and observers of a single request; errors of httpx become ours
    AiohttpTransport    carries it; in tests httpx.MockTransport

A request has the extensions `address`, its URL exactly as given, which httpx would quote anew, and `call`. Its `url` is
the endpoint's, so that no log or error of httpx has a query.
"""

import logging
import ssl
import time
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, contextmanager, nullcontext
from typing import cast
from urllib.parse import urlsplit

import httpx

from sync_assets.http.aiohttp_transport import AiohttpTransport, RecordRequest
from sync_assets.http.retry import LOST_BEHIND_GATEWAY, Observer, RequestOptions, Retries, Throttle, backoff
from sync_assets.http.tokens import CachedTokens
from sync_assets.http.transport import (
    CHECK_ADDRESS,
    REACH,
    HttpError,
    LimitExceeded,
    Limits,
    NotSent,
    NotTrusted,
    OutcomeUnknown,
    Response,
    SignInRefused,
    Unavailable,
    certificate_remedy,
)

_log = logging.getLogger(__name__)

_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError)
"""httpx's errors after which a request was certainly not carried out; after any other it may have been."""
HTTPX_ERRORS = (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, httpx.CookieConflict)
"""The roots of httpx's exceptions: https://www.python-httpx.org/exceptions/"""


def as_ours(error: Exception, method: str, address: str) -> HttpError:
    """Return our error for one of httpx, whose text is left out: it may quote an address or what was received."""
    if isinstance(error, httpx.InvalidURL | httpx.UnsupportedProtocol):
        return NotSent(f"{method} cannot be sent: its address is no valid URL.", CHECK_ADDRESS)
    place, cause = f"{method} {address.partition('?')[0]}", type(error).__name__
    inner: BaseException | None = error
    while isinstance(error, httpx.ConnectError) and inner is not None:
        if isinstance(inner, ssl.SSLCertVerificationError):
            text = f"{place}: the server's certificate is not trusted ({inner.verify_message})."
            return NotTrusted(text, certificate_remedy(inner))
        inner = inner.__cause__ or inner.__context__
    if isinstance(error, _NOT_SENT):
        return NotSent(f"{place} cannot be reached ({cause}).", REACH)
    return OutcomeUnknown(f"{place} gave no answer ({cause}).", REACH)


@contextmanager
def errors_as_ours(method: str, address: str) -> Iterator[None]:
    """Turn errors of httpx into ours (`as_ours`) while a request is sent with a client."""
    try:
        yield
    except HTTPX_ERRORS as error:
        raise as_ours(error, method, address) from None


def sign_in_client(context: ssl.SSLContext, timeout: httpx.Timeout, limits: Limits) -> httpx.AsyncClient:
    """Return a client for the requests of one sign-in. The caller closes it, and with it the connection."""
    carrier = AiohttpTransport(context, 1, timeout, limits=limits)
    return httpx.AsyncClient(transport=carrier, headers={"Accept-Encoding": "gzip"}, trust_env=False)


class BearerAuth(httpx.Auth):
    """Signs requests with a system's token. Raises SignInRefused if a renewed one is refused, too."""

    def __init__(self, name: str, tokens: CachedTokens) -> None:
        self._name, self._tokens = name, tokens

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        await self.sign(request)
        if (yield request).status_code == 401:
            await self.renew(request)
            if (yield request).status_code == 401:
                raise self.refusal(request)

    async def sign(self, request: httpx.Request) -> None:
        """Put the present token into a request."""
        request.headers["Authorization"] = f"Bearer {await self._tokens.token()}"

    async def renew(self, request: httpx.Request) -> None:
        """Put a new token into a request whose token was refused."""
        _log.debug("The token was refused and is renewed", extra={"system": self._name, "status": 401})
        await self._tokens.renew(request.headers["Authorization"].removeprefix("Bearer "))
        await self.sign(request)

    def refusal(self, request: httpx.Request) -> SignInRefused:
        """Return the error for a request whose renewed token was refused, too."""
        return SignInRefused(
            f"{self._name} refused our token twice (401) at {urlsplit(request.extensions['address']).path}.",
            "Check the credentials and that this application may use the API.",
        )


class RetryTransport(httpx.AsyncBaseTransport):
    """Waits while the system throttles, and repeats what may be repeated for as long as the call is patient."""

    def __init__(self, retries: Retries, auth: BearerAuth, inner: httpx.AsyncBaseTransport) -> None:
        self._retries, self._auth, self._inner = retries, auth, inner

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        retries: Retries = self._retries
        call: RequestOptions = request.extensions["call"]
        patience = retries.patience if call.patience is None else call.patience
        repeats = request.method == "GET" if call.repeat_unknown is None else call.repeat_unknown
        call.give_up_at = call.give_up_at or time.monotonic() + patience
        while True:
            if not await retries.pause.passed(call.give_up_at):
                raise Unavailable(f"{retries.name} asks us to wait {retries.pause.until - time.monotonic():.0f} s.")
            try:
                response = await self._inner.handle_async_request(request)
            except _Throttled:
                continue
            except (NotSent, OutcomeUnknown) as error:
                useless = isinstance(error, NotTrusted | LimitExceeded)
                if useless or (isinstance(error, OutcomeUnknown) and not repeats):
                    raise
                wait, failure = backoff(call.attempt), error
            else:
                status = response.status_code
                if status == 401:  # of a gateway: it does not end an outage behind it
                    return response
                if status < 400 or not retries.transient(status, await response.aread()):
                    retries.outage.end()
                    return response
                if status in LOST_BEHIND_GATEWAY and not repeats:
                    raise OutcomeUnknown(f"{retries.name}'s gateway got no answer ({status}).")
                wait = retries.wait_after(status, response.headers, call.attempt)
                text = f"{retries.name} kept answering {status} for {patience:.0f} s."
                failure = Unavailable(text, status=status)
            call.attempt += 1
            await retries.before_repeating(failure, wait, call, patience)
            await self._auth.sign(request)

    async def aclose(self) -> None:
        await self._inner.aclose()


class _Throttled(Exception):
    """The system began to throttle while a request waited to be admitted."""


_ADMITTED: AbstractAsyncContextManager[None] = nullcontext()


class LimitsTransport(httpx.AsyncBaseTransport):
    """Sends a single request when it is admitted, and calls its observers. carrier: sends it.

    Raises NotSent, OutcomeUnknown, and what the admission and the guard raise.
    """

    def __init__(self, pause: Throttle, observer: Observer, carrier: httpx.AsyncBaseTransport) -> None:
        self._pause, self._observer, self.carrier = pause, observer, carrier

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        call: RequestOptions = request.extensions["call"]
        asked = time.monotonic()
        async with call.admission() if call.admission else _ADMITTED as admitted:
            started = time.monotonic()
            call.give_up_at += started - asked
            if self._pause.until > started:
                raise _Throttled
            if call.guard:
                call.guard()
            status: int | None = None
            try:
                response = await self.carrier.handle_async_request(request)
                await response.aread()
                status = response.status_code
            except NotSent:
                status = 0
                raise
            except HTTPX_ERRORS as error:
                failure = as_ours(error, request.method, request.extensions["address"])
                status = 0 if isinstance(failure, NotSent) else None
                raise failure from None
            finally:
                seconds = time.monotonic() - started
                for observer in (self._observer, call.observer, admitted):
                    if observer:
                        observer(call.kind, status, seconds)
        return response

    async def aclose(self) -> None:
        await self.carrier.aclose()


class TransportStack:
    """All of it for one system. `limits.carrier` may be replaced by another transport."""

    def __init__(
        self,
        retries: Retries,
        url: str,
        tokens: CachedTokens,
        observer: Observer,
        timeout: httpx.Timeout,
        carrier: httpx.AsyncBaseTransport,
    ) -> None:
        self.limits = LimitsTransport(retries.pause, observer, carrier)
        self._auth = BearerAuth(retries.name, tokens)
        self._top = RetryTransport(retries, self._auth, self.limits)
        self._url = url
        self.client = httpx.AsyncClient(auth=self._auth, transport=self._top, timeout=timeout, trust_env=False)

    async def send(
        self,
        method: str,
        address: str,
        headers: Mapping[str, str],
        body: bytes | None,
        call: RequestOptions,
        *,
        of_record: bool,
    ) -> Response:
        """Send a request, and return its whole answer. Raises what the transports raise.

        of_record: without the client, `httpx.Request` and `httpx.Response`, which take longer than all transports.
        """
        given = {"address": address, "call": call}
        if of_record:
            request = cast(httpx.Request, RecordRequest(method, {**headers}, body, given))
            await self._auth.sign(request)
            answer = await self._top.handle_async_request(request)
            if answer.status_code == 401:
                await self._auth.renew(request)
                answer = await self._top.handle_async_request(request)
                if answer.status_code == 401:
                    raise self._auth.refusal(request)
        else:
            with errors_as_ours(method, address):  # those of the client itself
                whole = httpx.Request(method, self._url, headers=headers, content=body, extensions=given)
                answer = await self.client.send(whole)
            answer.stream = httpx.ByteStream(b"")  # httpx's refers to the answer: only a collection would free both
        if isinstance(answer, Response):  # to a RecordRequest
            return answer
        return Response(answer.status_code, answer.headers, answer.content)
