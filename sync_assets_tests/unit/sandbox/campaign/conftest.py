"""A Campaign instance in memory, and an HTTP client that has signed in to it."""

from collections.abc import AsyncIterator

import httpx
import msgspec
import pytest

from sync_assets.sandbox.campaign import Campaign, app
from sync_assets.sandbox.faults import Faults
from sync_assets.sandbox.ims import Ims

ORGANIZATION = "acme-mkt-stage"
BASE = f"https://localhost:4711/{ORGANIZATION}/campaign"


class Clock:
    """Seconds since 1970, moved by hand: 2026-11-24 09:10:11 UTC."""

    now = 1795511411.123

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def campaign(clock: Clock) -> Campaign:
    return Campaign(ORGANIZATION, Ims(clock=clock), faults=Faults(), clock=clock)


def sign_in(campaign: Campaign) -> str:
    ims = campaign.ims
    answer = ims.issue(
        {
            "grant_type": "client_credentials",
            "client_id": ims.client_id,
            "client_secret": ims.client_secret,
            "scope": "campaign_sdk",
        }
    )
    return msgspec.json.decode(answer.body)["access_token"]


@pytest.fixture
async def http(campaign: Campaign) -> AsyncIterator[httpx.AsyncClient]:
    """Paths are relative to /<organization>/campaign."""
    headers = {"Authorization": f"Bearer {sign_in(campaign)}", "X-Api-Key": campaign.ims.client_id}
    transport = httpx.ASGITransport(app(campaign))
    async with httpx.AsyncClient(transport=transport, base_url=BASE, headers=headers) as client:
        yield client
