"""Admin routes: dump, settings, what a marketer does, the opt-out export."""

import gzip
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette

from sync_assets.sandbox.campaign import Campaign, Imports
from sync_assets.sandbox.campaign.admin import routes
from sync_assets_tests.unit.sandbox.campaign.conftest import Clock

EXT = "/profileAndServicesExt/profile"


@pytest.fixture
async def admin(campaign: Campaign, tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    campaign.export.folder = tmp_path
    transport = httpx.ASGITransport(Starlette(routes=routes(campaign, Imports(campaign, tmp_path))))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        yield client


async def export(admin: httpx.AsyncClient, **expected: Any) -> str | None:
    answer = await admin.post("/campaign/export", json=expected)
    assert answer.status_code == 200, answer.text
    return answer.json()["file"]


async def test_layouts_of_the_file(admin: httpx.AsyncClient, http: httpx.AsyncClient, tmp_path: Path) -> None:
    await http.post(EXT, json={"externalId": "a", "blackListEmail": True})
    await http.post(EXT, json={})
    layout = {"separator": "\t", "attributes": ["blackListEmail"], "times": False, "booleans": ["no", "yes"]}
    name = await export(admin, gz=True, name="optout_x.csv.gz", encoding="utf-16", foreign=True, header=False, **layout)
    assert gzip.decompress((tmp_path / "optout_x.csv.gz").read_bytes()).decode("utf-16") == "a\tyes\n\tno\n"
    assert name == "optout_x.csv.gz"
    assert await export(admin, name="../../escaped.csv") == "escaped.csv"
    assert (await admin.post("/campaign/export", json={"colour": 1})).status_code == 400


async def test_headings_and_times_as_the_activity_is_set_up(
    admin: httpx.AsyncClient, http: httpx.AsyncClient, campaign: Campaign, tmp_path: Path
) -> None:
    await http.post(EXT, json={"externalId": "a", "blackListEmail": True})
    layout = {"attributes": ["blackListEmail"], "headings": {"externalId": "ID", "blackListEmail": "No email"}}
    name = await export(admin, time_format="%m/%d/%Y %H:%M:%S", **layout)
    assert name is not None
    lines = (tmp_path / name).read_text().splitlines()
    assert lines == ["ID,No email,blackListEmailLastModified", "a,1,11/24/2026 09:10:11"]
    campaign.configure({"opt_outs_without_time": ["blackListEmail"]})
    name = await export(admin, name="x.csv", **layout)
    assert (tmp_path / "x.csv").read_text().splitlines() == ["ID,No email", "a,1"]


async def test_changed_profiles_only_and_no_file_on_a_quiet_day(
    admin: httpx.AsyncClient, http: httpx.AsyncClient, clock: Clock, tmp_path: Path
) -> None:
    await http.post(EXT, json={"externalId": "a"})
    clock.now += 1
    await http.post(EXT, json={"externalId": "b"})
    assert await export(admin, only_changed=True) is not None
    first = await export(admin, only_changed=True, name="border.csv")
    assert first is not None
    assert [line.split(",")[0] for line in (tmp_path / first).read_text().splitlines()] == ["externalId", "b"], (
        "a record on the border appears twice"
    )
    clock.now += 3600
    assert await export(admin, only_changed=True) is not None, "the border record again"
    clock.now += 3600
    assert await export(admin, only_changed=True) is None
    assert await export(admin, only_changed=True, keep_empty=True, name="empty.csv") == "empty.csv"
