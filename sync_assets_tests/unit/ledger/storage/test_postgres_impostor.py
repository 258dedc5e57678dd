"""A server that is not the ledger's gets no password: its certificate is verified first."""

import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from sync_assets.config.environment import Settings
from sync_assets.ledger import Ledger, LedgerError
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


@pytest.fixture
def impostor(tmp_path: Path) -> Iterator[Impostor]:
    server = Impostor(tmp_path)
    yield server
    server.close()


def connect(impostor: Impostor, more: str) -> str:
    """Open the ledger of another host, whose name leads to the impostor. Return the error."""
    url = f"postgresql+psycopg://u:hunter2@ledger.acme.test:{impostor.port}/l?hostaddr=127.0.0.1{more}"
    with pytest.raises(LedgerError) as caught:
        Ledger.open(Settings.from_environment({"SYNC_ASSETS_LEDGER_URL": url}).ledger_url)
    return str(caught.value)


def test_it_gets_no_password_by_default(impostor: Impostor) -> None:
    assert "certificate verify failed" in connect(impostor, "")
    assert b"hunter2" not in impostor.heard


def test_it_gets_the_password_where_the_url_asks_for_encryption_alone(impostor: Impostor) -> None:
    connect(impostor, "&sslmode=require")
    assert b"hunter2" in impostor.heard
