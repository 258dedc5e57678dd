"""Play Adobe's hosts for clients that know no others: a proxy that hands what is sent to a host to the sandbox.

Such a client takes a proxy from HTTPS_PROXY. It asks for a tunnel to the real host, and the relay ends TLS there with a
certificate of its own for that host (`ca_file` has its authority). Nothing of the client is changed.
"""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from sync_assets.sandbox.certificates import make_certificates


class Relay:
    """`with Relay({"mc.adobe.io": port}, ...) as relay`: a proxy at `relay.url`. Other hosts are refused with 502.

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
    finally:
        writer.close()
