"""Workflows: state, queued commands, signals."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest

from sync_assets.sandbox.campaign import Campaign, app
from sync_assets.sandbox.campaign.workflows import EXPORT, IMPORT
from sync_assets_tests.unit.sandbox.campaign.conftest import BASE, Clock, sign_in

RST = "RST-360011 An error has occurred - please contact your administrator."


async def status(http: httpx.AsyncClient, workflow: str = EXPORT) -> str:
    return (await http.get(f"/workflow/execution/{workflow}")).json()["logicalStatus"]


async def command(http: httpx.AsyncClient, method: Any, workflow: str = EXPORT) -> httpx.Response:
    return await http.post(f"/workflow/execution/{workflow}/commands", json={"method": method})


async def test_a_workflow_tells_its_state_by_id_or_pkey(http: httpx.AsyncClient) -> None:
    told = (await http.get(f"/workflow/execution/{EXPORT}")).json()
    assert told["logicalStatus"] == "started"
    assert told["nextProcessingDate"] == "2026-11-25 09:10:11.123Z"
    assert (await http.get(f"/workflow/execution/{told['PKey']}")).json() == told
    assert (await http.get("/workflow/execution/WKF99")).status_code == 404
    assert (await http.get("/workflow/execution")).status_code == 404


async def test_commands_move_the_life_cycle(http: httpx.AsyncClient) -> None:
    for method, expected in (("pause", "warning"), ("resume", "started"), ("stop", "finished"), ("start", "started")):
        assert (await command(http, method)).status_code == 200
        assert await status(http) == expected
    for method in ("explode", None, 3):
        assert (await command(http, method)).status_code == 500
    assert await status(http) == "started"


async def test_an_answer_does_not_mean_that_it_runs(http: httpx.AsyncClient, campaign: Campaign, clock: Clock) -> None:
    campaign.configure({"workflow_delay_ms": 30_000})
    assert (await command(http, "stop")).status_code == 200
    assert await status(http) == "started"
    clock.now += 30
    assert await status(http) == "finished"


def keys(folder: Path) -> list[str] | None:
    """First column of the one file in a folder, which is then removed; None: there is none."""
    for file in folder.iterdir():
        lines = file.read_text().splitlines()
        file.unlink()
        return [line.split(",")[0] for line in lines]
    return None


async def test_starting_the_export_writes_its_file_also_when_nobody_looks(tmp_path: Path) -> None:
    campaign = Campaign(exports=tmp_path)
    campaign.insert(campaign.views["profileAndServicesExt", "profile"], {"externalId": "a", "blackListEmail": True})
    headers = {"Authorization": f"Bearer {sign_in(campaign)}", "X-Api-Key": campaign.ims.client_id}
    transport = httpx.ASGITransport(app(campaign))
    async with httpx.AsyncClient(transport=transport, base_url=BASE, headers=headers) as http:
        campaign.workflows.set_status(campaign.workflows.find(EXPORT), "error")
        await asyncio.sleep(0.005)  # or "a" would stand on the border and be exported twice
        await command(http, "start")
        assert keys(tmp_path) == ["externalId", "a"]
        campaign.insert(campaign.views["profileAndServicesExt", "profile"], {"externalId": "b"})
        campaign.configure({"workflow_delay_ms": 20})
        await command(http, "start")
        assert keys(tmp_path) is None
        await asyncio.sleep(0.1)
    assert keys(tmp_path) == ["externalId", "b"], "only what changed"


async def test_a_signal_goes_to_the_url_that_the_workflow_tells(
    http: httpx.AsyncClient, campaign: Campaign, clock: Clock
) -> None:
    told = (await http.get(f"/workflow/execution/{IMPORT}")).json()
    href = told["activities"]["activity"]["signal1"]["trigger"]["href"]
    body = {"source": "API", "parameters": {"fileName": "a.csv", "lines": 12, "full": True}}
    assert (await http.post(href, json=body)).status_code == 200
    signal = campaign.workflows.find(IMPORT).signals["signal1"]
    assert signal.received == [body]
    again = await http.post(href, json=body)
    assert again.status_code == 500
    assert "10 minutes" in again.text
    clock.now += 600
    assert (await http.post(href, json=body)).status_code == 200


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (
            {"source": "API", "parameters": {"contentURL": "x"}},
            "'contentURL' parameter isn't defined in signal activity.",
        ),
        ({"source": "API", "parameters": {"full": 3}}, "'full' parameter isn't defined in signal activity."),
        ({"parameters": {}}, "'source' parameter is mandatory."),
        ({"source": ""}, "'source' parameter is mandatory."),
        ({"source": "x" * 70_000}, "The payload of a signal is limited to 64 kB."),
    ],
)
async def test_signals_that_are_refused(http: httpx.AsyncClient, body: dict[str, Any], text: str) -> None:
    told = (await http.get(f"/workflow/execution/{IMPORT}")).json()
    answer = await http.post(told["activities"]["activity"]["signal1"]["trigger"]["href"], json=body)
    assert answer.status_code == 500
    assert answer.text.splitlines()[:2] == [RST, text]


async def test_a_workflow_that_does_not_run_takes_no_signal(http: httpx.AsyncClient) -> None:
    await command(http, "stop", IMPORT)
    told = (await http.get(f"/workflow/execution/{IMPORT}")).json()
    trigger = told["activities"]["activity"]["signal1"]["trigger"]["href"]
    assert (await http.post(trigger, json={"source": "API"})).status_code == 500
    assert (await http.post(trigger.replace("/activity/@", "/activity/@x"), json={"source": "API"})).status_code == 404
