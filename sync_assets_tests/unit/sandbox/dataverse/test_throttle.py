"""Service protection limits: docs/dev/references/dataverse.md 4."""

import time
from typing import Any

import pytest

from sync_assets.sandbox.asgi import Answer
from sync_assets.sandbox.dataverse import Organization
from sync_assets.sandbox.dataverse.api import refuse
from sync_assets.sandbox.dataverse.throttle import Throttle
from sync_assets.sandbox.faults import Rule
from sync_assets_tests.unit.sandbox.dataverse.web_api import Reply


class Gate:
    """A throttle and a clock that stands still until it is moved."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.org = Organization()
        self.throttle = Throttle(self.org)
        self.now = 1000.0
        monkeypatch.setattr(time, "monotonic", lambda: self.now)

    def enter(self) -> Reply | None:
        scope: dict[str, Any] = {"state": {}}
        answer = self.throttle.enter(scope)
        return None if answer is None else reply(answer)

    def run(self, seconds: float = 0.0) -> Reply | None:
        """A whole request that takes so long."""
        if (refused := self.enter()) is None:
            self.now += seconds
            self.throttle.leave({"state": {}}, seconds)
        return refused

    def remaining(self) -> tuple[str, str]:
        requests, seconds = self.throttle.headers()
        return requests[1].decode(), seconds[1].decode()


def reply(answer: Answer) -> Reply:
    return Reply(answer.status, {name.decode(): value.decode() for name, value in answer.headers}, answer.body)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Gate:
    return Gate(monkeypatch)


def test_requests_in_the_window(gate: Gate) -> None:
    gate.org.switches.limit_requests = 3
    assert [gate.run(1) for _ in range(3)] == [None] * 3
    assert gate.remaining()[0] == "0"
    refused = gate.run()
    assert refused is not None
    assert (refused.status, refused.error) == (429, "0x80072322")
    assert refused.message == "Number of requests exceeded the limit of 3 over time window of 300 seconds."
    assert refused.headers["retry-after"] == "297", "until the oldest has left the window"
    gate.now += 297
    assert gate.run() is None


def test_who_keeps_pushing_waits_longer(gate: Gate) -> None:
    gate.org.switches.limit_requests = 1
    gate.run()
    waits = [int(refused.headers["retry-after"]) for _ in range(50) if (refused := gate.run()) is not None]
    assert waits == sorted(waits)
    assert waits[-1] > waits[0]


@pytest.mark.parametrize(
    ("kind", "status", "code"),
    [
        ("throttle", 429, "0x80072322"),
        ("throttle_requests", 429, "0x80072322"),
        ("throttle_time", 429, "0x80072321"),
        ("throttle_concurrent", 429, "0x80072326"),
        ("forbidden", 403, "0x80040220"),
    ],
)
def test_injected_refusals_look_like_real_ones(kind: str, status: int, code: str) -> None:
    answer = refuse(Rule(id=1, system="d365", kind=kind, parameters={"retry_after": 7}))
    assert answer is not None
    assert (reply(answer).status, reply(answer).error) == (status, code)
    assert reply(answer).headers.get("retry-after") == ("7" if status == 429 else None)
