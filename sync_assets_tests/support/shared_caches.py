"""Compile each SQL statement, and read each migration script, once in a process instead of once for each database.

Tests open thousands of small ledgers and Dagster storages, each with an engine of its own. SQLAlchemy keeps compiled
statements with the engine: a tenth of the processor time of the flows. Alembic imports all scripts of a folder when it
marks a new database with its revision, which Dagster does for each instance and for the events of each run in SQLite: a
fifth of a second each time.
"""

from collections.abc import Iterator, MutableMapping
from functools import cache
from typing import Any

from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy.engine import Engine
from sqlalchemy.util import LRUCache

_Key = tuple[Any, ...]


class _OfAllEngines(MutableMapping[_Key, Any]):
    """Compiled statements by the dialect's class: SQLAlchemy's keys begin with the dialect object of one engine."""

    def __init__(self) -> None:
        self._compiled: LRUCache[_Key, Any] = LRUCache(5000)

    def __getitem__(self, key: _Key) -> Any:
        return self._compiled[type(key[0]), *key[1:]]

    def __setitem__(self, key: _Key, compiled: Any) -> None:
        self._compiled[type(key[0]), *key[1:]] = compiled

    def __delitem__(self, key: _Key) -> None:
        del self._compiled[type(key[0]), *key[1:]]

    def __iter__(self) -> Iterator[_Key]:
        return iter(self._compiled)

    def __len__(self) -> int:
        return len(self._compiled)


def share_compiled_statements() -> None:
    """Let all engines that are created from now on, ours and Dagster's, share what they compile."""
    compiled = _OfAllEngines()
    Engine._compiled_cache = property(lambda _: compiled, lambda _, __: None)  # pyright: ignore


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
