"""A stretch of line between client and server that can be cut, and that counts who comes along."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from types import TracebackType


class Relay:
    """Passes bytes on between connections to `port` of its own and the server's; `with` ends it.

    `connections`: how many came. `cut_first`: so many are cut at once. `answer`: what to do with a connection instead
    of passing it on, in a thread.
    """

    def __init__(self, to: int, *, cut_first: int = 0, answer: Callable[[socket.socket], None] | None = None) -> None:
        self.connections = 0
        self._to, self._cut_first, self._answer = to, cut_first, answer
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Cuts all connections; new ones may come."""
        for one in self._open:
            _end(one)
        self._open.clear()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._socket.accept()
            except OSError:
                return
            self.connections += 1
            if self.connections <= self._cut_first:
                _end(client)
                continue
            self._open.append(client)
            if self._answer is not None:
                threading.Thread(target=self._answer, args=(client,), daemon=True).start()
                continue
            server = socket.create_connection(("127.0.0.1", self._to))
            self._open.append(server)
            for source, target in ((client, server), (server, client)):
                source.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threading.Thread(target=self._pass_on, args=(source, target), daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
        _end(source)
        _end(target)

    def __enter__(self) -> Relay:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        _end(self._socket)
        self.cut()


def _end(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)  # wakes whoever waits for it
    sock.close()
