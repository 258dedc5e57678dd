"""`dialect: v8`: the emulator answers as Campaign v8 (docs/dev/references/campaign.md 13)."""

from typing import Any

import httpx
import pytest

from sync_assets.sandbox.campaign import Campaign
from sync_assets.sandbox.campaign.settings import DIALECTS, BadSettings

EXT = "/profileAndServicesExt"
OPTIONAL = {"links": {"cusOrder": {"cusContactLink": {"cardinality": "zero_or_one"}}}}


@pytest.fixture
async def http(http: httpx.AsyncClient, campaign: Campaign) -> httpx.AsyncClient:
    """In dialect v8, with a profile `k`."""
    campaign.configure({"dialect": "v8", **OPTIONAL})
    assert (await http.post(f"{EXT}/profile", json={"externalId": "k", "location": {"city": "Paris"}})).is_success
    return http


def test_a_dialect_sets_its_switches_and_a_further_setting_overrides_one(campaign: Campaign) -> None:
    def switches() -> dict[str, Any]:
        return {name: getattr(campaign.settings, name) for name in DIALECTS["v8"]}

    standard = switches()
    campaign.configure({"dialect": "v8", "calls_per_second": 3, "line_count": 7})
    assert switches() == DIALECTS["v8"] | {"calls_per_second": 3}
    campaign.configure({"empty_patch_204": False})
    assert campaign.settings.dialect == "v8", "another setting leaves the dialect as it is"
    campaign.configure({"dialect": "standard"})
    assert (switches(), campaign.settings.line_count) == (standard, 7)
    with pytest.raises(BadSettings, match="dialect"):
        campaign.configure({"dialect": "v9"})


@pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE"])
async def test_an_invalid_pkey_in_a_url_is_not_found(http: httpx.AsyncClient, method: str) -> None:
    answer = await http.request(method, f"{EXT}/profile/@jksad", json={} if method == "PATCH" else None)
    assert (answer.status_code, answer.text.splitlines()) == (
        404,
        ["Unable to decrypt PKey. (PKey=@jksad)", f"Unsupported endpoint. (endpoint=rest{EXT}/profile/@jksad)"],
    )


async def test_an_invalid_pkey_of_a_link_is_not_found(http: httpx.AsyncClient) -> None:
    answer = await http.post(f"{EXT}/cusOrder", json={"cusOrderId": "o", "cusContactLink": {"PKey": "@jksad"}})
    assert (answer.status_code, answer.text) == (404, "Unable to decrypt PKey. (PKey=@jksad)")
