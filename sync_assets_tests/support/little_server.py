"""A small TLS server for tests of the HTTP layer: answers by a script, and records the requests with their times.

A script sends raw bytes, so it can cut connections, break compression, redirect, refuse, or never end an answer.
"""

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from pydantic import SecretStr

from sync_assets.campaign.client import CampaignClient
from sync_assets.config.environment import CampaignSettings
from sync_assets.dataverse.client import DataverseClient
from sync_assets.http.client import CachedTokens
from sync_assets.http.transport import ssl_context
from sync_assets.sandbox.certificates import make_certificates

CUT = b""
"""Answer of a script that cuts the connection."""


def answer(status: int = 200, body: bytes = b"{}", **headers: str) -> bytes:
    """Return a complete answer. Names of headers are given with underscores."""
    lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


@dataclass
class Request:
    """A received request. `at`: monotonic time in seconds."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    at: float = field(default_factory=time.monotonic)


Script = Callable[[Request], bytes | Awaitable[bytes] | AsyncIterator[bytes]]
"""Returns the answer to a request, or its pieces, which are sent until the client closes the connection."""


class LittleServer:
    """`async with LittleServer(directory, script) as server`: `server.url`, `server.ca_file`, `server.requests`."""

    def __init__(self, directory: Path, script: Script) -> None:
        self.script = script
        self.requests: list[Request] = []
        self.connections = 0
        self.ca_file, self._context = certificates(directory)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._context)
        self.port = self._server.sockets[0].getsockname()[1]
        self.url = f"https://localhost:{self.port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while line := await reader.readline():
                method, target, _ = line.decode().split()
                headers: dict[str, str] = {}
                while (header := await reader.readline()) not in (b"\r\n", b""):
                    name, _, value = header.decode().partition(":")
                    headers[name.strip().lower()] = value.strip()
                body = await reader.readexactly(int(headers.get("content-length", "0")))
                request = Request(method, target, headers, body)
                self.requests.append(request)
                answer_ = self.script(request)
                if isinstance(answer_, AsyncIterator):
                    async for piece in answer_:
                        if writer.transport.is_closing():
                            return
                        writer.write(piece)
                        await writer.drain()
                        await asyncio.sleep(0)
                    continue
                answer_ = answer_ if isinstance(answer_, bytes) else await answer_
                if answer_ == CUT:
                    break
                writer.write(answer_)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.transport.abort()


def certificates(directory: Path) -> tuple[Path, ssl.SSLContext]:
    """Return the authority and the TLS context of all servers of a directory."""
    folder = directory / "little"
    if not folder.exists():
        folder.mkdir()
        return make_certificates(folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem")
    return folder / "ca.pem", context


def tokens() -> CachedTokens:
    """Return a source that has the token `t` without a sign-in."""

    async def token() -> tuple[str, float]:
        return "t", 3600.0

    return CachedTokens(token)


def access(url: str) -> CampaignSettings:
    """Return the access to a Campaign at this URL, whose API key is `k`."""
    return CampaignSettings(url, "https://ims.example", "k", SecretStr("s"), "openid")


@asynccontextmanager
async def campaign_of(server: LittleServer) -> AsyncIterator[CampaignClient]:
    """Yield a client of Campaign whose organisation is `acme`."""
    client = CampaignClient(access(f"{server.url}/acme"), tokens(), context=ssl_context(server.ca_file))
    try:
        yield client
    finally:
        await client.aclose()


@asynccontextmanager
async def dataverse_of(server: LittleServer) -> AsyncIterator[DataverseClient]:
    client = DataverseClient(server.url, tokens(), context=ssl_context(server.ca_file))
    try:
        yield client
    finally:
        await client.aclose()
