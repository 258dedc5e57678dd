"""Serve an ASGI app on a port of loopback. All listeners share the asyncio loop of the process.

Uses uvicorn's HTTP protocol without uvicorn's server object, since several server objects in one process would compete
for signals and each poll in a loop of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import time
from collections.abc import Callable
from email.utils import formatdate
from typing import Any, cast

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from sync_assets.sandbox.asgi import TRANSPORT, App


class _Protocol(HttpToolsProtocol):
    """uvicorn's protocol, with the transport in the scope, so that a fault can cut the connection."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        cast("dict[str, Any]", self.scope)[TRANSPORT] = self.transport


class Listener:
    """A port of 127.0.0.1 that is bound at once, and served after `start`.

    Args:
        port: 0 for a free one.
        tls: None for plain HTTP.
    """

    def __init__(self, port: int = 0, tls: ssl.SSLContext | None = None) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            self._bind(port)
            self._socket.listen()  # bind alone does not exclude other processes (SO_REUSEADDR)
        except OSError as error:
            self._socket.close()
            raise OSError(error.errno, f"port {port} cannot be used: {error.strerror}; choose another --port") from None
        self.port: int = self._socket.getsockname()[1]
        self._tls = tls
        self._state = ServerState()
        self._app: App | None = None
        self._server: asyncio.Server | None = None
        self._clock: asyncio.Task[None] | None = None
        self.offset: Callable[[], float] = lambda: 0.0
        """Seconds by which the Date header is ahead."""

    def _bind(self, port: int) -> None:
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind(("127.0.0.1", port))

    async def start(self, app: App) -> None:
        self._app = app
        loop = asyncio.get_running_loop()
        # A long keep-alive, as the real services have: a closed idle connection would be a fault no test asked for.
        config = Config(
            cast("Any", app), log_config=None, access_log=False, ws="none", lifespan="off", timeout_keep_alive=120,
            proxy_headers=False,
        )  # fmt: skip
        config.load()
        self._server = await loop.create_server(
            lambda: _Protocol(config, self._state, {}, loop), sock=self._socket, ssl=self._tls, backlog=2048
        )
        self._clock = asyncio.create_task(self._keep_date())

    async def stop(self) -> None:
        """Close the socket and all connections, also those with a request in progress."""
        if self._clock is not None:
            self._clock.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._clock
        if self._server is not None:
            self._server.close()
        for connection in list(self._state.connections):
            connection.transport.abort()
        for task in list(self._state.tasks):
            task.cancel()
        self.close()

    async def fail(self, seconds: float) -> None:
        """Simulate kill -9 and a restart: cut all connections, and refuse new ones for this number of seconds."""
        tasks = list(self._state.tasks)
        await self.stop()
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._bind(self.port)  # it does not listen, so connections are refused
        await asyncio.gather(asyncio.sleep(seconds), *tasks, return_exceptions=True)
        assert self._app
        await self.start(self._app)

    def close(self) -> None:
        """Free the port. Sufficient if `start` was never called."""
        self._socket.close()

    async def _keep_date(self) -> None:
        """Update the Date header each second."""
        while True:
            self._state.default_headers = [(b"date", formatdate(time.time() + self.offset(), usegmt=True).encode())]
            await asyncio.sleep(1)
