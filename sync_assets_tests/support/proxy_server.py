"""HTTP proxies for tests: one that tunnels (CONNECT) or answers by a script, and one that plays Adobe's hosts."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from sync_assets.sandbox.certificates import make_certificates


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


class Relay:
    """A proxy for clients that know Adobe's hosts only: it hands what is sent to a host to the sandbox.

    Such a client asks for a tunnel to the real host. The relay ends TLS there with a certificate of its own for that
    host; `ca_file` has its authority. Nothing of the client is changed. Other hosts are refused with 502.
    `with Relay({"mc.adobe.io": port}, ...) as relay`: it is at `relay.url`.

    Args:
        ports: The sandbox's port for each host.
        folder: Receives the certificates.
        sandbox_authority: The sandbox's certificate authority.
    """

    def __init__(self, ports: Mapping[str, int], folder: Path, sandbox_authority: Path) -> None:
        self._ports = ports
        self.ca_file, self._served = make_certificates(folder, tuple(ports))
        self._trusted = ssl.create_default_context(cafile=sandbox_authority)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Relay:
        self._thread.start()
        starting = asyncio.run_coroutine_threadsafe(asyncio.start_server(self._serve, "127.0.0.1", 0), self._loop)
        self.url = f"http://127.0.0.1:{starting.result(10).sockets[0].getsockname()[1]}"
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            port = self._ports.get(head.split()[1].rpartition(":")[0])
            if port is None:
                writer.write(b"HTTP/1.1 502 Bad Gateway\r\n\r\n")
                return
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            await writer.start_tls(self._served)
            there, back = await asyncio.open_connection("localhost", port, ssl=self._trusted)
            await asyncio.gather(_copy(reader, back), _copy(there, writer))
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
