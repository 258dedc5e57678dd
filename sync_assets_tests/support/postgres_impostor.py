"""A server that pretends to be PostgreSQL: it has a certificate of its own and asks for the password in clear."""

import socket
import struct
import threading
from pathlib import Path

from sync_assets.sandbox.certificates import make_certificates

CLEARTEXT_PASSWORD = b"R" + struct.pack("!II", 8, 3)
"""AuthenticationCleartextPassword, https://www.postgresql.org/docs/current/protocol-message-formats.html."""


class Impostor:
    """Answers as a PostgreSQL server with a certificate of its own, and asks for the password in clear."""

    def __init__(self, folder: Path) -> None:
        self.heard = b""
        _, self._tls = make_certificates(folder)
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            with connection:
                try:
                    connection.recv(8)  # SSLRequest
                    connection.sendall(b"S")
                    with self._tls.wrap_socket(connection, server_side=True) as encrypted:
                        encrypted.recv(4096)  # the start-up message
                        encrypted.sendall(CLEARTEXT_PASSWORD)
                        self.heard += encrypted.recv(4096)
                except OSError:
                    continue

    def close(self) -> None:
        self._server.close()
