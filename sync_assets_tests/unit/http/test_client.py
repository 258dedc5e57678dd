"""How a request travels: renewed tokens, waiting, repeating, links, and what is known when a connection is lost."""

import asyncio
import gzip
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_assets.errors import SyncAssetsError
from sync_assets.http.client import CachedTokens, Endpoint
from sync_assets.http.retry import RequestOptions, retry_after
from sync_assets.http.transport import (
    ForeignLink,
    NotSent,
    NotTrusted,
    OutcomeUnknown,
    TransportOptions,
    Unavailable,
    ssl_context,
)
from sync_assets.sandbox.certificates import LIFETIME, make_certificates
from sync_assets_tests.support.little_server import CUT, LittleServer, Request, answer


class Tokens:
    """Hands out t1, then t2 ... at each renewal, and counts them; `CachedTokens` around a fetch that takes a moment."""

    def __init__(self, lifetime: float = 3600) -> None:
        self.fetched = 0
        self.lifetime = lifetime
        self.source = CachedTokens(self.fetch)

    async def fetch(self) -> tuple[str, float]:
        await asyncio.sleep(0.01)
        self.fetched += 1
        return f"t{self.fetched}", self.lifetime


class Bench:
    """A little server, an endpoint for it, and what the endpoint's observer was told."""

    def __init__(self, server: LittleServer) -> None:
        self.server = server
        self.seen: list[tuple[str, int | None]] = []
        self.tokens = Tokens()
        self.endpoint = self.open()

    def open(self, *, url: str = "", trusted: bool = True, patience: float = 20, timeout: float = 5) -> Endpoint:
        endpoint = Endpoint(
            "Campaign",
            url or f"{self.server.url}/base",
            self.tokens.source,
            TransportOptions(
                ssl_context(self.server.ca_file if trusted else None), {"X-Api-Key": "k"}, timeout=timeout
            ),
            observer=lambda kind, status, seconds: self.seen.append((kind, status)),
        )
        endpoint.patience = patience
        return endpoint

    def arrived(self) -> list[str]:
        return [f"{r.method} {r.target}" for r in self.server.requests]


Starter = Callable[..., Awaitable[Bench]]


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Starter]:
    open_benches: list[Bench] = []

    async def begin(script) -> Bench:
        server = await LittleServer(tmp_path, script).__aenter__()
        open_benches.append(Bench(server))
        return open_benches[-1]

    yield begin
    for bench in open_benches:
        await bench.endpoint.aclose()
        await bench.server.__aexit__()


def scripted(*answers: bytes):
    """Answers in order, the last one for ever."""
    left = list(answers)
    return lambda request: left.pop(0) if len(left) > 1 else left[0]


# --- what travels -----------------------------------------------------------------------------------------------------


async def test_a_request_carries_token_key_and_body_and_its_address_as_given(start: Starter):
    bench = await start(scripted(answer(201, b'{"PKey":"@x"}')))
    got = await bench.endpoint.send(
        "POST", "api/profile/%40a%2Fb?x=%3A", body=b'{"a":1}', call=RequestOptions("insert")
    )
    (request,) = bench.server.requests
    assert (got.status, got.text) == (201, '{"PKey":"@x"}')
    assert request.target == "/base/api/profile/%40a%2Fb?x=%3A"
    assert request.body == b'{"a":1}'
    assert request.headers["authorization"] == "Bearer t1"
    assert request.headers["x-api-key"] == "k"
    assert bench.seen == [("insert", 201)]


@pytest.mark.parametrize("link", ["https://elsewhere.example/x", "http://localhost:{port}/x", "https://localhost:1/x"])
async def test_a_link_to_another_host_scheme_or_port_is_refused_before_anything_is_sent(start: Starter, link: str):
    bench = await start(scripted(answer()))
    with pytest.raises(ForeignLink, match="not followed"):
        await bench.endpoint.send("GET", link.format(port=bench.server.port))
    assert bench.arrived() == []
    assert bench.tokens.fetched == 0


@pytest.mark.parametrize("location", ["https://elsewhere.example/", "https://[no host", "ü"])
async def test_a_redirect_is_an_answer_and_is_not_followed_and_cookies_are_not_sent_back(start: Starter, location: str):
    redirect = answer(302, Location=location, Server=location, Set_Cookie="affinity=1; Path=/")
    bench = await start(scripted(redirect))
    for of_record in (False, True):
        assert (await bench.endpoint.send("GET", "x", of_record=of_record)).status == 302
    assert bench.arrived() == ["GET /base/x"] * 2
    assert all("cookie" not in request.headers for request in bench.server.requests)


async def test_a_compressed_answer_is_decompressed(start: Starter):
    bench = await start(scripted(answer(200, gzip.compress(b'{"a":"\xc3\xa4"}'), Content_Encoding="gzip")))
    assert (await bench.endpoint.send("GET", "x")).text == '{"a":"ä"}'


@pytest.mark.parametrize(
    ("encoding", "body"),
    [("gzip", b"not gzip"), ("gzip", gzip.compress(b"{}")[:-6]), ("br", b"not asked for")],
    ids=["no gzip", "cut off", "another encoding"],
)
async def test_an_answer_that_cannot_be_decompressed_leaves_a_write_unknown(start: Starter, encoding: str, body: bytes):
    bench = await start(scripted(answer(201, body, Content_Encoding=encoding)))
    with pytest.raises(OutcomeUnknown):
        await bench.endpoint.send("POST", "x", body=b"{}", call=RequestOptions("insert"))
    assert bench.seen == [("insert", None)]


async def test_64_requests_travel_at_once(start: Starter):
    async def slow(request: Request) -> bytes:
        await asyncio.sleep(0.3)
        return answer()

    bench = await start(slow)
    await asyncio.gather(*(bench.endpoint.send("GET", "warm") for _ in range(64)))
    started = time.monotonic()
    await asyncio.gather(*(bench.endpoint.send("GET", "x") for _ in range(64)))
    assert time.monotonic() - started < 15  # one after the other it would be 19 s
    assert bench.server.connections == 64


# --- tokens -----------------------------------------------------------------------------------------------------------


async def test_a_refused_token_is_renewed_once_for_all_workers_and_the_request_repeated(start: Starter):
    bench = await start(lambda r: answer(401 if r.headers["authorization"] == "Bearer t1" else 200))
    answers = await asyncio.gather(*(bench.endpoint.send("GET", "x") for _ in range(20)))
    assert {a.status for a in answers} == {200}
    assert bench.tokens.fetched == 2


@pytest.mark.parametrize("of_record", [False, True])
async def test_a_repeat_takes_the_token_that_is_valid_by_then(start: Starter, of_record: bool):
    bench = await start(scripted(answer(503, Retry_After="1.2"), answer()))
    bench.tokens.lifetime = 1.0
    await bench.endpoint.send("GET", "x", of_record=of_record)
    assert [request.headers["authorization"] for request in bench.server.requests] == ["Bearer t1", "Bearer t2"]


async def test_a_token_is_fetched_again_before_it_expires():
    tokens = Tokens(lifetime=1.2)
    assert [await tokens.source.token() for _ in range(3)] == ["t1"] * 3
    await asyncio.sleep(1.2)
    assert await tokens.source.token() == "t2"


def test_a_token_is_kept_from_one_event_loop_to_the_next_and_renewed_in_either():
    tokens = Tokens()

    async def all_at_once(refused: str) -> set[str]:
        return set(await asyncio.gather(*(tokens.source.renew(refused) for _ in range(50))))

    assert asyncio.run(all_at_once("")) == {"t1"}
    assert asyncio.run(tokens.source.token()) == "t1"
    assert asyncio.run(all_at_once("t1")) == {"t2"}
    assert tokens.fetched == 2


# --- waiting ----------------------------------------------------------------------------------------------------------


async def test_retry_after_stops_every_worker(start: Starter):
    refused_at: list[float] = []

    def script(request: Request) -> bytes:
        if not refused_at:
            refused_at.append(time.monotonic())
            return answer(429, b'{"error_code":"429050"}', Retry_After="1")
        return answer()

    bench = await start(script)

    async def worker() -> None:
        for _ in range(3):
            await bench.endpoint.send("GET", "x", call=RequestOptions("read"))
            await asyncio.sleep(0.02)

    await bench.endpoint.sign_in()
    await asyncio.gather(*(worker() for _ in range(8)))
    in_flight = 8  # those that had left together with the refused one
    later = sorted(r.at - refused_at[0] for r in bench.server.requests)[in_flight:]
    assert len(bench.server.requests) == 8 * 3 + 1
    assert later[0] >= 1.0
    assert bench.seen.count(("read", 429)) == 1


@given(
    st.text(max_size=30) | st.sampled_from(["1e999", "nan", "-inf", "Fri, 31 Dec 9999 23:59:59 -2359", "0 1 2", "²"])
)
def test_any_retry_after_is_a_time_or_none(value: str):
    result = retry_after({"retry-after": value})
    assert result is None or 0 <= result < float("inf")


async def test_a_retry_after_beyond_our_patience_ends_all_at_once(start: Starter):
    bench = await start(scripted(answer(503, Retry_After="900")))
    endpoint = bench.open(patience=30)
    started = time.monotonic()
    results = await asyncio.gather(*(endpoint.send("GET", "x") for _ in range(4)), return_exceptions=True)
    with pytest.raises(Unavailable, match=r"wait (89\d|900) s"):
        await endpoint.send("GET", "x")
    assert time.monotonic() - started < 15
    assert all(isinstance(r, Unavailable) for r in results)
    assert len(bench.server.requests) <= 4
    await endpoint.aclose()


async def test_503_without_a_time_is_repeated_with_growing_waits(start: Starter):
    bench = await start(scripted(answer(503), answer(503), answer()))
    assert (await bench.endpoint.send("POST", "x", body=b"{}")).status == 200
    first, second, third = [r.at for r in bench.server.requests]
    assert second - first >= 0.35
    assert third - second > second - first


async def test_a_system_that_did_not_answer_for_the_patience_is_not_waited_for_again_until_it_answers(start: Starter):
    answers = [answer(502)]
    bench = await start(lambda request: answers[-1])
    first, second = bench.endpoint, bench.open(patience=1)
    first.patience, second.outage = 1, first.outage
    with pytest.raises(Unavailable, match="stays pending"):
        await first.send("GET", "x")
    before = len(bench.arrived())
    with pytest.raises(Unavailable, match="Campaign kept answering 502"):
        await second.send("GET", "x")
    assert len(bench.arrived()) == before + 1
    answers.append(answer())
    assert (await second.send("GET", "x")).status == 200
    answers[:] = [answer(), answer(502)]
    before = len(bench.arrived())
    with pytest.raises(Unavailable):
        await first.send("GET", "x")
    assert len(bench.arrived()) == before + 2
    # The next table's request, of a system that is silent: it failed for another minute.
    first.outage.since, first.outage.due = time.monotonic() - 220, time.monotonic() - 95
    before = len(bench.arrived())
    with pytest.raises(Unavailable):
        await second.send("GET", "x")
    assert len(bench.arrived()) == before + 1
    # An hour later: no answer has ended that outage, but this is another one.
    first.outage.since, first.outage.due = time.monotonic() - 3601, time.monotonic() - 3600
    before = len(bench.arrived())
    with pytest.raises(Unavailable):
        await second.send("GET", "x")
    assert len(bench.arrived()) == before + 2
    await second.aclose()


# --- lost answers -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["POST", "PATCH", "DELETE"])
async def test_a_write_whose_answer_is_lost_is_unknown_and_never_sent_again_by_itself(start: Starter, method: str):
    bench = await start(scripted(answer(), CUT))
    await bench.endpoint.send("GET", "opens the connection")
    with pytest.raises(OutcomeUnknown) as caught:
        await bench.endpoint.send(
            method, "profile/byEmail?email=ada@example.com", body=b"{}", call=RequestOptions("write")
        )
    assert "/base/profile/byEmail" in str(caught.value)
    assert "ada" not in str(caught.value)
    assert len(bench.server.requests) == 2
    assert bench.seen[1:] == [("write", None)]


async def test_a_read_whose_answer_is_lost_is_sent_again_and_each_is_counted(start: Starter):
    bench = await start(scripted(answer(), CUT, answer()))
    await bench.endpoint.send("GET", "opens the connection", call=RequestOptions("read"))
    await bench.endpoint.send("GET", "x", call=RequestOptions("read"))
    assert bench.seen == [("read", 200), ("read", None), ("read", 200)]
    assert len(bench.server.requests) == 3


async def test_a_silent_server_leaves_a_write_unknown(start: Starter):
    async def silent(request: Request) -> bytes:
        await asyncio.sleep(2)
        return answer()

    bench = await start(silent)
    endpoint = bench.open(timeout=0.3)
    with pytest.raises(OutcomeUnknown):
        await endpoint.send("POST", "x", body=b"{}")
    await endpoint.aclose()


@pytest.mark.parametrize("status", [502, 504])
async def test_a_gateway_that_lost_the_answer_leaves_a_write_unknown_and_a_read_repeated(start: Starter, status: int):
    bench = await start(scripted(answer(status), answer(status), answer()))
    with pytest.raises(OutcomeUnknown, match=str(status)):
        await bench.endpoint.send("POST", "x", body=b"{}")
    assert (await bench.endpoint.send("GET", "x")).status == 200
    assert bench.arrived() == ["POST /base/x", "GET /base/x", "GET /base/x"]


async def test_an_unreachable_server_is_not_sent_and_that_is_reported(start: Starter):
    bench = await start(scripted(answer()))
    endpoint = bench.open(url="https://localhost:1/base", patience=1)
    with pytest.raises(NotSent, match="localhost:1/base/x cannot be reached"):
        await endpoint.send("POST", "x?name=Ada", body=b"{}", call=RequestOptions("insert"))
    assert {status for _, status in bench.seen} == {0}
    assert len(bench.seen) >= 2  # tried again, as nothing can have happened
    await endpoint.aclose()


async def test_an_untrusted_certificate_is_reported_at_once_with_the_remedy(start: Starter):
    bench = await start(scripted(answer()))
    endpoint = bench.open(trusted=False, patience=60)
    started = time.monotonic()
    with pytest.raises(NotTrusted, match="SYNC_ASSETS_CA_BUNDLE"):
        await endpoint.send("GET", "x")
    assert time.monotonic() - started < 30
    await endpoint.aclose()


@pytest.mark.parametrize(
    ("host", "lifetime", "remedy"),
    [
        ("localhost", timedelta(minutes=-1), "(certificate has expired). The certificate has ended: its server needs"),
        ("other.example", LIFETIME, "The certificate is another host's: correct the host, or"),
    ],
)
async def test_the_remedy_for_a_certificate_follows_from_its_fault(
    start: Starter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: str, lifetime: timedelta, remedy: str
):
    monkeypatch.setattr("sync_assets.sandbox.certificates.LIFETIME", lifetime)
    (tmp_path / "little").mkdir()
    make_certificates(tmp_path / "little", [host])
    bench = await start(scripted(answer()))
    with pytest.raises(NotTrusted, match=re.escape(remedy)) as caught:
        await bench.endpoint.send("GET", "x")
    assert "SYNC_ASSETS_CA_BUNDLE" not in str(caught.value)


async def test_netrc_and_proxy_of_the_environment_do_not_get_in_the_way(
    start: Starter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "netrc").write_text("machine localhost login someone password something\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("NO_PROXY", "localhost")
    bench = await start(scripted(answer()))
    await bench.endpoint.send("GET", "x")
    assert bench.server.requests[0].headers["authorization"] == "Bearer t1"


# --- guard ------------------------------------------------------------------------------------------------------------


async def test_a_guard_is_asked_before_each_single_request_and_can_keep_it_back(start: Starter):
    bench = await start(scripted(answer(503, Retry_After="0"), answer(503, Retry_After="0"), answer()))
    asked: list[int] = []

    def guard() -> None:
        asked.append(len(bench.server.requests))
        if len(asked) == 3:
            raise SyncAssetsError("enough")

    with pytest.raises(SyncAssetsError, match="enough"):
        await bench.endpoint.send("GET", "x", call=RequestOptions(guard=guard))
    assert asked == [0, 1, 2]
    assert len(bench.server.requests) == 2


async def test_an_observer_of_one_call_is_called_besides_the_endpoints_own(start: Starter):
    bench = await start(scripted(CUT, answer()))
    result: list[tuple[str, int | None]] = []
    call = RequestOptions("read", observer=lambda kind, status, seconds: result.append((kind, status)))
    await bench.endpoint.send("GET", "x", call=call)
    assert result == bench.seen == [("read", None), ("read", 200)]


# --- small parts ------------------------------------------------------------------------------------------------------


def test_no_retry_after_lasts_longer_than_a_quarter_of_an_hour():
    next_year = format_datetime(datetime.now(UTC) + timedelta(days=365), usegmt=True)
    for value in ("901", "3600.5", "9" * 400, next_year, "Fri, 31 Dec 9999 23:59:59 GMT"):
        assert retry_after({"retry-after": value}) == 15 * 60, value


@pytest.mark.parametrize(
    "value", ["-5", "-0", "nan", "inf", "1e999", "1e3", "1_0", "+5", "²", "٣", "0x10", "5 s", "soon", "", " "]
)
def test_a_retry_after_that_is_neither_seconds_nor_a_date_is_none(value: str):
    assert retry_after({"retry-after": value}) is None


def test_a_retry_after_may_be_a_date():
    at = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    result = retry_after({"retry-after": at})
    assert result is not None
    assert 28 < result <= 30
    assert retry_after({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}) == 0
    assert retry_after({}) is None


def test_a_ca_bundle_that_is_bad_or_gone_is_reported_by_its_variable(tmp_path: Path):
    file = tmp_path / "not.pem"
    file.write_text("no certificate")
    with pytest.raises(SyncAssetsError, match="SYNC_ASSETS_CA_BUNDLE"):
        ssl_context(file)
    with pytest.raises(SyncAssetsError, match=r"names .*gone\.pem, which is missing"):
        ssl_context(tmp_path / "gone.pem")
