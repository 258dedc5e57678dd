"""An HTTP proxy for tests: it tunnels (CONNECT), or answers the request for a tunnel by a script."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Self


@dataclass
class ProxyServer:
    """`async with ProxyServer() as proxy`: `proxy.port`, `proxy.requests`.

    Attributes:
        answer: Bytes with which it answers each CONNECT; None to connect.
        requests: The heads of the requests for a tunnel.
    """

    answer: bytes | None = None
    requests: list[str] = field(default_factory=list[str])
    port: int = 0

    async def __aenter__(self) -> Self:
        self._tasks: set[asyncio.Task[None]] = set()
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            self.requests.append(head)
            if self.answer is not None:
                writer.write(self.answer)
                await writer.drain()
                return
            host, _, port = head.split()[1].rpartition(":")
            there, back = await asyncio.open_connection(host, int(port))
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            both = [asyncio.create_task(_copy(reader, back)), asyncio.create_task(_copy(there, writer))]
            self._tasks.update(both)
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            back.close()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while piece := await reader.read(65_536):
            writer.write(piece)
            await writer.drain()
    except OSError:
        pass
