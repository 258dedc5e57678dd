"""The least HTTP/1.1 that a benchmark server needs, on uvloop: requests are found by their length and nothing else.

A server runs in a process of its own, says `{"port": N}` on standard output once it listens, and stops when its
standard input ends, so that it never outlives whoever started it.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from typing import cast

import uvloop

_LENGTH = b"content-length:"


def answer(status: str, body: bytes, more: str = "") -> bytes:
    """A complete answer; `more`: further header lines, each with its line end."""
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
    """Listens on a free port of the loopback until standard input ends."""

    async def run() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(connection, "127.0.0.1", 0, backlog=1024)
        print(json.dumps({"port": server.sockets[0].getsockname()[1]}), flush=True)
        await loop.run_in_executor(None, sys.stdin.read)
        server.close()

    uvloop.run(run())
