"""Compile each SQL statement once in a process instead of once for each engine.

SQLAlchemy keeps compiled statements with the engine. Tests open thousands of small ledgers, each with an engine of its
own, and the same hundred statements were compiled for each: a tenth of the processor time of the flows.
"""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from typing import Any

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
