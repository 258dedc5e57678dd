"""No answer takes more memory or time than it may, whoever gives it: Dynamics 365, Entra ID, Campaign, IMS."""

import asyncio
import gzip
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from sync_assets.campaign import client as campaign
from sync_assets.campaign import sign_in as ims
from sync_assets.campaign.sign_in import ims_tokens
from sync_assets.config.environment import CampaignSettings, D365Settings
from sync_assets.dataverse import client as d365
from sync_assets.dataverse import sign_in as entra
from sync_assets.dataverse.sign_in import entra_tokens
from sync_assets.http.aiohttp_transport import INFLATED_HERE, AiohttpTransport, _TooLarge, _unzipped
from sync_assets.http.client import Endpoint
from sync_assets.http.retry import RequestOptions
from sync_assets.http.transport import HttpError, LimitExceeded, Limits, OutcomeUnknown, TransportOptions, ssl_context
from sync_assets.performance import new_event_loop
from sync_assets_tests.support import endless_answers as answers
from sync_assets_tests.support.endless_answers import LARGE, MIB, SLOW, growth
from sync_assets_tests.support.little_server import (
    LittleServer,
    Request,
    Script,
    answer,
    campaign_of,
    dataverse_of,
    tokens,
)

TIGHT = Limits(largest=4 * MIB, seconds=0.5)
SMALL = Limits(largest=4 * MIB, seconds=30)
IN_TIME = 30.0
"""Seconds in which everything here has ended, on a busy machine too."""

Ask = Callable[[LittleServer], Awaitable[Any]]


async def ask_dynamics_365(server: LittleServer) -> None:
    async with dataverse_of(server) as client:
        await client.page(f"{server.url}/api/data/v9.2/contacts?$select=firstname", tracked=True)


async def ask_campaign(server: LittleServer) -> None:
    async with campaign_of(server) as client:
        await client.call("read", "profileAndServicesExt/profile?email=anna@example.com")


async def ask_ims(server: LittleServer) -> None:
    await ims_tokens(
        CampaignSettings("", server.url, "id", SecretStr("hush"), "openid"), ssl_context(server.ca_file)
    ).token()


async def ask_entra(server: LittleServer) -> None:
    await entra_tokens(
        D365Settings(
            "https://org.example", server.url, "11111111-2222-3333-4444-555555555555", "id", SecretStr("hush")
        ),
        ssl_context(server.ca_file),
    ).token()


SYSTEMS: list[Ask] = [ask_dynamics_365, ask_campaign, ask_ims, ask_entra]
SIGN_INS: list[Ask] = [ask_ims, ask_entra]


@pytest.fixture
def limits(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (d365, campaign):
        monkeypatch.setattr(module, "LIMITS", request.param)
    for module in (entra, ims):
        monkeypatch.setattr(module, "SIGN_IN_LIMITS", request.param)


def assert_names_a_remedy(error: HttpError, ask: Ask) -> None:
    """OutcomeUnknown would say of the record whose request needed a token that it may have been sent."""
    assert "anna" not in str(error)
    assert error.remedy
    assert ask not in SIGN_INS or not isinstance(error, OutcomeUnknown)


@pytest.mark.usefixtures("limits")
@pytest.mark.parametrize("limits", [SMALL], indirect=True)
@pytest.mark.parametrize("script", LARGE)
@pytest.mark.parametrize("ask", SYSTEMS)
async def test_an_answer_without_measure_ends_at_the_limit_and_memory_with_it(tmp_path: Path, ask: Ask, script: Script):
    async with LittleServer(tmp_path, script) as server:
        with growth() as grown, pytest.raises(HttpError, match="more than 4 MiB") as caught:
            await asyncio.wait_for(ask(server), IN_TIME)
    assert len(server.requests) == 1, "what was too large once is not asked for again"
    assert grown.most < 48 * MIB
    assert_names_a_remedy(caught.value, ask)


@pytest.mark.usefixtures("limits")
@pytest.mark.parametrize("limits", [TIGHT], indirect=True)
@pytest.mark.parametrize("script", SLOW)
@pytest.mark.parametrize("ask", SYSTEMS)
async def test_an_answer_that_trickles_ends_after_its_time(tmp_path: Path, ask: Ask, script: Script):
    async with LittleServer(tmp_path, script) as server:
        with pytest.raises(HttpError, match=r"in full within 0.5 s") as caught:
            await asyncio.wait_for(ask(server), IN_TIME)
    assert len(server.requests) == 1
    assert_names_a_remedy(caught.value, ask)


Start = Callable[..., Awaitable[tuple[LittleServer, Endpoint]]]


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    opened: list[tuple[LittleServer, Endpoint]] = []

    async def begin(script: Script, limits: Limits = TIGHT) -> tuple[LittleServer, Endpoint]:
        server = await LittleServer(tmp_path, script).__aenter__()
        context = ssl_context(server.ca_file)
        endpoint = Endpoint("X", server.url, tokens(), TransportOptions(context, limits=limits))
        opened.append((server, endpoint))
        return server, endpoint

    yield begin
    for server, endpoint in opened:
        await endpoint.aclose()
        await server.__aexit__()


@pytest.mark.parametrize("script", [*LARGE, *SLOW])
@pytest.mark.parametrize("repeat", [None, True])
async def test_a_write_that_is_answered_without_measure_may_have_been_carried_out(
    start: Start, script: Script, repeat: bool | None
):
    server, endpoint = await start(script)
    seen: list[int | None] = []
    call = RequestOptions(repeat_unknown=repeat, observer=lambda kind, status, seconds: seen.append(status))
    with pytest.raises(OutcomeUnknown):
        await endpoint.send("POST", "x", body=b"{}", call=call)
    assert len(server.requests) == 1
    assert seen == [None]


def packed(body: bytes) -> bytes:
    return answer(200, gzip.compress(body), Content_Encoding="gzip")


@pytest.mark.parametrize("wrap", [lambda body: answer(200, body), packed])
@pytest.mark.parametrize("size", [INFLATED_HERE // 2, 40 * INFLATED_HERE])
async def test_an_answer_of_just_the_limit_is_one(start: Start, wrap: Callable[[bytes], bytes], size: int):
    body = b"ab" * (size // 2)
    _, endpoint = await start(lambda request: wrap(body + b"c" * int(request.target[1:])), Limits(size, 5.0))
    assert (await endpoint.send("GET", "0")).body == body
    with pytest.raises(LimitExceeded):
        await endpoint.send("GET", "1")


async def test_the_limit_counts_received_and_inflated_bytes(start: Start):
    noise = bytes(range(256)) * 4
    _, endpoint = await start(lambda _: packed(noise), Limits(len(noise), 5.0))
    assert (await endpoint.send("GET", "x")).body == noise
    _, endpoint = await start(lambda _: answer(200, gzip.compress(b"") * 40, Content_Encoding="gzip"), Limits(100, 5.0))
    with pytest.raises(LimitExceeded):
        await endpoint.send("GET", "x")


async def test_only_the_slow_ones_of_many_are_given_up(start: Start, monkeypatch: pytest.MonkeyPatch):
    """Their time is up when the others are answered, however long that takes."""
    deadlines, began = list[asyncio.Timeout](), asyncio.timeout

    def timeout(seconds: float) -> asyncio.Timeout:
        deadlines.append(began(seconds))
        return deadlines[-1]

    def script(request: Request) -> Any:
        return answers.drip(request) if request.target == "/drip" else answer(200, b"good")

    monkeypatch.setattr("sync_assets.http.aiohttp_transport.asyncio.timeout", timeout)
    server, endpoint = await start(script, Limits(seconds=600))
    asked = [asyncio.create_task(endpoint.send("GET", "good" if number % 3 else "drip")) for number in range(30)]
    assert [(await task).body for number, task in enumerate(asked) if number % 3] == [b"good"] * 20
    slow = asked[::3]
    while sum(request.target == "/drip" for request in server.requests) < len(slow):
        await asyncio.sleep(0.01)
    assert not any(task.done() for task in slow)
    for deadline in deadlines:
        with suppress(RuntimeError):  # that of an answered one
            deadline.reschedule(asyncio.get_running_loop().time())
    given_up = await asyncio.gather(*slow, return_exceptions=True)
    assert [type(error) for error in given_up] == [LimitExceeded] * len(slow)


@pytest.mark.parametrize("after", [0.1, TIGHT.seconds, TIGHT.seconds * 1.05])
async def test_a_cancelled_worker_is_cancelled_whether_its_time_is_up_or_not(start: Start, after: float):
    _, endpoint = await start(answers.drip)
    worker = asyncio.create_task(endpoint.send("GET", "x"))
    await asyncio.sleep(after)
    if worker.cancel():
        with pytest.raises((asyncio.CancelledError, LimitExceeded)) as caught:
            await worker
        assert worker.cancelled() == (caught.type is asyncio.CancelledError)


def test_requests_that_are_cancelled_during_their_tls_handshake_leave_no_line_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def cancelled(server: LittleServer) -> None:
        context = ssl_context(server.ca_file)
        for number in range(300):
            client = AiohttpTransport(context, 8, httpx.Timeout(5))
            requests = [asyncio.ensure_future(client.exchange("GET", server.url, {}, None)) for _ in range(8)]
            await asyncio.sleep(number % 60 / 6000)
            for request in requests:
                request.cancel()
            await asyncio.gather(*requests, return_exceptions=True)
            await client.aclose()

    with asyncio.Runner() as of_server, asyncio.Runner(loop_factory=new_event_loop) as runner:
        loop, server = of_server.get_loop(), LittleServer(tmp_path, lambda _: answer())
        of_server.run(server.__aenter__())
        thread = threading.Thread(target=loop.run_forever)
        thread.start()
        runner.run(cancelled(server))
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
    assert "Fatal error on SSL protocol" not in caplog.text


@given(st.binary(max_size=1000), st.integers(0, 1200))
def test_unzipping_gives_the_whole_or_an_error_of_size(whole: bytes, most: int):
    content = gzip.compress(whole)
    if len(whole) > most:
        with pytest.raises(_TooLarge):
            _unzipped(content, most)
    else:
        assert _unzipped(content, most) == whole
        with pytest.raises(EOFError):
            _unzipped(content + content, most)
