"""An organization of Dataverse without a server, and an empty one for each test."""

import pytest

from sync_assets_tests.unit.sandbox.dataverse.web_api import WebApi


@pytest.fixture
def api() -> WebApi:
    """An organization without contacts."""
    return WebApi()
