"""Sign-in at Entra ID, asked as the program asks it; what is refused is shown in flows/test_trouble.py."""

from __future__ import annotations

from pathlib import Path

from sync_assets.dataverse.sign_in import entra_tokens
from sync_assets.http.client import ssl_context
from sync_assets_tests.conftest import SandboxFactory


async def test_a_token_is_fetched_and_no_authority_is_trusted_for_it_that_was_not_before(
    sandbox_factory: SandboxFactory,
) -> None:
    env = sandbox_factory(contacts=0).env
    context = ssl_context(Path(env["SYNC_ASSETS_CA_BUNDLE"]))
    before = context.cert_store_stats()
    tokens = entra_tokens(
        authority=env["D365_AUTHORITY"],
        tenant=env["D365_TENANT_ID"],
        client_id=env["D365_CLIENT_ID"],
        client_secret=env["D365_CLIENT_SECRET"],
        resource=env["D365_URL"],
        context=context,
    )
    assert await tokens.token()
    assert context.cert_store_stats() == before
