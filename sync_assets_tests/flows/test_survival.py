"""Whatever breaks, both sides agree afterwards, nothing is doubled and nothing is lost."""

import json
import random
import time
from pathlib import Path

import pytest

from sync_assets.runtime.workers import worker_id
from sync_assets_tests.conftest import SandboxFactory
from sync_assets_tests.support.ledgers import session_of
from sync_assets_tests.support.program import Program, calls, capture
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


def test_two_syncs_at_once_do_the_work_once(slow_program: Program) -> None:
    program = slow_program
    program.on_disk = True
    both = [program.start("sync", "--json") for _ in range(2)]
    inserted: list[int] = []
    for process in both:
        output, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
        inserted.append(json.loads(output)["engine_calls"]["insert"])
    program.assert_in_step()
    assert sum(inserted) == 400
    # The list is read once; a sync that sent inserts has read its first record back, unless the other had.
    reads = 1 + sum(number > 0 for number in inserted)
    made = program.sandbox.admin.engine_calls()
    assert made | {"read": 0} == calls(insert=400), inserted
    assert 2 <= made["read"] <= reads, inserted
    sent = [entry["key"] for entry in program.sandbox.admin.journal("campaign") if entry["engine"] == "insert"]
    assert len(sent) == len(set(sent)) == 400


def test_leases_of_a_killed_worker_are_taken_over_at_once(program: Program) -> None:
    runtime = program.runtime()
    capture(runtime)
    dead = "|".join([*worker_id().split("|")[:2], "999999", "1", "deadbeef"])
    assert len(runtime.ledger.claims.claim("contact", session_of(runtime.ledger, dead), limit=10)) == 10
    assert runtime.ledger.feeds.lease_feed("contact", session_of(runtime.ledger, dead))
    started = time.monotonic()
    assert program.sync().status == 0
    assert time.monotonic() - started < 60
    program.assert_in_step()
