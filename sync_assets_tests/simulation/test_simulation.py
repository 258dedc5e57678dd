"""Simulated runs in the suite: the seeds of the PAST latest failures, and SEEDS others; all past ones with `--fresh`.

The others are the same in each run and on each machine, as the examples of property tests are: a change is not refused
for a failure that was there before it. With `--fresh`, as in the nightly workflow, they are fresh, for five minutes.
"""

import asyncio
import subprocess
import sys
from datetime import timedelta
from random import Random

import pytest

from sync_assets_tests.simulation.checker import check
from sync_assets_tests.simulation.clock import PROCESS, Clock, Crashed, NothingToRun, Process, SimulatedLoop
from sync_assets_tests.simulation.ledgers import sqlite_ledgers
from sync_assets_tests.simulation.run import play
from sync_assets_tests.simulation.scenario import Scenario, scenario
from sync_assets_tests.simulation.shorten import shortened
from sync_assets_tests.simulation.timeline import TABLES, Move
from sync_assets_tests.support.chain_configuration import TableRules
from sync_assets_tests.support.nightly import by_default

SEEDS, PAST = 4, 4
"""Each takes more than a second of processor time."""


@pytest.mark.timeout(900)
def test_past_and_other_seeds_keep_the_contract(request: pytest.FixtureRequest) -> None:
    """A failure prints its seed, with which the command replays it."""
    command, fresh = [sys.executable, "-m", "sync_assets_tests.simulate", "--past"], request.config.getoption("fresh")
    command += ["--seconds", "300"] if fresh else [str(PAST), "--start", "42", "--seeds", str(SEEDS)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_seed_gives_the_same_run_after_any_other() -> None:
    """Seed 2 ends with crashed processes, whose clean-up must not reach into the next run."""
    with sqlite_ledgers() as ledgers:
        one, _, other = play(scenario(70), ledgers), play(scenario(2), ledgers), play(scenario(70), ledgers)
    assert one.observed.calls
    assert one.observed.crashes
    assert one.journal == other.journal
    assert one.observed == other.observed


def test_a_run_replays_without_some_of_its_moves() -> None:
    whole = scenario(4)
    with sqlite_ledgers() as ledgers:
        run = play(whole.only(whole.moves[::2]), ledgers)
    assert run.observed.idle


@by_default("seed", [5, 22], 5)
def test_a_rebuild_waits_for_an_update_that_the_ledger_lost(seed: int) -> None:
    """Else the update takes effect after the newer one that followed the rebuild."""
    contact = {"table": "contact", "row": 0}
    sync = {"tables": TABLES, "together": False, "machine": "here", "crash": None}
    late = {"begin": 2710, "end": 2719, "systems": ("campaign",), "kinds": ("late",), "share": 0.7, "seed": seed}
    moves = (
        Move(10, "put_row", {**contact, "set": {"firstname": "Ada", "department": "in"}}),
        Move(700, "sync", sync),
        Move(1400, "sync", sync),
        Move(2000, "back_up", {}),
        Move(2001, "put_row", {**contact, "set": {"firstname": "bob"}}),
        Move(2710, "network_faults", late),
        Move(2711, "sync", sync),
        Move(2722, "put_row", {**contact, "set": {"firstname": "eVE"}}),
        Move(2730, "set_back", {}),
        Move(2900, "sync", sync),
    )
    rules = {table: TableRules() for table in TABLES}
    with sqlite_ledgers() as ledgers:
        run = play(Scenario(seed, ("as documented",), rules, {}, moves, 1.0), ledgers)
    assert run.observed.restored
    until_the_next_sync = timedelta(seconds=2900 - 2711)
    assert any(call.handled.at - call.sent.at > until_the_next_sync for call in run.observed.calls)
    assert check(run.observed) == []


def test_a_history_is_shortened_to_the_moves_that_fail_together() -> None:
    assert shortened(range(40), lambda moves: {7, 31} <= set(moves), 10) == (7, 31)


def test_simulated_hours_go_by_at_once_and_in_order() -> None:
    loop, seen = SimulatedLoop(clock := Clock(), Random(1)), list[str]()

    async def sleeper(name: str, hours: float) -> None:
        await asyncio.sleep(hours * 3600)
        seen.append(name)

    async def both() -> None:
        await asyncio.gather(sleeper("late", 9), sleeper("early", 2))

    loop.run_until_complete(both())
    loop.close()
    assert seen == ["early", "late"]
    assert 32_400 <= clock.elapsed < 32_401


def test_an_exhausted_event_loop_is_reported() -> None:
    loop = SimulatedLoop(Clock(), Random(1))
    waiting = loop.create_future()
    with pytest.raises(NothingToRun):
        loop.run_until_complete(waiting)
    waiting.cancel()
    loop.close()


def test_a_crashed_process_does_nothing_more() -> None:
    loop, seen = SimulatedLoop(Clock(), Random(1)), list[int]()

    async def work(process: Process) -> None:
        PROCESS.set(process)
        try:
            for n in range(100):
                await asyncio.sleep(1)
                seen.append(n)
        finally:
            seen.append(-1)

    async def run() -> Process:
        process = Process(1, "here", crash_at=10)
        task = asyncio.create_task(work(process))
        setattr(task, "_log_destroy_pending", False)  # noqa: B010
        process.kept.append(task)
        await asyncio.sleep(1000)
        with pytest.raises(Crashed):
            process.point()
        assert not task.done()
        return process

    process = loop.run_until_complete(run())
    before = list(seen)
    loop.close()
    assert process.dead
    assert before == list(range(len(before)))
    assert 0 < len(before) < 20
