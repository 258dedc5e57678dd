"""Journal, faults and latency around a system, over real connections."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from sync_assets.sandbox.asgi import Answer, Receive, Scope, Send, send_answer
from sync_assets.sandbox.faults import Faults
from sync_assets.sandbox.journal import Journal
from sync_assets.sandbox.listener import Listener
from sync_assets.sandbox.middleware import Observed


class System:
    """A little system that remembers what was done to it, observed as the real ones are."""

    def __init__(self) -> None:
        self.journal, self.faults = Journal(), Faults()
        self.done: list[str] = []
        self.listener = Listener()
        self.client = httpx.AsyncClient(base_url=f"http://127.0.0.1:{self.listener.port}", trust_env=False)

    async def start(self, **options: Any) -> None:
        await self.listener.start(Observed(self.serve, "campaign", self.journal, self.faults, **options))

    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = (await receive())["body"]
        if scope["path"] == "/broken":
            raise ZeroDivisionError
        self.done.append(body.decode())
        scope["state"]["engine"] = "insert"
        scope["state"]["key"] = "k1"
        await send_answer(send, Answer(201, [], b"made"))

    def fault(self, kind: str, **more: Any) -> None:
        self.faults.add({"system": "campaign", "kind": kind, **more})

    def last(self) -> tuple[str, str, int, str | None, str | None]:
        entry = self.journal.entries()[-1]
        return entry.method, entry.path, entry.status, entry.engine, entry.fault


@pytest.fixture
async def system() -> AsyncIterator[System]:
    made = System()
    yield made
    await made.client.aclose()
    await made.listener.stop()


async def test_cut_before_does_nothing(system: System) -> None:
    await system.start()
    system.fault("cut_before", times=1)
    with pytest.raises(httpx.RemoteProtocolError):
        await system.client.post("/", content="x")
    assert system.done == []
    assert system.last() == ("POST", "/", 0, None, "cut_before")


async def test_cut_after_does_the_work_and_loses_the_answer(system: System) -> None:
    await system.start()
    system.fault("cut_after", times=1)
    with pytest.raises(httpx.RemoteProtocolError):
        await system.client.post("/", content="x")
    assert system.done == ["x"]
    assert system.last() == ("POST", "/", 0, "insert", "cut_after")
    assert (await system.client.post("/", content="y")).status_code == 201


@pytest.mark.parametrize("kind", ["throttle", "cut_before"])
async def test_a_system_may_tell_what_a_refused_request_was_about(system: System, kind: str) -> None:
    await system.start(key=lambda scope, body: f"{scope['path']} {body.decode()}")
    system.fault(kind, times=1)
    with contextlib.suppress(httpx.TransportError):
        await system.client.post("/x", content="k2")
    [entry] = system.journal.entries()
    assert (entry.key, entry.answered is None) == ("/x k2", kind == "cut_before")
    assert system.done == []


async def test_a_bug_of_the_system_is_a_500_in_the_journal(system: System) -> None:
    await system.start()
    assert (await system.client.post("/broken")).status_code == 500
    assert system.last()[2] == 500
