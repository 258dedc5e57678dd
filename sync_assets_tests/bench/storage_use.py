"""How much the local storage of a Dagster instance holds: bytes of its files, rows of its tables."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

FOLDERS = ("history", "schedules", "storage")
"""Of DAGSTER_HOME: runs and events, ticks, and what runs printed."""
TABLES = {
    "event_logs": "event",
    "asset_check_executions": "evaluation_event",
    "job_ticks": "tick_body",
    "runs": "run_body",
}
"""Table -> the column that takes most of its space."""
Part = tuple[int, int]
"""Bytes, rows."""


@dataclass(frozen=True)
class Use:
    """`files`: kind of file -> bytes and number. `rows`: table, or table and type of event -> bytes and rows."""

    files: Mapping[str, Part] = field(default_factory=dict[str, Part])
    rows: Mapping[str, Part] = field(default_factory=dict[str, Part])

    def __sub__(self, other: Use) -> Use:
        return Use(_difference(self.files, other.files), _difference(self.rows, other.rows))

    @property
    def bytes(self) -> int:
        return sum(size for size, _ in self.files.values())

    @property
    def check_rows(self) -> int:
        """Rows of checks: their events, and their answers."""
        return sum(rows for name, (_, rows) in self.rows.items() if "check" in name)

    @property
    def event_rows(self) -> int:
        """Rows of events in the index and in all databases of runs, with the answers of checks."""
        events = sum(rows for name, (_, rows) in self.rows.items() if name.startswith("event_logs"))
        return events + self.table("asset_check_executions")

    def table(self, name: str) -> int:
        return self.rows.get(name, (0, 0))[1]


def _difference(now: Mapping[str, Part], then: Mapping[str, Part]) -> dict[str, Part]:
    found: dict[str, Part] = {}
    for name in now.keys() | then.keys():
        (size, rows), (size_then, rows_then) = now.get(name, (0, 0)), then.get(name, (0, 0))
        found[name] = (size - size_then, rows - rows_then)
    return found


def storage_use(home: Path) -> Use:
    """Of an instance whose storage is SQLite under DAGSTER_HOME. Files that vanish meanwhile do not count."""
    files, rows = dict[str, Part](), dict[str, Part]()
    for file in [file for name in FOLDERS for file in (home / name).rglob("*")]:
        try:
            size = file.stat().st_size if file.is_file() else None
        except FileNotFoundError:
            continue
        if size is not None:
            _add(files, _kind(file.relative_to(home)), size, 1)
            if file.name.endswith(".db"):
                for name, (held, number) in _tables(file).items():
                    _add(rows, name, held, number)
    return Use(files, rows)


def _add(parts: dict[str, Part], name: str, size: int, number: int) -> None:
    before = parts.get(name, (0, 0))
    parts[name] = (before[0] + size, before[1] + number)


def _kind(path: Path) -> str:
    """What a file is for."""
    if path.parts[0] == "storage":
        return "output of runs"
    if path.parts[0] == "schedules":
        return "ticks"
    if path.parent.name != "runs":
        return "list of runs"
    return {"index": "index", "": "events without a run"}.get(path.name.split(".db")[0], "databases of runs")


def _tables(file: Path) -> dict[str, Part]:
    """Bytes and rows by table, those of events by their type."""
    found: dict[str, Part] = {}
    with closing(sqlite3.connect(file, timeout=30)) as database:
        there = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        for table, column in TABLES.items():
            if table in there:
                kind = f"'{table}, ' || lower(dagster_event_type)" if table == "event_logs" else f"'{table}'"
                query = f"SELECT {kind}, coalesce(sum(length({column})), 0), count(*) FROM {table} GROUP BY 1"
                for name, size, number in database.execute(query):
                    _add(found, name or f"{table}, message", size, number)
    return found
