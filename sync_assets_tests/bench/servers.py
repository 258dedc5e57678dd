"""The benchmark's servers as processes: started, asked, stopped with whoever uses them."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sync_assets_tests.bench.measure import ROOT


@contextmanager
def _server(module: str, *arguments: str) -> Iterator[str]:
    """Starts it; yields its base URL."""
    command = [sys.executable, "-m", f"sync_assets_tests.bench.{module}", *arguments]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin
    assert process.stdout
    try:
        yield f"http://127.0.0.1:{json.loads(process.stdout.readline())['port']}"
    finally:
        process.stdin.close()
        process.stdout.close()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@dataclass(frozen=True)
class FeedServer:
    base: str

    def url(self, rows: int) -> str:
        """The organisation whose table has so many rows."""
        return f"{self.base}/{rows}"

    def change(self, rows: int) -> None:
        """Changes each hundredth page of that table."""
        urllib.request.urlopen(urllib.request.Request(f"{self.url(rows)}/change", method="POST")).close()


@dataclass(frozen=True)
class PushServer:
    base: str

    def url(self, milliseconds: int) -> str:
        """The Campaign that answers after so many milliseconds."""
        return f"{self.base}/{milliseconds}"

    def counts(self) -> dict[str, Any]:
        """What arrived since `forget`: post, patch, get, absent, twice, duplicates, keyless, other, keys."""
        with urllib.request.urlopen(f"{self.base}/counts") as said:
            return json.load(said)

    def forget(self) -> None:
        urllib.request.urlopen(urllib.request.Request(f"{self.base}/counts", method="DELETE")).close()


@contextmanager
def feed_server(page_rows: int = 5000, *, gzip: bool = False, labels: bool = False) -> Iterator[FeedServer]:
    switches = [name for name, on in (("--gzip", gzip), ("--labels", labels)) if on]
    with _server("feed_server", "--page-rows", str(page_rows), *switches) as base:
        yield FeedServer(base)


@contextmanager
def push_server() -> Iterator[PushServer]:
    with _server("push_server") as base:
        yield PushServer(base)
