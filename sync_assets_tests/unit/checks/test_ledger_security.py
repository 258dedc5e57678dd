"""`doctor` says whether the ledger's server is verified and its payloads are encrypted."""

from __future__ import annotations

from contextlib import closing

import pytest

from sync_assets.checks.installation import ledger_security
from sync_assets.runtime.context import Runtime

ELSEWHERE = "postgresql+psycopg://u:hunter2@ledger.acme.example/l"


@pytest.mark.parametrize(("url", "outcome"), [(ELSEWHERE, "ok"), (f"{ELSEWHERE}?sslmode=require", "warn")])
def test_a_ledger_whose_server_is_not_verified_is_a_warning_with_the_setting(url: str, outcome: str) -> None:
    with closing(Runtime({"SYNC_ASSETS_LEDGER_URL": url})) as runtime:
        payloads, connection = ledger_security(runtime)
    assert connection.outcome == outcome
    assert ("write sslmode=verify-full" in connection.message) == (outcome == "warn")
    assert payloads.outcome == "warn"
    assert "hunter2" not in f"{payloads} {connection}"
