"""How many PATCHes a second the sandbox alone takes from a bare client.

`python -m sync_assets_tests.bench.sandbox_limit SECONDS ID ...`, in the sandbox's environment: aiohttp updates the
profiles of these ids, one connection for each. Near that rate of changes the sandbox is the limit, not the program.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from itertools import count

import aiohttp

from sync_assets.performance import new_event_loop
from sync_assets_tests.bench.measure import Run, Started, module, started
from sync_assets_tests.bench.meter import Meter
from sync_assets_tests.bench.traffic import TABLES, Traffic
from sync_assets_tests.support.sandbox_process import SandboxProcess
from sync_assets_tests.support.signed_in import campaign, tls

IN_FLIGHT = 64


def sandbox_limit(rate: float, seconds: float) -> Run:
    """PATCHes while `rate` changes a second are made in the same sandbox, without any program of ours."""
    with SandboxProcess(200) as sandbox:
        records = {table: [row[f"{table}id"] for row in sandbox.admin.dump_d365(table)] for table in TABLES}
        keys = records["contact"][:IN_FLIGHT]
        sandbox.admin.add_profiles(*({"externalId": key} for key in keys))
        client: Started = started(module("sandbox_limit", seconds, *keys), env=sandbox.env)
        Traffic(sandbox.admin, records).at_rate(rate, seconds)
        return client.result(seconds + 60)


async def _write(seconds: float, keys: list[str]) -> None:
    with campaign(os.environ) as client:
        headers, base = dict(client.headers), str(client.base_url)
    wanted = {name: headers[name] for name in ("authorization", "x-api-key")}
    numbers, until = count(), time.monotonic() + seconds
    async with aiohttp.ClientSession(headers=wanted, connector=aiohttp.TCPConnector(ssl=tls(os.environ))) as session:

        async def update(key: str) -> int:
            done = 0
            while time.monotonic() < until:
                url, body = f"{base}profileAndServicesExt/profile/{key}", {"cusJobTitle": f"Limit {next(numbers)}"}
                async with session.patch(url, json=body) as answer:
                    answer.raise_for_status()
                    await answer.read()
                done += 1
            return done

        with Meter() as meter:
            meter.done(sum(await asyncio.gather(*map(update, keys))))


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(_write(float(sys.argv[1]), sys.argv[2:]))
