"""What kills of a push's process do to it: nothing is lost or doubled."""

import asyncio
import random

import pytest

from sync_assets_tests.support.pushing import Bench, people, start_pushers


@pytest.mark.parametrize("ledger_url", ["postgresql"], indirect=True)  # SQLite: flows/test_rebuild.py
async def test_kill_9_at_any_moment_loses_nothing_and_doubles_nothing(bench: Bench):
    payloads = people(3000)
    bench.capture(payloads)
    bench.admin.latency("campaign", 100)
    for after in (0.15, 0.9):
        [process] = start_pushers(bench, [f"killed after {after}"])
        before = len(bench.engine())
        while process.poll() is None and len(bench.engine()) == before:
            await asyncio.sleep(0.02)
        await asyncio.sleep(after + random.uniform(0, 0.1))
        process.kill()
        process.communicate()
        bench.ledger.sessions.expire(lambda worker: True)
    killed_with = bench.counts()
    assert 0 < killed_with.synced < 3000
    bench.admin.latency("campaign", 0)
    for _ in range(20):  # a killed push may have put off a record, to look for it once more
        assert (await bench.push()).stopped is None
        if not bench.counts().pending:
            break
        await asyncio.sleep(1)
    assert bench.counts().synced == 3000
    assert all(len(records) == 1 for records in bench.profiles(payloads).values())
