"""A server that is not the ledger's gets no password: its certificate is verified first."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from sync_assets.config.environment import Settings
from sync_assets.ledger import Ledger
from sync_assets.ledger.errors import LedgerError
from sync_assets_tests.support.postgres_impostor import Impostor


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
