"""Journal and faults around a system, over real connections: what reaches a client, and what is left in the system."""

import contextlib
import gzip
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from sync_assets.sandbox.asgi import Answer, Receive, Scope, Send, read_body, send_answer
from sync_assets.sandbox.bad_answers import MEGABYTE
from sync_assets.sandbox.faults import Faults
from sync_assets.sandbox.journal import Journal
from sync_assets.sandbox.listener import Listener
from sync_assets.sandbox.middleware import Dialect, Observed


class System:
    """Remembers the bodies that it executed."""

    def __init__(self) -> None:
        self.journal, self.faults = Journal(), Faults()
        self.executed: list[bytes] = []
        self.listener = Listener()
        self.url = f"http://127.0.0.1:{self.listener.port}"
        self.client = httpx.AsyncClient(base_url=self.url, trust_env=False)

    async def start(self) -> None:
        dialect = Dialect("campaign", key=lambda scope, body: body.decode() or None)
        observed = Observed(self.serve, dialect, self.journal, self.faults)
        await self.listener.start(observed)

    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/broken":
            raise ZeroDivisionError
        self.executed.append(await read_body(receive))
        scope["state"]["engine"] = "insert"
        body = b'{"made": "yes"}'
        await send_answer(send, Answer(201 if scope["method"] == "POST" else 200, [(b"x-own", b"1")], body))

    def fault(self, kind: str, **more: Any) -> None:
        self.faults.add({"system": "campaign", "kind": kind, **more})


@pytest.fixture
async def system() -> AsyncIterator[System]:
    made = System()
    await made.start()
    yield made
    await made.client.aclose()
    await made.listener.stop()


@pytest.mark.parametrize("executed", [False, True])
@pytest.mark.parametrize("body", [None, "", '{"error":"x"}', '{"PKey":"@ab', "null", "[]"])
async def test_a_hollow_answer(system: System, executed: bool, body: str | None) -> None:
    parameters = {} if body is None else {"body": body}
    system.fault("hollow", times=1, executed=executed, **parameters)
    answer = await system.client.post("/", content="k")
    assert (answer.status_code, answer.text) == (200, '{"message":"maintenance"}' if body is None else body)
    assert answer.headers["content-type"] == "application/json"
    assert "x-own" not in answer.headers
    assert system.executed == ([b"k"] if executed else [])
    [entry] = system.journal.entries()
    assert (entry.status, entry.fault, entry.engine) == (200, "hollow", "insert" if executed else None)
    assert executed or entry.key == "k"
    assert (await system.client.post("/", content="k")).json() == {"made": "yes"}


async def test_a_bomb_inflates_and_does_nothing(system: System) -> None:
    system.fault("bomb", times=1, megabytes=5)
    async with system.client.stream("POST", "/", content="k") as answer:
        assert (answer.status_code, answer.headers["content-encoding"]) == (200, "gzip")
        raw = b"".join([part async for part in answer.aiter_raw()])
    assert len(raw) < 10_000
    assert len(gzip.decompress(raw)) == 5 * MEGABYTE
    assert system.executed == []


async def test_a_drip_gives_the_real_answer_a_byte_at_a_time(system: System) -> None:
    system.fault("drip", times=1, seconds=0.05)
    async with system.client.stream("POST", "/", content="k") as answer:
        headers = time.perf_counter()
        assert (answer.status_code, answer.headers["x-own"]) == (201, "1")
        parts = [part async for part in answer.aiter_raw()]
    assert (b"".join(parts), system.executed) == (b'{"made": "yes"}', [b"k"])
    assert int(answer.headers["content-length"]) == len(parts) == 15
    assert time.perf_counter() - headers > 0.3, "the headers come before the bytes"


@pytest.mark.parametrize("kind", ["throttle", "cut_before"])
async def test_a_refused_request_is_in_the_journal_with_its_key(system: System, kind: str) -> None:
    system.fault(kind, times=1)
    with contextlib.suppress(httpx.TransportError):
        await system.client.post("/", content="k")
    [entry] = system.journal.entries()
    assert (entry.key, entry.answered is None) == ("k", kind == "cut_before")
    assert system.executed == []


async def test_a_bug_of_the_system_is_a_500_in_the_journal(system: System) -> None:
    assert (await system.client.post("/broken")).status_code == 500
    assert system.journal.entries()[-1].status == 500
