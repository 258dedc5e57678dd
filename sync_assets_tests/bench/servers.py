"""The benchmark's servers: the least HTTP/1.1 that they need, on uvloop, and the processes in which they run.

A server says `{"port": N}` on standard output once it listens, and stops when its standard input ends, so that it never
outlives the process that started it.
"""

import asyncio
import json
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import uvloop

from sync_assets_tests.bench.measure import ROOT, module

_LENGTH = b"content-length:"


def answer(status: str, body: bytes, more: str = "") -> bytes:
    """Return a complete answer; `more`: further header lines, each with its line end."""
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json;charset=utf-8\r\n{more}"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


class Connection(asyncio.Protocol):
    """One connection. `answered` gets method, target, head (with the request line) and body of each request."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self._rest = b""

    def answered(self, method: bytes, target: bytes, head: bytes, body: bytes) -> None:
        raise NotImplementedError

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        data = self._rest + data if self._rest else data
        while data:
            end = data.find(b"\r\n\r\n")
            if end < 0:
                break
            head = data[:end]
            at = head.lower().find(_LENGTH)
            length = 0
            if at >= 0:
                line_end = head.find(b"\r\n", at)
                length = int(head[at + len(_LENGTH) : line_end if line_end >= 0 else end])
            whole = end + 4 + length
            if len(data) < whole:
                break
            method, target, _ = head[: head.find(b"\r\n")].split(b" ", 2)
            self.answered(method, target, head, data[end + 4 : whole])
            data = data[whole:]
        self._rest = data


def serve(connection: Callable[[], Connection]) -> None:
    """Listen on a free port of the loopback until standard input ends."""

    async def run() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(connection, "127.0.0.1", 0, backlog=1024)
        print(json.dumps({"port": server.sockets[0].getsockname()[1]}), flush=True)
        await loop.run_in_executor(None, sys.stdin.read)
        server.close()

    uvloop.run(run())


@contextmanager
def _server(name: str, *arguments: str) -> Iterator[str]:
    """Start a server; yield its base URL."""
    process = subprocess.Popen(module(name, *arguments), cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin
    assert process.stdout
    with process:
        try:
            yield f"http://127.0.0.1:{json.loads(process.stdout.readline())['port']}"
        finally:
            process.stdin.close()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


def _ask(url: str, method: str) -> bytes:
    with urllib.request.urlopen(urllib.request.Request(url, method=method)) as answered:
        return answered.read()


@dataclass(frozen=True)
class FeedServer:
    base: str

    def url(self, rows: int) -> str:
        """Return the organisation whose table has so many rows."""
        return f"{self.base}/{rows}"


@dataclass(frozen=True)
class PushServer:
    base: str

    def url(self, milliseconds: int) -> str:
        """Return the Campaign that answers after so many milliseconds."""
        return f"{self.base}/{milliseconds}"

    def counts(self) -> dict[str, Any]:
        """Return what arrived since `forget`: post, patch, get, absent, twice, other, keys."""
        return json.loads(_ask(f"{self.base}/counts", "GET"))

    def forget(self) -> None:
        _ask(f"{self.base}/counts", "DELETE")


@contextmanager
def feed_server(page_rows: int = 5000, *, labels: bool = False) -> Iterator[FeedServer]:
    with _server("feed_server", "--page-rows", str(page_rows), *(["--labels"] if labels else [])) as base:
        yield FeedServer(base)


@contextmanager
def push_server() -> Iterator[PushServer]:
    with _server("push_server") as base:
        yield PushServer(base)
