"""`backup`: a copy of the ledger that is whole, private, and never in place of something else."""

import os
import stat
from contextlib import closing
from pathlib import Path

import pytest

from sync_assets.commands.backup import backup
from sync_assets.errors import SyncAssetsError
from sync_assets.ledger import Ledger
from sync_assets.runtime.context import Runtime
from sync_assets_tests.support.ledgers import capture, push, row, stored


def runtime(url: str) -> Runtime:
    return Runtime({"SYNC_ASSETS_LEDGER_URL": url})


def test_a_copy_holds_what_was_saved_while_the_ledger_is_in_use(tmp_path: Path) -> None:
    url, copy = f"sqlite:///{tmp_path}/ledger.db", tmp_path / "copy.db"
    with Ledger.open(url) as ledger:
        capture(ledger, row("anna"))
        assert backup(runtime(url), copy) == copy.stat().st_size
        push(ledger)
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    with Ledger.open(f"sqlite:///{copy}") as copied:
        assert len(stored(copied)) == 1
        assert copied.reports.counts()["contact"].pending == 1


@pytest.mark.parametrize("name", ["file:leak.db", "file:leak.db?mode=memory", ":memory:", "a b?.db"])
def test_a_name_that_sqlite_could_take_for_a_uri_is_a_private_file_of_that_name(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"sqlite:///{tmp_path}/ledger.db"
    Ledger.open(url).close()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    before = os.umask(0o022)
    try:
        assert backup(runtime(url), Path(name)) > 4096
    finally:
        os.umask(before)
    [copy] = (tmp_path / "here").iterdir()
    assert copy.name == name
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("url", "file", "text"),
    [
        ("sqlite:///{}/nothing.db", "copy.db", "There is no ledger at .*nothing.db"),
        ("sqlite:///{}/taken.db", "taken.db", "exists already.* nothing is overwritten"),
        ("sqlite:///{}/taken.db", "none/copy.db", "can't be written .*No such file"),
        ("sqlite:///{}/taken.db", "copy.db", "can't be copied .*not a database"),
        ("postgresql+psycopg://me:secret@host/db", "copy.db", "host/db is in PostgreSQL.*pg_dump"),
    ],
)
def test_a_failed_copy_is_reported_and_leaves_no_file(tmp_path: Path, url: str, file: str, text: str) -> None:
    (tmp_path / "taken.db").write_text("somebody's notes" * 100)
    with closing(runtime(url.format(tmp_path))) as one, pytest.raises(SyncAssetsError, match=text) as raised:
        backup(one, tmp_path / file)
    assert "secret" not in str(raised.value)
    assert [path.name for path in tmp_path.iterdir()] == ["taken.db"]
    assert (tmp_path / "taken.db").read_text().startswith("somebody's notes")
