"""Whatever breaks, both sides agree afterwards, nothing is doubled and nothing is lost."""

from __future__ import annotations

import json
import random
import time
from datetime import datetime
from pathlib import Path

import pytest

from sync_assets.runtime.workers import worker_id
from sync_assets_tests.conftest import SandboxFactory
from sync_assets_tests.support.ledgers import session_of
from sync_assets_tests.support.program import Program, calls, capture
from sync_assets_tests.support.sandbox_process import SandboxProcess
from sync_assets_tests.support.waiting import until

N = 50


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
    # The list is read once; each sync that sent inserts has read its first record back.
    reads = 1 + sum(number > 0 for number in inserted)
    assert program.sandbox.admin.engine_calls() == calls(insert=400, read=reads), inserted
    sent = [entry["key"] for entry in program.sandbox.admin.journal("campaign") if entry["engine"] == "insert"]
    assert len(sent) == len(set(sent)) == 400


def test_a_connection_cut_after_the_insert_makes_no_duplicate(program: Program) -> None:
    admin = program.sandbox.admin
    admin.fault("campaign", "cut_after", method="POST", every=5, times=6)
    assert program.sync().status == 0
    program.assert_in_step()
    assert admin.engine_calls()["insert"] == N  # each cut one was settled by its key
    assert admin.engine_calls()["update"] == 6


def test_throttled_stopped_and_confused_and_still_complete(program: Program) -> None:
    admin = program.sandbox.admin
    admin.fault("campaign", "throttle", method="POST", skip=5, times=1, retry_after=2)
    admin.fault("campaign", "unavailable", method="POST", skip=10, times=2)
    admin.fault("campaign", "rst", method="POST", skip=20, times=3)
    admin.fault("campaign", "unauthorized", method="POST", skip=30, times=1)
    admin.fault("d365", "throttle", times=1, skip=2, retry_after=1)
    done = program.sync()
    assert (done.status, done.problems, done.stopped) == (0, [], [])
    program.assert_in_step()
    fired = {rule["kind"]: rule["fired"] for rule in admin.fault_rules()}
    assert fired["throttle"] == fired["unauthorized"] == 1

    journal = [entry for entry in admin.journal("campaign") if entry["method"] == "POST"]
    refused = next(n for n, entry in enumerate(journal) if entry["status"] == 429)
    told_to_wait = datetime.fromisoformat(journal[refused]["at"])
    # Those that were in flight may still be answered; whoever asked afterwards had waited the two seconds.
    later = [datetime.fromisoformat(entry["at"]) for entry in journal[refused + 1 :]]
    gaps = [(at - told_to_wait).total_seconds() for at in later]
    assert all(gap < 0.5 or gap >= 2.0 for gap in gaps)
    assert any(gap >= 2.0 for gap in gaps)


BEFORE_ROWS = 6
"""Requests of a first load of 50 rows in pages of ten: a page that shows that it is not the only one, five of ids."""


def test_a_first_load_that_was_interrupted_while_it_read_the_ids_goes_on_with_them(program: Program) -> None:
    admin = program.sandbox.admin
    runtime = program.runtime()
    admin.fault("d365", "forbidden", path="/contacts", skip=4, times=1)
    with pytest.raises(Exception, match=r"refuses|privilege"):
        capture(runtime, page_size=10)
    since = admin.last()
    assert capture(runtime, page_size=10).new == N
    reads = [entry["path"] for entry in admin.journal("d365", since) if "/contacts" in entry["path"]]
    assert ["skiptoken" in path for path in reads[:3]] == [
        False,
        True,
        True,
    ]  # again several pages; the last two of ids
    assert all("lastname" not in path for path in reads[1:3])
    assert len(reads) == 3 + 5 + 2
    runtime.close()


def test_a_first_read_that_was_interrupted_at_page_3_goes_on_at_page_3(program: Program) -> None:
    admin = program.sandbox.admin
    runtime = program.runtime()
    admin.fault("d365", "forbidden", path="/contacts", skip=BEFORE_ROWS + 2, times=1)
    with pytest.raises(Exception, match=r"refuses|privilege"):
        capture(runtime, page_size=10)
    assert runtime.ledger.reports.counts()["contact"].pending == 20
    since = admin.last()
    result = capture(runtime, page_size=10)
    assert (result.rows, result.new) == (30, 30)
    reads = [entry for entry in admin.journal("d365", since) if "/contacts" in entry["path"]]
    assert ["skiptoken" in read["path"] for read in reads] == [True, True, True, False, False]
    assert "deltatoken" in reads[-1]["path"]
    assert runtime.ledger.reports.counts()["contact"].pending == N


def test_rows_changed_while_the_first_read_is_paged_are_not_missed(program: Program) -> None:
    admin = program.sandbox.admin
    runtime = program.runtime()
    admin.fault("d365", "forbidden", path="/contacts", skip=BEFORE_ROWS + 2, times=1)
    with pytest.raises(Exception, match=r"refuses|privilege"):
        capture(runtime, page_size=10)
    admin.change("contact", 15, jobtitle="While paging")
    runtime.ledger.close()
    assert program.sync().status == 0
    program.assert_in_step()


def test_a_link_to_another_host_is_not_followed(program: Program) -> None:
    program.sandbox.admin.fault("d365", "wrong_host_link")
    done = program.sync()
    assert done.status == 1
    assert "not followed" in str(done.problems[0])


def test_a_last_page_without_a_delta_link_is_an_error_and_not_the_end(program: Program) -> None:
    program.sandbox.admin.fault("d365", "missing_delta_link", times=1)
    done = program.sync()
    assert done.status == 1
    assert "without a delta link" in str(done.problems[0])
    assert program.sync().status == 0
    program.assert_in_step()


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
