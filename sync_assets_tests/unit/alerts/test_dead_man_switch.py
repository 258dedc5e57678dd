"""The monitoring service is pinged while the program works, and what happens to a ping stops nothing."""

import asyncio
import logging
from pathlib import Path

import pytest

from sync_assets.alerts.channels import DeadManSwitch
from sync_assets.runtime.context import Runtime
from sync_assets_tests.support.little_server import CUT, LittleServer, answer

SECRET = "0f1e2d3c-hush"


def switch(environment: dict[str, str], now: list[float] | None = None) -> DeadManSwitch:
    clock = now or [0.0]
    return DeadManSwitch(Runtime(environment), lambda: clock[0])


def given(server: LittleServer) -> dict[str, str]:
    return {"SYNC_ASSETS_HEARTBEAT_URL": f"{server.url}/{SECRET}", "SYNC_ASSETS_CA_BUNDLE": str(server.ca_file)}


async def test_it_is_pinged_at_most_once_a_minute_without_any_data(tmp_path: Path) -> None:
    async with LittleServer(tmp_path, lambda _: answer()) as server:
        now = [1000.0]
        pinging = switch(given(server), now)
        pinged = []
        for moment in (1000.0, 1001.0, 1059.0, 1060.0):
            now[0] = moment
            pinged.append(await asyncio.to_thread(pinging.ping))
    assert pinged == [True, False, False, True]
    assert [(one.method, one.target, one.body) for one in server.requests] == [("GET", f"/{SECRET}", b"")] * 2


async def test_its_address_may_be_in_a_file_that_is_replaced(tmp_path: Path) -> None:
    async with LittleServer(tmp_path, lambda _: answer()) as server:
        file, now = tmp_path / "address", [0.0]
        environment = {"SYNC_ASSETS_HEARTBEAT_URL_FILE": str(file), "SYNC_ASSETS_CA_BUNDLE": str(server.ca_file)}
        file.write_text(f"{server.url}/one")
        pinging = switch(environment, now)
        await asyncio.to_thread(pinging.ping)
        file.write_text(f"{server.url}/two")
        now[0] = 60.0
        await asyncio.to_thread(pinging.ping)
    assert [one.target for one in server.requests] == ["/one", "/two"]


@pytest.mark.parametrize("reply", [answer(500), answer(302, Location="https://another.example"), CUT])
async def test_a_ping_that_fails_is_logged_without_the_address_and_not_repeated_at_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, reply: bytes
) -> None:
    async with LittleServer(tmp_path, lambda _: reply) as server:
        pinging = switch(given(server))
        with caplog.at_level(logging.DEBUG):
            assert [await asyncio.to_thread(pinging.ping) for _ in range(2)] == [False, False]
    assert [record.levelname for record in caplog.records if record.name.startswith("sync_assets.alerts")] == [
        "WARNING"
    ]
    assert SECRET not in caplog.text


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"SYNC_ASSETS_HEARTBEAT_URL": "http://another.example/plain"},
        {"SYNC_ASSETS_HEARTBEAT_URL": "https://127.0.0.1:9/nobody"},
        {"SYNC_ASSETS_HEARTBEAT_URL_FILE": "/nowhere"},
        {"SYNC_ASSETS_SMTP_USER": "alone"},
    ],
    ids=["none", "plain http", "nobody there", "no file", "other settings wrong"],
)
def test_without_a_usable_address_nothing_is_sent_and_nothing_raised(environment: dict[str, str]) -> None:
    assert switch(environment).ping() is False
