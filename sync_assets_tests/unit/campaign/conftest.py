"""Campaign in a sandbox that the tests of a file share, as it was before each of them."""

from collections.abc import AsyncIterator, Iterator

import pytest

from sync_assets.campaign.client import CampaignClient
from sync_assets_tests.conftest import SandboxFactory
from sync_assets_tests.support.pushing import campaign_client
from sync_assets_tests.support.sandbox_process import Admin, SandboxProcess


@pytest.fixture(scope="module")
def campaign(sandbox_factory: SandboxFactory) -> SandboxProcess:
    return sandbox_factory(contacts=0)


@pytest.fixture
def admin(campaign: SandboxProcess) -> Iterator[Admin]:
    before = campaign.admin.settings("campaign")
    campaign.admin.clear_journal()
    yield campaign.admin
    campaign.admin.clear_faults()
    campaign.admin.settings("campaign", **before)


@pytest.fixture
async def client(campaign: SandboxProcess, admin: Admin) -> AsyncIterator[CampaignClient]:
    async with campaign_client(campaign.env) as opened:
        yield opened
