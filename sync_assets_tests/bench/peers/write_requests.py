"""Peer, writing: `requests`, one record after the other, or in threads that each keep a connection.

`python -m sync_assets_tests.bench.peers.write_requests URL BODIES SECONDS THREADS`: posts lines of the file BODIES for
so many seconds, or until there are no more.
"""

import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import requests

from sync_assets_tests.bench.columns import TOKEN
from sync_assets_tests.bench.meter import Meter


def main(url: str, bodies: str, seconds: str, threads: str) -> None:
    records = iter(Path(bodies).read_bytes().splitlines())
    address = f"{url}/campaign/profileAndServicesExt/profile"
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {TOKEN}"}
    taking, done = threading.Lock(), 0

    def work() -> int:
        sent = 0
        with requests.Session() as session:
            while time.monotonic() < until:
                with taking:
                    body = next(records, None)
                if body is None:
                    break
                result = session.post(address, data=body, headers=headers, timeout=60)
                result.raise_for_status()
                assert result.json()["PKey"]
                sent += 1
        return sent

    with Meter() as meter:
        until = time.monotonic() + float(seconds)
        with ThreadPoolExecutor(int(threads)) as pool:
            done = sum(each.result() for each in [pool.submit(work) for _ in range(int(threads))])
        meter.done(done)


if __name__ == "__main__":
    main(*sys.argv[1:])
