"""The same flows with the ledger in PostgreSQL."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from sync_assets_tests.postgres import PostgresServer
from sync_assets_tests.program import Program, calls


@pytest.fixture
def on_postgres(program: Program, postgres: PostgresServer) -> Iterator[Program]:
    with postgres.database() as url:
        program.more["SYNC_ASSETS_LEDGER_URL"] = url
        yield program


def test_a_first_load_and_a_change(on_postgres: Program) -> None:
    assert on_postgres.sync().document["engine_calls"] == calls(insert=50)
    on_postgres.sandbox.admin.change("contact", 3, jobtitle="Mapped")
    assert on_postgres.sync().document["engine_calls"] == calls(update=3)
    on_postgres.assert_in_step()


def test_two_at_once_one_of_them_killed(on_postgres: Program) -> None:
    admin = on_postgres.sandbox.admin
    admin.load(250)
    admin.latency("campaign", 40)
    on_postgres.guardrails = {"concurrency": 4}
    first, second = on_postgres.start("sync"), on_postgres.start("sync")
    while admin.engine_calls()["insert"] < 50:
        time.sleep(0.05)
        assert first.poll() is None
    first.kill()
    first.communicate()
    admin.latency("campaign", 0)
    _, errors = second.communicate(timeout=120)
    assert second.returncode == 0, errors
    status, _, errors = on_postgres.run("sync")
    assert status == 0, errors
    on_postgres.assert_in_step()
