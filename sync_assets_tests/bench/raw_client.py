"""The limits: what a client that does nothing but move bytes gets out of a server of the benchmark.

`python -m sync_assets_tests.bench.raw_client read URL` reads all pages one after the other over a bare socket;
`... write URL --in-flight N --seconds S` posts records over N connections on uvloop. Neither looks into an answer
further than it must to find its end and the next link.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import socket
import time
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

import uvloop

from sync_assets_tests.bench.columns import SET_NAME
from sync_assets_tests.bench.meter import Meter

_NEXT = re.compile(rb'"@odata\.nextLink":"([^"]+)"')
_LENGTH = re.compile(rb"[Cc]ontent-[Ll]ength: *(\d+)")
TOKEN = "x" * 1100
"""As long as the tokens of both systems."""


def read(url: str) -> None:
    """All pages of a feed; rows are counted by the server's word, the path of the URL."""
    parts = urlsplit(url)
    buffer = memoryview(bytearray(32 * 1024 * 1024))
    with socket.create_connection((parts.hostname, parts.port)) as connection, Meter() as meter:
        target = f"{parts.path}/api/data/v9.2/{SET_NAME}"
        while target:
            head = f"GET {target} HTTP/1.1\r\nHost: {parts.netloc}\r\nPrefer: odata.track-changes\r\n\r\n"
            connection.sendall(head.encode())
            at, whole = 0, 1
            while at < whole:
                came = connection.recv_into(buffer[at:])
                if not came:
                    raise ConnectionError("the server ended the connection")
                at += came
                if whole == 1 and (end := bytes(buffer[:2000]).find(b"\r\n\r\n")) > 0:
                    length = _LENGTH.search(bytes(buffer[:end]))
                    assert length
                    whole = end + 4 + int(length[1])
            found = _NEXT.search(bytes(buffer[max(0, at - 500) : at]))
            target = found[1].decode().partition(parts.netloc)[2] if found else ""
        meter.done(int(parts.path.strip("/")))


class _Writer(asyncio.Protocol):
    """One connection: a POST, its answer, the next POST, until `until`."""

    done = 0
    numbers = iter(range(10**9))

    def __init__(self, head: bytes, body: bytes, until: float, ended: asyncio.Event) -> None:
        self._head, self._body, self._until, self._ended = head, body, until, ended
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._send()

    def _send(self) -> None:
        self._transport.write(self._head + self._body % next(self.numbers))

    def data_received(self, data: bytes) -> None:
        self._rest = data = self._rest + data
        end = data.find(b"\r\n\r\n")
        if end < 0:
            return
        length = _LENGTH.search(data, 0, end)
        assert length
        if len(data) < end + 4 + int(length[1]):
            return
        self._rest = b""
        type(self).done += 1
        if time.monotonic() < self._until:
            self._send()
        else:
            self._ended.set()


def write(url: str, in_flight: int, seconds: float, body_file: str) -> None:
    """Posts for so many seconds. The body is the first line of the file, with a key that counts up."""
    parts = urlsplit(url)
    text = Path(body_file).read_bytes().partition(b"\n")[0].replace(b"%", b"%%")
    body = re.sub(rb'("externalId":")[^"]{36}', rb"\g<1>%036x", text)
    size = len(body % 0)
    head = (
        f"POST {parts.path}/campaign/profileAndServicesExt/profile HTTP/1.1\r\nHost: {parts.netloc}\r\n"
        f"Authorization: Bearer {TOKEN}\r\nContent-Type: application/json\r\nContent-Length: {size}\r\n\r\n"
    ).encode()

    async def run() -> None:
        loop = asyncio.get_running_loop()
        with Meter() as meter:
            until = time.monotonic() + seconds
            ends = [asyncio.Event() for _ in range(in_flight)]
            for end in ends:
                await loop.create_connection(
                    lambda e=end: _Writer(head, body, until, e), parts.hostname or "", parts.port or 80
                )
            for end in ends:
                await end.wait()
            meter.done(_Writer.done)

    uvloop.run(run())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("read", "write"))
    parser.add_argument("url")
    parser.add_argument("--in-flight", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--bodies", default="")
    arguments = parser.parse_args()
    if arguments.what == "read":
        read(arguments.url)
    else:
        write(arguments.url, arguments.in_flight, arguments.seconds, arguments.bodies)


if __name__ == "__main__":
    main()
