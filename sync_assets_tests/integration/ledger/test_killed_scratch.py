"""A scratch ledger whose process is killed leaves nothing, and reads what a killed process left."""

import os
import subprocess
import sys
import time
from pathlib import Path

import sqlalchemy as sa

from sync_assets.ledger.scratch import scratch_ledger
from sync_assets_tests.support.ledgers import guid, stored
from sync_assets_tests.support.scratch_ledgers import Real


def test_one_that_is_killed_leaves_nothing_anywhere(real: Real, temporary: Path) -> None:
    """The copy is large enough that SQLite does not keep all of it in memory."""
    program = (
        "import sys; from sync_assets.ledger.scratch import scratch_ledger\n"
        "from sync_assets_tests.support.ledgers import capture, many\n"
        f"with scratch_ledger({real.url!r}) as copy:\n"
        "    capture(copy, page=many(15_000, 'Jane Doe ' * 200, prefix='more'))\n"
        "    print('copied', flush=True); sys.stdin.read()\n"
    )
    before = real.everything()
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        env={**os.environ, "TMPDIR": str(temporary)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with process:
        assert process.stdout
        assert process.stdout.readline() == b"copied\n"
        if real.folder:
            open_files = [os.readlink(link) for link in Path(f"/proc/{process.pid}/fd").iterdir()]
            assert any(name.startswith(str(temporary)) and name.endswith("(deleted)") for name in open_files)
        process.kill()
    assert list(temporary.iterdir()) == []
    assert real.everything() == before
    if not real.folder:
        assert temporary_tables(real.url) == []


def temporary_tables(url: str) -> list[str]:
    """Of all connections to the PostgreSQL server. It drops those of one that is gone a moment later."""
    find = "SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname ~ '^pg_temp'"
    engine, result = sa.create_engine(url), list[str]()
    try:
        for _ in range(50):
            with engine.connect() as connection:
                if not (result := list(connection.exec_driver_sql(find).scalars())):
                    return []
            time.sleep(0.1)
        return result
    finally:
        engine.dispose()


def test_the_log_of_a_killed_process_is_read_and_left_as_it_is(tmp_path: Path, temporary: Path) -> None:
    folder = tmp_path / "killed"
    url = f"sqlite:///{folder}/ledger.db"
    program = (
        "import os; from sync_assets.ledger import Ledger; from sync_assets_tests.support.ledgers import capture, row\n"
        f"ledger = Ledger.open({url!r}); capture(ledger, row('anna')); os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
    before = Real(url).everything()
    assert len(before["ledger.db-wal"]) > 0
    with scratch_ledger(url) as copy:
        assert stored(copy).keys() == {guid("anna")}
    after = Real(url).everything()
    assert {name: after[name] for name in ("ledger.db", "ledger.db-wal")} == {
        name: before[name] for name in ("ledger.db", "ledger.db-wal")
    }
