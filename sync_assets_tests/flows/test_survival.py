"""Whatever breaks, both sides agree afterwards, nothing is doubled and nothing is lost."""

import random
from pathlib import Path

import pytest

from sync_assets_tests.conftest import SandboxFactory
from sync_assets_tests.support.program import Program, calls
from sync_assets_tests.support.sandbox_process import SandboxProcess
from sync_assets_tests.support.waiting import until


@pytest.fixture
def slow_program(tmp_path: Path, sandbox_factory: SandboxFactory) -> Program:
    """400 contacts and a Campaign that takes 40 ms for each: a sync is long enough to be killed in the middle."""
    sandbox: SandboxProcess = sandbox_factory(contacts=400)
    sandbox.admin.latency("campaign", 40)
    return Program(sandbox, tmp_path, guardrails={"concurrency": 8})


def test_killed_again_and_again_and_then_run_once_more(slow_program: Program) -> None:
    program, admin = slow_program, slow_program.sandbox.admin
    chance = random.Random(7)
    for requests in (0, 5, 40, 60, 90):  # from before the first request to well into the sending
        since = admin.last()
        process = program.start("sync")
        until(lambda least=since + requests: admin.last() >= least, 60)
        assert process.poll() is None, "the sync was too fast to be killed"
        process.kill()
        process.communicate()
        admin.change("contact", 20, jobtitle=f"Title {chance.random()}")
    admin.latency("campaign", 0)
    status, _, errors = program.run("sync")
    assert status == 0, errors
    program.assert_in_step()
    status, document = program.json("sync")
    assert (status, document["engine_calls"]) == (0, calls())
