"""Empty ledgers for simulated runs, made quickly: SQLite in memory, or PostgreSQL."""

import gc
import shutil
import tempfile
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event

from sync_assets.ledger import Ledger
from sync_assets.ledger.storage import database
from sync_assets.ledger.storage.operation_tables import identity
from sync_assets.ledger.storage.schema import metadata
from sync_assets_tests.simulation.clock import PROCESS
from sync_assets_tests.support.postgres import running_server

_SHARED = Path("/dev/shm")
MEMORY = _SHARED if _SHARED.is_dir() else None
"""Folder in memory; None if there is none."""

Ledgers = Callable[[], AbstractContextManager[str]]
"""Returns the URL of an empty ledger for the block."""


@contextmanager
def sqlite_ledgers() -> Generator[Ledgers]:
    """Yield a source of empty SQLite ledgers in memory. They have one URL, so only the last one can be used."""
    with tempfile.TemporaryDirectory(prefix="simulation-", dir=MEMORY) as folder:
        template, ledger = Path(folder) / "template.db", Path(folder) / "ledger.db"
        Ledger.open(f"sqlite:///{template}").close()

        @contextmanager
        def fresh() -> Generator[str]:
            shutil.copy(template, ledger)
            try:
                yield f"sqlite:///{ledger}"
            finally:
                for engine in engines.values():
                    engine.dispose()  # else the next run would write to the file of this one
                for file in Path(folder).glob("ledger.db*"):
                    file.unlink()

        gc.collect()
        gc.freeze()  # else what is loaded would be searched after each run
        with kept_engines() as engines:
            yield fresh
        gc.unfreeze()


@contextmanager
def postgresql_ledgers() -> Generator[Ledgers]:
    """Yield a source of empty PostgreSQL ledgers: one database, emptied each time."""
    with contextmanager(running_server)() as server, server.database() as url, kept_engines():
        Ledger.open(url).close()
        engine = sa.create_engine(url)

        @contextmanager
        def fresh() -> Generator[str]:
            with engine.begin() as connection:
                for table in metadata.tables.keys() - {identity.name}:
                    connection.exec_driver_sql(f"DELETE FROM {table}")
            yield url

        yield fresh
        engine.dispose()


@contextmanager
def kept_engines() -> Generator[dict[str, sa.Engine]]:
    """Inside the block, let ledgers of one URL share a database engine, whose compiled statements are a third of a run.

    A process crashes at the statements and commits of its ledger, too.
    """
    engines: dict[str, sa.Engine] = {}

    def point(*_: object) -> None:
        if process := PROCESS.get():
            process.point()

    def kept(make: Callable[..., sa.Engine], named: Any, **options: Any) -> sa.Engine:
        url = str(getattr(named, "url", named))
        if url not in engines:
            engines[url] = engine = make(named, **options)
            event.listen(engine, "before_cursor_execute", point)
            event.listen(engine, "commit", point)
        return engines[url]

    seams: Any = database
    names = ("sqlite_engine", "_postgres_engine")
    before = {name: getattr(seams, name) for name in names}
    for name in names:
        setattr(seams, name, partial(kept, before[name]))
    try:
        yield engines
    finally:
        for name in names:
            setattr(seams, name, before[name])
        for engine in engines.values():
            engine.dispose()
