"""The set-up of a table, checked in both systems at once: a refusal of one must not be blamed on the other."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from sync_assets.checks.preflight import readiness
from sync_assets_tests.support.program import CONTACT, Program


@pytest.fixture
def slow_dynamics(program: Program) -> Iterator[Program]:
    """Dynamics 365 answers the first questions about the table later than Campaign refuses."""
    program.sandbox.admin.fault("d365", "slow", path="EntityDefinitions", delay_ms=1_000, times=2)
    yield program
    program.sandbox.admin.clear_faults()


def test_the_log_does_not_blame_dynamics_365_for_a_resource_that_campaign_lacks(
    slow_dynamics: Program, caplog: pytest.LogCaptureFixture
) -> None:
    slow_dynamics.table = CONTACT | {"resource": "cusNothing"}
    with caplog.at_level(logging.DEBUG, logger="sync_assets"):
        found = readiness(runtime := slow_dynamics.runtime(), runtime.config.tables[0])
    runtime.close()
    assert [(one.side, one.passed) for one in found][:2] == [("d365", True), ("campaign", False)]
    assert [record.getMessage() for record in caplog.records if "Dynamics 365" in str(record.__dict__)] == []
