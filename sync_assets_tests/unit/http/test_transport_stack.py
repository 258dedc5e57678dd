"""Each exception of httpx becomes one of ours, in requests of records, other requests and both sign-ins."""

import gc
import inspect
import ssl
import traceback
import weakref
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from sync_assets.campaign.sign_in import ims_tokens
from sync_assets.config.environment import CampaignSettings, D365Settings
from sync_assets.dataverse.sign_in import entra_tokens
from sync_assets.http.client import Endpoint
from sync_assets.http.retry import RequestOptions
from sync_assets.http.transport import HttpError, NotSent, NotTrusted, OutcomeUnknown, SignInRefused, TransportOptions
from sync_assets_tests.support.little_server import tokens

CONTEXT = ssl.create_default_context()
KINDS: list[type[Exception]] = [
    kind for kind in vars(httpx).values() if inspect.isclass(kind) and issubclass(kind, Exception)
]
NOT_SENT = {"ConnectError", "ConnectTimeout", "PoolTimeout", "ProxyError", "UnsupportedProtocol", "InvalidURL"}
UNKNOWN = {
    *("CloseError", "CookieConflict", "DecodingError", "HTTPError", "HTTPStatusError", "LocalProtocolError"),
    *("NetworkError", "ProtocolError", "ReadError", "ReadTimeout", "RemoteProtocolError", "RequestError"),
    *("RequestNotRead", "ResponseNotRead", "StreamClosed", "StreamConsumed", "StreamError", "TimeoutException"),
    *("TooManyRedirects", "TransportError", "WriteError", "WriteTimeout"),
}
UNTRUSTED = ssl.SSLCertVerificationError(1)
UNTRUSTED.verify_message = "self-signed certificate"
PERSON = "ada"
ADDRESS = f"x?name={PERSON}"


def raised(kind: type[Exception]) -> Exception:
    """Return an exception of httpx whose text, request and response hold a person's data."""
    request = httpx.Request("POST", f"https://host.example/{ADDRESS}")
    values = {"message": PERSON, "request": request, "response": httpx.Response(500, text=PERSON, request=request)}
    return kind(**{name: value for name, value in values.items() if name in inspect.signature(kind).parameters})


async def by_endpoint(carrier: httpx.AsyncBaseTransport, *, of_record: bool) -> None:
    seen: list[int | None] = []
    connections = TransportOptions(CONTEXT)
    endpoint = Endpoint("X", "https://host.example", tokens(), connections, observer=lambda *one: seen.append(one[1]))
    endpoint.stack.limits.carrier = carrier
    with pytest.raises(HttpError) as caught:
        await endpoint.send("POST", ADDRESS, body=b"{}", call=RequestOptions("insert", patience=0), of_record=of_record)
    assert seen == [0 if isinstance(caught.value, NotSent) else None]
    raise caught.value


async def by_sign_in(carrier: httpx.AsyncBaseTransport, *, of_record: bool) -> None:
    campaign, d365 = CampaignSettings("", "https://ims.example", "id", SecretStr(PERSON), "openid"), D365Settings(
        "https://org.example", "https://login.example", "t", "id", SecretStr(PERSON)
    )  # fmt: skip
    await (entra_tokens(d365, CONTEXT) if of_record else ims_tokens(campaign, CONTEXT)).token()


Send = Callable[..., Awaitable[None]]


def test_no_exception_of_httpx_is_left_out() -> None:
    assert {kind.__name__ for kind in KINDS} == NOT_SENT | UNKNOWN


@pytest.mark.parametrize("of_record", [False, True])
@pytest.mark.parametrize("send", [by_endpoint, by_sign_in])
@pytest.mark.parametrize("kind", KINDS)
async def test_an_exception_of_httpx_becomes_ours_without_its_text(
    monkeypatch: pytest.MonkeyPatch, kind: type[Exception], send: Send, of_record: bool
) -> None:
    def fail(_: httpx.Request) -> httpx.Response:
        raise raised(kind)

    def client(*_: Any) -> httpx.AsyncClient:
        return httpx.AsyncClient(transport=httpx.MockTransport(fail))

    monkeypatch.setattr("sync_assets.campaign.sign_in.SIGN_IN_TRIES", 1)
    for module in ("campaign", "dataverse"):
        monkeypatch.setattr(f"sync_assets.{module}.sign_in.sign_in_client", client)
    with pytest.raises(HttpError) as caught:
        await send(httpx.MockTransport(fail), of_record=of_record)
    assert isinstance(caught.value, NotSent) == (kind.__name__ in NOT_SENT)
    assert isinstance(caught.value, OutcomeUnknown) == (kind.__name__ in UNKNOWN and send is by_endpoint)
    assert caught.value.remedy
    assert PERSON not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("of_record", [False, True])
async def test_a_certificate_is_found_among_the_causes_of_an_exception_of_httpx(of_record: bool) -> None:
    def fail(_: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("") from UNTRUSTED

    with pytest.raises(NotTrusted, match="SYNC_ASSETS_CA_BUNDLE"):
        await by_endpoint(httpx.MockTransport(fail), of_record=of_record)


@pytest.mark.parametrize("of_record", [False, True])
@pytest.mark.parametrize("host", ["host.example\u201d", "10.0.0.300"])
async def test_an_address_that_httpx_does_not_take_becomes_an_error_of_ours(host: str, of_record: bool) -> None:
    endpoint = Endpoint("X", f"https://{host}", tokens(), TransportOptions(CONTEXT))
    try:
        with pytest.raises(NotSent):
            await endpoint.send(
                "POST", ADDRESS, body=b"{}", call=RequestOptions("insert", patience=0), of_record=of_record
            )
    finally:
        await endpoint.aclose()


async def test_a_refused_token_does_not_end_an_outage() -> None:
    """A gateway refuses it, and nothing says that the system behind it is up again."""
    endpoint = Endpoint("X", "https://host.example", tokens(), TransportOptions(CONTEXT))
    endpoint.stack.limits.carrier = httpx.MockTransport(lambda _: httpx.Response(401))
    endpoint.outage.since = 1.0
    with pytest.raises(SignInRefused):
        await endpoint.send("GET", ADDRESS, call=RequestOptions("read", patience=0))
    assert endpoint.outage.since == 1.0


async def test_an_answer_that_was_read_is_freed_without_the_garbage_collector() -> None:
    """A page has 8 MB, and `performance.py` lets the collector run rarely."""
    answers: list[weakref.ref[httpx.Response]] = []

    def answer(_: httpx.Request) -> httpx.Response:
        response = httpx.Response(200, stream=httpx.ByteStream(b"{}"))
        answers.append(weakref.ref(response))
        return response

    endpoint = Endpoint("X", "https://host.example", tokens(), TransportOptions(CONTEXT))
    endpoint.stack.limits.carrier = httpx.MockTransport(answer)
    gc.disable()
    try:
        assert (await endpoint.send("GET", ADDRESS)).body == b"{}"
        assert [one() for one in answers] == [None]
    finally:
        gc.enable()
