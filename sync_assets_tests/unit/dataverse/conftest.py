"""Dynamics 365 in a sandbox that the tests of a file share, with the settings that it had before each of them."""

from collections.abc import AsyncIterator, Iterator

import pytest

from sync_assets.dataverse.client import DataverseClient
from sync_assets.runtime.context import Runtime
from sync_assets.runtime.ledger_access import RunOptions
from sync_assets_tests.conftest import SandboxFactory
from sync_assets_tests.support.sandbox_process import SandboxProcess


@pytest.fixture(scope="module")
def process(request: pytest.FixtureRequest, sandbox_factory: SandboxFactory) -> SandboxProcess:
    """With so many CONTACTS as the file says."""
    return sandbox_factory(contacts=request.module.CONTACTS)


@pytest.fixture
def shared(process: SandboxProcess) -> Iterator[SandboxProcess]:
    before = process.admin.settings("d365")
    yield process
    process.admin.clear_faults()
    process.admin.settings("d365", **before)


@pytest.fixture
async def client(shared: SandboxProcess) -> AsyncIterator[DataverseClient]:
    async with Runtime(shared.env, use=RunOptions(any_ledger=True)).d365() as opened:
        yield opened
