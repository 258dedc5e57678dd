"""Pages are made ready in a process of their own once a read is long: storing one page then has a processor to itself.

Parsing and hashing hold the interpreter for half of their time, in pieces of up to 20 ms, and a thread that stores the
last page waits for each of them. Short reads, which are nearly all, know nothing of this: the first pages of a read are
made ready in a thread.

The process gets the mapping and the bodies of pages through its standard input, nothing else: no secret, no address. It
ends when that closes, so that it never outlives us, whatever ends us.
"""

from __future__ import annotations

import asyncio
import os
import pickle
import select
import struct
import subprocess
import sys
from collections.abc import Callable
from typing import IO, TYPE_CHECKING, Any

from sync_assets.d365.pages import PageParser
from sync_assets.ingress.captured import CapturedPage, captured
from sync_assets.memory import give_back_large_buffers

if TYPE_CHECKING:
    from sync_assets.ingress.mapping import Mapping

LONG = 4
"""Bulky pages after which a read counts as long: the process takes as long to start as some pages take."""
BULKY = 500_000
"""Bytes from which on a page is worth being sent about."""
PASSED_ON = ("PATH", "PYTHONPATH", "HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "SYSTEMROOT", "TMPDIR")
_SIZE = struct.Struct("<Q")
_READY = b"+"


class Preparer:
    """Bodies of pages into captured pages, one after the other. `close` it at the end of the read."""

    def __init__(self, mapping: Mapping, *, long: int = LONG) -> None:
        self._mapping = mapping
        self._parser = parser(mapping)
        self._long = long
        self._pages = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._ready = self._tried = False
        self.beside = 0
        """Pages that the process made ready."""

    async def __call__(self, body: bytes) -> CapturedPage:
        """Raises BadPage."""
        self._pages += len(body) >= BULKY
        if self._pages == self._long and self._process is None and not self._tried and (os.cpu_count() or 1) > 1:
            await asyncio.to_thread(self._start)
        if self._is_ready() and (process := self._process):
            page = await asyncio.to_thread(self._ask, process, body)
            if page is not None:
                self.beside += 1
                return page
        return await asyncio.to_thread(self._here, body)

    def _here(self, body: bytes) -> CapturedPage:
        return captured(self._parser.parse(body), self._mapping)

    def _start(self) -> None:
        self._tried = True
        passed_on = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "sync_assets.ingress.beside"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # One thread of Polars: the other processor is the ledger's.
            env=passed_on | {"POLARS_MAX_THREADS": "1"},
            start_new_session=True,  # an interrupt is for us, who then close its input
        )
        _widen(self._process.stdin)
        _widen(self._process.stdout)
        _write(self._process.stdin, pickle.dumps(self._mapping, protocol=5))

    def _is_ready(self) -> bool:
        if self._process and not self._ready:
            output = self._process.stdout
            self._ready = bool(output and select.select([output], [], [], 0)[0] and output.read(1) == _READY)
        return self._process is not None and self._ready

    def _ask(self, process: subprocess.Popen[bytes], body: bytes) -> CapturedPage | None:
        """None if the process is gone, or cannot make anything of the page: then it is for us to say what is wrong."""
        try:
            _write(process.stdin, body)
            answer = _read(process.stdout)
        except (OSError, EOFError, ValueError):  # ValueError: its pipes were closed meanwhile
            self.close()
            return None
        return pickle.loads(answer) if answer else None  # noqa: S301 - of our own process

    def close(self) -> None:
        """Ends the process, in the middle of a page if need be."""
        process, self._process, self._ready = self._process, None, False
        if process:
            process.kill()
            process.communicate()


def parser(mapping: Mapping) -> PageParser:
    """Of the pages that hold what a mapping selects."""
    return PageParser({name: mapping.column_types[name] for name in mapping.select})


def serve(source: IO[bytes], target: IO[bytes]) -> None:
    """The process: a mapping, then pages one by one, until the source ends. No answer to a page is an empty one."""
    give_back_large_buffers()
    mapping: Mapping = pickle.loads(_read(source))  # noqa: S301 - of the process that began us
    work: Callable[[bytes], CapturedPage] = Preparer(mapping)._here
    target.write(_READY)
    target.flush()
    while True:
        try:
            body = _read(source)
        except EOFError:
            return
        try:
            answer = pickle.dumps(work(body), protocol=5)
        except Exception:  # noqa: BLE001 - whoever asked does it again, and meets the same
            answer = b""
        del body
        _write(target, answer)


def _write(pipe: IO[bytes] | None, content: bytes) -> None:
    assert pipe
    pipe.write(_SIZE.pack(len(content)))
    pipe.write(content)
    pipe.flush()


def _read(pipe: IO[bytes] | None) -> bytes:
    assert pipe
    head = pipe.read(_SIZE.size)
    if len(head) < _SIZE.size:
        raise EOFError
    (size,) = _SIZE.unpack(head)
    content = pipe.read(size)
    if len(content) < size:
        raise EOFError
    return content


def _widen(pipe: Any) -> None:
    """A page in some pieces instead of a hundred, where the system lets us."""
    if sys.platform == "linux":
        import fcntl  # noqa: PLC0415

        try:
            fcntl.fcntl(pipe.fileno(), fcntl.F_SETPIPE_SZ, 1 << 20)
        except OSError:
            return


if __name__ == "__main__":
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints is no answer
    serve(sys.stdin.buffer, answers)
