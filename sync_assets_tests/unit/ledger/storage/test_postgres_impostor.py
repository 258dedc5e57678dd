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


@pytest.mark.parametrize(
    ("place", "variables"),
    [
        ("", {"PGHOST": "ledger.acme.test", "PGHOSTADDR": "127.0.0.1"}),
        ("ledger.acme.test", {"PGHOSTADDR": "127.0.0.1"}),
    ],
)
def test_it_gets_none_where_libpqs_variables_lead_to_it(
    impostor: Impostor, monkeypatch: pytest.MonkeyPatch, place: str, variables: dict[str, str]
) -> None:
    variables = {**variables, "PGPORT": str(impostor.port)}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    url = {"SYNC_ASSETS_LEDGER_URL": f"postgresql+psycopg://u:hunter2@{place}/l"}
    with pytest.raises(LedgerError, match="certificate verify failed"):
        Ledger.open(Settings.from_environment(url | variables).ledger_url)
    assert b"hunter2" not in impostor.heard


@pytest.mark.parametrize(
    "secret", ["Garden2026@", "Gar@den2026", "Garden@2026@", "Garden2026@x/y", "Garden2026@x:1", "Garden2026@x?y=z"]
)
def test_a_password_with_an_at_sign_is_shown_nowhere_and_its_code_is_named(secret: str) -> None:
    with pytest.raises(LedgerError) as caught:
        Ledger.open(f"postgresql+psycopg://u:{secret}@localhost:1/l")
    assert "%40" in str(caught.value)
    assert not any(part in str(caught.value) for part in ("Garden", "2026", "den2026", "x/y", "y=z"))


def test_it_gets_the_password_where_the_url_asks_for_encryption_alone(impostor: Impostor) -> None:
    connect(impostor, "&sslmode=require")
    assert b"hunter2" in impostor.heard
