"""A ledger in the middle of things, of which scratch copies are made, and the folder of their temporary files."""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import sqlalchemy as sa
from sqlalchemy.engine import make_url

from sync_assets.ledger import Ledger
from sync_assets.ledger.model import LinkSpec
from sync_assets_tests.support.ledgers import capture, claim, frame, guid, many, push, row, session_of, settle

TO_CONTACT = LinkSpec("cusContactLink", "contact")


@dataclass
class Real:
    """The real ledger as anybody else sees it."""

    url: str

    @property
    def folder(self) -> Path | None:
        """SQLite only."""
        url = make_url(self.url)
        return Path(str(url.database)).parent if url.get_backend_name() == "sqlite" else None

    def everything(self) -> dict[str, Any]:
        """All rows of all tables, and how far the numbers of records have got; of SQLite also its files' bytes."""
        if self.folder:
            return {path.name: path.read_bytes() for path in self.folder.iterdir() if path.is_file()}
        engine = sa.create_engine(self.url)
        with engine.connect() as connection:
            there = sa.inspect(connection).get_table_names()
            result: dict[str, Any] = {
                name: sorted(map(repr, connection.exec_driver_sql(f"SELECT * FROM {name}"))) for name in there
            }
            if there:
                result["seq"] = connection.exec_driver_sql("SELECT * FROM sync_record_seq_seq").one()
        engine.dispose()
        return result


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where temporary files go; must be empty at the end."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    assert list(folder.iterdir()) == []


@pytest.fixture
def real(url: str, temporary: Path) -> Real:
    """A ledger in the middle of things: settled, pending, waiting, refused, leased, put off, to be deleted."""
    with Ledger.open(url) as ledger:
        capture(ledger, page=many(5, prefix="settled"), complete=True)
        push(ledger)
        capture(ledger, page=many(9, "b", prefix="pending"))
        settle(ledger, "refused", *claim(ledger, limit=2), reason="no")
        settle(ledger, "later", *claim(ledger, limit=2), reason="busy", retry_after=3600)
        claim(ledger, "another", limit=2)
        capture(ledger, row("settled0", "changed"), deleted=["settled1"])
        capture(ledger, page=orders(child="settled2", waits="pending8"), table="new_order", links=[TO_CONTACT])
        ledger.leases.take("contact", session_of(ledger, "another"))
    return Real(url)


def orders(**parents: str) -> pl.DataFrame:
    """Orders by name, each with its contact."""
    links = pl.Series(TO_CONTACT.attribute, [guid(parent) for parent in parents.values()])
    return frame([row(name) for name in parents]).with_columns(links)
