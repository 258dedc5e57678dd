"""Workflows: state, queued commands, signals."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx

from sync_assets.sandbox.campaign import Campaign, app
from sync_assets.sandbox.campaign.workflows import EXPORT
from sync_assets_tests.unit.sandbox.campaign.conftest import BASE, sign_in

RST = "RST-360011 An error has occurred - please contact your administrator."


async def command(http: httpx.AsyncClient, method: Any, workflow: str = EXPORT) -> httpx.Response:
    return await http.post(f"/workflow/execution/{workflow}/commands", json={"method": method})


async def test_a_workflow_tells_its_state_by_id_or_pkey(http: httpx.AsyncClient) -> None:
    told = (await http.get(f"/workflow/execution/{EXPORT}")).json()
    assert told["logicalStatus"] == "started"
    assert told["nextProcessingDate"] == "2026-11-25 09:10:11.123Z"
    assert (await http.get(f"/workflow/execution/{told['PKey']}")).json() == told
    assert (await http.get("/workflow/execution/WKF99")).status_code == 404
    assert (await http.get("/workflow/execution")).status_code == 404


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
