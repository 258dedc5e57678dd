"""Campaign's limits hold for all processes of a ledger together."""

import asyncio
import time
from pathlib import Path

import pytest

from sync_assets.config.models import Guardrails
from sync_assets_tests.support.forked_commands import Module
from sync_assets_tests.support.ledgers import session_of
from sync_assets_tests.support.program import Program
from sync_assets_tests.support.pushing import Bench, campaign_client, on_both_databases, people, start_pushers, within
from sync_assets_tests.support.sandbox_process import Admin, SandboxProcess
from sync_assets_tests.support.waiting import until
from sync_assets_tests.unit.runtime.test_call_limits import sent


def most_in_flight(admin: Admin) -> int:
    """The most requests at one moment, as the server saw them."""
    calls = admin.journal("campaign")
    moments = [(entry["began"], 1) for entry in calls] + [(entry["answered"], -1) for entry in calls]
    most = now = 0
    for _, step in sorted(moments):
        now += step
        most = max(most, now)
    return most


def ended(*processes: Module) -> list[str]:
    return [process.communicate(timeout=120)[0].decode().strip() for process in processes]


@on_both_databases
async def test_two_processes_together_keep_to_the_requests_in_flight(bench: Bench) -> None:
    bench.capture(people(600))
    bench.admin.latency("campaign", 50)
    both = start_pushers(bench, ("one", "two"), concurrency=12)
    result = ended(*both)
    assert bench.counts().synced == 600, result
    assert all(int(line.split()[0]) > 50 for line in result), result
    assert 10 <= most_in_flight(bench.admin) <= 12
    assert bench.ledger.limits.workers() == []


async def test_metadata_is_in_flight_like_any_other_request(bench: Bench) -> None:
    bench.admin.latency("campaign", 50)
    limits = within(bench.ledger, Guardrails(concurrency=2))
    async with limits as options, campaign_client(bench.sandbox.env, **options) as client:
        asked = [client.resource("profileAndServicesExt", "profile") for _ in range(4)]
        read = [client.call("read", "profileAndServicesExt/profile") for _ in range(4)]
        await asyncio.gather(*asked, *read)
    assert most_in_flight(bench.admin) == 2


def test_two_syncs_look_at_the_set_up_within_the_requests_in_flight(sandbox: SandboxProcess, tmp_path: Path) -> None:
    program = Program(sandbox, tmp_path, guardrails={"concurrency": 1})
    program.make_ledger()
    sandbox.admin.latency("campaign", 50)
    both = [program.start("sync"), program.start("sync")]
    for process in both:
        process.communicate(timeout=120)
    assert most_in_flight(sandbox.admin) == 1


async def test_a_killed_process_leaves_its_part_to_the_others_at_once(bench: Bench) -> None:
    bench.capture(people(400))
    bench.admin.latency("campaign", 100)
    [killed] = start_pushers(bench, ["killed"], concurrency=8)
    until(lambda: sent(bench) > 20)
    killed.kill()
    killed.communicate()
    bench.ledger.sessions.end(session_of(bench.ledger, "killed"))
    started = time.monotonic()
    result = await bench.push(guardrails={"concurrency": 8}, concurrency=8)
    assert result.peak == 8
    assert bench.counts().synced == 400
    assert time.monotonic() - started < 60


@pytest.mark.parametrize("ledger_url", ["postgresql"], indirect=True)
async def test_two_processes_together_never_exceed_the_days_budget(bench: Bench) -> None:
    bench.capture(people(600))
    result = ended(*start_pushers(bench, ("one", "two"), engine_calls_per_day=250))
    # A process that starts late may find every record claimed by the other one, and end without a reason.
    assert any("engine_calls_per_day" in line for line in result), result
    assert sent(bench) == 250
    assert bench.counts().synced == 250
    assert bench.ledger.limits.calls_taken()[0] == 250


async def test_two_processes_together_keep_to_the_calls_a_second(bench: Bench) -> None:
    bench.capture(people(120))
    ended(*start_pushers(bench, ("one", "two"), calls_per_second=40))
    began = sorted(entry["began"] / 1e9 for entry in bench.admin.journal("campaign") if entry["engine"])
    assert len(began) == 120
    assert began[-1] - began[0] > 2.9
    windows = [sum(start <= other < start + 1 for other in began) for start in began]
    assert max(windows) <= 50  # on their way calls may come closer together; without sharing it would be 80
