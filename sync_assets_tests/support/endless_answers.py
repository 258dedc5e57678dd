"""HTTP answers that would exhaust the memory of a naive client, or block it for ever. For `LittleServer`."""

import asyncio
import itertools
import threading
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache

import psutil

from sync_assets_tests.support.little_server import Request

MIB = 1 << 20


@cache
def zeros(mebibytes: int) -> tuple[bytes, bytes]:
    """Return the head of a gzip stream, and a repeatable piece that inflates to this number of MiB (1 KB for each)."""
    packer = zlib.compressobj(9, wbits=31)
    head = packer.flush(zlib.Z_FULL_FLUSH)
    plain = bytes(MIB)
    piece = b"".join(packer.compress(plain) for _ in range(mebibytes)) + packer.flush(zlib.Z_FULL_FLUSH)
    return head, piece


def head(*lines: str) -> bytes:
    """Return the head of an answer with these header lines."""
    return "\r\n".join(["HTTP/1.1 200 OK", *lines]).encode() + b"\r\n\r\n"


def chunk(content: bytes) -> bytes:
    """Return a chunk of a chunked body."""
    return b"%x\r\n%s\r\n" % (len(content), content)


async def bomb(request: Request) -> AsyncIterator[bytes]:
    """Send two megabytes that inflate to two gigabytes."""
    start, piece = zeros(32)
    body = start + 64 * piece
    yield head("Content-Encoding: gzip", f"Content-Length: {len(body)}") + body


async def small_bomb(request: Request) -> AsyncIterator[bytes]:
    """Send 60 KB that inflate to 60 MB: small enough that a client inflates them in one call."""
    start, piece = zeros(32)
    body = (start + 2 * piece)[:60_000]
    yield head("Content-Encoding: gzip", f"Content-Length: {len(body)}") + body


async def endless_bomb(request: Request) -> AsyncIterator[bytes]:
    start, piece = zeros(32)
    yield head("Content-Encoding: gzip", "Transfer-Encoding: chunked") + chunk(start)
    while True:
        yield chunk(piece)


async def endless(request: Request) -> AsyncIterator[bytes]:
    yield head("Transfer-Encoding: chunked")
    while True:
        yield chunk(b" " * 65_536)


async def endless_without_a_length(request: Request) -> AsyncIterator[bytes]:
    """Send an endless body without a length, which ends only with the connection."""
    yield head("Connection: close")
    while True:
        yield b" " * 65_536


async def drip(request: Request) -> AsyncIterator[bytes]:
    yield head("Content-Length: 1000000")
    while True:
        yield b" "
        await asyncio.sleep(0.02)


async def dripping_head(request: Request) -> AsyncIterator[bytes]:
    yield b"HTTP/1.1 200 OK\r\n"
    for number in itertools.count():
        yield f"X-{number}: x\r\n".encode()
        await asyncio.sleep(0.02)


async def always_about_to_answer(request: Request) -> AsyncIterator[bytes]:
    while True:
        yield b"HTTP/1.1 102 Processing\r\n\r\n"
        await asyncio.sleep(0.02)


LARGE: list[Callable[[Request], AsyncIterator[bytes]]] = [
    bomb,
    small_bomb,
    endless_bomb,
    endless,
    endless_without_a_length,
]
SLOW: list[Callable[[Request], AsyncIterator[bytes]]] = [drip, dripping_head, always_about_to_answer]


@dataclass
class Growth:
    """The peak of the process's memory growth within a block, in bytes, sampled every few milliseconds."""

    most: int = 0


@contextmanager
def growth() -> Iterator[Growth]:
    """Measure the memory growth of the block; read `most` after it."""
    process = psutil.Process()
    before, result, done = process.memory_info().rss, Growth(), threading.Event()

    def sample() -> None:
        while not done.wait(0.005):
            result.most = max(result.most, process.memory_info().rss - before)

    sampler = threading.Thread(target=sample, daemon=True)
    sampler.start()
    try:
        yield result
    finally:
        done.set()
        sampler.join()
        result.most = max(result.most, process.memory_info().rss - before)
