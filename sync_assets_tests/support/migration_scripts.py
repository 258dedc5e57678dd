"""Read Dagster's and the ledger's migration scripts once in a process instead of for each new storage.

Alembic imports all scripts of a folder whenever it marks a new database with its revision. Dagster does that for each
instance and for the events of each run in SQLite: a fifth of a second each time, in hundreds of tests.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from alembic.config import Config
from alembic.script import ScriptDirectory


def read_migration_scripts_once() -> None:
    """Let all later uses of a folder of migration scripts share one `ScriptDirectory`, which keeps what it read."""
    read = ScriptDirectory.from_config

    @cache
    def directory(location: str | None) -> ScriptDirectory:
        config = Config()
        if location is not None:
            config.set_main_option("script_location", location.replace("%", "%%"))
        return read(config)

    def shared(config: Any) -> ScriptDirectory:
        return directory(config.get_main_option("script_location"))

    ScriptDirectory.from_config = staticmethod(shared)  # pyright: ignore[reportAttributeAccessIssue]
